package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/hotrestart"
	"belay/internal/listener"
	"belay/internal/systemd"
)

// inherited are sockets that the process did not bind: its parent's, the store's
// or those of socket units.
type inherited struct {
	groups map[eventloop.Address]*inheritedGroup
	named  map[string][]eventloop.Address // of socket units, by FileDescriptorName=
	ports  map[uint16]bool                // on which a parent listens
	state  []hotrestart.Blob
}

type inheritedGroup struct {
	hotrestart.Group
	names []string // in the service manager's store or socket unit
}

func (in *inherited) add(a eventloop.Address, fd int, name string, manager bool) {
	g := in.groups[a]
	if g == nil {
		g = &inheritedGroup{Group: hotrestart.Group{Address: a, Manager: manager}}
		in.groups[a] = g
	}
	g.FDs = append(g.FDs, fd)
	g.names = append(g.names, name)
}

// takeFromParent takes the sockets of the parent, or, in a cold start,
// what the service manager passes.
func (s *Server) takeFromParent() error {
	s.inherit = inherited{groups: make(map[eventloop.Address]*inheritedGroup), named: make(map[string][]eventloop.Address), ports: make(map[uint16]bool)}
	if s.parent == nil {
		return s.takeFromManager()
	}
	groups, err := s.parent.Sockets(s.wanted(), s.activationNames())
	if err != nil {
		return err
	}
	for _, g := range groups {
		if s.isAdmin(g.Address) != g.Admin {
			s.passed = append(s.passed, g) // to close it
			return fmt.Errorf("%s: the admin API and listener.* cannot change places in one restart", g.Address)
		}
		if g.Admin {
			s.passed = append(s.passed, g)
			continue
		}
		s.inherit.groups[g.Address] = &inheritedGroup{Group: g, names: []string{g.Name}}
		if g.Manager {
			s.inherit.named[g.Name] = append(s.inherit.named[g.Name], g.Address)
		}
		s.inherit.ports[g.Address.AP.Port()] = true
	}
	for _, g := range s.parent.Others() {
		s.inherit.ports[g.Address.AP.Port()] = true
	}
	return nil
}

// inheritState gets what the parent knows and this process would have to learn;
// takeState gives it to whom it concerns.
func (s *Server) inheritState() error {
	if s.parent == nil {
		return nil
	}
	var err error
	s.inherit.state, s.credentials, err = s.parent.State()
	return err
}

// wanted are the addresses of this configuration.
func (s *Server) wanted() (list []eventloop.Address) {
	for _, l := range s.cfg.Listeners {
		if at := configured(l); at != (eventloop.Address{}) {
			list = append(list, at)
		}
	}
	for _, at := range s.adminAddresses() {
		list = append(list, at)
	}
	return list
}

func (s *Server) activationNames() (list []string) {
	for _, l := range s.cfg.Listeners {
		if l.Systemd != "" {
			list = append(list, l.Systemd)
		}
	}
	return list
}

// takeFromManager sorts what came by LISTEN_FDS: never by order, which differs
// between versions, always by name and address.
func (s *Server) takeFromManager() error {
	socks, err := systemd.Sockets()
	if err != nil {
		return fmt.Errorf("sockets of the service manager: %w", err)
	}
	for _, x := range socks {
		a, err := eventloop.ListensAt(x.FD)
		if err != nil {
			s.log.Warn("descriptor of the service manager not used", "name", x.Name, "error", err)
			eventloop.Close(x.FD)
			continue
		}
		own := isStored(x.Name)
		s.inherit.add(a, x.FD, x.Name, !own)
		if !own {
			s.inherit.named[x.Name] = append(s.inherit.named[x.Name], a)
		}
	}
	return nil
}

// open makes a listener of inherited sockets, or binds.
func (s *Server) open(c *config.Listener, workers int) (*boundListener, error) {
	at := configured(c)
	if c.Systemd != "" {
		named, err := s.activated(c, at)
		if err != nil {
			return nil, err
		}
		at = named
		known := *c // what follows looks for the address where it is configured
		known.Address, known.Unix = at.AP, at.Unix
		c = &known
	}
	for _, l := range s.listeners {
		if l.Address == at {
			return nil, fmt.Errorf("listener.%s: listener.%s has the socket at %s already", c.Name, l.Config.Name, at)
		}
	}
	var fds []int
	g := s.inherit.groups[at]
	if g != nil {
		delete(s.inherit.groups, at)
		fds = g.FDs
	}
	probe := !s.inherit.ports[at.AP.Port()]
	l, err := listener.Open(c, workers, fds, probe)
	if len(fds) > 0 && errors.Is(err, fs.ErrNotExist) && !g.Manager { // the socket's file has gone: nobody reaches it
		l, err = listener.Open(c, workers, nil, probe)
	}
	if err != nil {
		return nil, err
	}
	l.Address = at
	return &boundListener{Listener: l, manager: g != nil && g.Manager}, nil
}

