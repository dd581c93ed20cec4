package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// doubleProxy runs examples/double-proxy with a PostgreSQL behind it.
type doubleProxy struct {
	t         *testing.T
	certs     string            // directory
	address   map[string]string // by that of the example
	near, far *harness.Daemon
}

const doubleMore = "\n[hot_restart]\nprobation = \"200ms\"\nheartbeat = \"1s\"\ndrain_time = \"500ms\"\nshutdown_time = \"3s\"\n"

// newDoubleProxy makes certificates and configurations; change edits the latter.
func newDoubleProxy(t *testing.T, backend string, change func(near, far string) (string, string)) *doubleProxy {
	t.Helper()
	harness.Need(t, "openssl")
	p := &doubleProxy{t: t, certs: harness.TempDir(t), address: map[string]string{
		"127.0.0.1:15432": harness.Addr(t), "127.0.0.1:16432": harness.Addr(t), "127.0.0.1:5432": backend,
	}}
	p.makeCerts()
	near, far := p.example("app.toml"), p.example("db.toml")
	if change != nil {
		near, far = change(near, far)
	}
	p.far = harness.Start(t, far+doubleMore)
	p.near = harness.Start(t, near+doubleMore)
	return p
}

func (p *doubleProxy) example(name string) string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(p.t), "examples/double-proxy", name))
	if err != nil {
		p.t.Fatal(err)
	}
	s := strings.ReplaceAll(string(text), "/etc/belay/double-proxy/", p.certs+"/")
	s = strings.Replace(s, "[admin]\nsocket = \"/run/belay/admin.sock\"\n", "", 1)
	// The shortest address is a part of none of the others.
	for _, from := range []string{"127.0.0.1:15432", "127.0.0.1:16432", "127.0.0.1:5432"} {
		s = strings.ReplaceAll(s, `"`+from+`"`, `"`+p.address[from]+`"`)
	}
	return s
}

func (p *doubleProxy) makeCerts(args ...string) {
	p.t.Helper()
	script := filepath.Join(harness.Root(p.t), "examples/double-proxy/make-certs.sh")
	if out, err := exec.Command(script, append([]string{p.certs}, args...)...).CombinedOutput(); err != nil {
		p.t.Fatalf("make-certs.sh: %v\n%s", err, out)
	}
}

func (p *doubleProxy) entry() string { return p.address["127.0.0.1:15432"] }

// The example of the documentation: PostgreSQL's own clients work through both
// proxies; certificates rotate and both proxies restart under pgbench.
func TestDoubleProxy(t *testing.T) {
	p := newDoubleProxy(t, postgres(t), nil)
	if out := psql(t, p.entry(), "psql", "-d", "postgres", "-Atc", "select sum(n) from generate_series(1, 100000) n"); strings.TrimSpace(out) != "5000050000" {
		t.Errorf("psql: %q", out)
	}
	if out := psql(t, p.entry(), "psql", "-d", "postgres", "-Atc", "select repeat('x', 10000000)"); len(strings.TrimSpace(out)) != 10000000 {
		t.Errorf("psql got %d bytes", len(out))
	}
	psql(t, p.entry(), "pgbench", "-i", "-q", "-s", "1", "postgres")

	// Both certificates are replaced while connections come and go.
	anew := make(chan string, 1)
	loaded := [2]int{p.near.CountLines("certificate loaded"), p.far.CountLines("certificate loaded")}
	go func() { anew <- psql(t, p.entry(), "pgbench", "-S", "-C", "-c", "4", "-T", "4", "-n", "postgres") }()
	for range 2 {
		p.makeCerts("db", "DNS:orders.db.example,URI:spiffe://example/belay/db")
		p.makeCerts("app", "URI:spiffe://example/belay/app")
		harness.Eventually(t, patience, "both have loaded the new certificates", func() bool {
			return p.near.CountLines("certificate loaded") > loaded[0] && p.far.CountLines("certificate loaded") > loaded[1]
		})
		loaded = [2]int{p.near.CountLines("certificate loaded"), p.far.CountLines("certificate loaded")}
	}
	noFailures(t, "certificates rotated", <-anew)

	// Both restart. Connections that are short end by themselves.
	go func() { anew <- psql(t, p.entry(), "pgbench", "-S", "-C", "-c", "4", "-T", "4", "-n", "postgres") }()
	for range 2 {
		p.near.HotRestart()
		p.far.HotRestart()
	}
	noFailures(t, "both restarted", <-anew)
}

