// Package listener obtains listen sockets, accepts on them and decides at the
// door who may come in: addresses, connection limits, descriptors.
package listener

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/netset"
)

// Listener is one configured listener with its sockets. Every worker that
// serves it has an Acceptor of its own.
type Listener struct {
	Config  *config.Listener
	Address eventloop.Address

	sockets []int // owned; closed by Close
	allow   *netset.Set
	deny    *netset.Set
	sources *sources
	active  atomic.Int64
	paused  atomic.Bool // logged that accepting is throttled; cleared at recovery
}

// Open binds the listener's sockets: one per worker, or as many as configured,
// that share the address by SO_REUSEPORT. Because SO_REUSEPORT would also let a
// stranger of the same user in, the address is bound once without it first.
func Open(c *config.Listener, workers int) (*Listener, error) {
	l := &Listener{
		Config:  c,
		Address: eventloop.Address{AP: c.Address, Unix: c.Unix},
		allow:   netset.New(c.Allow),
		deny:    netset.New(c.Deny),
	}
	if c.MaxConnectionsPerSource > 0 {
		l.sources = newSources(c.MaxConnectionsPerSource)
	}
	n := c.Sockets
	if n == 0 {
		n = workers
	}
	lc := eventloop.ListenConfig{Backlog: c.Backlog, V6Only: c.IPv6Only, UnixMode: c.UnixMode, Nodelay: true, ReusePort: true}
	if c.Unix != "" {
		n, lc.ReusePort = 1, false
	} else if err := eventloop.Probe(l.Address, lc); err != nil {
		return nil, fmt.Errorf("listener.%s: %w", c.Name, err)
	}
	for range n {
		fd, err := eventloop.Listen(l.Address, lc)
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("listener.%s: %w", c.Name, err)
		}
		l.sockets = append(l.sockets, fd)
	}
	return l, nil
}

// Sockets is how many sockets the listener has.
func (l *Listener) Sockets() int { return len(l.sockets) }

// Active is how many connections are open.
func (l *Listener) Active() int64 { return l.active.Load() }

// Throttled reports whether accepting is held back for want of descriptors or
// because a connection limit is reached.
func (l *Listener) Throttled() bool { return l.paused.Load() }

// For says which sockets worker i of n polls: every socket is polled by
// somebody, and every worker polls one.
func (l *Listener) For(i, n int) []int {
	if len(l.sockets) == 0 {
		return nil
	}
	if len(l.sockets) <= n {
		return []int{l.sockets[i%len(l.sockets)]}
	}
	var fds []int
	for k := i; k < len(l.sockets); k += n {
		fds = append(fds, l.sockets[k])
	}
	return fds
}

// Close closes the sockets. All Acceptors must have stopped before.
func (l *Listener) Close() {
	for _, fd := range l.sockets {
		eventloop.Close(fd)
	}
	l.sockets = nil
}

// admit decides about a new connection; the reason is the label of a counter.
// A connection that was admitted is given back with Leave.
func (l *Listener) admit(peer netip.AddrPort) (reason Rejection) {
	if l.Config.Unix == "" {
		if l.deny.Contains(peer.Addr()) || !l.allow.Empty() && !l.allow.Contains(peer.Addr()) {
			return RejectedAddress
		}
		if !l.sources.enter(peer.Addr()) {
			return RejectedSource
		}
	}
	l.active.Add(1)
	return Admitted
}

// Leave gives back the place of a connection that ended.
func (l *Listener) Leave(peer netip.AddrPort) {
	l.active.Add(-1)
	if l.Config.Unix == "" {
		l.sources.leave(peer.Addr())
	}
}

// Rejection says why a connection was closed at the door.
type Rejection uint8

// The reasons, in the order of the counters an Acceptor is given.
const (
	Admitted Rejection = iota
	RejectedAddress
	RejectedSource
)

// Limit bounds open connections over all listeners.
type Limit struct {
	Max    int64
	active atomic.Int64
}

// Active is how many are open.
func (l *Limit) Active() int64 { return l.active.Load() }

func (l *Limit) enter() bool {
	if l.active.Add(1) > l.Max {
		l.active.Add(-1)
		return false
	}
	return true
}

// Leave gives a place back.
func (l *Limit) Leave() { l.active.Add(-1) }

// sources counts connections per client address. It is asked at accept and at
// the end of a connection, never per request.
type sources struct {
	max    int32
	shards [64]struct {
		mu sync.Mutex
		n  map[netip.Addr]int32
	}
}

func newSources(max int) *sources { return &sources{max: int32(max)} }

func (s *sources) shard(a netip.Addr) int {
	b := a.As16()
	return int(b[15]^b[14]*31^b[7]*17) % len(s.shards)
}

func (s *sources) enter(a netip.Addr) bool {
	if s == nil {
		return true
	}
	sh := &s.shards[s.shard(a)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.n[a] >= s.max {
		return false
	}
	if sh.n == nil {
		sh.n = make(map[netip.Addr]int32)
	}
	sh.n[a]++
	return true
}

func (s *sources) leave(a netip.Addr) {
	if s == nil {
		return
	}
	sh := &s.shards[s.shard(a)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.n[a]--; sh.n[a] <= 0 {
		delete(sh.n, a)
	}
}
