package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options say how a daemon is started; the zero value is the ordinary way.
type Options struct {
	Race     bool              // the build with the race detector
	Fault    bool              // the build in which faults can be asked for
	Files    map[string]string // further files beside belay.toml, by relative name
	Env      []string          // added to the environment
	NoFile   int               // RLIMIT_NOFILE, soft and hard; 0: as it is
	Wrap     []string          // a program and its arguments that runs belayd, such as strace
	Errors   bool              // lines of level ERROR are expected
	NoAdmin  bool              // do not add an [admin] table
	WaitTime time.Duration     // to be ready within; 0: 15s
}

// Daemon is a running belayd. It is stopped at the end of the test, which fails
// when the daemon crashed, raced or logged an error it was not expected to.
type Daemon struct {
	Dir       string // belay.toml, admin.sock and access.log are here
	Config    string
	Socket    string // of the admin API
	AccessLog string
	ReadyIn   time.Duration // from start to the line that says so

	t      testing.TB
	o      Options
	hooks  int // hot restarts begun
	cmd    *exec.Cmd
	ready  chan struct{}
	exited chan struct{}
	waited error

	mu    sync.Mutex
	lines []string
	grown chan struct{} // closed and replaced when lines grows
}

// Start runs belayd with a configuration and waits until it serves. Tables
// that the configuration does not have are added so that the test can look on:
// [admin], [access_log] and [server] with two workers.
func Start(t testing.TB, config string, opts ...Options) *Daemon {
	t.Helper()
	d := Launch(t, config, opts...)
	wait := d.o.WaitTime
	if wait == 0 {
		wait = 15 * time.Second
	}
	select {
	case <-d.ready:
	case <-d.exited:
		t.Fatalf("belayd ended instead of serving: %v\n%s", d.waited, d.Stderr())
	case <-time.After(wait):
		t.Fatalf("belayd is not ready after %v\n%s", wait, d.Stderr())
	}
	return d
}

// Launch is Start without waiting: for daemons that are expected to fail.
func Launch(t testing.TB, config string, opts ...Options) *Daemon {
	t.Helper()
	d := &Daemon{t: t, Dir: TempDir(t), ready: make(chan struct{}), exited: make(chan struct{}), grown: make(chan struct{})}
	if len(opts) > 0 {
		d.o = opts[0]
	}
	d.Socket = d.Dir + "/admin.sock"
	d.AccessLog = d.Dir + "/access.log"
	for name, content := range d.o.Files {
		if i := strings.LastIndexByte(name, '/'); i > 0 {
			if err := os.MkdirAll(d.Dir+"/"+name[:i], 0o755); err != nil {
				t.Fatal(err)
			}
		}
		WriteFile(t, d.Dir, name, content)
	}
	d.Config = WriteFile(t, d.Dir, "belay.toml", d.preamble(config)+config)
	d.run("run", "--config", d.Config)
	return d
}

// LaunchArgs runs belayd with arguments of its own and without a configuration.
func LaunchArgs(t testing.TB, args ...string) *Daemon {
	t.Helper()
	d := &Daemon{t: t, Dir: TempDir(t), ready: make(chan struct{}), exited: make(chan struct{}), grown: make(chan struct{})}
	d.run(args...)
	return d
}

func (d *Daemon) preamble(config string) string {
	var b strings.Builder
	if !strings.Contains(config, "[server]") {
		b.WriteString("[server]\nworkers = 2\n")
	}
	if !strings.Contains(config, "[admin]") && !d.o.NoAdmin {
		fmt.Fprintf(&b, "[admin]\nsocket = %q\n", d.Socket)
	}
	if !strings.Contains(config, "[access_log]") {
		fmt.Fprintf(&b, "[access_log]\noutput = %q\nflush_interval = \"5ms\"\n", d.AccessLog)
	}
	return b.String()
}

// binary is the build that the options ask for.
func (d *Daemon) binary() string {
	if d.o.Fault {
		return FaultBinary(d.t)
	}
	return Binary(d.t, "belayd", d.o.Race)
}

