// Package server builds belay's object graph from a configuration and owns its
// life: start, serve, stop. build reads like the table of contents.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"belay/internal/accesslog"
	"belay/internal/admin"
	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/hotrestart"
	"belay/internal/httpproxy"
	"belay/internal/listener"
	"belay/internal/persistence"
	"belay/internal/stats"
	"belay/internal/systemd"
	"belay/internal/tcpproxy"
	"belay/internal/transport"
)

// Server is one running belay.
type Server struct {
	cfg     *config.Config
	version string
	log     *slog.Logger
	started time.Time

	registry *stats.Registry
	access   *accesslog.Log // nil: none
	resolver *cluster.Resolver
	clusters []*httpproxy.Cluster
	tcp      *tcpParts // nil: no TCP listener
	tls      tlsParts
	health   healthParts
	stores   map[string]*sharedTable // by config.Table.Name; of those that have a store

	keyring *persistence.Keyring          // nil: no cluster's sessions have tokens
	tables  map[string]*persistence.Table // by config.Table.Name
	keys    keyParts
	news    chan struct{} // a table has learnt something that other processes need at once

	used      map[string][]*config.Persistence // by cluster, see persistenceUsed
	tracked   map[string]tracked               // by cluster
	given     map[string]tracked               // of the parent
	clearings clearings
	toParent  *persistenceLink // of a child; the node's from Run on

	credentials int // O_PATH descriptor of the directory of credentials; -1: none

	listeners []*boundListener
	workers   []*worker
	limit     *listener.Limit
	admin     *admin.Server
	running   running

	parent  *hotrestart.Parent // of a child, also when it is main; nil: cold start
	node    *hotrestart.Node   // nil: hot restart is off
	origin  time.Time          // start of the first generation
	service service
	memory  memory
	turns   turns
	inherit inherited
	passed  []hotrestart.Group // admin sockets of the parent

	exportAll  *stats.Exporter
	exportOwn  *stats.Exporter
	handedOwn  bool // which of the two the last Deltas came from; the node's
	drainSince time.Time
	drainUntil atomic.Int64              // as uptime; 0: this process does not drain
	cut        atomic.Int64              // connections cut at the end of draining
	announced  atomic.Pointer[time.Time] // since when belayctl drain is on; nil: it is not
	announceAt *time.Time                // as the parent had it
	commands   chan func()               // for serve
	gone       <-chan struct{}           // serve's; see drained

	state atomic.Int32 // serverState
	copies
}

// running is the workers' goroutines.
type running struct {
	sync.WaitGroup
	on atomic.Bool
}

// serverState is what /ready tells.
type serverState int32

const (
	starting serverState = iota
	serving
	draining
	stopping
)

// String is the reason that /ready gives.
func (s serverState) String() string {
	return [...]string{"starting", "serving", "draining", "stopping"}[s]
}

// worker is one event loop with what it owns.
type worker struct {
	loop      *eventloop.Worker
	shard     *stats.Shard
	door      *listener.Door
	http      *httpproxy.Worker
	tcp       *tcpproxy.Worker     // nil: no TCP listener
	proxies   []proxy              // both
	acceptors []*listener.Acceptor // as Server.listeners; loop only
}

// boundListener is a listener with its sockets and its compiled plan.
type boundListener struct {
	*listener.Listener
	plan    plan
	manager bool // the sockets are those of a socket unit
	given   bool // a child has taken them and accepts; the node's
}

// TuneStart lets the heap grow freely until the server is ready, when Run sets
// it to what serving wants: collecting what a start builds and keeps is wasted.
// It returns before the configuration is loaded.
func TuneStart() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(startGC)
	}
}

// The share of garbage, in percent of the live heap, that a start and the
// serving may have. The live heap of a proxy is small.
const (
	startGC = 1000
	serveGC = 200
)

