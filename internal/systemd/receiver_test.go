package systemd

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// receiver is the other end of a datagram: the service manager or the journal.
type receiver struct {
	fd   int
	name string
}

// newReceiver listens on a path, or on the abstract socket of a name that begins
// with "@".
func newReceiver(t *testing.T, name string) *receiver {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatalf("bind %s: %v", name, err)
	}
	return &receiver{fd: fd, name: name}
}

// next is the next datagram with its descriptors, which are closed with the test.
func (r *receiver) next(t *testing.T) (string, []int) {
	t.Helper()
	b, oob := make([]byte, 64<<10), make([]byte, 1<<10)
	for {
		n, oobn, flags, _, err := unix.Recvmsg(r.fd, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			t.Fatalf("truncated: flags %x", flags)
		}
		return string(b[:n]), received(t, oob[:oobn])
	}
}

func received(t *testing.T, oob []byte) []int {
	t.Helper()
	if len(oob) == 0 {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fds...)
	}
	return all
}

// names are a path and an abstract socket that nobody else uses.
func names(t *testing.T) map[string]string {
	return map[string]string{
		"path":     t.TempDir() + "/notify",
		"abstract": fmt.Sprintf("@belay-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")),
	}
}

// sameFile reports whether two descriptors are of the same file.
func sameFile(t *testing.T, a, b int) bool {
	t.Helper()
	var sa, sb unix.Stat_t
	if err := unix.Fstat(a, &sa); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fstat(b, &sb); err != nil {
		t.Fatal(err)
	}
	return sa.Dev == sb.Dev && sa.Ino == sb.Ino
}
