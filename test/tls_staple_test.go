package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// The OCSP response beside a certificate is stapled, and follows its file; one that
// is no good is never sent, and what that means for the certificate is the policy's.
func TestTLSStaple(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	c := a.Issue(harness.Leaf{Name: "one", DNS: []string{"a.example"}}).Above(t, a)
	path, first := a.Staple(c, false, time.Hour)
	s := &site{tables: fmt.Sprintf("[listener.web.tls]\ncertificates = [{ cert = %q, key = %q, ocsp = %q }]\n", c.CertFile, c.KeyFile, path), routes: fmt.Sprintf(respond, "x")}
	serve(t, s)
	stapled := func(v uint16) []byte {
		t.Helper()
		cfg := names(a, "a.example")
		cfg.MaxVersion = v
		conn, err := tlsDial(s.addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.OCSPResponse()
	}
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if !bytes.Equal(stapled(v), first) {
			t.Errorf("%#x: the response of the file is not stapled", v)
		}
	}
	_, second := a.Staple(c, false, 2*time.Hour)
	harness.Eventually(t, patience, "the new response", func() bool { return bytes.Equal(stapled(0), second) })
	a.Staple(c, true, time.Hour)
	harness.Eventually(t, patience, "no response that says revoked", func() bool { return stapled(0) == nil })
	_, third := a.Staple(c, false, 3*time.Hour)
	harness.Eventually(t, patience, "a good one again", func() bool { return bytes.Equal(stapled(0), third) })
}

// Without a good response a certificate is served, or its clients are told that the
// server cannot.
func TestTLSStaplePolicies(t *testing.T) {
	t.Parallel()
	a, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	for _, tt := range []struct {
		name, policy string
		file         func(harness.Certificate) string // "": none is configured
		serves       bool
	}{
		{"none", "must_staple", func(harness.Certificate) string { return "" }, false},
		{"none", "strict", func(harness.Certificate) string { return "" }, true},
		{"expired", "lenient", func(c harness.Certificate) string { p, _ := a.Staple(c, false, -time.Hour); return p }, true},
		{"expired", "strict", func(c harness.Certificate) string { p, _ := a.Staple(c, false, -time.Hour); return p }, false},
		{"revoked", "strict", func(c harness.Certificate) string { p, _ := a.Staple(c, true, time.Hour); return p }, false},
		{"forged", "strict", func(c harness.Certificate) string { p, _ := stranger.Staple(c, false, time.Hour); return p }, false},
		{"forged", "lenient", func(c harness.Certificate) string { p, _ := stranger.Staple(c, false, time.Hour); return p }, true},
		{"missing", "strict", func(c harness.Certificate) string { return c.CertFile + ".nowhere" }, false},
		{"good", "must_staple", func(c harness.Certificate) string { p, _ := a.Staple(c, false, time.Hour); return p }, true},
	} {
		t.Run(tt.name+" "+tt.policy, func(t *testing.T) {
			t.Parallel()
			c := a.Issue(harness.Leaf{Name: tt.name + tt.policy, DNS: []string{"a.example"}}).Above(t, a)
			element := fmt.Sprintf("cert = %q, key = %q", c.CertFile, c.KeyFile)
			if p := tt.file(c); p != "" {
				element += fmt.Sprintf(", ocsp = %q", p)
			}
			s := &site{tables: fmt.Sprintf("[listener.web.tls]\nocsp_policy = %q\ncertificates = [{ %s }]\n", tt.policy, element), routes: fmt.Sprintf(respond, "x")}
			d := serve(t, s, harness.Options{Errors: true})
			conn, err := tlsDial(s.addr, names(a, "a.example"))
			if tt.serves {
				if err != nil {
					t.Fatal(err)
				}
				if got := len(conn.OCSPResponse()) > 0; got != (tt.name == "good") {
					t.Errorf("stapled: %t", got)
				}
				_ = conn.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), "remote error: tls: internal error") {
				t.Errorf("%v, want the alert of a server that cannot", err)
			}
			wantFailure(t, d, "internal", 1)
			d.WaitLine("no certificate may be used for this name under the OCSP policy")
		})
	}
}

// A key that cannot be used is refused with its reason, at the start as in a check:
// no other certificate of the listener stands in for it unsaid.
func TestTLSUnusableFiles(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	one, two := a.Issue(harness.Leaf{Name: "one", DNS: []string{"a.example"}}), a.Issue(harness.Leaf{Name: "two", DNS: []string{"a.example"}})
	dir := harness.TempDir(t)
	write := func(name, content string) string { return harness.WriteFile(t, dir, name, content) }
	expired := a.Issue(harness.Leaf{Name: "expired", DNS: []string{"a.example"}, From: -48 * time.Hour, To: -time.Hour})
	for name, tt := range map[string]struct{ cert, key, says string }{
		"encrypted": {one.CertFile, write("enc.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), "encrypted"},
		"other key": {one.CertFile, two.KeyFile, "does not match"},
		"no PEM":    {write("text.pem", "this is no certificate\n"), one.KeyFile, "text.pem"},
		"empty":     {write("empty.pem", ""), one.KeyFile, "empty"},
		"swapped":   {one.KeyFile, one.CertFile, "one."},
		"directory": {dir, one.KeyFile, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &site{tables: fmt.Sprintf("[listener.web.tls]\ncertificates = [{ cert = %q, key = %q }]\n", tt.cert, tt.key), routes: fmt.Sprintf(respond, "x")}
			d := serve(t, s, harness.Options{Errors: true})
			_, err := tlsDial(s.addr, &tls.Config{InsecureSkipVerify: true})
			wantReset(t, err)
			wantFailure(t, d, "warming", 1)
			d.WaitLine(tt.says)
			out, _ := belayctl(t, d, "certs")
			want(t, out, "warming", tt.says)
		})
	}
	// One that has expired is served all the same, and said to be.
	s := &site{tables: "[listener.web.tls]\ncertificates = [" + pairOf(expired) + "]\n", routes: fmt.Sprintf(respond, "x")}
	d := serve(t, s, harness.Options{Errors: true})
	if got := served(s.addr, "a.example"); got != "expired" {
		t.Errorf("certificate %q", got)
	}
	d.WaitLine("expired")
	if _, err := belayctl(t, d, "certs", "--check"); err == nil {
		t.Error("belayctl certs --check is content with an expired certificate")
	}
}