func noFailures(t *testing.T, what, out string) {
	t.Helper()
	want(t, out, "number of failed transactions: 0")
	for _, l := range lines(out) {
		if strings.HasPrefix(l, "tps") {
			t.Logf("%s: %s", what, l)
		}
	}
}

// Connections that outlive the drain end when shutdown_time says, with no other
// error before.
func TestDoubleProxyShutdownTime(t *testing.T) {
	p := newDoubleProxy(t, postgres(t), nil)
	host, port, _ := strings.Cut(p.entry(), ":")
	session := exec.Command("psql", "-h", host, "-p", port, "-U", "belay", "-d", "postgres", "-Atc", "select 'begun'", "-c", "select pg_sleep(60)")
	began := time.Now()
	done := make(chan string, 1)
	go func() {
		out, _ := session.CombinedOutput()
		done <- string(out)
	}()
	harness.Eventually(t, patience, "the session", func() bool {
		return strings.TrimSpace(psql(t, p.entry(), "psql", "-d", "postgres", "-Atc", "select count(*) from pg_stat_activity where query like 'select pg_sleep%'")) == "1"
	})
	p.far.HotRestart()
	restarted := time.Now()
	out := <-done
	if took := time.Since(restarted); took < 2*time.Second || took > 10*time.Second {
		t.Errorf("the session ended %v after the restart, want some 3s", took)
	}
	want(t, out, "begun")
	want(t, out, "server closed the connection")
	p.far.WaitLine("time is over: connections cut")
	t.Logf("ended after %v", time.Since(began))
}

// Each way to be wrong is refused, with the reason in the log of who refuses, and
// a client that is told nothing but the end.
func TestDoubleProxyRefuses(t *testing.T) {
	backend := tcpServer(t, echoTCP)
	replace := func(from, to string) func(string) string {
		return func(s string) string { return strings.ReplaceAll(s, from, to) }
	}
	same := func(s string) string { return s }
	for _, tt := range []struct {
		name      string
		near      func(string) string
		certs     func(p *doubleProxy)
		far, told string // lines of the far and the near proxy's log
	}{
		{"another URI of the client", same, func(p *doubleProxy) { p.makeCerts("app", "URI:spiffe://example/other") }, "reason=certificate-san", "bad certificate"},
		{"client of another authority", same, func(p *doubleProxy) { otherAuthority(p, "app", "URI:spiffe://example/belay/app") }, "reason=certificate-unknown-authority", "unknown certificate authority"},
		{"no client certificate", func(s string) string {
			out := ""
			for _, l := range strings.Split(s, "\n") {
				if !strings.HasPrefix(l, "cert =") && !strings.HasPrefix(l, "key =") {
					out += l + "\n"
				}
			}
			return out
		}, nil, "reason=no-certificate", "certificate required"},
		{"unknown server name", replace("orders.db.example", "nothing.db.example"), nil, "reason=no-chain", "connection reset"},
		{"another URI of the server", replace("spiffe://example/belay/db", "spiffe://example/belay/other"), nil, "", "reason=certificate_san"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newDoubleProxy(t, backend, func(near, far string) (string, string) { return tt.near(near), far })
			if tt.certs != nil {
				n := p.near.CountLines("certificate loaded")
				tt.certs(p)
				harness.Eventually(t, patience, "the certificate is loaded", func() bool { return p.near.CountLines("certificate loaded") > n })
			}
			dialReset(t, p.entry())
			if tt.far != "" {
				p.far.WaitLine(tt.far)
			}
			p.near.WaitLine(tt.told)
		})
	}
}

// otherAuthority replaces a certificate by one of an authority that nobody trusts.
func otherAuthority(p *doubleProxy, name, san string) {
	p.t.Helper()
	other := *p
	other.certs = harness.TempDir(p.t)
	other.makeCerts()
	other.makeCerts(name, san)
	for _, ext := range []string{".key", ".pem"} {
		from, to := filepath.Join(other.certs, name+ext), filepath.Join(p.certs, name+ext)
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to+".new", b, 0o600)
		}
		if err == nil {
			err = os.Rename(to+".new", to)
		}
		if err != nil {
			p.t.Fatal(fmt.Errorf("%s: %w", to, err))
		}
	}
}
