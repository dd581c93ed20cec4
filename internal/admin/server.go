// Package admin serves the admin API: what belayd is doing, as text and JSON,
// over HTTP on a Unix socket of mode 0600, and its metrics over TCP if wanted.
// It tells, and changes little: /drain, /endpoint and /table take POST and DELETE, on
// the Unix socket alone.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"belay/internal/admin/adminapi"
	"belay/internal/stats"
)

// Source is the daemon behind the API. Its methods are called from several
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
	// Certificates are what TLS needs, by kind and source.
	Certificates() []adminapi.Certificate
	// ExplainTLS says what a client would get from the listeners with TLS, or from
	// one. An error says that there is no such listener.
	ExplainTLS(adminapi.TLSQuery) ([]adminapi.TLSExplanation, error)
	// Config is the configuration in effect: a *config.Config, which is shown as
	// belay.toml would have it, or what encoding/json can write.
	Config() any
	// Status is the daemon as a whole. Uptime is filled from Started if 0.
	Status() adminapi.Status
	// RestartStatus is where the generations of the daemon are. Time is filled if
	// zero.
	RestartStatus() adminapi.RestartStatus
	// Endpoint tells of one endpoint.
	//
	// Errors of this method and of those that follow are NotFoundError, InvalidError,
	// or why it cannot be now; the client is told. by is who wants a change, for the
	// log.
	Endpoint(cluster, id string) (adminapi.Endpoint, error)
	// ChangeEndpoint does what an operator wants of one and says how it is then.
	ChangeEndpoint(x adminapi.EndpointChange, by string) (adminapi.Endpoint, error)
	// Tables are the stick tables by name.
	Tables() []adminapi.Table
	// TableEntries calls yield with the entries that are chosen until it returns
	// false. An error comes before the first.
	TableEntries(q adminapi.TableQuery, yield func(adminapi.TableEntry) bool) error
	// SetTable puts an entry into a table and says how it is then.
	SetTable(x adminapi.TableEntry, table, by string) (adminapi.TableEntry, error)
	// ClearTable drops the entries that are chosen and tells how many there were.
	ClearTable(q adminapi.TableQuery, by string) (int, error)
	// DrainStatus says whether the daemon drains for a balancer.
	DrainStatus() adminapi.DrainStatus
	// SetDraining begins that, or ends it, and says how it is afterwards. To ask for
	// what is so already is no error. While it drains, Ready says no, "draining".
	SetDraining(on bool, by string) (adminapi.DrainStatus, error)
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

	mu     sync.Mutex // guards what follows
	served []*served
	paused bool
	closed bool // by Release or Shutdown
}

// served is a listener with what answers there.
type served struct {
	Passed
	ln   *listener
	http *http.Server
	file *socketFile    // nil: none, or not ours
	busy sync.WaitGroup // who accepts, and every connection
}

// errClosed says that a listener came after Shutdown or Release.
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
	return s.serve(&served{Passed: adminSocket(path), ln: newListener(ln), file: &file})
}

// ServeListener serves the whole API on a listener that somebody else made: who
// may connect is their care, and so is the socket file, which stays. The server
// owns ln from the call on and closes it at Shutdown, or at once on an error. It
// is not among Sockets.
func (s *Server) ServeListener(ln net.Listener) error {
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the file may already lead to another process
	}
	return s.serve(&served{ln: newListener(ln)})
}

// ServeMetrics serves /metrics and /ready, and nothing else, on the TCP address
// addr until Shutdown. It returns when connections are answered.
func (s *Server) ServeMetrics(addr netip.AddrPort) error {
	ln, err := net.Listen("tcp", addr.String())
	if err != nil {
		return err // names the address
	}
	return s.serve(&served{Passed: metricsSocket(addr), ln: newListener(ln)})
}

// serve starts to answer connections of x.
func (s *Server) serve(x *served) error {
	handler := s.api()
	if x.Name == SocketMetrics {
		handler = s.metricsAPI()
	}
	x.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       headTimeout,
		WriteTimeout:      replyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ConnState: func(_ net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				x.busy.Add(1)
			case http.StateClosed, http.StateHijacked:
				x.busy.Done()
			}
		},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.Join(errClosed, x.close())
	}
	if s.paused {
		x.pause()
	}
	s.served = append(s.served, x)
	x.busy.Add(1)
	go func() {
		defer x.busy.Done()
		err := x.http.Serve(netutil.LimitListener(x.ln, maxConnections))
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("admin API ended", "address", x.ln.Addr().String(), "error", err)
		}
	}()
	return nil
}

// Shutdown stops to accept, removes the socket files that are still ours and that
// no other process listens on, and waits for replies under way until ctx ends,
// then cuts them. Later calls do nothing.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	list := s.served
	s.served, s.closed = nil, true
	s.mu.Unlock()

	var errs []error
	for _, x := range list {
		errs = append(errs, x.close())
		x.http.SetKeepAlivesEnabled(false)
	}
	answered(ctx, list)
	for _, x := range list {
		if err := x.http.Shutdown(ctx); err != nil {
			x.http.Close()
			errs = append(errs, fmt.Errorf("admin connections cut: %w", err))
		}
	}
	return errors.Join(errs...)
}

// answered waits until every connection has had its reply. Shutdown of net/http
// would close without one those whose request it has not read by then.
func answered(ctx context.Context, list []*served) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, x := range list {
			x.busy.Wait()
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (x *served) pause() {
	x.ln.pause()
	x.http.SetKeepAlivesEnabled(false)
}

// close closes the listener, and removes its file if that leads nowhere then.
func (x *served) close() error {
	err := x.ln.Close()
	if x.file != nil {
		err = errors.Join(err, x.file.remove())
		x.file = nil
	}
	return err
}
