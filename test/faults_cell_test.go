package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// The fault matrix: at each point of a hot restart one of its processes is
// killed, stopped or ended, under load, with belay under a real systemd. A cell is
// one fault. The tests of the files faults_*_test.go run the cells one after the
// other in a few boxes.

// ending is what a reload with a fault in it comes to.
type ending uint8

const (
	kept       ending = iota // fails before commit: nobody notices
	rolledBack               // fails after commit: the old process serves on
	replaced                 // works: the new process serves
	restarted                // the manager starts the service anew
	handed                   // fails after the hook has let go: the next reload settles it
)

// cell is one fault.
type cell struct {
	point, action string
	end           ending
	reason        string // in the event, or what the reload says
	// cut: requests may be reset, since a process that had accepted them died.
	cut bool
	// forgets: what that process counted since its last heartbeat may be lost.
	forgets bool
	// either: who is first decides between restarted and replaced.
	either  bool
	within  time.Duration // the reload takes at most this; 0: any time
	unbegun bool          // no restart begins, so there is no event
	before  func(*testing.T, *harness.FaultBox)
	during  func(*testing.T, *harness.FaultBox) // when the process is at the point
	after   func(*testing.T, *harness.FaultBox) // before the plain reload
}

func (c cell) String() string {
	if c.point == "" {
		return c.reason
	}
	return c.point + " " + c.action
}

// runCells runs cells in a box.
func runCells(t *testing.T, b *harness.FaultBox, cells []cell) {
	for _, c := range cells {
		began := time.Now()
		if !t.Run(c.String(), func(t *testing.T) { c.run(t, b.For(t)) }) {
			b.Reset()
		}
		t.Logf("%v: %v", c, time.Since(began).Round(time.Millisecond))
	}
}

// faultLoad is light: what is measured is that nothing goes wrong.
var faultLoad = harness.LoadOptions{
	Targets: map[string]string{"web": harness.FaultListener}, KeepAlive: 3, Fresh: 3, Rate: 150, Timeout: 20 * time.Second,
}

// reloadWait is more than any reload takes.
const reloadWait = 30 * time.Second

func (c cell) run(t *testing.T, b *harness.FaultBox) {
	old := b.WaitQuiet()
	restarts, counted := b.Restarts(), b.Requests()
	cursor := b.Cursor()
	witness := b.Dial(harness.FaultListener) // a connection of the old process
	ask := func(when string) {
		if r := witness.Do("GET", "/witness", "a"); r.Status != 200 {
			t.Errorf("status %d on a connection of the old process, %s", r.Status, when)
		}
	}
	ask("before")
	load := harness.StartLoad(b.Box, faultLoad)
	if c.before != nil {
		c.before(t, b)
	}
	if c.point != "" {
		b.Fault(c.point, c.action)
	}
	out := c.reload(t, b)
	if c.either && out.Code == 0 {
		c.end, c.forgets = replaced, true
	}
	c.judge(t, b, out, old)
	asked := int64(1)
	if c.end == kept || c.end == rolledBack || c.end == handed {
		ask("after")
		asked++
	}
	if c.after != nil {
		c.after(t, b)
	}
	b.NoFault()
	now := c.settle(t, b, old, restarts)
	if r := b.Dial(harness.FaultListener).Do("GET", "/new", "a"); r.Status != 200 {
		t.Errorf("status %d on a new connection", r.Status)
	}
	asked++
	plain(t, b, now)
	result := load.Stop()
	c.judgeLoad(t, result)
	c.judgeJournal(t, b.Events(cursor), out)
	if c.end != restarted {
		c.judgeCounts(t, b, counted, asked, result)
	}
	if t.Failed() {
		t.Logf("reload: %+v\n%s\n%s", out, result, transcript(b.Events(cursor)))
	}
}

// reload is systemctl reload, in which somebody comes to the point.
func (c cell) reload(t *testing.T, b *harness.FaultBox) harness.Output {
	began := time.Now()
	p := b.Start("systemctl", "reload", harness.FaultUnit)
	if c.point != "" {
		harness.Eventually(t, patience, "a process at "+c.point, b.FaultActed)
	}
	if c.during != nil {
		c.during(t, b)
	}
	code := p.Wait(reloadWait)
	return harness.Output{Code: code, Stderr: p.Stderr(), Took: time.Since(began)}
}

// judge compares how the reload ended.
func (c cell) judge(t *testing.T, b *harness.FaultBox, out harness.Output, old int) {
	if ok := c.end == replaced; (out.Code == 0) != ok {
		t.Errorf("systemctl reload: exit code %d after %v\n%s", out.Code, out.Took, out.Stderr)
	}
	if c.within > 0 && out.Took > c.within {
		t.Errorf("the reload took %v, more than %v", out.Took, c.within)
	}
}

