// Package cluster knows the endpoints of a cluster, where they are, and which
// of them takes the next request.
package cluster

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/persistence"
)

// Cluster is one cluster, shared by all workers.
type Cluster struct {
	Config    *config.Cluster
	Endpoints []*Endpoint // by Index

	// Notice, if not nil, is told of each change of an endpoint's state, on the
	// goroutine that made it. Set before the first.
	Notice func(e *Endpoint, from, to State)
	// Suspects are the endpoints that had Outlier.Consecutive errors in a row.
	Suspects chan *Endpoint
	// Sessions counts the pinned sessions of the last max_idle; nil: nobody does.
	// Its keys are those of persistence.Token.Session.
	Sessions *persistence.Table

	keys    map[uint64]*Endpoint // by Endpoint.Key.ID
	mu      sync.Mutex           // guards condition of all endpoints and the making of views
	current atomic.Pointer[view]
	ramps   atomic.Bool // an endpoint is in its slow start
	hashing hashing     // nil: balance does not hash
	clock   func() time.Time

	// Active counts requests under way over all workers, if max_requests limits them.
	Active atomic.Int64
}

// Endpoint is one server. Its address may change while it stays the same
// endpoint.
type Endpoint struct {
	ID      string
	Index   int
	Weight  int // 0: only what is pinned to it
	Cluster *Cluster
	// Key is what tokens and tables call it.
	Key      persistence.Endpoint
	Priority int

	// Open counts connections and Waiting requests that wait for one, over all
	// workers; both change when connections come and go, not per request.
	Open    atomic.Int64
	Waiting atomic.Int64

	cfg       *config.Endpoint
	addresses atomic.Pointer[[]eventloop.Address]
	state     atomic.Uint32 // State
	errors    atomic.Uint32 // in a row
	away      atomic.Int64  // since when it could not be reached, seconds since 1970; 0: it can
	good, bad atomic.Uint64 // results, if their rate is judged
	is        condition
}

// New makes a cluster. Endpoints given as IP addresses or Unix sockets are there
// at once, names when Watch's resolver has found them.
func New(c *config.Cluster) *Cluster {
	x := &Cluster{
		Config: c, Endpoints: make([]*Endpoint, len(c.Endpoints)), Suspects: make(chan *Endpoint, 16),
		keys: make(map[uint64]*Endpoint, len(c.Endpoints)), clock: time.Now,
	}
	all := make([]Endpoint, len(c.Endpoints))
	addresses := make([]eventloop.Address, len(c.Endpoints))
	lists := make([][]eventloop.Address, len(c.Endpoints))
	for i := range c.Endpoints {
		e := &all[i]
		e.cfg = &c.Endpoints[i]
		e.ID, e.Index, e.Weight, e.Cluster, e.Priority = e.cfg.ID, i, e.cfg.Weight, x, e.cfg.Priority
		e.Key = persistence.Endpoint{ID: persistence.EndpointID(c.Name, e.ID), Generation: e.cfg.Generation}
		x.keys[e.Key.ID] = e
		if a, ok := literal(e.cfg); ok {
			addresses[i] = a
			lists[i] = addresses[i : i+1 : i+1]
			e.addresses.Store(&lists[i])
		}
		x.Endpoints[i] = e
	}
	x.hashing = newHashing(c)
	x.publish(x.now())
	return x
}

func (c *Cluster) now() time.Time { return c.clock() }

// literal is the address of an endpoint that needs no resolving.
func literal(e *config.Endpoint) (eventloop.Address, bool) {
	if e.Unix != "" {
		return eventloop.Address{Unix: e.Unix}, true
	}
	ip, err := netip.ParseAddr(e.Host)
	if err != nil {
		return eventloop.Address{}, false
	}
	return eventloop.Address{AP: netip.AddrPortFrom(ip, e.Port)}, true
}

// Watch has r keep the addresses of the cluster's names.
func (c *Cluster) Watch(r *Resolver) {
	for _, e := range c.Endpoints {
		if e.addresses.Load() == nil {
			r.Watch(e.cfg.Host, e.cfg.Port, e.setAddresses)
		}
	}
}

func (e *Endpoint) setAddresses(a []eventloop.Address) {
	c := e.Cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	known := len(e.Addresses()) > 0
	e.addresses.Store(&a)
	if known != (len(a) > 0) {
		c.publish(c.now())
	}
}

// Addresses is where the endpoint is now; empty while its name has never been
// resolved. The slice must not be changed.
func (e *Endpoint) Addresses() []eventloop.Address {
	if a := e.addresses.Load(); a != nil {
		return *a
	}
	return nil
}

// AdmitsPinned reports whether the endpoint can take a request whose session is
// there. In panic health is not asked for, or each request would move the session.
func (e *Endpoint) AdmitsPinned() bool {
	s := e.State()
	return (s < Unhealthy || s == Unhealthy && e.Cluster.current.Load().panics) && len(e.Addresses()) > 0
}

// MaxConnections is the limit on connections to the endpoint over all workers; 0:
// none.
func (e *Endpoint) MaxConnections() int {
	if n := e.cfg.MaxConnections; n > 0 {
		return n
	}
	return e.Cluster.Config.MaxConnections
}

// Host is the name or address in the endpoint's address; "" for a Unix socket.
func (e *Endpoint) Host() string { return e.cfg.Host }

// Address is where the endpoint is, as the configuration says it.
func (e *Endpoint) Address() string {
	if e.cfg.Unix != "" {
		return "unix:" + e.cfg.Unix
	}
	return net.JoinHostPort(e.cfg.Host, strconv.Itoa(int(e.cfg.Port)))
}
