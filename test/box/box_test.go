// Package box proves the test ground for systemd: boxes, and load that counts.
// It uses programs of Debian only, so a failure here is not one of belay.
package box

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const patience = 30 * time.Second

// both runs a test on systemd 252 (the host's own root, if that is Debian 12) and on 257.
func both(t *testing.T, test func(t *testing.T, b *harness.Box)) {
	for name, trixie := range map[string]bool{"host": false, "trixie": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, harness.BootBox(t, harness.BoxOptions{Trixie: trixie}))
		})
	}
}

func TestBox(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, b *harness.Box) {
		if got := b.MustExec("systemctl", "--version"); strings.HasSuffix(t.Name(), "/trixie") && !strings.HasPrefix(got, "systemd 257 ") {
			t.Errorf("not systemd 257:\n%s", got)
		}
		if got := b.MustExec("cat", "/proc/1/comm"); got != "systemd" {
			t.Errorf("PID 1 is %s", got)
		}
		if out := b.Exec("sh", "-c", "echo out; echo err >&2; exit 7"); out.Stdout != "out\n" || out.Stderr != "err\n" || out.Code != 7 {
			t.Errorf("%+v", out)
		}
		b.WriteFile("/etc/a/new/file", "text\n")
		b.WriteFile("/var/run/through-a-link", "text\n")
		if got := b.MustExec("cat", "/etc/a/new/file", "/run/through-a-link"); got != "text\ntext" {
			t.Errorf("files: %q", got)
		}
		if got := b.ReadFile("/var/run/through-a-link"); got != "text\n" {
			t.Errorf("file: %q", got)
		}
		if _, err := os.Stat("/etc/a"); err == nil {
			t.Error("the host has a file of the box")
		}
		unit(t, b)
		process(t, b)
	})
}

// unit starts a service and looks at it from both sides.
func unit(t *testing.T, b *harness.Box) {
	b.WriteFile("/etc/systemd/system/x.service", "[Service]\nExecStart=sh -c 'echo I am $$$$; exec sleep 1000'\nRestart=always\nRestartSec=0\nExecReload=sleep 0.1\nExecReload=sleep 0.1\n")
	b.MustExec("systemctl", "daemon-reload")
	b.MustExec("systemctl", "start", "x")
	pid := b.MainPID("x.service")
	b.WaitJournal(patience, "x.service", "I am "+strconv.Itoa(pid))
	harness.Eventually(t, patience, "sleep", func() bool {
		comm, _ := os.ReadFile("/proc/" + strconv.Itoa(b.HostPID(pid)) + "/comm")
		return string(comm) == "sleep\n"
	})
	out := b.Systemctl("reload", "x")
	if took := b.ReloadTook("x.service"); out.Code != 0 || took < 200*time.Millisecond || took > out.Took {
		t.Errorf("reload: %v, and systemd says %v", out, took)
	}
	b.Signal(pid, syscall.SIGKILL)
	b.WaitProperty(patience, "x.service", "NRestarts", "1")
	b.WaitProperty(patience, "x.service", "ActiveState", "active")
	if again := b.MainPID("x.service"); again == pid || again == 0 {
		t.Errorf("main PID %d, then %d", pid, again)
	}
}

// process starts a command beside the test and dials into the box.
func process(t *testing.T, b *harness.Box) {
	be := harness.StartLoadBackend(b, "127.0.0.1:9001", "/run/load.sock")
	if p := be.Process(); b.HostPID(p.PID()) != p.HostPID() {
		t.Errorf("PID %d is %d outside, not %d", p.PID(), b.HostPID(p.PID()), p.HostPID())
	}
	for _, addr := range []string{"127.0.0.1:9001", "/run/load.sock"} {
		if r := b.Dial(addr).Do("GET", "/x", "a"); r.Body != "GET 0 /x\n" {
			t.Errorf("%s: %+v", addr, r)
		}
	}
	if status, body := b.Admin("/run/load.sock", "/y"); status != 200 || body != "GET 0 /y\n" {
		t.Errorf("%d %q", status, body)
	}
	addr := harness.Addr(t)
	b.InNetwork(func() { harness.NewBackendAt(t, addr, harness.Echo("a")) })
	if r := b.Dial(addr).Do("GET", "/", "a"); r.Header.Get("X-Backend") != "a" {
		t.Errorf("backend of the test in the box: %+v", r)
	}
	if c, err := harness.TryDial("", addr); err == nil {
		_ = c.Close()
		t.Error("the box and the host share a network")
	}
	if seen := be.Seen(); seen.Requests != 3 {
		t.Errorf("%+v", seen)
	}
	be.Process().Signal(syscall.SIGTERM)
	if code := be.Process().Wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := be.Process().Stdout(); strings.Count(got, "\n") != 2 {
		t.Errorf("output %q", got)
	}
	p := b.Start("sleep", "1000")
	p.Signal(syscall.SIGKILL)
	if code := p.Wait(patience); code != -1 {
		t.Errorf("killed: exit code %d", code)
	}
}

