package shm

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	const tail = " 1 812 812 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 8 0 4711 1000 200"
	for _, tt := range []struct {
		name, text string
		start      uint64
		zombie, ok bool
	}{
		{"OK", "812 (belayd) S" + tail, 4711, false, true},
		{"OK name with blanks and parentheses", "812 (a) Z 1 (b ) c) R" + tail, 4711, false, true},
		{"OK stopped", "812 (belayd) T" + tail, 4711, false, true},
		{"OK zombie", "812 (belayd) Z" + tail, 4711, true, true},
		{"OK dead", "812 (belayd) X" + tail, 4711, true, true},
		{"OK more bits than a word has", "812 (belayd) S" + strings.Replace(tail, "4711", strconv.FormatUint(1<<63|7, 10), 1), 7, false, true},
		{"bad empty", "", 0, false, false},
		{"bad short", "812 (belayd) S 1 812", 0, false, false},
		{"bad number", "812 (belayd) S" + strings.Replace(tail, "4711", "x", 1), 0, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start, zombie, err := parseStat([]byte(tt.text))
			if (err == nil) != tt.ok || start != tt.start && tt.ok || zombie != tt.zombie {
				t.Errorf("start %d, zombie %v, error %v", start, zombie, err)
			}
		})
	}
}

func TestIdentityWord(t *testing.T) {
	for _, id := range []Identity{{1, 0}, {1, 1}, {1<<22 - 1, 1<<41 - 1}, {812, 1 << 40}, Self()} {
		if w := id.word(); w&flag != 0 || w == 0 || identity(w) != id || identity(w|flag) != id {
			t.Errorf("%+v is %#x, which is %+v", id, w, identity(w))
		}
	}
}

func TestIdentityOfSelf(t *testing.T) {
	id := Self()
	if id.PID != os.Getpid() || id.Start == 0 || !id.Alive() {
		t.Errorf("%+v, alive %v", id, id.Alive())
	}
	if of, err := Of(id.PID); err != nil || of != id {
		t.Errorf("Of: %+v, %v", of, err)
	}
}

func TestIdentityIsNotFooledByPIDReuse(t *testing.T) {
	id := Self()
	id.Start--
	if id.Alive() {
		t.Error("a process that started at another time is taken for it")
	}
}

func TestIdentityOfTheDead(t *testing.T) {
	h := startHelper(t, "", nil)
	id, err := Of(h.pid)
	if err != nil || !id.Alive() {
		t.Fatalf("%+v, alive %v: %v", id, id.Alive(), err)
	}
	h.stop()
	if !id.Alive() {
		t.Error("a stopped process counts as dead")
	}
	h.kill()
	if id.Alive() || (Identity{PID: id.PID}).Alive() || (Identity{}).Alive() || (Identity{PID: -1}).Alive() {
		t.Error("a dead process counts as alive")
	}
	if _, err := Of(h.pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Of a dead process: %v", err)
	}
}

func TestIdentityOfAZombie(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	pid := cmd.Process.Pid
	eventually(t, "the process is a zombie", func() bool {
		_, zombie, err := stat(pid)
		return err == nil && zombie
	})
	start, _, err := stat(pid)
	if err != nil {
		t.Fatal(err)
	}
	if (Identity{pid, start}).Alive() {
		t.Error("a process that has exited counts as alive")
	}
	if _, err := Of(pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Of: %v", err)
	}
}

// hidden starts a helper that sees nothing in /proc.
func hidden(t *testing.T, path string) *helper {
	t.Helper()
	h := startHelper(t, path, &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER, Unshareflags: syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN}, // kept through exec, for the mount
	})
	if a := h.ask("hide-proc"); a != "ok " {
		t.Skipf("cannot hide /proc: %s", a)
	}
	return h
}

func TestIdentityWithoutProc(t *testing.T) {
	h := hidden(t, "")
	victim := startHelper(t, "", nil)
	alive := func() string { return h.do("alive", strconv.Itoa(victim.pid), "4711") }
	if a := alive(); a != "true" {
		t.Errorf("a living process that /proc hides: %s", a)
	}
	victim.kill()
	if a := alive(); a != "false" {
		t.Errorf("a dead process that /proc hides: %s", a)
	}
}
