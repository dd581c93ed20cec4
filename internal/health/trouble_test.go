package health

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"belay/internal/certs"
	"belay/internal/cluster"
	"belay/internal/config"
)

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("not in 10s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// run has a checker at work until the test ends.
func run(t *testing.T, x *Checker) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { x.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
}

// What endpoints send instead of an answer is told in a few words.
func TestStrangeReplies(t *testing.T) {
	long := strings.Repeat("é", 5000)
	for _, tt := range []struct{ name, reply, why string }{
		{"nothing", "", "the endpoint closed the connection"},
		{"half a head", "HTTP/1.1 200 OK\r\nX-A", `malformed MIME header: missing colon: "X-A"`},
		{"another protocol", "SSH-2.0-x\r\n", "malformed HTTP response"},
		{"a long line", long + "\r\n", "malformed HTTP response"},
		{"a head without end", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 200), "net/http: server response headers exceeded"},
	} {
		l := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				io.WriteString(c, tt.reply)
			}
		})
		c := at(l.Addr().String(), defaults(), nil)
		got, why := checker(c, nil).check(t.Context(), c.Endpoints[0])
		if got != cluster.HealthBad || !strings.HasPrefix(why, tt.why) || len(why) > maxWords+len("…") {
			t.Errorf("%s: %s %q (%d bytes), want %q", tt.name, got, why, len(why), tt.why)
		}
	}
	half := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		}
	})
	h := defaults()
	h.Body = regexp.MustCompile("half")
	c := at(half.Addr().String(), h, nil)
	if got, why := checker(c, nil).check(t.Context(), c.Endpoints[0]); got != cluster.HealthBad || why != "body: the endpoint closed the connection" {
		t.Errorf("half a body: %s %q", got, why)
	}
}

// A header of the configuration replaces ours of that name, however it is written.
func TestHeadersReplaceOurs(t *testing.T) {
	heads := make(chan http.Header, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { heads <- r.Header.Clone() }))
	t.Cleanup(srv.Close)
	h := defaults()
	h.Headers = [][2]string{{"user-agent", "probe"}}
	c := at(srv.Listener.Addr().String(), h, nil)
	if got, why := checker(c, nil).check(t.Context(), c.Endpoints[0]); got != cluster.HealthGood {
		t.Fatal(got, why)
	}
	if got := (<-heads)["User-Agent"]; len(got) != 1 || got[0] != "probe" {
		t.Errorf("User-Agent: %q", got)
	}
}

// What belay lacks is no finding about an endpoint, and the log is told of it.
func TestOwnTrouble(t *testing.T) {
	c := at("127.0.0.1:1", defaults(), nil)
	e, x := c.Endpoints[0], checker(c, nil)
	var log bytes.Buffer
	x.o.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, tt := range []struct {
		err  error
		want cluster.Health
	}{
		{syscall.EMFILE, cluster.HealthUnknown}, {syscall.ENFILE, cluster.HealthUnknown}, {syscall.ENOBUFS, cluster.HealthUnknown},
		{syscall.ENOMEM, cluster.HealthUnknown}, {syscall.ECONNREFUSED, cluster.HealthBad}, {syscall.EADDRNOTAVAIL, cluster.HealthBad},
	} {
		if got, _ := x.failed("connect: ", &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", tt.err.(syscall.Errno))}); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
	e.SetHealth(cluster.HealthGood, "")
	turn := series{cfg: x.cfg}
	for range 10 {
		x.tell(e, &turn, cluster.HealthUnknown, "connect: too many open files")
	}
	if i := e.Info(); i.Health != cluster.HealthGood || i.Why != "" || x.bad[0].Load()+x.good[0].Load() != 0 {
		t.Errorf("judged: %+v", i)
	}
	if n := strings.Count(log.String(), "too many open files"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, &log)
	}

	l := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.Copy(io.Discard, c) })
	c = at(l.Addr().String(), defaults(), func(c *config.Cluster) { c.TLS = &config.ClusterTLS{SNIFromHost: true} })
	warming := func(_, _ string) (*tls.Config, error) { return nil, fmt.Errorf("not yet: %w", certs.ErrWarming) }
	if got, why := checker(c, warming).check(t.Context(), c.Endpoints[0]); got != cluster.HealthUnknown || why == "" {
		t.Errorf("a certificate of ours is not there yet: %s %q", got, why)
	}
}

