package server

import (
	"errors"

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
		list = append(list, hotrestart.Group{Address: p.Address.Canonical(), Name: p.Name, FDs: p.FDs})
	}
	return list
}

// inheritAdmin serves the admin API of a child that is main now: on the parent's
// sockets where the address is the same, on its own elsewhere.
func (s *Server) inheritAdmin() error {
	var all error
	for name, at := range s.adminAddresses() {
		all = errors.Join(all, s.serveAdmin(name, at))
	}
	s.closePassed()
	return all
}

func (s *Server) serveAdmin(name string, at eventloop.Address) error {
	for i, g := range s.passed {
		if g.Name == name && g.Address == at && len(g.FDs) > 0 {
			fd := g.FDs[0]
			s.passed[i].FDs = g.FDs[1:]
			return s.admin.ServeInherited(name, fd, at)
		}
	}
	if name == admin.SocketMetrics {
		return s.admin.ServeMetrics(at.AP)
	}
	return s.admin.ServeUnix(at.Unix)
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
