package test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// mutual is a listener that asks for client certificates, with an echo behind it.
func mutual(t *testing.T, a *harness.Authority, client string, opts ...harness.Options) (*site, *harness.Daemon) {
	t.Helper()
	server := a.Issue(harness.Leaf{Name: strings.ReplaceAll(t.Name(), "/", "-"), DNS: []string{"a.example", "b.example"}, URI: "spiffe://test/server"})
	s := &site{
		tables:    fmt.Sprintf("[listener.web.tls]\ncertificates = [%s]\n[listener.web.tls.client_certificate]\n%s\n", pairOf(server), client) + soonRefused,
		endpoints: []string{harness.NewEcho(t, "a").Addr},
	}
	return s, serve(t, s, opts...)
}

func shows(a *harness.Authority, c harness.Certificate, name string) *tls.Config {
	cfg := names(a, name)
	// Not by Certificates, which leaves out what the server would not take.
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.Certificate, nil }
	return cfg
}

// Who may come in with which certificate, what the others are told, and what is
// counted.
func TestTLSClientCertificates(t *testing.T) {
	t.Parallel()
	a, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	good := a.Issue(harness.Leaf{Name: "good", URI: "spiffe://test/app", Email: "app@example.org", IP: "10.1.2.3", DNS: []string{"app.example"}})
	other := a.Issue(harness.Leaf{Name: "other", URI: "spiffe://test/app2"})
	late := a.Issue(harness.Leaf{Name: "late", URI: "spiffe://test/app", To: -time.Hour, From: -48 * time.Hour})
	foreign := stranger.Issue(harness.Leaf{Name: "foreign", URI: "spiffe://test/app"})
	s, d := mutual(t, a, fmt.Sprintf("mode = \"require\"\nca = %q\nsan = [{ type = \"uri\", exact = \"spiffe://test/app\" }]", a.File))
	c, _ := secure(t, s.addr, shows(a, good, "a.example"))
	wantStatus(t, c.Do("GET", "/", "a.example"), 200)
	for _, tt := range []struct {
		name   string
		cfg    *tls.Config
		alert  string
		reason string
	}{
		{"none", names(a, "a.example"), "certificate required", "no-certificate"},
		{"another name", shows(a, other, "a.example"), "bad certificate", "certificate-san"},
		{"expired", shows(a, late, "a.example"), "expired certificate", "certificate-expired"},
		{"another authority", shows(a, foreign, "a.example"), "unknown certificate authority", "certificate-unknown-authority"},
	} {
		if err := refusal(t, s.addr, tt.cfg); err == nil || !strings.Contains(err.Error(), tt.alert) {
			t.Errorf("%s: %v, want the alert %q", tt.name, err, tt.alert)
		}
		wantFailure(t, d, tt.reason, 1)
		want(t, d.WaitLine("reason="+tt.reason), "listener=web", "a.example")
	}
	for _, san := range []string{
		`{ type = "dns", suffix = ".example" }`, `{ type = "email", contains = "@example." }`, `{ type = "ip", exact = "10.1.2.3" }`, `{ type = "uri", prefix = "spiffe://test/a" }`,
		`{ type = "dns", regex = "a[p]+\\.example" }`,
	} {
		s, _ := mutual(t, a, fmt.Sprintf("mode = \"require\"\nca = %q\nsan = [{ type = \"dns\", exact = \"nobody\" }, %s]", a.File, san))
		c, _ := secure(t, s.addr, shows(a, good, "a.example"))
		wantStatus(t, c.Do("GET", "/", "a.example"), 200)
	}
	s, _ = mutual(t, a, fmt.Sprintf("mode = \"request\"\nca = %q", a.File))
	for _, cfg := range []*tls.Config{names(a, "a.example"), shows(a, good, "a.example")} {
		c, _ := secure(t, s.addr, cfg)
		wantStatus(t, c.Do("GET", "/", "a.example"), 200)
	}
	if err := refusal(t, s.addr, shows(a, foreign, "a.example")); err == nil {
		t.Error("a certificate that is given must be good")
	}
}

// A revoked client is refused once the list says so, on a session that it had
// before as well.
func TestTLSRevocation(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	good, bad := a.Issue(harness.Leaf{Name: "good"}), a.Issue(harness.Leaf{Name: "bad"})
	s, d := mutual(t, a, fmt.Sprintf("mode = \"require\"\nca = %q\ncrl = %q", a.File, a.Revoke()))
	cfg := shows(a, bad, "a.example")
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for range 2 {
		c, state := secure(t, s.addr, cfg)
		wantStatus(t, c.Do("GET", "/", "a.example"), 200)
		_ = state.Close()
	}
	if n, _ := d.Metric("belay_listener_tls_handshakes_total", `resumed="true"`); n != 1 {
		t.Fatalf("%v resumed sessions, want 1", n)
	}
	n := d.CountLines("kind=crl")
	a.Revoke(bad)
	harness.Eventually(t, patience, "the list is loaded", func() bool { return d.CountLines("kind=crl") > n })
	if err := refusal(t, s.addr, cfg); err == nil {
		t.Error("a revoked client resumes its session")
	}
	wantFailure(t, d, "certificate-revoked", 1)
	c, _ := secure(t, s.addr, shows(a, good, "a.example"))
	wantStatus(t, c.Do("GET", "/", "a.example"), 200)
}

