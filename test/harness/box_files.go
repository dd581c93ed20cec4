package harness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// open opens a path of the box. Symbolic links, absolute ones too, are followed
// inside it, which /proc/PID/root with the path behind it would not do.
func (b *Box) open(name string, flags int) (int, error) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", b.init), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("root of the box: %w", err)
	}
	defer func() { _ = unix.Close(root) }()
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(root, name, how)
	if err != nil {
		return -1, &os.PathError{Op: "open in the box", Path: name, Err: err}
	}
	return fd, nil
}

// TryReadFile reads a file of the box.
func (b *Box) TryReadFile(name string) (string, error) {
	fd, err := b.open(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(f)
	return string(data), err
}

// ReadFile reads a file of the box and fails the test if that does not work.
func (b *Box) ReadFile(name string) string {
	b.t.Helper()
	data, err := b.TryReadFile(name)
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// WriteFile writes a file of the box with mode 0644, makes its folders, and
// replaces what is there at once, so that no reader sees a half.
func (b *Box) WriteFile(name, content string) {
	b.t.Helper()
	b.replace(name, 0o644, strings.NewReader(content))
}

// CopyFile copies a file of the host into the box like WriteFile, its mode too.
// A program that runs in the box may be replaced so.
func (b *Box) CopyFile(host, name string) {
	b.t.Helper()
	f, err := os.Open(host)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		b.t.Fatal(err)
	}
	b.replace(name, info.Mode().Perm(), f)
}

var replaced atomic.Int64

func (b *Box) replace(name string, mode os.FileMode, r io.Reader) {
	b.t.Helper()
	dir, base := path.Split(name)
	fd, err := b.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		b.MustExec("mkdir", "-p", dir)
		fd, err = b.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	temp := fmt.Sprintf(".%s.new%d", base, replaced.Add(1))
	out, err := unix.Openat(fd, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		b.t.Fatalf("write %s in the box: %v", name, err)
	}
	f := os.NewFile(uintptr(out), name)
	_, err = io.Copy(f, r)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = unix.Renameat(fd, temp, fd, base)
	}
	if err != nil {
		b.t.Fatalf("write %s in the box: %v", name, err)
	}
}

// Host is a path of the box as this process can use it, for the path of a Unix
// socket too. It must not lead over an absolute symbolic link, such as /var/run.
func (b *Box) Host(name string) string { return fmt.Sprintf("/proc/%d/root%s", b.init, name) }

// Dial connects to "ip:port" in the box's network or, with a slash in it, to a
// Unix socket of the box.
func (b *Box) Dial(addr string) *Conn {
	b.t.Helper()
	c, err := b.TryDial(addr)
	if err != nil {
		b.t.Fatalf("dial %s in the box: %v", addr, err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return Wrap(b.t, c)
}

// TryDial is Dial for tests that expect it may fail. The caller closes the connection.
func (b *Box) TryDial(addr string) (net.Conn, error) {
	if strings.Contains(addr, "/") {
		return TryDial("", b.Host(addr))
	}
	var c net.Conn
	var err error
	b.InNetwork(func() { c, err = TryDial("", addr) })
	return c, err
}

// InNetwork calls f on a thread that is in the network of the box: the sockets
// that f makes stay there, so NewBackendAt and NewDNS may serve inside. f must
// not leave it to other goroutines to make them. It may fail the test.
func (b *Box) InNetwork(f func()) {
	b.t.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked, so that the thread ends with the goroutine and nobody
		// else finds itself in that namespace.
		runtime.LockOSThread()
		var ns int
		ns, err = unix.Open(fmt.Sprintf("/proc/%d/ns/net", b.init), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(ns, unix.CLONE_NEWNET)
			_ = unix.Close(ns)
		}
		if err == nil {
			f()
		}
	}()
	<-done
	if err != nil {
		b.t.Fatalf("network of the box: %v", err)
	}
	if b.t.Failed() { // FailNow ended that goroutine only
		b.t.FailNow()
	}
}
