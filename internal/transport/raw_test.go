package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"belay/internal/eventloop"
)

// watch is an Owner that remembers what it was told.
type watch struct {
	seen  eventloop.Events
	calls int
	ready func()
}

func (w *watch) Ready(ev eventloop.Events) {
	w.seen |= ev
	w.calls++
	if w.ready != nil {
		w.ready()
	}
}

// socketPair is two connected Unix sockets, non-blocking.
func socketPair(t testing.TB) (ours, peer int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

// tcpPair is the same over TCP.
func tcpPair(t testing.TB) (ours, peer int) {
	t.Helper()
	fd, err := eventloop.Listen(loopback(0), eventloop.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer eventloop.Close(fd)
	at, err := eventloop.LocalAddr(fd)
	if err != nil {
		t.Fatal(err)
	}
	peer, _, err = eventloop.Connect(eventloop.Address{AP: at})
	if err != nil {
		t.Fatal(err)
	}
	ours, _, errno := eventloop.Accept(fd)
	if errno != 0 {
		t.Fatal(errno)
	}
	return ours, peer
}

func loopback(port uint16) eventloop.Address {
	return eventloop.Address{AP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
}

// kinds are the sockets every test of Raw runs over.
var kinds = []struct {
	name string
	pair func(testing.TB) (ours, peer int)
}{{"unix", socketPair}, {"tcp", tcpPair}}

// onEach runs f for every kind, with a Raw whose first event, Out, has come.
func onEach(t *testing.T, f func(t *testing.T, l loop, r *Raw, w *watch, peer int)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			l := startLoop(t)
			ours, peer := k.pair(t)
			w := &watch{}
			r := accept(t, l, ours, w)
			t.Cleanup(func() { eventloop.Close(peer) })
			l.until(t, "the first event", func() bool { return w.seen&eventloop.Out != 0 })
			l.do(func() { w.seen, w.calls = 0, 0 })
			f(t, l, r, w, peer)
		})
	}
}

// accept makes a Raw that is closed with the test.
func accept(t testing.TB, l loop, fd int, o Owner) (r *Raw) {
	t.Helper()
	var err error
	l.do(func() { r, err = Accept(l.Worker, fd, o) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.do(r.Close) })
	return r
}

func say(t testing.TB, fd int, s string) {
	t.Helper()
	if n, errno := eventloop.Send(fd, []byte(s)); n != len(s) || errno != 0 {
		t.Errorf("sent %d of %d: %v", n, len(s), errno)
	}
}

func wantRead(t testing.TB, r *Raw, size int, want string, wantErr error) {
	t.Helper()
	p := make([]byte, size)
	n, err := r.Read(p)
	if string(p[:n]) != want || !errors.Is(err, wantErr) {
		t.Errorf("Read = %q, %v; want %q, %v", p[:n], err, want, wantErr)
	}
}

func (r *Raw) wantReadable(t testing.TB, want bool) {
	t.Helper()
	if r.Readable() != want {
		t.Errorf("Readable is %t", !want)
	}
}

// TestReadDry: a short read proves the socket dry, so the next read does not
// even ask; what comes later is told by an event.
func TestReadDry(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		l.do(func() { wantRead(t, r, 16, "", ErrAgain) })
		say(t, peer, "abc")
		l.until(t, "data", r.Readable)
		l.do(func() {
			wantRead(t, r, 16, "abc", nil)
			r.wantReadable(t, false)
			say(t, peer, "def")
			wantRead(t, r, 16, "", ErrAgain) // it is there, its event is not
		})
		l.until(t, "more data", r.Readable)
		l.do(func() { wantRead(t, r, 16, "def", nil) })
	})
}

// TestReadFull: a read that fills the buffer proves nothing.
func TestReadFull(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		say(t, peer, "abcdef")
		l.until(t, "data", r.Readable)
		l.do(func() {
			wantRead(t, r, 3, "abc", nil)
			r.wantReadable(t, true)
			wantRead(t, r, 3, "def", nil)
			r.wantReadable(t, true)
			wantRead(t, r, 3, "", ErrAgain)
			r.wantReadable(t, false)
		})
	})
}

