package test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"belay/test/harness"
)

// tlsEcho is an HTTPS endpoint that says who asked for whom, and how.
func tlsEcho(t *testing.T, cfg *tls.Config) (addr string, handshakes, resumed *atomic.Int64) {
	t.Helper()
	handshakes, resumed = new(atomic.Int64), new(atomic.Int64)
	return tcpServer(t, func(c *net.TCPConn) {
		s := tls.Server(c, cfg)
		if s.Handshake() != nil {
			return
		}
		handshakes.Add(1)
		state := s.ConnectionState()
		if state.DidResume {
			resumed.Add(1)
		}
		who := "nobody"
		if len(state.PeerCertificates) > 0 {
			who = state.PeerCertificates[0].Subject.CommonName
		}
		body := fmt.Sprintf("sni=%s client=%s alpn=%s", state.ServerName, who, state.NegotiatedProtocol)
		b := make([]byte, 8192)
		for {
			n, err := s.Read(b)
			if err != nil {
				return
			}
			if !strings.HasSuffix(string(b[:n]), "\r\n\r\n") {
				continue
			}
			_, _ = fmt.Fprintf(s, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	}), handshakes, resumed
}

// What an endpoint must show, what it is shown, and what a client is told when it
// does not.
func TestTLSUpstream(t *testing.T) {
	t.Parallel()
	a, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}, URI: "spiffe://test/server", IP: "127.0.0.1"})
	client := a.Issue(harness.Leaf{Name: "client"})
	addr, _, _ := tlsEcho(t, &tls.Config{Certificates: []tls.Certificate{server.Certificate}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.Pool(), NextProtos: []string{"http/1.1"}})
	spki := fmt.Sprintf("%x", sha256Of(server.Leaf.RawSubjectPublicKeyInfo))
	ca := fmt.Sprintf("ca = %q\n", a.File)
	for _, tt := range []struct {
		name, keys string
		status     int
		want       string // in the body, or the reason of the counter
	}{
		{"fixed name", ca + `sni = "a.example"`, 200, "sni=a.example client=nobody"},
		{"name of the request", ca, 200, "sni=a.example"},
		{"another name", ca + `sni = "b.example"`, 503, "certificate_name"},
		{"another authority", fmt.Sprintf("ca = %q\nsni = \"a.example\"", stranger.File), 503, "certificate_unknown_authority"},
		{"the system's authorities", `sni = "a.example"`, 503, "certificate_unknown_authority"},
		{"no verification", "verify = false\nsni = \"b.example\"", 200, "sni=b.example"},
		{"SAN", ca + "sni = \"b.example\"\nsan = [{ type = \"uri\", exact = \"spiffe://test/server\" }]", 200, "sni=b.example"},
		{"another SAN", ca + "sni = \"a.example\"\nsan = [{ type = \"uri\", exact = \"spiffe://test/other\" }]", 503, "certificate_san"},
		{"no name sent", ca + "sni = \"none\"\nsan = [{ type = \"dns\", exact = \"a.example\" }]", 200, "sni= "},
		{"pin", ca + "sni = \"a.example\"\nspki_sha256 = [\"" + spki + "\"]", 200, "sni=a.example"},
		{"another pin", ca + "sni = \"a.example\"\nspki_sha256 = [\"" + strings.Repeat("ab", 32) + "\"]", 503, "certificate_pin"},
		{"client certificate", ca + fmt.Sprintf("sni = \"a.example\"\ncert = %q\nkey = %q", client.CertFile, client.KeyFile), 200, "client=client"},
		{"ALPN", ca + "sni = \"a.example\"\nalpn = [\"http/1.1\"]", 200, "alpn=http/1.1"},
		{"another ALPN", ca + "sni = \"a.example\"\nalpn = [\"x\"]", 503, "alert"},
		{"too old", ca + "sni = \"a.example\"\nmax_version = \"1.2\"\ncipher_suites = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]", 503, "alert"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &site{endpoints: []string{addr}, cluster: "[cluster.back.tls]\n" + tt.keys + "\n"}
			d := serve(t, s)
			r := harness.Get(t, s.addr, "/", "a.example:8443")
			wantStatus(t, r, tt.status)
			if tt.status == 200 {
				want(t, r.Body, tt.want)
				return
			}
			if n, _ := d.Metric("belay_cluster_tls_failures_total", `reason="`+tt.want+`"`); n != 1 {
				t.Errorf("%v failures are counted as %s", n, tt.want)
			}
			want(t, d.WaitLine("no TLS with an endpoint"), "cluster=back", "endpoint=e0", tt.want)
			if rec := d.WaitPath("/"); rec["reason"] != "tls-failure" {
				t.Errorf("record %v", rec)
			}
		})
	}
}

