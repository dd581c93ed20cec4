package server

import (
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"belay/internal/config"
)

const day = 24 * time.Hour

// checkedFiles are those that TestCheckTLS names.
func checkedFiles(t *testing.T) *authority {
	a := newAuthority(t)
	valid := func(from, to time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
	}
	a.issue("good", nil, a.cert)
	a.issue("twin", func(c *x509.Certificate) { c.DNSNames = []string{"good"} }, a.cert)
	a.issue("old", valid(-3*day, -day), a.cert)
	a.issue("soon", valid(-3*day, 3*day), a.cert)
	a.issue("early", valid(day, 3*day), a.cert)
	between := a.under("between", nil)
	between.issue("two", nil, between.cert, a.cert)
	between.issue("disorder", nil, a.cert, between.cert)
	between.issue("short", nil)
	between.issue("fetch", func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example/between.der"} })
	dying := a.under("dying", valid(-3*day, -day))
	dying.issue("late", nil, dying.cert, a.cert)
	dead := a.under("dead", valid(-3*day, -day))
	dead.write("dead.pem", "CERTIFICATE", dead.cert.Raw)
	dead.write("both.pem", "CERTIFICATE", dead.cert.Raw, a.cert.Raw)
	a.revoke("fresh.crl", time.Now().Add(day))
	a.revoke("stale.crl", time.Now().Add(-day))
	return a
}

// What belayd check says of the files of TLS: problems and notes, and of those that
// are well nothing.
func TestCheckTLS(t *testing.T) {
	a := checkedFiles(t)
	pair := func(names ...string) string {
		var list []string
		for _, n := range names {
			list = append(list, fmt.Sprintf("{ cert = %q, key = %q }", a.dir+"/"+n+".pem", a.dir+"/"+n+".key"))
		}
		return "certificates = [" + strings.Join(list, ", ") + "]\n"
	}
	require := "[listener.web.tls.client_certificate]\nmode = \"require\"\nca = \"" + a.dir + "/%s\"\n"
	revoked := fmt.Sprintf(require, "ca.pem") + "crl = \"" + a.dir + "/%s\"\n"
	at := "listener.web.tls: " + a.dir + "/"
	for _, tt := range []struct {
		name, tls       string
		notes, problems []string // the start of each; all there are
	}{
		{"good", pair("good"), nil, nil},
		{"intermediate", pair("two"), nil, nil},
		{"mismatch", fmt.Sprintf("certificates = [{ cert = %q, key = %q }]\n", a.dir+"/good.pem", a.dir+"/two.key"), nil, []string{at + "good.pem + " + a.dir + "/two.key: key " + a.dir + "/two.key does not match"}},
		{"missing", pair("nix"), nil, []string{at + "nix.pem + " + a.dir + "/nix.key: read " + a.dir + "/nix.pem: no such file"}},
		{"expired", pair("old"), nil, []string{at + "old.pem has expired at "}},
		{"expiring", pair("soon"), []string{at + "soon.pem expires at "}, nil},
		{"not yet valid", pair("early"), nil, []string{at + "early.pem is not valid before "}},
		{"order", pair("disorder"), []string{at + "disorder.pem + " + a.dir + "/disorder.key: certificate 2 of the chain did not sign certificate 1", at + "disorder.pem + " + a.dir + "/disorder.key: certificate 3 "}, nil},
		{"incomplete or private", pair("short"), []string{at + "short.pem: the chain ends with a certificate by CN=between, which the system does not trust"}, nil},
		{"incomplete", pair("fetch"), []string{at + "fetch.pem: the chain is incomplete: its last certificate is by CN=between, which belongs after it (http://ca.example/between.der)"}, nil},
		{"expired intermediate", pair("late"), nil, []string{at + "late.pem: CN=dying has expired at "}},
		{"overlap", pair("good", "twin"), []string{"listener.web.tls: good: " + a.dir + "/twin.pem + " + a.dir + "/twin.key is never used"}, nil},
		{"self-signed", "certificates = [{ cert = \"self-signed\" }]\n", []string{"a self-signed certificate is for development: no client trusts it (listener.web.tls)"}, nil},
		{"staple demanded", pair("good") + "ocsp_policy = \"must_staple\"\n", nil, []string{"listener.web.tls: clients are refused: no certificate may be used"}},
		{"authority", pair("good") + fmt.Sprintf(require, "ca.pem"), nil, nil},
		{"authority that is a key", pair("good") + fmt.Sprintf(require, "good.key"), nil, []string{at + "good.key: certificate " + a.dir + "/good.key: no certificate in the file"}},
		{"authority that expired", pair("good") + fmt.Sprintf(require, "dead.pem"), []string{at + "dead.pem: the authority CN=dead has expired"}, []string{at + "dead.pem: every authority has expired"}},
		{"one of two", pair("good") + fmt.Sprintf(require, "both.pem"), []string{at + "both.pem: the authority CN=dead has expired"}, nil},
		{"list", pair("good") + fmt.Sprintf(revoked, "fresh.crl"), nil, nil},
		{"stale list", pair("good") + fmt.Sprintf(revoked, "stale.crl"), nil, []string{at + "stale.crl: a list was to be renewed by "}},
		{"stale list, accepted", pair("good") + fmt.Sprintf(revoked, "stale.crl") + "crl_expired = \"accept\"\n", []string{at + "stale.crl: a list was to be renewed by "}, nil},
		{"list that is none", pair("good") + fmt.Sprintf(revoked, "ca.pem"), nil, []string{at + "ca.pem: CRL " + a.dir + "/ca.pem: no CRL in the file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", "")
			notes, err := Check(parse(t, "[listener.web]\naddress = \":1\"\nroute = [{ respond = {} }]\n[listener.web.tls]\n"+tt.tls))
			same(t, "note", notes, tt.notes)
			same(t, "problem", problemsOf(err), tt.problems)
		})
	}
}

