package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"belay/test/harness"
)

// A bad configuration fails the restart with every problem in the hook's output,
// and the old process serves on.
func TestHotRestartBadConfiguration(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d := ordinary(t, s, harness.Options{Errors: true})
	c := startClients(t, s.addr, 2, 1)
	rewrite(t, d, `probation = "200ms"`, `probation = "soon"`, "workers = 2", "workers = 2\nnonsense = 1", "cluster = \"back\"", "cluster = \"nowhere\"")
	g, code := d.TryHotRestart()
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	want(t, g.Output, "probation", "soon", "nonsense", "nowhere")
	if st := statusOf(t, d); st.Epoch != 1 || st.Restarts.Failed != 1 || !strings.Contains(st.LastRestart.Reason, "nonsense") {
		t.Errorf("%+v", st)
	}
	want(t, d.Stderr(), "hot restart failed; nothing has changed", "nowhere")
	rewrite(t, d, `probation = "soon"`, `probation = "200ms"`, "nonsense = 1", "", `"nowhere"`, `"back"`)
	d.HotRestart()
	c.end()
}

// A configuration that is good and cannot be served: the port is another's.
func TestHotRestartPortInUse(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d := ordinary(t, s, harness.Options{Errors: true})
	taken := harness.NewEcho(t, "other")
	rewrite(t, d, "[cluster.back]", fmt.Sprintf("[listener.more]\naddress = %q\n[[listener.more.route]]\ncluster = \"back\"\n[cluster.back]", taken.Addr))
	g, code := d.TryHotRestart()
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	want(t, g.Output, "address already in use", taken.Addr)
	if r := harness.Get(t, s.addr, "/", "a"); r.Status != 200 {
		t.Errorf("status %d", r.Status)
	}
}

// What hot-restart says where there is nothing to restart, or no telling what.
func TestHotRestartFindsNobody(t *testing.T) {
	t.Parallel()
	binary := harness.Binary(t, "belayd", false)
	empty := harness.TempDir(t)
	fails := func(parts []string, args ...string) {
		t.Helper()
		out, code := hook(t, binary, append([]string{"hot-restart"}, args...)...)
		if code != 1 {
			t.Errorf("%v: exit code %d", args, code)
		}
		want(t, out, parts...)
	}
	fails([]string{"no running belayd in " + empty}, "--directory", empty)
	fails([]string{"no running belayd"}, "--directory", empty+"/missing")

	s := restartable(t)
	config := fmt.Sprintf("[admin]\nsocket = %q\n", empty+"/a.sock")
	s.more += config
	d := ordinary(t, s)
	fails([]string{"no running belayd in " + d.Dir}, "--directory", d.Dir)
	fails([]string{"no running belayd with base id 7"}, "--directory", empty, "--base-id", "7")
	fails([]string{"MAINPID is not set"}, "--release", "--directory", empty)

	other := restartable(t)
	other.more = strings.Replace(patient, "[hot_restart]", "[hot_restart]\nbase_id = 7\ndirectory = \""+empty+"\"", 1)
	second := ordinary(t, other)
	fails([]string{"several base ids in " + empty, "0 7", "--base-id"}, "--directory", empty)
	if out, code := hook(t, binary, "hot-restart", "--config", second.Config, "--directory", empty, "--base-id", "7"); code != 0 {
		t.Errorf("with --base-id: exit code %d\n%s", code, out)
	}
	if st := statusOf(t, second); st.Epoch != 2 {
		t.Errorf("the one with base id 7: %+v", st)
	}
	if out, code := hook(t, binary, "hot-restart", "--config", other.addr); code != 1 { // a file that is not there
		t.Errorf("exit code %d\n%s", code, out)
	}
	if r := harness.Get(t, s.addr, "/", "a"); r.Status != 200 {
		t.Errorf("the one with base id 0: status %d", r.Status)
	}
	// With the configuration alone: it says where, and which.
	if out, code := hook(t, binary, "hot-restart", "--config", second.Config); code != 0 {
		t.Errorf("with the configuration: exit code %d\n%s", code, out)
	}
}

