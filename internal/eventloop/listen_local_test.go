package eventloop

import (
	"net"
	"net/netip"
	"testing"
)

// TestLocal: what an interface has, or is loopback, is ours.
func TestLocal(t *testing.T) {
	want := map[string]bool{"127.0.0.1": true, "127.90.90.90": true, "::ffff:127.0.0.1": true, "203.0.113.7": false, "198.51.100.7": false, "2001:db8::1": false}
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			want[p.Addr().String()] = true
		}
	}
	for a, w := range want {
		ip := netip.MustParseAddr(a)
		if got, err := Local(ip); got != w || err != nil {
			t.Errorf("%s: %t, %v; want %t", ip, got, err, w)
		}
	}
}

// TestLocalZone: a link-local address is ours on its interface.
func TestLocalZone(t *testing.T) {
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil || !p.Addr().Is6() || !p.Addr().IsLinkLocalUnicast() {
				continue
			}
			if got, err := Local(p.Addr().WithZone(i.Name)); !got || err != nil {
				t.Errorf("%s on %s: %t, %v", p.Addr(), i.Name, got, err)
			}
		}
	}
}
