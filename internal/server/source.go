package server

import (
	"os"
	"sync"
	"time"

	"belay/internal/admin"
	"belay/internal/admin/adminapi"
	"belay/internal/cluster"
	"belay/internal/eventloop"
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
	s.collect()
	return s.registry.Merge(s.last)
}

// collect replaces the copies that the workers deliver in time.
func (s *Server) collect() {
	if s.last == nil {
		s.last = make([][]uint64, len(s.workers))
	}
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
	if st == draining {
		st = serving // who asks this process did so before another took its sockets, and serves
	}
	switch {
	case st == serving && s.announced.Load() != nil:
		return false, "draining"
	case st == serving:
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
	f := admin.NewFigures(s.Snapshot())
	out := make([]adminapi.Listener, 0, len(s.listeners))
	for _, l := range s.listeners {
		name := l.Config.Name
		n := func(family string) uint64 { return f.Counter("belay_listener_"+family, name) }
		rejected := func(reason string) uint64 { return f.Counter("belay_listener_rejected_total", name, reason) }
		out = append(out, adminapi.Listener{
			Name: name, Address: l.Address.String(), Protocol: l.Config.Protocol,
			Sockets: l.Sockets(), State: s.listenerState(l), Connections: l.Active(), MaxConnections: l.Config.MaxConnections,
			Accepted: n("accepted_total"), Rejected: rejected("address") + rejected("source-limit"), Throttled: n("accept_throttled_total"),
			Requests: n("requests_total"), BadRequests: n("bad_requests_total"), NoRoute: n("no_route_total"), Denied: n("denied_total"),
			Replies: f.Replies("belay_listener_replies_total", name),
			BytesIn: n("body_received_bytes_total"), BytesOut: n("sent_bytes_total"),
			Latency: f.Latency("belay_listener_request_duration_seconds", name),
		})
	}
	return out
}

func (s *Server) listenerState(l *boundListener) string {
	switch {
	case serverState(s.state.Load()) != serving:
		return "stopped"
	case l.Throttled():
		return "throttled"
	}
	return "accepting"
}

// Clusters tells of each cluster and its endpoints.
func (s *Server) Clusters() []adminapi.Cluster {
	f, p := admin.NewFigures(s.Snapshot()), s.newPinned()
	out := make([]adminapi.Cluster, 0, len(s.clusters))
	for _, c := range s.clusters {
		name := c.Config.Name
		n := func(family string) uint64 { return f.Counter("belay_cluster_"+family, name) }
		x := adminapi.Cluster{
			Name: name, Balance: c.Config.Balance,
			Requests: n("requests_total"), NoEndpoint: n("no_endpoint_total"), Retries: n("retries_total"),
		}
		for _, e := range c.Endpoints {
			x.Endpoints = append(x.Endpoints, endpoint(name, e, f, p))
		}
		out = append(out, x)
	}
	return out
}

func endpoint(name string, e *cluster.Endpoint, f *admin.Figures, p *pinned) adminapi.Endpoint {
	counter := func(family string) uint64 { return f.Counter("belay_endpoint_"+family, name, e.ID) }
	gauge := func(family string) int64 { return f.Gauge("belay_endpoint_"+family, name, e.ID) }
	addrs := e.Addresses()
	x := adminapi.Endpoint{
		ID: e.ID, Address: e.Address(), Addresses: texts(addrs), Weight: e.Weight,
		Active: gauge("active_requests"), Pending: gauge("pending_requests"), Open: gauge("connections"), Idle: gauge("idle_connections"),
		Requests: counter("requests_total"), Errors: counter("failures_total"),
		Replies: f.Replies("belay_endpoint_replies_total", name, e.ID),
		Latency: f.Latency("belay_endpoint_first_byte_seconds", name, e.ID),
	}
	if len(addrs) == 0 {
		x.State = "unresolved"
	}
	addHealth(&x, e, p)
	return x
}

func texts(list []eventloop.Address) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}