// settle waits until one generation serves, and looks which; it returns its PID.
func (c cell) settle(t *testing.T, b *harness.FaultBox, old, restarts int) int {
	if c.end == handed { // two generations serve, until the next reload
		return 0
	}
	if c.end == restarted {
		harness.Eventually(t, patience, "a restart by the manager", func() bool { return b.Restarts() > restarts })
	}
	now := b.WaitQuiet()
	switch same := now == old; {
	case same && (c.end == replaced || c.end == restarted):
		t.Errorf("process %d is still main", now)
	case !same && (c.end == kept || c.end == rolledBack):
		t.Errorf("process %d is main, not %d", now, old)
	}
	if n := b.Restarts() - restarts; n != 0 && c.end != restarted {
		t.Errorf("the service was restarted %d times", n)
	}
	return now
}

// plain is a reload without a fault.
func plain(t *testing.T, b *harness.FaultBox, old int) {
	t.Helper()
	if out := b.Reload(); out.Code != 0 {
		t.Errorf("plain reload after it: exit code %d\n%s", out.Code, out.Stderr)
	}
	if now := b.WaitQuiet(); now == old {
		t.Errorf("the plain reload has left process %d", old)
	}
}

// judgeLoad: nobody is ever refused; nobody else is cut but clients of what died.
func (c cell) judgeLoad(t *testing.T, r *harness.LoadResult) {
	t.Helper()
	may := map[string]bool{"ok": true, "reset": c.cut, "eof_before_reply": c.cut, "eof_in_reply": c.cut}
	for outcome, n := range r.Total("").Outcomes {
		if n > 0 && !may[outcome] {
			t.Errorf("%d requests ended with %s", n, outcome)
		}
	}
	if r.Total("").Outcomes["ok"] == 0 {
		t.Error("no request was answered")
	}
}

// The message ids as the journal has them.
const (
	eventReloadDone      = "4d2895f585d94450b0e221f984db0cc1"
	eventReloadFailed    = "fb0a28660ae945b4a633fde809bf49ec"
	eventRolledBack      = "0bc5400fc9c84656b1e7b8c92a5cfedb"
	eventDraining        = "30ca0b79410f4e8f94e19d3dacb8bb06"
	eventGenerationEnded = "1e573e59ccef4d6e864484faea4df43f"
)

// judgeJournal: the event is there, once, and says why.
func (c cell) judgeJournal(t *testing.T, events []harness.Event, out harness.Output) {
	t.Helper()
	id, other := "", ""
	switch c.end {
	case kept:
		id, other = eventReloadFailed, eventRolledBack
	case rolledBack:
		id, other = eventRolledBack, eventReloadFailed
	}
	if id == "" && c.reason == "" {
		return
	}
	found, said := false, false
	for _, e := range events {
		found = found || e.ID == id && id != ""
		for _, reason := range strings.Split(c.reason, "|") { // who notices first says it
			said = said || strings.Contains(e.Message, reason) || strings.Contains(e.Reason, reason)
		}
		if other != "" && e.ID == other {
			t.Errorf("event: %s %s", e.Message, e.Reason)
		}
	}
	if !found && id != "" && !c.unbegun {
		t.Errorf("no event %s", id)
	}
	if !said {
		t.Errorf("nobody says %q", c.reason)
	}
}

// judgeCounts: what all generations counted is what the clients counted.
func (c cell) judgeCounts(t *testing.T, b *harness.FaultBox, before, asked int64, r *harness.LoadResult) {
	t.Helper()
	want := r.Requests() + asked
	var got int64
	deadline := time.Now().Add(patience)
	for got = b.Requests() - before; got < want && time.Now().Before(deadline) && !c.forgets; got = b.Requests() - before {
		time.Sleep(50 * time.Millisecond) // the last counts come with a heartbeat
	}
	if got > want || got < want && !c.forgets {
		t.Errorf("belay counted %d requests, the clients %d", got, want)
	}
}

// transcript is the journal of a cell.
func transcript(events []harness.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "  %s", e.Message)
		if e.Reason != "" {
			fmt.Fprintf(&b, " [%s]", e.Reason)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// One fault of each phase on the systemd of Debian 13; the others are on that of
// Debian 12, the host's.
func TestFaultsOnTrixie(t *testing.T) {
	t.Parallel()
	b := harness.BootFaultBox(t, true)
	runCells(t, b, []cell{
		{point: "child.state", action: "stop", end: kept, reason: hangs, within: quick},
		{point: "parent.paused", action: "kill", end: restarted, cut: true},
		{point: "child.committed", action: "kill", end: rolledBack, reason: died, cut: true, forgets: true},
		{point: "hook.notified", action: "kill", end: handed},
		{point: "child.release", action: "kill", end: restarted, cut: true},
	})
	t.Run("stop at child.committed", func(t *testing.T) { stopInReload(t, b.For(t), "child.committed") })
}
