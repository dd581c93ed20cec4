package tablestore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"belay/internal/config"
	"belay/internal/persistence"
	"belay/internal/stats"
)

var (
	x = persistence.Endpoint{ID: 1, Generation: 2}
	y = persistence.Endpoint{ID: 0xfedcba9876543210}
)

const patience = 15 * time.Second

// redisServer is Debian's Redis on a loopback port of its own.
type redisServer struct {
	t    *testing.T
	addr string
	args []string
	cmd  *exec.Cmd
}

// startRedis runs a server without a disk; the test is skipped where make test has
// not installed it.
func startRedis(t *testing.T, args ...string) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &redisServer{t: t, addr: l.Addr().String(), args: args}
	_ = l.Close()
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	_, port, _ := net.SplitHostPort(r.addr)
	args := append([]string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", r.t.TempDir()}, r.args...)
	r.cmd = exec.Command("redis-server", args...)
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	until(r.t, "redis-server listens", func() bool {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (r *redisServer) stop() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *redisServer) client() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: r.addr})
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// machine is a table with its store.
type machine struct {
	t     *testing.T
	table *persistence.Table
	store *Store
	log   *logText
	reg   *stats.Registry
	end   func()
}

func newMachine(t *testing.T, c config.Table) *machine {
	t.Helper()
	c.Name = "t"
	if c.Size == 0 {
		c.Size = 100000
	}
	if c.StorePrefix == "" {
		c.StorePrefix = "belay:t:"
	}
	if c.StoreQueue == 0 {
		c.StoreQueue = 10000
	}
	c.StoreTimeout = 500 * time.Millisecond
	table, err := persistence.NewTable(c.Size, uint32(c.Expire/time.Second))
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, table: table, log: &logText{}, reg: stats.NewRegistry()}
	m.store, err = New(table, &c, slog.New(slog.NewTextHandler(m.log, nil)), m.reg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) run() *machine {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); m.store.Run(ctx) }()
	m.end = func() { cancel(); <-done }
	m.t.Cleanup(m.end)
	return m
}

func (m *machine) ready() *machine {
	m.t.Helper()
	until(m.t, "the store is up", func() bool { return m.metric("belay_table_store_up") == 1 })
	return m
}

func (m *machine) metric(name string) float64 {
	v, ok := m.reg.Merge(nil).Value(name, stats.Label{Name: "table", Value: "t"})
	if !ok {
		m.t.Fatalf("no metric %s", name)
	}
	return v
}

func (m *machine) has(key string, e persistence.Endpoint) {
	m.t.Helper()
	until(m.t, fmt.Sprintf("%s is on %x", key, e.ID), func() bool {
		v, ok := m.table.Peek([]byte(key), unixNow())
		return ok && v.Endpoint == e
	})
}

func (m *machine) hasNot(key string) {
	m.t.Helper()
	until(m.t, key+" is gone", func() bool {
		_, ok := m.table.Peek([]byte(key), unixNow())
		return !ok
	})
}

func (r *redisServer) table() config.Table {
	return config.Table{Store: "redis://" + r.addr + "/0", Expire: time.Hour}
}

func TestTwoMachines(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	a, b := newMachine(t, r.table()).run().ready(), newMachine(t, r.table()).run().ready()
	now := unixNow()
	key := "k\x00\n*"
	a.table.Store([]byte(key), x, now-10)
	b.has(key, x)
	if v, _ := b.table.Peek([]byte(key), now); v.FirstSeen != now-10 || v.LastSeen != now-10 {
		t.Errorf("times %d and %d, want %d", v.FirstSeen, v.LastSeen, now-10)
	}
	b.table.Store([]byte(key), y, now-5)
	a.has(key, y)
	// An older use changes nothing, neither there nor in the store.
	c := r.client()
	until(t, "the store has it", func() bool {
		text, _ := c.Get(t.Context(), "belay:t:k:"+key).Result()
		return text == fmt.Sprintf("1 fedcba9876543210 0 %d %d", now-5, now-5)
	})
	if ttl := c.PTTL(t.Context(), "belay:t:k:"+key).Val(); ttl > time.Hour-5*time.Second || ttl < 59*time.Minute {
		t.Errorf("expires in %v", ttl)
	}
	third := newMachine(t, r.table()).run().ready()
	third.has(key, y)
}

