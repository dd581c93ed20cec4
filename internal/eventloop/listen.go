package eventloop

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ListenConfig are the options of a listen socket.
type ListenConfig struct {
	Backlog   int    // connections the kernel queues; at least 1 (listen(2) caps it at net.core.somaxconn)
	ReusePort bool   // share the address with other sockets of the same user (SO_REUSEPORT)
	V6Only    bool   // an IPv6 socket takes no IPv4 (IPV6_V6ONLY)
	UnixMode  uint32 // permissions of a Unix socket's file; 0 means 0660
	Nodelay   bool   // TCP_NODELAY, which accepted sockets inherit
}

// Listen makes a listening socket: Bind and StartListening.
func Listen(a Address, c ListenConfig) (fd int, err error) {
	if fd, err = Bind(a, c); err != nil {
		return -1, err
	}
	if err := StartListening(fd, a, c); err != nil {
		unix.Close(fd)
		if a.hasFile() {
			os.Remove(a.Unix)
		}
		return -1, err
	}
	return fd, nil
}

// Bind makes a socket that has the address and does not listen yet: whoever
// connects is refused, or served by who listens there. It is non-blocking and
// close-on-exec, and the caller closes it. [::] takes both families unless V6Only.
// The file of a Unix socket that nobody listens on is replaced; an address in use
// is unix.EADDRINUSE for both kinds. Close leaves the file where it is.
//
// Sockets that are only bound do not keep each other out (SO_REUSEADDR): who
// comes second is told by StartListening, or, with SO_REUSEPORT, by Probe alone.
func Bind(a Address, c ListenConfig) (fd int, err error) {
	fd, err = bind(a, c)
	if err != nil {
		return -1, fmt.Errorf("listen on %s: %w", a, err)
	}
	return fd, nil
}

// StartListening has a bound socket listen. A Unix socket's file gets only now the
// permissions that were asked for: bind(2) makes it with the socket's own mode less
// the umask, so at no time may more users connect than shall.
func StartListening(fd int, a Address, c ListenConfig) error {
	err := unix.Listen(fd, max(1, c.Backlog))
	if err == nil && a.hasFile() {
		err = os.Chmod(a.Unix, fs.FileMode(c.unixMode()))
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", a, err)
	}
	return nil
}

// hasFile: the address is a Unix socket's in the file system.
func (a Address) hasFile() bool { return a.Unix != "" && a.Unix[0] != '@' }

func (c ListenConfig) unixMode() uint32 {
	if c.UnixMode == 0 {
		return 0o660
	}
	return c.UnixMode
}

// Probe finds out whether the address could be had by us alone: SO_REUSEPORT
// would join the sockets that another process of the same user has there without
// a word. It is for the time before the first StartListening, for sockets of our
// own that are only bound do not count; a Unix address is only looked at.
func Probe(a Address, c ListenConfig) error {
	if a.Unix != "" {
		if _, err := stale(a); err != nil {
			return fmt.Errorf("probe %s: %w", a, err)
		}
		return nil
	}
	c.ReusePort = false
	fd, err := bind(a, c)
	if err != nil {
		return fmt.Errorf("probe %s: %w", a, err)
	}
	return unix.Close(fd)
}

