package test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// clientTable is a client_certificate that requires one of a.
func clientTable(a *harness.Authority, more string) string {
	return fmt.Sprintf("mode = \"require\"\nca = %q\n%s", a.File, more)
}

// wantRefused reports any but a refusal with an alert, which is counted by reason.
func wantRefused(t *testing.T, d *harness.Daemon, addr string, cfg *tls.Config, alert, reason string) {
	t.Helper()
	before, _ := d.Metric("belay_listener_handshake_failures_total", `reason="`+reason+`"`)
	if err := refusal(t, addr, cfg); err == nil || !strings.Contains(err.Error(), "remote error: tls: "+alert) {
		t.Errorf("%v, want the alert %q", err, alert)
	}
	wantFailure(t, d, reason, before+1)
}

// A client below an intermediate authority sends that along; without it, and with
// one that is not the signer's, it is nobody.
func TestTLSClientIntermediate(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	between, other := a.Intermediate("between"), a.Intermediate("other")
	client := between.Issue(harness.Leaf{Name: "client"})
	s, d := mutual(t, a, clientTable(a, ""))
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		with := func(c harness.Certificate) *tls.Config {
			cfg := shows(a, c, "a.example")
			cfg.MaxVersion = v
			return cfg
		}
		c, _ := secure(t, s.addr, with(client.Above(t, between)))
		wantStatus(t, c.Do("GET", "/", "a.example"), 200)
		wantRefused(t, d, s.addr, with(client), "unknown certificate authority", "certificate-unknown-authority")
		wantRefused(t, d, s.addr, with(client.Above(t, other)), "unknown certificate authority", "certificate-unknown-authority")
		soon := a.Issue(harness.Leaf{Name: "soon", From: time.Hour})
		wantRefused(t, d, s.addr, with(soon), "expired certificate", "certificate-not-yet-valid")
	}
}

// Pins: of a key or of a certificate, beside an authority or without any; one of
// them must match.
func TestTLSClientPins(t *testing.T) {
	t.Parallel()
	a, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	good, other := a.Issue(harness.Leaf{Name: "good"}), a.Issue(harness.Leaf{Name: "other"})
	foreign := stranger.Issue(harness.Leaf{Name: "foreign"})
	key := func(c harness.Certificate) string {
		return fmt.Sprintf("%x", sha256Of(c.Leaf.RawSubjectPublicKeyInfo))
	}
	whole := sha256Of(good.Leaf.Raw)
	for _, tt := range []struct {
		name, client string
		good, bad    harness.Certificate
	}{
		{"key", clientTable(a, `spki_sha256 = ["`+key(good)+`"]`), good, other},
		{"certificate", clientTable(a, `certificate_sha256 = ["`+base64.StdEncoding.EncodeToString(whole[:])+`"]`), good, other},
		{"either", clientTable(a, `spki_sha256 = ["`+key(foreign)+`"]`+fmt.Sprintf("\ncertificate_sha256 = [\"%x\"]", whole)), good, other},
		{"no authority", "mode = \"require\"\nspki_sha256 = [\"" + key(foreign) + "\"]", foreign, good},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, d := mutual(t, a, tt.client)
			c, _ := secure(t, s.addr, shows(a, tt.good, "a.example"))
			wantStatus(t, c.Do("GET", "/", "a.example"), 200)
			wantRefused(t, d, s.addr, shows(a, tt.bad, "a.example"), "bad certificate", "certificate-pin")
			wantRefused(t, d, s.addr, names(a, "a.example"), "certificate required", "no-certificate")
		})
	}
	s, d := mutual(t, a, clientTable(a, `spki_sha256 = ["`+key(foreign)+`"]`)) // the pin alone is not enough
	wantRefused(t, d, s.addr, shows(a, foreign, "a.example"), "unknown certificate authority", "certificate-unknown-authority")
}

