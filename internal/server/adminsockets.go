package server

import (
	"errors"
	"fmt"

	"belay/internal/admin"
	"belay/internal/eventloop"
	"belay/internal/hotrestart"
)

// adminAddresses are where this configuration has the admin API, by the names of
// its sockets.
func (s *Server) adminAddresses() map[string]eventloop.Address {
	list := make(map[string]eventloop.Address, 2)
	if p := s.cfg.Admin.Socket; p != "" {
		list[admin.SocketAdmin] = eventloop.Address{Unix: p}
	}
	if a := s.cfg.Admin.MetricsAddress; a.IsValid() {
		list[admin.SocketMetrics] = eventloop.Address{AP: a}.Canonical()
	}
	return list
}

func (s *Server) isAdmin(a eventloop.Address) bool {
	for _, x := range s.adminAddresses() {
		if x == a {
			return true
		}
	}
	return false
}

// adminSockets are the admin API's listen sockets.
func (s *Server) adminSockets() (list []hotrestart.Group) {
	if s.admin == nil {
		return nil
	}
	for _, p := range s.admin.Sockets() {
		list = append(list, hotrestart.Group{Address: p.Address.Canonical(), Name: p.Name, FDs: p.FDs, Admin: true})
	}
	return list
}

// bindAdmin binds what a child's admin API has and its parent does not, so that a
// restart to an address that cannot be had fails. Who connects is answered by the
// main process, which this one is to be.
func (s *Server) bindAdmin() error {
	if s.admin == nil {
		return nil
	}
	s.admin.Pause()
	for name, at := range s.adminAddresses() {
		if s.passedAdmin(name, at) != nil {
			continue
		}
		if err := s.serveAdmin(name, at); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) serveAdmin(name string, at eventloop.Address) error {
	if name == admin.SocketMetrics {
		if err := s.admin.ServeMetrics(at.AP); err != nil {
			return fmt.Errorf("admin.metrics_address: %w", err)
		}
		return nil
	}
	if err := s.admin.ServeUnix(at.Unix); err != nil {
		return fmt.Errorf("admin.socket: %w", err)
	}
	return nil
}

// passedAdmin is the parent's socket for an address; nil: it has none.
func (s *Server) passedAdmin(name string, at eventloop.Address) *hotrestart.Group {
	for i, g := range s.passed {
		if g.Admin && g.Name == name && g.Address == at && len(g.FDs) > 0 {
			return &s.passed[i]
		}
	}
	return nil
}

// inheritAdmin serves the admin API of a child that is main now.
func (s *Server) inheritAdmin() error {
	if s.admin == nil {
		return nil
	}
	var all error
	for name, at := range s.adminAddresses() {
		if g := s.passedAdmin(name, at); g != nil {
			fd := g.FDs[0]
			g.FDs = g.FDs[1:]
			all = errors.Join(all, s.admin.ServeInherited(name, fd, at))
		}
	}
	s.closePassed()
	s.admin.Resume()
	return all
}

// closePassed closes what nobody served.
func (s *Server) closePassed() {
	for _, g := range s.passed {
		for _, fd := range g.FDs {
			eventloop.Close(fd)
		}
	}
	s.passed = nil
}

// releaseAdmin lets go of the admin API's sockets; the files stay.
func (s *Server) releaseAdmin() {
	if s.admin == nil {
		return
	}
	s.admin.Pause()
	if err := s.admin.Release(); err != nil {
		s.log.Warn("admin API", "error", err)
	}
}