// TestReadUntilEnd: once the end is announced no event comes any more, so a
// short read must not stop the reader.
func TestReadUntilEnd(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		l.do(func() {
			say(t, peer, "abc")
			if err := eventloop.ShutdownWrite(peer); err != nil {
				t.Error(err)
			}
		})
		l.until(t, "the end", func() bool { return w.seen&eventloop.RdHup != 0 })
		l.do(func() {
			wantRead(t, r, 16, "abc", nil)
			r.wantReadable(t, true)
			wantRead(t, r, 16, "", io.EOF)
			wantRead(t, r, 16, "", io.EOF)
			if n, err := r.Write([]byte("late"), nil); n != 4 || err != nil {
				t.Errorf("Write after the peer's end = %d, %v", n, err)
			}
		})
	})
}

// TestEndAfterShortRead: the end that follows a dry read is an event of its own.
func TestEndAfterShortRead(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		say(t, peer, "abc")
		l.until(t, "data", r.Readable)
		l.do(func() {
			wantRead(t, r, 16, "abc", nil)
			eventloop.ShutdownWrite(peer)
		})
		l.until(t, "the end", r.Readable)
		l.do(func() { wantRead(t, r, 16, "", io.EOF) })
	})
}

// TestWriteUntilFull: a full socket takes part of two pieces, then nothing, and
// goes on at Out; the peer gets every byte in order.
func TestWriteUntilFull(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		head, body := []byte("head: "), bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
		sent, partial, full := 0, false, false
		pump := func() {
			for sent < len(head)+len(body) {
				a, b := head[min(sent, len(head)):], body[max(0, sent-len(head)):]
				n, err := r.Write(a, b)
				sent += n
				if err != nil {
					t.Error(err)
					return
				}
				if n < len(a)+len(b) {
					partial = true
					if n, err := r.Write(a, b); n != 0 || err != nil {
						t.Errorf("Write to a full socket = %d, %v", n, err)
					}
					return
				}
			}
			r.CloseWrite()
		}
		l.do(func() {
			w.ready = pump
			pump()
		})
		l.do(func() { full = partial })
		if !full {
			t.Fatal("the socket took everything at once")
		}
		got := readAll(t, peer)
		if want := append(slices.Clone(head), body...); !bytes.Equal(got, want) {
			t.Errorf("the peer got %d bytes, want %d", len(got), len(want))
		}
		l.do(func() {
			if w.seen&eventloop.Out == 0 {
				t.Error("no Out")
			}
		})
	})
}

// readAll takes what a descriptor has until its end; it waits in the kernel.
func readAll(t testing.TB, fd int) []byte {
	t.Helper()
	dup, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(dup), "peer")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestUnsent: what the peer has not got is told until it has it.
func TestUnsent(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, _ *watch, peer int) {
		sent := 0
		l.do(func() {
			if n := r.Unsent(); n != 0 {
				t.Errorf("%d bytes unsent of none", n)
			}
			for p := make([]byte, 64<<10); ; {
				n, err := r.Write(p, nil)
				if sent += n; n < len(p) {
					if n := r.Unsent(); n == 0 || err != nil {
						t.Errorf("%d bytes unsent on a full socket, %v", n, err)
					}
					return
				}
			}
		})
		for p := make([]byte, 64<<10); sent > 0; {
			n, errno := eventloop.Recv(peer, p)
			if errno != 0 && errno != syscall.EAGAIN {
				t.Fatal(errno)
			}
			sent -= n
		}
		l.until(t, "all is confirmed", func() bool { return r.Unsent() == 0 })
	})
}

// TestWriteSecondPieceOnly: an empty first piece is no obstacle.
func TestWriteSecondPieceOnly(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		l.do(func() {
			if n, err := r.Write(nil, []byte("x")); n != 1 || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
			r.CloseWrite()
		})
		if got := readAll(t, peer); string(got) != "x" {
			t.Errorf("the peer got %q", got)
		}
	})
}

func TestWriteToGonePeer(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		unix.Dup3(2, peer, unix.O_CLOEXEC) // closes the socket, keeps the number
		l.until(t, "the end", func() bool { return w.seen&eventloop.RdHup != 0 })
		l.until(t, "an error", func() bool {
			_, err := r.Write([]byte("x"), nil)
			return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
		})
	})
}

