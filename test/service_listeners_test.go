package test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"belay/test/harness"
)

// killMain ends the main process with SIGKILL and waits for the next one.
func killMain(t *testing.T, b *harness.ServiceBox) (now int) {
	t.Helper()
	old := b.WaitQuiet()
	b.Signal(old, syscall.SIGKILL)
	harness.Eventually(t, patience, "another main process", func() bool {
		now = b.MainPID(harness.FaultUnit)
		return now != 0 && now != old
	})
	return b.WaitQuiet()
}

// mustReload is systemctl reload, which works.
func mustReload(t *testing.T, b *harness.ServiceBox) {
	t.Helper()
	if r := b.Reload(); r.Code != 0 {
		t.Fatalf("systemctl reload: exit code %d\n%s", r.Code, r.Stderr)
	}
}

// stored is how many sockets the service manager has.
func stored(t *testing.T, b *harness.ServiceBox) int {
	t.Helper()
	n, err := strconv.Atoi(b.Property(harness.FaultUnit, "NFileDescriptorStore"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// After kill -9 the ports are those of the configuration, whatever the reloads
// before it have added and dropped, even if the configuration was changed and not
// reloaded. The listener that stays refuses nobody.
func TestServiceListenersAfterKill(t *testing.T) {
	t.Parallel()
	const other = "127.0.0.1:8081"
	one := boxSite("", "")
	two := boxSite("", fmt.Sprintf("[listener.other]\naddress = %q\n[[listener.other.route]]\nrespond = { status = 200, body = \"other\" }\n", other))
	b := startService(t, harness.ServiceOptions{Config: two})
	load := harness.StartLoad(b.Box, harness.LoadOptions{Targets: map[string]string{"web": harness.FaultListener}, Fresh: 4, Rate: 80})
	const perListener = 2 // sockets: one for each worker
	look := func(when string, listeners int) {
		t.Helper()
		if n := stored(t, b); n != listeners*perListener {
			t.Errorf("%s: %d sockets in the store, want %d", when, n, listeners*perListener)
		}
		b.Dial(harness.FaultListener).ExpectOpen("/", "a")
		if listeners == 1 {
			if !portRefuses(t, b, other) {
				t.Errorf("%s: a listener that is gone takes connections", when)
			}
			return
		}
		if r := b.Dial(other).Do("GET", "/", "a"); r.Status != 200 || r.Body != "other" {
			t.Errorf("%s: status %d, body %q of the other listener", when, r.Status, r.Body)
		}
	}
	look("at first", 2)
	b.Write(one)
	mustReload(t, b)
	look("dropped", 1)
	killMain(t, b)
	look("dropped and killed", 1)
	b.Write(two)
	mustReload(t, b)
	look("added", 2)
	killMain(t, b)
	look("added and killed", 2)
	b.Write(one)
	killMain(t, b)
	look("killed with another configuration", 1)
	b.Write(two)
	killMain(t, b)
	look("and once more", 2)
	if res := load.Stop(); res.Total("").Outcomes["refused"] > 0 || res.Total("").Outcomes["ok"] == 0 {
		t.Errorf("clients of the listener that stays:\n%s", res)
	}
}

// socketUnits brings the examples of the package into the box, edited as they say:
// belay.socket for the listener web, belay-api.socket for the listener api, and
// the drop-in that takes all capabilities away.
func socketUnits(t *testing.T, b *harness.ServiceBox) {
	t.Helper()
	const units = "/etc/systemd/system/"
	root := harness.Root(t) + "/systemd/"
	data, err := os.ReadFile(root + "belay.socket")
	if err != nil {
		t.Fatal(err)
	}
	example := string(data)
	edit := func(pairs ...string) string {
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(example, pairs[i]) {
				t.Fatalf("belay.socket has no %q", pairs[i])
			}
		}
		return strings.NewReplacer(pairs...).Replace(example)
	}
	b.WriteFile(units+"belay.socket", edit("\nListenStream=[::]:80\n", "\nListenStream="+activatedWeb+"\n"))
	b.WriteFile(units+"belay-api.socket", edit("\nListenStream=[::]:80\n", "\nListenStream="+activatedAPI+"\nService=belay.service\n",
		"\nFileDescriptorName=web\n", "\nFileDescriptorName=api\n"))
	b.CopyFile(root+"zero-capability.conf", units+"belay.service.d/zero-capability.conf")
	b.WriteFile(units+"belay.service.d/zz-sockets.conf", "[Service]\nSockets=belay.socket belay-api.socket\n")
	b.MustExec("systemctl", "daemon-reload")
	b.MustExec("systemctl", "start", "belay.socket", "belay-api.socket")
}

// The addresses of the socket units: low ports, which belay could not bind.
const (
	activatedWeb = "127.0.0.1:80"
	activatedAPI = "127.0.0.1:81"
)

// belay.socket with the drop-in without capabilities: the first connection starts
// the service, each listener gets the socket of its name, and that stays so after
// a reload and a kill -9. No process has a capability.
func TestServiceSocketActivation(t *testing.T) {
	for name, trixie := range map[string]bool{"systemd 252": false, "systemd 257": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := strings.Replace(boxSite("", "[listener.api]\nsystemd = \"api\"\n[[listener.api.route]]\nrespond = { status = 200, body = \"api\" }\n"),
				fmt.Sprintf("address = %q\n[[listener.web", harness.FaultListener), "systemd = \"web\"\n[[listener.web", 1)
			b := harness.BootServiceBox(t, harness.ServiceOptions{Trixie: trixie, Config: config})
			socketUnits(t, b)
			b.Dial(activatedWeb).ExpectOpen("/first", "a")
			look := func(when string) {
				t.Helper()
				noCapability(t, b, b.WaitQuiet())
				if r := b.Dial(activatedAPI).Do("GET", "/", "a"); r.Body != "api" {
					t.Errorf("%s: api answers %d %q", when, r.Status, r.Body)
				}
				if r := b.Dial(activatedWeb).Do("GET", "/where", "a"); r.Body != "GET 0 /where\n" {
					t.Errorf("%s: web answers %d %q", when, r.Status, r.Body)
				}
				if n := stored(t, b); n != 0 {
					t.Errorf("%s: %d sockets in the store, the manager has them anyway", when, n)
				}
			}
			look("started")
			targets := harness.LoadOptions{Targets: map[string]string{"web": activatedWeb}, KeepAlive: 2, Fresh: 3, Rate: 80}
			load := harness.StartLoad(b.Box, targets)
			mustReload(t, b)
			look("reloaded")
			load.Stop().MustBeClean(t)
			load = harness.StartLoad(b.Box, targets)
			killMain(t, b)
			look("killed")
			mustReload(t, b)
			look("reloaded after the kill")
			if res := load.Stop(); res.Total("").Outcomes["refused"] > 0 {
				t.Errorf("clients:\n%s", res)
			}
		})
	}
}

// noCapability looks at the capabilities of a process of the box.
func noCapability(t *testing.T, b *harness.ServiceBox, pid int) {
	t.Helper()
	status := b.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if !strings.Contains(status, set+":\t0000000000000000\n") {
			t.Errorf("process %d has a capability:\n%s", pid, status[strings.Index(status, "CapInh"):])
		}
	}
}
