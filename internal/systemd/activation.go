package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// firstSocket is SD_LISTEN_FDS_START.
const firstSocket = 3

// Socket is a descriptor that the service manager handed over: an activation
// socket, or anything out of the descriptor store.
type Socket struct {
	Name string // FileDescriptorName= or FDNAME; shared by several, or "", if nobody gave one
	FD   int    // the caller's, non-blocking and close-on-exec
}

// Sockets takes the descriptors that the manager handed to this process,
// sd_listen_fds_with_names(3), and removes LISTEN_PID, LISTEN_FDS and
// LISTEN_FDNAMES from the environment in any case, so it finds them only once. It
// returns nil if there are none or if they are meant for another process; with an
// error all stay open. Their order depends on the version of systemd.
//
// No os.File is made of them: its finaliser would close a live listener, and its
// Fd method would make it blocking for every process that shares it.
func Sockets() ([]Socket, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	list := os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if pid == "" || count == "" {
		return nil, nil
	}
	if p, err := number("LISTEN_PID", pid); err != nil || p != os.Getpid() {
		return nil, err
	}
	n, err := number("LISTEN_FDS", count)
	if err != nil || n == 0 {
		return nil, err
	}
	var names []string
	if list != "" {
		names = strings.Split(list, ":")
		if len(names) != n {
			return nil, fmt.Errorf("LISTEN_FDNAMES=%s: %d names for the %d descriptors of LISTEN_FDS", list, len(names), n)
		}
	}
	var sockets []Socket
	for i := range n {
		s := Socket{FD: firstSocket + i}
		if names != nil {
			s.Name = names[i]
		}
		if err := prepare(s.FD); err != nil {
			return nil, fmt.Errorf("LISTEN_FDS=%s: descriptor %d: %w", count, s.FD, err)
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

// prepare makes a descriptor fit for an event loop: systemd 252 hands them over
// blocking, and without close-on-exec.
func prepare(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return fmt.Errorf("set FD_CLOEXEC: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("set O_NONBLOCK: %w", err)
	}
	return nil
}

// number parses what systemd writes as a PID or a count.
func number(name, text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%s=%s: not a number that fits", name, text)
	}
	return int(n), nil
}

// WatchdogInterval is the time in which the manager wants to hear WATCHDOG=1 at
// least once, sd_watchdog_enabled(3); false if it does not, or not from this
// process, or if its figure cannot be read. It removes WATCHDOG_USEC and
// WATCHDOG_PID from the environment.
func WatchdogInterval() (time.Duration, bool) {
	d, err := daemon.SdWatchdogEnabled(true)
	if err != nil || d <= 0 {
		return 0, false
	}
	return d, true
}
