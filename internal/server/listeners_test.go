package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/listener"
)

// Who alone has a Unix socket removes its file with it: a parent whose child did
// not take it, and a child that bound it and is not to be main.
func TestLastOneRemovesTheFile(t *testing.T) {
	for _, tt := range []struct {
		name  string
		leave func(t *testing.T, r *rig)
		left  bool
	}{
		{"dropped", func(t *testing.T, r *rig) {
			r.Pause([]eventloop.Address{addressOf(t, r.Sockets(), "a")})
			r.Drain()
		}, false},
		{"taken", func(t *testing.T, r *rig) {
			r.Pause([]eventloop.Address{addressOf(t, r.Sockets(), "a"), addressOf(t, r.Sockets(), "b")})
			r.Drain()
		}, true},
		{"stepped back", func(_ *testing.T, r *rig) { r.StepBack() }, false},
		{"of a socket unit", func(t *testing.T, r *rig) {
			for _, l := range r.listeners {
				l.manager = true
			}
			r.Pause(nil)
			r.Drain()
		}, true},
		{"replaced", func(t *testing.T, r *rig) {
			if err := os.Remove(r.unix); err != nil {
				t.Fatal(err)
			}
			other, err := net.Listen("unix", r.unix)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = other.Close() })
			r.Pause(nil)
			r.Drain()
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, "")
			c := r.ask("unix", r.unix)
			tt.leave(t, r)
			if got := c.answer(patience); got != "b" {
				t.Errorf("who was connected got %q", got)
			}
			if _, err := os.Stat(r.unix); errors.Is(err, fs.ErrNotExist) == tt.left {
				t.Errorf("the socket's file: %v; want it left: %t", err, tt.left)
			}
		})
	}
}

// A listener that cannot be reached from here fails no restart; the log says which
// and why.
func TestProbeUnreachable(t *testing.T) {
	r := newRig(t, "")
	vip := netip.MustParseAddrPort("203.0.113.7:8080")
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: vip.Addr().As4(), Port: int(vip.Port())})
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := listener.Open(&config.Listener{Name: "vip", Backlog: 10, Address: vip}, 1, []int{fd}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	was := r.listeners
	r.listeners = append(r.listeners[:len(was):len(was)], &boundListener{Listener: l})
	err = r.probe(context.Background())
	r.listeners = was
	if err != nil {
		t.Errorf("probe: %v", err)
	}
	if log := r.text.String(); strings.Count(log, "listener.vip") != 1 || !strings.Contains(log, fmt.Sprint(vip)) {
		t.Errorf("log:\n%s", log)
	}
}
