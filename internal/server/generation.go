package server

import (
	"fmt"
	"slices"
	"time"

	"belay/internal/cluster"
	"belay/internal/eventloop"
	"belay/internal/hotrestart"
	"belay/internal/listener"
	"belay/internal/stats"
	"belay/internal/systemd"
)

// This file is what the protocol has the server do: hotrestart.Process. The
// methods are called by the node, one at a time.

// Sockets lists every listen socket, the admin API's as well.
func (s *Server) Sockets() []hotrestart.Group {
	var list []hotrestart.Group
	for _, l := range s.listeners {
		g := hotrestart.Group{Address: l.Address, Name: l.Config.Name, FDs: l.FDs(), Manager: l.manager}
		if l.manager && l.Config.Systemd != "" {
			g.Name = l.Config.Systemd
		}
		list = append(list, g)
	}
	return append(list, s.adminSockets()...)
}

// Pause stops accepting on the listeners at these addresses. The admin API goes
// on until Drain: it tells what this process knows.
func (s *Server) Pause(taken []eventloop.Address) {
	want := make(map[eventloop.Address]bool, len(taken))
	for _, a := range taken {
		want[a] = true
	}
	for _, l := range s.listeners {
		l.given = want[l.Address]
	}
	_ = s.onAcceptors((*boundListener).isGiven, stopAccepting) // stopping cannot fail
}

func (b *boundListener) isGiven() bool { return b.given }

func stopAccepting(a *listener.Acceptor) error {
	a.Stop()
	return nil
}

func all(*boundListener) bool { return true }

// Resume accepts again where Pause stopped.
func (s *Server) Resume() error {
	// A child that believed to become main may have taken sockets out of the store.
	go s.service.restore()
	return s.onAcceptors((*boundListener).isGiven, (*listener.Acceptor).Start)
}

// Renew has the loops look again at what is queued.
func (s *Server) Renew() {
	if err := s.onAcceptors(all, (*listener.Acceptor).Renew); err != nil {
		s.log.Error("listen sockets not polled anew", "error", err)
	}
	for _, l := range s.listeners {
		l.given = false
	}
}

// Drain ends this process's part: a successor is main.
func (s *Server) Drain() { s.retire((*boundListener).isDropped) }

// StepBack ends a child that will not be main.
func (s *Server) StepBack() { s.retire((*boundListener).Bound) }

func (s *Server) retire(last func(*boundListener) bool) {
	s.service.main.Store(false)
	s.service.fed.Store(false)
	s.leaveListeners(last)
	s.beginDrain()
	s.memory.drain()
}

// isDropped: the child that accepts now has not taken the sockets.
func (b *boundListener) isDropped() bool { return !b.given }

// leaveListeners closes every listen socket of a process that others replace.
// The sockets live on in them. A socket that this process is the last to have is
// accepted from until it is empty; nobody can come any more when a Unix socket's
// file has gone.
func (s *Server) leaveListeners(last func(*boundListener) bool) {
	s.releaseAdmin()
	s.removeFiles(last)
	_ = s.onAcceptors(all, stopAccepting)
	for _, l := range s.listeners {
		l.Close()
	}
}

// beginDrain has every connection end as soon as it may.
func (s *Server) beginDrain() {
	s.drainSince = time.Now()
	s.drainUntil.Store(int64(s.cfg.HotRestart.ShutdownTime + s.uptime()))
	s.state.Store(int32(draining))
	empty := make(chan struct{}, len(s.workers))
	s.onWorkers(func(w *worker) error {
		w.drain(func() { empty <- struct{}{} }, func(p proxy, empty func()) {
			p.DrainOver(s.cfg.HotRestart.DrainTime, s.cfg.HotRestart.DrainImmediate, empty)
		})
		return nil
	})
	gone := make(chan struct{})
	go func() {
		for range s.workers {
			<-empty
		}
		close(gone)
	}()
	s.commands <- func() { s.gone = gone }
	s.cutLater(s.cfg.HotRestart.ShutdownTime)
}

// uptime is a clock that nobody sets.
func (s *Server) uptime() time.Duration { return time.Since(s.started) }

// cutLater ends what is left after a time; a later call with a shorter time
// counts, one with a longer time does not.
func (s *Server) cutLater(d time.Duration) {
	at := int64(s.uptime() + d)
	if at <= s.drainUntil.Load() {
		s.drainUntil.Store(at)
	}
	time.AfterFunc(d, func() {
		if int64(s.uptime()) < s.drainUntil.Load() {
			return
		}
		if n := s.limit.Active(); n > 0 {
			s.cut.Add(n)
			s.log.Warn("time is over: connections cut", systemd.MessageID, systemd.EventConnectionsCut, "connections", n)
		}
		s.onWorkers((*worker).abort)
	})
}

