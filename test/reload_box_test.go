package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"belay/test/harness"
)

// deb builds the package of a version once per test process.
func deb(t *testing.T, version string) string {
	t.Helper()
	debs.Lock()
	defer debs.Unlock()
	if path := debs.built[version]; path != "" {
		return path
	}
	dir := filepath.Join(harness.BuildDir(t), version)
	cmd := exec.Command("make", "-s", "packages", "VERSION="+version, "DIST="+dir, "ARCHES=amd64")
	cmd.Dir = harness.Root(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make packages: %v\n%s", err, out)
	}
	list, err := filepath.Glob(dir + "/*.deb")
	if err != nil || len(list) != 1 {
		t.Fatalf("packages in %s: %v, %v", dir, list, err)
	}
	debs.built[version] = list[0]
	return list[0]
}

var debs = struct {
	sync.Mutex
	built map[string]string
}{built: make(map[string]string)}

// serviceConfig is a service before the backend of the load, ready to be
// reloaded often.
func serviceConfig(workers int) string {
	return fmt.Sprintf(`
[server]
workers = %d
[hot_restart]
probation = "200ms"
call_time = "10s"
drain_time = "1s"
shutdown_time = "24h"
[listener.web]
address = "127.0.0.1:8080"
[[listener.web.route]]
cluster = "back"
[cluster.back]
endpoints = [{ id = "a", address = "127.0.0.1:9001" }]
`, workers)
}

const adminSocket = "/run/belay/admin.sock"

// service installs the package in a box and starts it before a backend.
func service(t *testing.T, trixie bool) (*harness.Box, *harness.LoadBackend) {
	t.Helper()
	b := harness.BootBox(t, harness.BoxOptions{Trixie: trixie})
	be := harness.StartLoadBackend(b, "127.0.0.1:9001")
	b.InstallDeb(deb(t, "v0.0.1"))
	b.WriteFile("/etc/belay/belay.toml", serviceConfig(2))
	b.MustExec("systemctl", "restart", "belay.service")
	return b, be
}

// Reloads under load, the number of workers going up and down between them:
// nobody is refused or cut, upgraded connections and slow replies live through
// several, and the counters of all generations add up to what the clients counted.
func TestServiceReloadUnderLoad(t *testing.T) {
	for _, x := range []struct {
		name    string
		trixie  bool
		reloads int
	}{{"systemd 252", false, 50}, {"systemd 257", true, 15}} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			if n, err := strconv.Atoi(os.Getenv("BELAY_SOAK_RELOADS")); err == nil {
				x.reloads = n
			}
			b, be := service(t, x.trixie)
			l := harness.StartLoad(b, harness.LoadOptions{
				Targets:   map[string]string{"web": "127.0.0.1:8080"},
				KeepAlive: 8, Fresh: 4, Upload: 2, Download: 2, Slow: 3, Upgrade: 4, Rate: 200, SlowFor: 4 * time.Second,
			})
			var longest time.Duration
			for i := range x.reloads {
				b.WriteFile("/etc/belay/belay.toml", serviceConfig([]int{4, 1, 3, 2}[i%4]))
				if r := b.Exec("systemctl", "reload", "belay.service"); r.Code != 0 {
					t.Errorf("reload %d: exit code %d\n%s", i+1, r.Code, r.Stderr)
					break // what the clients saw is worth knowing all the same
				}
				if longest = max(longest, b.ReloadTook("belay.service")); (i+1)%100 == 0 {
					t.Logf("%d reloads, the longest %v", i+1, longest)
				}
			}
			res := l.Stop()
			res.MustBeClean(t)
			total := res.Total("")
			harness.Eventually(t, patience, "the counts of all generations", func() bool {
				n, _ := b.Metric(adminSocket, "belay_listener_requests_total")
				return int64(n) >= int64(total.Requests)
			})
			for _, metric := range []string{"belay_listener_requests_total", "belay_cluster_requests_total", "belay_endpoint_requests_total"} {
				if n, _ := b.Metric(adminSocket, metric); int64(n) != int64(total.Requests) {
					t.Errorf("%s is %.0f, the clients had %d replies", metric, n, total.Requests)
				}
			}
			if n, _ := b.Metric(adminSocket, "belay_hot_restarts_total", `result="ok"`); int(n) != x.reloads {
				t.Errorf("%.0f restarts counted, %d made", n, x.reloads)
			}
			t.Logf("%d reloads, the longest %v; %d requests, %+v at the backend, longest request %v, longest gap %v",
				x.reloads, longest, total.Requests, be.Seen(), res.Latency, res.Gap)
		})
	}
}

var exposure = regexp.MustCompile(`exposure level for belay.service: ([0-9.]+)`)

