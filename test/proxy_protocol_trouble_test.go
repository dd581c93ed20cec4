package test

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// summed is a header of version 2 with a CRC32C in it, which is off by a number.
func summed(source, dest string, off uint32) string {
	b := []byte(v2(source, dest, "\x04\x00\x02ab\x03\x00\x04\x00\x00\x00\x00"))
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[len(b)-4:], sum+off)
	return string(b)
}

// v2six is a header of version 2 for TCP over IPv6.
func v2six(source, dest string, port uint16) string {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24")
	b = append(append(b, net.ParseIP(source).To16()...), net.ParseIP(dest).To16()...)
	return string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, port), 443))
}

// Whom a header names, in all its forms; and those that name nobody.
func TestProxyProtocolForms(t *testing.T) {
	t.Parallel()
	s := &site{listener: "proxy_protocol = \"require\"\nproxy_protocol_from = [\"127.0.0.0/8\"]\n", endpoints: []string{harness.NewEcho(t, "a").Addr}, tables: soonRefused}
	d := serve(t, s)
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, tt := range map[string]struct{ head, client string }{
		"checksum":             {summed("192.0.2.7:4711", "192.0.2.1:443", 0), "192.0.2.7"},
		"IPv6":                 {v2six("2001:db8::7", "2001:db8::1", 4711), "2001:db8::7"},
		"IPv6 in version 1":    {"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "2001:db8::7"},
		"IPv4 as IPv6":         {v2six("::ffff:192.0.2.9", "::ffff:192.0.2.1", 4711), "192.0.2.9"},
		"LOCAL":                {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.1"},
		"LOCAL with addresses": {strings.Replace(v2("192.0.2.7:1", "192.0.2.1:443", ""), "\x21\x11", "\x20\x11", 1), "127.0.0.1"},
		"UNSPEC":               {"\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00", "127.0.0.1"},
		"UNKNOWN with more":    {"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", "127.0.0.1"},
		"TLV of a kilobyte":    {v2("192.0.2.7:4711", "192.0.2.1:443", "\xe0\x04\x00"+strings.Repeat("x", 1024)), "192.0.2.7"},
	} {
		r := harness.Dial(t, s.addr).Send(tt.head + get).Reply("GET")
		wantStatus(t, r, 200)
		if got := harness.Field(r.Body, "X-Forwarded-For"); got != tt.client {
			t.Errorf("%s: the client is %q, want %q", name, got, tt.client)
		}
	}
	bad := map[string]string{
		"wrong checksum":   summed("192.0.2.7:4711", "192.0.2.1:443", 1),
		"version 3":        strings.Replace(v2("192.0.2.7:1", "192.0.2.1:1", ""), "\x21\x11", "\x31\x11", 1),
		"short addresses":  "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x04abcd",
		"TLV over the end": v2("192.0.2.7:1", "192.0.2.1:1", "\x04\x00\x09abc"),
		"line too long":    "PROXY TCP4 192.0.2.7 192.0.2.1 " + strings.Repeat("1", 200) + "\r\n",
		"port too large":   "PROXY TCP4 192.0.2.7 192.0.2.1 70000 443\r\n",
		"no CR":            "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\n" + get,
		"IPv6 where IPv4":  "PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
	}
	n := 0.0
	for name, head := range bad {
		n++
		if data, reset := harness.Dial(t, s.addr).Send(head + get).Rest(); data != "" || !reset {
			t.Errorf("%s: %q, reset %t", name, data, reset)
		}
		harness.Eventually(t, patience, name+" is counted", func() bool {
			got, _ := d.Metric("belay_listener_handshake_failures_total", `reason="bad-proxy-header"`)
			return got == n
		})
	}
	want(t, d.WaitLine("reason=bad-proxy-header"), "listener=web")
	// A second header is no header but a request, and a bad one.
	wantStatus(t, harness.Dial(t, s.addr).Send("PROXY TCP4 192.0.2.7 192.0.2.1 1 1\r\nPROXY TCP4 192.0.2.8 192.0.2.1 1 1\r\n\r\n").Reply("GET"), 400)
}

// Half a header holds nobody up, and ends when timeouts.handshake says; a client
// that never speaks does too.
func TestProxyProtocolSlow(t *testing.T) {
	t.Parallel()
	s := &site{listener: "proxy_protocol = \"require\"\nproxy_protocol_from = [\"127.0.0.0/8\"]\n", routes: fmt.Sprintf(respond, "x"), tables: soonRefused}
	d := serve(t, s)
	began := time.Now()
	var open []*harness.Conn
	for range 20 {
		open = append(open, harness.Dial(t, s.addr).Send("PROXY TCP4 192.0"), harness.Dial(t, s.addr).Send("\r\n\r\n\x00"), harness.Dial(t, s.addr))
	}
	wantStatus(t, harness.Dial(t, s.addr).Send("PROXY TCP4 192.0.2.7 192.0.2.1 1 1\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").Reply("GET"), 200)
	for _, c := range open {
		if _, reset := c.Rest(); !reset {
			t.Error("not reset")
		}
	}
	if took := time.Since(began); took < 450*time.Millisecond {
		t.Errorf("they ended after %v", took)
	}
	wantFailure(t, d, "timeout", 60)
}

// The client that the header names is the one whose connections are counted and
// chosen by, not the balancer in front.
func TestProxyProtocolSources(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	inside, outside := a.Issue(harness.Leaf{Name: "inside", DNS: []string{"a.example"}}), a.Issue(harness.Leaf{Name: "outside", DNS: []string{"a.example"}})
	s := &site{
		listener: "proxy_protocol = \"require\"\nproxy_protocol_from = [\"127.0.0.0/8\"]\n", routes: fmt.Sprintf(respond, "x"),
		tables: "[[listener.web.chain]]\nname = \"inside\"\nsources = [\"10.0.0.0/8\", \"2001:db8::/32\"]\n[listener.web.chain.tls]\ncertificates = [" + pairOf(inside) + "]\n" +
			"[listener.web.tls]\ncertificates = [" + pairOf(outside) + "]\n",
		more: "[server]\nworkers = 1\n[server.tls]\nmax_handshakes_per_source = 2\n",
	}
	d := serve(t, s)
	through := func(head string) (string, error) {
		c := tls.Client(&pieces{dialRaw(t, s.addr), func(b []byte) [][]byte { return [][]byte{append([]byte(head), b...)} }}, names(a, "a.example"))
		if err := c.Handshake(); err != nil {
			return "", err
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
	}
	for head, want := range map[string]string{
		"PROXY TCP4 10.1.2.3 192.0.2.1 1 1\r\n":         "inside",
		v2six("2001:db8:1::7", "2001:db8::1", 1):        "inside",
		v2six("::ffff:10.9.8.7", "2001:db8::1", 1):      "inside",
		"PROXY TCP4 192.0.2.3 192.0.2.1 1 1\r\n":        "outside",
		"PROXY UNKNOWN\r\n":                             "outside",
		"PROXY TCP6 2001:db9::1 2001:db8::1 1 1\r\n":    "outside",
		v2("10.255.255.255:1", "192.0.2.1:443", ""):     "inside",
		"PROXY TCP4 11.0.0.0 192.0.2.1 65535 65535\r\n": "outside",
	} {
		if got, err := through(head); err != nil || got != want {
			t.Errorf("%q: certificate %q, %v; want %q", head, got, err, want)
		}
	}
	const one = "PROXY TCP4 192.0.2.3 192.0.2.1 1 1\r\n"
	harness.Dial(t, s.addr).Send(one + "\x16")
	harness.Dial(t, s.addr).Send(one + "\x16")
	harness.Eventually(t, patience, "two wait", func() bool {
		n, _ := d.Metric("belay_handshakes_open")
		return n == 2
	})
	if _, err := through(one); err == nil {
		t.Error("a third of one client is let in")
	}
	wantFailure(t, d, "source-limit", 1)
	if got, err := through("PROXY TCP4 192.0.2.4 192.0.2.1 1 1\r\n"); err != nil || got != "outside" {
		t.Errorf("another client behind the same balancer: %q, %v", got, err)
	}
}
