package test

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"belay/test/harness"
)

// What a listener offers and what a client can: either they agree on what both
// prefer, or the client gets the alert that says what is missing, and it is counted.
func TestTLSNegotiation(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	both := pairOf(a.Issue(harness.Leaf{Name: "ecdsa", DNS: []string{"a.example"}})) + ", " + pairOf(a.Issue(harness.Leaf{Name: "rsa", DNS: []string{"a.example"}, RSA: true}))
	const gcm, chacha = tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
	for _, tt := range []struct {
		name, keys string
		change     func(*tls.Config)
		alert      string // "": they agree
		reason     string
		check      func(*tls.ConnectionState) bool
	}{
		{"1.2 client", "", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "", "", func(s *tls.ConnectionState) bool { return s.Version == tls.VersionTLS12 }},
		{"1.3 client", "", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, "", "", func(s *tls.ConnectionState) bool { return s.Version == tls.VersionTLS13 }},
		{"old client", "", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "protocol version", "version", nil},
		{"1.2 where 1.3 is the least", `min_version = "1.3"`, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "protocol version", "version", nil},
		{"1.3 where it is the least", `min_version = "1.3"`, nil, "", "", func(s *tls.ConnectionState) bool { return s.Version == tls.VersionTLS13 }},
		{"1.3 client where 1.2 is the most", `max_version = "1.2"`, nil, "", "", func(s *tls.ConnectionState) bool { return s.Version == tls.VersionTLS12 }},
		{
			"a suite of the list", `cipher_suites = ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]`, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "", "",
			func(s *tls.ConnectionState) bool { return s.CipherSuite == gcm },
		},
		{
			"no suite of the list", `cipher_suites = ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]`,
			func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{chacha} }, "handshake failure", "cipher", nil,
		},
		{
			"CBC", "", func(c *tls.Config) {
				c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
			}, "handshake failure", "cipher", nil,
		},
		{ // the key share of the first hello is of no use: HelloRetryRequest
			"another group", `curves = ["secp384r1"]`, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384} }, "", "",
			func(s *tls.ConnectionState) bool { return s.CurveID == tls.CurveP384 && s.HelloRetryRequest },
		},
		{
			"no group", `curves = ["secp384r1"]`, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, "handshake failure", "cipher", nil,
		},
		{"ALPN", "", func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, "", "", func(s *tls.ConnectionState) bool { return s.NegotiatedProtocol == "http/1.1" }},
		{"no ALPN", "", nil, "", "", func(s *tls.ConnectionState) bool { return s.NegotiatedProtocol == "" }},
		{"another ALPN", "", func(c *tls.Config) { c.NextProtos = []string{"h2"} }, "no application protocol", "alpn", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &site{tables: "[listener.web.tls]\ncertificates = [" + both + "]\n" + tt.keys + "\n" + soonRefused, routes: fmt.Sprintf(respond, "x")}
			d := serve(t, s)
			cfg := names(a, "a.example")
			if tt.change != nil {
				tt.change(cfg)
			}
			if tt.alert != "" {
				if _, err := tlsDial(s.addr, cfg); err == nil || !strings.Contains(err.Error(), "remote error: tls: "+tt.alert) {
					t.Errorf("%v, want the alert %q", err, tt.alert)
				}
				wantFailure(t, d, tt.reason, 1)
				return
			}
			c, conn := secure(t, s.addr, cfg)
			wantStatus(t, c.Do("GET", "/", "a.example"), 200)
			if state := conn.ConnectionState(); !tt.check(&state) {
				t.Errorf("version %#x, suite %s, group %v, ALPN %q", state.Version, tls.CipherSuiteName(state.CipherSuite), state.CurveID, state.NegotiatedProtocol)
			}
		})
	}
}

// A client that refuses the certificate says so with an alert, which is counted as
// the client's.
func TestTLSClientAlert(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n" + soonRefused, routes: fmt.Sprintf(respond, "x")}
	d := serve(t, s)
	for n, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if _, err := tlsDial(s.addr, &tls.Config{ServerName: "a.example", MaxVersion: v}); err == nil {
			t.Fatal("a self-signed certificate is accepted")
		}
		wantFailure(t, d, "alert", float64(n+1))
	}
	want(t, d.WaitLine("reason=alert"), "listener=web", "bad certificate")
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	half := recordedHello(t, "a.example")
	_, _ = c.Write(half[:len(half)-10])
	_ = c.Close()
	wantFailure(t, d, "closed", 1)
	if c, err = net.Dial("tcp", s.addr); err != nil { // who only looks is no failure
		t.Fatal(err)
	}
	_ = c.Close()
	kept, _ := secure(t, s.addr, &tls.Config{InsecureSkipVerify: true})
	wantStatus(t, kept.Do("GET", "/", "a"), 200)
	harness.Eventually(t, patience, "every place is given back", func() bool {
		n, _ := d.Metric("belay_handshakes_open")
		return n == 0
	})
	if n, _ := d.Metric("belay_listener_handshake_failures_total"); n != 3 {
		t.Errorf("%v failures, want 3", n)
	}
}
