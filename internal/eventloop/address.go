package eventloop

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Address is where a socket listens or connects: an IP address with a port, or
// the path of a Unix socket. A path that begins with "@" is a name in the
// abstract namespace (unix(7)).
type Address struct {
	AP   netip.AddrPort
	Unix string
}

// Network is "tcp" or "unix".
func (a Address) Network() string {
	if a.Unix != "" {
		return "unix"
	}
	return "tcp"
}

// String is the address as the configuration writes it.
func (a Address) String() string {
	if a.Unix != "" {
		return "unix:" + a.Unix
	}
	return a.AP.String()
}

// sockaddr is the address as the kernel wants it, with its family. An IPv4
// address in IPv6 clothes is IPv4.
func (a Address) sockaddr() (family int, sa unix.Sockaddr, err error) {
	if a.Unix != "" {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: a.Unix}, nil
	}
	ip, port := a.AP.Addr().Unmap(), int(a.AP.Port())
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: ip.As4()}, nil
	}
	if !ip.IsValid() {
		return 0, nil, unix.EDESTADDRREQ
	}
	zone, err := zoneIndex(ip.Zone())
	if err != nil {
		return 0, nil, err
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: ip.As16(), ZoneId: zone}, nil
}

// zoneIndex is the interface index that an IPv6 zone means (RFC 4007 section 11).
func zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("zone %s: %w", zone, err)
	}
	return uint32(i.Index), nil
}

// addrPort is the address the kernel gave: IPv4 always as IPv4, no zone, and the
// zero AddrPort for a Unix socket.
func addrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		s := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), hostPort(s.Port))
	case unix.AF_INET6:
		s := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), hostPort(s.Port))
	}
	return netip.AddrPort{}
}

// hostPort turns a port in network byte order round; both machines we run on are
// little-endian.
func hostPort(p uint16) uint16 { return p<<8 | p>>8 }
