package certs

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options are those of a Store; the zero value is good.
type Options struct {
	Files  Files
	Settle time.Duration // quiet time after a change before it is read; 0: DefaultSettle
	Poll   time.Duration // how often every file is looked at though inotify is silent; 0: DefaultPoll
	Warn   time.Duration // how long before expiry to warn, daily; 0: 14 days

	TicketRotation time.Duration // 0: DefaultRotation
	TicketSecret   string        // file or credential with a secret that machines share; "": random keys

	// Event is told what happened, on a goroutine of the control plane and with
	// no lock held. It may be nil.
	Event func(Event)

	Now func() time.Time // nil: time.Now
}

// DefaultWarn is how long before its expiry a certificate is warned of.
const DefaultWarn = 14 * 24 * time.Hour

// EventKind says what happened.
type EventKind uint8

// The kinds of events.
const (
	EventLoaded   EventKind = iota // there is a new value, or the last one is right again
	EventFailed                    // loading failed; see State for what that means
	EventExpiring                  // less than Options.Warn until NotAfter
	EventExpired
	EventStaple  // the certificate's OCSP staple is not good
	EventWarning // clients may refuse the certificate
	EventWaiting // the source has nothing yet
)

func (k EventKind) String() string {
	return [...]string{"loaded", "failed", "expiring", "expired", "staple", "warning", "waiting"}[k]
}

// Event is something an operator would like to read.
type Event struct {
	Kind     EventKind
	Resource string // its source
	Of       Kind
	State    State
	Err      error     // EventFailed, EventStaple, EventWarning
	NotAfter time.Time // EventLoaded of certificates, EventExpiring, EventExpired
}

// Store loads certificates and what they are checked against, keeps them
// current, and has everything that is made of them rebuilt. All its methods are
// for the control plane.
type Store struct {
	options Options
	watcher *Watcher
	tickets *Tickets
	secret  *resource
	running atomic.Bool

	mu        sync.Mutex // guards the following, and what resource says
	resources map[string]*resource
	users     []user
	dirty     map[*resource]time.Time // when to load it
	fresh     []*resource             // to be watched
	events    []Event                 // to be told once mu is free
	wake      chan struct{}
}