// A pooled connection serves only requests for the name that it was verified for,
// and sessions are resumed.
func TestTLSUpstreamNames(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example", "b.example"}})
	addr, handshakes, resumed := tlsEcho(t, &tls.Config{Certificates: []tls.Certificate{server.Certificate}})
	s := &site{endpoints: []string{addr}, cluster: fmt.Sprintf("max_idle = 1\n[cluster.back.tls]\nca = %q\n", a.File), more: "[server]\nworkers = 1\n"}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	ask := func(name string) {
		t.Helper()
		want(t, c.Do("GET", "/", name).Body, "sni="+name+" ")
	}
	for range 5 {
		ask("a.example")
	}
	if n := handshakes.Load(); n != 1 {
		t.Errorf("%d connections for five requests", n)
	}
	ask("b.example")
	ask("a.example")
	ask("b.example")
	if n := handshakes.Load(); n < 2 || n > 4 {
		t.Errorf("%d connections for two names", n)
	}
	wantStatus(t, c.Do("GET", "/", "c.example"), 503)
	if r, _ := d.Metric("belay_cluster_tls_handshakes_total", `resumed="true"`); int64(r) != resumed.Load() || r == 0 && handshakes.Load() > 2 {
		t.Errorf("%v resumed handshakes are counted, there were %d of %d", r, resumed.Load(), handshakes.Load())
	}
}

// A new authority counts for connections that are open already: what was verified
// against the old one is not used again.
func TestTLSUpstreamReload(t *testing.T) {
	t.Parallel()
	a, other := harness.NewAuthority(t), harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	addr, handshakes, _ := tlsEcho(t, &tls.Config{Certificates: []tls.Certificate{server.Certificate}})
	file := harness.WriteFile(t, harness.TempDir(t), "ca.pem", string(pemOf(a.Cert)))
	s := &site{endpoints: []string{addr}, cluster: fmt.Sprintf("[cluster.back.tls]\nca = %q\nsni = \"a.example\"\n", file), more: "[server]\nworkers = 1\n"}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	wantStatus(t, c.Do("GET", "/", "a"), 200)
	harness.WritePEM(t, file, "CERTIFICATE", other.Cert.Raw)
	harness.Eventually(t, patience, "the new authority counts", func() bool { return c.Do("GET", "/", "a").Status == 503 })
	harness.WritePEM(t, file, "CERTIFICATE", a.Cert.Raw)
	harness.Eventually(t, patience, "the old authority counts again", func() bool { return c.Do("GET", "/", "a").Status == 200 })
	if n := handshakes.Load(); n < 2 {
		t.Errorf("%d connections", n)
	}
	_ = d
}

// TLS on both sides of a TCP proxy: bulk both ways, half-closes.
func TestTLSTCPBothSides(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	backend := tcpServer(t, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{server.Certificate}})
		_, _ = io.Copy(s, s)
		_ = s.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
	addr := harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\nprotocol = \"tcp\"\ncluster = \"c\"\n[listener.web.tls]\ncertificates = [%s]\n[cluster.c]\n%s\n[cluster.c.tls]\nca = %q\nsni = \"a.example\"\n",
		addr, pairOf(server), endpoints(backend), a.File))
	s, err := tlsDial(addr, names(a, "a.example"))
	if err != nil {
		t.Fatal(err)
	}
	const size = 20 << 20
	sent := make(chan [32]byte, 1)
	go func() {
		sent <- source(s, 7, size)
		_ = s.CloseWrite()
	}()
	if got := sink(t, s, size); got != <-sent {
		t.Error("the echo is not what was sent")
	}
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
	_ = s.Close()
	if rec := waitEnd(d, "finished"); rec.Int("bytes_in") != size || rec.Int("bytes_out") != size || rec["tls_version"] != "1.3" {
		t.Errorf("record %v", rec)
	}
}

func pemOf(c *x509.Certificate) []byte { return pemBlock("CERTIFICATE", c.Raw) }
