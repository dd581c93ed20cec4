package server

import (
	"context"
	"os"
	"time"

	"belay/internal/systemd"
)

// stop ends serving: no new connections, replies to what is in flight with the
// announcement that the connection ends, then, after stop_time or at a second
// signal, the end of what is left.
func (s *Server) stop(signals <-chan os.Signal) {
	s.state.Store(int32(stopping))
	if !s.draining() {
		if s.cfg.Server.RefuseOnStop {
			for _, l := range s.listeners {
				s.service.unstore(l.Address, l.Sockets())
			}
			s.service.barrier()
		}
		_ = s.onAcceptors(all, stopAccepting)
		s.closeListeners()
	}
	hurry := make(chan struct{})
	ended := make(chan struct{})
	go s.hurryOn(signals, hurry, ended)
	if s.drainAll(s.cfg.Server.StopTime, hurry) {
		s.log.Info("stopped", systemd.MessageID, systemd.EventStopped, "connections_cut", 0)
	} else {
		why := "stop_time is over"
		select {
		case <-hurry:
			why = "second signal"
		default:
		}
		s.abort(why)
	}
	close(ended)
}

// hurryOn closes hurry at a second signal to stop.
func (s *Server) hurryOn(signals <-chan os.Signal, hurry chan<- struct{}, ended <-chan struct{}) {
	for {
		select {
		case sig := <-signals:
			if s.stopSignal(sig) {
				close(hurry)
				return
			}
		case <-ended:
			return
		}
	}
}

// abort cuts the connections that are left.
func (s *Server) abort(why string) {
	cut := s.limit.Active()
	_ = s.onWorkers((*worker).abort)
	s.cut.Add(cut)
	s.log.Warn("stopped", systemd.MessageID, systemd.EventStopped, "reason", why, "connections_cut", cut)
}

// end stops what still runs and closes what is open; after a failed start too.
func (s *Server) end() {
	for _, w := range s.workers {
		w.loop.Stop()
	}
	s.running.Wait()
	if s.admin != nil {
		grace := adminGrace
		if s.draining() { // nobody waits for this process
			grace = replacedAdminGrace
		}
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		if err := s.admin.Shutdown(ctx); err != nil {
			s.log.Warn("admin API", "error", err)
		}
		cancel()
	}
	s.closeListeners()
	s.closePassed()
	if s.access != nil {
		if err := s.access.Close(); err != nil {
			s.log.Error("access log", "error", err)
		}
	}
	s.leave()
}

// leave ends the process's part in the chain of generations.
func (s *Server) leave() {
	s.service.end()
	if s.node != nil {
		s.node.Close()
	}
	s.closeCredentials()
}

// adminGrace is how long an admin request may take to end at the stop, and
// replacedAdminGrace in a process that others replaced: a hot restart must not
// fail a slow scrape.
const (
	adminGrace         = 500 * time.Millisecond
	replacedAdminGrace = 5 * time.Second
)

// closeListeners closes the sockets. The file of a Unix socket goes with them,
// unless the socket lives on: in the service manager's store or a socket unit, or
// with the process that replaced this one. A child that was never main removes what
// it bound itself; the rest is its parent's.
func (s *Server) closeListeners() {
	alone := s.parent == nil || s.service.main.Load()
	s.removeFiles(func(l *boundListener) bool {
		return !s.draining() && l.Sockets() > 0 && (alone || l.Bound()) && !s.service.keeps(l.Address)
	})
	for _, l := range s.listeners {
		l.Close()
	}
}

// removeFiles removes the files of the Unix sockets that match, before they are
// closed. Those of socket units are not ours.
func (s *Server) removeFiles(match func(*boundListener) bool) {
	for _, l := range s.listeners {
		if l.manager || !match(l) {
			continue
		}
		if err := l.RemoveFile(); err != nil {
			s.log.Warn("the file of a socket that nobody has any more is left", "error", err)
		}
	}
}
