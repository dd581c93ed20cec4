package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// A generation that drains closes the silent keep-alive connections at drain_time
// and cuts the tunnels at shutdown_time; both are counted where an operator looks,
// in the new process, and the cut is in the log.
func TestHotRestartDrainAndShutdownTime(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	s.more += "drain_time = \"700ms\"\nshutdown_time = \"2500ms\"\n"
	d := ordinary(t, s)
	var silent []*harness.Conn
	for range 3 {
		c := harness.Dial(t, s.addr)
		c.ExpectOpen("/", "a")
		silent = append(silent, c)
	}
	tunnels := []*harness.Conn{upgrade(t, s.addr), upgrade(t, s.addr)}
	d.HotRestart()
	since := time.Now()
	for _, c := range silent {
		c.ExpectNothing(100 * time.Millisecond)
	}
	if st := statusOf(t, d); len(st.Generations) != 2 || st.Phase != "draining" || st.Generations[0].State != "draining" || st.Generations[0].TimeLeft <= 0 || st.Generations[0].TimeLeft > 2.5 {
		t.Errorf("while it drains: %+v", st)
	}
	for _, c := range silent {
		if data, reset := c.Rest(); data != "" || reset {
			t.Errorf("a silent connection ended with %q, reset: %v", data, reset)
		}
	}
	if at := time.Since(since); at < 600*time.Millisecond {
		t.Errorf("silent connections ended %v after the restart, drain_time is 700ms", at)
	}
	for _, c := range tunnels {
		if c.Send("still there"); c.ReadN(11) != "still there" {
			t.Error("a tunnel does not work")
		}
	}
	for _, c := range tunnels {
		if data, _ := c.Rest(); data != "" {
			t.Errorf("a tunnel ended with %q", data)
		}
	}
	if at := time.Since(since); at < 2400*time.Millisecond {
		t.Errorf("tunnels ended %v after the restart, shutdown_time is 2.5s", at)
	}
	if code := d.Wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	want(t, d.WaitLine("time is over: connections cut"), "connections=2")
	want(t, d.WaitLine("msg=drained"), "connections_cut=2")
	harness.Eventually(t, patience, "the new process to be alone", func() bool { return len(statusOf(t, d).Generations) == 1 })
	for name, n := range map[string]float64{"belay_drain_idle_closed_total": 3, "belay_drain_cut_connections_total": 2} {
		if got, _ := d.Metric(name); got != n {
			t.Errorf("%s is %v, want %v", name, got, n)
		}
	}
}

// max_generations = 2: the third generation ends the first, and the output of the
// restart, the status and the log say how many connections that cut.
func TestHotRestartMaxGenerations(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	s.more += "max_generations = 2\n"
	d := ordinary(t, s)
	held := []*harness.Conn{upgrade(t, s.addr), upgrade(t, s.addr), upgrade(t, s.addr)}
	d.HotRestart()
	middle := upgrade(t, s.addr)
	g := d.HotRestart()
	want(t, g.Output, fmt.Sprintf("epoch 1 (process %d) ended early, 3 connections cut: max_generations is 2", d.PID()))
	for _, c := range held {
		c.ExpectClose()
	}
	if code := d.Wait(patience); code != 0 { // it was asked, not killed
		t.Errorf("the oldest: exit code %d", code)
	}
	want(t, d.Hooks(), "oldest generation ended for a new one", "connections=3")
	if middle.Send("still there"); middle.ReadN(11) != "still there" {
		t.Error("the second generation does not serve")
	}
	if out, err := belayctl(t, d, "restart-status"); err != nil || !strings.Contains(out, "3 connections cut") {
		t.Errorf("restart-status: %v\n%s", err, out)
	}
	if n, _ := d.Metric("belay_drain_cut_connections_total"); n != 3 {
		t.Errorf("%v cut connections counted", n)
	}
}

// SIGTERM of the main process ends the generations that drain as well, within
// stop_time.
func TestStopEndsDrainingGenerations(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	s.more += "[server]\nworkers = 2\nstop_time = \"1s\"\n"
	d := ordinary(t, s)
	first := upgrade(t, s.addr)
	second := d.HotRestart()
	between := upgrade(t, s.addr)
	third := d.HotRestart()
	began := time.Now()
	if err := syscall.Kill(third.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	first.ExpectClose()
	between.ExpectClose()
	ended(t, d.PID())
	ended(t, second.PID)
	ended(t, third.PID)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("all ended after %v, stop_time is 1s", took)
	}
	if left, _ := filepath.Glob(d.Dir + "/*.sock"); len(left) != 0 {
		t.Errorf("sockets are left: %v", left)
	}
}

// SIGUSR1 has every generation reopen the access log, the old and the new: the
// main process passes it on.
func TestReopenInTwoGenerations(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d := ordinary(t, s)
	tunnel := upgrade(t, s.addr) // keeps the old process
	g := d.HotRestart()
	harness.Get(t, s.addr, "/one", "a")
	d.WaitPath("/one")
	if err := os.Rename(d.AccessLog, d.AccessLog+".1"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(g.PID, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, patience, "both to reopen", func() bool { return d.CountLines("access log reopened") == 2 })
	harness.Get(t, s.addr, "/two", "a")
	_ = tunnel.Close()
	d.WaitPath("/two")
	d.WaitPath("/chat") // by the old one
	if st, err := os.Stat(d.AccessLog); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("new file %v, %v", st, err)
	}
}

// Two generations write the same access log, and every line is whole: one record
// for every request of either.
func TestAccessLogOfTwoGenerations(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d := ordinary(t, s)
	const each = 300
	long := "/" + strings.Repeat("x", 3000)
	var old []*harness.Conn
	for range 4 {
		c := harness.Dial(t, s.addr)
		c.ExpectOpen(long, "a")
		old = append(old, c)
	}
	d.HotRestart()
	sent := len(old)
	for range each { // of old connections and new ones in turn
		for i, c := range old {
			if c == nil {
				continue
			}
			if sent++; c.Do("GET", long, "a").Close { // it announced its end
				old[i] = nil
			}
		}
		sent++
		harness.Get(t, s.addr, long, "a")
	}
	for _, c := range old {
		if c != nil {
			_ = c.Close()
		}
	}
	harness.Eventually(t, patience, "every record", func() bool { return len(d.Records()) >= sent })
	for _, r := range d.Records() { // which fails on a line that is not JSON
		if r.Str("path") != long {
			t.Fatalf("record %v", r)
		}
	}
	if n := len(d.Records()); n != sent {
		t.Errorf("%d records of %d requests", n, sent)
	}
}
