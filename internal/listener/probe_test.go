package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"belay/internal/config"
)

func withPatience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestProbe: the listener's own connection is recognised on every kind of
// address, past the rules for clients, and leaves no trace.
func TestProbe(t *testing.T) {
	port := func() uint16 { return free().Port() }
	for _, tt := range []struct {
		name string
		c    config.Listener
	}{
		{"tcp", config.Listener{}},
		{"several sockets", config.Listener{Sockets: 4}},
		{"0.0.0.0", config.Listener{Address: netip.AddrPortFrom(netip.IPv4Unspecified(), port())}},
		{"[::]", config.Listener{Address: netip.AddrPortFrom(netip.IPv6Unspecified(), port())}},
		{"[::] alone", config.Listener{Address: netip.AddrPortFrom(netip.IPv6Unspecified(), port()), IPv6Only: true}},
		{"[::1]", config.Listener{Address: netip.AddrPortFrom(netip.IPv6Loopback(), port())}},
		{"unix", config.Listener{Unix: filepath.Join(t.TempDir(), "s")}},
		{"abstract", config.Listener{Unix: "@" + filepath.Join(t.TempDir(), "s")}},
		{"denied clients", config.Listener{Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
		{"allowed clients only", config.Listener{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, MaxConnectionsPerSource: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.c.Address.Addr().Is6() {
				needIPv6(t)
			}
			l := mustOpen(t, &tt.c, 1)
			d := newDoor(t, l, &Limit{Max: 10}, &journal{})
			for range 5 {
				if others, err := l.Probe(withPatience(t)); others != 0 || err != nil {
					t.Errorf("%d others, error %v", others, err)
				}
			}
			d.do(func() {
				if d.accepted() != 0 || len(d.served) != 0 || l.Active() != 0 || d.limit.Active() != 0 || d.log.buf.Len() != 0 {
					t.Errorf("accepted %d, served %d, active %d and %d, log %q", d.accepted(), len(d.served), l.Active(), d.limit.Active(), d.log.buf.String())
				}
			})
			if l.probe.Load() != nil {
				t.Error("a probe is still expected")
			}
		})
	}
}

func needIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	l.Close()
}

// TestProbeCountsOthers: what else was accepted meanwhile is told, and is served
// as always.
func TestProbeCountsOthers(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    config.Listener
	}{
		{"tcp", config.Listener{}},
		{"unix, same process", config.Listener{Unix: filepath.Join(t.TempDir(), "s")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := mustOpen(t, &tt.c, 1)
			d := newDoor(t, l, &Limit{Max: 10}, &journal{})
			d.do(d.Stop)
			var before []net.Conn
			for range 3 {
				before = append(before, dial(t, l, ""))
			}
			type outcome struct {
				others uint64
				err    error
			}
			probed := make(chan outcome, 1)
			go func() {
				others, err := l.Probe(withPatience(t))
				probed <- outcome{others, err}
			}()
			d.until(t, "the probe is expected", func() bool { return l.probe.Load() != nil })
			if _, err := l.Probe(withPatience(t)); !errors.Is(err, errProbing) {
				t.Errorf("a second probe: %v", err)
			}
			d.start(t)
			for _, conn := range before {
				greeted(t, conn)
			}
			if got := <-probed; got.others != 3 || got.err != nil {
				t.Errorf("%d others, error %v; want 3", got.others, got.err)
			}
		})
	}
}

// TestProbeFails: who does not accept, or is not there, is named.
func TestProbeFails(t *testing.T) {
	t.Run("stopped", func(t *testing.T) {
		l := mustOpen(t, &config.Listener{}, 1)
		d := newDoor(t, l, &Limit{Max: 10}, &journal{})
		d.do(d.Stop)
		ctx, cancel := context.WithCancel(t.Context())
		probed := make(chan error, 1)
		go func() {
			_, err := l.Probe(ctx)
			probed <- err
		}()
		d.until(t, "the probe is expected", func() bool { return l.probe.Load() != nil })
		cancel()
		err := <-probed
		if !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "listener.web: probe "+l.Address.String()) {
			t.Errorf("error %v", err)
		}
		if l.probe.Load() != nil {
			t.Error("a probe is still expected")
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		for _, c := range []config.Listener{{}, {Unix: filepath.Join(t.TempDir(), "s")}} {
			l := mustOpen(t, &c, 1)
			l.Close()
			if _, err := l.Probe(withPatience(t)); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("error %v", err)
			}
		}
	})
}

// TestProbeBeside: a wildcard's probe does not go to who listens on 127.0.0.1.
func TestProbeBeside(t *testing.T) {
	port := free().Port()
	mustOpen(t, &config.Listener{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}, 1)
	c := config.Listener{Name: "all", Backlog: 10, Address: netip.AddrPortFrom(netip.IPv4Unspecified(), port)}
	l, err := Open(&c, 1, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	mustListen(t, l)
	newDoor(t, l, &Limit{Max: 10}, &journal{})
	if others, err := l.Probe(withPatience(t)); others != 0 || err != nil {
		t.Errorf("%d others, error %v", others, err)
	}
}

// TestProbeTargets: a wildcard is reached at the loopback address of its family,
// and where both families arrive, IPv4 is second.
func TestProbeTargets(t *testing.T) {
	for _, tt := range []struct {
		address string
		v6only  bool
		want    string
	}{
		{"192.0.2.1:80", false, "192.0.2.1:80"},
		{"0.0.0.0:80", false, "127.90.90.90:80 127.0.0.1:80"},
		{"[2001:db8::1]:80", false, "[2001:db8::1]:80"},
		{"[::]:80", false, "[::1]:80 127.90.90.90:80 127.0.0.1:80"},
		{"[::]:80", true, "[::1]:80"},
	} {
		l := &Listener{v6only: tt.v6only}
		l.Address.AP = netip.MustParseAddrPort(tt.address)
		var got []string
		for _, a := range l.targets() {
			got = append(got, a.String())
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: targets %s, want %s", tt.address, s, tt.want)
		}
	}
}

// foreign is a listener on an address that this host does not have.
func foreign(t *testing.T, at string) *Listener {
	t.Helper()
	ap := netip.MustParseAddrPort(at)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())})
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(&config.Listener{Name: "vip", Backlog: 10, Address: ap}, 1, []int{fd}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// TestProbeForeignAddress: a listener on an address that this host has not got yet
// is not probed.
func TestProbeForeignAddress(t *testing.T) {
	l := foreign(t, fmt.Sprint("203.0.113.7:", free().Port()))
	_, err := l.Probe(withPatience(t))
	if !errors.Is(err, ErrNotProbed) || !strings.Contains(err.Error(), "listener.vip: probe 203.0.113.7:") {
		t.Errorf("error %v", err)
	}
}

// TestProbeForbidden: a Unix socket to which this user may not connect is not
// probed.
func TestProbeForbidden(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes another user's socket")
	}
	l := mustOpen(t, &config.Listener{Unix: filepath.Join(t.TempDir(), "s")}, 1)
	probed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		if err := unix.Setfsuid(65534); err != nil {
			probed <- err
			return
		}
		_, err := l.Probe(withPatience(t))
		probed <- err
	}()
	if err := <-probed; !errors.Is(err, ErrNotProbed) || !errors.Is(err, unix.EACCES) || !strings.HasPrefix(err.Error(), "listener.web: ") {
		t.Errorf("error %v", err)
	}
}
