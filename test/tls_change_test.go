package test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// A hot restart with another configuration: a plain listener becomes one of TLS and
// the other way round, chains come and go, clients must show a certificate; a session
// from before opens nothing that has become stricter.
func TestTLSRestartChanges(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	one, two := a.Issue(harness.Leaf{Name: "one", DNS: []string{"a.example"}}), a.Issue(harness.Leaf{Name: "two", DNS: []string{"a.example"}})
	client := a.Issue(harness.Leaf{Name: "client"})
	addr, other := harness.Addr(t), harness.Addr(t)
	context := func(at string, c harness.Certificate) string {
		return fmt.Sprintf("[%s]\ncertificates = [%s]\n", at, pairOf(c))
	}
	write := func(web, plain string) string {
		return fmt.Sprintf("[listener.web]\naddress = %q\n%s%s[listener.plain]\naddress = %q\n%s%s%s", addr, web, fmt.Sprintf(respond, "x"), other, plain,
			strings.Replace(fmt.Sprintf(respond, "p"), ".web.", ".plain.", 1), patient)
	}
	was := write(context("listener.web.tls", one), "")
	d := harness.Start(t, was)
	restart := func(web, plain string) {
		t.Helper()
		now := write(web, plain)
		rewrite(t, d, was, now)
		was = now
		d.HotRestart()
	}
	cfg := shows(a, client, "a.example")
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	resumes(t, addr, cfg)
	if !resumes(t, addr, cfg) {
		t.Fatal("not resumed")
	}
	wantStatus(t, harness.Get(t, other, "/", "a"), 200)

	restart(context("listener.web.tls", two), context("listener.plain.tls", one))
	if got := served(addr, "a.example"); got != "two" {
		t.Errorf("another certificate: %q", got)
	}
	if got := served(other, "a.example"); got != "one" {
		t.Errorf("TLS where there was none: %q", got)
	}
	wantStatus(t, harness.Get(t, other, "/", "a"), 400)

	require := fmt.Sprintf("[listener.web.tls.client_certificate]\nmode = \"require\"\nca = %q\n", a.File)
	restart(context("listener.web.tls", one)+require, "")
	if resumes(t, addr, cfg) {
		t.Error("a session from before certificates were asked for is resumed")
	}
	wantRefused(t, d, addr, names(a, "a.example"), "certificate required", "no-certificate")
	wantStatus(t, harness.Get(t, other, "/", "a"), 200)

	restart("[[listener.web.chain]]\nserver_names = [\"a.example\"]\n"+context("listener.web.chain.tls", two), "")
	if got := served(addr, "a.example"); got != "two" {
		t.Errorf("a chain: %q", got)
	}
	_, err := tlsDial(addr, &tls.Config{InsecureSkipVerify: true, ServerName: "b.example"})
	wantReset(t, err)
}

// The secret of the tickets follows its file: what is sealed from then on can be
// opened by whoever has the new one, what was sealed before still opens here.
func TestTLSTicketSecretReload(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	start := func(secret string) (addr, path string) {
		path = harness.WriteFile(t, harness.TempDir(t), "secret", secret)
		s := &site{tables: "[listener.web.tls]\ncertificates = [" + pairOf(server) + "]\n", routes: fmt.Sprintf(respond, "x"), more: fmt.Sprintf("[server.tls]\nticket_secret = %q\n", path)}
		serve(t, s)
		return s.addr, path
	}
	const first, second = "the first secret, which is long enough: 0123456789", "the second secret, which is long enough: 0123456789"
	here, file := start(first)
	there, _ := start(second)
	old := names(a, "a.example")
	old.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	resumes(t, here, old)
	source := harness.WriteFile(t, harness.TempDir(t), "secret", second)
	harness.CopyFile(t, source, file)
	harness.Eventually(t, patience, "the new secret seals", func() bool {
		young := names(a, "a.example")
		young.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		resumes(t, here, young)
		return resumes(t, there, young)
	})
	if !resumes(t, here, old) {
		t.Error("what the old secret sealed is forgotten")
	}
}

// Files that change as programs write them: truncated and filled bit by bit, removed
// and made again, and the directory replaced as a whole. Whatever is seen in between,
// clients are served.
func TestTLSFilesInMotion(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	var certs []harness.Certificate
	for _, name := range []string{"c0", "c1", "c2", "c3"} {
		certs = append(certs, a.Issue(harness.Leaf{Name: name, DNS: []string{"a.example"}}))
	}
	dir := filepath.Join(harness.TempDir(t), "tls")
	read := func(path string) []byte {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fill := func(at string, c harness.Certificate) {
		t.Helper()
		must(os.MkdirAll(at, 0o755))
		harness.CopyFile(t, c.KeyFile, at+"/tls.key")
		harness.CopyFile(t, c.CertFile, at+"/tls.crt")
	}
	fill(dir, certs[0])
	s := &site{tables: fmt.Sprintf("[listener.web.tls]\ncertificates = [{ cert = %q, key = %q }]\n", dir+"/tls.crt", dir+"/tls.key"), routes: fmt.Sprintf(respond, "x")}
	d := serve(t, s, harness.Options{Errors: true})
	stop, ended := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				ended <- n
				return
			default:
			}
			if served(s.addr, "a.example") == "" {
				t.Error("a client is not served")
			}
			n++
			time.Sleep(5 * time.Millisecond) // a pace over the time of the changes
		}
	}()
	becomes := func(want, how string) {
		t.Helper()
		harness.Eventually(t, patience, how, func() bool { return served(s.addr, "a.example") == want })
	}
	for path, from := range map[string]string{dir + "/tls.key": certs[1].KeyFile, dir + "/tls.crt": certs[1].CertFile} {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0o600)
		must(err)
		data := read(from)
		for len(data) > 0 {
			n := min(len(data), 50)
			_, err := f.Write(data[:n])
			must(err)
			data = data[n:]
			time.Sleep(10 * time.Millisecond) // a slow program
		}
		must(f.Close())
	}
	becomes("c1", "files that were written slowly")
	must(os.Remove(dir + "/tls.key"))
	must(os.Remove(dir + "/tls.crt"))
	harness.Eventually(t, patience, "the loss is noticed", func() bool {
		n, _ := d.Metric("belay_certificate_state", "tls.crt")
		return n == 2
	})
	becomes("c1", "the last good one without files")
	fill(dir, certs[2])
	becomes("c2", "files that were made again")
	fill(dir+".new", certs[3])
	must(os.Rename(dir, dir+".old"))
	must(os.Rename(dir+".new", dir))
	becomes("c3", "another directory of the same name")
	close(stop)
	if n := <-ended; n < 10 {
		t.Errorf("only %d clients", n)
	}
}