// Endpoints that are silent hold their slots for a moment only.
func TestSilentHoldUpNobody(t *testing.T) {
	silent := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.Copy(io.Discard, c) })
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(srv.Close)
	h := defaults()
	h.Timeout = time.Hour
	c := at(srv.Listener.Addr().String(), h, func(c *config.Cluster) {
		ap := netip.MustParseAddrPort(silent.Addr().String())
		for i := range 6 {
			c.Endpoints = append(c.Endpoints, config.Endpoint{ID: fmt.Sprint("silent", i), Host: ap.Addr().String(), Port: ap.Port(), Weight: 1})
		}
	})
	x := checker(c, nil) // with four slots
	run(t, x)
	until(t, "a hundred checks of the endpoint that answers", func() bool { return asked.Load() >= 100 })
}

// A first address that is silent leaves time for the second.
func TestSilentAddress(t *testing.T) {
	good := listen(t, "tcp", "127.0.0.2:0", func(c net.Conn) { io.Copy(io.Discard, c) })
	port := netip.MustParseAddrPort(good.Addr().String()).Port()
	fill(t, port)
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 app.test\n127.0.0.2 app.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := defaults()
	h.Type, h.Timeout = "tcp", 400*time.Millisecond
	c := at("127.0.0.1:1", h, func(c *config.Cluster) { c.Endpoints[0].Host, c.Endpoints[0].Port = "app.test", port })
	e, x := c.Endpoints[0], checker(c, nil)
	if _, why := x.check(t.Context(), e); why != "connect: no address" {
		t.Errorf("unresolved: %q", why)
	}
	r := cluster.NewResolver(cluster.ResolverOptions{Hosts: hosts, InitialWait: 10 * time.Second})
	c.Watch(r)
	r.Start(t.Context())
	r.WaitInitial(t.Context())
	if n := len(e.Addresses()); n != 2 {
		t.Fatalf("%d addresses", n)
	}
	if got, why := x.check(t.Context(), e); got != cluster.HealthGood {
		t.Errorf("%s %q", got, why)
	}
	only := at("127.0.0.1:1", h, func(c *config.Cluster) { c.Endpoints[0].Port = port })
	if got, why := checker(only, nil).check(t.Context(), only.Endpoints[0]); got != cluster.HealthBad || why != "connect: no answer in 400ms" {
		t.Errorf("the silent address alone: %s %q", got, why)
	}
}

// fill has 127.0.0.1 at a port take no more connections, and refuse none.
func fill(t *testing.T, port uint16) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, err := net.DialTimeout("tcp", fmt.Sprint("127.0.0.1:", port), 200*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue does not fill")
}

// An endpoint without an address is not judged.
func TestUnresolvedIsNotJudged(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(srv.Close)
	c := at(srv.Listener.Addr().String(), defaults(), func(c *config.Cluster) {
		c.Endpoints = append(c.Endpoints, config.Endpoint{ID: "name", Host: "app.test", Port: 80, Weight: 1})
	})
	x := checker(c, nil)
	run(t, x)
	until(t, "ten checks", func() bool { return asked.Load() >= 10 })
	if i := c.Endpoints[1].Info(); i.Health != cluster.HealthUnknown || x.bad[1].Load() != 0 {
		t.Errorf("%+v", i)
	}
}

// What was found before an endpoint was disabled is of no use after it, and one
// failure that led to nothing is forgotten.
func TestFindingsGrowOld(t *testing.T) {
	c := at("127.0.0.1:1", defaults(), nil)
	e, x := c.Endpoints[0], checker(c, nil)
	turn := series{cfg: x.cfg}
	for _, tt := range []struct {
		again       bool
		found, want cluster.Health
		why         string
		wait        time.Duration
	}{
		{false, cluster.HealthGood, cluster.HealthGood, "", x.cfg.Interval},
		{false, cluster.HealthBad, cluster.HealthGood, "bad", x.cfg.IntervalFirst},
		{false, cluster.HealthGood, cluster.HealthGood, "", x.cfg.Interval},
		{true, cluster.HealthBad, cluster.HealthBad, "bad", x.cfg.IntervalDown},
		{false, cluster.HealthGood, cluster.HealthBad, "bad", x.cfg.IntervalFirst},
		{true, cluster.HealthGood, cluster.HealthGood, "", x.cfg.Interval},
		{false, cluster.HealthBad, cluster.HealthGood, "bad", x.cfg.IntervalFirst},
	} {
		why := ""
		if tt.found == cluster.HealthBad {
			why = "bad"
		}
		turn.again = turn.again || tt.again
		wait := x.tell(e, &turn, tt.found, why)
		if i := e.Info(); i.Health != tt.want || i.Why != tt.why || wait != tt.wait {
			t.Errorf("%+v: %s %q, next in %s", tt, i.Health, i.Why, wait)
		}
	}
}

