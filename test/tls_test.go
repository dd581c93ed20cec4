package test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// soonRefused has handshakes end soon.
const soonRefused = "[listener.web.timeouts]\nhandshake = \"500ms\"\n"

// pairOf is an element of certificates.
func pairOf(c harness.Certificate) string {
	return fmt.Sprintf("{ cert = %q, key = %q }", c.CertFile, c.KeyFile)
}

// tlsDial makes a TLS connection; cfg is changed only by the deadline of the test.
func tlsDial(addr string, cfg *tls.Config) (*tls.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	s := tls.Client(c, cfg)
	if err := s.Handshake(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return s, nil
}

// secure is a client over TLS.
func secure(t *testing.T, addr string, cfg *tls.Config) (*harness.Conn, *tls.Conn) {
	t.Helper()
	s, err := tlsDial(addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return harness.Wrap(t, s), s
}

// refusal is the error of a client that is refused, at the handshake or, with TLS
// 1.3, when it reads.
func refusal(t *testing.T, addr string, cfg *tls.Config) error {
	t.Helper()
	s, err := tlsDial(addr, cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	_, _ = io.WriteString(s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_, err = s.Read(make([]byte, 1))
	if err == nil {
		t.Errorf("%s: the client is answered", cfg.ServerName)
	}
	return err
}

// wantReset reports any end but RST.
func wantReset(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}

// wantFailure waits until a refusal is counted.
func wantFailure(t *testing.T, d *harness.Daemon, reason string, n float64) {
	t.Helper()
	harness.Eventually(t, patience, reason+" is counted", func() bool {
		sum, _ := d.Metric("belay_listener_handshake_failures_total", `reason="`+reason+`"`)
		return sum >= n
	})
}

// names is a client that verifies.
func names(a *harness.Authority, name string) *tls.Config {
	return &tls.Config{RootCAs: a.Pool(), ServerName: name}
}

const respond = "[[listener.web.route]]\nrespond = { status = 200, body = \"%s\" }\n"

// Filter chains: the exact name before the longest suffix before none, ALPN and
// source within these, and a reset for whoever meets none.
func TestTLSChains(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	chain := func(name, conditions string) string {
		c := a.Issue(harness.Leaf{Name: name, DNS: []string{"a.example", "*.example", "*.b.example", "other"}})
		return fmt.Sprintf("[[listener.web.chain]]\nname = %q\n%s\n[listener.web.chain.tls]\ncertificates = [%s]\n", name, conditions, pairOf(c))
	}
	addr := harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\n", addr)+soonRefused+
		chain("exact", `server_names = ["a.example"]`)+
		chain("suffix", `server_names = ["*.example"]`)+
		chain("longer", `server_names = ["*.b.example"]`)+
		chain("alpn", "server_names = [\"*.b.example\"]\nalpn = [\"http/1.1\"]")+
		chain("source", "server_names = [\"*.b.example\"]\nsources = [\"127.0.0.9/32\"]")+
		fmt.Sprintf(respond, "x"))
	for _, tt := range []struct {
		name, source string
		alpn         []string
		want         string
	}{
		{"a.example", "", nil, "exact"},
		{"A.Example", "", nil, "exact"},
		{"z.example", "", nil, "suffix"},
		{"z.b.example", "", nil, "longer"},
		{"z.b.example", "", []string{"http/1.1"}, "alpn"},
		{"z.b.example", "127.0.0.9", nil, "source"},
		{"z.b.example", "127.0.0.9", []string{"http/1.1"}, "alpn"},
	} {
		dialer := net.Dialer{Timeout: patience}
		if tt.source != "" {
			dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(tt.source)}
		}
		c, err := tls.DialWithDialer(&dialer, "tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: tt.name, NextProtos: tt.alpn})
		if err != nil {
			t.Errorf("%v: %v", tt, err)
			continue
		}
		if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != tt.want {
			t.Errorf("%v: chain %s", tt, got)
		}
		_ = c.Close()
	}
	for i, name := range []string{"other", "example", ""} {
		_, err := tlsDial(addr, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		wantReset(t, err)
		wantFailure(t, d, "no-chain", float64(i+1))
	}
	out, _ := belayctl(t, d, "tls", "explain", "--sni", "z.b.example", "--alpn", "http/1.1")
	want(t, out, "alpn (server name *.b.example, ALPN)", "alpn.pem")
	out, _ = belayctl(t, d, "tls", "explain", "--sni", "other")
	want(t, out, "none", "reset")
}

// TLS that passes through is the endpoint's own.
func TestTLSPassthrough(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	inner := a.Issue(harness.Leaf{Name: "inner", DNS: []string{"inner.example"}})
	backend := tcpServer(t, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{inner.Certificate}})
		_, _ = io.Copy(s, s)
	})
	addr := harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\nprotocol = \"tcp\"\n[[listener.web.chain]]\nserver_names = [\"inner.example\"]\npassthrough = true\ncluster = \"c\"\n[cluster.c]\n%s\n", addr, endpoints(backend)))
	s, err := tlsDial(addr, names(a, "inner.example"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	text := strings.Repeat("0123456789abcdef", 20000)
	go func() { _, _ = io.WriteString(s, text) }()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(s, b); err != nil || string(b) != text {
		t.Errorf("the echo is not what was sent: %v", err)
	}
	_, err = tlsDial(addr, names(a, "elsewhere.example"))
	wantReset(t, err)
	wantFailure(t, d, "no-chain", 1)
}

// What is no TLS where TLS is spoken, and TLS where none is.
func TestTLSOtherProtocols(t *testing.T) {
	t.Parallel()
	plain := harness.Addr(t)
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n" + soonRefused, routes: fmt.Sprintf(respond, "x"),
		more: fmt.Sprintf("[listener.plain]\naddress = %q\n[[listener.plain.route]]\nrespond = { status = 200, body = \"p\" }\n", plain)}
	d := serve(t, s)
	wantStatus(t, harness.Get(t, s.addr, "/", "a"), 400)
	wantFailure(t, d, "plain", 1)
	c := harness.Dial(t, s.addr).Send("\x00\x01garbage of somebody\r\n\r\n")
	if data, reset := c.Rest(); !reset || data != "" {
		t.Errorf("garbage: %q, reset %t", data, reset)
	}
	wantFailure(t, d, "plain", 2)
	hello := recordedHello(t, "a.example")
	hello[5] = 2 // ServerHello
	if _, reset := harness.Dial(t, s.addr).Send(string(hello)).Rest(); !reset {
		t.Error("a ServerHello from a client is not reset")
	}
	wantFailure(t, d, "bad-hello", 1)
	if data, _ := harness.Dial(t, plain).Send(string(recordedHello(t, "a.example"))).Rest(); data != "" {
		t.Errorf("TLS on a plain port is answered: %q", data)
	}
	harness.Eventually(t, patience, "TLS on a plain port is counted", func() bool {
		n, _ := d.Metric("belay_listener_tls_on_plain_total", `listener="plain"`)
		return n == 1
	})
	harness.Dial(t, s.addr).Send("\x16\x03").ExpectNothing(50 * time.Millisecond)
	wantFailure(t, d, "timeout", 1)
}

