package eventloop

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listening is a socket that listens at a, closed with the test.
func listening(t *testing.T, a Address, c ListenConfig) int {
	t.Helper()
	c.Backlog = 10
	fd, err := Listen(a, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(fd) })
	return fd
}

// TestAdopt: a socket of each kind is found at its address and made fit for use.
func TestAdopt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ip := func(s string) Address { return Address{AP: netip.MustParseAddrPort(s)} }
	for _, tt := range []struct {
		name string
		at   Address
		c    ListenConfig
	}{
		{"IPv4", ip("127.66.1.1:20801"), ListenConfig{}},
		{"every IPv4", ip("0.0.0.0:20802"), ListenConfig{}},
		{"IPv4 as IPv6", ip("[::ffff:127.66.1.1]:20803"), ListenConfig{}},
		{"IPv6", ip("[::1]:20804"), ListenConfig{V6Only: true}},
		{"both", ip("[::]:20805"), ListenConfig{}},
		{"only IPv6", ip("[::]:20806"), ListenConfig{V6Only: true}},
		{"path", Address{Unix: path}, ListenConfig{}},
		{"abstract", Address{Unix: "@" + path}, ListenConfig{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fd := listening(t, tt.at, tt.c)
			if err := unix.SetNonblock(fd, false); err != nil {
				t.Fatal(err)
			}
			for _, want := range []Address{tt.at, {}} {
				in, err := Adopt(fd, want, ListenConfig{Backlog: 20, Nodelay: true})
				if err != nil || in.Address != tt.at.Canonical() || in.V6Only != tt.c.V6Only {
					t.Errorf("found %+v, %v; want %s", in, err, tt.at)
				}
			}
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("flags %#x, %v; want O_NONBLOCK", flags, err)
			}
			if tt.at.Unix != "" {
				return
			}
			if v, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); err != nil || v == 0 {
				t.Errorf("TCP_NODELAY is %d, %v", v, err)
			}
		})
	}
}

// TestAdoptBacklog: the backlog is the new one at once, which the queue shows.
func TestAdoptBacklog(t *testing.T) {
	a := Address{Unix: "@" + filepath.Join(t.TempDir(), "s")}
	fd := listening(t, a, ListenConfig{})
	if _, err := Adopt(fd, a, ListenConfig{Backlog: 2}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range 20 {
		c, _, err := Connect(a)
		if err != nil {
			if !errors.Is(err, unix.EAGAIN) {
				t.Error(err)
			}
			break
		}
		n++
		t.Cleanup(func() { Close(c) })
	}
	if n != 3 { // one more than the backlog: unix(7), sk_acceptq_is_full
		t.Errorf("the queue took %d, want 3", n)
	}
}

// TestAdoptRefuses: what is wrong is told, and the socket is left as it was.
func TestAdoptRefuses(t *testing.T) {
	at := Address{AP: netip.MustParseAddrPort("127.66.1.2:20811")}
	good := listening(t, at, ListenConfig{ReusePort: true})
	silent, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(silent)
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var null int
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { null = int(fd) })
	for _, tt := range []struct {
		name string
		fd   int
		at   Address
		want error
		says string
	}{
		{"no descriptor", -1, at, unix.EBADF, "get SO_TYPE"},
		{"no socket", null, at, unix.ENOTSOCK, "get SO_TYPE"},
		{"does not listen", silent, at, unix.EINVAL, "it does not listen"},
		{"another address", good, Address{AP: netip.MustParseAddrPort("127.66.1.3:20811")}, unix.EADDRNOTAVAIL, "it listens on 127.66.1.2:20811, not on 127.66.1.3:20811"},
		{"another kind", good, Address{Unix: "/s"}, unix.EADDRNOTAVAIL, "not on unix:/s"},
		{"unknown zone", good, Address{AP: netip.MustParseAddrPort("[fe80::1%none]:80")}, unix.EADDRNOTAVAIL, "%none"},
	} {
		_, err := Adopt(tt.fd, tt.at, ListenConfig{Backlog: 10})
		if !errors.Is(err, tt.want) || err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want %v that says %q", tt.name, err, tt.want, tt.says)
		}
	}
}

func TestCanonical(t *testing.T) {
	for _, tt := range []struct{ a, want string }{
		{"192.0.2.1:80", "192.0.2.1:80"},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1:80"},
		{"[2001:db8::1]:80", "[2001:db8::1]:80"},
		{"[fe80::1%lo]:80", "[fe80::1%1]:80"},
		{"[fe80::1%1]:80", "[fe80::1%1]:80"},
		{"[fe80::1%none]:80", "[fe80::1%none]:80"},
	} {
		if got := (Address{AP: netip.MustParseAddrPort(tt.a)}).Canonical().String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.a, got, tt.want)
		}
	}
	for _, a := range []Address{{}, {Unix: "/s"}} {
		if a.Canonical() != a {
			t.Errorf("%v became %v", a, a.Canonical())
		}
	}
}

// TestDialTellsSource: the source is known before the connection is there, and is
// what the other side sees.
func TestDialTellsSource(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, at := range []Address{
		{AP: netip.MustParseAddrPort("127.66.1.4:20821")},
		{AP: netip.MustParseAddrPort("[::1]:20822")},
		{Unix: filepath.Join(t.TempDir(), "s")},
	} {
		fd := listening(t, at, ListenConfig{})
		var source Address
		conn, err := Dial(ctx, at, func(a Address) error {
			if _, _, errno := Accept(fd); errno != unix.EAGAIN {
				t.Errorf("%s: a connection before its source is told: %v", at, errno)
			}
			source = a
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		nfd, peer, errno := Accept(fd)
		if errno != 0 || peer != source.AP {
			t.Errorf("%s: the peer is %s, %v; want %s", at, peer, errno, source)
		}
		if at.Unix != "" {
			pid, name, err := UnixPeer(nfd)
			if pid != os.Getpid() || name != source.Unix || name == "" || err != nil {
				t.Errorf("process %d is connected from %q, %v; want %q", pid, name, err, source.Unix)
			}
		}
		Close(nfd)
		conn.Close()
	}
}

// TestDialFails: an address that is not this host's, and a refusal by bound, end
// it before there is a connection.
func TestDialFails(t *testing.T) {
	elsewhere := Address{AP: netip.MustParseAddrPort("192.0.2.1:80")}
	if _, err := Dial(t.Context(), elsewhere, func(Address) error { return nil }); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("error %v", err)
	}
	at := Address{AP: netip.MustParseAddrPort("127.66.1.5:20831")}
	fd := listening(t, at, ListenConfig{})
	no := errors.New("no")
	if _, err := Dial(t.Context(), at, func(Address) error { return no }); !errors.Is(err, no) {
		t.Errorf("error %v", err)
	}
	if _, _, errno := Accept(fd); errno != unix.EAGAIN {
		t.Errorf("a connection all the same: %v", errno)
	}
}

// TestUnixPeerUnnamed: a client that bound nothing has no name.
func TestUnixPeerUnnamed(t *testing.T) {
	at := Address{Unix: filepath.Join(t.TempDir(), "s")}
	fd := listening(t, at, ListenConfig{})
	conn, err := net.Dial("unix", at.Unix)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	nfd, _, errno := Accept(fd)
	if errno != 0 {
		t.Fatal(errno)
	}
	defer Close(nfd)
	if pid, name, err := UnixPeer(nfd); pid != os.Getpid() || name != "" || err != nil {
		t.Errorf("process %d, name %q, %v", pid, name, err)
	}
	if _, _, err := UnixPeer(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("error %v", err)
	}
}
