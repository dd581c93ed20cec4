package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/stats"
)

// defaults are those of the configuration, with short times.
func defaults() config.HealthCheck {
	return config.HealthCheck{
		Type: "http", Method: "GET", Path: "/", Status: []config.StatusRange{{From: 200, To: 399}},
		Interval: 5 * time.Millisecond, IntervalDown: 5 * time.Millisecond, IntervalFirst: 2 * time.Millisecond, Jitter: 0.1,
		Timeout: time.Second, Rise: 2, Fall: 3,
	}
}

// at is a cluster of one endpoint at an address, a path for a Unix socket.
func at(address string, h config.HealthCheck, edit func(*config.Cluster)) *cluster.Cluster {
	c := &config.Cluster{Name: "c", Balance: "round_robin", HealthCheck: &h}
	e := config.Endpoint{ID: "e", Weight: 1}
	if strings.HasPrefix(address, "/") {
		e.Unix = address
	} else {
		ap := netip.MustParseAddrPort(address)
		e.Host, e.Port = ap.Addr().String(), ap.Port()
	}
	c.Endpoints = []config.Endpoint{e}
	if edit != nil {
		edit(c)
	}
	return cluster.New(c)
}

func checker(c *cluster.Cluster, t TLS) *Checker {
	return NewChecker(c, t, Options{Log: slog.New(slog.DiscardHandler), Slots: make(chan struct{}, 4)}, stats.NewRegistry())
}

// listen serves each connection with f until the test ends.
func listen(t *testing.T, network, address string, f func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l
}

func TestCheckHTTP(t *testing.T) {
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "all is well") })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s|%s|%s|%v", r.Method, r.Host, r.URL, r.UserAgent(), r.Header.Get("X-Probe"), r.Close)
	})
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscan(r.PathValue("code"), &code)
		w.Header().Set("Location", "/")
		w.WriteHeader(code)
	})
	mux.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) { <-release })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-release
	})
	mux.HandleFunc("/giant", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", maxBody))
		io.WriteString(w, "needle")
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(release) })
	address := srv.Listener.Addr().String()
	for _, tt := range []struct {
		name string
		edit func(*config.HealthCheck)
		want cluster.Health
		why  string
	}{
		{"OK", nil, cluster.HealthGood, ""},
		{"OK request", func(h *config.HealthCheck) {
			h.Method, h.Path, h.Host, h.Headers = "POST", "/echo?a=1", "app.example", [][2]string{{"X-Probe", "1"}}
			h.Body = regexp.MustCompile(`^POST app\.example /echo\?a=1\|belay-health-check\|1\|true$`)
		}, cluster.HealthGood, ""},
		{"OK redirect is not followed", func(h *config.HealthCheck) {
			h.Path, h.Status = "/status/302", []config.StatusRange{{From: 302, To: 302}}
		}, cluster.HealthGood, ""},
		{"OK body", func(h *config.HealthCheck) { h.Body = regexp.MustCompile("well$") }, cluster.HealthGood, ""},
		{"degraded", func(h *config.HealthCheck) {
			h.Path, h.Degraded = "/status/429", []config.StatusRange{{From: 429, To: 429}}
		}, cluster.HealthDegraded, ""},
		{"bad status", func(h *config.HealthCheck) { h.Path = "/status/503" }, cluster.HealthBad, "status 503, want 200-399"},
		{"bad status of several", func(h *config.HealthCheck) {
			h.Path, h.Status = "/status/404", []config.StatusRange{{From: 200, To: 200}, {From: 300, To: 302}}
		}, cluster.HealthBad, "status 404, want 200, 300-302"},
		{"bad body", func(h *config.HealthCheck) { h.Body = regexp.MustCompile("ill") }, cluster.HealthBad, `the body does not match "ill"`},
		{"bad body, behind what is looked at", func(h *config.HealthCheck) { h.Path, h.Body = "/giant", regexp.MustCompile("needle") }, cluster.HealthBad, `the body does not match "needle"`},
		{"bad, silent", func(h *config.HealthCheck) { h.Path, h.Timeout = "/silent", 30*time.Millisecond }, cluster.HealthBad, "no answer in 30ms"},
		{"bad, slow body", func(h *config.HealthCheck) {
			h.Path, h.Body, h.Timeout = "/slow", regexp.MustCompile("x"), 30*time.Millisecond
		}, cluster.HealthBad, "body: no answer in 30ms"},
	} {
		h := defaults()
		if tt.edit != nil {
			tt.edit(&h)
		}
		c := at(address, h, nil)
		if got, why := checker(c, nil).check(t.Context(), c.Endpoints[0]); got != tt.want || why != tt.why {
			t.Errorf("%s: %s %q, want %s %q", tt.name, got, why, tt.want, tt.why)
		}
	}
}

