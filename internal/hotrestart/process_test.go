package hotrestart

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/internal/eventloop"
	"belay/internal/shm"

	"golang.org/x/sys/unix"
)

// A peer of another user is refused whatever the mode of the socket, in both
// directions: also root, when belay runs as another user.
func TestPeerOfAnotherUser(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	const nobody = 65534
	t.Run("nobody asks root", func(t *testing.T) {
		path := filepath.Join(dir, "root")
		refused := make(chan error, 1)
		asked := make(chan *Request, 1)
		s, err := Serve(path, func(r *Request) { asked <- r }, func(err error) { refused <- err })
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if out, _ := as(t, nobody, "dial "+path).Output(); !strings.Contains(string(out), "permission denied") {
			t.Errorf("with mode 0600: %s", out)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
		out, err := as(t, nobody, "dial "+path).Output()
		if err != nil || !strings.Contains(string(out), fmt.Sprint(nobody, " ")) || !strings.Contains(string(out), "EOF") {
			t.Errorf("with mode 0666: %s, %v", out, err)
		}
		if err := <-refused; !strings.Contains(err.Error(), "of uid 65534 refused") {
			t.Errorf("what is told: %v", err)
		}
		if len(asked) > 0 {
			t.Error("the request was handled")
		}
	})
	t.Run("root asks nobody", func(t *testing.T) {
		path := filepath.Join(dir, "nobody")
		cmd := as(t, nobody, "serve "+path)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = in.Close(); _ = cmd.Wait() }()
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "serving <nil>" {
			t.Fatalf("helper: %s", lines.Text())
		}
		if _, err := Dial(path, patience, nil); err == nil || !strings.Contains(err.Error(), "of uid 65534 refused") {
			t.Errorf("our own side: %v", err) // the hook of root does not speak to it
		}
		if !lines.Scan() || !strings.Contains(lines.Text(), "of uid 0 refused: the hot-restart socket is for uid 65534 alone") {
			t.Errorf("what it told: %s", lines.Text())
		}
	})
}

// At the descriptor limit the kernel drops descriptors without a word but for a
// flag; the call fails, says why, and leaves none behind. A child checks before.
func TestDescriptorLimit(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	fds := nulls(t, 100)
	base := open(t)
	c, peer := connTo(t, nil)
	failed := make(chan error, 1)
	go func() {
		_, _, err := c.Call(testContext(t), stateCall())
		failed <- err
	}()
	m := readRaw(t, peer)
	limit := room(t, 10)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	reset := func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }
	defer reset()
	if err := checkDescriptors(limit - 20); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the limit of %d open files leaves no room", limit)) {
		t.Errorf("the check: %v", err)
	}
	reply := ackOf(m.Id)
	writeRaw(t, peer, 1, reply, fds...)
	err := <-failed
	reset()
	if err == nil || !strings.Contains(err.Error(), "is the descriptor limit reached?") {
		t.Errorf("the call: %v", err)
	}
	wantOpen(t, base)
	if err := checkDescriptors(limit - 20); err != nil {
		t.Errorf("the check with the old limit: %v", err)
	}
}

// room is the descriptor limit that leaves n free descriptors.
func room(t *testing.T, n int) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[int]bool)
	for _, e := range list {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			used[fd] = true
		}
	}
	fd := 0
	for ; n > 0; fd++ {
		if !used[fd] {
			n--
		}
	}
	return fd
}

// live is a parent in this process whose children are processes, started by the
// real hook. script is theirs; see childMain.
type live struct {
	*generation
	diary string
	err   chan error // of the hook
	out   strings.Builder
	stop  chan os.Signal
}

