package upstream

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/ratelog"
	"belay/internal/transport"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t), file: t.TempDir() + "/ca.pem"}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err == nil {
		err = os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issued is a certificate with its key, in PEM.
type issued struct{ chain, key []byte }

// issue makes a certificate of cn for names, good until notAfter.
func (a *authority) issue(t testing.TB, cn string, notAfter time.Time, names ...string) issued {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter,
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return issued{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})}
}

// server is the configuration of a server with a certificate for names.
func (a *authority) server(t testing.TB, names ...string) *tls.Config {
	t.Helper()
	i := a.issue(t, "server", time.Now().Add(time.Hour), names...)
	pair, err := tls.X509KeyPair(i.chain, i.key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool}
}

// secured is a pool whose cluster has TLS.
type secured struct {
	*site
	*pooled
	tls *TLS
	log *journal
}

// journal is what was logged.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// hosts has the name of each request verified.
func hosts() config.Cluster {
	set := settings()
	set.TLS = &config.ClusterTLS{SNIFromHost: true}
	return set
}

func newSecured(t testing.TB, set config.Cluster, o certs.ClientOptions) *secured {
	t.Helper()
	o.Name = set.Name
	store := certs.NewStore(certs.Options{Settle: time.Millisecond})
	client, err := store.Client(o)
	if err != nil {
		t.Fatal(err)
	}
	go store.Run(t.Context())
	s := &secured{log: &journal{}}
	s.site, s.pooled = onePool(t, set)
	s.tls = &TLS{Client: client, Configs: client.Worker(), Stats: s.secure, Log: slog.New(slog.NewTextHandler(s.log, nil)), Said: &ratelog.Lines[string]{}}
	s.do(func() {
		s.pool.tls = s.tls
		s.pool.env.Handshakes = transport.NewHandshakes(s.Worker, 0)
	})
	t.Cleanup(func() {
		s.do(func() {
			h := s.pool.env.Handshakes
			if h.Open() != 0 || h.Waiting() != 0 {
				t.Errorf("%d handshakes are open, %d wait", h.Open(), h.Waiting())
			}
			h.Close()
		})
	})
	return s
}

// driver owns a connection and brings it, by its events alone, to where bytes flow.
type driver struct {
	answer
	result error
	over   bool
	steps  int
	amid   func(c *Conn) // called when a step needs an event
}

func (d *driver) Ready(eventloop.Events) {
	if d.conn != nil && !d.over {
		d.step()
	}
}

func (d *driver) step() {
	d.steps++
	err := d.conn.Handshake()
	switch {
	case !errors.Is(err, transport.ErrAgain):
		d.over, d.result = true, err
	case d.amid != nil:
		d.amid(d.conn)
	}
}

func (d *driver) grant(c *Conn, err error) {
	if d.answer.grant(c, err); err != nil {
		d.over, d.result = true, err
		return
	}
	c.Socket.SetOwner(d)
	d.step()
}

// begin asks for a connection and starts to bring it to where bytes flow.
func (p *pooled) begin(d *driver, want Want) {
	p.do(func() {
		if c, err := p.pool.Acquire(d, &d.Waiter, d.grant, &want); c != nil || err != nil {
			d.grant(c, err)
		}
	})
}

// finish waits for how it went.
func (p *pooled) finish(t testing.TB, d *driver) error {
	t.Helper()
	p.until(t, "the connection stands, or not", func() bool { return d.over })
	return d.result
}

// accept is the server's end of the connection made next, whose handshake runs.
func (s *secured) accept(t testing.TB, cfg *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Server(s.backend.next(t), cfg)
	go c.Handshake()
	return c
}

// open makes a connection for a name, and sees bytes pass both ways.
func (s *secured) open(t testing.TB, cfg *tls.Config, name string) (*Conn, *tls.Conn) {
	t.Helper()
	var d driver
	s.begin(&d, Want{Name: []byte(name)})
	server := s.accept(t, cfg)
	if err := s.finish(t, &d); err != nil {
		t.Fatal(err)
	}
	s.exchange(t, d.conn, server)
	return d.conn, server
}

