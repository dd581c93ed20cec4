package systemd

import (
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// notifier makes a manager and what speaks to it.
func notifier(t *testing.T, socket string) (*receiver, *Notifier) {
	t.Helper()
	r := newReceiver(t, socket)
	t.Setenv("NOTIFY_SOCKET", socket)
	n := NewNotifier()
	t.Cleanup(func() { unix.Close(n.out.fd) })
	if os.Getenv("NOTIFY_SOCKET") != socket {
		t.Error("NOTIFY_SOCKET is gone, so children cannot notify")
	}
	return r, n
}

func TestNotifierMessages(t *testing.T) {
	tests := []struct {
		name string
		call func(n *Notifier) error
		want string
	}{
		{"send", func(n *Notifier) error { return n.Send("A=1", "B=2") }, "A=1\nB=2"},
		{"ready", func(n *Notifier) error { return n.Ready("serving") }, "READY=1\nSTATUS=serving"},
		{"ready alone", func(n *Notifier) error { return n.Ready("") }, "READY=1"},
		{"status", func(n *Notifier) error { return n.Status("12 connections") }, "STATUS=12 connections"},
		{"status removed", func(n *Notifier) error { return n.Status("") }, "STATUS="},
		{"status of lines", func(n *Notifier) error { return n.Status("a\nREADY=1\r\x00b") }, "STATUS=a READY=1  b"},
		{"status not UTF-8", func(n *Notifier) error { return n.Status("gr\xfc\xdfe") }, "STATUS=gre"},
		{"stopping", func(n *Notifier) error { return n.Stopping("draining") }, "STOPPING=1\nSTATUS=draining"},
		{"errno", func(n *Notifier) error { return n.Errno(syscall.EADDRINUSE, "cannot bind") }, "ERRNO=98\nSTATUS=cannot bind"},
		{"extend", func(n *Notifier) error { return n.Extend(2500 * time.Millisecond) }, "EXTEND_TIMEOUT_USEC=2500000"},
		{"watchdog", (*Notifier).Watchdog, "WATCHDOG=1"},
		{"main PID", func(n *Notifier) error { return n.MainPID(4711, "epoch 2") }, "MAINPID=4711\nREADY=1\nSTATUS=epoch 2"},
		{"unstore", func(n *Notifier) error { return n.Unstore("web-0") }, "FDSTOREREMOVE=1\nFDNAME=web-0"},
	}
	for kind, socket := range names(t) {
		r, n := notifier(t, socket)
		for _, tt := range tests {
			t.Run(kind+" "+tt.name, func(t *testing.T) {
				if err := tt.call(n); err != nil {
					t.Fatal(err)
				}
				if got, fds := r.next(t); got != tt.want || len(fds) != 0 {
					t.Errorf("got %q with descriptors %v, want %q", got, fds, tt.want)
				}
			})
		}
	}
	t.Run("without a manager", func(t *testing.T) {
		t.Setenv("NOTIFY_SOCKET", "")
		n := NewNotifier()
		if n != nil {
			t.Fatalf("a Notifier for no socket: %+v", n)
		}
		for _, tt := range tests {
			if err := tt.call(n); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if err := errors.Join(n.Store("a", 0), n.Barrier(0)); err != nil {
			t.Error(err)
		}
	})
}

func TestNotifierStatusIsCut(t *testing.T) {
	r, n := notifier(t, names(t)["path"])
	if err := n.MainPID(1, strings.Repeat("ü", 5000)); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.next(t); len(got) > notifyMax || !utf8.ValidString(got) || !strings.HasPrefix(got, "MAINPID=1\nREADY=1\nSTATUS=üü") {
		t.Errorf("%d bytes: %.50q", len(got), got)
	}
	// An odd byte in front makes the cut fall into a character.
	if err := n.Status("x" + strings.Repeat("ü", 5000)); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.next(t); !utf8.ValidString(got) {
		t.Error("cut within a character")
	}
}

func TestNotifierStore(t *testing.T) {
	for kind, socket := range names(t) {
		t.Run(kind, func(t *testing.T) {
			r, n := notifier(t, socket)
			if err := n.Store("web-0", r.fd); err != nil {
				t.Fatal(err)
			}
			got, fds := r.next(t)
			if want := "FDSTORE=1\nFDNAME=web-0"; got != want || len(fds) != 1 {
				t.Fatalf("got %q with descriptors %v, want %q with one", got, fds, want)
			}
			defer unix.Close(fds[0])
			if !sameFile(t, fds[0], r.fd) {
				t.Error("another descriptor came")
			}
		})
	}
}

func TestNotifierStoreName(t *testing.T) {
	r, n := notifier(t, names(t)["path"])
	for _, name := range []string{"", "a:b", "a\nREADY=1", "a\x00", "a\x7f", "grün", strings.Repeat("n", 256)} {
		for what, err := range map[string]error{"Store": n.Store(name, r.fd), "Unstore": n.Unstore(name)} {
			if err == nil || !strings.Contains(err.Error(), "FDNAME") {
				t.Errorf("%s(%.10q): %v", what, name, err)
			}
		}
	}
	long := strings.Repeat("n", 255)
	if err := n.Store(long, r.fd); err != nil {
		t.Fatal(err)
	}
	got, fds := r.next(t)
	if got != "FDSTORE=1\nFDNAME="+long {
		t.Errorf("something else was sent: %.40q", got)
	}
	unix.Close(fds[0])
}

func TestNotifierStoreBadDescriptor(t *testing.T) {
	_, n := notifier(t, names(t)["path"])
	if err := n.Store("web-0", -1); !errors.Is(err, syscall.EBADF) || !strings.Contains(err.Error(), "FDSTORE") {
		t.Error(err)
	}
}

func TestNotifierErrors(t *testing.T) {
	gone := t.TempDir() + "/gone"
	for _, tt := range []struct {
		name, socket string
		call         func(n *Notifier) error
		want         []string
	}{
		{"nobody there", gone, func(n *Notifier) error { return n.Ready("") }, []string{"READY", "NOTIFY_SOCKET=" + gone, "no such file"}},
		{"barrier, nobody there", gone, func(n *Notifier) error { return n.Barrier(time.Hour) }, []string{"BARRIER", gone}},
		{"vsock", "vsock:2:1234", (*Notifier).Watchdog, []string{"WATCHDOG", "NOTIFY_SOCKET=vsock:2:1234"}},
		{"relative", "run/notify", (*Notifier).Watchdog, []string{"NOTIFY_SOCKET=run/notify"}},
		{"long", "/" + strings.Repeat("x", 200), (*Notifier).Watchdog, []string{"NOTIFY_SOCKET=/xxx", "invalid argument"}},
		{"newline", gone, func(n *Notifier) error { return n.Send("A=1\nB=2") }, []string{"A", "newline"}},
		{"NUL", gone, func(n *Notifier) error { return n.Send("A=\x00") }, []string{"A", "NUL"}},
		{"too long", gone, func(n *Notifier) error { return n.Send("A=" + strings.Repeat("a", 4095)) }, []string{"A: ", "4097"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", tt.socket)
			err := tt.call(NewNotifier())
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not tell %q", err, w)
				}
			}
		})
	}
}