func TestAlive(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, r *Raw, peer int)
		want bool
	}{
		{"quiet", func(*testing.T, *Raw, int) {}, true},
		{"data", func(t *testing.T, _ *Raw, peer int) { say(t, peer, "x") }, false},
		{"ended", func(_ *testing.T, _ *Raw, peer int) { eventloop.ShutdownWrite(peer) }, false},
		{"gone", func(_ *testing.T, _ *Raw, peer int) { unix.Dup3(2, peer, unix.O_CLOEXEC) }, false},
		{"dry but not known to be", func(t *testing.T, r *Raw, peer int) {
			say(t, peer, "abc")
			r.HandleEvents(eventloop.In)
			wantRead(t, r, 3, "abc", nil)
			r.wantReadable(t, true)
		}, true},
		{"end announced", func(_ *testing.T, r *Raw, _ int) { r.HandleEvents(eventloop.RdHup) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
				l.do(func() {
					tt.do(t, r, peer)
					if r.Alive() != tt.want {
						t.Errorf("Alive is %t", !tt.want)
					}
					if tt.want {
						r.wantReadable(t, false)
					}
				})
			})
		})
	}
}

func TestCloseAndReset(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*Raw)
		want syscall.Errno
	}{
		{"close", (*Raw).Close, 0},
		{"reset", (*Raw).Reset, syscall.ECONNRESET},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := startLoop(t)
			ours, peer := tcpPair(t)
			defer eventloop.Close(peer)
			r := accept(t, l, ours, &watch{})
			l.do(func() { tt.end(r) })
			l.until(t, "the peer sees it", func() bool {
				n, errno := eventloop.Recv(peer, make([]byte, 1))
				if errno == syscall.EAGAIN {
					return false
				}
				if n != 0 || errno != tt.want {
					t.Errorf("the peer read %d bytes, %v; want %v", n, errno, tt.want)
				}
				return true
			})
		})
	}
}

// TestCloseTwice: the second Close must not hit whoever has the number now.
func TestCloseTwice(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		l.do(func() {
			fd := r.Descriptor()
			r.Close()
			if err := unix.Dup3(peer, fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			defer eventloop.Close(fd)
			r.Close()
			r.Reset()
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
				t.Error("a stranger's descriptor was closed")
			}
			if r.Readable() || r.Descriptor() != -1 {
				t.Error("the closed socket still has something")
			}
		})
	})
}

// TestOwnerClosesInside: an owner may close in Ready, in the middle of a batch.
func TestOwnerClosesInside(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		l.do(func() { w.ready = r.Close })
		say(t, peer, "x")
		l.until(t, "the event", func() bool { return w.calls > 0 })
		l.do(func() {
			if w.calls != 1 {
				t.Errorf("%d events for a closed socket", w.calls-1)
			}
		})
	})
}

func TestSetOwner(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		var next watch
		l.do(func() { r.SetOwner(&next) })
		say(t, peer, "x")
		l.until(t, "the event", func() bool { return next.seen&eventloop.In != 0 })
		l.do(func() {
			if w.calls != 0 {
				t.Error("the former owner was told")
			}
		})
	})
}

// TestSetFirst: of two sockets ready in one batch the marked one comes first.
func TestSetFirst(t *testing.T) {
	l := startLoop(t)
	var order []int
	var raws, peers [2]int
	for i := range raws {
		raws[i], peers[i] = socketPair(t)
		defer eventloop.Close(peers[i])
		w := &watch{}
		r := accept(t, l, raws[i], w)
		l.until(t, "the first event", func() bool { return w.calls > 0 })
		l.do(func() {
			w.ready = func() { order = append(order, i) }
			r.SetFirst(i == 1)
		})
	}
	l.do(func() {
		say(t, peers[0], "x")
		say(t, peers[1], "x")
	})
	l.until(t, "both events", func() bool { return len(order) == 2 })
	l.do(func() {
		if order[0] != 1 {
			t.Errorf("order %v", order)
		}
	})
}