// exchange passes a message each way; the endpoint's tickets come with its.
func (s *secured) exchange(t testing.TB, c *Conn, server *tls.Conn) {
	t.Helper()
	s.do(func() {
		if n, err := c.Socket.Write([]byte("ping"), nil); n != 4 || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	})
	b := make([]byte, 4)
	if _, err := io.ReadFull(server, b); err != nil || string(b) != "ping" {
		t.Errorf("the endpoint read %q, %v", b, err)
	}
	if _, err := server.Write([]byte("pong")); err != nil {
		t.Error(err)
	}
	s.until(t, "the answer", func() bool {
		n, err := c.Socket.Read(b)
		if n == 0 && errors.Is(err, transport.ErrAgain) {
			return false
		}
		if string(b[:n]) != "pong" || err != nil {
			t.Errorf("read %q, %v", b[:n], err)
		}
		return true
	})
}

// TestTLS: connections stand, later ones resume, and both are counted.
func TestTLS(t *testing.T) {
	a := newAuthority(t)
	cfg := a.server(t, "a.example")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			cfg := cfg.Clone()
			cfg.MaxVersion = version
			s := newSecured(t, hosts(), certs.ClientOptions{Server: certs.Trust{CA: a.file}})
			for i := range 3 {
				c, server := s.open(t, cfg, "a.example")
				if state := server.ConnectionState(); state.DidResume != (i > 0) || state.ServerName != "a.example" {
					t.Errorf("connection %d: resumed %t, server name %q", i, state.DidResume, state.ServerName)
				}
				s.do(c.Close)
			}
			s.do(func() {
				st, shard := &s.tls.Stats, s.pool.env.Shard
				if full, resumed := shard.Value(st.Resumed[0]), shard.Value(st.Resumed[1]); full != 1 || resumed != 2 {
					t.Errorf("%d full handshakes and %d resumed are counted", full, resumed)
				}
			})
			s.want(t, counts{connects: 3})
		})
	}
}

// TestTLSRefused: every failure has its reason, in the counter and, once in a while,
// in the log.
func TestTLSRefused(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	good := a.server(t, "a.example")
	old := a.issue(t, "old", time.Now().Add(-time.Hour), "a.example")
	expired, err := tls.X509KeyPair(old.chain, old.key)
	if err != nil {
		t.Fatal(err)
	}
	trust := func(file string) certs.ClientOptions { return certs.ClientOptions{Server: certs.Trust{CA: file}} }
	for _, tt := range []struct {
		name    string
		options certs.ClientOptions
		server  func(net.Conn)
		want    string
		reason  string
	}{
		{name: "wrong name", options: trust(a.file), want: "b.example", reason: "certificate_name"},
		{name: "unknown authority", options: trust(stranger.file), reason: "certificate_unknown_authority"},
		{name: "expired", options: trust(a.file), reason: "certificate_expired",
			server: func(c net.Conn) { tls.Server(c, &tls.Config{Certificates: []tls.Certificate{expired}}).Handshake() }},
		{name: "no TLS", options: trust(a.file), reason: "not_tls", server: func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }},
		{name: "closed", options: trust(a.file), reason: "closed", server: func(c net.Conn) { c.Close() }},
		{name: "reset", options: trust(a.file), reason: "closed", server: func(c net.Conn) {
			c.Read(make([]byte, 1)) // before that it would be a failed connect
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}},
		{name: "no protocol in common", options: certs.ClientOptions{Server: certs.Trust{CA: a.file}, Params: certs.Params{ALPN: []string{"x"}}}, reason: "alert",
			server: func(c net.Conn) {
				cfg := good.Clone()
				cfg.NextProtos = []string{"y"}
				tls.Server(c, cfg).Handshake()
			}},
		{name: "not there yet", options: trust(a.file + ".missing"), reason: "warming", server: func(net.Conn) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSecured(t, hosts(), tt.options)
			if tt.want == "" {
				tt.want = "a.example"
			}
			if tt.server == nil {
				tt.server = func(c net.Conn) { tls.Server(c, good).Handshake() }
			}
			for range 2 {
				var d driver
				s.begin(&d, Want{Name: []byte(tt.want)})
				conn := s.backend.next(t)
				go tt.server(conn)
				if err := s.finish(t, &d); !IsTLS(err) {
					t.Errorf("the connection: %v", err)
				}
				s.do(d.conn.Close)
			}
			s.do(func() {
				if n := s.pool.env.Shard.Value(s.tls.Stats.Failed[tt.reason]); n != 2 {
					t.Errorf("%d failures are counted as %s; %s", n, tt.reason, s.log)
				}
			})
			line := s.log.String()
			if strings.Count(line, "\n") != 1 {
				t.Errorf("not one line: %s", line)
			}
			for _, part := range []string{"cluster=c", "endpoint=e", "address=127.0.0.1:", "server_name=" + tt.want, "reason=" + tt.reason, "error="} {
				if !strings.Contains(line, part) {
					t.Errorf("no %s in %s", part, line)
				}
			}
		})
	}
}

