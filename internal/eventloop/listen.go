package eventloop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

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

// Listen makes a listening socket, non-blocking and close-on-exec, which the
// caller closes. [::] takes both families unless V6Only. The file of a Unix
// socket that nobody listens on any more is replaced; an address in use is
// unix.EADDRINUSE for both kinds. Close leaves the file where it is.
func Listen(a Address, c ListenConfig) (fd int, err error) {
	fd, err = listen(a, c)
	if err != nil {
		return -1, fmt.Errorf("listen on %s: %w", a, err)
	}
	return fd, nil
}

// Probe finds out whether the address could be had by us alone: SO_REUSEPORT
// would join the sockets that another process of the same user has there without
// a word. It is for the time before the first Listen; a Unix address is only
// looked at.
func Probe(a Address, c ListenConfig) error {
	if a.Unix != "" {
		if _, err := stale(a); err != nil {
			return fmt.Errorf("probe %s: %w", a, err)
		}
		return nil
	}
	c.ReusePort, c.Backlog = false, 1
	fd, err := listen(a, c)
	if err != nil {
		return fmt.Errorf("probe %s: %w", a, err)
	}
	return unix.Close(fd)
}

func listen(a Address, c ListenConfig) (int, error) {
	family, sa, err := a.sockaddr()
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if family == unix.AF_UNIX {
		err = listenUnix(fd, a, c)
	} else {
		err = setListenOptions(fd, family, c)
		if err == nil {
			err = unix.Bind(fd, sa)
		}
		if err == nil {
			err = unix.Listen(fd, max(1, c.Backlog))
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

// listenUnix binds, listens and only then widens the permissions to what was
// asked for: bind(2) makes the file with the socket's own mode less the umask, so
// at no time may more users connect than shall.
func listenUnix(fd int, a Address, c ListenConfig) error {
	abstract := a.Unix[0] == '@'
	mode := c.UnixMode
	if mode == 0 {
		mode = 0o660
	}
	if !abstract {
		if found, err := stale(a); err != nil {
			return err
		} else if found {
			if err := os.Remove(a.Unix); err != nil {
				return fmt.Errorf("replace stale socket: %w", err)
			}
		}
		if err := unix.Fchmod(fd, mode); err != nil {
			return fmt.Errorf("set mode of socket: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: a.Unix}); err != nil {
		return err
	}
	err := unix.Listen(fd, max(1, c.Backlog))
	if err == nil && !abstract {
		err = os.Chmod(a.Unix, fs.FileMode(mode))
	}
	if err != nil && !abstract {
		os.Remove(a.Unix)
	}
	return err
}

// stale reports whether there is a socket file that nobody listens on. A file of
// another kind, or somebody listening, is an error.
func stale(a Address) (bool, error) {
	if a.Unix[0] != '@' {
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