// NewStore makes a store; nothing is watched until Run.
func NewStore(o Options) *Store {
	if o.Settle <= 0 {
		o.Settle = DefaultSettle
	}
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	if o.Warn <= 0 {
		o.Warn = DefaultWarn
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{
		options: o, resources: map[string]*resource{}, dirty: map[*resource]time.Time{}, wake: make(chan struct{}, 1),
		tickets: NewTickets(o.TicketRotation, o.Now()),
	}
	if o.TicketSecret != "" {
		s.secret = s.add(secretResource(&s.options.Files, o.TicketSecret))
		s.load([]*resource{s.secret})
		s.tell()
	}
	return s
}

// Tickets is the process's ring of session ticket keys.
func (s *Store) Tickets() *Tickets { return s.tickets }

// Files is where sources of this store find credentials.
func (s *Store) Files() *Files { return &s.options.Files }

// add gives the store's resource of a kind and name, r if it has none.
func (s *Store) add(r *resource) *resource {
	key := r.kind.String() + "\x00" + r.name
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.resources[key]; known != nil {
		return known
	}
	s.resources[key] = r
	s.fresh = append(s.fresh, r)
	return r
}

// attach has u rebuilt when any of the resources changes, and builds it now.
func (s *Store) attach(u user, resources []*resource) {
	var unread []*resource
	s.mu.Lock()
	s.users = append(s.users, u)
	for _, r := range resources {
		if !slices.Contains(r.users, u) {
			r.users = append(r.users, u)
		}
		if r.since.IsZero() {
			unread = append(unread, r)
		}
	}
	s.mu.Unlock()
	s.load(unread)
	s.mu.Lock()
	u.rebuild(s.options.Now())
	s.mu.Unlock()
	s.poke()
	s.tell()
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// load reads resources, several at once for there may be thousands, and gives
// those that changed.
func (s *Store) load(list []*resource) (changed []*resource) {
	work := make(chan *resource)
	var wait sync.WaitGroup
	var mu sync.Mutex
	for range min(len(list), runtime.GOMAXPROCS(0)) {
		wait.Go(func() {
			for r := range work {
				if s.loadOne(r) {
					mu.Lock()
					changed = append(changed, r)
					mu.Unlock()
				}
			}
		})
	}
	for _, r := range list {
		work <- r
	}
	close(work)
	wait.Wait()
	return changed
}

func (s *Store) loadOne(r *resource) bool {
	r.loading.Lock()
	defer r.loading.Unlock()
	s.mu.Lock()
	last, current := r.content, r.value
	s.mu.Unlock()
	now := s.options.Now()
	value, content, err := r.load(last, current, now)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && r.value != nil && !errors.Is(err, ErrNotYet) {
		// Half of a change that is not atomic looks like this; a moment later
		// the other half is there.
		if r.failures++; r.failures < 3 {
			s.dirty[r] = now.Add(3 * s.options.Settle)
			return false
		}
	}
	if err == nil {
		r.failures = 0
	}
	isNew, news := r.settle(value, content, err, now)
	if news {
		s.announce(r)
	}
	if isNew && r == s.secret {
		_ = s.tickets.SetSecret(r.value.([]byte), now) // its length is checked
	}
	return isNew
}

// announce queues the events of a resource's news. The caller holds mu.
func (s *Store) announce(r *resource) {
	e := Event{Kind: EventLoaded, Resource: r.name, Of: r.kind, State: r.state, Err: r.err}
	switch {
	case errors.Is(r.err, ErrNotYet):
		e.Kind = EventWaiting
	case r.err != nil:
		e.Kind = EventFailed
	}
	p, _ := r.value.(*Pair)
	if p == nil || r.err != nil {
		s.events = append(s.events, e)
		return
	}
	e.NotAfter = p.Info.NotAfter
	s.events = append(s.events, e)
	for _, w := range p.Warnings {
		s.events = append(s.events, Event{Kind: EventWarning, Resource: r.name, Of: r.kind, State: r.state, Err: errors.New(w)})
	}
	if err := p.staple.problem(s.options.Now()); err != nil {
		s.events = append(s.events, Event{Kind: EventStaple, Resource: r.name, Of: r.kind, State: r.state, Err: err})
	}
}

// tell gives the queued events away.
func (s *Store) tell() {
	s.mu.Lock()
	events := s.events
	s.events = nil
	s.mu.Unlock()
	if s.options.Event == nil {
		return
	}
	for _, e := range events {
		s.options.Event(e)
	}
}

// Run watches and keeps everything current until ctx is done. It is called once.
func (s *Store) Run(ctx context.Context) {
	if s.running.Swap(true) {
		panic("certs: a Store runs twice")
	}
	s.watcher = newWatcher(s.options.Settle, s.options.Poll)
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { s.watcher.run(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		timer.Reset(s.turn(ctx))
	}
}

// turn does what is due, and says how long nothing will be.
func (s *Store) turn(ctx context.Context) time.Duration {
	now := s.options.Now()
	s.mu.Lock()
	fresh := s.fresh
	s.fresh = nil
	s.mu.Unlock()
	for _, r := range fresh {
		r.watch(ctx, s.watcher, func() { s.changed(r) })
	}

	var due []*resource
	s.mu.Lock()
	for r, at := range s.dirty {
		if !at.After(now) {
			due = append(due, r)
			delete(s.dirty, r)
		}
	}
	s.mu.Unlock()
	changed := s.load(due)

	next := now.Add(time.Minute)
	s.mu.Lock()
	stale := s.age(now)
	s.rebuild(append(changed, stale...), now)
	for _, at := range s.dirty {
		if at.Before(next) {
			next = at
		}
	}
	s.mu.Unlock()
	if at := s.tickets.Rotate(now); at.Before(next) {
		next = at
	}
	s.tell()
	return max(next.Sub(s.options.Now()), time.Millisecond)
}

// changed is called by whatever watches a resource.
func (s *Store) changed(r *resource) {
	s.mu.Lock()
	r.failures = 0
	s.dirty[r] = s.options.Now()
	s.mu.Unlock()
	s.poke()
}

// rebuild builds anew, once, what uses any of the resources. The caller holds mu.
func (s *Store) rebuild(changed []*resource, now time.Time) {
	built := map[user]bool{}
	for _, r := range changed {
		for _, u := range r.users {
			if !built[u] {
				built[u] = true
				u.rebuild(now)
			}
		}
	}
}

// age queues the events that come with time, and gives the resources whose
// staple is no longer good. The caller holds mu.
func (s *Store) age(now time.Time) (stale []*resource) {
	for _, r := range s.resources {
		p, ok := r.value.(*Pair)
		if !ok {
			continue
		}
		if p.staple.raw != nil && !p.staple.good(now) {
			p := *p // snapshots hold the old one
			p.staple.raw, p.staple.err = nil, p.staple.problem(now)
			r.value = &p
			stale = append(stale, r)
			s.events = append(s.events, Event{Kind: EventStaple, Resource: r.name, Of: r.kind, State: r.state, Err: p.staple.err})
		}
		left := p.Info.NotAfter.Sub(now)
		if left > s.options.Warn || !r.warned.IsZero() && now.Sub(r.warned) < 24*time.Hour {
			continue
		}
		r.warned = now
		e := Event{Kind: EventExpiring, Resource: r.name, Of: r.kind, State: r.state, NotAfter: p.Info.NotAfter}
		if left <= 0 {
			e.Kind = EventExpired
		}
		s.events = append(s.events, e)
	}
	return stale
}
