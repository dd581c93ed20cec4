package eventloop

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Local reports whether an IP address is one of this host's, so that it can be
// reached from here. A listen socket may have another one too (IP_FREEBIND,
// ip_nonlocal_bind). Asked is the kernel by means that need no netlink, which a
// sandboxed service does not have; nothing is sent.
func Local(ip netip.Addr) (bool, error) {
	a := Address{AP: netip.AddrPortFrom(ip.Unmap(), 9)} // any port; 0 is refused by some
	family, sa, err := a.sockaddr()
	if err != nil {
		return false, err
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if v4, ok := sa.(*unix.SockaddrInet4); ok {
		// It looks for the device that has the address. The source address that
		// connect(2) chooses would not tell: for a second address it is the first one.
		err = unix.SetsockoptInet4Addr(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, v4.Addr)
		if errors.Is(err, unix.EADDRNOTAVAIL) {
			return false, nil
		}
		return err == nil, err
	}
	// The source address chosen for an address of our own is that very one
	// (RFC 6724 section 5, rule 1).
	switch err := unix.Connect(fd, sa); {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EACCES):
		return false, nil // EACCES is a route that prohibits
	case err != nil:
		return false, fmt.Errorf("connect: %w", err)
	}
	source, err := socketName(fd)
	return err == nil && source.AP.Addr().WithZone("") == a.AP.Addr().WithZone(""), err
}
