package test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"belay/test/harness"
)

const boxLog = "/var/log/belay/access.log"

// rotate runs logrotate with the snippet of the package.
func rotate(t *testing.T, b *harness.ServiceBox) {
	t.Helper()
	b.MustExec("logrotate", "-f", "-s", "/tmp/logrotate.state", "/etc/logrotate.d/belay")
}

// logged are the lines of all files of the log, the compressed ones too.
func logged(t *testing.T, b *harness.ServiceBox) []string {
	t.Helper()
	return lines(b.MustExec("sh", "-c", "cat "+boxLog+" "+boxLog+".1; zcat -f "+boxLog+".[2-9]* 2>/dev/null; true"))
}

// logrotate while two generations write the log: each goes over to the new file,
// and there is one line for each request.
func TestServiceLogrotate(t *testing.T) {
	harness.Need(t, "logrotate")
	t.Parallel()
	config := strings.NewReplacer(`drain_time = "1s"`, `drain_time = "10h"`, `drain_strategy = "immediate"`, `shutdown_time = "10h"`).Replace(
		boxSite("", "[access_log]\noutput = \""+boxLog+"\"\nformat = \"%{path}\"\n"))
	b := startService(t, harness.ServiceOptions{Config: config})
	first := b.WaitQuiet()
	// The old process serves the keep-alive connections on, since its drain_time is long.
	load := harness.StartLoad(b.Box, harness.LoadOptions{
		Targets: map[string]string{"web": harness.FaultListener}, KeepAlive: 4, Fresh: 2, Upgrade: 1, Rate: 150,
	})
	mustReload(t, b)
	both := b.Daemons()
	if slices.Sort(both); len(both) != 2 || !slices.Contains(both, first) {
		t.Fatalf("generations %v, want %d and one more", both, first)
	}
	for range 2 {
		rotate(t, b)
		harness.Eventually(t, patience, "both processes to write the new file", func() bool {
			return slices.Equal(writers(t, b), both)
		})
		harness.Eventually(t, patience, "new lines of either in the new file", func() bool {
			return strings.Count(b.ReadFile(boxLog), "\n") > 30
		})
	}
	if out := b.MustExec("stat", "-c", "%U %G %a", boxLog); out != "belay belay 640" {
		t.Errorf("the new file: %s", out)
	}
	res := load.Stop()
	res.MustBeClean(t)
	harness.Eventually(t, patience, "a line for each request", func() bool { return len(logged(t, b)) >= int(res.Requests()) })
	all := logged(t, b)
	if n := len(all); n != int(res.Requests()) {
		t.Errorf("%d lines, %d requests", n, res.Requests())
	}
	if slices.Sort(all); len(slices.Compact(all)) != int(res.Requests()) {
		t.Errorf("some lines are there twice")
	}
}

// writers are the processes that have the log open.
func writers(t *testing.T, b *harness.ServiceBox) (list []int) {
	t.Helper()
	for _, pid := range b.Daemons() {
		files := lines(b.MustExec("sh", "-c", "readlink /proc/"+strconv.Itoa(pid)+"/fd/* || true"))
		if slices.Contains(files, boxLog) {
			list = append(list, pid)
		}
	}
	slices.Sort(list)
	return list
}

// logrotate in the middle of a reload, before the new process serves: the signal
// that has the log reopened ends neither the hook nor the process it starts.
func TestServiceLogrotateDuringReload(t *testing.T) {
	harness.Need(t, "logrotate")
	t.Parallel()
	b := startService(t, harness.ServiceOptions{Fault: true, Config: boxSite("", "[access_log]\noutput = \""+boxLog+"\"\n")})
	for _, where := range []string{"hook.begun", "child.state", "child.committed"} {
		old := b.WaitQuiet()
		b.Dial(harness.FaultListener).ExpectOpen("/", "a") // an empty log is not rotated
		harness.Eventually(t, patience, "the line", func() bool { return b.ReadFile(boxLog) != "" })
		b.Fault(where, "sleep=400ms")
		reload := b.Start("systemctl", "reload", harness.FaultUnit)
		harness.Eventually(t, patience, "a process at "+where, b.FaultActed)
		rotate(t, b)
		if code := reload.Wait(reloadWait); code != 0 {
			t.Errorf("logrotate at %s: systemctl reload: exit code %d: %s", where, code, reload.Stderr())
		}
		if b.WaitQuiet() == old {
			t.Errorf("logrotate at %s: not replaced", where)
		}
	}
}
