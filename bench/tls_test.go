package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tlsPeer is a server that answers every request with 204, and counts.
type tlsPeer struct {
	url, addr     string
	full, resumed atomic.Int64
}

func serveTLS(t *testing.T, change func(*tls.Config)) *tlsPeer {
	t.Helper()
	dir := t.TempDir()
	if err := writeCertificate(dir); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}}
	if change != nil {
		change(conf)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	p := &tlsPeer{addr: ln.Addr().String()}
	p.url = "https://" + p.addr
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go p.answer(nc.(*tls.Conn))
		}
	}()
	return p
}

// answer is one connection; one request fits into one record.
func (p *tlsPeer) answer(c *tls.Conn) {
	defer func() { _ = c.Close() }()
	if c.Handshake() != nil {
		return
	}
	if c.ConnectionState().DidResume {
		p.resumed.Add(1)
	} else {
		p.full.Add(1)
	}
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil || strings.Contains(string(b[:n]), "Connection: close") {
			return
		}
	}
}

func shortLab() *lab { return &lab{s: &settings{duration: 100 * time.Millisecond}} }

func TestHandshakeLoad(t *testing.T) {
	tests := []struct {
		name    string
		curve   tls.CurveID
		resume  bool
		server  func(*tls.Config)
		works   bool
		full    int64 // -1: as many as requests
		resumed int64
	}{
		{name: "full", curve: tls.X25519, works: true, full: -1},
		{name: "post-quantum", curve: tls.X25519MLKEM768, works: true, full: -1},
		{name: "resumed", curve: tls.X25519, resume: true, works: true, full: 1, resumed: -1},
		{name: "no tickets", curve: tls.X25519, resume: true, server: func(c *tls.Config) { c.SessionTicketsDisabled = true }},
		{name: "no such curve", curve: tls.X25519MLKEM768, server: func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }},
		{name: "TLS 1.2", curve: tls.X25519, server: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := serveTLS(t, tt.server)
			m, err := handshakeLoad(4, tt.curve, tt.resume)(shortLab(), p.url)
			if (err == nil) != tt.works {
				t.Fatalf("error %v, want one: %v", err, !tt.works)
			}
			if !tt.works {
				return
			}
			if m.requests == 0 || m.errors != 0 || m.seconds <= 0 || m.p99 <= 0 {
				t.Errorf("sample %+v", m)
			}
			count := func(n int64) int64 {
				if n < 0 {
					return m.requests
				}
				return n
			}
			if full, resumed := p.full.Load(), p.resumed.Load(); full != count(tt.full) || resumed != count(tt.resumed) {
				t.Errorf("%d full and %d resumed handshakes for %d requests", full, resumed, m.requests)
			}
		})
	}
}

// A handshake that is full where a resumed one was asked for is an error.
func TestHandshakeNotResumed(t *testing.T) {
	p := serveTLS(t, nil)
	h := handshaker{addr: p.addr, conf: clientTLS(tls.X25519), resume: true}
	if err := h.once(); err == nil || !strings.Contains(err.Error(), "resumed: false") {
		t.Errorf("error %v", err)
	}
}

func TestFloodIsAnswered(t *testing.T) {
	p := serveTLS(t, nil)
	m, err := floodLoad(200, 4, 4)(shortLab(), p.url)
	if err != nil {
		t.Fatal(err)
	}
	if m.requests != 20 || m.errors != 0 || m.handshakes <= 0 {
		t.Errorf("sample %+v", m)
	}
	if n := p.full.Load(); n != 4 {
		t.Errorf("%d finished handshakes; the flood finishes none of its own", n)
	}
}

func TestFloodCountsOnlyServerHello(t *testing.T) {
	p := serveTLS(t, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }) // answers with an alert
	hello, err := recordHello(clientTLS(tls.X25519))
	if err != nil {
		t.Fatal(err)
	}
	f := &flood{addr: p.addr, hello: hello}
	if err := f.once(); err == nil {
		t.Error("an alert counts as an answered handshake")
	}
}

func TestDialer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if _, err := dialer("http://"+ln.Addr().String(), tls.X25519)(); err != nil {
		t.Error(err)
	}
	c, err := dialer(serveTLS(t, nil).url, tls.X25519)()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	state := c.(*tls.Conn).ConnectionState()
	if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519 || state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Errorf("%s by %s with %s", tls.VersionName(state.Version), state.CurveID, tls.CipherSuiteName(state.CipherSuite))
	}
}

func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	if err := writeCertificate(dir); err != nil {
		t.Fatal(err)
	}
	both := filepath.Join(dir, "server-both.pem")
	pair, err := tls.LoadX509KeyPair(both, both)
	if err != nil {
		t.Fatal(err)
	}
	if pair.Leaf.PublicKeyAlgorithm != x509.ECDSA || pair.Leaf.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		t.Errorf("%v key, %v", pair.Leaf.PublicKeyAlgorithm, pair.Leaf.SignatureAlgorithm)
	}
	if err := pair.Leaf.VerifyHostname(tlsName); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(both); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
}

// Each template of the HTTP cases still has what the TLS cases replace.
func TestTLSConfigurations(t *testing.T) {
	for name, tt := range map[string]struct {
		text  string
		edits []lineEdit
		want  string
	}{
		"belay":   {belayConf, belayTLSEdits, `certificates = [{ cert = "/d/server.pem", key = "/d/server.key" }]`},
		"nginx":   {nginxConf, nginxTLSEdits, "listen 127.0.0.1:8443 ssl reuseport"},
		"haproxy": {haproxyConf, haproxyTLSEdits, "ssl crt /d/server-both.pem"},
	} {
		text, err := edit(tt.text, tt.edits)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if body := fmt.Sprintf(text, "/d", 8443, "", 1, 2, ""); !strings.Contains(body, tt.want) || !strings.Contains(body, ownPath) {
			t.Errorf("%s: no %q or no %s in\n%s", name, tt.want, ownPath, body)
		}
	}
	if _, err := edit("a\n", []lineEdit{{"b\n", "c\n"}}); err == nil {
		t.Error("a line that is not there is replaced")
	}
}
