package harness

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Generation is a belayd that a hot restart started: nobody's child here.
type Generation struct {
	Epoch, PID int
	Output     string // of the hook
}

var mainLine = regexp.MustCompile(`belayd: epoch (\d+) \(process (\d+)\) is main`)

// HotRestart replaces the daemon's running process without a service manager.
func (d *Daemon) HotRestart() Generation {
	d.t.Helper()
	g, code := d.TryHotRestart()
	if code != 0 {
		d.t.Fatalf("hot-restart: exit code %d\n%s", code, g.Output)
	}
	return g
}

// TryHotRestart is HotRestart for those that may fail.
func (d *Daemon) TryHotRestart(env ...string) (Generation, int) {
	d.t.Helper()
	d.hooks++
	path := fmt.Sprintf("%s/hook-%d.log", d.Dir, d.hooks)
	out, err := os.Create(path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(d.binary(), "hot-restart", "--config", d.Config, "--directory", d.Dir)
	cmd.Env = append(append(os.Environ(), d.o.Env...), env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := start(cmd); err != nil {
		d.t.Fatalf("start the hook: %v", err)
	}
	_ = cmd.Wait() // the code tells
	data, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	g := Generation{Output: string(data)}
	if m := mainLine.FindStringSubmatch(g.Output); m != nil {
		g.Epoch, _ = strconv.Atoi(m[1])
		g.PID, _ = strconv.Atoi(m[2])
		d.Adopt(g.PID)
	}
	return g, cmd.ProcessState.ExitCode()
}

// Adopt has the process ended with the test.
func (d *Daemon) Adopt(pid int) {
	d.t.Cleanup(func() { EndProcess(d.t, pid) })
}

// Hooks is what the hooks wrote, and all generations.
func (d *Daemon) Hooks() string {
	var b strings.Builder
	for i := 1; i <= d.hooks; i++ {
		if data, err := os.ReadFile(fmt.Sprintf("%s/hook-%d.log", d.Dir, i)); err == nil {
			b.Write(data)
		}
	}
	return b.String() + d.Stderr()
}

// ProcessAlive reports whether a process runs; a zombie does not.
func ProcessAlive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, ok := cutLast(string(data), ") ")
	return ok && rest != "" && rest[0] != 'Z' && rest[0] != 'X'
}

// EndProcess ends a belayd that is not our child: SIGTERM twice, then SIGKILL.
func EndProcess(t testing.TB, pid int) {
	t.Helper()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGCONT, syscall.SIGKILL} {
		if !ProcessAlive(pid) {
			return
		}
		_ = syscall.Kill(pid, s)
		end := time.Now().Add(time.Second)
		for ProcessAlive(pid) && time.Now().Before(end) {
			time.Sleep(5 * time.Millisecond) // between two looks at another process
		}
	}
}
