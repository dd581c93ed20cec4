package httpproxy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/ratelog"
	"belay/internal/transport"
	"belay/internal/upstream"
)

// startSecure is startProxy before a server with TLS, whose certificate is for
// example.com and 127.0.0.1.
func startSecure(t *testing.T, backend http.HandlerFunc, change func(*httptest.Server)) *proxy {
	t.Helper()
	server := httptest.NewUnstartedServer(backend)
	server.TLS = &tls.Config{}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if change != nil {
		change(server)
	}
	server.StartTLS()
	p := proxyBefore(t, server, "")
	pool := t.TempDir() + "/ca.pem"
	writeCertificate(t, pool, server.Certificate())
	client, err := certs.NewStore(certs.Options{}).Client(certs.ClientOptions{Name: "back", Server: certs.Trust{CA: pool}})
	if err != nil {
		t.Fatal(err)
	}
	p.do(func() {
		x := p.w.clusters[0]
		x.shared.Config.TLS = &config.ClusterTLS{SNIFromHost: true}
		x.tls = &upstream.TLS{Client: client, Configs: client.Worker(), Stats: p.tls, Log: slog.New(slog.DiscardHandler), Said: &ratelog.Lines[string]{}}
		x.env.Handshakes = transport.NewHandshakes(p.loop, 0)
	})
	return p
}

func (p *proxy) failed(reason string) (n uint64) {
	p.do(func() { n = p.shard.Value(p.tls.Failed[reason]) })
	return n
}

// get asks for a path under a host name.
func (c *client) get(path, host string) (*http.Response, string) {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
	return c.reply("GET")
}

// TestSecureNames: requests share connections by the name in Host, whatever its case
// and port.
func TestSecureNames(t *testing.T) {
	var conns atomic.Int32
	p := startSecure(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.TLS.ServerName) }, func(s *httptest.Server) {
		s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
			if st == http.StateNew {
				conns.Add(1)
			}
		}
	})
	c := p.dial(t)
	for _, tt := range []struct {
		host, name string
		conns      int32
	}{
		{"example.com", "example.com", 1},
		{"EXAMPLE.com:8443", "example.com", 1},
		{"example.com.", "example.com", 1},
		{"127.0.0.1", "", 2}, // verified, not sent
		{"127.0.0.1:80", "", 2},
		{"example.com", "example.com", 2},
	} {
		if r, body := c.get("/back", tt.host); r.StatusCode != 200 || body != tt.name || conns.Load() != tt.conns {
			t.Errorf("%s: %d, server name %q, %d connections; want %q, %d", tt.host, r.StatusCode, body, conns.Load(), tt.name, tt.conns)
		}
	}
	if r, _ := c.get("/back", "other.test"); r.StatusCode != 503 || p.failed("certificate_name") != 1 {
		t.Errorf("a name that the certificate is not for: %d, %d failures", r.StatusCode, p.failed("certificate_name"))
	}
}

// TestSecureLateAlert: an endpoint that wants a certificate says so, with TLS 1.3,
// when the request is under way.
func TestSecureLateAlert(t *testing.T) {
	p := startSecure(t, plain, func(s *httptest.Server) { s.TLS.ClientAuth = tls.RequireAnyClientCert })
	if r, _ := p.dial(t).get("/back", "example.com"); r.StatusCode != 502 || p.failed("alert") != 1 {
		t.Errorf("%d, %d alerts are counted", r.StatusCode, p.failed("alert"))
	}
}

// TestSecureTruncated: only close_notify ends a reply that has no other end.
func TestSecureTruncated(t *testing.T) {
	p := startSecure(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")
		if strings.HasSuffix(r.URL.Path, "/whole") {
			_ = conn.Close()
		} else {
			_ = conn.(*tls.Conn).NetConn().Close()
		}
	}, nil)
	for _, version := range []string{"1.0", "1.1"} {
		for path, whole := range map[string]bool{"/back/whole": true, "/back/cut": false} {
			c := p.dial(t)
			c.send("GET " + path + " HTTP/" + version + "\r\nHost: example.com\r\n\r\n")
			r, err := http.ReadResponse(c.r, &http.Request{Method: "GET"})
			if err == nil {
				var body []byte
				body, err = io.ReadAll(r.Body)
				if whole && string(body) != "all of it" {
					t.Errorf("%s, HTTP/%s: %q", path, version, body)
				}
			}
			if whole != (err == nil) {
				t.Errorf("%s, HTTP/%s: %v", path, version, err)
			}
		}
	}
}

func writeCertificate(t *testing.T, file string, c *x509.Certificate) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}