// configured is the address as the kernel will tell it; zero if only a socket
// unit knows it.
func configured(c *config.Listener) eventloop.Address {
	return eventloop.Address{AP: c.Address, Unix: c.Unix}.Canonical()
}

// activated is the address of the socket that a socket unit passes under the
// listener's name.
func (s *Server) activated(c *config.Listener, at eventloop.Address) (eventloop.Address, error) {
	var zero eventloop.Address
	list := s.inherit.named[c.Systemd]
	switch {
	case len(list) == 0:
		return zero, fmt.Errorf("listener.%s.systemd: no socket unit passes a socket with FileDescriptorName=%s", c.Name, c.Systemd)
	case at != zero:
		for _, a := range list {
			if a == at {
				return a, nil
			}
		}
		return zero, fmt.Errorf("listener.%s: the socket unit's %s listens on %s, not on %s", c.Name, c.Systemd, list[0], at)
	}
	for _, a := range list[1:] {
		if a != list[0] {
			return zero, fmt.Errorf("listener.%s.systemd: the sockets named %s listen on %s and %s: give an address too", c.Name, c.Systemd, list[0], a)
		}
	}
	return list[0], nil
}

// dropUnused closes what was inherited and no listener wants. What is in the
// manager's store is taken out first: while it is there, the port stays open.
func (s *Server) dropUnused() {
	removed := false
	for a, g := range s.inherit.groups {
		switch {
		case s.parent != nil: // the parent has its own, and is asked for them later
		case g.Manager:
			s.log.Warn("a socket unit passes a socket that no listener wants", "name", g.names[0], "address", a)
		default:
			s.service.forget(g.names)
			removed = true
		}
	}
	if removed {
		s.service.barrier()
	}
	for _, g := range s.inherit.groups {
		for _, fd := range g.FDs {
			eventloop.Close(fd)
		}
	}
	s.inherit = inherited{}
}

// commit is a child's way to accept: listen, register, have the parent let go, look
// again, prove it.
func (s *Server) commit(ctx context.Context) error {
	if err := s.parent.Fetch(s.toParent); err != nil { // what has come since the first time
		return fmt.Errorf("tables of the old process: %w", err)
	}
	if err := s.node.Run(s); err != nil {
		return err
	}
	hotrestart.Fault("child.built")
	err := s.listen()
	if err == nil {
		s.parent.Accepting()
		err = s.onWorkers((*worker).accept)
	}
	if err == nil {
		err = s.parent.Commit()
	}
	if err != nil {
		// Who was accepted meanwhile is served to the end all the same.
		s.abandon()
		return err
	}
	s.service.fed.Store(true)
	err = s.onAcceptors(all, (*listener.Acceptor).Renew)
	s.serving()
	if s.announceAt != nil {
		s.announce(s.announceAt, "the process before")
	}
	go func() { s.parent.Probed(errors.Join(err, s.probe(ctx))) }()
	return nil
}

// abandon ends a child that could not commit.
func (s *Server) abandon() {
	s.removeFiles((*boundListener).Bound)
	_ = s.onAcceptors(all, stopAccepting)
	for _, l := range s.listeners {
		l.Close()
	}
	s.drainAll(s.cfg.Server.StopTime, nil)
}

// probe connects to every listener. One that answers nobody counts only if it
// accepted nobody else either, and one that cannot be reached from here is good.
func (s *Server) probe(ctx context.Context) error {
	limit := max(s.cfg.HotRestart.CallTime/2, 2*s.cfg.HotRestart.Heartbeat)
	errs := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		go func() {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			others, err := l.Probe(ctx)
			switch {
			case errors.Is(err, listener.ErrNotProbed):
				s.log.Warn("whether a listener accepts is not known", "error", err)
				err = nil
			case others > 0 || l.Throttled(): // at its limit it accepts nobody
				err = nil
			}
			errs <- err
		}()
	}
	var all error
	for range s.listeners {
		all = errors.Join(all, <-errs)
	}
	return all
}

// doorGrace is how long a handshake may still take in a process that stops.
const doorGrace = 500 * time.Millisecond

// drainAll has every worker drain and waits for that, or for the time.
func (s *Server) drainAll(limit time.Duration, hurry <-chan struct{}) bool {
	empty := make(chan struct{}, len(s.workers))
	_ = s.onWorkers(func(w *worker) error {
		w.door.Hasten(doorGrace)
		w.drain(func() { empty <- struct{}{} }, proxy.Drain)
		return nil
	})
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for range s.workers {
		select {
		case <-empty:
		case <-deadline.C:
			return false
		case <-hurry:
			return false
		}
	}
	return true
}
