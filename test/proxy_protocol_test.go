package test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// v2 is a PROXY header of version 2 for TCP over IPv4, with TLVs behind the
// addresses.
func v2(source, dest string, tlvs string) string {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x00")
	for _, a := range []string{source, dest} {
		host, _, _ := net.SplitHostPort(a)
		b = append(b, net.ParseIP(host).To4()...)
	}
	for _, a := range []string{source, dest} {
		_, port, _ := net.SplitHostPort(a)
		var n uint16
		_, _ = fmt.Sscan(port, &n)
		b = binary.BigEndian.AppendUint16(b, n)
	}
	b = append(b, tlvs...)
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	return string(b)
}

// The client that a PROXY header names is the client everywhere; only who is
// trusted may name one; what is malformed is reset and counted.
func TestProxyProtocolIn(t *testing.T) {
	t.Parallel()
	echo := harness.NewEcho(t, "a").Addr
	s := &site{listener: "proxy_protocol = \"require\"\nproxy_protocol_from = [\"127.0.0.1\"]\ndeny = [\"192.0.2.66/32\"]\n", endpoints: []string{echo}, tables: soonRefused}
	d := serve(t, s)
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, head := range map[string]string{
		"v1":      "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n",
		"v2":      v2("192.0.2.7:4711", "192.0.2.1:443", ""),
		"v2 TLVs": v2("192.0.2.7:4711", "192.0.2.1:443", "\x02\x00\x09a.example\x04\x00\x03abc"),
	} {
		r := harness.Dial(t, s.addr).Send(head + get).Reply("GET")
		wantStatus(t, r, 200)
		want(t, r.Body, "X-Forwarded-For: 192.0.2.7\r\n")
		c := harness.Dial(t, s.addr)
		for i := range head { // in pieces, and the request behind
			c.Send(head[i : i+1])
		}
		r = c.Send(get).Reply("GET")
		want(t, r.Body, "X-Forwarded-For: 192.0.2.7\r\n")
		if rec := d.WaitPath("/"); rec["client"] != "192.0.2.7" || rec["peer"] != "127.0.0.1" || rec.Int("client_port") != 4711 {
			t.Errorf("%s: record %v", name, rec)
		}
	}
	want(t, harness.Dial(t, s.addr).Send("PROXY UNKNOWN\r\n"+get).Reply("GET").Body, "X-Forwarded-For: 127.0.0.1\r\n")
	// A reset may come before a client has written, or has heard of its connection.
	answer := func(source, bad string) string {
		t.Helper()
		c, err := harness.TryDial(source, s.addr)
		if err != nil {
			return ""
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, bad)
		data, err := io.ReadAll(c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: %v", bad, err)
		}
		return string(data)
	}
	for reason, bad := range map[string]string{
		"bad-proxy-header": "PROXY TCP4 192.0.2.7 nonsense 1 1\r\n",
		"no-proxy-header":  get,
	} {
		if data := answer("127.0.0.1", bad); data != "" {
			t.Errorf("%s: %q", reason, data)
		}
		wantFailure(t, d, reason, 1)
	}
	if data := answer("127.0.0.2", "PROXY TCP4 192.0.2.7 192.0.2.1 1 1\r\n"+get); data != "" {
		t.Errorf("somebody else may name a client: %q", data)
	}
	wantFailure(t, d, "no-proxy-header", 2)
	if data := answer("127.0.0.1", "PROXY TCP4 192.0.2.66 192.0.2.1 1 1\r\n"+get); data != "" {
		t.Errorf("who is denied is served: %q", data)
	}
	if n, _ := d.Metric("belay_listener_rejected_total", `reason="address"`); n != 1 {
		t.Errorf("%v rejected, want 1", n)
	}
	harness.Eventually(t, patience, "every place is given back", func() bool {
		n, _ := d.Metric("belay_handshakes_open")
		return n == 0
	})
}