// build makes every object, obtains every socket, and runs nothing yet. Sockets
// that it binds do not listen: whoever connects still reaches a parent that
// listens on a wildcard, and not a process that may yet fail.
func (s *Server) build() error {
	s.registry = stats.NewRegistry()
	s.exportAll = stats.NewExporter(s.registry)
	s.exportOwn = stats.NewExporter(s.registry)
	s.exportOwn.Own = true
	if err := s.openAccessLog(); err != nil {
		return err
	}
	s.warnCookies()
	index := s.buildClusters()
	s.buildTCP(index)
	if err := s.takeFromParent(); err != nil {
		return err
	}
	if err := s.inheritState(); err != nil {
		return err
	}
	s.openCredentials()
	s.openStore()
	s.takeState(s.inherit.state)
	if err := s.openPersistence(); err != nil {
		return err
	}
	if err := s.buildClients(); err != nil {
		return err
	}
	s.buildHealth()
	if err := s.buildStores(); err != nil {
		return err
	}
	n := s.workerCount()
	err := s.buildListeners(index, n)
	if err == nil {
		err = s.checkCertificates()
	}
	if err != nil {
		s.closeListeners()
		return err
	}
	s.limit = &listener.Limit{Max: connectionLimit(s.cfg.Server.MaxConnections, s.pipeDescriptors())}
	s.registerOwn()
	if err := s.buildWorkers(n); err != nil {
		s.closeListeners()
		return err
	}
	if s.cfg.Admin.Socket != "" || s.cfg.Admin.MetricsAddress.IsValid() {
		s.admin = admin.New(s, s.log)
	}
	return nil
}

// workerCount is how many workers there are to be.
func (s *Server) workerCount() int {
	if n := s.cfg.Server.Workers; n > 0 {
		return n
	}
	return defaultWorkers
}

// defaultWorkers is the CPUs that this process may use, quota included; asked
// before start changes GOMAXPROCS.
var defaultWorkers = runtime.GOMAXPROCS(0)

func (s *Server) openAccessLog() error {
	c := s.cfg.AccessLog
	if c.Output == "none" {
		return nil
	}
	var lock sync.Locker // no generation writes into another's line
	if s.node != nil {
		lock = s.node.Segment().AccessLogLock()
	}
	l, err := accesslog.New(accesslog.Config{Output: c.Output, Format: c.Format, QueueSize: c.QueueSize, FlushInterval: c.FlushInterval, Lock: lock},
		func(err error) { s.log.Error("access log", "error", err) })
	if err != nil {
		return fmt.Errorf("access_log: %w", err)
	}
	s.access = l
	return nil
}

// buildClusters makes the clusters and tells where each name is.
func (s *Server) buildClusters() map[string]int {
	c := s.cfg.Server
	s.resolver = cluster.NewResolver(cluster.ResolverOptions{
		Servers: c.DNSServers, MinTTL: c.DNSMinTTL, MaxTTL: c.DNSMaxTTL, Timeout: c.DNSTimeout, Log: s.log,
		InitialWait: initialDNSWait,
	})
	index := make(map[string]int, len(s.cfg.Clusters))
	for i, cc := range s.cfg.Clusters {
		cl := cluster.New(cc)
		cl.Watch(s.resolver)
		s.clusters = append(s.clusters, httpproxy.NewCluster(cl, i, s.registry))
		index[cc.Name] = i
	}
	return index
}

// initialDNSWait is how long the start waits for the first answers: a name that
// cannot be resolved yet must not keep the others from being served.
const initialDNSWait = 2 * time.Second

func (s *Server) buildListeners(index map[string]int, workers int) error {
	var errs []error
	for _, lc := range s.cfg.Listeners {
		b, err := s.open(lc, workers)
		if err == nil {
			b.plan, err = s.newPlan(b.Config, index)
		}
		if err == nil {
			b.Gate, err = s.newGate(lc)
			b.plan.setGate(b.Gate)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, w := range b.Warnings() {
			s.log.Warn("inherited sockets differ from the configuration", "listener", lc.Name, "what", w)
		}
		s.listeners = append(s.listeners, b)
	}
	s.dropUnused()
	return errors.Join(errs...)
}

func (s *Server) buildWorkers(n int) error {
	for i := range n {
		loop, err := eventloop.New(eventloop.Options{ID: i, FreeBufferBytes: s.cfg.Server.BufferMemory})
		if err != nil {
			return fmt.Errorf("worker %d: %w", i, err)
		}
		w := &worker{loop: loop, shard: s.registry.NewShard()}
		h := transport.NewHandshakes(loop, s.cfg.Server.TLS.HandshakesPerTurn)
		w.door = listener.NewDoor(loop, w.shard, h, s.tls.limits, s.log, s.logBuffer())
		s.addProxies(w, h, n)
		for _, l := range s.listeners {
			w.acceptors = append(w.acceptors, s.newAcceptor(w, l, i, n))
		}
		s.workers = append(s.workers, w)
	}
	return nil
}

func (s *Server) newAcceptor(w *worker, l *boundListener, i, n int) *listener.Acceptor {
	var a *listener.Acceptor
	deliver := func(c listener.Client) { w.serve(a, &l.plan, c) }
	serve := func(fd int, peer netip.AddrPort) { w.door.Serve(a, l.Gate, fd, peer, deliver) }
	a = listener.NewAcceptor(l.Listener, l.For(i, n), w.loop, w.shard, l.plan.acceptStats(), s.limit, s.log, serve)
	return a
}

// connectionLimit is the bound on client connections: what the descriptor limit
// allows if each has an endpoint's connection beside it.
func connectionLimit(configured int, pipes int64) int64 {
	if configured > 0 {
		return int64(configured)
	}
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 1 << 10
	}
	return max(16, (int64(min(r.Cur, 1<<30))-ownDescriptors-pipes)/2)
}

