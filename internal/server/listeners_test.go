package server

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"belay/internal/config"
	"belay/internal/listener"
)

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
