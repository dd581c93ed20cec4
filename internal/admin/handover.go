package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"belay/internal/eventloop"
)

// This file is the part of a hot restart. The old process gives its Sockets to
// the new one, which takes them with ServeInherited. While both have them, one
// accepts and the other has done Pause; Resume takes it back. In the end the old
// one does Release.

// The names of the sockets that go from process to process.
const (
	SocketAdmin   = "admin"
	SocketMetrics = "metrics"
)

// Passed is a listen socket for another process.
type Passed struct {
	Name string // SocketAdmin, SocketMetrics
	// Address is what was configured. The kernel has another name for the admin
	// socket: the one that it had before it got this one; see listenUnix.
	Address eventloop.Address
	// FDs has the one descriptor, non-blocking. It stays the server's, is for
	// sending and nothing else, and valid until Release or Shutdown.
	FDs []int
}

func adminSocket(path string) Passed {
	return Passed{Name: SocketAdmin, Address: eventloop.Address{Unix: path}}
}

func metricsSocket(a netip.AddrPort) Passed {
	return Passed{Name: SocketMetrics, Address: eventloop.Address{AP: a}}
}

// Sockets are the listen sockets to pass on, in the order in which they were
// served. They are the same sockets in both processes: whoever accepts first
// has a connection.
func (s *Server) Sockets() []Passed {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Passed
	for _, x := range s.served {
		p := x.Passed
		if fd, ok := x.ln.fd(); ok && p.Name != "" {
			p.FDs = []int{fd}
			list = append(list, p)
		}
	}
	return list
}

// ServeInherited serves a socket that Sockets of another process named, with the
// Address as it is configured here. The caller's fd is closed in any case.
//
// The file of an admin socket is from now on ours to remove, as after ServeUnix.
// If the path leads to something else, or nowhere, nobody would reach this
// process: then the socket is made anew as ServeUnix does.
func (s *Server) ServeInherited(name string, fd int, at eventloop.Address) error {
	ln, bound, err := inherit(fd)
	if err != nil {
		return fmt.Errorf("inherited %s socket %s: %w", name, at, err)
	}
	switch name {
	case SocketMetrics:
		return s.serve(&served{Passed: metricsSocket(at.AP), ln: newListener(ln)})
	case SocketAdmin:
		file, err := fileOf(at.Unix, bound.Unix)
		if err != nil {
			ln.Close()
			s.log.Warn("the inherited admin socket is not the one at its path: making another", "path", at.Unix, "reason", err)
			return s.ServeUnix(at.Unix)
		}
		ln = &named{ln, net.UnixAddr{Name: at.Unix, Net: "unix"}}
		return s.serve(&served{Passed: adminSocket(at.Unix), ln: newListener(ln), file: &file})
	}
	ln.Close()
	return fmt.Errorf("inherited socket %q: there is no such name", name)
}

// inherit makes a listener of a descriptor, which it closes, and says to what
// address it was bound.
func inherit(fd int) (net.Listener, eventloop.Address, error) {
	bound, err := eventloop.ListensAt(fd)
	if err == nil {
		// os.NewFile and net.FileListener leave a descriptor as it is if it does not
		// block. Were it to block even for a moment, so would the other process's
		// accept: the flag belongs to the socket, not to the descriptor.
		err = eventloop.SetNonblock(fd)
	}
	if err != nil {
		eventloop.Close(fd)
		return nil, bound, err
	}
	f := os.NewFile(uintptr(fd), "admin")
	defer f.Close()
	ln, err := net.FileListener(f)
	return ln, bound, err
}

// fileOf is the socket file at path, if it leads to the socket that was bound as
// the name bound. Only the kernel can tell: whoever connects learns that name. It
// is not used twice, as its directory has a random one.
func fileOf(path, bound string) (socketFile, error) {
	before, err := os.Lstat(path)
	if err != nil {
		return socketFile{}, cause(err)
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err != nil {
		return socketFile{}, cause(err)
	}
	conn.Close()
	after, err := os.Lstat(path)
	if err != nil {
		return socketFile{}, cause(err)
	}
	if conn.RemoteAddr().String() != bound || !os.SameFile(before, after) {
		return socketFile{}, errors.New("another process listens there")
	}
	return socketFile{path, after}, nil
}

// Pause stops to accept without closing anything: connections wait in the kernel
// for the other process that has the sockets, or for Resume. When it returns, no
// further connection is taken here. Idle connections are closed, so that their
// clients come to the other process; requests under way are answered.
func (s *Server) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = true
	for _, x := range s.served {
		x.pause()
	}
}

// Resume accepts again, first what waits.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
	for _, x := range s.served {
		x.http.SetKeepAlivesEnabled(true)
		x.ln.resume()
	}
}

// Release closes the listeners, which live on in the other process. The file of a
// socket stays if any process listens there; one that nobody took goes. Requests
// under way are answered; Shutdown waits for them. It does not wait itself.
func (s *Server) Release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, x := range s.served {
		errs = append(errs, x.close())
		x.http.SetKeepAlivesEnabled(false)
	}
	return errors.Join(errs...)
}

// socketFile is a socket in the file system that is ours to remove.
type socketFile struct {
	path string
	info fs.FileInfo
}

// remove removes the file, unless another process has put its own there or
// listens on the same socket. Our listener must be closed before.
func (f *socketFile) remove() error {
	now, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !os.SameFile(now, f.info) || now.Mode().Type() != fs.ModeSocket || !refuses(f.path) {
		return nil
	}
	dir, err := os.MkdirTemp(filepath.Dir(f.path), ".")
	if err != nil {
		return fmt.Errorf("remove %s: %w", f.path, cause(err))
	}
	defer os.RemoveAll(dir)
	// A process that starts now takes the file for a stale one and puts its own there.
	if err := discard(f.path, filepath.Join(dir, "old"), f.info); err != nil {
		return fmt.Errorf("remove %s: %w", f.path, err)
	}
	return nil
}
