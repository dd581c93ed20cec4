package tablestore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"belay/internal/config"
	"belay/internal/persistence"
	"belay/internal/stats"
)

const (
	poll       = 50 * time.Millisecond // for changes of which nobody wakes the store
	batchSize  = 512                   // entries of one pipeline
	exportSize = 64 << 10              // bytes of entries that are taken from the table at a time
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
	steady     = 10 * time.Second // a connection that lasted so long is not to be blamed for the next
	catchPause = 10 * time.Second // between two times that dropped changes are made good
)

// Store keeps one table and the store equal.
type Store struct {
	// Cleared, if not nil, hears of what another machine dropped, after the table has
	// dropped it. Run's goroutine calls it. Set before Run.
	Cleared func(f persistence.Filter, at uint32)

	table   *persistence.Table
	name    string
	log     *slog.Logger
	client  *redis.Client
	addr    string
	hide    []string // ways to write the password
	prefix  string
	timeout time.Duration
	origin  string // marks what this process publishes
	limit   int    // of pending
	wake    chan struct{}

	up                    atomic.Bool
	writes, drops, errors *atomic.Uint64

	mu     sync.Mutex
	orders []*clearing // of this machine, for Run

	// The rest is Run's.
	cursor    persistence.Cursor
	pending   map[string]persistence.Value // to be written
	doomed    map[string]persistence.Value // to be deleted in the store
	known     [2]map[string]persistence.Value
	turned    time.Time   // when known[0] was begun
	clearings []*clearing // the last ones of all machines
	untold    []*clearing // of this machine, not in the store yet
	behind    bool        // changes were dropped
	caught    time.Time   // when dropped changes were last made good
	down      bool        // the warning was given
}

// quiet keeps the library from writing to standard error.
var quiet sync.Once

// New makes what shares a table as its configuration says. It connects to nothing.
func New(t *persistence.Table, cfg *config.Table, log *slog.Logger, reg *stats.Registry) (*Store, error) {
	quiet.Do(logging.Disable)
	o, err := redis.ParseURL(cfg.Store)
	s := &Store{
		table: t, name: cfg.Name, log: log, hide: passwords(cfg.Store), prefix: cfg.StorePrefix, timeout: cfg.StoreTimeout,
		limit: cfg.StoreQueue, wake: make(chan struct{}, 1), cursor: t.CursorNow(),
		pending: map[string]persistence.Value{}, doomed: map[string]persistence.Value{},
	}
	if err != nil {
		return nil, fmt.Errorf("table.%s.store: %s", cfg.Name, s.clean(err))
	}
	o.Protocol = 2
	o.MaxRetries = -1 // Run tries again
	o.DialerRetries = 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = s.timeout, s.timeout, s.timeout, s.timeout
	o.ContextTimeoutEnabled = true
	o.PoolSize, o.MinIdleConns = 2, 0
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	s.client, s.addr = redis.NewClient(o), o.Addr
	var id [originSize / 2]byte
	_, _ = rand.Read(id[:]) // never fails
	s.origin = hex.EncodeToString(id[:])
	s.forget()
	of := stats.Label{Name: "table", Value: cfg.Name}
	reg.Func(stats.KindGauge, "belay_table_store_up", "1 while the stick table's store can be used.", func() float64 {
		if s.up.Load() {
			return 1
		}
		return 0
	}, of)
	s.writes = reg.Atomic("belay_table_store_writes_total", "Entries that were written to the stick table's store.", of)
	s.drops = reg.Atomic("belay_table_store_drops_total", "Changes that found the queue to the stick table's store full.", of)
	s.errors = reg.Atomic("belay_table_store_errors_total", "Connections to the stick table's store that failed, and what was read there and could not be used.", of)
	return s, nil
}

