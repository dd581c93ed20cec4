package box

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"belay/test/harness"
)

// script runs the box script with boxes of its own.
func script(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("./box", args...)
	cmd.Env = append(os.Environ(), "BELAY_BOX_DIR="+dir)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// traces lists what a box leaves on the host: state, cgroups, processes.
func traces(t *testing.T, dir, name string) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{dir + "/" + name, "/sys/fs/cgroup/belay-box-" + name + ".*", "/sys/fs/cgroup/*/belay-box-" + name + ".*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	names, _ := filepath.Glob("/proc/[0-9]*/root/etc/hostname")
	for _, n := range names {
		if host, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(host)) == "box-"+name {
			list = append(list, n)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), dir+"/"+name) {
		list = append(list, "a mount")
	}
	return list
}

func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := script(t, dir, args...)
	if err != nil {
		t.Fatalf("box %v: %v\n%s", args, err, out)
	}
	return out
}

func TestScript(t *testing.T) {
	t.Parallel()
	harness.BootBox(t, harness.BoxOptions{}) // holds a place among all boxes; skips where there can be none
	dir := t.TempDir()
	t.Cleanup(func() { must(t, dir, "down", "--all") })
	name := "s" + strconv.Itoa(os.Getpid())

	t.Run("down leaves nothing", func(t *testing.T) {
		must(t, dir, "up", name)
		must(t, dir, "exec", name, "sh", "-c", "for i in 1 2 3 4 5; do setsid sleep 1000 >/dev/null 2>&1 & done")
		if found := traces(t, dir, name); len(found) < 7 {
			t.Errorf("cannot see a box: %v", found)
		}
		if out, err := script(t, dir, "up", name); err == nil {
			t.Errorf("up twice: %s", out)
		}
		must(t, dir, "down", name)
		if left := traces(t, dir, name); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		must(t, dir, "down", name)
	})
	t.Run("a failed boot leaves nothing", func(t *testing.T) {
		if out, err := script(t, dir, "up", name, "--copy", "/nonexistent:/etc/x"); err == nil || !strings.Contains(out, "nonexistent") {
			t.Errorf("%v %s", err, out)
		}
		if left := traces(t, dir, name); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	t.Run("it ends with its owner", func(t *testing.T) {
		owner := exec.Command("sleep", "1000")
		if err := owner.Start(); err != nil {
			t.Fatal(err)
		}
		must(t, dir, "up", name, "--owner", strconv.Itoa(owner.Process.Pid))
		_ = owner.Process.Kill()
		_ = owner.Wait()
		harness.Eventually(t, patience, "nothing left", func() bool { return len(traces(t, dir, name)) == 0 })
	})
}

func TestSweepRemovesWhatHasLostItsOwner(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"orphan", "other"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/orphan/owner", []byte("1 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "sweep")
	if got := must(t, dir, "ls"); got != "other dead" { // not up, but nobody said whose it is
		t.Errorf("ls: %q", got)
	}
}