func TestCheckConnection(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.Copy(io.Discard, c) })
	open := l.Addr().String()
	gone := listen(t, "tcp", "127.0.0.1:0", nil)
	closed := gone.Addr().String()
	gone.Close()
	path := filepath.Join(t.TempDir(), "s")
	listen(t, "unix", path, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	var port int
	fmt.Sscan(open[strings.LastIndexByte(open, ':')+1:], &port)
	for _, tt := range []struct {
		name, address string
		edit          func(*config.HealthCheck)
		want          cluster.Health
		why           string
	}{
		{"OK TCP", open, func(h *config.HealthCheck) { h.Type = "tcp" }, cluster.HealthGood, ""},
		{"OK another port", closed, func(h *config.HealthCheck) { h.Type, h.Port = "tcp", uint16(port) }, cluster.HealthGood, ""},
		{"OK Unix", path, func(h *config.HealthCheck) { h.Type = "tcp" }, cluster.HealthGood, ""},
		{"OK HTTP over Unix", path, nil, cluster.HealthGood, ""},
		{"refused", closed, nil, cluster.HealthBad, "connect: connection refused"},
		{"no such socket", path + "x", nil, cluster.HealthBad, "connect: no such file or directory"},
		{"no TLS", open, func(h *config.HealthCheck) { h.Type, h.Timeout = "tls", 30*time.Millisecond }, cluster.HealthBad, "TLS: no answer in 30ms"},
	} {
		h := defaults()
		if tt.edit != nil {
			tt.edit(&h)
		}
		c := at(tt.address, h, nil)
		if got, why := checker(c, nil).check(t.Context(), c.Endpoints[0]); got != tt.want || why != tt.why {
			t.Errorf("%s: %s %q, want %s %q", tt.name, got, why, tt.want, tt.why)
		}
	}
}

// Endpoints that expect a PROXY header get one that names nobody.
func TestCheckProxyProtocol(t *testing.T) {
	heads := make(chan string, 2)
	l := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		r := bufio.NewReader(c)
		b, _ := r.Peek(16)
		heads <- string(b)
		io.Copy(io.Discard, r)
	})
	for version, want := range map[int]string{1: "PROXY UNKNOWN\r\n", 2: "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"} {
		c := at(l.Addr().String(), defaults(), func(c *config.Cluster) {
			c.ProxyProtocol = version
			c.HealthCheck.Timeout = 50 * time.Millisecond
		})
		checker(c, nil).check(t.Context(), c.Endpoints[0])
		if got := <-heads; !strings.HasPrefix(got, want) {
			t.Errorf("version %d: %q", version, got)
		}
	}
}

func TestCheckTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	verify := func(pool *x509.CertPool) TLS {
		return func(_, name string) (*tls.Config, error) { return &tls.Config{RootCAs: pool, ServerName: name}, nil }
	}
	for _, tt := range []struct {
		name, host string
		pool       *x509.CertPool
		want       cluster.Health
		why        string
	}{
		{"OK", "example.com", pool, cluster.HealthGood, ""},
		{"OK with a port", "example.com:8443", pool, cluster.HealthGood, ""},
		{"another name", "example.org", pool, cluster.HealthBad, "example.org"},
		{"unknown authority", "example.com", x509.NewCertPool(), cluster.HealthBad, "unknown authority"},
	} {
		for _, kind := range []string{"http", "tls"} {
			h := defaults()
			h.Type, h.Host = kind, tt.host
			c := at(srv.Listener.Addr().String(), h, func(c *config.Cluster) { c.TLS = &config.ClusterTLS{SNIFromHost: true} })
			got, why := checker(c, verify(tt.pool)).check(t.Context(), c.Endpoints[0])
			if got != tt.want || !strings.Contains(why, tt.why) || tt.why != "" && !strings.HasPrefix(why, "TLS: ") {
				t.Errorf("%s, %s: %s %q, want %s %q", tt.name, kind, got, why, tt.want, tt.why)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	h := defaults()
	letters := map[byte]cluster.Health{'g': cluster.HealthGood, 'd': cluster.HealthDegraded, 'b': cluster.HealthBad}
	for _, tt := range []struct{ name, results, want string }{
		{"the first decides, good", "gg", "gg"},
		{"the first decides, bad", "bb", "bb"},
		{"fall", "gbbbb", "gggbb"},
		{"fall begins anew", "gbbgbbgbbb", "gggggggggb"},
		{"rise", "bggg", "bbgg"},
		{"rise begins anew", "bgbgg", "bbbbg"},
		{"degraded at once", "gdgbbbdd", "gdgggbbd"},
	} {
		s, now, got := series{cfg: &h}, cluster.HealthUnknown, ""
		for i := range tt.results {
			next, counting := s.judge(now, letters[tt.results[i]])
			if counting && next != now {
				t.Errorf("%s: %d counts and changes", tt.name, i)
			}
			now = next
			for l, x := range letters {
				if x == now {
					got += string(l)
				}
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s gave %s, want %s", tt.name, tt.results, got, tt.want)
		}
	}
}

// A checker follows its endpoint down and up again, and leaves a disabled one alone.
func TestCheckerRuns(t *testing.T) {
	var status, asked atomic.Int64
	status.Store(200)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(srv.Close)
	c := at(srv.Listener.Addr().String(), defaults(), nil)
	e := c.Endpoints[0]
	changes := make(chan cluster.State, 10)
	c.Notice = func(_ *cluster.Endpoint, _, to cluster.State) { changes <- to }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	x := checker(c, nil)
	go func() { x.Run(ctx); close(done) }()
	wait := func(want cluster.State) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Fatalf("it is %s, want %s", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("not %s in 10s", want)
		}
	}
	status.Store(500)
	wait(cluster.Unhealthy)
	if why := e.Info().Why; why != "status 500, want 200-399" {
		t.Errorf("why: %q", why)
	}
	status.Store(204)
	wait(cluster.Healthy)
	if i := e.Info(); i.Why != "" || i.Health != cluster.HealthGood {
		t.Errorf("healthy: %+v", i)
	}
	e.SetAdmin(cluster.Disable, time.Time{})
	wait(cluster.Disabled)
	cancel()
	<-done
	n := asked.Load()
	if x.good[0].Load()+x.bad[0].Load() == 0 || n == 0 {
		t.Errorf("nothing counted of %d checks", n)
	}
	status.Store(500)
	ctx, cancel = context.WithCancel(t.Context())
	go func() { x.Run(ctx); cancel() }()
	e.SetAdmin(cluster.Enable, time.Time{})
	wait(cluster.Healthy)
	wait(cluster.Unhealthy)
	cancel()
}

func TestJitter(t *testing.T) {
	low, high := time.Hour, time.Duration(0)
	for range 1000 {
		d := jitter(time.Second, 0.1)
		low, high = min(low, d), max(high, d)
	}
	if low < 900*time.Millisecond || low > 920*time.Millisecond || high > 1100*time.Millisecond || high < 1080*time.Millisecond {
		t.Errorf("from %s to %s", low, high)
	}
	if d := jitter(time.Second, 0); d != time.Second {
		t.Errorf("none: %s", d)
	}
}