// "accept": with a header or without, before TLS as well.
func TestProxyProtocolAccept(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	port := a.Issue(harness.Leaf{Name: "port", DNS: []string{"a.example"}})
	s := &site{listener: "proxy_protocol = \"accept\"\nproxy_protocol_from = [\"127.0.0.0/8\"]\n", endpoints: []string{harness.NewEcho(t, "a").Addr},
		tables: "[[listener.web.chain]]\nname = \"port\"\nports = [8443]\n[listener.web.chain.tls]\ncertificates = [" + pairOf(port) + "]\n[listener.web.tls]\ncertificates = [" + pairOf(server) + "]\n"}
	serve(t, s)
	for _, head := range []string{"", "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n", v2("192.0.2.7:4711", "192.0.2.1:8443", "")} {
		raw, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(&pieces{raw, func(b []byte) [][]byte { return [][]byte{append([]byte(head), b...)} }}, names(a, "a.example"))
		body := harness.Wrap(t, c).Do("GET", "/", "a.example").Body
		client, cert := "192.0.2.7", "server"
		if head == "" {
			client = "127.0.0.1"
		}
		if strings.HasPrefix(head, "\r\n") {
			cert = "port"
		}
		want(t, body, "X-Forwarded-For: "+client+"\r\n")
		if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != cert {
			t.Errorf("%q: certificate %s, want %s", head, got, cert)
		}
	}
}

// A cluster that wants the header gets it: for each client a connection of its own,
// in both versions, over TLS too; another belay and HAProxy understand it.
func TestProxyProtocolOut(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	echo := harness.NewEcho(t, "a").Addr
	for _, version := range []string{"v1", "v2"} {
		for _, protocol := range []string{"http", "tcp"} {
			inner := &site{listener: "proxy_protocol = \"require\"\nproxy_protocol_from = [\"127.0.0.0/8\"]\n", endpoints: []string{echo},
				tables: "[listener.web.tls]\ncertificates = [" + pairOf(server) + "]\n"}
			serve(t, inner)
			addr := harness.Addr(t)
			route := "[[listener.web.route]]\ncluster = \"c\"\n"
			if protocol == "tcp" {
				route = "cluster = \"c\"\n"
			}
			harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\nprotocol = %q\n%s[cluster.c]\n%s\nproxy_protocol = %q\n[cluster.c.tls]\nca = %q\nsni = \"a.example\"\n",
				addr, protocol, route, endpoints(inner.addr), version, a.File))
			for _, source := range []string{"127.0.0.5", "127.0.0.6", "127.0.0.5"} {
				r := harness.DialFrom(t, source, addr).Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").Reply("GET")
				wantStatus(t, r, 200)
				last := "X-Forwarded-For: " + source + "\r\n"
				want(t, r.Body, last)
			}
		}
	}
}

// HAProxy in front, with its header of version 2 and TLVs, and behind.
func TestProxyProtocolHAProxy(t *testing.T) {
	t.Parallel()
	harness.Need(t, "haproxy")
	in := &site{listener: "proxy_protocol = \"require\"\nproxy_protocol_from = [\"127.0.0.0/8\"]\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, in)
	front, behind := harness.Addr(t), harness.Addr(t)
	dir := harness.TempDir(t)
	conf := fmt.Sprintf(`defaults
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend front
  mode tcp
  bind %s
  default_backend belay
backend belay
  mode tcp
  server b %s send-proxy-v2 proxy-v2-options crc32c,unique-id
frontend behind
  mode http
  bind %s accept-proxy
  http-request return status 200 content-type text/plain lf-string "client %%[src]:%%[src_port]"
`, front, in.addr, behind)
	if err := os.WriteFile(dir+"/haproxy.cfg", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("haproxy", "-db", "-f", dir+"/haproxy.cfg")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	harness.Eventually(t, patience, "HAProxy", func() bool {
		x, err := net.Dial("tcp", behind)
		if err == nil {
			_ = x.Close()
		}
		return err == nil
	})
	want(t, harness.DialFrom(t, "127.0.0.9", front).Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").Reply("GET").Body, "X-Forwarded-For: 127.0.0.9\r\n")
	for _, version := range []string{"v1", "v2"} {
		out := &site{endpoints: []string{behind}, cluster: "proxy_protocol = \"" + version + "\"\n"}
		serve(t, out)
		want(t, harness.DialFrom(t, "127.0.0.8", out.addr).Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").Reply("GET").Body, "client 127.0.0.8:")
	}
}
