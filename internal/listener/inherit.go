package listener

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"belay/internal/eventloop"
)

// adopt takes over sockets that another process bound.
func (l *Listener) adopt(fds []int) error {
	fds = slices.Clone(fds)
	l.sockets.Store(&fds)
	for i, fd := range fds {
		in, err := eventloop.Adopt(fd, l.Address, l.options)
		if err != nil {
			return fmt.Errorf("inherited socket %d of %d: %w", i+1, len(fds), err)
		}
		if l.Address == (eventloop.Address{}) {
			l.Address = in.Address
		}
		l.v6only = in.V6Only
	}
	all6 := l.Address.AP.Addr() == netip.IPv6Unspecified()
	if want := l.Config.IPv6Only; all6 && want != l.v6only {
		l.warn("ipv6_only is %t, but the socket was bound with %t: takes a restart", want, l.v6only)
	}
	if want := l.Config.Sockets; l.Address.Unix == "" && want > 0 && want != len(fds) {
		l.warn("sockets is %d, but the address was bound with %d: takes a restart", want, len(fds))
	}
	if l.Config.Systemd != "" { // the socket unit says what mode its file has
		return nil
	}
	if p := l.Address.Unix; p != "" && p[0] != '@' {
		return l.adoptFile(p)
	}
	return nil
}

func (l *Listener) warn(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

// adoptFile gives the file of a Unix socket the mode that is configured. The
// file may be another user's, systemd's for example, whose mode then holds.
func (l *Listener) adoptFile(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("inherited socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("inherited socket: %s is no socket any more: %w", path, fs.ErrExist)
	}
	l.file = info
	want := fs.FileMode(l.Config.UnixMode)
	if want == 0 {
		want = 0o660
	}
	if info.Mode().Perm() == want {
		return nil
	}
	if err := os.Chmod(path, want); err != nil {
		l.warn("mode is %04o, not %04o: %v", info.Mode().Perm(), want, err)
	}
	return nil
}
