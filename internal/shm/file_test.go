package shm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenMakesTheFile(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for _, umask := range []int{0, 0o777} {
		syscall.Umask(0o077)
		path := segmentPath(t)
		syscall.Umask(umask)
		s := openClean(t, path)
		syscall.Umask(0o077)
		for _, p := range []string{path, path + ".lock"} {
			st, err := os.Stat(p)
			if err != nil {
				t.Fatal(err)
			}
			if st.Mode() != 0o600 {
				t.Errorf("umask %03o: the mode of %s is %v", umask, filepath.Base(p), st.Mode())
			}
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content, blank(1)) || !strings.HasPrefix(string(content), "belayshm") {
			t.Errorf("it begins with %q", content[:32])
		}
		if i := s.Info(); i != (Info{Version: Version, Size: segmentSize, NextEpoch: 1}) {
			t.Errorf("%+v", i)
		}
		left, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(left) != 2 {
			t.Errorf("%v, %v", left, err)
		}
	}
}

func TestOpenInNoDirectory(t *testing.T) {
	if _, _, err := Open(filepath.Join(t.TempDir(), "none", "hot-0.shm")); err == nil {
		t.Error("no error")
	}
}

func TestEpochsGoOn(t *testing.T) {
	path := segmentPath(t)
	for i := range uint64(3) {
		s := openClean(t, path)
		if n := nextEpoch(t, s); n != i+1 {
			t.Errorf("epoch %d, want %d", n, i+1)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	h := startHelper(t, "", nil)
	if a := h.do("race", path, "1"); a != "4" {
		t.Errorf("epoch %s in another process", a)
	}
	checkClosed(t, path)
}

// damage is something wrong with a file, and what is said about it.
type damage struct {
	name  string
	do    func(t *testing.T, path string)
	fault string
	epoch uint64 // the next one after the repair; the file had 41
}

func poke(offset int64, value uint64) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, value), offset); err != nil {
			t.Fatal(err)
		}
	}
}

func resize(size int64) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
}

// harmless are the damages that a living user of the file survives.
func harmless() []damage {
	return []damage{
		{"magic", poke(0, 0x1234), "the magic is 0x1234", 41},
		{"older version", poke(8, Version-1), fmt.Sprintf("the version is %d, want %d", Version-1, Version), 41},
		{"newer version", poke(8, Version+1), fmt.Sprintf("the version is %d, want %d", Version+1, Version), 41},
		{"next epoch 0", poke(16, 0), "the next epoch is 0", 1},
		{"next epoch far", poke(16, maxEpoch/2), "out of range", 1},
		{"stated size", poke(24, 8192), "it says that its size is 8192", 41},
		{"too large", resize(8192), "the size is 8192 bytes, want 4096", 41},
		{"magic and version", func(t *testing.T, path string) {
			poke(0, 1)(t, path)
			poke(8, 99)(t, path)
		}, "the version is 99", 1},
		{"mode", func(t *testing.T, path string) {
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "the mode is 0644, want 0600", 41},
		{"setuid", func(t *testing.T, path string) {
			if err := unix.Chmod(path, 0o4600); err != nil {
				t.Fatal(err)
			}
		}, "the mode is 4600", 41},
		{"owner", func(t *testing.T, path string) {
			if os.Getuid() != 0 {
				t.Skip("only root can give files away")
			}
			if err := os.Chown(path, 4711, -1); err != nil {
				t.Fatal(err)
			}
		}, "the owner is user 4711, want 0", 41},
	}
}

// other are those that need another file in the place.
func other() []damage {
	replace := func(f func(path string) error) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := f(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	return []damage{
		{"empty", resize(0), "the size is 0 bytes, want 4096; it has no header", 1},
		{"half", resize(2048), "the size is 2048 bytes", 41},
		{"header only", resize(frozenSize), "the size is 24 bytes", 41},
		{"text", replace(func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("hello\n"), 100), 0o600) }), "the magic is", 1},
		{"directory", replace(func(p string) error { return os.Mkdir(p, 0o700) }), "a directory", 1},
		{"symbolic link", replace(func(p string) error { return os.Symlink("/etc/passwd", p) }), "a symbolic link", 1},
		{"named pipe", replace(func(p string) error { return unix.Mkfifo(p, 0o600) }), "a named pipe", 1},
		{"socket", replace(func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o600, 0) }), "a socket", 1},
	}
}

