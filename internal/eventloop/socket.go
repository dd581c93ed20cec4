package eventloop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Accept takes a connection off the queue of the listening socket fd (accept4(2)).
// nfd is non-blocking, close-on-exec and the caller's. IPv4 peers are IPv4 also
// on an IPv6 socket; those of a Unix socket are the zero AddrPort. EAGAIN means
// that the queue is empty.
func Accept(fd int) (nfd int, peer netip.AddrPort, err syscall.Errno) {
	var sa unix.RawSockaddrAny
	for {
		size := uint32(unix.SizeofSockaddrAny)
		r, _, errno := syscall.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)),
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return int(r), addrPort(&sa), 0
		case syscall.EINTR:
			continue
		}
		return -1, netip.AddrPort{}, errno
	}
}

// Connect begins to connect a new socket, non-blocking, close-on-exec and with
// TCP_NODELAY, which the caller closes. With inProgress the end comes as Out, or
// as Err, and SocketError then tells the outcome (connect(2)). A Unix socket
// whose listener's queue is full fails at once with EAGAIN.
func Connect(a Address) (fd int, inProgress bool, err error) {
	family, sa, err := a.sockaddr()
	if err != nil {
		return -1, false, fmt.Errorf("connect to %s: %w", a, err)
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, false, fmt.Errorf("connect to %s: socket: %w", a, err)
	}
	if family != unix.AF_UNIX {
		err = SetNoDelay(fd)
	}
	if err == nil {
		err = unix.Connect(fd, sa)
	}
	switch err {
	case nil:
		return fd, false, nil
	case unix.EINPROGRESS, unix.EINTR: // interrupted, it goes on all the same
		return fd, true, nil
	}
	unix.Close(fd)
	return -1, false, fmt.Errorf("connect to %s: %w", a, err)
}

// SocketError takes a socket's pending error, 0 if there is none (SO_ERROR,
// socket(7)). Reading it clears it.
func SocketError(fd int) syscall.Errno {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil {
		return syscall.Errno(v)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EIO
}

// LocalAddr is the socket's own address, the zero AddrPort for a Unix socket.
func LocalAddr(fd int) (netip.AddrPort, error) {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	_, _, errno := syscall.Syscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", errno)
	}
	return addrPort(&sa), nil
}

// Dial connects to an address of this host from that same address, at a port of
// the kernel's choice, or, to a Unix socket, from a name of the kernel's choice
// (unix(7), "Autobind feature"). bound is told the source before there is a
// connection, and again if the connect is tried again; its error ends the Dial.
// It waits, and is not for a worker.
func Dial(ctx context.Context, a Address, bound func(source Address) error) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var source Address
		var failed error
		err := c.Control(func(fd uintptr) { source, failed = bindSource(int(fd), a) })
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		return bound(source)
	}}
	target := a.Unix
	if target == "" {
		target = a.AP.String()
	}
	return d.DialContext(ctx, a.Network(), target)
}

func bindSource(fd int, target Address) (Address, error) {
	var sa unix.Sockaddr = &unix.SockaddrUnix{}
	if target.Unix == "" {
		var err error
		a := Address{AP: netip.AddrPortFrom(target.AP.Addr(), 0)}
		if _, sa, err = a.sockaddr(); err != nil {
			return Address{}, fmt.Errorf("bind: %w", err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return Address{}, fmt.Errorf("bind: %w", err)
	}
	return socketName(fd)
}

// UnixPeer is who connected to a Unix listener: the process, in our pid namespace,
// that called connect(2) (SO_PEERCRED, unix(7)), and the name its socket was bound
// to, "" for none.
func UnixPeer(fd int) (pid int, name string, err error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, "", fmt.Errorf("get SO_PEERCRED: %w", err)
	}
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return 0, "", fmt.Errorf("getpeername: %w", err)
	}
	a, err := nameOf(sa)
	return int(cred.Pid), a.Unix, err
}

// SetNoDelay turns Nagle's algorithm off (TCP_NODELAY, tcp(7)).
func SetNoDelay(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// SetNonblock makes a descriptor that came from outside non-blocking; nothing in
// this package may be used with one that is not.
func SetNonblock(fd int) error { return unix.SetNonblock(fd, true) }

// SetLinger0 has the next Close send RST and drop what is unsent (SO_LINGER with
// a time of zero, socket(7)).
func SetLinger0(fd int) error {
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// Unsent is how much of what was sent the peer's kernel has not confirmed, on a Unix
// socket: what the peer has not read (SIOCOUTQ, tcp(7)). 0 if nobody can say.
func Unsent(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// ShutdownWrite ends our direction: the peer reads EOF after what was sent.
func ShutdownWrite(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }

// Close closes a descriptor. It is closed even when the error is EINTR, so it is
// never closed twice (close(2), NOTES).
func Close(fd int) error { return unix.Close(fd) }
