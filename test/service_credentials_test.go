package test

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"belay/test/harness"
)

// secureSite has a listener whose certificate and key are credentials.
const secureSite = `[listener.secure]
address = "127.0.0.1:8443"
[listener.secure.tls]
certificates = [{ cert = "credential:web.pem", key = "credential:web.key" }]
[[listener.secure.route]]
respond = { status = 200, body = "secure" }
`

// A certificate that the service manager passes as a credential serves in the
// process that the manager started, in those that hot restarts start, which may
// not look it up, and after a crash and a stop.
func TestServiceCredentials(t *testing.T) {
	t.Parallel()
	harness.Need(t, "openssl")
	dir := harness.TempDir(t)
	if out, err := exec.Command(filepath.Join(harness.Root(t), "examples/double-proxy/make-certs.sh"), dir).CombinedOutput(); err != nil {
		t.Fatalf("make-certs.sh: %v\n%s", err, out)
	}
	b := startService(t, harness.ServiceOptions{Config: boxSite("", "")})
	for name, file := range map[string]string{"web.pem": "db.pem", "web.key": "db.key"} {
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteFile("/etc/secrets/"+name, string(content))
	}
	b.DropIn("LoadCredential=web.pem:/etc/secrets/web.pem\nLoadCredential=web.key:/etc/secrets/web.key\n")
	b.Write(boxSite("", secureSite))
	b.MustExec("systemctl", "restart", harness.FaultUnit)
	answers := func(when string) {
		t.Helper()
		c, err := b.TryDial("127.0.0.1:8443")
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer c.Close()
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "orders.db.example"})
		if err := s.Handshake(); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if err := s.ConnectionState().PeerCertificates[0].VerifyHostname("orders.db.example"); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	answers("after the start")
	for range 3 {
		before := b.WaitQuiet()
		mustReload(t, b)
		if now := b.WaitQuiet(); now == before {
			t.Errorf("process %d is still main", now)
		}
		answers("after a reload")
	}
	killMain(t, b)
	answers("after kill -9")
	mustReload(t, b)
	answers("after a reload of the one that came then")
}