// passwords are the ways in which the password of an address may be written.
func passwords(store string) (list []string) {
	u, err := url.Parse(store)
	if err != nil || u.User == nil {
		return nil
	}
	if p, ok := u.User.Password(); ok && p != "" {
		list = append(list, p, url.QueryEscape(p), url.PathEscape(p))
		if _, raw, ok := strings.Cut(u.User.String(), ":"); ok {
			list = append(list, raw)
		}
	}
	return list
}

// clean is an error's text without the password.
func (s *Store) clean(err error) string {
	text := err.Error()
	for _, p := range s.hide {
		text = strings.ReplaceAll(text, p, "xxxxx")
	}
	return text
}

// Wake tells that the table has changed. It never blocks; any goroutine may call it.
func (s *Store) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// maxClearings bounds each list of them, here and in the store.
const maxClearings = 100

// Clear has the other machines and the store drop what a filter chose at a time, in
// seconds since 1970. The caller clears the table itself, before. It never blocks; any
// goroutine may call it.
func (s *Store) Clear(f persistence.Filter, at uint32) {
	c := &clearing{At: at, Key: f.Key, Endpoint: f.Endpoint, Any: f.Any, MinIdle: f.MinIdle, MaxIdle: f.MaxIdle}
	s.mu.Lock()
	s.orders = lastOf(append(s.orders, c))
	s.mu.Unlock()
	s.Wake()
}

func lastOf(list []*clearing) []*clearing { return list[max(0, len(list)-maxClearings):] }

// Run shares the table until ctx ends.
func (s *Store) Run(ctx context.Context) {
	defer func() { _ = s.client.Close() }()
	pause := firstPause
	for {
		began := time.Now()
		err := s.session(ctx)
		s.up.Store(false)
		if ctx.Err() != nil {
			return
		}
		s.errors.Add(1)
		if !s.down {
			s.down = true
			s.log.Warn("table store is away, the table is this machine's own until it is back", "table", s.name, "store", s.addr, "error", s.clean(err))
		}
		if time.Since(began) > steady {
			pause = firstPause
		}
		s.sitOut(ctx, pause/2+mrand.N(pause/2+1))
		pause = min(2*pause, maxPause)
	}
}

// sitOut waits before the next try and takes notice of changes meanwhile.
func (s *Store) sitOut(ctx context.Context, pause time.Duration) {
	end := time.NewTimer(pause)
	defer end.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-tick.C:
			s.collect()
		}
	}
}

// session is one connection, from subscribing to its failure.
func (s *Store) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ps := s.client.Subscribe(ctx, s.prefix+"changes")
	defer func() { _ = ps.Close() }()
	if _, err := ps.ReceiveTimeout(ctx, s.timeout); err != nil {
		return err
	}
	l := &line{messages: make(chan string, 64), broken: make(chan error, 1)}
	go l.listen(ctx, ps, s.timeout)
	if err := s.catchUp(ctx, l); err != nil {
		return err
	}
	s.up.Store(true)
	if s.down {
		s.down = false
		s.log.Info("table store is back", "table", s.name, "store", s.addr)
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-l.broken:
			return err
		case m := <-l.messages:
			s.hear(m)
		case <-s.wake:
		case <-tick.C:
		}
		if err := s.round(ctx, l); err != nil {
			return err
		}
	}
}

// round brings both sides up to date with each other.
func (s *Store) round(ctx context.Context, l *line) error {
	s.hearAll(l)
	s.collect()
	if err := s.tellCleared(ctx); err != nil {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	if s.behind && time.Since(s.caught) > catchPause {
		return s.push(ctx, l)
	}
	return nil
}

// catchUp is the begin of a connection: all that the store has and this machine has not
// is taken, and the other way round. The store may have lost everything meanwhile.
func (s *Store) catchUp(ctx context.Context, l *line) error {
	s.collect()
	if err := s.readCleared(ctx); err != nil {
		return err
	}
	if err := s.tellCleared(ctx); err != nil {
		return err
	}
	if err := s.load(ctx, l); err != nil {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	return s.push(ctx, l)
}
