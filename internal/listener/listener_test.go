package listener

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"belay/internal/config"
)

var hosts atomic.Uint32

// free is an address of 127/8 that no other test, and hardly another program,
// uses.
func free() netip.AddrPort {
	pid, n := os.Getpid(), hosts.Add(1)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(100 + n%100), byte(pid >> 8), byte(1 + pid%250)}), uint16(20000+n))
}

// mustOpen opens a listener, which listens and is closed with the test.
func mustOpen(t testing.TB, c *config.Listener, workers int) *Listener {
	t.Helper()
	if c.Unix == "" && !c.Address.IsValid() {
		c.Address = free()
	}
	c.Name, c.Backlog = "web", 512
	l, err := Open(c, workers, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	mustListen(t, l)
	return l
}

func mustListen(t testing.TB, l *Listener) {
	t.Helper()
	if err := l.Listen(); err != nil {
		t.Fatal(err)
	}
}

// TestFor: every socket is polled by somebody, every worker polls one, and no
// worker more than its share.
func TestFor(t *testing.T) {
	for workers := 1; workers <= 9; workers++ {
		for sockets := 0; sockets <= 12; sockets++ {
			t.Run(fmt.Sprintf("%d workers %d sockets", workers, sockets), func(t *testing.T) {
				l := &Listener{}
				var all []int
				for fd := range sockets {
					all = append(all, 100+fd)
				}
				l.sockets.Store(&all)
				polled := make(map[int]int)
				for i := range workers {
					fds := l.For(i, workers)
					if most := (sockets + workers - 1) / workers; len(fds) > most || sockets > 0 && len(fds) == 0 {
						t.Errorf("worker %d polls %v", i, fds)
					}
					for _, fd := range fds {
						polled[fd]++
					}
				}
				for _, fd := range all {
					if n := polled[fd]; n == 0 || n > max(1, (workers+sockets-1)/sockets) {
						t.Errorf("socket %d is polled by %d", fd, n)
					}
				}
			})
		}
	}
}

func TestOpenSockets(t *testing.T) {
	for _, tt := range []struct {
		name    string
		c       config.Listener
		workers int
		want    int
	}{
		{"one per worker", config.Listener{}, 3, 3},
		{"as configured", config.Listener{Sockets: 2}, 3, 2},
		{"unix has one", config.Listener{Unix: filepath.Join(t.TempDir(), "s"), Sockets: 2}, 3, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := mustOpen(t, &tt.c, tt.workers)
			if l.Sockets() != tt.want || len(slices.Compact(l.FDs())) != tt.want {
				t.Errorf("sockets %v, want %d", l.FDs(), tt.want)
			}
			l.Close()
			if l.Sockets() != 0 || l.For(0, 1) != nil {
				t.Error("sockets are left after Close")
			}
			l.Close()
		})
	}
}

// TestOpenRefusesTaken: an address that somebody else has, even with
// SO_REUSEPORT, is an error that names the listener.
func TestOpenRefusesTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, c := range []config.Listener{{Address: free()}, {Unix: path}} {
		mustOpen(t, &c, 2)
		_, err := Open(&c, 2, nil, true)
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second Open of %s%v: %v", c.Unix, c.Address, err)
		}
		if err != nil && err.Error()[:len("listener.web: ")] != "listener.web: " {
			t.Errorf("the error does not name the listener: %v", err)
		}
	}
}

// TestCloseWhileAsked: the control plane may ask for the sockets while they are
// closed; the race detector looks on, and sees a race only sometimes.
func TestCloseWhileAsked(t *testing.T) {
	for range 50 {
		l := mustOpen(t, &config.Listener{Sockets: 3}, 1)
		var asking sync.WaitGroup
		begun := make(chan struct{}, 2)
		for range 2 {
			asking.Go(func() {
				begun <- struct{}{}
				for l.Sockets() != 0 {
					if n := len(l.FDs()); n != 3 && n != 0 {
						t.Errorf("%d sockets", n)
					}
					l.For(0, 1)
				}
			})
		}
		<-begun
		<-begun
		l.Close()
		asking.Wait()
	}
}

