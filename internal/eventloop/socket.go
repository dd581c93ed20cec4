package eventloop

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Address is where a socket listens or connects: an IP address with a port, or
// the path of a Unix socket.
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

func (a Address) sockaddr() (int, unix.Sockaddr) {
	if a.Unix != "" {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: a.Unix}
	}
	ip := a.AP.Addr()
	if ip.Is4() || ip.Is4In6() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.AP.Port()), Addr: ip.Unmap().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.AP.Port()), Addr: ip.As16(), ZoneId: zoneID(ip.Zone())}
}

func zoneID(zone string) uint32 {
	var n uint32
	if _, err := fmt.Sscan(zone, &n); err == nil {
		return n
	}
	if zone == "" {
		return 0
	}
	b, err := os.ReadFile("/sys/class/net/" + strings.ReplaceAll(zone, "/", "") + "/ifindex")
	if err == nil {
		fmt.Sscan(string(b), &n)
	}
	return n
}

// ListenConfig are the options of a listen socket.
type ListenConfig struct {
	Backlog   int
	ReusePort bool
	V6Only    bool
	UnixMode  uint32 // of the socket file; 0: 0660
	Nodelay   bool   // TCP_NODELAY, which accepted sockets inherit
}

// Listen makes a listening socket, non-blocking and close-on-exec. A wildcard
// IPv6 address takes both families unless V6Only. The socket file of a Unix
// listener that nobody listens on any more is replaced.
func Listen(a Address, c ListenConfig) (int, error) {
	fd, err := bound(a, c)
	if err != nil {
		return -1, err
	}
	if err := unix.Listen(fd, max(1, c.Backlog)); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen on %s: %w", a, err)
	}
	return fd, nil
}

// Probe tries whether the address could be had by us alone. SO_REUSEPORT would
// join the sockets of another process of the same user without a word.
func Probe(a Address, c ListenConfig) error {
	c.ReusePort = false
	fd, err := bound(a, c)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func bound(a Address, c ListenConfig) (int, error) {
	family, sa := a.sockaddr()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("listen on %s: socket: %w", a, err)
	}
	if a.Unix != "" {
		err = bindUnix(fd, a, c.UnixMode)
	} else {
		err = setListenOptions(fd, family, c)
		if err == nil {
			err = unix.Bind(fd, sa)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen on %s: %w", a, err)
	}
	return fd, nil
}

func setListenOptions(fd, family int, c ListenConfig) error {
	set := func(level, opt int, on bool) error {
		v := 0
		if on {
			v = 1
		}
		return unix.SetsockoptInt(fd, level, opt, v)
	}
	err := set(unix.SOL_SOCKET, unix.SO_REUSEADDR, true)
	if err == nil && c.ReusePort {
		err = set(unix.SOL_SOCKET, unix.SO_REUSEPORT, true)
	}
	if err == nil && family == unix.AF_INET6 {
		err = set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, c.V6Only)
	}
	if err == nil && c.Nodelay {
		err = set(unix.IPPROTO_TCP, unix.TCP_NODELAY, true)
	}
	return err
}

// bindUnix binds under a name of our own and renames, so that nobody sees the
// socket with another mode than the one asked for.
func bindUnix(fd int, a Address, mode uint32) error {
	if mode == 0 {
		mode = 0o660
	}
	if err := checkStale(a); err != nil {
		return err
	}
	temp := fmt.Sprintf("%s.%d", a.Unix, os.Getpid())
	os.Remove(temp)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: temp}); err != nil {
		return err
	}
	if err := os.Chmod(temp, fs.FileMode(mode)); err != nil {
		os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, a.Unix); err != nil {
		os.Remove(temp)
		return err
	}
	return nil
}

// checkStale refuses a path that is no socket or on which somebody listens.
func checkStale(a Address) error {
	info, err := os.Lstat(a.Unix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is not a socket", a.Unix)
	}
	fd, _, err := Connect(a)
	if err == nil {
		Close(fd)
		return unix.EADDRINUSE
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	return err
}

// Accept takes a connection off fd's queue: non-blocking, close-on-exec. The
// peer of a Unix socket is the zero AddrPort; IPv4 comes as IPv4.
func Accept(fd int) (int, netip.AddrPort, syscall.Errno) {
	var sa unix.RawSockaddrAny
	n := uint32(unix.SizeofSockaddrAny)
	for {
		r, _, errno := syscall.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&n)),
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return -1, netip.AddrPort{}, errno
		}
		return int(r), addrPort(&sa), 0
	}
}

func addrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	port := func(p *uint16) uint16 { b := (*[2]byte)(unsafe.Pointer(p)); return uint16(b[0])<<8 | uint16(b[1]) }
	switch sa.Addr.Family {
	case unix.AF_INET:
		s := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), port(&s.Port))
	case unix.AF_INET6:
		s := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), port(&s.Port))
	}
	return netip.AddrPort{}
}

// Connect starts to connect a new non-blocking socket; inProgress says that the
// end of it will be an Out event, with the outcome in SocketError.
func Connect(a Address) (fd int, inProgress bool, err error) {
	family, sa := a.sockaddr()
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, false, fmt.Errorf("connect to %s: socket: %w", a, err)
	}
	if a.Unix == "" {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	err = unix.Connect(fd, sa)
	switch err {
	case nil:
		return fd, false, nil
	case unix.EINPROGRESS, unix.EINTR:
		return fd, true, nil
	}
	unix.Close(fd)
	return -1, false, fmt.Errorf("connect to %s: %w", a, err)
}

// Recv is recv(2) with MSG_DONTWAIT. It cannot block, which is what allows the
// raw call.
func Recv(fd int, p []byte) (int, syscall.Errno) {
	if len(p) == 0 {
		return 0, syscall.EINVAL
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Send is send(2) with MSG_DONTWAIT and without SIGPIPE.
func Send(fd int, p []byte) (int, syscall.Errno) {
	if len(p) == 0 {
		return 0, 0
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Sendv sends a, then b, in one call.
func Sendv(fd int, a, b []byte) (int, syscall.Errno) {
	if len(a) == 0 {
		return Send(fd, b)
	}
	if len(b) == 0 {
		return Send(fd, a)
	}
	iov := [2]unix.Iovec{{Base: &a[0]}, {Base: &b[0]}}
	iov[0].SetLen(len(a))
	iov[1].SetLen(len(b))
	msg := unix.Msghdr{Iov: &iov[0]}
	msg.SetIovlen(2)
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Peek looks whether a connection has data or has ended, without taking it.
func Peek(fd int) (data, eof bool, errno syscall.Errno) {
	var b [1]byte
	for {
		n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), 1, unix.MSG_DONTWAIT|unix.MSG_PEEK, 0, 0)
		switch {
		case e == syscall.EINTR:
			continue
		case e != 0:
			return false, false, e
		}
		return n > 0, n == 0, 0
	}
}

// Read is read(2).
func Read(fd int, p []byte) (int, error) { return unix.Read(fd, p) }

// SocketError takes a socket's pending error (SO_ERROR).
func SocketError(fd int) syscall.Errno {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		if e, ok := err.(syscall.Errno); ok {
			return e
		}
		return syscall.EIO
	}
	return syscall.Errno(v)
}

// LocalAddr is the socket's own address.
func LocalAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	switch s := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), uint16(s.Port)), nil
	}
	return netip.AddrPort{}, nil
}

// SetNoDelay turns Nagle's algorithm off.
func SetNoDelay(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// SetNonblock makes a descriptor from outside non-blocking.
func SetNonblock(fd int) error { return unix.SetNonblock(fd, true) }

// SetLinger0 has the next Close send RST.
func SetLinger0(fd int) error {
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// ShutdownWrite ends our direction.
func ShutdownWrite(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }

// Close closes a descriptor; EINTR closes it too on Linux (close(2)).
func Close(fd int) error { return unix.Close(fd) }

// Monotonic is the time since the program began, in ns; the clock is the one
// behind time.Now, read without a system call.
func Monotonic() int64 { return int64(time.Since(began)) + 1 }

// began makes small times; 0 is kept free for "not yet".
var began = time.Now()
