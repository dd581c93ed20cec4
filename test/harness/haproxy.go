package harness

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// HAProxy is Debian's HAProxy, run for comparison. It ends with the test.
type HAProxy struct {
	Dir string

	t      testing.TB
	socket string // of its command line
	cmd    *exec.Cmd
	log    *os.File
}

// HAProxyPeer is the name of the process among peers; -L gives it.
const HAProxyPeer = "node"

// haproxyHead is before every configuration; expose-fd hands listeners to a
// successor, as the program's own manual tells for a reload that loses nothing.
const haproxyHead = `global
  stats socket %s mode 600 level admin expose-fd listeners
  nbthread 2
  maxconn 500
defaults
  mode http
  timeout connect 2s
  timeout client 20s
  timeout server 20s
  timeout queue 10s
`

// StartHAProxy runs HAProxy with frontends and backends and waits until it serves.
// The test is skipped where it is not installed.
func StartHAProxy(t testing.TB, config string) *HAProxy {
	t.Helper()
	Need(t, "haproxy")
	h := &HAProxy{Dir: TempDir(t), t: t}
	h.socket = h.Dir + "/haproxy.sock"
	log, err := os.Create(h.Dir + "/haproxy.log")
	if err != nil {
		t.Fatal(err)
	}
	h.log = log
	t.Cleanup(func() { _ = log.Close() })
	h.write(config)
	h.start()
	return h
}

func (h *HAProxy) write(config string) {
	h.t.Helper()
	WriteFile(h.t, h.Dir, "haproxy.cfg", fmt.Sprintf(haproxyHead, h.socket)+config)
}

// start runs a process and waits until it is the one that answers.
func (h *HAProxy) start(args ...string) {
	h.t.Helper()
	cmd := exec.Command("haproxy", append([]string{"-db", "-L", HAProxyPeer, "-f", h.Dir + "/haproxy.cfg"}, args...)...)
	cmd.Stdout, cmd.Stderr = h.log, h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := start(cmd); err != nil {
		h.t.Fatalf("start haproxy: %v", err)
	}
	h.cmd = cmd
	h.t.Cleanup(func() { h.end(cmd) })
	limit := time.Now().Add(patience)
	for h.pid() != cmd.Process.Pid {
		if time.Now().After(limit) || !ProcessAlive(cmd.Process.Pid) {
			h.t.Fatalf("haproxy does not serve:\n%s", h.said())
		}
		time.Sleep(2 * time.Millisecond) // between two looks at another process
	}
}

func (h *HAProxy) end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func (h *HAProxy) said() string {
	data, _ := os.ReadFile(h.Dir + "/haproxy.log")
	return string(data)
}

var pidLine = regexp.MustCompile(`(?m)^Pid: (\d+)$`)

// pid is the process that answers at the command socket, 0 if none does.
func (h *HAProxy) pid() int {
	answer, err := h.ask("show info")
	if err != nil {
		return 0
	}
	if m := pidLine.FindStringSubmatch(answer); m != nil {
		pid, _ := strconv.Atoi(m[1])
		return pid
	}
	return 0
}

func (h *HAProxy) ask(line string) (string, error) {
	c, err := net.Dial("unix", h.socket)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	data, err := io.ReadAll(c)
	return string(data), err
}

// Command gives a command at its socket and returns the answer.
func (h *HAProxy) Command(line string) string {
	h.t.Helper()
	answer, err := h.ask(line)
	if err != nil {
		h.t.Fatalf("haproxy: %s: %v", line, err)
	}
	return strings.TrimSpace(answer)
}

// Reload replaces the process by one with another configuration; the old one
// finishes what it has begun.
func (h *HAProxy) Reload(config string) {
	h.t.Helper()
	h.write(config)
	h.start("-x", h.socket, "-sf", strconv.Itoa(h.cmd.Process.Pid))
}

// Crash kills the process and starts another.
func (h *HAProxy) Crash() {
	h.t.Helper()
	h.end(h.cmd)
	h.start()
}