func TestAdmit(t *testing.T) {
	prefixes := func(list ...string) (p []netip.Prefix) {
		for _, s := range list {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	for _, tt := range []struct {
		name        string
		allow, deny []netip.Prefix
		peer        string
		want        Rejection
	}{
		{"no rules", nil, nil, "10.0.0.1:1", Admitted},
		{"allowed", prefixes("10.0.0.0/8"), nil, "10.0.0.1:1", Admitted},
		{"not allowed", prefixes("10.0.0.0/8"), nil, "11.0.0.1:1", RejectedAddress},
		{"denied", nil, prefixes("10.0.0.0/8"), "10.0.0.1:1", RejectedAddress},
		{"not denied", nil, prefixes("10.0.0.0/8"), "11.0.0.1:1", Admitted},
		{"deny wins", prefixes("10.0.0.0/8"), prefixes("10.0.0.1/32"), "10.0.0.1:1", RejectedAddress},
		{"beside the denied one", prefixes("10.0.0.0/8"), prefixes("10.0.0.1/32"), "10.0.0.2:1", Admitted},
		{"v6 allowed", prefixes("2001:db8::/32"), nil, "[2001:db8::1]:1", Admitted},
		{"v4 beside v6 rules", prefixes("2001:db8::/32"), nil, "10.0.0.1:1", RejectedAddress},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := mustOpen(t, &config.Listener{Allow: tt.allow, Deny: tt.deny}, 1)
			peer := netip.MustParseAddrPort(tt.peer)
			if got := l.admit(peer); got != tt.want {
				t.Errorf("admit = %d, want %d", got, tt.want)
			}
		})
	}
}

// TestAdmitUnix: the peers of a Unix socket have no address to judge.
func TestAdmitUnix(t *testing.T) {
	l := mustOpen(t, &config.Listener{
		Unix:                    filepath.Join(t.TempDir(), "s"),
		Allow:                   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		MaxConnectionsPerSource: 1,
	}, 1)
	for range 3 {
		if why := l.admit(netip.AddrPort{}); why != Admitted {
			t.Errorf("admit = %d", why)
		}
	}
	for range 3 {
		l.leave(netip.AddrPort{})
	}
}

// TestSources: the limit is per address, whatever the port; who has gone leaves
// nothing behind.
func TestSources(t *testing.T) {
	l := mustOpen(t, &config.Listener{MaxConnectionsPerSource: 2}, 1)
	a, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddrPort("[2001:db8::1]:1")
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	for i, want := range []Rejection{Admitted, Admitted, RejectedSource, RejectedSource} {
		if got := l.admit(at(uint16(1 + i))); got != want {
			t.Errorf("connection %d: %d, want %d", i, got, want)
		}
	}
	if got := l.admit(other); got != Admitted {
		t.Errorf("another source: %d", got)
	}
	l.leave(at(1))
	if got := l.admit(at(9)); got != Admitted {
		t.Errorf("after one left: %d", got)
	}
	l.leave(at(2))
	l.leave(at(9))
	l.leave(other)
	for i := range l.sources.shards {
		if n := len(l.sources.shards[i].n); n != 0 {
			t.Errorf("shard %d still knows %d sources", i, n)
		}
	}
}

// TestSourcesSpread: neighbours, in either family, do not share one lock.
func TestSourcesSpread(t *testing.T) {
	s := newSources(1)
	for _, first := range []string{"10.0.0.0", "2001:db8::"} {
		used := make(map[int]bool)
		for a, n := netip.MustParseAddr(first), 0; n < 256; a, n = a.Next(), n+1 {
			used[s.shard(a)] = true
		}
		if len(used) != len(s.shards) {
			t.Errorf("256 addresses from %s fall into %d shards", first, len(used))
		}
	}
}

func TestLimit(t *testing.T) {
	l := Limit{Max: 2}
	enter := func(times, want int) {
		t.Helper()
		got := 0
		for range times {
			if l.enter() {
				got++
			}
		}
		if got != want {
			t.Errorf("%d of %d entered, want %d", got, times, want)
		}
	}
	enter(3, 2)
	if l.Active() != 2 {
		t.Errorf("%d are in, want 2", l.Active())
	}
	l.Leave()
	enter(2, 1) // a place given back is exactly one
}

// dial connects from the given source, closed with the test.
func dial(t testing.TB, l *Listener, source string) net.Conn {
	t.Helper()
	var d net.Dialer
	d.Timeout = patience
	if source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	network, at := "tcp", l.Address.AP.String()
	if l.Address.Unix != "" {
		network, at = "unix", l.Address.Unix
	}
	conn, err := d.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
