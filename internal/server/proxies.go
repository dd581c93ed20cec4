package server

import (
	"fmt"
	"slices"
	"time"

	"belay/internal/accesslog"
	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/httpproxy"
	"belay/internal/listener"
	"belay/internal/tcpproxy"
	"belay/internal/transport"
	"belay/internal/upstream"
)

// proxy is one worker's share of a protocol: what the server needs of it once
// connections are served. All is called on the worker.
type proxy interface {
	// Drain has the connections end as soon as the protocol allows, and
	// DrainOver within d, if it can be told. empty, if not nil, is called once,
	// when none is left.
	Drain(empty func())
	DrainOver(d time.Duration, immediate bool, empty func())
	// Announce has connections announce that they end, while all else goes on.
	Announce(on bool, d time.Duration, immediate bool)
	// Abort ends every connection at once.
	Abort()
	Connections() int
	// Shed gives up idle connections to an endpoint for which others wait.
	Shed(cluster, endpoint int)
}

// drain calls f with each proxy and a function for when it is empty; empty is
// called when all are.
func (w *worker) drain(empty func(), f func(p proxy, empty func())) {
	left := len(w.proxies)
	for _, p := range w.proxies {
		f(p, func() {
			if left--; left == 0 && empty != nil {
				w.settle(empty)
			}
		})
	}
}

// settle calls empty when nobody is at the door either, and no closed connection
// has bytes left for its peer. Who came in meanwhile has the proxies drain again.
func (w *worker) settle(empty func()) {
	if !w.door.Quiet(func() { w.settle(empty) }) {
		return
	}
	for _, p := range w.proxies {
		if p.Connections() > 0 {
			w.drain(empty, proxy.Drain)
			return
		}
	}
	empty()
}

// abort ends every connection of the worker.
func (w *worker) abort() error {
	w.door.Abort()
	for _, p := range w.proxies {
		p.Abort()
	}
	return nil
}

// plan is how the connections of a listener are served: one of the two.
type plan struct {
	http *httpproxy.Plan
	tcp  *tcpproxy.Plan
}

func (s *Server) newPlan(l *config.Listener, index map[string]int) (p plan, err error) {
	if l.Protocol == config.ProtocolTCP {
		if err := s.pinTCP(l, index); err != nil {
			return p, fmt.Errorf("listener.%s: %w", l.Name, err)
		}
		p.tcp, err = tcpproxy.NewPlan(l, index, s.registry)
	} else {
		p.http, err = httpproxy.NewPlan(l, s.clusters, index, s.sessions(), s.registry)
	}
	return p, err
}

func (p *plan) setGate(g *listener.Gate) {
	if p.http != nil {
		p.http.Gate = g
	}
}

func (p *plan) acceptStats() listener.Stats {
	if p.tcp != nil {
		return p.tcp.Stats.Accept
	}
	return p.http.Stats.Accept
}

// serve takes over a connection that came through the door.
func (w *worker) serve(a *listener.Acceptor, p *plan, c listener.Client) {
	if p.tcp != nil {
		w.tcp.Serve(a, p.tcp, c)
		return
	}
	w.http.Serve(a, p.http, c)
}

// tcpParts is what all workers share of the TCP proxy.
type tcpParts struct {
	clusters []*tcpproxy.Cluster // as Server.clusters; nil where no TCP listener leads
	stats    tcpproxy.Stats
}

// buildTCP registers what the TCP listeners need; nil if there is none.
func (s *Server) buildTCP(index map[string]int) {
	for _, l := range s.cfg.Listeners {
		if l.Protocol != config.ProtocolTCP {
			continue
		}
		if s.tcp == nil {
			s.tcp = &tcpParts{clusters: make([]*tcpproxy.Cluster, len(s.clusters)), stats: tcpproxy.NewStats(s.registry)}
		}
		for _, name := range leadsTo(l) {
			i := index[name]
			if s.tcp.clusters[i] == nil {
				s.tcp.clusters[i] = tcpproxy.NewCluster(s.clusters[i].Cluster, i, s.registry)
			}
		}
	}
}

// pinTCP gives the clusters of a TCP listener their stick tables, which are there
// only by now.
func (s *Server) pinTCP(l *config.Listener, index map[string]int) error {
	for _, name := range leadsTo(l) {
		if err := s.tcp.clusters[index[name]].Pin(s.tables, s.registry); err != nil {
			return err
		}
	}
	return nil
}

// sticksToSNI reports whether a cluster of a TCP listener goes by the name that the
// client asks for.
func (s *Server) sticksToSNI(l *config.Listener) bool {
	bySNI := func(list []config.HashOn) bool {
		return slices.ContainsFunc(list, func(h config.HashOn) bool { return h.SNI })
	}
	names := leadsTo(l)
	return l.Protocol == config.ProtocolTCP && slices.ContainsFunc(s.cfg.Clusters, func(c *config.Cluster) bool {
		return slices.Contains(names, c.Name) && (bySNI(c.Hash.On) || c.Persistence != nil && c.Persistence.Table != nil && bySNI(c.Persistence.Table.Key))
	})
}

// leadsTo are the clusters of a TCP listener.
func leadsTo(l *config.Listener) (names []string) {
	for _, wc := range l.Clusters {
		names = append(names, wc.Cluster)
	}
	for _, c := range l.Chains {
		if c.Cluster != "" {
			names = append(names, c.Cluster)
		}
	}
	return names
}

// addProxies makes the worker's proxies; it is one of n.
func (s *Server) addProxies(w *worker, h *transport.Handshakes, n int) {
	i := w.loop.ID()
	env := &upstream.Env{Loop: w.loop, Shard: w.shard, Poke: s.poker(i), Handshakes: h}
	secure := s.workerTLS()
	w.http = httpproxy.NewWorker(env, s.log, s.logBuffer(), s.clusters, secure)
	w.proxies = append(w.proxies, w.http)
	if s.tcp == nil {
		return
	}
	w.tcp = tcpproxy.NewWorker(env, tcpproxy.Options{
		Log: s.log, Access: s.logBuffer(), Clusters: s.tcp.clusters, TLS: secure,
		Pipes: (s.cfg.Server.SplicePipes + n - 1) / n, PipeSize: s.cfg.Server.SplicePipeSize, Stats: s.tcp.stats,
	})
	w.proxies = append(w.proxies, w.tcp)
}

func (s *Server) logBuffer() *accesslog.Buffer {
	if s.access == nil {
		return nil
	}
	return s.access.Buffer()
}

// poker has the others give up idle connections to an endpoint for which a
// request waits in a proxy of worker i: the other workers, and the worker's other
// proxies. It posts also to the worker itself, which may be amid a change.
func (s *Server) poker(i int) func(*cluster.Endpoint) {
	return func(e *cluster.Endpoint) {
		ci := -1
		for k, c := range s.clusters {
			if c.Cluster == e.Cluster {
				ci = k
				break
			}
		}
		for k, w := range s.workers {
			if ci < 0 || k == i && len(w.proxies) == 1 {
				continue
			}
			w.loop.Post(func() {
				for _, p := range w.proxies {
					p.Shed(ci, e.Index)
				}
			})
		}
	}
}

// pipeDescriptors is what the pipes for splice(2) may hold of the descriptor limit.
func (s *Server) pipeDescriptors() int64 {
	if s.tcp == nil {
		return 0
	}
	return 2 * int64(s.cfg.Server.SplicePipes)
}
