package systemd

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/key", []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x of the descriptor, %v: a program that is started would get it", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_PATH == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/key", fd)); string(data) != "s3cret" {
		t.Errorf("by the descriptor: %q, %v", data, err)
	}
	for path, want := range map[string]error{dir: unix.ENOENT, dir + ".moved/key": unix.ENOTDIR} {
		if fd, err := OpenDirectory(path); fd != -1 || !errors.Is(err, want) {
			t.Errorf("%s: descriptor %d, %v", path, fd, err)
		}
	}
}