// A revocation list that is too old refuses everybody, or counts as it is, as
// configured; one that belongs to no authority of the list never replaces a good one.
func TestTLSRevocationLists(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	between := a.Intermediate("between")
	good, bad := a.Issue(harness.Leaf{Name: "good"}), a.Issue(harness.Leaf{Name: "bad"})
	below := between.Issue(harness.Leaf{Name: "below"}).Above(t, between)
	crl := a.RevokeUntil(-time.Hour, bad)
	s, d := mutual(t, a, clientTable(a, fmt.Sprintf("crl = %q\ncrl_expired = \"accept\"", crl)), harness.Options{Errors: true})
	strict, e := mutual(t, a, clientTable(a, fmt.Sprintf("crl = %q", crl)), harness.Options{Errors: true})
	serves := func(addr string, c harness.Certificate) bool {
		conn, err := tlsDial(addr, shows(a, c, "a.example"))
		if err != nil {
			return false
		}
		defer conn.Close()
		_, err = harness.Wrap(t, conn).Send(harness.Request("GET", "/", "a.example")).TryReply("GET")
		return err == nil
	}
	if !serves(s.addr, good) {
		t.Error("an old list refuses although it is accepted")
	}
	wantRefused(t, d, s.addr, shows(a, bad, "a.example"), "bad certificate", "certificate-revoked")
	wantRefused(t, d, s.addr, shows(a, below, "a.example"), "bad certificate", "certificate-crl") // its issuer has no list
	wantRefused(t, e, strict.addr, shows(a, good, "a.example"), "bad certificate", "certificate-crl")
	wantRefused(t, e, strict.addr, shows(a, bad, "a.example"), "bad certificate", "certificate-revoked")
	a.RevokeUntil(time.Hour, bad)
	harness.Eventually(t, patience, "the new list counts", func() bool { return serves(strict.addr, good) })
	stranger := harness.NewAuthority(t)
	forged := stranger.RevokeUntil(time.Hour)
	harness.CopyFile(t, forged, crl)
	want(t, d.WaitLine("the last good one stays in use"), "kind=crl", "signed by no certificate")
	wantRefused(t, d, s.addr, shows(a, bad, "a.example"), "bad certificate", "certificate-revoked")
	if !serves(s.addr, good) {
		t.Error("a list that is not the authority's replaces the good one")
	}
}

// A new authority in the file counts without a restart, for sessions that would be
// resumed as well; the old one no more.
func TestTLSClientAuthorityReload(t *testing.T) {
	t.Parallel()
	a, next := harness.NewAuthority(t), harness.NewAuthority(t)
	old, young := a.Issue(harness.Leaf{Name: "old"}), next.Issue(harness.Leaf{Name: "young"})
	file := harness.WriteFile(t, harness.TempDir(t), "clients.pem", string(pemOf(a.Cert)))
	s, d := mutual(t, a, fmt.Sprintf("mode = \"require\"\nca = %q", file))
	cfg := shows(a, old, "a.example")
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	resumes(t, s.addr, cfg)
	if !resumes(t, s.addr, cfg) {
		t.Fatal("not resumed")
	}
	wantRefused(t, d, s.addr, shows(a, young, "a.example"), "unknown certificate authority", "certificate-unknown-authority")
	harness.WritePEM(t, file, "CERTIFICATE", next.Cert.Raw)
	harness.Eventually(t, patience, "the new authority counts", func() bool {
		c, err := tlsDial(s.addr, shows(a, young, "a.example"))
		if err != nil {
			return false
		}
		defer c.Close()
		r, err := harness.Wrap(t, c).Send(harness.Request("GET", "/", "a.example")).TryReply("GET")
		return err == nil && r.Status == 200
	})
	wantRefused(t, d, s.addr, cfg, "unknown certificate authority", "certificate-unknown-authority")
}

// A certificate that expires between two connections resumes no session.
func TestTLSResumptionOfExpired(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	brief := a.Issue(harness.Leaf{Name: "brief", To: 2 * time.Second})
	s, d := mutual(t, a, clientTable(a, ""))
	cfg := shows(a, brief, "a.example")
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	resumes(t, s.addr, cfg)
	resumed := false
	harness.Eventually(t, patience, "the client is refused", func() bool {
		c, err := tlsDial(s.addr, cfg)
		if err != nil {
			return true
		}
		defer c.Close()
		r, err := harness.Wrap(t, c).Send(harness.Request("GET", "/", "a.example")).TryReply("GET")
		resumed = resumed || err == nil && r.Status == 200 && c.ConnectionState().DidResume
		return err != nil
	})
	wantFailure(t, d, "certificate-expired", 1)
	if !resumed {
		t.Error("the session was never resumed before")
	}
}
