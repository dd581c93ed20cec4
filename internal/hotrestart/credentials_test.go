package hotrestart

import (
	"errors"
	"fmt"
	"os"
	"testing"

	pb "belay/internal/hotrestart/hotrestartpb"

	"golang.org/x/sys/unix"
)

// secrets is a directory with a secret in it, as its path and as the service
// manager's first process has it.
func secrets(t *testing.T) (path string, dir *os.File) {
	t.Helper()
	path = t.TempDir()
	if err := os.WriteFile(path+"/key", []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir = os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = dir.Close() })
	return path, dir
}

// wantCopies waits until this process has so many descriptors of a directory: a
// Conn closes those that nobody takes on its own goroutine.
func wantCopies(t *testing.T, path string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d descriptors of %s", want, path), func() bool {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range list {
			if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to == path {
				n++
			}
		}
		return n == want
	})
}

// Every generation gets a descriptor of its own from the one before, which may
// have ended since then, and the path need not lead there any more. It is none of
// the listen sockets, and no program that a process starts gets it.
func TestCredentialsThroughGenerations(t *testing.T) {
	path, dir := secrets(t)
	a := cold(t, nil, func(g *generation) { g.dir = dir })
	want := inode(t, a.Credentials())
	moved := path + ".unreachable"
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	last := a
	for _, name := range []string{"B", "C"} {
		next := last.restart(name)
		fd := next.Credentials()
		if fd < 0 || fd == last.Credentials() || inode(t, fd) != want {
			t.Fatalf("%s has descriptor %d, the one before has %d", name, fd, last.Credentials())
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: flags %#x, %v", name, flags, err)
		}
		sockets := 0
		for _, g := range last.groups {
			sockets += len(g.FDs)
		}
		if n := int(next.from.Info.Descriptors); n != sockets {
			t.Errorf("%s was told of %d sockets, there are %d", name, n, sockets)
		}
		last.exit()
		_ = last.dir.Close()
		last = next
	}
	if data, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/key", last.Credentials())); string(data) != "s3cret" {
		t.Errorf("the last generation reads %q, %v", data, err)
	}
	wantCopies(t, moved, 1)
}

// Who has no credentials passes none.
func TestNoCredentials(t *testing.T) {
	a := cold(t, nil)
	b := a.restart("B")
	if fd := b.Credentials(); fd != -1 {
		t.Errorf("B has descriptor %d", fd)
	}
	a.exit()
	if fd := b.restart("C").Credentials(); fd != -1 {
		t.Errorf("C has descriptor %d", fd)
	}
}

// A restart that fails leaves no descriptor behind, at whatever point it does, and
// the next one passes it again.
func TestCredentialsOfAFailedRestart(t *testing.T) {
	state := &pb.Message{Body: &pb.Message_State{State: &pb.State{}}}
	for _, tt := range []struct {
		name string
		do   func(*testing.T, *hookEnd)
	}{
		{"before they are asked for", func(t *testing.T, h *hookEnd) {
			p := mustConnect(t, h)
			p.Fail(errors.New("no such file"))
			p.Conn.Close()
		}},
		{"the child has gone", func(t *testing.T, h *hookEnd) {
			p := mustConnect(t, h)
			p.Conn.Close()
			if _, fd, err := p.State(); err == nil || fd != -1 {
				t.Errorf("descriptor %d, error %v", fd, err)
			}
		}},
		{"the child takes no credentials", func(t *testing.T, h *hookEnd) { // as those before them do
			p := mustConnect(t, h)
			if _, err := p.call(state); err != nil {
				t.Error(err)
			}
			p.Conn.Close()
		}},
		{"the child fails with them", func(t *testing.T, h *hookEnd) {
			c := h.prepare("B")
			c.from.Fail(errors.New("no such file"))
			h.to.wantLast("failed", "no such file")
			c.leave()
			_ = c.dir.Close() // the process's
		}},
		{"the parent takes it back", func(t *testing.T, h *hookEnd) {
			c := h.commit("B")
			c.from.Probed(errors.New("listener.web does not answer"))
			h.to.wantLast("rolled back", "does not answer")
			c.exit()
			_ = c.dir.Close()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, dir := secrets(t)
			a := cold(t, nil, func(g *generation) { g.dir = dir })
			tt.do(t, a.begin())
			eventually(t, "the restart to end", func() bool { return a.Status().Phase == "" })
			wantCopies(t, path, 1)
			if fd := a.restart("N").Credentials(); fd < 0 || inode(t, fd) != inode(t, a.Credentials()) {
				t.Errorf("the next restart passes descriptor %d", fd)
			}
		})
	}
}

func mustConnect(t *testing.T, h *hookEnd) *Parent {
	t.Helper()
	p, err := h.connect()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A parent that sends more than there is to send leaves nothing behind.
func TestCredentialsMoreThanOne(t *testing.T) {
	path, dir := secrets(t)
	fd := int(dir.Fd())
	conn, err := Dial(serveWith(t, func(r *Request) {
		r.Reply(&pb.Message{Body: &pb.Message_StateReply{StateReply: &pb.StateReply{}}}, fd, fd, fd)
	}), patience, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := &Parent{Conn: conn, Info: &pb.HelloReply{Version: MaxVersion}, o: testOptions(t.TempDir())}
	_, got, err := p.State()
	if err != nil || inode(t, got) != inode(t, fd) {
		t.Fatalf("descriptor %d, %v", got, err)
	}
	wantCopies(t, path, 2)
	_ = unix.Close(got)
	wantCopies(t, path, 1)
}

func serveWith(t *testing.T, handle func(*Request)) string {
	t.Helper()
	path := t.TempDir() + "/s"
	s, err := Serve(path, handle, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return path
}