// Terminate ends a draining process within a time.
func (s *Server) Terminate(within time.Duration) int64 {
	open := s.limit.Active()
	if within > 0 {
		s.onWorkers(func(w *worker) error {
			w.drain(nil, proxy.Drain)
			return nil
		})
	}
	s.cutLater(within)
	return open
}

// Connections tells of a draining process's clients.
func (s *Server) Connections() (open int64, since, until time.Time) {
	if at := s.drainUntil.Load(); at != 0 {
		since, until = s.drainSince, s.started.Add(time.Duration(at))
	}
	return s.limit.Active(), since, until
}

// drained is closed when the last connection of a draining process has ended;
// nil as long as the process does not drain.
func (s *Server) drained() <-chan struct{} { return s.gone }

func (s *Server) draining() bool { return s.drainUntil.Load() != 0 }

// Deltas is what was counted and not yet taken.
func (s *Server) Deltas(own bool) []stats.Delta {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collect()
	return s.exporter(own).Next(s.last)
}

func (s *Server) exporter(own bool) *stats.Exporter {
	s.handedOwn = own
	if own {
		return s.exportOwn
	}
	return s.exportAll
}

// DeltasTaken says that the last Deltas arrived.
func (s *Server) DeltasTaken() { s.exporter(s.handedOwn).Ack() }

// DeltasReset says that whoever took them is gone.
func (s *Server) DeltasReset() {
	s.exportOwn.Reset()
	s.exportAll.Reset()
}

// Apply adds up what another generation counted.
func (s *Server) Apply(epoch uint64, d []stats.Delta) { s.registry.Apply(epoch, d) }

// Forget says that a generation is gone.
func (s *Server) Forget(epoch uint64) { s.registry.Forget(epoch) }

// Generations lists those that counted and are not forgotten.
func (s *Server) Generations() []uint64 { return s.registry.Generations() }

// stateDNS is the owner of the resolver's answers.
const stateDNS = "dns"

// State is what the next process starts with.
func (s *Server) State() []hotrestart.Blob {
	return slices.Concat([]hotrestart.Blob{
		{Owner: stateDNS, Version: cluster.StateVersion, Data: s.resolver.State()},
		{Owner: stateDrain, Version: stateDrainVersion, Data: s.drainState()},
	}, s.persistenceState(), s.tlsState())
}

// takeState gives each blob to its owner. One that cannot read it starts fresh.
func (s *Server) takeState(blobs []hotrestart.Blob) {
	for _, b := range blobs {
		err := fmt.Errorf("this version has no such owner")
		switch b.Owner {
		case stateDNS:
			err = s.resolver.Seed(b.Version, b.Data)
		case stateDrain:
			err = s.takeDrainState(b.Version, b.Data)
		case stateTickets:
			err = s.takeTickets(b.Version, b.Data)
		case stateWarming:
			err = s.takeWarming(b.Version, b.Data)
		case stateEndpoints:
			err = cluster.TakeOver(s.clusterList(), b.Version, b.Data)
		case stateKeys:
			err = s.takeKeys(b.Version, b.Data)
		case stateTracked:
			err = s.takeTracked(b.Version, b.Data)
		}
		if err != nil {
			s.log.Warn("state of the old process not taken; its owner starts fresh", "owner", b.Owner, "version", b.Version, "error", err)
		}
	}
}

// LateState takes what may have changed since takeState: an operator's wishes, and
// the keys. What the others have, the connections and time have since made newer;
// what has come into the tables since the exchange tells. What cannot be read takeState
// has told of.
func (s *Server) LateState(blobs []hotrestart.Blob) {
	for _, b := range blobs {
		switch b.Owner {
		case stateDrain:
			if err := s.takeDrainState(b.Version, b.Data); err == nil {
				s.announce(s.announceAt, "the process before")
			}
		case stateEndpoints:
			_ = cluster.TakeWishes(s.clusterList(), b.Version, b.Data)
		case stateKeys:
			if s.keyring != nil {
				_ = s.takeKeys(b.Version, b.Data)
			}
		}
	}
}

// Headroom says whether a second process fits into memory.
func (s *Server) Headroom() (string, error) { return s.memory.check(s.cfg.HotRestart.MemoryHeadroom) }

// BeforeRelease has the manager forget the sockets that this process does not use.
func (s *Server) BeforeRelease(dropped []hotrestart.Group) {
	for _, g := range dropped {
		if !g.Manager && !g.Admin {
			s.service.unstore(g.Address, g.Total)
		}
	}
	s.service.barrier()
}

// Main tells a child that it is main.
func (s *Server) Main() {
	if err := s.inheritAdmin(); err != nil {
		s.log.Error("admin API not served", "error", err)
	}
	s.service.becomeMain()
	go s.service.tell() // it asks the node
	s.log.Info("serving", systemd.MessageID, systemd.EventReady, "workers", len(s.workers), "listeners", len(s.listeners), "clusters", len(s.clusters))
}