// run starts the process with args and begins to collect what it says.
func (d *Daemon) run(args ...string) {
	d.t.Helper()
	argv := append(append([]string{}, d.o.Wrap...), d.binary())
	argv = append(argv, args...)
	if d.o.NoFile > 0 {
		limit := fmt.Sprintf("ulimit -n %d && exec \"$@\"", d.o.NoFile)
		argv = append([]string{"sh", "-c", limit, "sh"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), d.o.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said, stderr, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	d.cmd = cmd
	began := time.Now()
	if err := start(cmd); err != nil {
		d.t.Fatalf("start belayd: %v", err)
	}
	collected := make(chan struct{})
	go d.collect(said, began, collected)
	go func() {
		d.waited = cmd.Wait()
		// The processes that replace it write to the same pipe: its end is not the
		// pipe's. What comes before this line it has written.
		_, _ = stderr.WriteString(endLine + "\n")
		_ = stderr.Close()
		<-collected
		close(d.exited)
	}()
	d.t.Cleanup(d.finish)
}

// endLine stands where the process has ended in what all generations write.
const endLine = "-- the first process has ended --"

var readyLine = regexp.MustCompile(`\bmsg="?ready"?(\s|$)|"msg":"ready"`)

// collect reads what the daemon writes, and those after it, and closes ended when
// it has all that the first one wrote.
func (d *Daemon) collect(r io.ReadCloser, began time.Time, ended chan<- struct{}) {
	defer func() { _ = r.Close() }()
	var once sync.Once
	end := func() { once.Do(func() { close(ended) }) }
	defer end()
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	isReady := false
	for in.Scan() {
		line := in.Text()
		if line == endLine {
			end()
			continue
		}
		d.mu.Lock()
		d.lines = append(d.lines, line)
		close(d.grown)
		d.grown = make(chan struct{})
		d.mu.Unlock()
		if !isReady && readyLine.MatchString(line) {
			isReady = true
			d.ReadyIn = time.Since(began)
			close(d.ready)
		}
	}
	_, _ = io.Copy(io.Discard, r)
}

// Stderr is everything the daemon has written so far, and the processes that
// replaced it.
func (d *Daemon) Stderr() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, "\n")
}

// WaitLine waits for a line on stderr that contains s.
func (d *Daemon) WaitLine(s string) string {
	d.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		d.mu.Lock()
		for _, l := range d.lines {
			if strings.Contains(l, s) {
				d.mu.Unlock()
				return l
			}
		}
		grown := d.grown
		d.mu.Unlock()
		select {
		case <-grown:
		case <-limit:
			d.t.Fatalf("no line with %q on stderr:\n%s", s, d.Stderr())
		}
	}
}

// CountLines says how many lines on stderr contain s.
func (d *Daemon) CountLines(s string) int {
	return strings.Count(d.Stderr()+"\n", s)
}

// PID is the process id of belayd (of its wrapper, if there is one).
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Signal sends a signal to the daemon.
func (d *Daemon) Signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Errorf("signal %v: %v", s, err)
	}
}

// Wait waits until the daemon has ended and returns its exit code, -1 when a
// signal ended it.
func (d *Daemon) Wait(limit time.Duration) int {
	d.t.Helper()
	select {
	case <-d.exited:
		return d.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		d.Signal(syscall.SIGQUIT)
		select {
		case <-d.exited:
		case <-time.After(5 * time.Second):
			d.Signal(syscall.SIGKILL)
			<-d.exited
		}
		d.t.Fatalf("belayd has not ended within %v\n%s", limit, d.Stderr())
		return -1
	}
}

// Running says whether the process is there.
func (d *Daemon) Running() bool {
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

// Exited is closed when the process has ended.
func (d *Daemon) Exited() <-chan struct{} { return d.exited }

// Stop sends SIGTERM and expects a clean end.
func (d *Daemon) Stop() {
	d.t.Helper()
	d.Signal(syscall.SIGTERM)
	if code := d.Wait(20 * time.Second); code != 0 {
		d.t.Errorf("exit code %d after SIGTERM\n%s", code, d.Stderr())
	}
}

// finish ends the daemon at the end of the test and reads its log for trouble.
func (d *Daemon) finish() {
	if d.Running() {
		d.Signal(syscall.SIGTERM)
		select {
		case <-d.exited:
		case <-time.After(300 * time.Millisecond):
			d.Signal(syscall.SIGTERM) // the second one ends it now; tests that mean to drain call Stop
		}
		select {
		case <-d.exited:
		case <-time.After(10 * time.Second):
			d.t.Errorf("belayd does not end on two SIGTERM")
			d.Signal(syscall.SIGQUIT)
			select {
			case <-d.exited:
			case <-time.After(5 * time.Second):
				d.Signal(syscall.SIGKILL)
				<-d.exited
			}
		}
	}
	trouble := []string{"panic:", "DATA RACE", "fatal error:", "goroutine leak", "SIGSEGV"}
	if !d.o.Errors {
		trouble = append(trouble, "level=ERROR")
	}
	log := strings.ReplaceAll(d.Stderr(), "panic: fault:", "") // one that a test asked for
	for _, s := range trouble {
		if strings.Contains(log, s) {
			d.t.Errorf("belayd wrote %q", s)
		}
	}
	if d.t.Failed() {
		d.t.Logf("belayd's stderr:\n%s", clip(log))
		if b, err := os.ReadFile(d.AccessLog); err == nil && len(b) > 0 && len(b) < 8<<10 { // a few lines may tell more
			d.t.Logf("its access log:\n%s", b)
		}
	}
}

// clip keeps a long log readable in the output of a failed test.
func clip(s string) string {
	const most = 20000
	if len(s) <= most {
		return s
	}
	return s[:most/2] + "\n…\n" + s[len(s)-most/2:]
}