// Where chains and clusters are, and names without a certificate.
func TestCheckTLSOfChainsAndClusters(t *testing.T) {
	a := checkedFiles(t)
	use := func(name string) string {
		return fmt.Sprintf("cert = %q, key = %q", a.dir+"/"+name+".pem", a.dir+"/"+name+".key")
	}
	cfg := parse(t, fmt.Sprintf(`
[server.tls]
ticket_secret = %q
[listener.web]
address = ":1"
route = [{ respond = {} }]
[[listener.web.chain]]
server_names = ["good", "other", "*.wild"]
tls = { certificates = [{ %s }] }
[[listener.web.chain]]
server_names = ["broken"]
tls = { certificates = [{ %s }, { cert = "/nonexistent/a", key = "/nonexistent/b" }] }
[cluster.app]
endpoints = [{ address = "127.0.0.1:1" }]
tls = { ca = "/nonexistent/ca", %s }
`, a.dir+"/nix", use("good"), use("good"), use("old")))
	notes, err := Check(cfg)
	same(t, "note", notes, []string{"listener.web.chain[0].tls: no certificate is for other: its clients get " + a.dir + "/good.pem"})
	same(t, "problem", problemsOf(err), []string{
		"cluster.app.tls: " + a.dir + "/old.pem has expired at",
		"cluster.app.tls: /nonexistent/ca: ca: read /nonexistent/ca: no such file",
		"listener.web.chain[1].tls: /nonexistent/a + /nonexistent/b: read /nonexistent/a: no such file",
		"server.tls.ticket_secret: " + a.dir + "/nix: ",
	})
}

// Credentials are read where there are some; elsewhere it is said that they are not,
// and what is no credential is checked all the same.
func TestCheckTLSCredentials(t *testing.T) {
	a := checkedFiles(t)
	text := func(cert string) string {
		return fmt.Sprintf("[listener.web]\naddress = \":1\"\nroute = [{ respond = {} }]\n[listener.web.tls]\ncertificates = [{ cert = %q, key = \"credential:good.key\" }]\n", cert)
	}
	const not = " + credential:good.key is not checked: only the service has its credentials"
	for _, tt := range []struct {
		name, dir, cert string
		notes, problems []string
	}{
		{"read", a.dir, "credential:good.pem", nil, nil},
		{"not there", t.TempDir(), "credential:good.pem", nil, []string{"listener.web.tls: credential:good.pem + credential:good.key: read credential:good.pem: no such file"}},
		{"elsewhere", "", "credential:good.pem", []string{"listener.web.tls: credential:good.pem" + not}, nil},
		{"a file with a credential", "", a.dir + "/good.pem", []string{"listener.web.tls: " + a.dir + "/good.pem" + not}, nil},
		{"an old one", "", a.dir + "/old.pem", []string{"listener.web.tls: " + a.dir + "/old.pem" + not}, []string{"listener.web.tls: " + a.dir + "/old.pem has expired at "}},
		{"a missing one", "", "/nonexistent/a.pem", []string{"listener.web.tls: /nonexistent/a.pem" + not}, []string{"listener.web.tls: /nonexistent/a.pem: read /nonexistent/a.pem: no such file"}},
		{"one that is none", "", a.dir + "/good.key", []string{"listener.web.tls: " + a.dir + "/good.key" + not}, []string{"listener.web.tls: " + a.dir + "/good.key: no readable certificate"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", tt.dir)
			notes, err := Check(parse(t, text(tt.cert)))
			same(t, "note", notes, tt.notes)
			same(t, "problem", problemsOf(err), tt.problems)
		})
	}
}

// Nothing is read, and no directory of credentials missed, where nobody speaks TLS.
func TestCheckWithoutTLS(t *testing.T) {
	if err := os.Unsetenv("CREDENTIALS_DIRECTORY"); err != nil {
		t.Fatal(err)
	}
	notes, err := Check(parse(t, "[server.tls]\nticket_secret = \"/nonexistent/secret\"\n[listener.web]\naddress = \":1\"\nroute = [{ respond = {} }]\n"))
	if err != nil || len(notes) > 0 {
		t.Errorf("%v, %q", err, notes)
	}
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// problemsOf are the errors that were joined.
func problemsOf(err error) (list []string) {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			list = append(list, e.Error())
		}
	} else if err != nil {
		list = append(list, err.Error())
	}
	return list
}

// same holds that there is exactly one text for each beginning, in any order.
func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, w := range want {
		i := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, w) })
		if i < 0 {
			t.Errorf("no %s %q in %q", what, w, got)
			continue
		}
		got = slices.Delete(slices.Clone(got), i, i+1)
	}
	for _, s := range got {
		t.Errorf("%s %q", what, s)
	}
}