// One that drains is checked, one that is disabled is not, and one that comes back from
// that is down after the first check that fails.
func TestCheckerAndOperator(t *testing.T) {
	var status, asked atomic.Int64
	status.Store(200)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(srv.Close)
	h := defaults()
	h.Fall, h.IntervalFirst = 1<<30, 5*time.Millisecond
	c := at(srv.Listener.Addr().String(), h, nil)
	e, x := c.Endpoints[0], checker(c, nil)
	e.SetAdmin(cluster.Drain, time.Time{})
	run(t, x)
	until(t, "a check of one that drains", func() bool { return x.good[0].Load() > 0 })
	e.SetAdmin(cluster.Disable, time.Time{})
	last, quiet := int64(0), 0 // looks since the last check
	until(t, "no more checks", func() bool {
		if n := asked.Load(); n != last {
			last, quiet = n, 0
		}
		quiet++
		return quiet > 50
	})
	status.Store(500)
	e.SetAdmin(cluster.Enable, time.Time{})
	until(t, "the first check after it to decide", func() bool { return e.State() == cluster.Unhealthy })
	if n := x.bad[0].Load(); n < 1 || n > 2 {
		t.Errorf("after %d checks", n)
	}
}

// Before TLS an endpoint may want to be asked for it as PostgreSQL does.
func TestCheckStartTLS(t *testing.T) {
	server := &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}
	for _, tt := range []struct {
		answer string
		want   cluster.Health
		why    string
	}{
		{"S", cluster.HealthGood, ""},
		{"N", cluster.HealthBad, `TLS: the endpoint does not agree (it answers "N")`},
		{"", cluster.HealthBad, "TLS: the endpoint closed the connection"},
	} {
		l := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			b := make([]byte, 8)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "\x00\x00\x00\x08\x04\xd2\x16\x2f" {
				return
			}
			io.WriteString(c, tt.answer)
			if tt.answer == "S" {
				io.Copy(io.Discard, tls.Server(c, server))
			}
		})
		h := defaults()
		h.Type = "tls"
		c := at(l.Addr().String(), h, func(c *config.Cluster) { c.TLS = &config.ClusterTLS{StartTLS: "postgres"} })
		x := checker(c, func(_, _ string) (*tls.Config, error) { return &tls.Config{InsecureSkipVerify: true}, nil })
		if got, why := x.check(t.Context(), c.Endpoints[0]); got != tt.want || why != tt.why {
			t.Errorf("%q: %s %q, want %s %q", tt.answer, got, why, tt.want, tt.why)
		}
	}
}

// The name that a check sends and verifies is that of requests.
func TestServerName(t *testing.T) {
	for _, tt := range []struct {
		host     string
		fromHost bool
		want     string
	}{
		{"", true, "192.0.2.1"}, {"app.test", true, "app.test"}, {"app.test:8443", true, "app.test"},
		{"[2001:db8::1]", true, "2001:db8::1"}, {"[2001:db8::1]:443", true, "2001:db8::1"}, {"app.test", false, ""},
	} {
		h := defaults()
		h.Host = tt.host
		c := at("192.0.2.1:1", h, func(c *config.Cluster) { c.TLS = &config.ClusterTLS{SNIFromHost: tt.fromHost} })
		if got := checker(c, nil).serverName(c.Endpoints[0]); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

// An endpoint that refuses our certificate is not well, though with TLS 1.3 the
// handshake succeeds.
func TestClientCertificateRefused(t *testing.T) {
	good, other := selfSigned(t), selfSigned(t)
	trusted := x509.NewCertPool()
	trusted.AddCert(good.Leaf)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server := &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted, MaxVersion: version}
		l := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			s := tls.Server(c, server)
			io.Copy(io.Discard, s)
			s.Close()
		})
		for _, kind := range []string{"tls", "http"} {
			for i, tt := range []struct {
				shown *tls.Certificate
				want  cluster.Health
			}{{&good, cluster.HealthGood}, {&other, cluster.HealthBad}, {&tls.Certificate{}, cluster.HealthBad}, {nil, cluster.HealthBad}} {
				if kind == "http" && tt.want == cluster.HealthGood {
					continue // the server says nothing to requests
				}
				h := defaults()
				h.Type = kind
				c := at(l.Addr().String(), h, func(c *config.Cluster) { c.TLS = &config.ClusterTLS{} })
				x := checker(c, func(_, _ string) (*tls.Config, error) {
					cfg := &tls.Config{InsecureSkipVerify: true}
					if tt.shown != nil {
						cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.shown, nil }
					}
					return cfg, nil
				})
				got, why := x.check(t.Context(), c.Endpoints[0])
				if got != tt.want || tt.want == cluster.HealthBad && !strings.Contains(why, "tls: ") {
					t.Errorf("%s, %s, certificate %d: %s %q, want %s", tls.VersionName(version), kind, i, got, why, tt.want)
				}
			}
		}
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"app.test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
