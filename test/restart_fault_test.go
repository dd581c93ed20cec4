package test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// A child that is killed at any point before it has committed costs nothing: the
// restart fails, no client notices, and the next restart works.
func TestHotRestartChildKilledBeforeCommit(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d, arm := faulty(t, s)
	c := startClients(t, s.addr, 4, 2)
	points := []string{"child.start", "child.hello", "child.sockets", "child.state", "child.built"}
	for i, point := range points {
		arm(point, "kill")
		g, code := d.TryHotRestart()
		if d.WaitLine("fault: " + point); code != 1 {
			t.Errorf("%s: exit code %d\n%s", point, code, g.Output)
		}
		want(t, g.Output, "belayd: ")
		if st := statusOf(t, d); st.Epoch != 1 || st.Phase != "serving" || st.Restarts.Failed != i+1 || len(st.Generations) != 1 {
			t.Errorf("%s: %+v", point, st)
		}
	}
	for _, action := range []string{"panic", "exit"} {
		arm("child.state", action)
		if g, code := d.TryHotRestart(); code != 1 {
			t.Errorf("%s: exit code %d\n%s", action, code, g.Output)
		}
	}
	arm("child.none", "kill")
	if g := d.HotRestart(); g.Epoch != len(points)+4 {
		t.Errorf("the next restart made epoch %d", g.Epoch) // no epoch is used twice
	}
	if n := c.end(); n == 0 {
		t.Error("nobody was served")
	}
}

// A child that is killed when it has committed takes only its own connections
// with it: those of the old process live, and nobody is refused.
func TestHotRestartChildKilledAfterCommit(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d, arm := faulty(t, s)
	for i, point := range []string{"child.commit", "child.committed", "child.probed", "child.release"} {
		c := harness.Dial(t, s.addr)
		c.ExpectOpen("/before", "a")
		refused := connectAll(t, s.addr)
		arm(point, "kill")
		g, code := d.TryHotRestart()
		if d.WaitLine("fault: " + point); code != 1 {
			t.Errorf("%s: exit code %d\n%s", point, code, g.Output)
		}
		harness.Eventually(t, patience, "the old process to know", func() bool { return statusOf(t, d).Phase == "serving" })
		if st := statusOf(t, d); st.Epoch != 1 || st.Restarts.Failed+st.Restarts.RolledBack != i+1 {
			t.Errorf("%s: %+v", point, st)
		}
		c.ExpectOpen("/after", "a")
		if r := harness.Get(t, s.addr, "/new", "a"); r.Status != 200 {
			t.Errorf("%s: a new connection: status %d", point, r.Status)
		}
		if n := refused(); n != "" {
			t.Errorf("%s: %s", point, n)
		}
	}
	want(t, d.Stderr(), "hot restart rolled back; this process serves on")
	arm("child.none", "kill")
	d.HotRestart()
}

// connectAll connects again and again until the returned function is called; it
// says what refused.
func connectAll(t *testing.T, addr string) (end func() string) {
	t.Helper()
	stop, result := make(chan struct{}), make(chan string, 1)
	go func() {
		for {
			select {
			case <-stop:
				result <- ""
				return
			default:
			}
			c, err := net.DialTimeout("tcp", addr, patience)
			if err != nil {
				result <- err.Error()
				return
			}
			_ = c.Close()
			time.Sleep(time.Millisecond) // a pace
		}
	}()
	return func() string { close(stop); return <-result }
}

// A hook that is killed before it has handed over takes the restart back; one
// that is killed afterwards leaves two processes that serve.
func TestHotRestartHookKilled(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d, arm := faulty(t, s)
	c := startClients(t, s.addr, 4, 2)
	for i, point := range []string{"hook.begun", "hook.spawned"} {
		arm(point, "kill")
		if _, code := d.TryHotRestart(); code == 0 {
			t.Errorf("%s: exit code 0", point)
		}
		harness.Eventually(t, patience, "the restart to be over", func() bool {
			st := statusOf(t, d)
			return st.Phase == "serving" && st.Restarts.Failed+st.Restarts.RolledBack == i+1 && len(st.Generations) == 1
		})
		// The child ends with its hook, and may be seen first.
		if r := statusOf(t, d).LastRestart; !strings.Contains(r.Reason, "hook of the reload has ended") && !(point == "hook.spawned" && strings.Contains(r.Reason, "has died")) {
			t.Errorf("%s: %+v", point, r)
		}
	}
	arm("hook.none", "kill")
	d.HotRestart()
	c.end()
}

