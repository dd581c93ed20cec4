package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"belay/internal/certs"
	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/health"
	"belay/internal/stats"
)

// Checks see the endpoint's certificate each time, and many at a time share nothing:
// none resumes a session.
func TestChecksResumeNothing(t *testing.T) {
	var full, resumed atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.TLS.DidResume {
			resumed.Add(1)
		} else {
			full.Add(1)
		}
	}))
	srv.StartTLS()
	t.Cleanup(srv.Close)
	client, err := certs.NewStore(certs.Options{}).Client(certs.ClientOptions{Name: "c", Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Cluster{Name: "c", Balance: "round_robin", TLS: &config.ClusterTLS{SNIFromHost: true}, HealthCheck: &config.HealthCheck{
		Type: "http", Method: "GET", Path: "/", Host: "example.com", Status: []config.StatusRange{{From: 200, To: 200}},
		Interval: time.Millisecond, IntervalDown: time.Millisecond, IntervalFirst: time.Millisecond, Timeout: 10 * time.Second, Rise: 1, Fall: 1,
	}}
	ap := netip.MustParseAddrPort(srv.Listener.Addr().String())
	for _, id := range []string{"a", "b", "c"} { // at the same address
		cfg.Endpoints = append(cfg.Endpoints, config.Endpoint{ID: id, Host: ap.Addr().String(), Port: ap.Port(), Weight: 1})
	}
	c := cluster.New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	x := health.NewChecker(c, probeTLS(client), health.Options{Log: slog.New(slog.DiscardHandler), Slots: make(chan struct{}, 2)}, stats.NewRegistry())
	go func() { x.Run(ctx); close(done) }()
	end := time.Now().Add(20 * time.Second)
	for full.Load()+resumed.Load() < 30 && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	if full.Load() < 30 || resumed.Load() > 0 {
		t.Errorf("%d full handshakes, %d resumptions", full.Load(), resumed.Load())
	}
	for _, e := range c.Endpoints {
		if i := e.Info(); i.Health != cluster.HealthGood {
			t.Errorf("%s: %s %q", e.ID, i.Health, i.Why)
		}
	}
	if f := probeTLS(nil); f != nil {
		t.Error("TLS for a plain cluster")
	}
	cfgTLS, err := probeTLS(client)("127.0.0.1:1", "app.test")
	if err != nil || cfgTLS.ServerName != "app.test" || cfgTLS.MinVersion < tls.VersionTLS12 {
		t.Errorf("configuration: %+v, %v", cfgTLS, err)
	}
}
