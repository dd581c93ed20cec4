package test

import (
	"slices"
	"syscall"
	"testing"

	"belay/test/harness"
)

// signalHook signals the process that runs line 1 of ExecReload=.
func signalHook(s syscall.Signal) func(*testing.T, *harness.FaultBox) {
	return func(_ *testing.T, b *harness.FaultBox) { b.Signal(b.Hook(), s) }
}

// refuses is a unit whose manager hears nothing of the hook.
const refuses = "NotifyAccess=main\n"

// unheard is a hook that believes it is heard.
const unheard = refuses + "Environment=NOTIFY_SOCKET=/run/systemd/notify\n"

func dropIn(text string) func(*testing.T, *harness.FaultBox) {
	return func(_ *testing.T, b *harness.FaultBox) { b.DropIn(text) }
}

// hookCells are the faults of the hook, and of those around it.
var hookCells = []cell{
	{point: "hook.begun", action: "kill", end: kept, reason: hookEnded},
	{point: "hook.spawned", action: "kill", end: kept, reason: hookEnded},
	{point: "hook.handed", action: "kill", end: handed},
	{point: "hook.notified", action: "kill", end: handed},
	// The child does not go on for nobody.
	{point: "child.state", action: "sleep=60s", during: signalHook(syscall.SIGKILL), end: kept, reason: hookEnded, within: quick},
	{point: "child.state", action: "sleep=60s", during: signalHook(syscall.SIGTERM), end: kept, reason: "stopped", within: quick},
	// A child that lives gives its counts back.
	{point: "child.committed", action: "sleep=5s", during: signalHook(syscall.SIGKILL), end: rolledBack, reason: hookEnded},
	{point: "child.committed", action: "sleep=5s", during: signalHook(syscall.SIGTERM), end: rolledBack, reason: "stopped"},
	{
		point: "child.state", action: "sleep=60s", end: kept, reason: hookEnded,
		before: dropIn("TimeoutStartSec=3s\n"), after: dropIn(""),
	},
	{end: kept, unbegun: true, reason: "NOTIFY_SOCKET is not set", before: dropIn(refuses), after: dropIn("")},
	{end: rolledBack, reason: "is NotifyAccess=exec in the unit?", before: dropIn(unheard), after: dropIn("")},
	{
		point: "child.resume", action: "kill", end: rolledBack, reason: "is NotifyAccess=exec in the unit?", cut: true, forgets: true,
		before: dropIn(unheard), after: dropIn(""),
	},
	{
		point: "child.resume", action: "stop", end: rolledBack, reason: "is NotifyAccess=exec in the unit?", cut: true, forgets: true,
		before: dropIn(unheard), after: dropIn(""), within: quick,
	},
}

func TestFaultsOfTheHookAndTheChildAfterCommit(t *testing.T) {
	t.Parallel()
	b := harness.BootFaultBox(t, false)
	runCells(t, b, slices.Concat(hookCells, probationCells, releaseCells))
	for _, where := range []string{"child.state", "child.committed"} {
		t.Run("stop at "+where, func(t *testing.T) { stopInReload(t, b.For(t), where) })
		t.Run("restart at "+where, func(t *testing.T) { restartInReload(t, b.For(t), where) })
	}
}

// stopInReload: the service stops, and has not failed.
func stopInReload(t *testing.T, b *harness.FaultBox, where string) {
	b.WaitQuiet()
	b.Fault(where, "sleep=5s")
	reload := b.Start("systemctl", "reload", harness.FaultUnit)
	harness.Eventually(t, patience, "a process at "+where, b.FaultActed)
	b.MustExec("systemctl", "stop", harness.FaultUnit)
	if code := reload.Wait(reloadWait); code == 0 {
		t.Error("the reload is said to have worked")
	}
	state, result := b.Property(harness.FaultUnit, "ActiveState"), b.Property(harness.FaultUnit, "Result")
	if state != "inactive" || result != "success" {
		t.Errorf("the unit is %s, result %s", state, result)
	}
	if left := b.Daemons(); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	b.MustExec("systemctl", "start", harness.FaultUnit)
	plain(t, b, b.WaitQuiet())
}

// restartInReload: everybody waits, nobody is refused or cut.
func restartInReload(t *testing.T, b *harness.FaultBox, where string) {
	old := b.WaitQuiet()
	load := harness.StartLoad(b.Box, faultLoad)
	b.Fault(where, "sleep=5s")
	reload := b.Start("systemctl", "reload", harness.FaultUnit)
	harness.Eventually(t, patience, "a process at "+where, b.FaultActed)
	b.MustExec("systemctl", "restart", harness.FaultUnit)
	_ = reload.Wait(reloadWait) // its job is cancelled
	if now := b.WaitQuiet(); now == old {
		t.Error("not restarted")
	}
	plain(t, b, 0)
	result := load.Stop()
	cell{}.judgeLoad(t, result)
	if t.Failed() {
		t.Log(result)
	}
}
