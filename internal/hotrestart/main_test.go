package hotrestart

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary runs itself again where a process of its own is needed: as a
// peer under another uid, and, started by a Hook as belayd would be, as a child.

const helperEnv = "BELAY_HOTRESTART_HELPER" // "dial PATH" or "serve PATH"

func TestMain(m *testing.M) {
	switch what, path, _ := strings.Cut(os.Getenv(helperEnv), " "); {
	case what != "":
		helperMain(what, path)
	case len(os.Args) > 1 && os.Args[1] == SpawnCommand:
		if err := Spawn(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case len(os.Args) == 4 && os.Args[1] == "run":
		childMain(os.Args[3])
	default:
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // of helpers and children
		os.Exit(m.Run())
	}
}

// helperMain dials or serves, and says on standard output how that went.
func helperMain(what, path string) {
	if what == "dial" { // with nothing of ours in the way
		c, err := net.Dial("unixpacket", path)
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(patience))
			_, err = c.Read(make([]byte, 1))
		}
		fmt.Println(os.Getuid(), err)
		return
	}
	_, err := Serve(path, func(r *Request) { r.Ack() }, func(err error) { fmt.Println(err) })
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	fmt.Println("serving", err)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test is over
}

// say is one line for the parent's test, with the time, which is the same in
// every process of the machine.
type diary struct{ f *os.File }

func (d diary) say(format string, args ...any) {
	fmt.Fprintf(d.f, "%d %s\n", time.Now().UnixNano(), fmt.Sprintf(format, args...)) // one write: whole lines
}

// childMain is a child as the server is one. Its configuration is a file of
// lines: "diary PATH", and "at POINT do WHAT", where POINT is start, prepare,
// joined, probation, probed or probe, and WHAT kill, stop, fail or count=N.
func childMain(config string) {
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
	}
	f, err := os.Open(config)
	die(err)
	at := make(map[string]string)
	var d diary
	for in := bufio.NewScanner(f); in.Scan(); {
		w := strings.Fields(in.Text())
		if w[0] == "diary" {
			d.f, err = os.OpenFile(w[1], os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
			die(err)
		} else {
			at[w[1]] = w[3]
		}
	}
	d.say("pid %d", os.Getpid())
	do := func(p *Parent, point string) {
		switch at[point] {
		case "kill":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "stop":
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			select {} // other threads stop a moment later
		case "fail":
			p.Fail(fmt.Errorf("failed at %s", point))
			os.Exit(1)
		}
	}
	do(nil, "start")
	p, err := Child("child")
	die(err)
	b := &fake{name: "child", book: &book{}, tell: d.say, open: 1, gone: make(chan struct{})}
	groups, err := p.Sockets(p0addresses, nil)
	die(err)
	b.groups = groups
	_, _, err = p.State()
	die(err)
	do(p, "prepare")
	n, err := p.Join(testOptions(p.Directory()))
	die(err)
	die(n.Run(b))
	stop := beat(n)
	defer stop()
	do(p, "joined")
	die(p.Commit())
	d.say("committed")
	if _, err := fmt.Sscanf(at["probation"], "count=%d", &b.count); err == nil {
		n.Report()
		for busy := true; busy; {
			n.do(func() { busy = n.up.reporting })
		}
	}
	do(p, "probation")
	do(p, "probed")
	switch at["probe"] {
	case "fail":
		p.Probed(fmt.Errorf("nobody answers"))
	default:
		p.Probed(nil)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	select {
	case <-b.gone: // stepping back or draining: its connections end when the test says so
	case <-term:
	case <-time.After(time.Minute):
	}
	n.Empty()
	n.Close()
	d.say("left")
}

// as runs the test binary as a helper under another uid.
func as(t *testing.T, uid uint32, what string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	cmd := exec.Command("/proc/self/exe") // the folder of the binary is closed to others
	cmd.Env = append(os.Environ(), helperEnv+"="+what)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: true}, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	return cmd
}
