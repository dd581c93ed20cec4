package test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"belay/test/harness"
)

// waitStatus waits until the status line of the service is as told.
func waitStatus(t *testing.T, b *harness.ServiceBox, pattern string) {
	t.Helper()
	re, text := regexp.MustCompile("^"+pattern+"$"), ""
	defer func() {
		if t.Failed() {
			t.Logf("the status line is %q", text)
		}
	}()
	harness.Eventually(t, patience, "status line "+pattern, func() bool {
		text = b.Property(harness.FaultUnit, "StatusText")
		return re.MatchString(text)
	})
}

// The status line has the epoch and the connections, and what drains since when.
func TestServiceStatusLine(t *testing.T) {
	t.Parallel()
	b := startService(t, harness.ServiceOptions{Config: boxSite("", "")})
	b.WaitQuiet()
	waitStatus(t, b, "epoch 1, 0 connections")
	held := hold(t, b)
	waitStatus(t, b, "epoch 1, 1 connections")
	mustReload(t, b)
	waitStatus(t, b, `epoch 2, 0 connections; epoch 1 drains 1 connections since [0-2]\d:[0-5]\d:[0-5]\d`)
	b.Gate.Open()
	held.ExpectStatus(200)
	b.WaitQuiet()
	waitStatus(t, b, "epoch 2, 0 connections")
}

// fields are the journal's fields of the only entry of an event.
func fields(t *testing.T, b *harness.ServiceBox, id string) map[string]string {
	t.Helper()
	found := lines(b.Journal("-o", "json", "MESSAGE_ID="+id))
	if len(found) != 1 {
		t.Fatalf("%d entries of event %s\n%s", len(found), id, strings.Join(found, "\n"))
	}
	var f map[string]string
	if err := json.Unmarshal([]byte(found[0]), &f); err != nil {
		t.Fatalf("journal: %v in %s", err, found[0])
	}
	return f
}

// Events are entries of the unit with their fields, and journalctl -x explains
// them with the catalog of the package.
func TestServiceEventsInTheJournal(t *testing.T) {
	for name, trixie := range map[string]bool{"systemd 252": false, "systemd 257": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startService(t, harness.ServiceOptions{Trixie: trixie, Fault: true, Config: boxSite("", "")})
			b.MustExec("journalctl", "--update-catalog") // what dpkg's trigger does
			b.WaitQuiet()
			mustReload(t, b)
			b.WaitQuiet()
			b.Fault("child.committed", "kill")
			if r := b.Reload(); r.Code == 0 {
				t.Error("a reload whose process was killed is said to have worked")
			}
			main := b.WaitQuiet()
			var reason string
			for _, x := range []struct{ id, epoch, field, value string }{
				{eventReloadDone, "2", "BELAY_PARENT_PID", ""},
				{eventDraining, "1", "BELAY_SUCCESSOR", "2"},
				{eventGenerationEnded, "2", "BELAY_GENERATION", "1"},
				{eventRolledBack, "2", "BELAY_REASON", ""},
			} {
				f := fields(t, b, x.id)
				if f["BELAY_EPOCH"] != x.epoch || f["_SYSTEMD_UNIT"] != harness.FaultUnit || f["SYSLOG_IDENTIFIER"] != "belayd" {
					t.Errorf("event %s: %v", x.id, f)
				}
				if reason = f[x.field]; reason == "" || x.value != "" && reason != x.value {
					t.Errorf("event %s: %s is %q, want %q", x.id, x.field, reason, x.value)
				}
			}
			text := strings.Join(strings.Fields(b.MustExec("journalctl", "--no-pager", "-u", harness.FaultUnit, "-x", "MESSAGE_ID="+eventRolledBack)), " ")
			want(t, text, "Subject: Hot restart was rolled back", "Defined-By: belay", "man:belay-hotrestart(7)",
				"for this reason: ", " "+strings.Join(strings.Fields(reason), " "), "Remove the cause and reload again.")
			wantNot(t, text, "@BELAY_")
			mustReload(t, b)
			if now := b.WaitQuiet(); now == main {
				t.Error("not replaced")
			}
		})
	}
}
