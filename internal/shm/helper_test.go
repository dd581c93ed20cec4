package shm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests are about several processes, so the test binary runs itself again as
// the other ones. Such a helper does what its standard input says, one command a
// line, and ends with its input, so none outlives the test.

const helperVariable = "BELAY_SHM_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		runHelper()
		return
	}
	os.Exit(m.Run())
}

type helper struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	pid  int
	once sync.Once
}

// startHelper runs a helper; with a path it has the segment open.
func startHelper(t *testing.T, path string, attr *syscall.SysProcAttr) *helper {
	t.Helper()
	h := &helper{t: t, cmd: exec.Command(os.Args[0])}
	h.cmd.Env = append(os.Environ(), helperVariable+"=1")
	h.cmd.Stderr = os.Stderr
	h.cmd.SysProcAttr = attr
	var err error
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.out = bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		if attr != nil && errors.Is(err, os.ErrPermission) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	h.pid = h.cmd.Process.Pid
	t.Cleanup(h.kill)
	if path != "" {
		h.do("open", path)
	}
	return h
}

// send gives a command and does not wait.
func (h *helper) send(words ...string) {
	h.t.Helper()
	if _, err := fmt.Fprintln(h.in, strings.Join(words, "\t")); err != nil {
		h.t.Fatalf("%s: %v", words[0], err)
	}
}

// answer waits for the end of a command.
func (h *helper) answer() string {
	h.t.Helper()
	line, err := h.out.ReadString('\n')
	if err != nil {
		h.t.Fatalf("helper %d: %v", h.pid, err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (h *helper) ask(words ...string) string {
	h.t.Helper()
	h.send(words...)
	return h.answer()
}

// do is ask for a command that must succeed.
func (h *helper) do(words ...string) string {
	h.t.Helper()
	text, ok := strings.CutPrefix(h.ask(words...), "ok ")
	if !ok {
		h.t.Fatalf("%v: %s", words, text)
	}
	return text
}

// kill ends the helper as a crash does, and waits until it is gone.
func (h *helper) kill() {
	h.once.Do(func() {
		_ = h.cmd.Process.Kill()
		_ = h.in.Close()
		_ = h.cmd.Wait()
	})
}

func (h *helper) signal(s syscall.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		h.t.Fatal(err)
	}
}

// stop halts the helper, and returns when it does not run any more.
func (h *helper) stop() {
	h.t.Helper()
	h.signal(syscall.SIGSTOP)
	eventually(h.t, "the helper is stopped", func() bool {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(h.pid) + "/stat")
		return err == nil && strings.Contains(string(text), ") T ")
	})
}

// eventually waits for a condition; the limit is for a broken one.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// runHelper is a helper's main.
func runHelper() {
	var w worker
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		words := strings.Split(in.Text(), "\t")
		text, err := w.run(words[0], words[1:])
		if err != nil {
			fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Println("ok", text)
	}
}

type worker struct {
	s    *Segment
	slot *Slot
}

func (w *worker) run(command string, args []string) (text string, err error) {
	number := func(i int) (n uint64) {
		if err == nil {
			n, err = strconv.ParseUint(args[i], 10, 64)
		}
		return n
	}
	switch command {
	case "open":
		var repairs []Repair
		w.s, repairs, err = Open(args[0])
		return fmt.Sprint(repairs), err
	case "join":
		w.slot, err = w.s.Join(number(0), State(number(1)))
	case "beat":
		w.slot.Beat()
	case "leave":
		w.slot.Leave()
	case "init":
		ok, owner := w.s.BeginInit(Self(), number(0))
		return fmt.Sprintf("%v %d %d", ok, owner.PID, owner.Epoch), err
	case "lock":
		w.s.locker(args[0]).Lock()
	case "unlock":
		defer func() { err = asError(recover()) }()
		w.s.locker(args[0]).Unlock()
	case "count":
		err = count(w.s.LogLock(), args[0], number(1))
	case "race":
		return race(args[0], number(1))
	case "become":
		err = syscall.Setuid(int(number(0)))
	case "hide-proc":
		err = unix.Mount("none", "/proc", "tmpfs", 0, "")
	case "alive":
		return strconv.FormatBool(Identity{int(number(0)), number(1)}.Alive()), err
	default:
		err = errors.New("unheard of: " + command)
	}
	return "", err
}

func asError(v any) error {
	if v == nil {
		return nil
	}
	return fmt.Errorf("panic: %v", v)
}

func (s *Segment) locker(name string) sync.Locker {
	if name == "access" {
		return s.AccessLogLock()
	}
	return s.LogLock()
}

func lockOnce(l sync.Locker) {
	l.Lock()
	defer l.Unlock()
}

// count adds n to the number in a file, by reading and writing it n times: the
// sum is right only if nobody else does so between the two.
func count(l sync.Locker, path string, n uint64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for range n {
		if err := addOne(l, f); err != nil {
			return err
		}
	}
	return nil
}

func addOne(l sync.Locker, f *os.File) error {
	l.Lock()
	defer l.Unlock()
	var b [8]byte
	if _, err := f.ReadAt(b[:], 0); err != nil && err != io.EOF {
		return err
	}
	binary.LittleEndian.PutUint64(b[:], binary.LittleEndian.Uint64(b[:])+1)
	_, err := f.WriteAt(b[:], 0)
	return err
}

// race reserves n epochs, each through a segment it opens for it.
func race(path string, n uint64) (string, error) {
	var list []string
	for range n {
		s, _, err := Open(path)
		if err != nil {
			return "", err
		}
		epoch, err := s.NextEpoch()
		if err != nil {
			return "", err
		}
		if err := s.Close(); err != nil {
			return "", err
		}
		list = append(list, strconv.FormatUint(epoch, 10))
	}
	return strings.Join(list, " "), nil
}

func segmentPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "hot-0.shm")
}

func open(t testing.TB, path string) (*Segment, []Repair) {
	t.Helper()
	s, repairs, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, repairs
}

// openClean is open where there is nothing to repair.
func openClean(t testing.TB, path string) *Segment {
	t.Helper()
	s, repairs := open(t, path)
	if len(repairs) > 0 {
		t.Errorf("repairs: %v", repairs)
	}
	return s
}

func nextEpoch(t testing.TB, s *Segment) uint64 {
	t.Helper()
	n, err := s.NextEpoch()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func join(t testing.TB, s *Segment, epoch uint64, st State) *Slot {
	t.Helper()
	slot, err := s.Join(epoch, st)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// wantRepair checks that there is one repair, which says all of it.
func wantRepair(t *testing.T, repairs []Repair, parts ...string) {
	t.Helper()
	if len(repairs) != 1 {
		t.Fatalf("repairs: %v; want one with %q", repairs, parts)
	}
	for _, p := range parts {
		if !strings.Contains(repairs[0].What, p) {
			t.Errorf("repair %q does not say %q", repairs[0].What, p)
		}
	}
}