// What came from the store is not written there again, and nobody answers an entry
// with the same.
func TestNoEcho(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	a, b := newMachine(t, r.table()).run().ready(), newMachine(t, r.table()).run().ready()
	for i := range 2000 {
		a.table.Store(fmt.Appendf(nil, "k%d", i), x, unixNow())
	}
	b.has("k1999", x)
	until(t, "all are there", func() bool { return b.table.Len() == 2000 })
	a.table.Store([]byte("last"), x, unixNow()) // rounds pass
	b.has("last", x)
	b.table.Store([]byte("mark"), y, unixNow())
	a.has("mark", y)
	until(t, "the mark is counted", func() bool { return b.metric("belay_table_store_writes_total") >= 1 })
	if n := b.metric("belay_table_store_writes_total"); n != 1 {
		t.Errorf("%v writes of who wrote one", n)
	}
	if n := a.metric("belay_table_store_writes_total"); n != 2001 {
		t.Errorf("%v writes of who wrote 2001", n)
	}
	late := newMachine(t, r.table()).run().ready()
	if n := late.metric("belay_table_store_writes_total"); n != 0 || late.table.Len() != 2002 {
		t.Errorf("who came late wrote %v and has %d", n, late.table.Len())
	}
}

// Two machines that place one key in the same second come to one answer, and the store
// has it.
func TestSameSecond(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	a, b := newMachine(t, r.table()).run().ready(), newMachine(t, r.table()).run().ready()
	now := unixNow()
	for i := range 300 {
		a.table.Store(fmt.Appendf(nil, "k%d", i), x, now)
		b.table.Store(fmt.Appendf(nil, "k%d", i), y, now)
	}
	for i := range 300 {
		a.has(fmt.Sprintf("k%d", i), y)
		b.has(fmt.Sprintf("k%d", i), y)
	}
	c := r.client()
	until(t, "the store agrees", func() bool {
		for i := range 300 {
			if text := c.Get(t.Context(), fmt.Sprintf("belay:t:k:k%d", i)).Val(); !strings.Contains(text, "fedcba98") {
				return false
			}
		}
		return true
	})
}

// The store goes, with all that it had, and comes back: both machines say so once, and
// then agree about what either learnt meanwhile, also about what found the queue full.
func TestOutage(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	cfg := r.table()
	cfg.StoreQueue = 10
	a, b := newMachine(t, cfg).run().ready(), newMachine(t, cfg).run().ready()
	a.table.Store([]byte("before"), x, unixNow())
	b.has("before", x)
	r.stop()
	for _, m := range []*machine{a, b} {
		until(t, "the outage is told", func() bool { return m.log.count("level=WARN") == 1 })
		if m.metric("belay_table_store_up") != 0 {
			t.Error("a store that is away is up")
		}
	}
	for i := range 100 {
		a.table.Store(fmt.Appendf(nil, "a%d", i), x, unixNow())
		b.table.Store(fmt.Appendf(nil, "b%d", i), y, unixNow())
	}
	until(t, "changes are dropped", func() bool { return a.metric("belay_table_store_drops_total") == 90 })
	r.start()
	for _, m := range []*machine{a, b} {
		until(t, "the end is told", func() bool { return m.log.count("level=INFO") == 1 })
		until(t, "all is there", func() bool { return m.table.Len() == 201 })
		if n := m.log.count("level=WARN"); n != 1 || m.metric("belay_table_store_errors_total") < 1 {
			t.Errorf("%d warnings:\n%s", n, m.log)
		}
	}
	c := r.client()
	until(t, "the store has all", func() bool { return c.DBSize(t.Context()).Val() == 201 })
}

// A store that hangs is as good as away.
func TestStoreHangs(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	m := newMachine(t, r.table()).run().ready()
	if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	m.table.Store([]byte("k"), x, unixNow())
	until(t, "the hang is told", func() bool { return m.log.count("level=WARN") == 1 })
	if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	m.ready()
	c := r.client()
	until(t, "it is written", func() bool { return c.Exists(t.Context(), "belay:t:k:k").Val() == 1 })
}

func TestClear(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	a, b := newMachine(t, r.table()), newMachine(t, r.table())
	heard := make(chan uint32, 10)
	b.store.Cleared = func(f persistence.Filter, at uint32) {
		if f.Endpoint == nil || *f.Endpoint != x {
			t.Errorf("filter %v", f)
		}
		heard <- at
	}
	a.run().ready()
	b.run().ready()
	away := newMachine(t, r.table()).run().ready()
	then := unixNow() - 10
	for i := range 50 {
		a.table.Store(fmt.Appendf(nil, "x%d", i), x, then)
		a.table.Store(fmt.Appendf(nil, "y%d", i), y, then)
	}
	for _, m := range []*machine{b, away} {
		until(t, "all is there", func() bool { return m.table.Len() == 100 })
	}
	away.end()
	b.table.Store([]byte("x7"), x, then+10) // used since
	a.has("x7", x)
	f := persistence.Filter{Endpoint: &x}
	a.store.Clear(f, then+5)
	f.Until = then + 5 // x7 is here already, or comes
	a.table.Clear(f, then+5)
	b.hasNot("x49")
	until(t, "the rest is there", func() bool { return b.table.Len() == 51 })
	if at := <-heard; at != then+5 {
		t.Errorf("cleared at %d, want %d", at, then+5)
	}
	c := r.client()
	until(t, "the store has dropped them", func() bool { return len(c.Keys(t.Context(), "belay:t:k:*").Val()) == 51 })
	a.has("x7", x)
	// Who was away does not bring them back.
	again := newMachine(t, r.table())
	for i := range 50 {
		again.table.Store(fmt.Appendf(nil, "x%d", i), x, then)
	}
	again.run().ready()
	until(t, "who was away has dropped them", func() bool { return again.table.Len() == 51 })
	if n := len(c.Keys(t.Context(), "belay:t:k:*").Val()); n != 51 {
		t.Errorf("%d entries are back in the store", n)
	}
	key := persistence.Filter{Key: []byte("y3")}
	a.table.Clear(key, unixNow())
	b.store.Cleared = nil
	a.store.Clear(key, unixNow())
	again.hasNot("y3")
	until(t, "the store has dropped it", func() bool { return c.Exists(t.Context(), "belay:t:k:y3").Val() == 0 })
}

