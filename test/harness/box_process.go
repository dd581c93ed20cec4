package harness

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// BoxProcess is a command that runs in a box beside the test. It ends with the box.
type BoxProcess struct {
	Stdin io.WriteCloser

	b      *Box
	cmd    *exec.Cmd
	name   string
	exited chan struct{}

	mu     sync.Mutex
	lines  []string      // of standard output
	grown  chan struct{} // closed and replaced when lines grows
	stderr bytes.Buffer
}

// Start starts a command in the box.
func (b *Box) Start(args ...string) *BoxProcess {
	b.t.Helper()
	p := &BoxProcess{b: b, name: args[0], exited: make(chan struct{}), grown: make(chan struct{})}
	p.cmd = exec.Command(b.script, append([]string{"exec", b.Name, "--"}, args...)...)
	p.cmd.Stderr = lockedWriter{&p.mu, &p.stderr}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stdout = &lineWriter{p: p}
	p.cmd.WaitDelay = time.Second // a process it leaves behind may hold the pipes
	var err error
	if p.Stdin, err = p.cmd.StdinPipe(); err == nil {
		err = start(p.cmd)
	}
	if err != nil {
		b.t.Fatalf("start %s in the box: %v", p.name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.exited)
	}()
	b.t.Cleanup(func() {
		p.kill(syscall.SIGKILL)
		<-p.exited
	})
	return p
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// lineWriter gathers whole lines.
type lineWriter struct {
	p    *BoxProcess
	rest []byte
}

func (l *lineWriter) Write(b []byte) (int, error) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		l.p.lines = append(l.p.lines, string(l.rest[:i]))
		l.rest = l.rest[i+1:]
		close(l.p.grown)
		l.p.grown = make(chan struct{})
	}
}

// WaitLine waits for line number i of standard output, from 0.
func (p *BoxProcess) WaitLine(i int, limit time.Duration) string {
	p.b.t.Helper()
	timeout := time.After(limit)
	ended := false
	for {
		p.mu.Lock()
		if i < len(p.lines) {
			defer p.mu.Unlock()
			return p.lines[i]
		}
		grown := p.grown
		p.mu.Unlock()
		if ended {
			p.b.t.Fatalf("%s in the box ended: %s", p.name, p.Stderr())
		}
		select {
		case <-grown:
		case <-p.exited:
			ended = true
		case <-timeout:
			p.b.t.Fatalf("%s in the box says nothing within %v: %s", p.name, limit, p.Stderr())
		}
	}
}

// Stdout is what it has written to standard output so far.
func (p *BoxProcess) Stdout() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// Stderr is what it has written to standard error so far.
func (p *BoxProcess) Stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// HostPID is its PID outside; 0 when it has ended. nsenter(1) stays outside
// the PID namespace and waits for its one child, which is the command.
func (p *BoxProcess) HostPID() int {
	pid := p.cmd.Process.Pid
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	children := strings.Fields(string(data))
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || !strings.HasSuffix(exe, "/nsenter") || len(children) != 1 {
		return 0
	}
	child, _ := strconv.Atoi(children[0])
	return child
}

// PID is its PID in the box.
func (p *BoxProcess) PID() int {
	p.b.t.Helper()
	pid := 0
	Eventually(p.b.t, execWait, p.name+" runs in the box", func() bool {
		pid = innerPID(p.HostPID())
		return pid != 0 || p.Ended()
	})
	return pid
}

// Ended says whether it has ended.
func (p *BoxProcess) Ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// Signal sends it a signal; one that has ended does not get it.
func (p *BoxProcess) Signal(s syscall.Signal) {
	p.b.t.Helper()
	Eventually(p.b.t, execWait, p.name+" runs in the box", func() bool { return p.HostPID() != 0 || p.Ended() })
	p.kill(s)
}

func (p *BoxProcess) kill(s syscall.Signal) {
	if pid := p.HostPID(); pid != 0 {
		_ = syscall.Kill(pid, s)
	} else if s == syscall.SIGKILL && !p.Ended() {
		_ = p.cmd.Process.Kill()
	}
}

// Wait waits until it has ended and returns its exit code, -1 when a signal ended it.
func (p *BoxProcess) Wait(limit time.Duration) int {
	p.b.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.b.t.Fatalf("%s in the box does not end within %v: %s", p.name, limit, p.Stderr())
		return -1
	}
}