// The package makes a service that is enabled, runs, and is well fenced in.
func TestServicePackage(t *testing.T) {
	for name, trixie := range map[string]bool{"systemd 252": false, "systemd 257": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := service(t, trixie)
			for _, what := range []string{"is-active", "is-enabled"} {
				if r := b.Exec("systemctl", what, "belay.service"); r.Code != 0 {
					t.Errorf("systemctl %s: %s", what, r.Stdout)
				}
			}
			out := b.MustExec("systemd-analyze", "security", "--no-pager", "belay.service")
			m := exposure.FindStringSubmatch(out)
			if m == nil {
				t.Fatalf("systemd-analyze security: %s", out)
			}
			if level, err := strconv.ParseFloat(m[1], 64); err != nil || level > 1.5 {
				t.Errorf("exposure level %s", m[1])
			}
			r := b.Exec("systemd-analyze", "verify", "--man=no", "/lib/systemd/system/belay.service")
			for _, line := range lines(r.Stderr) {
				if trixie || !containsAny(line, "RestartSteps", "RestartMaxDelaySec", "FileDescriptorStorePreserve") {
					t.Errorf("systemd-analyze verify: %s", line)
				}
			}
		})
	}
}

// kill -9 of the main process under load: nobody is refused, the service is back
// with the next epoch, and can be reloaded.
func TestServiceKilled(t *testing.T) {
	for name, trixie := range map[string]bool{"systemd 252": false, "systemd 257": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := service(t, trixie)
			l := harness.StartLoad(b, harness.LoadOptions{Targets: map[string]string{"web": "127.0.0.1:8080"}, KeepAlive: 4, Fresh: 8, Rate: 200})
			for range 2 {
				pid := b.MainPID("belay.service")
				b.MustExec("kill", "-9", strconv.Itoa(pid))
				harness.Eventually(t, patience, "another main process", func() bool {
					now := b.MainPID("belay.service")
					return now != 0 && now != pid && b.Exec("systemctl", "is-active", "belay.service").Code == 0
				})
				if r := b.Exec("systemctl", "reload", "belay.service"); r.Code != 0 {
					t.Errorf("reload after the kill: %s", r.Stderr)
				}
			}
			res := l.Stop()
			if n := res.Total("").Outcomes["refused"]; n > 0 {
				t.Errorf("%d connections refused", n)
			}
			if ok := res.Total("").Outcomes["ok"]; ok == 0 {
				t.Error("nobody was served")
			}
			if n, _ := b.Metric(adminSocket, "belay_listener_requests_total"); int64(n) > int64(res.Total("").Requests) {
				t.Errorf("%.0f requests counted, %d made", n, res.Total("").Requests)
			}
		})
	}
}

// A package upgrade is a hot restart.
func TestServiceUpgrade(t *testing.T) {
	t.Parallel()
	b, _ := service(t, false)
	l := harness.StartLoad(b, harness.LoadOptions{Targets: map[string]string{"web": "127.0.0.1:8080"}, KeepAlive: 6, Fresh: 4, Rate: 200})
	b.InstallDeb(deb(t, "v0.0.2"))
	l.Stop().MustBeClean(t)
	if out := b.MustExec("belayctl", "status", "--json"); !containsAny(out, "v0.0.2") {
		t.Errorf("after the upgrade: %s", out)
	}
	// One that does not come up leaves the old one, and dpkg succeeds.
	pid := b.MainPID("belay.service")
	b.WriteFile("/etc/belay/belay.toml", "nonsense = true\n")
	b.InstallDeb(deb(t, "v0.0.1"))
	if now := b.MainPID("belay.service"); now != pid {
		t.Errorf("main process %d, then %d", pid, now)
	}
}

// A listener that the configuration drops refuses, although the service manager
// had its socket; one that is new serves; the store does not grow.
func TestServiceListeners(t *testing.T) {
	t.Parallel()
	b, _ := service(t, false)
	stored := b.Property("belay.service", "NFileDescriptorStore")
	second := "[listener.other]\naddress = \"127.0.0.1:8081\"\n[[listener.other.route]]\nrespond = { status = 200, body = \"x\" }\n"
	for range 2 {
		b.WriteFile("/etc/belay/belay.toml", serviceConfig(2)+second)
		b.MustExec("systemctl", "reload", "belay.service")
		if c, err := b.TryDial("127.0.0.1:8081"); err != nil {
			t.Errorf("new listener: %v", err)
		} else {
			_ = c.Close()
		}
		b.WriteFile("/etc/belay/belay.toml", serviceConfig(2))
		b.MustExec("systemctl", "reload", "belay.service")
		if c, err := b.TryDial("127.0.0.1:8081"); err == nil {
			t.Error("a dropped listener still takes connections")
			_ = c.Close()
		}
	}
	if now := b.Property("belay.service", "NFileDescriptorStore"); now != stored {
		t.Errorf("%s sockets in the store, then %s", stored, now)
	}
}
