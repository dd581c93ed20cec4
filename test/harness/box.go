package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BoxOptions say how a box is made; the zero value is the host's own root file
// system with vendor defaults and nothing else enabled.
type BoxOptions struct {
	Trixie bool              // Debian 13 with systemd 257 instead of the host's root
	Copy   map[string]string // path inside to a file or folder of the host, copied before boot
	Bind   map[string]string // path inside to a path of the host, mounted read-only
	Mask   []string          // further units that shall not start
	Level  string            // systemd's log level; "": info
}

// Box is a booted systemd with all of its namespaces: a machine of its own but
// for the kernel, with no network but loopback. It ends with the test, and the
// journal is shown when the test failed. Methods that get stuck fail the test.
type Box struct {
	Name string

	t      testing.TB
	script string
	init   int // PID 1 of the box as this process sees it
	slot   *os.File
}

const (
	maxBoxes  = 4               // on the machine, by all test processes
	boxWait   = 5 * time.Minute // for one of these places
	bootWait  = 2 * time.Minute // more than the script's own limit
	execWait  = time.Minute     // of one command inside
	boxPlace  = "/run/belay-box-place-%d"
	boxPoll   = 10 * time.Millisecond
	someLines = "400" // of the journal of a failed test
)

var (
	boxes atomic.Int64
	sweep sync.Once // removes what killed test processes left
)

// BootBox boots a box. It skips the test where that cannot work. At most four
// boxes are up at once on the machine, so a test that needs two should boot
// both before it does anything that takes long.
func BootBox(t testing.TB, o BoxOptions) *Box {
	t.Helper()
	if why := noBox(); why != "" {
		t.Skip("no box: " + why)
	}
	root := "/"
	if o.Trixie {
		root = Trixie(t)
	}
	b := &Box{t: t, script: filepath.Join(Root(t), "test/box/box")}
	b.Name = fmt.Sprintf("t%d-%d", os.Getpid(), boxes.Add(1))
	b.slot = takeSlot(t)
	sweep.Do(func() { b.command(execWait, "sweep") })
	t.Cleanup(b.down)
	args := []string{"up", b.Name, root, "--owner", strconv.Itoa(os.Getpid())}
	for inside, host := range o.Copy {
		args = append(args, "--copy", host+":"+inside)
	}
	for inside, host := range o.Bind {
		args = append(args, "--bind", host+":"+inside+":ro")
	}
	for _, unit := range o.Mask {
		args = append(args, "--mask", unit)
	}
	if o.Level != "" {
		args = append(args, "--log-level", o.Level)
	}
	if out := b.command(bootWait, args...); out.Code != 0 {
		t.Fatalf("boot box: exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	out := b.command(execWait, "pid", b.Name)
	pid, err := strconv.Atoi(strings.TrimSpace(out.Stdout))
	if err != nil {
		t.Fatalf("pid of the box: %v\n%s", err, out.Stderr)
	}
	b.init = pid
	return b
}

// noBox says why no box can be made here; "" if one can.
func noBox() string {
	if os.Getuid() != 0 {
		return "not root"
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err.Error()
	}
	if !regexp.MustCompile(`(?m)^\S+ \S+ cgroup2 `).Match(mounts) {
		return "no cgroup v2 is mounted"
	}
	kernel, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err.Error()
	}
	if !strings.Contains(string(kernel), "overlay") {
		if _, err := exec.LookPath("modprobe"); err != nil || exec.Command("modprobe", "overlay").Run() != nil {
			return "the kernel has no overlayfs"
		}
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		return "the host has no systemd"
	}
	return ""
}

// takeSlot waits for a free place and locks it: for this process and all
// others, until the file is closed, be it by the end of the process.
func takeSlot(t testing.TB) *os.File {
	t.Helper()
	deadline := time.Now().Add(boxWait)
	for {
		for i := range maxBoxes {
			f, err := os.OpenFile(fmt.Sprintf(boxPlace, i), os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				t.Fatalf("place of a box: %v", err)
			}
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				return f
			}
			_ = f.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("no place for a box in %v", boxWait)
		}
		time.Sleep(5 * boxPoll) // between two looks at what other processes hold
	}
}

