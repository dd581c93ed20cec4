package test

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"belay/test/harness"
)

// parentDies are the faults that end the old process. Until the manager knows of
// the new one that is the end of the service, which starts anew; from then on it
// is only that of the old connections.
func parentDies() (list []cell) {
	for _, point := range []string{"begin", "hello", "sockets", "state", "pause", "paused", "proven", "handed"} {
		// From HandOver on the manager may hear of the new process before it looks at
		// the end of the old one.
		list = append(list, cell{point: "parent." + point, action: "kill", end: restarted, either: point == "handed", cut: true})
	}
	for _, point := range []string{"release", "released"} {
		list = append(list, cell{point: "parent." + point, action: "kill", end: replaced, cut: true, forgets: true})
	}
	return list
}

// parentHangs: until the child has proved itself the reload fails, and the
// watchdog ends the process; later the child goes on and ends it at shutdown_time.
func parentHangs() (list []cell) {
	for _, point := range []string{"begin", "hello", "sockets", "state", "pause", "paused"} {
		list = append(list, cell{point: "parent." + point, action: "stop", end: restarted, cut: true, reason: noAnswer, within: quick})
	}
	for _, point := range []string{"proven", "handed", "release", "released"} {
		list = append(list, cell{
			point: "parent." + point, action: "stop", end: replaced, cut: true, forgets: true, within: 2 * quick,
			reason: "old process killed",
		})
	}
	// One that hangs keeps no other from being replaced.
	again := list[len(list)-1]
	again.before, again.after = nil, reloadBeside
	return append(list, again)
}

// parentWakes: a process that hung when its child took over works again before it
// is ended. It takes nothing back, and nobody is cut.
func parentWakes() (list []cell) {
	for _, point := range []string{"proven", "handed", "release"} {
		list = append(list, cell{point: "parent." + point, action: "sleep=3s", end: replaced, reason: "draining: a new process is main"})
	}
	wake := func(t *testing.T, b *harness.FaultBox) {
		cursor, old := b.Cursor(), b.Main()
		harness.Eventually(t, patience, "the child takes over", func() bool { return strings.Contains(transcript(b.Events(cursor)), "takes over") })
		b.Signal(old, syscall.SIGCONT)
	}
	return append(list, cell{point: "parent.proven", action: "stop", during: wake, end: replaced, reason: "draining: a new process is main"})
}

// reloadBeside reloads while a process hangs.
func reloadBeside(t *testing.T, b *harness.FaultBox) {
	cursor := b.Cursor()
	if out := b.Reload(); out.Code != 0 {
		t.Errorf("reload beside a process that hangs: exit code %d\n%s", out.Code, out.Stderr)
	}
	if n := len(b.Daemons()); n < 2 {
		t.Fatal("the process that hangs has ended too early for this test")
	}
	if text := transcript(b.Events(cursor)); strings.Contains(text, "the old process does not answer") {
		t.Errorf("the one that does not hang was taken for one that does\n%s", text)
	}
}

func TestFaultsOfTheParent(t *testing.T) {
	t.Parallel()
	b := harness.BootFaultBox(t, false)
	runCells(t, b, slices.Concat(parentDies(), parentHangs(), parentWakes()))
}
