package admin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"belay/internal/admin/adminapi"
	"belay/internal/eventloop"
)

// versioned is a source that says which process it is.
type versioned struct {
	*source
	version string
}

func (v versioned) Status() adminapi.Status { return adminapi.Status{Version: v.version} }

func newVersion(t *testing.T, version string) *Server {
	return newServer(t, versioned{newSource(), version})
}

// dup is what SCM_RIGHTS does to a descriptor.
func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(n)
	return n
}

// behind tells which socket a descriptor leads to; "": none.
func behind(t *testing.T, fd int) string {
	t.Helper()
	text, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return text
}

// inheritAll has to serve all that from has.
func inheritAll(t *testing.T, from, to *Server) {
	t.Helper()
	for _, p := range from.Sockets() {
		if err := to.ServeInherited(p.Name, dup(t, p.FDs[0]), p.Address); err != nil {
			t.Fatal(err)
		}
	}
}

func nonblocking(t *testing.T, s *Server) bool {
	t.Helper()
	for _, p := range s.Sockets() {
		flags, _, no := syscall.Syscall(syscall.SYS_FCNTL, uintptr(p.FDs[0]), syscall.F_GETFL, 0)
		if no != 0 {
			t.Fatal(no)
		}
		if flags&syscall.O_NONBLOCK == 0 {
			return false
		}
	}
	return true
}

