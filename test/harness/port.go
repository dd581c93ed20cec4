package harness

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// ports hands out ports that nobody else uses. Every test process has a
// loopback address of its own, made from its pid, and counts upward below the
// ephemeral range: so a port that was free stays free until the daemon binds it.
// It also begins at a number made from its pid, since another process may listen
// on a port of every address.
var ports = struct {
	sync.Mutex
	next, left int
}{next: firstPort + os.Getpid()*499%numPorts, left: numPorts}

const (
	firstPort = 10000
	numPorts  = 22000
)

// Loopback is the address of this test process.
func Loopback() netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(100 + pid>>16&63), byte(pid >> 8), byte(pid)})
}

// Addr reserves a free TCP port on the address of this test process and
// returns "ip:port".
func Addr(t testing.TB) string {
	t.Helper()
	return AddrOn(t, Loopback().String())
}

// AddrOn reserves a port that is free on ip, which may be "::1" or a wildcard.
func AddrOn(t testing.TB, ip string) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for ports.left > 0 {
		ports.left--
		ports.next = firstPort + (ports.next-firstPort+1)%numPorts
		addr := net.JoinHostPort(ip, strconv.Itoa(ports.next))
		if bindable(addr) {
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// bindable tries a port without listening on it: a listener would live on after
// its close in every process that is between fork and exec just then, and the
// next one to listen there would find the port taken.
func bindable(addr string) bool {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return false
	}
	domain, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()})
	if ap.Addr().Is4() {
		domain, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) == nil && unix.Bind(fd, sa) == nil
}

// Port is the port of "ip:port".
func Port(t testing.TB, addr string) int {
	t.Helper()
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatalf("parse %q: %v", addr, err)
	}
	return int(ap.Port())
}

// TempDir is like t.TempDir with a name short enough for a Unix socket.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "belay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove %s: %v", dir, err)
		}
	})
	return dir
}

// WriteFile writes a file of the test and returns its path.
func WriteFile(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := fmt.Sprintf("%s/%s", dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
