package test

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// postgres runs a PostgreSQL of Debian on a fresh address and returns it. With a
// certificate it takes TLS, and in clear nothing but what is local.
func postgres(t *testing.T, cert ...harness.Certificate) (addr string) {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	who, err := user.Lookup("postgres")
	if len(bins) == 0 || err != nil {
		t.Skip("no PostgreSQL here: run test/install-deps.sh")
	}
	bin := bins[len(bins)-1]
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	dir := harness.TempDir(t)
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(bin+"/"+name, args...)
		c.Dir = dir
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if os.Getuid() == 0 {
			c.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
		return c
	}
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	if out, err := command("initdb", "-D", dir+"/data", "-A", "trust", "--no-sync", "-U", "belay").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	addr = harness.Addr(t)
	host, port, _ := strings.Cut(addr, ":")
	args := []string{"-D", dir + "/data", "-h", host, "-p", port, "-k", dir, "-F", "-c", "max_connections=50"}
	hba := "host all all 127.0.0.0/8 trust\nlocal all all trust\n"
	for _, c := range cert {
		for from, to := range map[string]string{c.CertFile: dir + "/data/server.crt", c.KeyFile: dir + "/data/server.key"} {
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to, b, 0o600)
			}
			if err == nil {
				err = os.Chown(to, uid, gid)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		args = append(args, "-c", "ssl=on")
		hba = "hostssl all all 127.0.0.0/8 trust\nlocal all all trust\n"
	}
	c := command("postgres", args...)
	if err := os.WriteFile(dir+"/data/pg_hba.conf", []byte(hba), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGINT) // fast shutdown
		_ = c.Wait()
		_ = log.Close()
		if t.Failed() {
			b, _ := os.ReadFile(dir + "/log")
			t.Logf("PostgreSQL said:\n%s", b)
		}
	})
	harness.Eventually(t, patience, "PostgreSQL", func() bool {
		return exec.Command(bin+"/pg_isready", "-q", "-h", host, "-p", port).Run() == nil
	})
	return addr
}

// psql runs a program of PostgreSQL's client through addr.
func psql(t *testing.T, addr, program string, args ...string) string {
	t.Helper()
	host, port, _ := strings.Cut(addr, ":")
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	c := exec.Command(bins[len(bins)-1]+"/"+program, append([]string{"-h", host, "-p", port, "-U", "belay"}, args...)...)
	c.Env = append(os.Environ(), "PGCONNECT_TIMEOUT=10")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

// psql and pgbench work through belay, and pgbench does not notice two hot
// restarts: its connections live on, those that it makes anew go to the new one.
func TestTCPPostgres(t *testing.T) {
	s := &tcpSite{endpoints: []string{postgres(t)}, more: patient}
	d := serveTCP(t, s)
	if out := psql(t, s.addr, "psql", "-d", "postgres", "-Atc", "select sum(n) from generate_series(1, 100000) n"); strings.TrimSpace(out) != "5000050000" {
		t.Errorf("psql: %q", out)
	}
	if out := psql(t, s.addr, "psql", "-d", "postgres", "-Atc", "select repeat('x', 30000000)"); len(strings.TrimSpace(out)) != 30000000 {
		t.Errorf("psql got %d bytes", len(out))
	}
	psql(t, s.addr, "pgbench", "-i", "-q", "-s", "1", "postgres")
	kept, anew := make(chan string, 1), make(chan string, 1)
	go func() { kept <- psql(t, s.addr, "pgbench", "-S", "-c", "8", "-T", "5", "-n", "postgres") }()
	go func() { anew <- psql(t, s.addr, "pgbench", "-S", "-C", "-c", "2", "-T", "5", "-n", "postgres") }()
	time.Sleep(500 * time.Millisecond) // both run
	d.HotRestart()
	d.HotRestart()
	for name, ch := range map[string]chan string{"kept connections": kept, "a connection for each": anew} {
		out := <-ch
		want(t, out, "number of failed transactions: 0")
		for _, l := range lines(out) {
			if strings.HasPrefix(l, "tps") || strings.HasPrefix(l, "latency") {
				t.Logf("%s: %s", name, l)
			}
		}
	}
	if code := d.Wait(patience); code != 0 {
		t.Errorf("the first process: exit code %d", code)
	}
}
