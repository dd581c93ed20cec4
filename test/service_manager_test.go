package test

import (
	"fmt"
	"strings"
	"testing"

	"belay/test/harness"
)

// boxLoad is light: what is measured is that nothing goes wrong.
var boxLoad = harness.LoadOptions{Targets: map[string]string{"web": harness.FaultListener}, KeepAlive: 2, Fresh: 3, Rate: 80}

// systemctl daemon-reload and daemon-reexec in the middle of a reload change
// nothing about it: it works, and no request fails.
func TestServiceManagerReloadedDuringReload(t *testing.T) {
	for name, trixie := range map[string]bool{"systemd 252": false, "systemd 257": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startService(t, harness.ServiceOptions{Trixie: trixie, Fault: true, Config: boxSite("", "")})
			load := harness.StartLoad(b.Box, boxLoad)
			restarts := b.Restarts()
			for _, x := range []struct{ verb, where string }{
				{"daemon-reload", "child.committed"}, {"daemon-reexec", "child.committed"}, {"daemon-reexec", "hook.notified"},
			} {
				when, old := x.verb+" at "+x.where, b.WaitQuiet()
				b.Fault(x.where, "sleep=400ms")
				reload := b.Start("systemctl", "reload", harness.FaultUnit)
				harness.Eventually(t, patience, "a process at "+x.where, b.FaultActed)
				b.MustExec("systemctl", x.verb)
				// daemon-reexec closes the connection that systemctl waits on.
				if code := reload.Wait(reloadWait); code != 0 && x.verb != "daemon-reexec" {
					t.Errorf("%s: systemctl reload: exit code %d: %s", when, code, reload.Stderr())
				}
				harness.Eventually(t, patience, when+": another main process", func() bool { return b.MainPID(harness.FaultUnit) != old })
				if b.WaitQuiet() == old {
					t.Errorf("%s: not replaced", when)
				}
				if n := stored(t, b); n != 2 {
					t.Errorf("%s: %d sockets in the store", when, n)
				}
			}
			if now := b.Restarts(); now != restarts {
				t.Errorf("restarted %d times", now-restarts)
			}
			load.Stop().MustBeClean(t)
			killMain(t, b) // the manager can still start it with what it has stored
			b.Dial(harness.FaultListener).ExpectOpen("/", "a")
		})
	}
}

// A reload during another: the service stays active, no request is lost, and what
// was written before the second one is in force when both have ended.
func TestServiceTwoReloads(t *testing.T) {
	for name, trixie := range map[string]bool{"systemd 252": false, "systemd 257": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			version := func(n int) string {
				return boxSite("", fmt.Sprintf("[listener.version]\naddress = \"127.0.0.1:8081\"\n[[listener.version.route]]\nrespond = { status = 200, body = \"%d\" }\n", n))
			}
			b := startService(t, harness.ServiceOptions{Trixie: trixie, Fault: true, Config: version(1)})
			b.WaitQuiet()
			load := harness.StartLoad(b.Box, boxLoad)
			b.Write(version(2))
			b.Fault("child.state", "sleep=700ms")
			first := b.Start("systemctl", "reload", harness.FaultUnit)
			harness.Eventually(t, patience, "a process at child.state", b.FaultActed)
			b.Write(version(3))
			second := b.Reload()
			t.Logf("exit codes %d and %d: %s%s", first.Wait(reloadWait), second.Code, first.Stderr(), second.Stderr)
			b.WaitQuiet()
			got := b.Dial("127.0.0.1:8081").Do("GET", "/", "a").Body
			if got != "3" && second.Code == 0 {
				t.Errorf("the second reload is said to have worked, configuration %s is in force", got)
			}
			// Both at the same time.
			old := b.WaitQuiet()
			both := []*harness.BoxProcess{b.Start("systemctl", "reload", harness.FaultUnit), b.Start("systemctl", "reload", harness.FaultUnit)}
			ok := 0
			for _, p := range both {
				if p.Wait(reloadWait) == 0 {
					ok++
				}
			}
			if now := b.WaitQuiet(); now == old || ok == 0 {
				t.Errorf("of two reloads at a time %d worked; main process %d, then %d", ok, old, now)
			}
			load.Stop().MustBeClean(t)
		})
	}
}

// systemctl stop during a reload, with a request in flight that takes longer than
// the hook and the new process need to end: it is answered, by the old process,
// then nothing is left and the port refuses.
func TestServiceStoppedDuringReload(t *testing.T) {
	t.Parallel()
	b := startService(t, harness.ServiceOptions{Fault: true, Config: boxSite("", "")})
	// At the second point the service manager takes the new process for the main one.
	for where, sleep := range map[string]string{"child.committed": "3s", "hook.notified": "500ms"} {
		b.WaitQuiet()
		held := hold(t, b)
		b.Fault(where, "sleep="+sleep)
		reload := b.Start("systemctl", "reload", harness.FaultUnit)
		harness.Eventually(t, patience, "a process at "+where, b.FaultActed)
		stop := b.Start("systemctl", "stop", harness.FaultUnit)
		harness.Eventually(t, patience, "the stop, without a hook", func() bool {
			return strings.HasPrefix(b.Property(harness.FaultUnit, "SubState"), "stop") && b.Property(harness.FaultUnit, "ControlPID") == "0"
		})
		b.Gate.Open()
		if r, err := held.TryReply("GET"); err != nil || r.Body != "held" {
			t.Errorf("stop at %s: what was in flight: %+v, %v", where, r, err)
		}
		isStopped(t, b, stop)
		_ = reload.Wait(reloadWait) // its job is cancelled
		if t.Failed() {
			t.Fatalf("stop at %s", where)
		}
		b.MustExec("systemctl", "start", harness.FaultUnit)
	}
}

// A reload while the name server is down: the last good answers pass on, from one
// process to the next and to the one after, though none of these has resolved a name.
func TestServiceReloadWithoutNameServer(t *testing.T) {
	t.Parallel()
	b := harness.BootServiceBox(t, harness.ServiceOptions{})
	t.Run("with", func(t *testing.T) {
		var server *harness.DNS
		b.InNetwork(func() { server = harness.NewDNS(t) })
		server.Set("back.example", "127.0.0.1")
		b.Write(strings.Replace(boxSite(fmt.Sprintf("dns_servers = [%q]\ndns_min_ttl = \"100ms\"\ndns_timeout = \"200ms\"", server.Addr), ""),
			harness.ServiceBackend, strings.Replace(harness.ServiceBackend, "127.0.0.1", "back.example", 1), 1))
		b.MustExec("systemctl", "start", harness.FaultUnit)
		b.WaitQuiet()
		if r := b.Dial(harness.FaultListener).Do("GET", "/", "a"); r.Status != 200 {
			t.Fatalf("status %d with a name server", r.Status)
		}
	}) // its end is that of the name server
	if t.Failed() {
		return
	}
	load := harness.StartLoad(b.Box, boxLoad)
	for i := range 2 {
		old := b.WaitQuiet()
		mustReload(t, b)
		if b.WaitQuiet() == old {
			t.Errorf("reload %d: not replaced", i+1)
		}
		if r := b.Dial(harness.FaultListener).Do("GET", "/", "a"); r.Status != 200 {
			t.Errorf("reload %d: status %d without a name server", i+1, r.Status)
		}
	}
	load.Stop().MustBeClean(t)
}