// left is a segment with the next epoch 41, as a process leaves it.
func left(t *testing.T) string {
	t.Helper()
	path := segmentPath(t)
	s, _ := open(t, path)
	s.m.nextEpoch.Store(41)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenRepairs(t *testing.T) {
	for _, d := range append(harmless(), other()...) {
		t.Run(d.name, func(t *testing.T) {
			path := left(t)
			d.do(t, path)
			s, repairs := open(t, path)
			wantRepair(t, repairs, d.fault, "made anew")
			if n := nextEpoch(t, s); n != d.epoch {
				t.Errorf("epoch %d, want %d", n, d.epoch)
			}
			openClean(t, path)
		})
	}
}

func TestOpenDoesNotRepairWhatIsUsed(t *testing.T) {
	for _, d := range harmless() {
		t.Run(d.name, func(t *testing.T) {
			path := left(t)
			a, b := startHelper(t, path, nil), startHelper(t, path, nil)
			d.do(t, path)
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			s, _, err := Open(path)
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			pids := []int{a.pid, b.pid}
			slices.Sort(pids)
			for _, part := range []string{d.fault, path, fmt.Sprintf("in use by processes %d, %d", pids[0], pids[1])} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("the file was replaced, %v", err)
			}
			a.kill()
			b.kill()
			s, repairs := open(t, path)
			wantRepair(t, repairs, d.fault)
			if n := nextEpoch(t, s); n != d.epoch {
				t.Errorf("epoch %d, want %d", n, d.epoch)
			}
		})
	}
}

func TestOpenWithAFullDirectoryInTheWay(t *testing.T) {
	path := segmentPath(t)
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(path); err == nil || !strings.Contains(err.Error(), "a directory") || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("%v", err)
	}
}

// A slot can have an epoch that the header does not know of, if the header was
// damaged: it is not used again.
func TestEpochsOfTheDeadAreNotUsedAgain(t *testing.T) {
	path := segmentPath(t)
	h := startHelper(t, path, nil)
	h.do("join", "7", "5")
	h.kill()
	poke(16, 3)(t, path)
	s, repairs := open(t, path)
	wantRepair(t, repairs, "epoch 7")
	if n := nextEpoch(t, s); n != 8 {
		t.Errorf("epoch %d", n)
	}
}

// A process of the boot before can have the id and the start time of a living
// one; nobody has the file open, so it is not that one.
func TestOpenAloneTrustsNoIdentity(t *testing.T) {
	path := segmentPath(t)
	s, _ := open(t, path)
	me := Self().word()
	s.m.slots[5].owner.Store(me)
	s.m.init.owner.Store(me)
	s.m.log.owner.Store(me)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, repairs := open(t, path)
	if len(repairs) != 3 || len(s.Processes()) != 0 || s.m.log.owner.Load() != 0 {
		t.Errorf("%v", repairs)
	}
	if _, ok := s.Initializing(); ok {
		t.Error("the flag is set")
	}
}

func TestOpenRaces(t *testing.T) {
	for name, prepare := range map[string]func(string) error{
		"no file":   func(string) error { return nil },
		"bad file":  func(p string) error { return os.WriteFile(p, []byte("bad"), 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			const helpers, rounds, n = 4, 8, 25
			var list []*helper
			for range helpers {
				list = append(list, startHelper(t, "", nil))
			}
			for range rounds {
				path := segmentPath(t)
				if err := prepare(path); err != nil {
					t.Fatal(err)
				}
				for _, h := range list {
					h.send("race", path, strconv.Itoa(n))
				}
				seen := make(map[string]bool)
				for _, h := range list {
					text, ok := strings.CutPrefix(h.answer(), "ok ")
					if !ok {
						t.Fatal(text)
					}
					for epoch := range strings.FieldsSeq(text) {
						if seen[epoch] {
							t.Fatalf("epoch %s came twice", epoch)
						}
						seen[epoch] = true
					}
				}
				if len(seen) != helpers*n {
					t.Errorf("%d epochs", len(seen))
				}
			}
		})
	}
}

