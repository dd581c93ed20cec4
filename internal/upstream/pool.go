// Package upstream keeps, per worker, the connections to endpoints: it opens
// them, lends each to one exchange at a time, and keeps the idle ones until they
// are needed, too old, or closed by the other side.
//
// What comes between TCP and the first byte of an exchange is done here too: a
// PROXY header, PostgreSQL's request for TLS, TLS itself (Conn.Handshake). Such a
// connection is used again only where it says the same: with a PROXY header never,
// for it speaks of one client; with TLS for the server name that was verified, as
// long as authorities and client certificate are those of its handshake.
package upstream

import (
	"errors"

	"belay/internal/certs"
	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/proxyproto"
	"belay/internal/stats"
	"belay/internal/transport"
)

// Reasons why a request gets no connection; each is also the reason in the
// access log.
var (
	ErrNoAddress      = errors.New("endpoint-unresolved")
	ErrConnect        = errors.New("connect-failure")
	ErrPendingFull    = errors.New("pending-full")
	ErrPendingTimeout = errors.New("pending-timeout")
)

// Env is what the pools of one worker share.
type Env struct {
	Loop  *eventloop.Worker
	Shard *stats.Shard
	// Poke has the pools of the other workers call Shed for an endpoint: a
	// request here waits for a connection that idles there. Called rarely.
	Poke func(e *cluster.Endpoint)
	// Handshakes are the worker's; needed for clusters with TLS.
	Handshakes *transport.Handshakes
}

// Pool has the connections of one worker to one endpoint.
//
//	Acquire ──idle?──> lent ──Release──> idle ──peer closes, too old, shed──> closed
//	   │ else room? dial ──> lent             └──Acquire──> lent
//	   └ else Waiter queued ──> granted when one is released or closed
type Pool struct {
	env      *Env
	Endpoint *cluster.Endpoint
	cfg      *config.Cluster
	st       Stats
	tls      *TLS           // nil: plain
	policy   certs.PolicyID // of the TLS, when idle connections were held against it last

	idle    []*Conn // oldest first; taken from the end, so the warmest is reused
	waiting []*Waiter
	next    int // address to dial first
	timer   eventloop.Timer
}

// New makes an empty pool. It costs nothing but its struct until it is used. t is
// nil for a cluster without TLS.
func New(env *Env, e *cluster.Endpoint, c *config.Cluster, st Stats, t *TLS) *Pool {
	return &Pool{env: env, Endpoint: e, cfg: c, st: st, tls: t}
}

// Want says what kind of connection a request needs.
type Want struct {
	Fresh   bool               // a new one
	Careful bool               // an idle one is asked for life first: the request must not be sent twice
	Name    []byte             // to be verified, of a cluster with TLS whose name is not fixed; kept by nobody
	Origin  *proxyproto.Origin // of a cluster with a PROXY header; used until there is an answer
}

// Waiter is a request that waits for a connection; embed it in the request's
// state. It is used by one Acquire at a time.
type Waiter struct {
	grant    func(c *Conn, err error)
	deadline int64
	name     string
	origin   *proxyproto.Origin
	queued   bool
	pool     *Pool
}

// Waiting reports whether the request is in a queue.
func (w *Waiter) Waiting() bool { return w.queued }

// Cancel takes the request out of the queue, if it is in one.
func (w *Waiter) Cancel() {
	if !w.queued {
		return
	}
	p := w.pool
	for i, x := range p.waiting {
		if x == w {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			break
		}
	}
	p.unqueued(w)
}

func (p *Pool) unqueued(w *Waiter) {
	w.queued = false
	p.Endpoint.Waiting.Add(-1)
	p.env.Shard.GaugeAdd(p.st.Pending, -1)
}

// Acquire lends a connection to o, an idle one first. With all connections busy and
// the limit reached it returns (nil, nil) and calls grant later, with a connection
// or an error. What is lent may still need its Handshake.
func (p *Pool) Acquire(o transport.Owner, w *Waiter, grant func(*Conn, error), want *Want) (*Conn, error) {
	if !want.Fresh {
		if c := p.takeIdle(o, want); c != nil {
			return c, nil
		}
	}
	if p.hasRoom() {
		return p.dial(o, p.nameOf(want), want.Origin)
	}
	if len(p.idle) > 0 { // the room that our own idle connections take
		p.closeIdle(0)
		if p.hasRoom() {
			return p.dial(o, p.nameOf(want), want.Origin)
		}
	}
	if len(p.waiting) >= p.cfg.MaxPending {
		p.env.Shard.Inc(p.st.PendingRefused)
		return nil, ErrPendingFull
	}
	w.grant, w.pool, w.queued = grant, p, true
	w.name, w.origin = p.nameOf(want), want.Origin
	w.deadline = 0
	if p.cfg.PendingTimeout > 0 {
		w.deadline = p.env.Loop.Now() + int64(p.cfg.PendingTimeout)
	}
	p.waiting = append(p.waiting, w)
	p.Endpoint.Waiting.Add(1)
	p.env.Shard.GaugeAdd(p.st.Pending, 1)
	if p.hasRoom() { // freed before the others could see that we wait
		w.Cancel()
		return p.dial(o, w.name, w.origin)
	}
	p.arm()
	p.env.Poke(p.Endpoint)
	return nil, nil
}