// pair is two processes with the same sockets.
type pair struct {
	dir, path string
	metrics   string // host:port
	old, next *Server
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{dir: t.TempDir(), old: newVersion(t, "old"), next: newVersion(t, "next")}
	p.path = filepath.Join(p.dir, "admin.sock")
	if err := p.old.ServeUnix(p.path); err != nil {
		t.Fatal(err)
	}
	if err := p.old.ServeMetrics(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	p.metrics = p.old.served[1].ln.Addr().String()
	inheritAll(t, p.old, p.next)
	return p
}

// who asks which process answers at path.
func who(t *testing.T, path string) string {
	t.Helper()
	c := adminapi.NewClient(path)
	defer c.Close()
	st, err := c.Status(t.Context())
	if err != nil {
		return err.Error()
	}
	return st.Version
}

func TestSockets(t *testing.T) {
	s := newVersion(t, "old")
	path := filepath.Join(t.TempDir(), "s")
	metrics := netip.MustParseAddrPort("127.0.0.1:0")
	if err := errors.Join(s.ServeUnix(path), s.ServeMetrics(metrics)); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ServeListener(other); err != nil {
		t.Fatal(err)
	}
	list := s.Sockets()
	want := []Passed{{SocketAdmin, eventloop.Address{Unix: path}, nil}, {SocketMetrics, eventloop.Address{AP: metrics}, nil}}
	if !slices.EqualFunc(list, want, func(a, b Passed) bool { return a.Name == b.Name && a.Address == b.Address && len(a.FDs) == 1 }) {
		t.Errorf("%+v", list)
	}
	if !nonblocking(t, s) {
		t.Error("a socket blocks")
	}
	if a, err := eventloop.ListensAt(list[0].FDs[0]); err != nil || a.Unix == path {
		t.Errorf("the kernel's name is %v, %v: this test knows it otherwise", a, err)
	}
	if err := s.Release(); err != nil {
		t.Error(err)
	}
	if list := s.Sockets(); len(list) != 0 {
		t.Errorf("after Release: %+v", list)
	}
}

func TestRelease(t *testing.T) {
	p := newPair(t)
	p.old.Pause()
	if err := p.old.Release(); err != nil {
		t.Fatal(err)
	}
	if err := p.old.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if v := who(t, p.path); v != "next" {
		t.Errorf("%s answers", v)
	}
	if err := p.next.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if left := names(t, p.dir); left != "" {
		t.Errorf("left behind: %q", left)
	}
}

// TestStepBack: the new process goes and the old one goes on.
func TestStepBack(t *testing.T) {
	for _, end := range []func(*Server) error{
		func(s *Server) error { return s.Shutdown(context.Background()) },
		(*Server).Release,
	} {
		p := newPair(t)
		p.old.Pause()
		if v := who(t, p.path); v != "next" {
			t.Errorf("%s answers", v)
		}
		if err := end(p.next); err != nil {
			t.Error(err)
		}
		p.old.Resume()
		if v := who(t, p.path); v != "old" {
			t.Errorf("%s answers", v)
		}
	}
}

// TestReleaseOfChangedPath: the new process has another path; the old one's goes.
func TestReleaseOfChangedPath(t *testing.T) {
	dir := t.TempDir()
	old, next := newVersion(t, "old"), newVersion(t, "next")
	if err := errors.Join(old.ServeUnix(filepath.Join(dir, "a")), next.ServeUnix(filepath.Join(dir, "b"))); err != nil {
		t.Fatal(err)
	}
	if err := old.Release(); err != nil {
		t.Error(err)
	}
	if left := names(t, dir); left != "b" || who(t, filepath.Join(dir, "b")) != "next" {
		t.Errorf("%q is there", left)
	}
}

func TestReleaseLeavesOtherFiles(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"another's socket": func(path string) error {
			ln, err := net.Listen("unix", path)
			if err == nil {
				ln.(*net.UnixListener).SetUnlinkOnClose(false)
				err = ln.Close()
			}
			return err
		},
	} {
		s := newVersion(t, "old")
		path := filepath.Join(t.TempDir(), "s")
		if err := errors.Join(s.ServeUnix(path), os.Remove(path), put(path), s.Release()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}

// TestInheritWithoutFile: the path does not lead to the inherited socket.
func TestInheritWithoutFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	old, next := newVersion(t, "old"), newVersion(t, "next")
	if err := errors.Join(old.ServeUnix(path), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	inheritAll(t, old, next)
	if v := who(t, path); v != "next" {
		t.Errorf("%s answers", v)
	}
	if err := old.Release(); err != nil {
		t.Error(err)
	}
	if v := who(t, path); v != "next" || names(t, dir) != "s" {
		t.Errorf("%s answers, there is %q", v, names(t, dir))
	}

	third := newVersion(t, "third")
	if err := errors.Join(os.Remove(path), third.ServeUnix(path)); err != nil {
		t.Fatal(err)
	}
	passed := next.Sockets()[0]
	fourth := newVersion(t, "fourth")
	if err := fourth.ServeInherited(passed.Name, dup(t, passed.FDs[0]), passed.Address); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("another process has the path: %v", err)
	}
	if v := who(t, path); v != "third" {
		t.Errorf("%s answers", v)
	}
}

func TestServeInheritedErrors(t *testing.T) {
	p := newPair(t)
	sockets := p.old.Sockets()
	conn, err := net.Dial("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var connected int
	raw.Control(func(fd uintptr) { connected = dup(t, int(fd)) })
	for _, tt := range []struct {
		name, socket string
		fd           int
		at           eventloop.Address
		want         string
	}{
		{"a connection", SocketAdmin, connected, sockets[0].Address, "inherited admin socket unix:" + p.path + ": it does not listen: "},
		{"another name", "nix", dup(t, sockets[0].FDs[0]), sockets[0].Address, "inherited socket \"nix\": there is no such name"},
	} {
		socket := behind(t, tt.fd)
		err := p.next.ServeInherited(tt.socket, tt.fd, tt.at)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if behind(t, tt.fd) == socket {
			t.Errorf("%s: the descriptor is open", tt.name)
		}
	}
	closed := newVersion(t, "closed")
	if err := closed.Release(); err != nil {
		t.Fatal(err)
	}
	if err := closed.ServeInherited(SocketAdmin, dup(t, sockets[0].FDs[0]), sockets[0].Address); !errors.Is(err, errClosed) {
		t.Errorf("after Release: %v", err)
	}
	if v := who(t, p.path); v != "old" && v != "next" {
		t.Errorf("%s: the file is gone", v)
	}
}

// TestInheritedAddressIsThePath: messages name what people know.
func TestInheritedAddressIsThePath(t *testing.T) {
	p := newPair(t)
	if got := p.next.served[0].ln.Addr().String(); got != p.path {
		t.Errorf("%s", got)
	}
	if a, b := p.next.Sockets(), p.old.Sockets(); a[0].Address != b[0].Address || a[1].Address != b[1].Address {
		t.Errorf("%+v, %+v", a, b)
	}
}
