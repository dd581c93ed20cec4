package server

import (
	"context"
	"os"
	"time"
)

// stop ends serving: no new connections, replies to what is in flight with the
// announcement that the connection ends, then, after stop_time or at a second
// signal, the end of what is left.
func (s *Server) stop(signals <-chan os.Signal) {
	s.state.Store(int32(stopping))
	s.onWorkers(func(w *worker) error {
		for _, a := range w.acceptors {
			a.Stop()
		}
		return nil
	})
	s.closeListeners()
	empty := make(chan struct{}, len(s.workers))
	s.onWorkers(func(w *worker) error {
		w.proxy.Drain(func() { empty <- struct{}{} })
		return nil
	})
	deadline := time.NewTimer(s.cfg.Server.StopTime)
	defer deadline.Stop()
	for left := len(s.workers); left > 0; {
		select {
		case <-empty:
			left--
		case <-deadline.C:
			s.abort("stop_time is over")
			return
		case sig := <-signals:
			if !s.stopSignal(sig) {
				continue
			}
			s.abort("second signal")
			return
		}
	}
	s.log.Info("stopped", "connections_cut", 0)
}

// abort cuts the connections that are left.
func (s *Server) abort(why string) {
	cut := s.limit.Active()
	s.onWorkers(func(w *worker) error {
		w.proxy.Abort()
		return nil
	})
	s.log.Warn("stopped", "reason", why, "connections_cut", cut)
}

// end stops what still runs and closes what is open; after a failed start too.
func (s *Server) end() {
	for _, w := range s.workers {
		w.loop.Stop()
	}
	s.running.Wait()
	if s.admin != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminGrace)
		s.admin.Shutdown(ctx)
		cancel()
	}
	s.closeListeners()
	if s.access != nil {
		s.access.Close()
	}
}

// adminGrace is how long an admin request may take to end at the stop.
const adminGrace = 500 * time.Millisecond

func (s *Server) closeListeners() {
	for _, l := range s.listeners {
		open := l.Sockets() > 0
		l.Close()
		if p := l.Config.Unix; open && p != "" && p[0] != '@' {
			os.Remove(p)
		}
	}
}