// handshake waits for the outcome of a dial.
func handshake(t *testing.T, l loop, r *Raw) (err error) {
	t.Helper()
	l.until(t, "the outcome of the dial", func() bool {
		err = r.Handshake()
		return !errors.Is(err, ErrAgain)
	})
	return err
}

func TestDial(t *testing.T) {
	dir := t.TempDir()
	for _, a := range []eventloop.Address{
		loopback(0),
		{AP: netip.MustParseAddrPort("[::1]:0")},
		{Unix: filepath.Join(dir, "s")},
	} {
		t.Run(a.Network()+" "+a.String(), func(t *testing.T) {
			fd, err := eventloop.Listen(a, eventloop.ListenConfig{})
			if err != nil {
				t.Fatal(err)
			}
			defer eventloop.Close(fd)
			if a.Unix == "" {
				a.AP, _ = eventloop.LocalAddr(fd)
			}
			l := startLoop(t)
			r := dial(t, l, a)
			if err := handshake(t, l, r); err != nil {
				t.Fatal(err)
			}
			nfd, _, errno := eventloop.Accept(fd)
			if errno != 0 {
				t.Fatal(errno)
			}
			defer eventloop.Close(nfd)
			l.do(func() {
				if n, err := r.Write([]byte("hello"), nil); n != 5 || err != nil {
					t.Errorf("Write = %d, %v", n, err)
				}
				r.CloseWrite()
			})
			if got := readAll(t, nfd); string(got) != "hello" {
				t.Errorf("the listener got %q", got)
			}
		})
	}
}

func dial(t *testing.T, l loop, a eventloop.Address) (r *Raw) {
	t.Helper()
	var err error
	l.do(func() { r, err = Dial(l.Worker, a, &watch{}) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.do(r.Close) })
	return r
}

// TestDialRefused: the kernel tells the reason once, Handshake every time.
func TestDialRefused(t *testing.T) {
	held, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(held)
	if err := unix.Bind(held, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := eventloop.LocalAddr(held) // bound, so nobody else's; and nobody listens
	if err != nil {
		t.Fatal(err)
	}
	l := startLoop(t)
	r := dial(t, l, eventloop.Address{AP: at})
	for range 2 {
		if err := handshake(t, l, r); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Handshake: %v, want %v", err, syscall.ECONNREFUSED)
		}
	}
}

func TestDialFailsAtOnce(t *testing.T) {
	l := startLoop(t)
	l.do(func() {
		if _, err := Dial(l.Worker, eventloop.Address{Unix: filepath.Join(t.TempDir(), "none")}, &watch{}); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("Dial: %v, want %v", err, syscall.ENOENT)
		}
	})
}

// TestAcceptOwnsDescriptor: a descriptor that cannot be registered is closed.
func TestAcceptOwnsDescriptor(t *testing.T) {
	l := startLoop(t)
	fd, err := unix.Open(filepath.Join(t.TempDir(), "f"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l.do(func() {
		if _, err := Accept(l.Worker, fd, &watch{}); !errors.Is(err, syscall.EPERM) {
			t.Errorf("Accept: %v, want %v", err, syscall.EPERM)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("the descriptor is still open: %v", err)
		}
	})
}

func TestTransferAllocs(t *testing.T) {
	onEach(t, func(t *testing.T, l loop, r *Raw, w *watch, peer int) {
		p := make([]byte, 64)
		a, b := []byte("head"), []byte("body")
		l.do(func() {
			if n := testing.AllocsPerRun(100, func() {
				r.Write(a, b)
				eventloop.Recv(peer, p)
				eventloop.Send(peer, a)
				r.HandleEvents(eventloop.In)
				r.Read(p)
			}); n != 0 {
				t.Errorf("%v allocations per exchange", n)
			}
		})
	})
}

func BenchmarkReadDry(b *testing.B) {
	l := startLoop(b)
	ours, peer := socketPair(b)
	defer eventloop.Close(peer)
	r := accept(b, l, ours, &watch{})
	p := make([]byte, 4096)
	b.ReportAllocs()
	l.do(func() {
		for b.Loop() {
			r.Read(p)
		}
	})
}