// A parent whose protocol is one version older or newer, and a child's: sockets
// pass, nobody is refused or cut, and the output says that counts begin anew.
func TestHotRestartProtocolVersions(t *testing.T) {
	t.Parallel()
	const none = "no protocol version in common"
	for _, tt := range []struct {
		name, parent, child string
		note                bool
	}{
		{"parent older", "BELAY_PROTOCOL=0 0", "BELAY_PROTOCOL=", true},
		{"parent newer", "BELAY_PROTOCOL=2 2", "BELAY_PROTOCOL=", true},
		{"child older", "", "BELAY_PROTOCOL=0 0", true},
		{"child newer", "", "BELAY_PROTOCOL=2 3", true},
		{"parent newer and compatible", "BELAY_PROTOCOL=1 2", "BELAY_PROTOCOL=", false},
		{"child newer and compatible", "", "BELAY_PROTOCOL=1 2", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := restartable(t)
			var env []string
			if tt.parent != "" {
				env = append(env, tt.parent)
			}
			d, _ := faulty(t, s, env...)
			c := startClients(t, s.addr, 2, 1)
			harness.Eventually(t, patience, "clients", func() bool { return c.good.Load() > 20 })
			g, code := d.TryHotRestart(tt.child)
			if code != 0 || g.Epoch != 2 {
				t.Fatalf("exit code %d\n%s", code, g.Output)
			}
			if strings.Contains(g.Output, none) != tt.note {
				t.Errorf("output, which should have a note: %v\n%s", tt.note, g.Output)
			}
			before := c.good.Load()
			harness.Eventually(t, patience, "clients of the new process", func() bool { return c.good.Load() > before+20 })
			good := c.end()
			if d.Wait(patience) != 0 { // its last connection has ended, and nobody need take its counts
				t.Error("the old process failed")
			}
			switch n, _ := d.Metric("belay_listener_requests_total"); {
			case tt.note && (int64(n) >= good || n == 0):
				t.Errorf("%v requests counted of %d, though counts do not pass", n, good)
			case !tt.note && int64(n) != good:
				t.Errorf("%v requests counted of %d", n, good)
			}
		})
	}
}

// A restart during another is refused and says which; the first one succeeds.
func TestHotRestartDuringAnother(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	s.more = strings.Replace(patient, `call_time = "2s"`, `call_time = "5s"`, 1)
	d, arm := faulty(t, s)
	binary := harness.FaultBinary(t)
	arm("child.state", "sleep=1s")
	first := make(chan harness.Generation, 1)
	go func() {
		g, _ := d.TryHotRestart()
		first <- g
	}()
	harness.Eventually(t, patience, "the first restart", func() bool { return statusOf(t, d).Phase == "prepare" })
	out, code := hook(t, binary, "hot-restart", "--config", d.Config, "--directory", d.Dir)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	want(t, out, "refused by process", "a restart to epoch 2 is under way since", "(prepare)")
	if g := <-first; g.Epoch != 2 {
		t.Errorf("the first one: %s", g.Output)
	}
	if st := statusOf(t, d); st.Epoch != 2 {
		t.Errorf("%+v", st)
	}
}

// A stop during a restart wins: the restart is taken back, and both end.
func TestStopDuringHotRestart(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	s.more = strings.Replace(patient, `probation = "200ms"`, `probation = "60s"`, 1)
	d, _ := faulty(t, s)
	done := make(chan string, 1)
	go func() {
		g, code := d.TryHotRestart()
		done <- fmt.Sprint(code, " ", g.Output)
	}()
	var child int
	harness.Eventually(t, patience, "probation", func() bool {
		st := statusOf(t, d)
		for _, g := range st.Generations {
			if !g.Main {
				child = g.PID
			}
		}
		return st.Phase == "probation"
	})
	d.Stop()
	if out := <-done; !strings.HasPrefix(out, "1 ") {
		t.Errorf("the hook: exit code %s", out)
	}
	ended(t, child)
	if files, _ := os.ReadDir(d.Dir); len(files) > 0 {
		for _, f := range files {
			if strings.HasSuffix(f.Name(), ".sock") {
				t.Errorf("%s is left", f.Name())
			}
		}
	}
}