// One holds it; and one that was removed while somebody waited for it guards
// nothing.
func TestGuard(t *testing.T) {
	path := segmentPath(t)
	g, err := takeGuard(path+".lock", os.Getuid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeGuard(path+".lock", os.Getuid(), 0); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("by process %d", os.Getpid())) {
		t.Errorf("while it is held: %v", err)
	}
	if !g.is(path + ".lock") {
		t.Error("it is not the one at its path")
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if g.is(path + ".lock") {
		t.Error("a removed one counts")
	}
	openClean(t, path)
	if g.is(path + ".lock") {
		t.Error("another one counts")
	}
	g.release()
}

func TestGuardIsHeldOnlyByOpen(t *testing.T) {
	path := segmentPath(t)
	openClean(t, path)
	g, err := takeGuard(path+".lock", os.Getuid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	g.release()
}

func TestGuardOfAnotherKind(t *testing.T) {
	path := segmentPath(t)
	if err := unix.Mkfifo(path+".lock", 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(path); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("%v", err)
	}
}

func TestOpenWithoutProc(t *testing.T) {
	path := segmentPath(t)
	user := startHelper(t, path, nil)
	user.do("join", "1", "5")
	h := hidden(t, "")
	if a := h.ask("open", path); a != "ok []" {
		t.Errorf("%s", a)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if a := h.ask("open", path); !strings.Contains(a, fmt.Sprintf("in use by process %d", user.pid)) {
		t.Errorf("the slots name it: %s", a)
	}
	poke(8, 99)(t, path)
	if a := h.ask("open", path); !strings.Contains(a, "a process that cannot be named") {
		t.Errorf("nothing names it: %s", a)
	}
}

// Root's commands must leave the service's files to the service.
func TestOpenByRootInAnothersDirectory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	const service = 4711
	path := segmentPath(t)
	dir := filepath.Dir(path)
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, service, -1); err != nil {
		t.Fatal(err)
	}
	openClean(t, path)
	h := startHelper(t, "", nil)
	h.do("become", strconv.Itoa(service))
	if a := h.ask("open", path); a != "ok []" {
		t.Error(a)
	}
}

// What another user left, and may not be opened, is replaced if the kernel says
// that nobody uses it.
func TestOpenOfAnotherUsersFile(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	const service = 4711
	path := left(t)
	dir := filepath.Dir(path)
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	user := startHelper(t, path, nil)
	for _, p := range []string{dir, path + ".lock"} {
		if err := os.Chown(p, service, -1); err != nil {
			t.Fatal(err)
		}
	}
	h := startHelper(t, "", nil)
	h.do("become", strconv.Itoa(service))
	if a := h.ask("open", path); !strings.Contains(a, "the owner is user 0, want 4711; not repaired") || !strings.Contains(a, fmt.Sprintf("process %d", user.pid)) {
		t.Error(a)
	}
	user.kill()
	if a := h.ask("open", path); !strings.Contains(a, "ok ") || !strings.Contains(a, "the owner is user 0") {
		t.Error(a)
	}
}

func TestParseLocks(t *testing.T) {
	const text = `1: POSIX  ADVISORY  WRITE 11 00:1a:774 0 EOF
2: FLOCK  ADVISORY  READ  14 00:1a:774 0 EOF
2: -> FLOCK  ADVISORY  WRITE 15 00:1a:774 0 EOF
3: FLOCK  ADVISORY  WRITE 12 00:1a:774 0 EOF
4: FLOCK  ADVISORY  READ  14 00:1a:774 0 EOF
5: FLOCK  ADVISORY  READ  0 00:1a:774 0 EOF
6: FLOCK  ADVISORY  READ  13 00:1b:774 0 EOF
7: FLOCK
`
	if got := parseLocks(text, "00:1a:774"); !slices.Equal(got, []int{12, 14}) {
		t.Errorf("%v", got)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("belayshm"))
	f.Add(blank(1))
	f.Add(blank(maxEpoch/2 - 1))
	f.Add(bytes.Repeat([]byte{0xff}, segmentSize))
	full := blank(5)
	for i := 64; i < 1280; i++ {
		full[i] = byte(i)
	}
	f.Add(full)
	f.Fuzz(func(t *testing.T, content []byte) {
		path := segmentPath(t)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _ := open(t, path)
		epoch := nextEpoch(t, s)
		join(t, s, epoch, StateServing)
		if p := s.Processes(); len(p) != 1 || p[0].Epoch != epoch || nextEpoch(t, s) <= epoch {
			t.Errorf("%+v", p)
		}
		for _, l := range []string{"log", "access"} {
			lockOnce(s.locker(l))
		}
		if ok, o := s.BeginInit(Self(), epoch); !ok {
			t.Errorf("BeginInit: %+v", o)
		}
		if epoch < maxEpoch/2-2 { // else two epochs were its last
			openClean(t, path)
		}
	})
}
