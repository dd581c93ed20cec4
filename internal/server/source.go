package server

import (
	"os"
	"sync"
	"time"

	"belay/internal/admin/adminapi"
	"belay/internal/eventloop"
	"belay/internal/httpproxy"
	"belay/internal/stats"
)

// copies holds the last copy of every worker's shard, for a worker that does
// not answer in time.
type copies struct {
	mu   sync.Mutex
	last [][]uint64
}

// snapshotWait is how long a busy worker may take to copy its shard.
const snapshotWait = time.Second

// Snapshot merges the statistics of all workers. Each copies its own shard
// between two turns, so the data path pays nothing for being watched.
func (s *Server) Snapshot() *stats.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = make([][]uint64, len(s.workers))
	}
	s.collect()
	return s.registry.Merge(s.last)
}

// collect replaces the copies that the workers deliver in time.
func (s *Server) collect() {
	type part struct {
		worker int
		values []uint64
	}
	parts := make(chan part, len(s.workers))
	wanted := 0
	for i, w := range s.workers {
		if w.loop.Post(func() { parts <- part{i, w.shard.CopyTo(nil)} }) {
			wanted++
		}
	}
	timeout := time.NewTimer(snapshotWait)
	defer timeout.Stop()
	for ; wanted > 0; wanted-- {
		select {
		case p := <-parts:
			s.last[p.worker] = p.values
		case <-timeout.C:
			return
		}
	}
}

// Ready says whether the server serves, and if not why.
func (s *Server) Ready() (bool, string) {
	st := serverState(s.state.Load())
	if st == serving {
		return true, "ready"
	}
	return false, st.String()
}

// Config is the configuration in effect.
func (s *Server) Config() any { return s.cfg }

// Status is the server as a whole.
func (s *Server) Status() adminapi.Status {
	snap := s.Snapshot()
	return adminapi.Status{
		Version: s.version, PID: os.Getpid(), State: serverState(s.state.Load()).String(),
		Started: s.started, Workers: len(s.workers),
		Connections: s.limit.Active(), MaxConnections: s.limit.Max,
		Accepted: uint64(snap.Sum("belay_listener_accepted_total")), Requests: uint64(snap.Sum("belay_listener_requests_total")),
		ConfigFiles: s.cfg.Files,
	}
}

// Listeners tells of each listener.
func (s *Server) Listeners() []adminapi.Listener {
	v := newView(s.Snapshot(), "listener")
	out := make([]adminapi.Listener, 0, len(s.listeners))
	for _, l := range s.listeners {
		n := func(family string) uint64 { return uint64(v.sum("belay_listener_"+family, l.Config.Name)) }
		state := "accepting"
		switch {
		case serverState(s.state.Load()) != serving:
			state = "stopped"
		case l.Throttled():
			state = "throttled"
		}
		out = append(out, adminapi.Listener{
			Name: l.Config.Name, Address: l.Address.String(), Protocol: l.Config.Protocol,
			Sockets: l.Sockets(), State: state, Connections: l.Active(), MaxConnections: l.Config.MaxConnections,
			Accepted: n("accepted_total"), Rejected: n("rejected_total"), Throttled: n("accept_throttled_total"),
			Requests: n("requests_total"), BadRequests: n("bad_requests_total"), NoRoute: n("no_route_total"), Denied: n("denied_total"),
			Replies: v.replies("belay_listener_replies_total", l.Config.Name),
			BytesIn: n("body_received_bytes_total"), BytesOut: n("sent_bytes_total"),
			Latency: v.latency("belay_listener_request_duration_seconds", l.Config.Name),
		})
	}
	return out
}

// Clusters tells of each cluster and its endpoints.
func (s *Server) Clusters() []adminapi.Cluster {
	snap := s.Snapshot()
	v, ev := newView(snap, "cluster"), newView(snap, "cluster", "endpoint")
	out := make([]adminapi.Cluster, 0, len(s.clusters))
	for _, c := range s.clusters {
		name := c.Config.Name
		n := func(family string) uint64 { return uint64(v.sum("belay_cluster_"+family, name)) }
		x := adminapi.Cluster{
			Name: name, Balance: c.Config.Balance,
			Requests: n("requests_total"), NoEndpoint: n("no_endpoint_total"), Retries: n("retries_total"),
		}
		for i := range c.Endpoints {
			x.Endpoints = append(x.Endpoints, endpoint(c, i, ev))
		}
		x.Sum()
		out = append(out, x)
	}
	return out
}

func endpoint(c *httpproxy.Cluster, i int, v *view) adminapi.Endpoint {
	e := c.Endpoints[i]
	key := []string{c.Config.Name, e.ID}
	n := func(family string) float64 { return v.sum("belay_endpoint_"+family, key...) }
	state := adminapi.StateUp
	addrs := e.Addresses()
	switch {
	case len(addrs) == 0:
		state = "unresolved"
	case e.Weight == 0:
		state = "disabled"
	}
	return adminapi.Endpoint{
		ID: e.ID, Address: e.Address(), Addresses: texts(addrs), Weight: e.Weight, State: state,
		Active: int64(n("active_requests")), Pending: int64(n("pending_requests")),
		Open: int64(n("connections")), Idle: int64(n("idle_connections")),
		Requests: uint64(n("requests_total")), Errors: uint64(n("failures_total")),
		Replies: v.replies("belay_endpoint_replies_total", key...),
		Latency: v.latency("belay_endpoint_first_byte_seconds", key...),
	}
}

func texts(list []eventloop.Address) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}
