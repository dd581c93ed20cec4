package test

import (
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"belay/test/harness"
)

// served is the common name of the certificate that a client gets; "" if none.
func served(addr, name string, change ...func(*tls.Config)) string {
	cfg := &tls.Config{InsecureSkipVerify: true, ServerName: name}
	for _, f := range change {
		f(cfg)
	}
	c, err := tlsDial(addr, cfg)
	if err != nil {
		return ""
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// Of several certificates the name decides, then what the client can.
func TestTLSCertificateChoice(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	list := []string{}
	for _, l := range []harness.Leaf{
		{Name: "rsa", DNS: []string{"a.example"}, RSA: true},
		{Name: "ecdsa", DNS: []string{"a.example"}},
		{Name: "wild", DNS: []string{"*.example"}},
		{Name: "b", DNS: []string{"b.example"}},
	} {
		list = append(list, pairOf(a.Issue(l)))
	}
	s := &site{tables: "[listener.web.tls]\ncertificates = [" + strings.Join(list, ", ") + "]\nmax_version = \"1.2\"\n", routes: fmt.Sprintf(respond, "x")}
	d := serve(t, s)
	onlyRSA := func(c *tls.Config) {
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	}
	for _, tt := range []struct {
		name   string
		change []func(*tls.Config)
		want   string
	}{
		{"a.example", nil, "ecdsa"},
		{"a.example", []func(*tls.Config){onlyRSA}, "rsa"},
		{"b.example", nil, "b"},
		{"c.example", nil, "wild"},
		{"c.d.example", nil, "ecdsa"}, // no name fits: as if all did
		{"", nil, "ecdsa"},
		{"c.d.example", []func(*tls.Config){onlyRSA}, "rsa"},
	} {
		if got := served(s.addr, tt.name, tt.change...); got != tt.want {
			t.Errorf("%s: certificate %q, want %q", tt.name, got, tt.want)
		}
	}
	_, err := tlsDial(s.addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.3 where 1.2 is the highest: %v", err)
	}
	wantFailure(t, d, "version", 1)
}

// Certificates follow their files, however these change; a bad change leaves the
// last good one, and says so.
func TestTLSCertificateReload(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	one := a.Issue(harness.Leaf{Name: "one", DNS: []string{"a.example"}})
	two := a.Issue(harness.Leaf{Name: "two", DNS: []string{"a.example"}})
	three := a.Issue(harness.Leaf{Name: "three", DNS: []string{"a.example"}})
	dir := harness.TempDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(path, from string) {
		t.Helper()
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// As Kubernetes mounts a secret: names that lead through ..data to a directory.
	version := func(n int, c harness.Certificate) {
		t.Helper()
		v := at(fmt.Sprintf("..v%d", n))
		if err := os.Mkdir(v, 0o755); err != nil {
			t.Fatal(err)
		}
		write(v+"/tls.crt", c.CertFile)
		write(v+"/tls.key", c.KeyFile)
		if err := os.Symlink(filepath.Base(v), at("..data.new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(at("..data.new"), at("..data")); err != nil {
			t.Fatal(err)
		}
	}
	version(1, one)
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink("..data/"+name, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	write(at("b.pem"), one.CertFile)
	write(at("b.key"), one.KeyFile)
	other := harness.Addr(t)
	s := &site{tables: fmt.Sprintf("[listener.web.tls]\ncertificates = [{ cert = %q, key = %q }]\n", at("tls.crt"), at("tls.key")), routes: fmt.Sprintf(respond, "x"),
		more: fmt.Sprintf("[listener.other]\naddress = %q\n[listener.other.tls]\ncertificates = [{ cert = %q, key = %q }]\n[[listener.other.route]]\nrespond = { status = 200 }\n", other, at("b.pem"), at("b.key"))}
	d := serve(t, s, harness.Options{Errors: true})
	becomes := func(addr, want, how string) {
		t.Helper()
		harness.Eventually(t, patience, how, func() bool { return served(addr, "a.example") == want })
	}
	becomes(s.addr, "one", "the first certificate")
	version(2, two)
	becomes(s.addr, "two", "the certificate behind the link that was swapped")
	write(at("b.key"), two.KeyFile) // half of a change
	write(at("b.pem"), two.CertFile)
	becomes(other, "two", "the certificate whose files were overwritten")

	write(at("b.key"), three.KeyFile)
	d.WaitLine("the last good one stays in use")
	if got := served(other, "a.example"); got != "two" {
		t.Errorf("with a key that does not match: %q", got)
	}
	if n, _ := d.Metric("belay_certificate_state", `b.pem`); n != 2 {
		t.Errorf("belay_certificate_state is %v, want 2", n)
	}
	out, err := belayctl(t, d, "certs", "--check")
	if err == nil {
		t.Error("belayctl certs --check is content")
	}
	want(t, out, "last-good", "b.pem", "does not match")
	write(at("b.pem"), three.CertFile)
	becomes(other, "three", "the other half")
	if out, err := belayctl(t, d, "certs", "--check", "--expiring", "1"); err != nil {
		t.Errorf("belayctl certs --check: %v\n%s", err, out)
	}
}

// A certificate that is not there yet: its listener resets, the rest serves, and it
// serves as soon as the files come. A reload does not fail for it, but for one that
// is broken and was not.
func TestTLSWarming(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	c := a.Issue(harness.Leaf{Name: "late", DNS: []string{"a.example"}})
	dir := harness.TempDir(t)
	cert, key := dir+"/c.pem", dir+"/c.key"
	plain := harness.Addr(t)
	s := &site{tables: fmt.Sprintf("[listener.web.tls]\ncertificates = [{ cert = %q, key = %q }]\n", cert, key), routes: fmt.Sprintf(respond, "x"),
		more: fmt.Sprintf("[listener.plain]\naddress = %q\n[[listener.plain.route]]\nrespond = { status = 200, body = \"p\" }\n%s", plain, patient)}
	d := serve(t, s, harness.Options{Errors: true})
	_, err := tlsDial(s.addr, &tls.Config{InsecureSkipVerify: true})
	wantReset(t, err)
	wantFailure(t, d, "warming", 1)
	wantStatus(t, harness.Get(t, plain, "/", "a"), 200)
	out, _ := belayctl(t, d, "certs")
	want(t, out, "warming", "no such file")
	d.HotRestart()
	for from, to := range map[string]string{c.KeyFile: key, c.CertFile: cert} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, patience, "the certificate that came", func() bool { return served(s.addr, "a.example") == "late" })

	if err := os.WriteFile(key, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check, _ := exec.Command(harness.Binary(t, "belayd", false), "check", "--config", d.Config).CombinedOutput()
	want(t, string(check), "listener.web.tls", "encrypted")
	if _, code := d.TryHotRestart(); code == 0 {
		t.Error("a hot restart with a broken certificate succeeds")
	}
	want(t, d.Hooks(), "encrypted")
	if got := served(s.addr, "a.example"); got != "late" {
		t.Errorf("after the restart that failed: %q", got)
	}
}
