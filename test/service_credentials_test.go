package test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// certificate makes one with its key and gives the directory where they are, as
// db.pem and db.key.
func certificate(t *testing.T) string {
	t.Helper()
	harness.Need(t, "openssl")
	dir := harness.TempDir(t)
	if out, err := exec.Command(filepath.Join(harness.Root(t), "examples/double-proxy/make-certs.sh"), dir).CombinedOutput(); err != nil {
		t.Fatalf("make-certs.sh: %v\n%s", err, out)
	}
	return dir
}

// giveCredentials has the unit's next start give it the certificate by
// SetCredential= and its key by LoadCredential=.
func giveCredentials(t *testing.T, b *harness.ServiceBox, dir string) {
	t.Helper()
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	b.WriteFile("/etc/secrets/web.key", read("db.key"))
	b.DropIn("SetCredential=web.pem:" + strings.ReplaceAll(read("db.pem"), "\n", `\n`) + "\nLoadCredential=web.key:/etc/secrets/web.key\n")
}

// answersWith has the secure listener show the certificate in a directory, and the
// main process have one descriptor of the directory of credentials, not one more
// for each restart.
func answersWith(t *testing.T, b *harness.ServiceBox, dir, when string) {
	t.Helper()
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatalf("authority: %v", err)
	}
	c, err := b.TryDial("127.0.0.1:8443")
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	s := tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "orders.db.example"})
	defer s.Close()
	if r := harness.Wrap(t, s).Do("GET", "/", "a"); r.Status != 200 || r.Body != "secure" {
		t.Errorf("%s: %d %s", when, r.Status, r.Body)
	}
	held, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*/web.key", b.HostPID(b.MainPID(harness.FaultUnit))))
	if err != nil || len(held) != 1 {
		t.Errorf("%s: descriptors of the directory of credentials: %v, %v", when, held, err)
	}
}

// A certificate that the service manager passes as a credential serves in the
// process that the manager started, in those that hot restarts start, which may
// not look it up, after those before them have ended, and after a crash. A restart
// of the service gives it the credentials as they are then.
func TestServiceCredentials(t *testing.T) {
	for name, trixie := range map[string]bool{"systemd 252": false, "systemd 257": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := certificate(t), certificate(t)
			b := startService(t, harness.ServiceOptions{Trixie: trixie, Config: boxSite("", "")})
			giveCredentials(t, b, first)
			b.Write(boxSite("", secureSite))
			b.MustExec("systemctl", "restart", harness.FaultUnit)
			answersWith(t, b, first, "after the start")
			for range 3 {
				before := b.WaitQuiet()
				mustReload(t, b)
				if now := b.WaitQuiet(); now == before {
					t.Errorf("process %d is still main", now)
				}
				answersWith(t, b, first, "after a reload")
			}
			killMain(t, b)
			answersWith(t, b, first, "after kill -9")
			giveCredentials(t, b, second)
			mustReload(t, b)
			b.WaitQuiet()
			answersWith(t, b, first, "after a reload of a unit that changed")
			b.MustExec("systemctl", "restart", harness.FaultUnit)
			answersWith(t, b, second, "after a restart of the unit")
			mustReload(t, b)
			b.WaitQuiet()
			answersWith(t, b, second, "after a reload of the one that came then")
		})
	}
}
