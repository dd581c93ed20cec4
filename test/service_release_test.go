package test

import (
	"strings"
	"testing"

	"belay/test/harness"
)

// systemctl stop while line 2 of ExecReload= runs: the service has not failed.
func TestServiceStoppedDuringRelease(t *testing.T) {
	t.Parallel()
	b := startService(t, harness.ServiceOptions{Fault: true, Config: boxSite("", "")})
	for _, where := range []string{"child.release", "parent.release"} {
		b.WaitQuiet()
		held := hold(t, b)
		b.Fault(where, "sleep=500ms")
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
		b.Systemctl("reset-failed", harness.FaultUnit)
		b.MustExec("systemctl", "start", harness.FaultUnit)
	}
}

// systemctl stop just as a reload begins, when its hook may not yet be belayd and
// dies of SIGTERM: the service has not failed either.
func TestServiceStoppedAsReloadBegins(t *testing.T) {
	t.Parallel()
	b := startService(t, harness.ServiceOptions{Config: boxSite("", "")})
	for range 6 {
		b.WaitQuiet()
		reload := b.Start("systemctl", "reload", harness.FaultUnit)
		harness.Eventually(t, patience, "the hook", func() bool { return b.Property(harness.FaultUnit, "ControlPID") != "0" })
		isStopped(t, b, b.Start("systemctl", "stop", harness.FaultUnit))
		_ = reload.Wait(reloadWait) // its job is cancelled
		b.Systemctl("reset-failed", harness.FaultUnit)
		b.MustExec("systemctl", "start", harness.FaultUnit)
	}
}