// What the endpoint hears of the client's certificate, and never from the client
// itself.
func TestTLSForwardedCertificate(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	good := a.Issue(harness.Leaf{Name: "good", URI: "spiffe://test/app", DNS: []string{"app.example"}})
	const forged = "Hash=00;Subject=\"CN=root\""
	ask := func(more string, cfg *tls.Config) string {
		t.Helper()
		s, d := mutual(t, a, fmt.Sprintf("mode = \"request\"\nca = %q\n%s", a.File, more))
		c, _ := secure(t, s.addr, cfg)
		connection := "Connection: keep-alive"
		if strings.Contains(more, "sanitize_set") { // what a client has removed, belay still adds
			connection = "Connection: x-forwarded-client-cert, client-cert"
		}
		r := c.Do("GET", "/", "a.example", "X-Forwarded-Client-Cert: "+forged, "x-forwarded-client-cert: more", "Client-Cert: :AAAA:", "Client-Cert-Chain: :AAAA:", connection)
		wantStatus(t, r, 200)
		want(t, r.Body, "X-Forwarded-Proto: https")
		rec := d.WaitPath("/")
		if rec["tls_version"] != "1.3" || rec["tls_sni"] != "a.example" || rec["tls_chain"] != "web" || !strings.HasPrefix(rec["tls_ja4"].(string), "t13d") {
			t.Errorf("record %v", rec)
		}
		if cfg.GetClientCertificate != nil && rec["tls_client_subject"] != "CN=good" {
			t.Errorf("client %v", rec["tls_client_subject"])
		}
		return r.Body
	}
	with, without := shows(a, good, "a.example"), names(a, "a.example")
	wantNot(t, ask("", with), "Forwarded-Client-Cert", "Client-Cert:", "Hash=")
	body := ask("forward = \"sanitize_set\"\nforward_details = [\"subject\", \"uri\", \"dns\"]\nclient_cert_header = true", with)
	want(t, body, "By=spiffe://test/server", "URI=spiffe://test/app", "DNS=app.example", `Subject="CN=good"`, "Client-Cert: :MII")
	wantNot(t, body, "Hash=00", "AAAA")
	want(t, ask("forward = \"append_forward\"", with), forged+",more,By=")
	want(t, ask("forward = \"forward_only\"", with), forged+",more")
	wantNot(t, ask("forward = \"forward_only\"", without), "Hash=")
	wantNot(t, ask("forward = \"sanitize_set\"\nclient_cert_header = true", without), "Hash=", "Client-Cert")
	want(t, ask("forward = \"always_forward_only\"", without), forged)
}

// A connection that was let in without a certificate serves no host that asks for
// one, however the host is written.
func TestTLSMisdirected(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"*.example", "open.example"}})
	client := a.Issue(harness.Leaf{Name: "client"})
	tlsTable := fmt.Sprintf("[listener.web.chain.tls]\ncertificates = [%s]\n", pairOf(server))
	addr := harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\n", addr)+
		"[[listener.web.chain]]\nserver_names = [\"closed.example\", \"*.closed.example\"]\n"+tlsTable+fmt.Sprintf("[listener.web.chain.tls.client_certificate]\nmode = \"require\"\nca = %q\n", a.File)+
		"[[listener.web.chain]]\n"+tlsTable+fmt.Sprintf(respond, "x"))
	open, _ := secure(t, addr, names(a, "open.example"))
	for _, host := range []string{"closed.example", "CLOSED.Example", "closed.example:443", "closed.example.", "x.closed.example"} {
		wantStatus(t, open.Do("GET", "/", host), 421)
	}
	wantStatus(t, open.Send("GET http://closed.example/ HTTP/1.1\r\nHost: closed.example\r\n\r\n").Reply("GET"), 421)
	for _, host := range []string{"open.example", "elsewhere.example"} {
		wantStatus(t, open.Do("GET", "/", host), 200)
	}
	// A server name that is none chooses the open chain, and is no word for the closed one.
	odd := &tls.Config{InsecureSkipVerify: true, ServerName: "x..closed.example"}
	c, _ := secure(t, addr, odd)
	wantStatus(t, c.Do("GET", "/", "x..closed.example"), 421)
	closed, _ := secure(t, addr, shows(a, client, "closed.example"))
	wantStatus(t, closed.Do("GET", "/", "closed.example"), 200)
	wantStatus(t, closed.Do("GET", "/", "www.closed.example"), 200)
	wantStatus(t, closed.Do("GET", "/", "open.example"), 421)
	if n, _ := d.Metric("belay_listener_misdirected_total"); n != 8 {
		t.Errorf("%v misdirected requests are counted, want 8", n)
	}
}
