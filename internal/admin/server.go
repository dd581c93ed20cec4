// Package admin serves the admin API: what belayd is doing, as text and JSON,
// over HTTP on a Unix socket of mode 0600, and its metrics over TCP if wanted.
// It only tells; nothing can be changed through it.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"belay/internal/admin/adminapi"
	"belay/internal/stats"
)

// Source is what the API tells of. Its methods are called from several
// goroutines at once; what they return must not change afterwards.
type Source interface {
	// Ready says whether the daemon serves, and its state or why it does not.
	Ready() (bool, string)
	// Snapshot is all statistics of now.
	Snapshot() *stats.Snapshot
	// Listeners are sorted by name, their latencies with buckets.
	Listeners() []adminapi.Listener
	// Clusters are sorted by name, their endpoints' latencies with buckets. The
	// sums over endpoints need not be filled: the API does.
	Clusters() []adminapi.Cluster
	// Config is the configuration in effect: a *config.Config, which is shown as
	// belay.toml would have it, or what encoding/json can write.
	Config() any
	// Status is the daemon as a whole. Uptime is filled from Started if 0.
	Status() adminapi.Status
}

// The limits of every admin connection. A client is a person, a script or a
// scraper beside us: whoever is slower or bigger is something else.
const (
	maxConnections = 64 // per listener; more wait in the backlog
	maxHeaderBytes = 8 << 10
	headTimeout    = 5 * time.Second
	replyTimeout   = 30 * time.Second // whole exchange
	idleTimeout    = time.Minute
)

// Server serves the admin API of one Source. Its methods may be called from any
// goroutine.
type Server struct {
	src Source
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	servers []*http.Server
	files   []socketFile // made by ServeUnix, removed by Shutdown
	closed  bool
}

// errClosed says that a listener came after Shutdown.
var errClosed = errors.New("admin server is shut down")

// New makes a server that serves nothing yet. Trouble after the start of serving
// goes to log.
func New(src Source, log *slog.Logger) *Server { return &Server{src: src, log: log} }

// ServeUnix makes the socket at path, mode 0600, and serves the whole API there
// until Shutdown. A socket file that nobody listens on is replaced; one that
// somebody does is an error. It returns when connections are answered.
func (s *Server) ServeUnix(path string) error {
	ln, file, err := listenUnix(path)
	if err != nil {
		return err
	}
	if err := s.serve(ln, s.api(), &file); err != nil {
		file.remove()
		return err
	}
	return nil
}

// ServeListener serves the whole API on a listener that somebody else made: who
// may connect is their care, and so is the socket file, which stays. The server
// owns ln from the call on and closes it at Shutdown, or at once on an error.
func (s *Server) ServeListener(ln net.Listener) error {
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the file may already lead to another process
	}
	return s.serve(ln, s.api(), nil)
}

// ServeMetrics serves /metrics and /ready, and nothing else, on the TCP address
// addr until Shutdown. It returns when connections are answered.
func (s *Server) ServeMetrics(addr netip.AddrPort) error {
	ln, err := net.Listen("tcp", addr.String())
	if err != nil {
		return err // names the address
	}
	return s.serve(ln, s.metricsAPI(), nil)
}

// serve starts to answer connections of ln; file is removed by Shutdown.
func (s *Server) serve(ln net.Listener, h http.Handler, file *socketFile) error {
	hs := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       headTimeout,
		WriteTimeout:      replyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		ln.Close()
		return errClosed
	}
	s.servers = append(s.servers, hs)
	if file != nil {
		s.files = append(s.files, *file)
	}
	go func() {
		if err := hs.Serve(netutil.LimitListener(ln, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("admin API ended", "address", ln.Addr().String(), "error", err)
		}
	}()
	return nil
}

// Shutdown removes the socket files that are still ours, stops to accept and
// waits for replies under way until ctx ends, then cuts them. Later calls do
// nothing.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	servers, files := s.servers, s.files
	s.servers, s.files, s.closed = nil, nil, true
	s.mu.Unlock()

	var errs []error
	// Files first: while the socket is open its inode cannot become another's.
	for _, f := range files {
		errs = append(errs, f.remove())
	}
	for _, hs := range servers {
		if err := hs.Shutdown(ctx); err != nil {
			hs.Close()
			errs = append(errs, fmt.Errorf("admin connections cut: %w", err))
		}
	}
	return errors.Join(errs...)
}

// socketFile is a socket in the file system that we made.
type socketFile struct {
	path string
	info fs.FileInfo
}

// remove removes the file unless another process has put its own there.
func (f *socketFile) remove() error {
	now, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, f.info) {
		return nil
	}
	if err == nil {
		err = os.Remove(f.path)
	}
	return err
}