func TestInstallDeb(t *testing.T) {
	t.Parallel()
	harness.Need(t, "dpkg-deb")
	dir := t.TempDir()
	deb := func(version string) string {
		root := filepath.Join(dir, version)
		for name, content := range map[string]string{
			"DEBIAN/control":                  "Package: tiny\nVersion: " + version + "\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: tiny\n",
			"DEBIAN/postinst":                 "#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl enable --quiet tiny.service\nsystemctl restart tiny.service\n",
			"lib/systemd/system/tiny.service": "[Service]\nExecStart=sleep 1000\nDescription=tiny " + version + "\n[Install]\nWantedBy=multi-user.target\n",
		} {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", root, root+".deb").CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb: %v\n%s", err, out)
		}
		return root + ".deb"
	}
	one, two := deb("1"), deb("2")
	both(t, func(t *testing.T, b *harness.Box) {
		last := 0
		for _, path := range []string{one, two, one} {
			b.InstallDeb(path)
			version := strings.TrimSuffix(filepath.Base(path), ".deb")
			if got := b.MustExec("dpkg-query", "-W", "-f=${Version} ${db:Status-Status}", "tiny"); got != version+" installed" {
				t.Errorf("installed: %q", got)
			}
			b.WaitProperty(patience, "tiny.service", "ActiveState", "active")
			pid := b.MainPID("tiny.service")
			if pid == last || pid == 0 {
				t.Errorf("not restarted: %d", pid)
			}
			last = pid
		}
	})
}

const haproxy = `
global
    nbthread 2
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
listen web
    bind 127.0.0.1:8080
    server a 127.0.0.1:9001
listen other
    bind 127.0.0.1:8081
    server a 127.0.0.1:9001
`

// A quiet run is clean and both ends count the same; a killed server is seen by
// every kind of client, and by those of its other listener too.
func TestLoad(t *testing.T) {
	t.Parallel()
	harness.Need(t, "haproxy")
	b := harness.BootBox(t, harness.BoxOptions{})
	backend := harness.StartLoadBackend(b, "127.0.0.1:9001")
	b.WriteFile("/etc/haproxy/haproxy.cfg", haproxy)
	b.WriteFile("/etc/systemd/system/haproxy.service.d/no.conf", "[Service]\nRestart=no\n")
	b.MustExec("systemctl", "daemon-reload")
	b.MustExec("systemctl", "start", "haproxy")
	o := harness.LoadOptions{
		Targets:   map[string]string{"web": "127.0.0.1:8080", "other": "127.0.0.1:8081"},
		KeepAlive: 6, Fresh: 3, Upload: 1, Download: 1, Slow: 2, Upgrade: 2,
		Rate: 300, SlowFor: 500 * time.Millisecond, UpgradeFor: time.Second,
	}
	reached := func(l *harness.Load, n int64) {
		t.Helper()
		from := l.Totals().Requests()
		harness.Eventually(t, patience, "requests", func() bool { return l.Totals().Requests() >= from+n })
	}
	load := harness.StartLoad(b, o)
	reached(load, 300)
	quiet := load.Stop()
	quiet.MustBeClean(t)
	if seen, n := backend.Seen(), quiet.Requests(); seen.Requests != n {
		t.Errorf("the backend has seen %+v\n%s", seen, quiet)
	}
	if n := quiet.Total("web").Status[101]; n < 2 {
		t.Errorf("%d upgrades\n%s", n, quiet)
	}

	load = harness.StartLoad(b, o)
	reached(load, 30)
	b.Systemctl("kill", "--kill-whom=all", "--signal=KILL", "haproxy")
	dead := time.Now()
	reached(load, 300)
	away := time.Since(dead)
	b.MustExec("systemctl", "start", "haproxy")
	good := load.Totals().Total("").Outcomes["ok"]
	harness.Eventually(t, patience, "good requests", func() bool { return load.Totals().Total("").Outcomes["ok"] > good+50 })
	broken := load.Stop()
	for target := range o.Targets {
		if n := broken.Total(target, "fresh", "keepalive").Outcomes["refused"]; n == 0 {
			t.Errorf("%s: nothing refused", target)
		}
		for _, kind := range []string{"slow", "upgrade"} {
			if n := broken.Total(target, kind).Outcomes; n["eof_in_reply"]+n["reset"] == 0 {
				t.Errorf("%s: no %s cut", target, kind)
			}
		}
	}
	if broken.Gap.For < away/2 { // a reply may still have been on its way
		t.Errorf("longest time without a reply %v, the server was away for %v", broken.Gap.For, away)
	}
	if all := broken.Total(""); all.Outcomes["local"]+all.Outcomes["wrong_body"]+all.Outcomes["malformed"] > 0 || all.Outcomes["ok"]+all.Failed() != all.Requests {
		t.Error("miscounted")
	}
	if t.Failed() {
		t.Log(broken)
	}
}