// ownDescriptors is what belay itself may hold: sockets, logs, epoll.
const ownDescriptors = 64

// start runs everything; when it returns nil every listener accepts.
func (s *Server) start(ctx context.Context) error {
	// The control plane needs a thread beside the workers', or it waits 10 ms for
	// a slice.
	runtime.GOMAXPROCS(len(s.workers) + 1)
	s.resolver.Start(ctx)
	s.resolver.WaitInitial(ctx)
	s.watchCertificates(ctx)
	s.startHealth(ctx)
	s.startStores(ctx)
	s.watchKeyring(ctx)
	go s.keepHouse(ctx)
	if len(s.tables) > 0 && s.node != nil {
		go s.tellNews(ctx)
	}
	go trimMemory(ctx)
	for _, w := range s.workers {
		s.running.Add(1)
		go func() {
			defer s.running.Done()
			if err := w.loop.Run(); err != nil {
				s.log.Error("worker ended", "worker", w.loop.ID(), "error", err)
			}
		}()
	}
	s.running.on.Store(true)
	if s.parent != nil {
		if err := s.bindAdmin(); err != nil {
			return err
		}
		return s.commit(ctx)
	}
	if err := s.startAdmin(); err != nil {
		return err
	}
	if err := s.listen(); err != nil {
		return err
	}
	if err := s.onWorkers((*worker).accept); err != nil {
		return err
	}
	if s.node != nil {
		if err := s.node.Run(s); err != nil {
			return fmt.Errorf("hot_restart: %w", err)
		}
	}
	s.serving()
	s.service.becomeMain()
	return s.notifyReady()
}

// listen has the sockets listen that this process bound; then it must accept.
func (s *Server) listen() error {
	for _, l := range s.listeners {
		if err := l.Listen(); err != nil {
			return err
		}
	}
	return nil
}

// serving is the state from here on.
func (s *Server) serving() {
	tuneServing()
	if !s.state.CompareAndSwap(int32(starting), int32(serving)) {
		return // a child may be told to step back before it comes here
	}
	s.log.Info("ready", systemd.MessageID, systemd.EventReady, "workers", len(s.workers), "listeners", len(s.listeners), "clusters", len(s.clusters),
		"max_connections", s.limit.Max, "took", time.Since(s.started).Round(time.Microsecond))
}

func (s *Server) notifyReady() error {
	if err := s.service.notifier.Ready(s.service.statusText()); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// tuneServing ends TuneStart's licence.
func tuneServing() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(serveGC)
	}
}

func (s *Server) startAdmin() error {
	for name, at := range s.adminAddresses() {
		if err := s.serveAdmin(name, at); err != nil {
			return err
		}
	}
	return nil
}

// accept starts the worker's acceptors; on the worker.
func (w *worker) accept() error {
	for _, a := range w.acceptors {
		if err := a.Start(); err != nil {
			return fmt.Errorf("listener.%s: %w", a.Listener.Config.Name, err)
		}
	}
	return nil
}

// onWorkers runs f on every worker and waits for all.
func (s *Server) onWorkers(f func(*worker) error) error {
	errs := make(chan error, len(s.workers))
	n := 0
	for _, w := range s.workers {
		if w.loop.Post(func() { errs <- f(w) }) {
			n++
		}
	}
	var all error
	for range n {
		all = errors.Join(all, <-errs)
	}
	return all
}

// onAcceptors runs f on the acceptors of the listeners that match, each on its
// worker, and waits for all.
func (s *Server) onAcceptors(match func(*boundListener) bool, f func(*listener.Acceptor) error) error {
	return s.onWorkers(func(w *worker) error {
		var all error
		for i, a := range w.acceptors {
			if match(s.listeners[i]) {
				all = errors.Join(all, f(a))
			}
		}
		return all
	})
}
