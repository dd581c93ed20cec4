// Package cluster knows the endpoints of a cluster, where they are, and which
// of them takes the next request.
package cluster

import (
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"

	"belay/internal/config"
	"belay/internal/eventloop"
)

// Cluster is one cluster, shared by all workers.
type Cluster struct {
	Config    *config.Cluster
	Endpoints []*Endpoint // by Index
}

// Endpoint is one server. Its address may change while it stays the same
// endpoint.
type Endpoint struct {
	ID      string
	Index   int
	Weight  int // 0: only what is pinned to it
	Cluster *Cluster

	// Open counts connections and Waiting requests that wait for one, over all
	// workers; both change when connections come and go, not per request.
	Open    atomic.Int64
	Waiting atomic.Int64

	cfg       *config.Endpoint
	addresses atomic.Pointer[[]eventloop.Address]
}

// New makes a cluster. Endpoints given as IP addresses or Unix sockets are there
// at once, names when Watch's resolver has found them.
func New(c *config.Cluster) *Cluster {
	x := &Cluster{Config: c, Endpoints: make([]*Endpoint, len(c.Endpoints))}
	all := make([]Endpoint, len(c.Endpoints))
	addresses := make([]eventloop.Address, len(c.Endpoints))
	lists := make([][]eventloop.Address, len(c.Endpoints))
	for i := range c.Endpoints {
		e := &all[i]
		e.cfg = &c.Endpoints[i]
		e.ID, e.Index, e.Weight, e.Cluster = e.cfg.ID, i, e.cfg.Weight, x
		if a, ok := literal(e.cfg); ok {
			addresses[i] = a
			lists[i] = addresses[i : i+1 : i+1]
			e.addresses.Store(&lists[i])
		}
		x.Endpoints[i] = e
	}
	return x
}

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

func (e *Endpoint) setAddresses(a []eventloop.Address) { e.addresses.Store(&a) }

// Addresses is where the endpoint is now; empty while its name has never been
// resolved. The slice must not be changed.
func (e *Endpoint) Addresses() []eventloop.Address {
	if a := e.addresses.Load(); a != nil {
		return *a
	}
	return nil
}

// admits is the one gate that a pinned choice and the balancer's both pass.
func (e *Endpoint) admits(pinned bool) bool {
	return (pinned || e.Weight > 0) && len(e.Addresses()) > 0
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