// A manager that stands still must not hold up its services.
func TestNotifierManagerHangs(t *testing.T) {
	r, n := notifier(t, names(t)["path"])
	var err error
	for range 1 << 16 { // the queue of a datagram socket is far shorter
		if err = unix.Sendto(n.out.fd, []byte("X=1"), unix.MSG_DONTWAIT, &unix.SockaddrUnix{Name: r.name}); err != nil {
			break
		}
	}
	if err != unix.EAGAIN {
		t.Fatalf("the queue is not full: %v", err)
	}
	if err := n.Watchdog(); !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "WATCHDOG") {
		t.Error(err)
	}
}

// The manager is executed anew, or a first one ends and a second one begins.
func TestNotifierNewManager(t *testing.T) {
	r, n := notifier(t, names(t)["path"])
	if err := os.Remove(r.name); err != nil {
		t.Fatal(err)
	}
	if err := n.Watchdog(); !errors.Is(err, syscall.ENOENT) {
		t.Fatal(err)
	}
	second := newReceiver(t, r.name)
	if err := n.Watchdog(); err != nil {
		t.Fatal(err)
	}
	if got, _ := second.next(t); got != "WATCHDOG=1" {
		t.Errorf("got %q", got)
	}
}

func TestBarrier(t *testing.T) {
	for kind, socket := range names(t) {
		t.Run(kind, func(t *testing.T) {
			r, n := notifier(t, socket)
			done := make(chan error, 1)
			go func() { done <- n.Barrier(time.Hour) }()
			got, fds := r.next(t)
			if got != "BARRIER=1" || len(fds) != 1 {
				t.Fatalf("got %q with descriptors %v", got, fds)
			}
			select {
			case err := <-done:
				t.Fatalf("did not wait: %v", err)
			default:
			}
			// Only the end of the pipe counts, not what is in it.
			if _, err := unix.Write(fds[0], []byte("x")); err != nil {
				t.Fatal(err)
			}
			unix.Close(fds[0])
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBarrierTimeout(t *testing.T) {
	r, n := notifier(t, names(t)["path"])
	for _, timeout := range []time.Duration{-1, 0, time.Millisecond} {
		err := n.Barrier(timeout)
		if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "BARRIER") {
			t.Errorf("%v: %v", timeout, err)
		}
		_, fds := r.next(t)
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

func TestNotifierConcurrently(t *testing.T) {
	r, n := notifier(t, names(t)["abstract"])
	const senders, each = 8, 50
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range each {
				if err := n.MainPID(1, "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range senders * each {
		if got, _ := r.next(t); got != "MAINPID=1\nREADY=1\nSTATUS=x" {
			t.Errorf("got %q", got)
		}
	}
	wg.Wait()
}
