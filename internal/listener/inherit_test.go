package listener

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"belay/internal/config"
	"belay/internal/eventloop"
)

// isOpen reports whether the descriptor is one.
func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// TestInherit: inherited sockets are taken as they are, whatever the number of
// workers, and serve after the first owner has closed its own.
func TestInherit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, tt := range []struct {
		name    string
		c       config.Listener
		anyAddr bool // the configuration leaves the address to the sockets
	}{
		{"one", config.Listener{Sockets: 1}, false},
		{"several", config.Listener{Sockets: 3}, false},
		{"unix", config.Listener{Unix: path}, false},
		{"abstract", config.Listener{Unix: "@" + path}, false},
		{"address of the sockets", config.Listener{Sockets: 2}, true},
		{"address of the sockets, unix", config.Listener{Unix: path + "2"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := mustOpen(t, &tt.c, 2)
			fds := duplicates(t, l)
			for _, fd := range fds {
				if err := unix.SetNonblock(fd, false); err != nil { // as systemd hands them over
					t.Fatal(err)
				}
			}
			c := *l.Config
			if tt.anyAddr {
				c.Address, c.Unix = netip.AddrPort{}, ""
			}
			h, err := Open(&c, 5, fds, true)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(h.Close)
			if !slices.Equal(h.FDs(), fds) || h.Address != l.Address || len(h.Warnings()) != 0 {
				t.Errorf("sockets %v at %v, warnings %q; want %v at %v", h.FDs(), h.Address, h.Warnings(), fds, l.Address)
			}
			for _, fd := range fds {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
					t.Errorf("descriptor %d: flags %#x, %v; want O_NONBLOCK", fd, flags, err)
				}
			}
			l.Close()
			newDoor(t, h, &Limit{Max: 10}, &journal{})
			for range 5 {
				greeted(t, dial(t, h, ""))
			}
		})
	}
}

// TestInheritUnixPeers: the peers of an inherited Unix socket have no address to
// judge, also when the configuration does not say that it is one.
func TestInheritUnixPeers(t *testing.T) {
	l := mustOpen(t, &config.Listener{Unix: filepath.Join(t.TempDir(), "s")}, 1)
	h, err := Open(&config.Listener{Name: "web", Backlog: 10, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, 1, duplicates(t, l), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	if why := h.admit(netip.AddrPort{}); why != Admitted {
		t.Errorf("admit = %d", why)
	}
}

// TestInheritRefuses: a socket that is not what the configuration needs is an
// error that names it, and all that were handed over are closed.
func TestInheritRefuses(t *testing.T) {
	web := free()
	socket := func(family, kind int) int {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	at := func(a eventloop.Address) int {
		fd, err := eventloop.Listen(a, eventloop.ListenConfig{Backlog: 10, ReusePort: true})
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	good := func() int { return at(eventloop.Address{AP: web}) }
	gone := filepath.Join(t.TempDir(), "gone")
	other := free()
	for _, tt := range []struct {
		name string
		c    config.Listener
		fds  []int
		want error
		says string
	}{
		{"not listening", config.Listener{Address: web}, []int{good(), socket(unix.AF_INET, unix.SOCK_STREAM)}, syscall.EINVAL, "inherited socket 2 of 2: it does not listen"},
		{"datagrams", config.Listener{Address: web}, []int{socket(unix.AF_INET, unix.SOCK_DGRAM)}, syscall.EPROTOTYPE, "no stream socket"},
		{"another port", config.Listener{Address: web}, []int{good(), at(eventloop.Address{AP: other})}, syscall.EADDRNOTAVAIL,
			"it listens on " + other.String() + ", not on " + web.String()},
		{"two addresses, none configured", config.Listener{}, []int{good(), at(eventloop.Address{AP: other})}, syscall.EADDRNOTAVAIL, "inherited socket 2 of 2"},
		{"tcp for unix", config.Listener{Unix: gone}, []int{good()}, syscall.EADDRNOTAVAIL, "not on unix:" + gone},
		{"unix for tcp", config.Listener{Address: web}, []int{at(eventloop.Address{Unix: "@" + gone})}, syscall.EADDRNOTAVAIL, "it listens on unix:@" + gone},
		{"file has gone", config.Listener{Unix: gone}, []int{at(eventloop.Address{Unix: gone})}, fs.ErrNotExist, gone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			os.Remove(gone)
			tt.c.Name, tt.c.Backlog = "web", 10
			_, err := Open(&tt.c, 1, tt.fds, true)
			if !errors.Is(err, tt.want) || err == nil || !strings.HasPrefix(err.Error(), "listener.web: ") || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v; want %v that says %q", err, tt.want, tt.says)
			}
			for _, fd := range tt.fds {
				if isOpen(fd) {
					t.Errorf("descriptor %d is open", fd)
				}
			}
		})
	}
}

// TestInheritWarns: what only a new bind could change is told.
func TestInheritWarns(t *testing.T) {
	six := netip.AddrPortFrom(netip.IPv6Unspecified(), free().Port())
	for _, tt := range []struct {
		name       string
		was, wants config.Listener
		says       []string
	}{
		{"ipv6_only", config.Listener{Address: six}, config.Listener{IPv6Only: true}, []string{"ipv6_only is true"}},
		{"not ipv6_only", config.Listener{Address: six, IPv6Only: true}, config.Listener{}, []string{"ipv6_only is false"}},
		{"sockets", config.Listener{Sockets: 2}, config.Listener{Sockets: 3}, []string{"sockets is 3, but the address was bound with 2"}},
		{"one IPv6 address", config.Listener{Address: netip.AddrPortFrom(netip.IPv6Loopback(), six.Port())}, config.Listener{}, nil},
		{"neither given", config.Listener{Sockets: 2}, config.Listener{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := mustOpen(t, &tt.was, 1)
			tt.wants.Name, tt.wants.Backlog, tt.wants.Address = "web", 10, l.Config.Address
			h, err := Open(&tt.wants, 1, duplicates(t, l), false)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(h.Close)
			w := h.Warnings()
			if len(w) != len(tt.says) || len(w) > 0 && !strings.Contains(w[0], tt.says[0]) {
				t.Errorf("warnings %q, want %q", w, tt.says)
			}
		})
	}
}

// TestInheritMode: the mode of a Unix socket follows the configuration.
func TestInheritMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := mustOpen(t, &config.Listener{Unix: path}, 1)
	for _, tt := range []struct{ wants, mode uint32 }{{0o666, 0o666}, {0o600, 0o600}, {0, 0o660}} {
		h, err := Open(&config.Listener{Name: "web", Backlog: 10, Unix: path, UnixMode: tt.wants}, 1, duplicates(t, l), true)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || uint32(info.Mode().Perm()) != tt.mode || len(h.Warnings()) != 0 {
			t.Errorf("mode %v, %v; want %o; warnings %q", info.Mode(), err, tt.mode, h.Warnings())
		}
		h.Close()
	}
}

// TestOpenBeside: without the probe an address can be bound that overlaps with
// one that another generation listens on.
func TestOpenBeside(t *testing.T) {
	port := free().Port()
	mustOpen(t, &config.Listener{Address: netip.AddrPortFrom(netip.IPv4Unspecified(), port)}, 1)
	c := config.Listener{Name: "web", Backlog: 10, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
	if _, err := Open(&c, 1, nil, true); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("with the probe: %v", err)
	}
	l, err := Open(&c, 1, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
