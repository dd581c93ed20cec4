package systemd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// The manager drops a notification that is longer than its buffer, or that has a
// NUL in it, without a word to the sender (manager_dispatch_notify_fd in
// systemd's src/core/manager.c).
const (
	notifyMax = 4096 // bytes of a datagram
	statusMax = 2048 // bytes of a status text, which is cut
	nameMax   = 255  // bytes of a name in the descriptor store, FDNAME_MAX
)

// Notifier tells the service manager about this process, sd_notify(3). One
// datagram is sent a call, and each call takes a second at most. A nil Notifier
// does nothing and returns nil, so callers need not ask whether there is a
// manager. It may be used by several goroutines at once.
//
// That nil is returned says that the manager has the datagram, not that it
// heeded it: messages of a process that NotifyAccess= does not allow are dropped.
//
// There is no method for RELOADING=1, and it must not be sent: after a failed
// ExecReload= systemd 252 would wait for the READY=1 for ever.
type Notifier struct {
	socket string
	out    *datagram
	err    error // why there is no socket; told by every call
}

// NewNotifier is the Notifier for the socket in NOTIFY_SOCKET, nil if that is
// unset or empty. The variable stays in the environment for the children.
func NewNotifier() *Notifier {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	n := &Notifier{socket: socket}
	if socket[0] != '/' && socket[0] != '@' {
		n.err = errors.New("neither an absolute path nor an abstract socket")
		return n
	}
	n.out, n.err = newDatagram(socket)
	return n
}

// Send sends assignments, each a NAME=value without newline and NUL, as one
// datagram.
func (n *Notifier) Send(lines ...string) error { return n.send(lines) }

// Ready says that the process serves. An empty status leaves the old text.
func (n *Notifier) Ready(status string) error {
	return n.send(withStatus([]string{"READY=1"}, status))
}

// Status sets the text that systemctl status shows; an empty one removes it.
func (n *Notifier) Status(text string) error { return n.send([]string{statusLine(text)}) }

// Stopping says that the process, which must be the main one, is about to end.
// An empty status leaves the old text.
func (n *Notifier) Stopping(status string) error {
	return n.send(withStatus([]string{"STOPPING=1"}, status))
}

// Errno tells why the process is about to fail. An empty status leaves the old
// text.
func (n *Notifier) Errno(e syscall.Errno, status string) error {
	return n.send(withStatus([]string{"ERRNO=" + strconv.Itoa(int(e))}, status))
}

// Extend asks for d more from now on for a start, a reload or a stop.
func (n *Notifier) Extend(d time.Duration) error {
	return n.send([]string{"EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10)})
}

// Watchdog says that the process is alive and well.
func (n *Notifier) Watchdog() error { return n.send([]string{"WATCHDOG=1"}) }

// MainPID makes pid the main process of the service and says in the same
// datagram that it serves. An empty status leaves the old text.
func (n *Notifier) MainPID(pid int, status string) error {
	return n.send(withStatus([]string{"MAINPID=" + strconv.Itoa(pid), "READY=1"}, status))
}

// Store has the manager keep a copy of fd under name for the next start of the
// service. name must be 1 to 255 printable ASCII characters without colon, and
// should be of this descriptor alone. fd stays the caller's.
func (n *Notifier) Store(name string, fd int) error {
	if n == nil {
		return nil
	}
	if err := checkName(name); err != nil {
		return err
	}
	return n.send([]string{"FDSTORE=1", "FDNAME=" + name}, fd)
}

// Unstore has the manager close all that it keeps under name.
func (n *Notifier) Unstore(name string) error {
	if n == nil {
		return nil
	}
	if err := checkName(name); err != nil {
		return err
	}
	return n.send([]string{"FDSTOREREMOVE=1", "FDNAME=" + name})
}

// Barrier waits until the manager has handled, or dropped, all that this process
// sent before, sd_notify_barrier(3). When it has not in timeout, the error is
// os.ErrDeadlineExceeded.
func (n *Notifier) Barrier(timeout time.Duration) error {
	if n == nil {
		return nil
	}
	deadline := time.Now().Add(timeout)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("BARRIER: pipe: %w", err)
	}
	defer unix.Close(pipe[0])
	err := n.send([]string{"BARRIER=1"}, pipe[1]) // the manager takes it in a datagram of its own only
	unix.Close(pipe[1])
	if err != nil {
		return err
	}
	if err := waitHangup(pipe[0], deadline); err != nil {
		return fmt.Errorf("BARRIER: NOTIFY_SOCKET=%s: not answered in %v: %w", n.socket, timeout, err)
	}
	return nil
}

// waitHangup waits until the other end of the pipe is closed.
func waitHangup(fd int, deadline time.Time) error {
	for {
		left := max(0, time.Until(deadline))
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond))
		switch {
		case err != nil && err != unix.EINTR:
			return fmt.Errorf("poll: %w", err)
		case n > 0:
			return nil
		case left == 0:
			return os.ErrDeadlineExceeded
		}
	}
}

// send sends the lines as one datagram, with copies of fds.
func (n *Notifier) send(lines []string, fds ...int) error {
	if n == nil || len(lines) == 0 {
		return nil
	}
	text := strings.Join(lines, "\n")
	err := n.err
	switch {
	case err != nil:
	case strings.Count(text, "\n") >= len(lines) || strings.Contains(text, "\x00"):
		err = errors.New("a newline or NUL in a value")
	case len(text) > notifyMax:
		err = fmt.Errorf("%d bytes are more than the manager takes, %d", len(text), notifyMax)
	default:
		err = n.out.send([]byte(text), fds...)
	}
	if err != nil {
		return fmt.Errorf("%s: NOTIFY_SOCKET=%s: %w", variables(lines), n.socket, err)
	}
	return nil
}

// variables names what the lines set.
func variables(lines []string) string {
	names := make([]string, len(lines))
	for i, l := range lines {
		names[i], _, _ = strings.Cut(l, "=")
	}
	return strings.Join(names, ", ")
}

func withStatus(lines []string, status string) []string {
	if status == "" {
		return lines
	}
	return append(lines, statusLine(status))
}

// statusLine makes of any text one line that the manager takes: it ignores a
// status that is not UTF-8.
func statusLine(text string) string {
	if len(text) > statusMax {
		text = text[:statusMax]
	}
	text = strings.ToValidUTF8(text, "")
	return "STATUS=" + strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// checkName is fdname_is_valid of systemd, which silently files a descriptor
// under another name if it is not; and the empty name is refused.
func checkName(name string) error {
	if name == "" || len(name) > nameMax {
		return fmt.Errorf("FDNAME %q: a name has 1 to %d bytes, this one %d", name, nameMax, len(name))
	}
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7f || c == ':' {
			return fmt.Errorf("FDNAME %q: %q is not allowed", name, c)
		}
	}
	return nil
}