// takeIdle pops the most recently used idle connection that is still good.
func (p *Pool) takeIdle(o transport.Owner, want *Want) *Conn {
	if p.tls != nil {
		p.closeOutdated()
	}
	// A Close may grant its room to who waits, and that may take idle ones as well.
	for i := len(p.idle) - 1; i >= 0; i = min(i, len(p.idle)) - 1 {
		c := p.idle[i]
		if !c.fits(want) {
			continue
		}
		p.dropIdle(i)
		if want.Careful && !c.Socket.Alive() || !c.current() {
			p.env.Shard.Inc(p.st.IdleClosed)
			c.Close()
			continue
		}
		c.Socket.SetFirst(false)
		c.Socket.SetOwner(o)
		c.Requests++
		p.env.Shard.Inc(p.st.Reused)
		return c
	}
	return nil
}

// hasRoom reserves one connection under the endpoint's limit, which counts over
// all workers.
func (p *Pool) hasRoom() bool {
	limit := int64(p.cfg.MaxConnections)
	for {
		n := p.Endpoint.Open.Load()
		if limit > 0 && n >= limit {
			return false
		}
		if p.Endpoint.Open.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// dial uses the room that hasRoom reserved.
func (p *Pool) dial(o transport.Owner, name string, origin *proxyproto.Origin) (*Conn, error) {
	addrs := p.Endpoint.Addresses()
	if len(addrs) == 0 {
		p.freeRoom()
		return nil, ErrNoAddress
	}
	p.env.Shard.Inc(p.st.Connects)
	c := &Conn{pool: p, state: connLent, Requests: 1, preface: p.newPreface(name, origin)}
	for range addrs {
		a := addrs[p.next%len(addrs)]
		p.next++
		sock, err := transport.Dial(p.env.Loop, a, o)
		if err == nil {
			c.Socket, c.Address, c.known = sock, a, addrs
			p.env.Shard.GaugeAdd(p.st.Open, 1)
			return c, nil
		}
	}
	p.env.Shard.Inc(p.st.ConnectFails)
	p.freeRoom()
	return nil, ErrConnect
}

// freeRoom gives one connection's place back and lets the next request have it,
// here or, if nobody waits here, on the worker where one waits.
func (p *Pool) freeRoom() {
	p.Endpoint.Open.Add(-1)
	if len(p.waiting) == 0 {
		if p.Endpoint.Waiting.Load() > 0 {
			p.env.Poke(p.Endpoint)
		}
		return
	}
	p.grantNew()
}

// grantNew dials for the first request in the queue while there is room.
func (p *Pool) grantNew() {
	for len(p.waiting) > 0 && p.hasRoom() {
		w := p.shift()
		c, err := p.dial(nobody{}, w.name, w.origin)
		w.grant(c, err)
	}
}

func (p *Pool) shift() *Waiter {
	w := p.waiting[0]
	copy(p.waiting, p.waiting[1:])
	p.waiting = p.waiting[:len(p.waiting)-1]
	p.unqueued(w)
	return w
}

// Shed closes idle connections, the oldest first, because requests of other
// workers wait for room at this endpoint, or retries what waits here.
func (p *Pool) Shed() {
	if len(p.waiting) > 0 {
		p.grantNew()
		return
	}
	for n := p.Endpoint.Waiting.Load(); n > 0 && len(p.idle) > 0; n-- {
		p.closeIdle(0)
	}
}

// CloseIdle ends every idle connection; the pool stays usable.
func (p *Pool) CloseIdle() {
	for len(p.idle) > 0 {
		p.closeIdle(len(p.idle) - 1)
	}
}

func (p *Pool) closeIdle(i int) {
	c := p.idle[i]
	p.dropIdle(i)
	c.Close()
}

// dropIdle takes a connection out of the idle ones; it is the caller's then.
func (p *Pool) dropIdle(i int) {
	p.idle[i].state = connLent
	copy(p.idle[i:], p.idle[i+1:])
	p.idle[len(p.idle)-1] = nil
	p.idle = p.idle[:len(p.idle)-1]
	p.env.Shard.GaugeAdd(p.st.Idle, -1)
}

// arm sets the timer to the first thing that can run out: the oldest idle
// connection or the oldest waiting request.
func (p *Pool) arm() {
	var at int64
	if len(p.idle) > 0 {
		at = p.idle[0].idleSince + int64(p.cfg.IdleTimeout)
	}
	for _, w := range p.waiting {
		if w.deadline != 0 && (at == 0 || w.deadline < at) {
			at = w.deadline
			break
		}
	}
	if at != 0 && (!p.timer.Armed() || at != p.timer.At()) {
		p.env.Loop.SetTimer(&p.timer, p, at)
	}
}

// HandleTimer closes what idled too long and refuses what waited too long.
func (p *Pool) HandleTimer(*eventloop.Timer) {
	now := p.env.Loop.Now()
	for len(p.idle) > 0 && now-p.idle[0].idleSince >= int64(p.cfg.IdleTimeout) {
		p.closeIdle(0)
	}
	for len(p.waiting) > 0 && p.waiting[0].deadline != 0 && now >= p.waiting[0].deadline {
		w := p.shift()
		p.env.Shard.Inc(p.st.PendingRefused)
		w.grant(nil, ErrPendingTimeout)
	}
	p.arm()
}

// nobody owns a connection between dial and its grant.
type nobody struct{}

func (nobody) Ready(eventloop.Events) {}