// A restart for which there is no memory is refused with the figures.
func TestHotRestartMemoryHeadroom(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	s.more += "memory_headroom = \"1TiB\"\n"
	d := ordinary(t, s, harness.Options{Errors: true})
	g, code := d.TryHotRestart()
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	want(t, g.Output, "refused by process", "needs 1 TiB (memory_headroom)", "room ")
	if !regexp.MustCompile(`\d+(\.\d+)? [MG]iB`).MatchString(g.Output) {
		t.Errorf("how much there is, is not said: %s", g.Output)
	}
	if st := statusOf(t, d); st.Epoch != 1 || len(st.Generations) != 1 {
		t.Errorf("%+v", st)
	}
	want(t, d.Stderr(), "hot restart refused")
}

// min_interval, and hot restart that is off.
func TestHotRestartIntervalAndOff(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	s.more += "min_interval = \"1h\"\n"
	d := ordinary(t, s)
	d.HotRestart()
	g, code := d.TryHotRestart()
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	want(t, g.Output, "hot_restart.min_interval is 1h0m0s")

	off := restartable(t)
	off.more = "[hot_restart]\nenabled = false\n"
	d = ordinary(t, off)
	if g, code = d.TryHotRestart(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	want(t, g.Output, "no running belayd in "+d.Dir)
	if files, _ := filepath.Glob(d.Dir + "/hot-*"); len(files) != 0 {
		t.Errorf("files: %v", files)
	}
}

// Two daemons under one base id: the second is refused and names the first.
func TestHotRestartBaseIDInUse(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d := ordinary(t, s)
	other := restartable(t)
	other.addr = harness.Addr(t)
	other.more = strings.Replace(patient, "[hot_restart]", "[hot_restart]\ndirectory = \""+d.Dir+"\"", 1)
	second := harness.Launch(t, other.String(), harness.Options{Errors: true})
	if code := second.Wait(patience); code == 0 {
		t.Error("exit code 0")
	}
	want(t, second.Stderr(), fmt.Sprintf("process %d (epoch 1) is serving under base id 0 in %s", d.PID(), d.Dir))
}

// belayd version says what it can restart with.
func TestVersionTellsProtocolAndSegment(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(harness.Binary(t, "belayd", false), "version").Output()
	if err != nil || !regexp.MustCompile(`(?m)^hot restart: protocol \d+-\d+, segment \d+$`).Match(out) {
		t.Errorf("%s, %v", out, err)
	}
}

// mainAt is the main generation that an admin socket in dir tells of.
func mainAt(t *testing.T, dir string) (main generationStatus) {
	t.Helper()
	for _, g := range statusAt(t, dir+"/a.sock").Generations {
		if g.Main {
			main = g
		}
	}
	return main
}

// After kill -9 of the main process, without a service manager, the next one
// starts by itself: no epoch is used twice, and what the dead one left is cleared
// away and said in the log.
func TestColdStartAfterKill(t *testing.T) {
	t.Parallel()
	dir := harness.TempDir(t)
	s := restartable(t)
	s.addr = harness.Addr(t)
	s.more = strings.Replace(patient, "[hot_restart]", "[hot_restart]\ndirectory = \""+dir+"\"", 1) + fmt.Sprintf("[admin]\nsocket = %q\n", dir+"/a.sock")
	start := func() (*harness.Daemon, int) {
		d := ordinary(t, s)
		return d, mainAt(t, dir).Epoch
	}
	d, epoch := start()
	if epoch != 1 {
		t.Errorf("epoch %d at first", epoch)
	}
	out, code := hook(t, harness.Binary(t, "belayd", false), "hot-restart", "--config", d.Config, "--directory", dir)
	if code != 0 {
		t.Fatalf("hot restart: %s", out)
	}
	pid := mainAt(t, dir).PID
	d.Wait(patience)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, pid)
	d, epoch = start()
	if epoch != 3 {
		t.Errorf("epoch %d after two others", epoch)
	}
	if r := harness.Get(t, s.addr, "/", "a"); r.Status != 200 {
		t.Errorf("status %d", r.Status)
	}
	d.Signal(syscall.SIGKILL)
	d.Wait(patience)
	segment := filepath.Join(dir, "hot-0.shm")
	if err := os.Truncate(segment, 100); err != nil {
		t.Fatal(err)
	}
	d, epoch = start()
	if epoch <= 3 {
		t.Errorf("epoch %d after a segment that lost its end", epoch)
	}
	want(t, d.Stderr(), "hot-restart segment repaired", "path="+segment)
	if out, code := hook(t, harness.Binary(t, "belayd", false), "hot-restart", "--config", d.Config, "--directory", dir); code != 0 {
		t.Errorf("hot restart with the new segment: %s", out)
	}
}