// recordedHello is the first flight of a client of crypto/tls.
func recordedHello(t *testing.T, name string) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() { _ = tls.Client(theirs, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() }()
	b := make([]byte, 8<<10)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// pieces is a connection whose first write goes out in pieces.
type pieces struct {
	net.Conn
	cut func([]byte) [][]byte
}

func (p *pieces) Write(b []byte) (int, error) {
	if p.cut == nil {
		return p.Conn.Write(b)
	}
	list := p.cut(b)
	p.cut = nil
	for _, x := range list {
		if _, err := p.Conn.Write(x); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// A ClientHello may come byte by byte, and in many records; a post-quantum one is
// larger than a segment.
func TestTLSHelloInPieces(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n", routes: fmt.Sprintf(respond, "x"), more: "[server.tls]\nhello_bytes = \"4KiB\"\n"}
	d := serve(t, s)
	bytewise := func(b []byte) (list [][]byte) {
		for i := range b {
			list = append(list, b[i:i+1])
		}
		return list
	}
	records := func(b []byte) (list [][]byte) {
		for body := b[5:]; len(body) > 0; {
			n := min(100, len(body))
			list = append(list, append([]byte{b[0], b[1], b[2], 0, byte(n)}, body[:n]...))
			body = body[n:]
		}
		return list
	}
	for name, cut := range map[string]func([]byte) [][]byte{"bytes": bytewise, "records": records} {
		for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			raw, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = raw.(*net.TCPConn).SetNoDelay(true)
			c := tls.Client(&pieces{raw, cut}, &tls.Config{InsecureSkipVerify: true, MaxVersion: v})
			if err := c.Handshake(); err != nil {
				t.Errorf("%s, %#x: %v", name, v, err)
				continue
			}
			if v == tls.VersionTLS13 && c.ConnectionState().CurveID != tls.X25519MLKEM768 {
				t.Errorf("key exchange %v", c.ConnectionState().CurveID)
			}
			wantStatus(t, harness.Wrap(t, c).Do("GET", "/", "a"), 200)
		}
	}
	big := &tls.Config{InsecureSkipVerify: true}
	for i := range 500 {
		big.NextProtos = append(big.NextProtos, fmt.Sprintf("protocol-%d", i))
	}
	_, err := tlsDial(s.addr, big)
	wantReset(t, err)
	wantFailure(t, d, "hello-too-big", 1)
	if n, _ := d.Metric("belay_listener_tls_groups_total", `group="X25519MLKEM768"`); n != 2 {
		t.Errorf("%v handshakes with X25519MLKEM768 are counted", n)
	}
}

func sha256Of(b []byte) [32]byte { return sha256.Sum256(b) }

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