func bind(a Address, c ListenConfig) (int, error) {
	family, sa, err := a.sockaddr()
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if family == unix.AF_UNIX {
		err = bindUnix(fd, a, c)
	} else {
		err = setListenOptions(fd, family, c)
		if err == nil {
			err = unix.Bind(fd, sa)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setListenOptions(fd, family int, c ListenConfig) error {
	v6only := 0
	if c.V6Only {
		v6only = 1
	}
	for _, o := range []struct {
		wanted            bool
		level, opt, value int
		name              string
	}{
		{true, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR"},
		{c.ReusePort, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT"},
		{family == unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only, "IPV6_V6ONLY"},
		{c.Nodelay, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"},
	} {
		if !o.wanted {
			continue
		}
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	return nil
}

func bindUnix(fd int, a Address, c ListenConfig) error {
	if a.hasFile() {
		if found, err := stale(a); err != nil {
			return err
		} else if found {
			if err := os.Remove(a.Unix); err != nil {
				return fmt.Errorf("replace stale socket: %w", err)
			}
		}
		if err := unix.Fchmod(fd, c.unixMode()); err != nil {
			return fmt.Errorf("set mode of socket: %w", err)
		}
	}
	return unix.Bind(fd, &unix.SockaddrUnix{Name: a.Unix})
}

// stale reports whether there is a socket file that nobody listens on. A file of
// another kind, or somebody listening, is an error.
func stale(a Address) (bool, error) {
	if a.hasFile() {
		info, err := os.Lstat(a.Unix)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if info.Mode().Type() != fs.ModeSocket {
			return false, fmt.Errorf("the file is not a socket: %w", fs.ErrExist)
		}
	}
	fd, _, err := Connect(a)
	switch {
	case err == nil:
		unix.Close(fd)
		return false, unix.EADDRINUSE
	case errors.Is(err, unix.ECONNREFUSED):
		return true, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EPROTOTYPE):
		return false, unix.EADDRINUSE // its queue is full, or it is no stream socket: alive
	}
	return false, err
}

// Inherited is what Adopt found.
type Inherited struct {
	Address Address
	// V6Only: an IPv6 socket takes no IPv4. It was fixed when the socket was
	// bound, and is true of every address but [::] (ipv6(7), inet6_bind).
	V6Only bool
}

// Adopt makes a listening stream socket that came from another process, or from
// systemd, fit for use: non-blocking, with the backlog and TCP_NODELAY of c. It
// must listen at the address a, unless a is the zero Address. fd stays the
// caller's, also on error; nothing is changed before it was found right.
func Adopt(fd int, a Address, c ListenConfig) (Inherited, error) {
	in, family, err := inspect(fd)
	if err != nil {
		return in, err
	}
	if a != (Address{}) {
		if err := sameAddress(in.Address, a); err != nil {
			return in, err
		}
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return in, fmt.Errorf("set non-blocking: %w", err)
	}
	if c.Nodelay && family != unix.AF_UNIX {
		if err := SetNoDelay(fd); err != nil {
			return in, fmt.Errorf("set TCP_NODELAY: %w", err)
		}
	}
	if err := unix.Listen(fd, max(1, c.Backlog)); err != nil {
		return in, fmt.Errorf("listen: %w", err)
	}
	return in, nil
}

// inspect finds out what kind of socket fd is, and refuses one that does not
// listen for streams.
func inspect(fd int) (in Inherited, family int, err error) {
	option := func(level, opt int, name string) (v int) {
		if err == nil {
			if v, err = unix.GetsockoptInt(fd, level, opt); err != nil {
				err = fmt.Errorf("get %s: %w", name, err)
			}
		}
		return v
	}
	kind := option(unix.SOL_SOCKET, unix.SO_TYPE, "SO_TYPE")
	listens := option(unix.SOL_SOCKET, unix.SO_ACCEPTCONN, "SO_ACCEPTCONN")
	family = option(unix.SOL_SOCKET, unix.SO_DOMAIN, "SO_DOMAIN")
	if family == unix.AF_INET6 {
		in.V6Only = option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, "IPV6_V6ONLY") != 0
	}
	switch {
	case err != nil:
	case kind != unix.SOCK_STREAM:
		err = fmt.Errorf("it is no stream socket: %w", unix.EPROTOTYPE)
	case listens == 0:
		err = fmt.Errorf("it does not listen: %w", unix.EINVAL)
	default:
		in.Address, err = socketName(fd)
	}
	return in, family, err
}

// socketName is the address a socket is bound to, with the zone as a number.
func socketName(fd int) (a Address, err error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return a, fmt.Errorf("getsockname: %w", err)
	}
	return nameOf(sa)
}

// nameOf is the address the kernel gave, with the zone as a number.
func nameOf(sa unix.Sockaddr) (a Address, err error) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		a.AP = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.ZoneId != 0 {
			ip = ip.WithZone(strconv.FormatUint(uint64(sa.ZoneId), 10))
		}
		a.AP = netip.AddrPortFrom(ip, uint16(sa.Port))
	case *unix.SockaddrUnix:
		if sa.Name != "@" { // what an unnamed socket is made of
			a.Unix = sa.Name
		}
	default:
		err = fmt.Errorf("address of a family we do not know: %w", unix.EAFNOSUPPORT)
	}
	return a, err
}

// Canonical is the address as the kernel tells it, and so the one to compare by:
// an IPv4 address in IPv6 clothes is IPv4, and a zone is a number. A zone that
// this host does not know stays as it is.
func (a Address) Canonical() Address {
	if a.Unix != "" || !a.AP.IsValid() {
		return a
	}
	_, sa, err := a.sockaddr()
	if err != nil {
		return a
	}
	c, err := nameOf(sa)
	if err != nil {
		return a
	}
	return c
}

// sameAddress: got is what the kernel says, want what was asked for.
func sameAddress(got, want Address) error {
	if want.Canonical() == got {
		return nil
	}
	return fmt.Errorf("it listens on %s, not on %s: %w", got, want, unix.EADDRNOTAVAIL)
}
