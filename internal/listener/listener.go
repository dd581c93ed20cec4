// Package listener obtains listen sockets, accepts on them and decides at the
// door who may come in: addresses, connection limits, descriptors.
package listener

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/netset"
)

// Listener is one configured listener with its sockets. Every worker that
// serves it has an Acceptor of its own.
type Listener struct {
	Config  *config.Listener
	Address eventloop.Address

	// sockets are owned. Close takes them away while the control plane may ask for
	// them; the Acceptors have their own copies.
	sockets  atomic.Pointer[[]int]
	v6only   bool // of the sockets, if they are IPv6
	warnings []string

	bound   bool                   // by Open, so no other process has the sockets, unless it was given them
	options eventloop.ListenConfig // of bind
	ask     bool                   // whether the address is ours alone: before the sockets listen
	listens bool
	file    os.FileInfo // the Unix socket's, as it was at Open; nil: none that may be removed

	// Gate is what comes before the protocol; nil: nothing. Set before the first
	// connection.
	Gate *Gate

	allow   *netset.Set
	deny    *netset.Set
	sources *sources
	active  atomic.Int64
	paused  atomic.Bool           // logged that accepting is throttled; cleared at recovery
	probe   atomic.Pointer[probe] // nil: none under way
}

// Open obtains the listener's sockets. Without inherited ones it binds: one
// socket per worker, or as many as configured, that share the address by
// SO_REUSEPORT. They do not listen before Listen, so that nobody is attracted to a
// process that may yet fail. Because SO_REUSEPORT would also let a stranger of the
// same user in, probe has the address bound once without it first, and again by
// Listen; that must be left out while another generation of ours listens on the
// port, or on a wildcard of it.
//
// The descriptors in inherited are the listener's from the call on, also when it
// fails. They must listen at the configured address, or all at one address if
// none is configured; nothing is bound then. What cannot be had from them as
// configured is told by Warnings. fs.ErrNotExist means that the file of a Unix
// socket has gone: nobody can connect to it any more, and it may be bound anew.
func Open(c *config.Listener, workers int, inherited []int, probe bool) (*Listener, error) {
	l := &Listener{
		Config:  c,
		Address: eventloop.Address{AP: c.Address, Unix: c.Unix},
		allow:   netset.New(c.Allow),
		deny:    netset.New(c.Deny),
		v6only:  c.IPv6Only,
	}
	if c.MaxConnectionsPerSource > 0 {
		l.sources = newSources(c.MaxConnectionsPerSource)
	}
	l.options = eventloop.ListenConfig{Backlog: c.Backlog, V6Only: c.IPv6Only, UnixMode: c.UnixMode, Nodelay: true, ReusePort: c.Unix == ""}
	var err error
	if len(inherited) > 0 {
		err = l.adopt(inherited)
	} else {
		l.ask = probe && l.options.ReusePort
		err = l.bind(workers)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("listener.%s: %w", c.Name, err)
	}
	return l, nil
}

func (l *Listener) bind(workers int) error {
	n := l.Config.Sockets
	if n == 0 {
		n = workers
	}
	if !l.options.ReusePort {
		n = 1
	}
	if l.ask {
		if err := eventloop.Probe(l.Address, l.options); err != nil {
			return err
		}
	}
	l.bound = true
	var fds []int
	defer func() { l.sockets.Store(&fds) }()
	for range n {
		fd, err := eventloop.Bind(l.Address, l.options)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	return l.rememberFile()
}

// Listen has the sockets listen that Open bound; inherited ones do already. From
// here on clients come, so the Acceptors must start next. Who took the address
// since Open is found as there: bound sockets do not keep others out.
func (l *Listener) Listen() error {
	if !l.bound || l.listens {
		return nil
	}
	if err := l.listen(); err != nil {
		return fmt.Errorf("listener.%s: %w", l.Config.Name, err)
	}
	l.listens = true
	return nil
}

func (l *Listener) listen() error {
	if l.ask {
		if err := eventloop.Probe(l.Address, l.options); err != nil {
			return err
		}
	}
	if l.file != nil && !l.hasFile() {
		return fmt.Errorf("%s is no longer the socket that was bound: %w", l.Address.Unix, syscall.EADDRINUSE)
	}
	for _, fd := range l.open() {
		if err := eventloop.StartListening(fd, l.Address, l.options); err != nil {
			return err
		}
	}
	return nil
}

// open are the sockets, none after Close; not to be changed.
func (l *Listener) open() []int {
	if p := l.sockets.Load(); p != nil {
		return *p
	}
	return nil
}

// Bound reports whether Open bound the sockets itself.
func (l *Listener) Bound() bool { return l.bound }

// Sockets is how many sockets the listener has.
func (l *Listener) Sockets() int { return len(l.open()) }

// Active is how many connections are open.
func (l *Listener) Active() int64 { return l.active.Load() }

// Throttled reports whether accepting is held back for want of descriptors or
// because a connection limit is reached.
func (l *Listener) Throttled() bool { return l.paused.Load() }

// For says which sockets worker i of n polls: every socket is polled by
// somebody, and every worker polls one.
func (l *Listener) For(i, n int) []int {
	sockets := l.open()
	if len(sockets) == 0 {
		return nil
	}
	if len(sockets) <= n {
		return []int{sockets[i%len(sockets)]}
	}
	var fds []int
	for k := i; k < len(sockets); k += n {
		fds = append(fds, sockets[k])
	}
	return fds
}

// FDs are the sockets, for handing over; they stay the listener's.
func (l *Listener) FDs() []int { return slices.Clone(l.open()) }

// Warnings says in what inherited sockets differ from the configuration.
func (l *Listener) Warnings() []string { return l.warnings }

// Close closes the sockets. All Acceptors must have stopped before.
func (l *Listener) Close() {
	if p := l.sockets.Swap(nil); p != nil {
		for _, fd := range *p {
			eventloop.Close(fd)
		}
	}
}

// admit decides about the address of a new client; the reason is the label of a
// counter. One that was admitted is given back with leave.
func (l *Listener) admit(peer netip.AddrPort) (reason Rejection) {
	switch {
	case peer.IsValid():
		if l.deny.Contains(peer.Addr()) || !l.allow.Empty() && !l.allow.Contains(peer.Addr()) {
			return RejectedAddress
		}
		if !l.sources.enter(peer.Addr()) {
			return RejectedSource
		}
	case l.Address.Unix == "" && !l.allow.Empty(): // a PROXY header has brought a client of a Unix socket
		return RejectedAddress
	}
	return Admitted
}

// leave forgets a client that was admitted.
func (l *Listener) leave(peer netip.AddrPort) {
	if peer.IsValid() {
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