// down shows what happened when the test failed and removes the box.
func (b *Box) down() {
	if b.t.Failed() && b.init != 0 {
		out := b.command(execWait, "log", b.Name, "-n", someLines, "-o", "short-precise")
		b.t.Logf("journal of box %s:\n%s%s", b.Name, clip(out.Stdout), out.Stderr)
	}
	if out := b.command(execWait, "down", b.Name); out.Code != 0 {
		b.t.Errorf("remove box: exit code %d\n%s", out.Code, out.Stderr)
	}
	_ = b.slot.Close()
}

// Output is what a command said and how it ended.
type Output struct {
	Stdout, Stderr string
	Code           int // exit code; -1: ended by a signal
	Took           time.Duration
}

// Exec runs a command in the box and waits for it, at most a minute.
func (b *Box) Exec(args ...string) Output {
	b.t.Helper()
	return b.ExecFor(execWait, args...)
}

// ExecFor is Exec with a limit of its own.
func (b *Box) ExecFor(limit time.Duration, args ...string) Output {
	b.t.Helper()
	return b.command(limit, append([]string{"exec", b.Name, "--"}, args...)...)
}

// MustExec fails the test unless the command succeeds; it returns its standard
// output without the white space around it.
func (b *Box) MustExec(args ...string) string {
	b.t.Helper()
	out := b.Exec(args...)
	if out.Code != 0 {
		b.t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return strings.TrimSpace(out.Stdout)
}

// command runs the box script.
func (b *Box) command(limit time.Duration, args ...string) Output {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, b.script, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // a process inside may outlive it and hold the pipes
	began := time.Now()
	err := cmd.Run()
	out := Output{Stdout: stdout.String(), Stderr: stderr.String(), Took: time.Since(began)}
	if ctx.Err() != nil {
		b.t.Fatalf("box %s: not within %v\n%s%s", strings.Join(args, " "), limit, out.Stdout, out.Stderr)
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		out.Code = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		b.t.Fatalf("box %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// Systemctl runs systemctl in the box.
func (b *Box) Systemctl(args ...string) Output {
	b.t.Helper()
	return b.Exec(append([]string{"systemctl"}, args...)...)
}

// Property is a property of a unit, such as ActiveState.
func (b *Box) Property(unit, name string) string {
	b.t.Helper()
	return b.MustExec("systemctl", "show", unit, "--property="+name, "--value")
}

// WaitProperty waits until a property of a unit has a value.
func (b *Box) WaitProperty(limit time.Duration, unit, name, value string) {
	b.t.Helper()
	last := ""
	deadline := time.Now().Add(limit)
	for {
		if last = b.Property(unit, name); last == value {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s of %s is %q, not %q within %v", name, unit, last, value, limit)
		}
		time.Sleep(boxPoll)
	}
}

// ReloadTook is how long the last reload of a service took as systemd saw it:
// from the start of its first ExecReload= command to the end of the last one.
func (b *Box) ReloadTook(unit string) time.Duration {
	b.t.Helper()
	object := "/org/freedesktop/systemd1/unit/" + strings.NewReplacer(".", "_2e", "-", "_2d").Replace(unit)
	out := b.MustExec("busctl", "--json=short", "get-property", "org.freedesktop.systemd1", object,
		"org.freedesktop.systemd1.Service", "ExecReload")
	var reply struct{ Data [][10]any } // see org.freedesktop.systemd1(5): 4 and 6 are on the monotonic clock
	if err := json.Unmarshal([]byte(out), &reply); err != nil {
		b.t.Fatalf("ExecReload of %s: %v in %s", unit, err, out)
	}
	var from, to float64 // µs
	for _, command := range reply.Data {
		began, _ := command[4].(float64)
		ended, _ := command[6].(float64)
		if began > 0 && from == 0 {
			from = began
		}
		to = max(to, ended)
	}
	if from == 0 || to < from {
		b.t.Fatalf("%s has not been reloaded: %s", unit, out)
	}
	return time.Duration(to-from) * time.Microsecond
}

// Journal is the box's journal, as journalctl with these arguments prints it.
func (b *Box) Journal(args ...string) string {
	b.t.Helper()
	// What was sent just before is in the queue of journald until then.
	b.MustExec("journalctl", "--sync")
	return b.MustExec(append([]string{"journalctl", "--no-pager", "-q", "-b"}, args...)...)
}

// WaitJournal waits for an entry of a unit whose text contains s; it returns
// the last one.
func (b *Box) WaitJournal(limit time.Duration, unit, s string) string {
	b.t.Helper()
	found := ""
	Eventually(b.t, limit, fmt.Sprintf("journal of %s has %q", unit, s), func() bool {
		for line := range strings.Lines(b.Journal("-u", unit, "-o", "cat")) {
			if strings.Contains(line, s) {
				found = strings.TrimSpace(line)
			}
		}
		return found != ""
	})
	return found
}

// InstallDeb installs packages of the host's file system with apt, as an
// operator does; it fails the test when apt does. An installed package is
// replaced, by an older one as well. What they depend on must be there already.
func (b *Box) InstallDeb(paths ...string) Output {
	b.t.Helper()
	args := []string{
		"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q",
		"--no-install-recommends", "--allow-downgrades", "--reinstall",
		// No network, no archive; reading its lists would take apt two seconds.
		"-o", "Dir::Etc::SourceList=/dev/null", "-o", "Dir::Etc::SourceParts=/dev/null",
	}
	for _, p := range paths {
		inside := "/tmp/" + filepath.Base(p)
		b.CopyFile(p, inside)
		args = append(args, inside)
	}
	out := b.ExecFor(2*time.Minute, args...)
	if out.Code != 0 {
		b.t.Fatalf("apt-get install: exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	return out
}

// MainPID is the main process of a unit as the box numbers it; 0: it has none.
func (b *Box) MainPID(unit string) int {
	b.t.Helper()
	pid, err := strconv.Atoi(b.Property(unit, "MainPID"))
	if err != nil {
		b.t.Fatalf("MainPID of %s: %v", unit, err)
	}
	return pid
}

// Signal sends a signal to a process that the box numbers pid. A process that
// has gone fails the test.
func (b *Box) Signal(pid int, s syscall.Signal) {
	b.t.Helper()
	host := b.HostPID(pid)
	if host == 0 {
		b.t.Fatalf("signal %v: no process %d in the box", s, pid)
	}
	if err := syscall.Kill(host, s); err != nil {
		b.t.Fatalf("signal %v to %d (%d outside): %v", s, pid, host, err)
	}
}

// HostPID is the PID outside of the process that the box numbers pid; 0: there
// is none. RSS and OpenFiles take it.
func (b *Box) HostPID(pid int) int {
	b.t.Helper()
	return b.Processes()[pid]
}

// Processes are all processes of the box: their PID inside and outside.
func (b *Box) Processes() map[int]int {
	b.t.Helper()
	ours, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", b.init))
	if err != nil {
		b.t.Fatalf("the box has gone: %v", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		b.t.Fatal(err)
	}
	list := map[int]int{}
	for _, e := range entries {
		host, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", host)); err != nil || ns != ours {
			continue
		}
		if inside := innerPID(host); inside != 0 {
			list[inside] = host
		}
	}
	return list
}

// innerPID is the number of a process in its own namespace: the last of NSpid
// in proc_pid_status(5); 0 if it has gone.
func innerPID(host int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", host))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(rest)
			pid, _ := strconv.Atoi(f[len(f)-1])
			return pid
		}
	}
	return 0
}
