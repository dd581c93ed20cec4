package eventloop

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func loopback(port uint16) Address {
	return Address{AP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
}

// mustListen is a listening socket, closed with the test, and where it is.
func mustListen(t testing.TB, a Address, c ListenConfig) (int, Address) {
	t.Helper()
	fd, err := Listen(a, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if a.Unix == "" {
		if a.AP, err = LocalAddr(fd); err != nil {
			t.Fatal(err)
		}
	}
	return fd, a
}

// mustConnect is a connection that is being made, closed with the test.
func mustConnect(t testing.TB, a Address) int {
	t.Helper()
	fd, _, err := Connect(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func mustAccept(t testing.TB, fd int) (int, netip.AddrPort) {
	t.Helper()
	nfd, peer, errno := Accept(fd)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { unix.Close(nfd) })
	return nfd, peer
}

func option(t testing.TB, fd, level, opt int) int {
	t.Helper()
	v, err := unix.GetsockoptInt(fd, level, opt)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestListenAcceptConnect(t *testing.T) {
	any6 := netip.IPv6Unspecified()
	for _, tt := range []struct {
		name string
		at   Address
		to   func(Address) Address // where the client goes
		peer string                // address the server sees; "" for none
	}{
		{"IPv4", loopback(0), nil, "127.0.0.1"},
		{"IPv6", Address{AP: netip.AddrPortFrom(netip.IPv6Loopback(), 0)}, nil, "::1"},
		{"IPv4 on a wildcard for both", Address{AP: netip.AddrPortFrom(any6, 0)}, func(a Address) Address { return loopback(a.AP.Port()) }, "127.0.0.1"},
		{"IPv4 in IPv6 clothes", Address{AP: netip.MustParseAddrPort("[::ffff:127.0.0.1]:0")}, nil, "127.0.0.1"},
		{"Unix", Address{Unix: filepath.Join(t.TempDir(), "s")}, nil, ""},
		{"abstract", Address{Unix: "@belay-test-" + t.Name()}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fd, at := mustListen(t, tt.at, ListenConfig{Backlog: 5, Nodelay: tt.at.Unix == ""})
			if _, _, errno := Accept(fd); errno != syscall.EAGAIN {
				t.Fatalf("empty queue: %v, want EAGAIN", errno)
			}
			if tt.to != nil {
				at = tt.to(at)
			}
			c := mustConnect(t, at)
			s, peer := mustAccept(t, fd)
			if tt.peer == "" && peer != (netip.AddrPort{}) || tt.peer != "" && peer.Addr().String() != tt.peer {
				t.Errorf("peer is %v, want %q", peer, tt.peer)
			}
			if local, err := LocalAddr(c); err != nil || local != peer {
				t.Errorf("the client is %v, %v; the server sees %v", local, err, peer)
			}
			for _, fd := range []int{fd, s, c} {
				fl, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
				cl, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
				if fl&unix.O_NONBLOCK == 0 || cl&unix.FD_CLOEXEC == 0 {
					t.Errorf("descriptor flags %#x, %#x: want non-blocking and close-on-exec", fl, cl)
				}
			}
			// Linux copies TCP_NODELAY to accepted sockets; a call per accept is saved.
			if tt.at.Unix == "" && (option(t, s, unix.IPPROTO_TCP, unix.TCP_NODELAY) == 0 || option(t, c, unix.IPPROTO_TCP, unix.TCP_NODELAY) == 0) {
				t.Error("TCP_NODELAY is not set on both ends")
			}
			if e := SocketError(c); e != 0 {
				t.Errorf("SocketError is %v", e)
			}
		})
	}
}

func TestV6Only(t *testing.T) {
	_, at := mustListen(t, Address{AP: netip.AddrPortFrom(netip.IPv6Unspecified(), 0)}, ListenConfig{V6Only: true})
	w := newWorker(t)
	c := mustConnect(t, loopback(at.AP.Port()))
	add(t, w, c, Edge, func(Events) {})
	w.step(t)
	if e := SocketError(c); e != syscall.ECONNREFUSED {
		t.Errorf("IPv4 to an IPv6-only socket: %v, want refused", e)
	}
	// The IPv4 port is still free for another listener.
	mustListen(t, Address{AP: netip.AddrPortFrom(netip.IPv4Unspecified(), at.AP.Port())}, ListenConfig{})
}

func TestListenFails(t *testing.T) {
	_, used := mustListen(t, loopback(0), ListenConfig{})
	for _, tt := range []struct {
		name string
		at   Address
		want error
		msg  string
	}{
		{"in use", used, unix.EADDRINUSE, "listen on " + used.String() + ": address already in use"},
		{"not ours", Address{AP: netip.MustParseAddrPort("192.0.2.1:0")}, unix.EADDRNOTAVAIL, "listen on 192.0.2.1:0: "},
		{"none", Address{}, unix.EDESTADDRREQ, "listen on "},
		{"no folder", Address{Unix: "/nonexistent/s"}, fs.ErrNotExist, "listen on unix:/nonexistent/s: "},
		{"path too long", Address{Unix: "/tmp/" + strings.Repeat("x", 200)}, unix.EINVAL, "listen on unix:/tmp/"},
		{"unknown zone", Address{AP: netip.MustParseAddrPort("[fe80::1%nosuchif]:80")}, nil, "listen on [fe80::1%nosuchif]:80: zone nosuchif: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fd, err := Listen(tt.at, ListenConfig{})
			if fd != -1 || err == nil {
				t.Fatalf("Listen = %d, %v", fd, err)
			}
			if tt.want != nil && !errors.Is(err, tt.want) || !strings.HasPrefix(err.Error(), tt.msg) {
				t.Errorf("error %q, want %q and %v", err, tt.msg, tt.want)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	for _, tt := range []struct {
		name       string
		c          ListenConfig
		there, ask string
	}{
		{"plain listener", ListenConfig{}, "127.0.0.1", "127.0.0.1"},
		{"listener that shares", ListenConfig{ReusePort: true}, "127.0.0.1", "127.0.0.1"},
		{"wildcard that shares", ListenConfig{ReusePort: true}, "::", "::"},
		{"wildcard over one address", ListenConfig{ReusePort: true}, "127.0.0.1", "0.0.0.0"},
		{"wildcard of both families over one address", ListenConfig{ReusePort: true}, "127.0.0.1", "::"},
		{"one address under a wildcard", ListenConfig{ReusePort: true}, "::", "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fd, at := mustListen(t, Address{AP: netip.AddrPortFrom(netip.MustParseAddr(tt.there), 0)}, tt.c)
			at.AP = netip.AddrPortFrom(netip.MustParseAddr(tt.ask), at.AP.Port())
			c := ListenConfig{ReusePort: true, Backlog: 100}
			if err := Probe(at, c); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("Probe beside it: %v, want EADDRINUSE", err)
			}
			spare, _ := pair(t)
			if err := unix.Dup3(spare, fd, unix.O_CLOEXEC); err != nil { // closes it, keeps its number
				t.Fatal(err)
			}
			if err := Probe(at, c); err != nil {
				t.Errorf("Probe after it: %v", err)
			}
			mustListen(t, at, c)
		})
	}
}

func TestProbeUnixTouchesNothing(t *testing.T) {
	a := Address{Unix: filepath.Join(t.TempDir(), "s")}
	if err := Probe(a, ListenConfig{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(a.Unix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Probe left a file: %v", err)
	}
	mustListen(t, a, ListenConfig{})
	if err := Probe(a, ListenConfig{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("Probe of a live socket: %v", err)
	}
}

func TestUnixFiles(t *testing.T) {
	kinds := []struct {
		name  string
		make  func(t *testing.T, path string)
		want  error       // nil: Listen succeeds
		after fs.FileMode // what must be at the path
	}{
		{"nothing", func(*testing.T, string) {}, nil, fs.ModeSocket},
		{"a stale socket", func(t *testing.T, path string) {
			fd, err := Listen(Address{Unix: path}, ListenConfig{})
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
		}, nil, fs.ModeSocket},
		{"a live socket", func(t *testing.T, path string) { mustListen(t, Address{Unix: path}, ListenConfig{}) }, unix.EADDRINUSE, fs.ModeSocket},
		{"a live socket whose queue is full", func(t *testing.T, path string) {
			mustListen(t, Address{Unix: path}, ListenConfig{})
			for {
				fd, _, err := Connect(Address{Unix: path})
				if errors.Is(err, unix.EAGAIN) {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { unix.Close(fd) })
			}
		}, unix.EADDRINUSE, fs.ModeSocket},
		{"a live datagram socket", func(t *testing.T, path string) {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
			if err == nil {
				err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(fd) })
		}, unix.EADDRINUSE, fs.ModeSocket},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrExist, 0},
		{"a folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrExist, fs.ModeDir},
		{"a link", func(t *testing.T, path string) {
			if err := os.Symlink(path+".elsewhere", path); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrExist, fs.ModeSymlink},
	}
	for _, tt := range kinds {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			tt.make(t, path)
			fd, err := Listen(Address{Unix: path}, ListenConfig{Backlog: 1})
			if err == nil {
				defer unix.Close(fd)
				mustConnect(t, Address{Unix: path})
				mustAccept(t, fd)
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("Listen: %v, want %v", err, tt.want)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode().Type() != tt.after {
				t.Errorf("afterwards: %v, %v", info, err)
			}
		})
	}
}

func TestUnixMode(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077} {
		for _, tt := range []struct{ mode, want uint32 }{{0, 0o660}, {0o600, 0o600}, {0o666, 0o666}} {
			path := filepath.Join(t.TempDir(), "s")
			old := unix.Umask(umask)
			_, _ = mustListen(t, Address{Unix: path}, ListenConfig{UnixMode: tt.mode})
			unix.Umask(old)
			info, err := os.Lstat(path)
			if err != nil || uint32(info.Mode().Perm()) != tt.want {
				t.Errorf("umask %#o, mode %#o: file has %v, %v", umask, tt.mode, info.Mode().Perm(), err)
			}
		}
	}
}

// TestUnixModeIsNeverWider: the file appears with the mode of the socket, so
// that between bind and chmod nobody else may connect.
func TestUnixModeIsNeverWider(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	path := filepath.Join(t.TempDir(), "s")
	if err := unix.Fchmod(fd, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("bind made the file %v, %v; want 0600", info.Mode(), err)
	}
}

// TestTwoWorkersShareAPort: each polls a socket of its own, and the kernel gives
// both connections.
func TestTwoWorkersShareAPort(t *testing.T) {
	c := ListenConfig{ReusePort: true, Backlog: 128}
	first, at := mustListen(t, loopback(0), c)
	second, _ := mustListen(t, at, c)
	var accepted [2]atomic.Int64
	const total = 200
	done := make(chan struct{}, total)
	for i, fd := range []int{first, second} {
		w := startWorker(t)
		do(t, w, func() {
			_, err := w.Add(fd, eventFunc(func(Events) {
				for {
					nfd, _, errno := Accept(fd)
					if errno != 0 {
						return
					}
					unix.Close(nfd)
					accepted[i].Add(1)
					done <- struct{}{}
				}
			}), Level)
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range total {
		mustConnect(t, at)
		<-done
	}
	if a, b := accepted[0].Load(), accepted[1].Load(); a == 0 || b == 0 || a+b != total {
		t.Errorf("accepted %d and %d of %d", a, b, total)
	}
}

// TestConnectOutcome: how a connect in progress ends is told by the event and by
// SocketError.
func TestConnectOutcome(t *testing.T) {
	fd, at := mustListen(t, loopback(0), ListenConfig{})
	for _, tt := range []struct {
		name string
		want syscall.Errno
	}{{"made", 0}, {"refused", syscall.ECONNREFUSED}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorker(t)
			c, inProgress, err := Connect(at)
			if err != nil || !inProgress {
				t.Fatalf("Connect: in progress %t, %v", inProgress, err)
			}
			defer unix.Close(c)
			var got Events
			add(t, w, c, Edge, func(ev Events) { got = ev })
			w.step(t)
			if got&Out == 0 {
				t.Errorf("events %#x", got)
			}
			if e := SocketError(c); e != tt.want {
				t.Errorf("SocketError is %v, want %v", e, tt.want)
			}
			if tt.want == 0 {
				unix.Shutdown(fd, unix.SHUT_RDWR)
			}
		})
	}
	if SocketError(-1) != syscall.EBADF {
		t.Error("SocketError of no descriptor")
	}
}

func TestAddressText(t *testing.T) {
	for _, tt := range []struct {
		a             Address
		network, text string
	}{
		{loopback(80), "tcp", "127.0.0.1:80"},
		{Address{AP: netip.MustParseAddrPort("[::1]:443")}, "tcp", "[::1]:443"},
		{Address{Unix: "/run/x"}, "unix", "unix:/run/x"},
	} {
		if tt.a.Network() != tt.network || tt.a.String() != tt.text {
			t.Errorf("%s %s, want %s %s", tt.a.Network(), tt.a, tt.network, tt.text)
		}
	}
}

func TestZones(t *testing.T) {
	for _, zone := range []string{"lo", "1"} {
		if i, err := zoneIndex(zone); err != nil || i != 1 {
			t.Errorf("zone %q is interface %d, %v; want 1", zone, i, err)
		}
	}
}