func goLive(t *testing.T, script ...string) *live {
	t.Helper()
	dir := t.TempDir()
	l := &live{diary: filepath.Join(dir, "diary"), err: make(chan error, 1), stop: make(chan os.Signal, 1)}
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, []byte("diary "+l.diary+"\n"+strings.Join(script, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	l.generation = cold(t, func(o *Options) { o.Config = config }, func(g *generation) {
		g.groups[0].Address = p0addresses[0]
		g.tell = func(format string, args ...any) { // into the same diary, by the same clock
			f, err := os.OpenFile(l.diary, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
			if err == nil {
				diary{f}.say("parent %s", fmt.Sprintf(format, args...))
				_ = f.Close()
			}
		}
	})
	eventually(t, "it serves", func() bool { return l.Status().Generations[0].Main })
	t.Cleanup(func() { // a child that is left
		if pid := l.childPID(); pid > 1 && shm.Self().PID != pid {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return l
}

// hook begins a restart; its end comes in err.
func (l *live) hook() {
	go func() {
		l.err <- Hook(HookOptions{Directories: []string{l.o.Directory}, BaseID: -1, Program: "hook", Out: &l.out, Stop: l.stop})
	}()
}

// lines is the diary in the order of time, without the times.
func (l *live) lines() (out []string) {
	data, _ := os.ReadFile(l.diary) // not there yet
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	slices.Sort(all) // the times have the same number of digits
	for _, x := range all {
		if _, text, ok := strings.Cut(x, " "); ok {
			out = append(out, text)
		}
	}
	return out
}

func (l *live) childPID() int {
	for _, x := range l.lines() {
		if pid, ok := strings.CutPrefix(x, "pid "); ok {
			n, _ := strconv.Atoi(pid)
			return n
		}
	}
	return 0
}

// gone is true of a zombie as well, which waits for PID 1.
func gone(pid int) bool {
	_, ok := alive(pid)
	return !ok
}

// A child that dies, hangs or fails, at each stage of a restart: the hook fails
// with the reason, the parent is as before, nothing is left of the child, and
// the counts that it reported are kept.
func TestChildFails(t *testing.T) {
	for _, tt := range []struct {
		script string
		result string // "": the parent never heard of the child
		reason string
		hook   string // "": as reason
	}{
		{"at start do kill", "failed", "", "has ended without a word"},
		{"at prepare do kill", "failed", "has died", ""},
		{"at prepare do fail", "failed", "failed at prepare", ""},
		{"at joined do stop", "failed", "hangs", ""},
		{"at probation do kill", "rolled back", "has died", ""},
		{"at probation do stop", "rolled back", "hangs", ""},
		{"at probe do fail", "rolled back", "probe: nobody answers", ""},
	} {
		t.Run(strings.ReplaceAll(tt.script, " ", "-"), func(t *testing.T) {
			t.Parallel()
			l := goLive(t, tt.script)
			l.hook()
			err := <-l.err
			if want := tt.hook + tt.reason; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the hook: %v, want %q", err, want)
			}
			l.wantLast(tt.result, tt.reason)
			pid := l.childPID()
			eventually(t, "the child to be gone", func() bool { return gone(pid) })
			calls := l.book.all()
			pause := fmt.Sprintf("A Pause %v", []eventloop.Address{p0addresses[0]})
			switch {
			case tt.result == "failed" && len(calls) > 0:
				t.Errorf("calls %v", calls)
			case tt.result == "rolled back" && !slices.Equal(calls[:2], []string{pause, "A Resume"}):
				t.Errorf("calls %v", calls)
			}
			if tt.script == "at probe do fail" {
				eventually(t, "the child to be forgotten", func() bool { return slices.Contains(l.book.all(), "A Forget 2") })
				inOrder(t, l.lines(), "committed", "parent Resume", "StepBack", "parent Renew", "parent Forget 2")
			}
		})
	}
}

// inOrder wants these lines among others.
func inOrder(t *testing.T, lines []string, want ...string) {
	t.Helper()
	for _, x := range lines {
		if len(want) > 0 && x == want[0] {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		t.Errorf("no %q in its place in:\n%s", want[0], strings.Join(lines, "\n"))
	}
}

// The counts that a child reported are kept, once, whether it is killed or leaves.
func TestCountsOfAFailedChild(t *testing.T) {
	for _, how := range []string{"at probed do kill", "at probe do fail"} {
		t.Run(strings.ReplaceAll(how, " ", "-"), func(t *testing.T) {
			t.Parallel()
			l := goLive(t, "at probation do count=9", how)
			l.add(1)
			l.hook()
			<-l.err
			l.wantLast("rolled back", "")
			pid := l.childPID()
			eventually(t, "the child to be gone", func() bool { return gone(pid) })
			eventually(t, "the child to be forgotten", func() bool { return slices.Contains(l.book.all(), "A Forget 2") })
			if n := l.sum(); n != 10 {
				t.Errorf("%d counts, want 10", n)
			}
		})
	}
}

// The whole way without a service manager, with the real hook and a child that is
// a process; and the hook that is told to stop half way.
func TestHook(t *testing.T) {
	t.Run("good", func(t *testing.T) {
		t.Parallel()
		l := goLive(t, "at probation do count=3")
		l.hook()
		if err := <-l.err; err != nil {
			t.Fatal(err)
		}
		l.wantLast("ok", "")
		if want := fmt.Sprintf("belayd: epoch 2 (process %d) is main\n", l.childPID()); l.out.String() != want {
			t.Errorf("output %q, want %q", l.out.String(), want)
		}
		inOrder(t, l.lines(), "committed", "BeforeRelease 1", "parent Drain", "Main")
	})
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		l := goLive(t)
		l.do(func() { l.Node.o.Probation = time.Hour })
		l.hook()
		eventually(t, "probation", func() bool { return slices.Contains(l.lines(), "committed") })
		l.stop <- syscall.SIGTERM
		if err := <-l.err; !errors.Is(err, ErrStopped) {
			t.Errorf("the hook: %v", err)
		}
		l.wantLast("rolled back", ErrStopped.Error())
		pid := l.childPID()
		eventually(t, "the child to be gone", func() bool { return gone(pid) })
	})
}

// What a hook says where there is nobody to replace, or no telling whom.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	find := func(o HookOptions) string {
		o.Directories = []string{"/nonexistent", dir}
		_, err := find(&o)
		return fmt.Sprint(err)
	}
	if got := find(HookOptions{BaseID: -1}); got != "no running belayd in "+dir {
		t.Error(got)
	}
	for base := range 2 {
		o := testOptions(dir)
		o.BaseID = base
		n, err := Cold(o)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
	}
	if got := find(HookOptions{BaseID: -1}); !strings.Contains(got, "several base ids in "+dir+": [0 1]; name one with --base-id") {
		t.Error(got)
	}
	if got := find(HookOptions{BaseID: 1}); !strings.Contains(got, "no running belayd with base id 1") {
		t.Error(got) // it has not begun to serve
	}
	if got := find(HookOptions{BaseID: 1, MainPID: 1}); !strings.Contains(got, "process 1 has no hot restart (base id 1 in ") {
		t.Error(got)
	}
	if got := find(HookOptions{BaseID: -1, MainPID: os.Getpid()}); got != "<nil>" {
		t.Error(got)
	}
}