// An entry that another machine has written since it was read is not deleted.
func TestRemoveOnlyWhatWasRead(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	m := newMachine(t, r.table())
	c := r.client()
	old := persistence.Value{Endpoint: x, FirstSeen: 1, LastSeen: 2}
	young := old
	young.LastSeen = 3
	for key, v := range map[string]*persistence.Value{"same": &old, "younger": &young} {
		if err := c.Set(t.Context(), "belay:t:k:"+key, appendValue(nil, v), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the script is sent whole, and then by its digest
		if err := m.store.remove(t.Context(), []string{"same", "younger", "gone"}, []*persistence.Value{&old, &old, &old}); err != nil {
			t.Fatal(err)
		}
		if left := c.Keys(t.Context(), "belay:t:k:*").Val(); !slices.Equal(left, []string{"belay:t:k:younger"}) {
			t.Errorf("left: %v", left)
		}
	}
}

func TestNoExpiry(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	cfg := r.table()
	cfg.Expire, cfg.StorePrefix = 0, "a[b]*:"
	a, b := newMachine(t, cfg).run().ready(), newMachine(t, cfg).run().ready()
	a.table.Store([]byte("k"), x, 1)
	b.has("k", x)
	if ttl := r.client().PTTL(t.Context(), "a[b]*:k:k").Val(); ttl != -1 {
		t.Errorf("expires in %v", ttl)
	}
	newMachine(t, cfg).run().ready().has("k", x)
}

func TestPassword(t *testing.T) {
	t.Parallel()
	const secret = "geheim%2Fwort"
	r := startRedis(t, "--requirepass", "geheim/wort")
	cfg := r.table()
	cfg.Store = "redis://:" + secret + "@" + r.addr + "/0"
	m := newMachine(t, cfg).run().ready()
	r.stop()
	until(t, "the outage is told", func() bool { return m.log.count("level=WARN") == 1 })
	cfg.Store = "redis://:" + secret + "x@" + r.addr + "/0"
	r.start()
	wrong := newMachine(t, cfg).run()
	until(t, "the refusal is told", func() bool { return wrong.log.count("WRONGPASS") == 1 })
	cfg.Store = "redis://:" + secret + "@" + r.addr + "/geheim%2Fwort"
	cfg.Name = "t"
	_, err := New(m.table, &cfg, slog.Default(), stats.NewRegistry())
	if err == nil {
		t.Fatal("a database that is no number is taken")
	}
	for _, text := range []string{m.log.String(), wrong.log.String(), err.Error()} {
		if strings.Contains(text, "geheim") {
			t.Errorf("the password is told: %s", text)
		}
	}
}

// What others wrote into the store is no reason to fail.
func TestForeign(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	c := r.client()
	for key, v := range map[string]string{"bad": "1 zz 0 1 1", "new": "2 1 1 1 1", "short": "1"} {
		if err := c.Set(t.Context(), "belay:t:k:"+key, v, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(t, r.table()).run().ready()
	if n := m.metric("belay_table_store_errors_total"); n != 3 || m.table.Len() != 0 {
		t.Errorf("%v errors, %d entries", n, m.table.Len())
	}
	for _, text := range []string{"", "x", strings.Repeat("f", 16) + "e\n\xff\xff", strings.Repeat("f", 16) + "c\n{", strings.Repeat("f", 16) + "e\n\x00\x00"} {
		c.Publish(t.Context(), "belay:t:changes", text)
	}
	until(t, "the messages are counted", func() bool { return m.metric("belay_table_store_errors_total") == 8 })
	if m.metric("belay_table_store_up") != 1 || m.log.String() != "" {
		t.Errorf("log: %s", m.log)
	}
}
