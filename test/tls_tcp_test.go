package test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"

	"belay/test/harness"
)

// greeter speaks first, as many protocols do, and then repeats what it hears.
func greeter(t *testing.T, greeting string) string {
	t.Helper()
	return tcpServer(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, greeting)
		_, _ = io.Copy(c, c)
	})
}

// Each chain of a TCP listener has its cluster: behind TLS that is terminated, behind
// TLS that passes through, and the listener's own for the rest; however the hello is
// cut.
func TestTLSChainClusters(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	outer := a.Issue(harness.Leaf{Name: "outer", DNS: []string{"*.example"}})
	inner := a.Issue(harness.Leaf{Name: "inner", DNS: []string{"*.inner.example"}})
	through := tcpServer(t, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{inner.Certificate}})
		_, _ = io.WriteString(s, "three")
		_, _ = io.Copy(s, s)
	})
	addr := harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\nprotocol = \"tcp\"\ncluster = \"one\"\n[listener.web.tls]\ncertificates = [%s]\n", addr, pairOf(outer))+
		fmt.Sprintf("[[listener.web.chain]]\nserver_names = [\"two.example\"]\ncluster = \"two\"\n[listener.web.chain.tls]\ncertificates = [%s]\n", pairOf(outer))+
		"[[listener.web.chain]]\nserver_names = [\"*.inner.example\"]\npassthrough = true\ncluster = \"three\"\n"+
		fmt.Sprintf("[cluster.one]\n%s\n[cluster.two]\n%s\n[cluster.three]\n%s\n", endpoints(greeter(t, "one")), endpoints(greeter(t, "two")), endpoints(through)))
	for name, tt := range map[string]struct{ greeting, cert string }{
		"one.example": {"one", "outer"}, "two.example": {"two", "outer"}, "x.inner.example": {"three", "inner"},
	} {
		for how, wrap := range map[string]func(net.Conn) net.Conn{
			"whole":   func(c net.Conn) net.Conn { return c },
			"bytes":   func(c net.Conn) net.Conn { return &shredder{c, 1 << 14, 1, false, false} },
			"records": func(c net.Conn) net.Conn { return &shredder{c, 30, 1000, false, false} },
		} {
			c := tls.Client(wrap(dialRaw(t, addr)), names(a, name))
			b := make([]byte, len(tt.greeting))
			if _, err := io.ReadFull(c, b); err != nil || string(b) != tt.greeting {
				t.Errorf("%s, %s: greeted %q, %v", name, how, b, err)
				continue
			}
			echoes(t, c, "hello")
			if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != tt.cert {
				t.Errorf("%s, %s: certificate %s", name, how, got)
			}
			_ = c.Close()
		}
	}
	if n, _ := d.Metric("belay_listener_tls_passed_through_total"); n != 3 {
		t.Errorf("%v connections passed through, want 3", n)
	}
	if n, _ := d.Metric("belay_listener_tls_handshakes_total"); n != 6 {
		t.Errorf("%v handshakes, want 6", n)
	}
}

// TLS that passes through with a PROXY header before it: the other belay hears of the
// client, and the client sees the other's certificate.
func TestTLSPassthroughProxied(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	inner := &site{listener: "proxy_protocol = \"require\"\nproxy_protocol_from = [\"127.0.0.0/8\"]\n", endpoints: []string{harness.NewEcho(t, "a").Addr},
		tables: "[listener.web.tls]\ncertificates = [" + pairOf(server) + "]\n"}
	serve(t, inner)
	for _, version := range []string{"v1", "v2"} {
		addr := harness.Addr(t)
		harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\nprotocol = \"tcp\"\n[[listener.web.chain]]\npassthrough = true\ncluster = \"c\"\n[cluster.c]\n%s\nproxy_protocol = %q\n", addr, endpoints(inner.addr), version))
		raw, err := harness.TryDial("127.0.0.7", addr)
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(raw, names(a, "a.example"))
		r := harness.Wrap(t, c).Do("GET", "/", "a.example")
		wantStatus(t, r, 200)
		want(t, r.Body, "X-Forwarded-For: 127.0.0.7\r\n", "X-Forwarded-Proto: https\r\n")
		_ = c.Close()
	}
}

// A Unix socket may have TLS and PROXY headers as well; its file's mode decides who
// may send them.
func TestTLSOnUnixSocket(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	path := harness.TempDir(t) + "/web.sock"
	s := &site{addr: "unix:" + path, listener: "proxy_protocol = \"accept\"\n", endpoints: []string{harness.NewEcho(t, "a").Addr}, tables: "[listener.web.tls]\ncertificates = [" + pairOf(server) + "]\n"}
	d := serve(t, s)
	for _, head := range []string{"", "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"} {
		raw, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(&pieces{raw, func(b []byte) [][]byte { return [][]byte{append([]byte(head), b...)} }}, names(a, "a.example"))
		r := harness.Wrap(t, c).Do("GET", "/", "a.example")
		wantStatus(t, r, 200)
		client := ""
		if head != "" {
			client = "192.0.2.7"
		}
		if got := harness.Field(r.Body, "X-Forwarded-For"); got != client {
			t.Errorf("%q: the client is %q", head, got)
		}
		_ = c.Close()
	}
	raw, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_, _ = io.WriteString(raw, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r, err := harness.Wrap(t, raw).TryReply("GET")
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, r, 400)
	wantFailure(t, d, "plain", 1)
}