// TestTLSNoName: a Unix socket has no name to verify, unless one is configured.
func TestTLSNoName(t *testing.T) {
	a := newAuthority(t)
	set := hosts()
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	set.Endpoints = []config.Endpoint{{ID: "e", Unix: path, Weight: 1}}
	s := newSecured(t, set, certs.ClientOptions{Server: certs.Trust{CA: a.file}})
	var d driver
	s.begin(&d, Want{})
	if err := s.finish(t, &d); !errors.Is(err, certs.ErrNoName) {
		t.Errorf("the connection: %v", err)
	}
	s.do(func() {
		if n := s.pool.env.Shard.Value(s.tls.Stats.Failed["no-name"]); n != 1 {
			t.Errorf("%d failures are counted", n)
		}
		d.conn.Close()
	})
}

// TestTLSLateAlert: with TLS 1.3 an endpoint refuses our certificate when the
// handshake is over for us.
func TestTLSLateAlert(t *testing.T) {
	a := newAuthority(t)
	s := newSecured(t, hosts(), certs.ClientOptions{Server: certs.Trust{CA: a.file}})
	cfg := a.server(t, "a.example")
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	var d driver
	s.begin(&d, Want{Name: []byte("a.example")})
	s.accept(t, cfg)
	if err := s.finish(t, &d); err != nil {
		t.Fatal(err)
	}
	s.until(t, "the alert", func() bool {
		_, err := d.conn.Socket.Read(make([]byte, 1))
		if errors.Is(err, transport.ErrAgain) {
			return false
		}
		d.conn.Broken(err)
		return true
	})
	s.do(func() {
		d.conn.Broken(io.EOF) // this says nothing of TLS
		if n := s.pool.env.Shard.Value(s.tls.Stats.Failed["alert"]); n != 1 || !strings.Contains(s.log.String(), "certificate required") {
			t.Errorf("%d alerts are counted; %s", n, s.log)
		}
		d.conn.Close()
	})
}

// TestTLSClientCertificate: the endpoint sees ours.
func TestTLSClientCertificate(t *testing.T) {
	a := newAuthority(t)
	mine := &certs.Fake{Label: "mine"}
	i := a.issue(t, "client", time.Now().Add(time.Hour))
	mine.Set(i.chain, i.key, nil)
	s := newSecured(t, hosts(), certs.ClientOptions{Server: certs.Trust{CA: a.file}, Certificate: mine})
	cfg := a.server(t, "a.example")
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	c, server := s.open(t, cfg, "a.example")
	if shown := server.ConnectionState().PeerCertificates; len(shown) != 1 || shown[0].Subject.CommonName != "client" {
		t.Errorf("the endpoint saw %v", shown)
	}
	s.do(c.Close)
}
