package admin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"belay/internal/admin/adminapi"
	"belay/internal/stats"
)

// source is a daemon with two listeners and one cluster.
type source struct {
	ready    bool
	draining atomic.Bool
	refuse   error // of SetDraining
	config   any
	snapshot *stats.Snapshot
	certs    atomic.Pointer[[]adminapi.Certificate] // nil: one
	entered  chan struct{}                          // not nil: Status says that it was called, then waits
	release  chan struct{}
}

func newSource() *source {
	r := stats.NewRegistry()
	label := func(name, value string) stats.Label { return stats.Label{Name: name, Value: value} }
	requests := r.Counter("belay_listener_requests_total", "Requests.", label("listener", "web"))
	r.Counter("belay_listener_requests_total", "Requests.", label("listener", `o"dd`))
	open := r.Gauge("belay_listener_connections", "Open connections.", label("listener", "web"))
	ok := r.Counter("belay_endpoint_replies_total", "Replies.", label("cluster", "app"), label("endpoint", "a"), label("class", "2xx"))
	bad := r.Counter("belay_endpoint_replies_total", "Replies.", label("cluster", "app"), label("endpoint", "a"), label("class", "5xx"))
	took := r.Histogram("belay_listener_request_duration_seconds", "Time.", label("listener", "web"))
	r.Func(stats.KindGauge, "belay_load", "A fraction.", func() float64 { return 0.125 })
	s := r.NewShard()
	s.Add(requests, 12345678)
	s.GaugeAdd(open, 7)
	s.Add(ok, 40)
	s.Add(bad, 2)
	for range 3 {
		s.Observe(took, int64(time.Millisecond))
	}
	s.Observe(took, int64(10*time.Minute)) // beyond the last bound
	return &source{ready: true, config: map[string]int{"a": 1}, snapshot: r.Merge([][]uint64{s.CopyTo(nil)})}
}

func (s *source) Ready() (bool, string) {
	switch {
	case s.draining.Load():
		return false, "draining"
	case s.ready:
		return true, "serving"
	}
	return false, "stopping"
}

func (s *source) Snapshot() *stats.Snapshot { return s.snapshot }

func (s *source) Listeners() []adminapi.Listener {
	f := NewFigures(s.snapshot)
	list := []adminapi.Listener{{Name: `o"dd`}, {Name: "web", Address: "[::]:80"}}
	for i := range list {
		l := &list[i]
		l.Requests = f.Counter("belay_listener_requests_total", l.Name)
		l.Connections = f.Gauge("belay_listener_connections", l.Name)
		l.Latency = f.Latency("belay_listener_request_duration_seconds", l.Name)
	}
	return list
}

func (s *source) Clusters() []adminapi.Cluster {
	f := NewFigures(s.snapshot)
	return []adminapi.Cluster{{Name: "app", Endpoints: []adminapi.Endpoint{{
		ID: "a", State: adminapi.StateUp, Active: 3, Replies: f.Replies("belay_endpoint_replies_total", "app", "a"),
		Latency: f.Latency("belay_listener_request_duration_seconds", "web"),
	}}}}
}

func (s *source) Config() any { return s.config }

func (s *source) Status() adminapi.Status {
	if s.entered != nil {
		s.entered <- struct{}{}
		<-s.release
	}
	return adminapi.Status{Version: "1.2.3", Started: time.Now().Add(-time.Minute)}
}

func (s *source) RestartStatus() adminapi.RestartStatus {
	return adminapi.RestartStatus{Enabled: true, Epoch: 3, Phase: "serving"}
}

func (s *source) Certificates() []adminapi.Certificate {
	if list := s.certs.Load(); list != nil {
		return *list
	}
	return []adminapi.Certificate{{Kind: "certificate", Source: "a.pem", State: adminapi.StateActive, UsedBy: []string{"web"}}}
}

func (s *source) ExplainTLS(q adminapi.TLSQuery) ([]adminapi.TLSExplanation, error) {
	if q.Listener != "" && q.Listener != "web" {
		return nil, fmt.Errorf("no listener %q with TLS", q.Listener)
	}
	return []adminapi.TLSExplanation{{Listener: "web", Chain: "web", ChainWhy: fmt.Sprintf("%+v", q)}}, nil
}

func (s *source) DrainStatus() adminapi.DrainStatus {
	return adminapi.DrainStatus{Draining: s.draining.Load(), Connections: 7}
}

func (s *source) SetDraining(on bool) (adminapi.DrainStatus, error) {
	if s.refuse != nil {
		return adminapi.DrainStatus{}, s.refuse
	}
	s.draining.Store(on)
	return s.DrainStatus(), nil
}

// newServer makes a server that is shut down at the end of the test.
func newServer(t *testing.T, src Source) *Server {
	t.Helper()
	s := New(src, slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
	})
	return s
}

// serve serves src on a new socket until the test ends.
func serve(t *testing.T, src Source) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "admin.sock")
	if err := newServer(t, src).ServeUnix(socket); err != nil {
		t.Fatal(err)
	}
	return socket
}

// httpClient speaks HTTP to a Unix socket.
func httpClient(t *testing.T, socket string) *http.Client {
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}
