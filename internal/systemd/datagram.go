package systemd

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sendTime bounds one datagram: a manager or a journal that does not read must
// not hold up a restart.
const sendTime = time.Second

// datagram is a Unix datagram socket that stays unconnected, so that it outlives
// the receiver, and stays open, so that a full descriptor table cannot silence
// the watchdog. It may be used by several goroutines at once.
type datagram struct {
	fd int
	to string
}

// newDatagram makes a socket that sends to name, a path or "@" and the name of an
// abstract socket. It is blocking with a time limit: its users have threads to
// spare, and no event loop.
func newDatagram(name string) (*datagram, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	limit := unix.NsecToTimeval(int64(sendTime))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set SO_SNDTIMEO: %w", err)
	}
	return &datagram{fd: fd, to: name}, nil
}

// send sends one datagram with copies of fds, which stay the caller's.
func (d *datagram) send(b []byte, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	to := &unix.SockaddrUnix{Name: d.to} // written to by Sendmsg, so not shared
	deadline := time.Now().Add(sendTime)
	for {
		err := unix.Sendmsg(d.fd, b, rights, to, unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EINTR && time.Now().Before(deadline): // SO_SNDTIMEO switches SA_RESTART off, signal(7)
			continue
		case err == unix.EAGAIN || err == unix.EINTR:
			return fmt.Errorf("the receiver took nothing for %v: %w", sendTime, os.ErrDeadlineExceeded)
		}
		return err
	}
}
