package eventloop

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below carry the data path. They cannot wait, whatever the
// descriptor's own flags say, because MSG_DONTWAIT is among theirs; that is what
// allows the raw calls. A result of EAGAIN means: wait for the next event.

// Recv takes up to len(p) bytes (recv(2)); p must not be empty. 0 bytes without
// an error is the end of the stream.
func Recv(fd int, p []byte) (int, syscall.Errno) {
	if len(p) == 0 {
		return 0, syscall.EINVAL // 0 would look like the end
	}
	return recv(fd, p, unix.MSG_DONTWAIT)
}

func recv(fd int, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
			continue
		}
		return 0, errno
	}
}

// Peek looks whether a connection has data or has ended, and leaves both where
// they are. Neither, and EAGAIN, is what a quiet live connection gives.
func Peek(fd int) (data, eof bool, err syscall.Errno) {
	var b [1]byte
	n, err := recv(fd, b[:], unix.MSG_DONTWAIT|unix.MSG_PEEK)
	return n > 0, n == 0 && err == 0, err
}

// Send gives p to the socket, as much of it as fits (send(2)), without SIGPIPE.
func Send(fd int, p []byte) (int, syscall.Errno) {
	if len(p) == 0 {
		return 0, 0
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
			continue
		}
		return 0, errno
	}
}

// Sendv is Send for a followed by b, in one call (sendmsg(2)); n counts over both.
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
	msg.SetIovlen(len(iov))
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
			continue
		}
		return 0, errno
	}
}
