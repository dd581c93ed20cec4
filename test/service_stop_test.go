package test

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"belay/test/harness"
)

// boxSite is the configuration of most services in a box: paths below /held go to
// the gate, all others to the backend of the load.
func boxSite(server, more string) string {
	return fmt.Sprintf(`[server]
workers = 2
%s
[hot_restart]
probation = "200ms"
call_time = "10s"
drain_time = "1s"
drain_strategy = "immediate"
[cluster.back]
endpoints = [{ id = "a", address = %q }]
[cluster.held]
endpoints = [{ id = "a", address = %q }]
[listener.web]
address = %q
[[listener.web.route]]
path_prefix = "/held"
cluster = "held"
[[listener.web.route]]
cluster = "back"
%s
`, server, harness.ServiceBackend, harness.ServiceGate, harness.FaultListener, more)
}

// boxPort is the port of harness.FaultListener.
const boxPort = 8080

// startService starts a service in a box of its own.
func startService(t *testing.T, o harness.ServiceOptions) *harness.ServiceBox {
	t.Helper()
	b := harness.BootServiceBox(t, o)
	b.MustExec("systemctl", "start", harness.FaultUnit)
	return b
}

// hold is a connection whose request waits at the gate.
func hold(t *testing.T, b *harness.ServiceBox) *harness.Conn {
	t.Helper()
	c := b.Dial(harness.FaultListener)
	c.Send(harness.Request("GET", "/held", "a"))
	harness.Eventually(t, patience, "a request at the gate", func() bool { return b.Gate.Waiting() == 1 })
	return c
}

// letGo waits until a process has none of the port's sockets any more, while the
// service manager has.
func letGo(t *testing.T, b *harness.ServiceBox, pid int) {
	t.Helper()
	harness.Eventually(t, patience, "the process to let go of its sockets", func() bool {
		_, holders := b.Listening(boxPort)
		return slices.Contains(holders, 1) && !slices.Contains(holders, pid)
	})
}

// queue makes connections with a request each, which wait in the queue.
func queue(t *testing.T, b *harness.ServiceBox, n int) (list []*harness.Conn) {
	t.Helper()
	for range n {
		c := b.Dial(harness.FaultListener)
		c.Send(harness.Request("GET", "/queued", "a", "Connection: close"))
		list = append(list, c)
	}
	harness.Eventually(t, patience, "the connections in the queue", func() bool {
		queued, _ := b.Listening(boxPort)
		return queued >= n
	})
	return list
}

// portRefuses reports whether connections to an address of the box are refused.
func portRefuses(t *testing.T, b *harness.ServiceBox, addr string) bool {
	t.Helper()
	c, err := b.TryDial(addr)
	if err == nil {
		_ = c.Close()
		return false
	}
	if errors.Is(err, syscall.ECONNRESET) { // it was in the queue of the socket that was just being closed
		return false
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("%s: %v", addr, err)
	}
	return true
}

// systemctl restart: the connections that come while nobody accepts wait, and the
// next process answers them; nobody is refused.
func TestServiceRestartKeepsTheQueue(t *testing.T) {
	for name, trixie := range map[string]bool{"systemd 252": false, "systemd 257": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startService(t, harness.ServiceOptions{Trixie: trixie, Config: boxSite("", "")})
			old := b.WaitQuiet()
			load := harness.StartLoad(b.Box, harness.LoadOptions{Targets: map[string]string{"web": harness.FaultListener}, Fresh: 4, Rate: 80})
			held := hold(t, b)
			restart := b.Start("systemctl", "restart", harness.FaultUnit)
			letGo(t, b, old)
			waiting := queue(t, b, 20)
			if now := b.MainPID(harness.FaultUnit); now != old {
				t.Errorf("main process %d, which should still answer what is in flight, is %d", old, now)
			}
			b.Gate.Open()
			if r := held.ExpectStatus(200); r.Body != "held" || !r.Close {
				t.Errorf("what was in flight: body %q, announces the end: %v", r.Body, r.Close)
			}
			for _, c := range waiting {
				c.ExpectStatus(200)
			}
			if code := restart.Wait(reloadWait); code != 0 {
				t.Errorf("systemctl restart: exit code %d: %s", code, restart.Stderr())
			}
			if now := b.WaitQuiet(); now == old {
				t.Error("not restarted")
			}
			if n := b.Requests(); n < int64(len(waiting)) {
				t.Errorf("the next process counts %d requests, of which %d were in the queue", n, len(waiting))
			}
			res := load.Stop()
			if total := res.Total(""); total.Outcomes["refused"]+total.Outcomes["timeout"] > 0 || total.Outcomes["ok"] == 0 {
				t.Errorf("clients:\n%s", res)
			}
			t.Logf("clients: %v", res.Total("").Outcomes)
		})
	}
}

// systemctl stop: what is in flight is answered, then those in the queue are reset
// and the port refuses.
func TestServiceStopResetsTheQueue(t *testing.T) {
	for name, trixie := range map[string]bool{"systemd 252": false, "systemd 257": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startService(t, harness.ServiceOptions{Trixie: trixie, Config: boxSite("", "")})
			old := b.WaitQuiet()
			held := hold(t, b)
			stop := b.Start("systemctl", "stop", harness.FaultUnit)
			letGo(t, b, old)
			waiting := queue(t, b, 5)
			b.Gate.Open()
			held.ExpectStatus(200)
			for _, c := range waiting {
				if data, reset := c.Rest(); data != "" || !reset {
					t.Errorf("a connection in the queue ended with %q, reset: %v", data, reset)
				}
			}
			isStopped(t, b, stop)
		})
	}
}

// isStopped waits for systemctl stop and looks what it left.
func isStopped(t *testing.T, b *harness.ServiceBox, stop *harness.BoxProcess) {
	t.Helper()
	if code := stop.Wait(reloadWait); code != 0 {
		t.Errorf("systemctl stop: exit code %d: %s", code, stop.Stderr())
	}
	state, result := b.Property(harness.FaultUnit, "ActiveState"), b.Property(harness.FaultUnit, "Result")
	if state != "inactive" || result != "success" {
		t.Errorf("the unit is %s, result %s", state, result)
	}
	if left := b.Daemons(); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if !portRefuses(t, b, harness.FaultListener) {
		t.Error("the port takes connections")
	}
	if _, holders := b.Listening(boxPort); len(holders) > 0 {
		t.Errorf("processes %v have a listening socket", holders)
	}
}

// refuse_on_stop: the port refuses as soon as the process stops, which still
// answers what is in flight.
func TestServiceRefuseOnStop(t *testing.T) {
	t.Parallel()
	b := startService(t, harness.ServiceOptions{Config: boxSite("refuse_on_stop = true", "")})
	b.WaitQuiet()
	held := hold(t, b)
	stop := b.Start("systemctl", "stop", harness.FaultUnit)
	harness.Eventually(t, patience, "the port to refuse", func() bool { return portRefuses(t, b, harness.FaultListener) })
	if state := b.Property(harness.FaultUnit, "ActiveState"); state != "deactivating" || b.Gate.Waiting() != 1 {
		t.Errorf("when the port refuses, the unit is %s, and %d requests are in flight", state, b.Gate.Waiting())
	}
	b.Gate.Open()
	if r := held.ExpectStatus(200); r.Body != "held" {
		t.Errorf("what was in flight: %q", r.Body)
	}
	isStopped(t, b, stop)
}
