package listener

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/stats"
)

// journal is a log that several workers write.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) count(s string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.buf.String(), s)
}

// door is an Acceptor on a worker of its own. It greets whom it serves.
type door struct {
	loop
	*Acceptor
	log    *journal
	served []guest
}

type guest struct {
	fd   int
	peer netip.AddrPort
}

// newDoor makes a started door for all sockets of l.
func newDoor(t testing.TB, l *Listener, limit *Limit, log *journal) *door {
	t.Helper()
	r := stats.NewRegistry()
	st := Stats{Accepted: r.Counter("accepted_total", "x"), Throttled: r.Counter("throttled_total", "x"), Failed: r.Counter("failed_total", "x")}
	st.Rejected[RejectedAddress] = r.Counter("rejected_address_total", "x")
	st.Rejected[RejectedSource] = r.Counter("rejected_source_total", "x")
	d := &door{loop: startLoop(t), log: log}
	d.Acceptor = NewAcceptor(l, l.FDs(), d.Worker, r.NewShard(), st, limit, slog.New(slog.NewTextHandler(log, nil)), func(fd int, peer netip.AddrPort) {
		d.served = append(d.served, guest{fd, peer})
		eventloop.Send(fd, []byte("k"))
	})
	t.Cleanup(func() {
		d.do(func() {
			d.Stop()
			for len(d.served) > 0 {
				d.bye()
			}
			if limit.Active() != 0 || l.Active() != 0 {
				t.Errorf("left behind: %d of the limit, %d of the listener", limit.Active(), l.Active())
			}
		})
	})
	d.do(func() {
		if err := d.Start(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// bye ends the connection served first.
func (d *door) bye() {
	g := d.served[0]
	d.served = d.served[1:]
	eventloop.Close(g.fd)
	d.Done(g.peer)
}

func (d *door) accepted() uint64  { return d.shard.Value(d.st.Accepted) }
func (d *door) throttled() uint64 { return d.shard.Value(d.st.Throttled) }

// greeted waits for the greeting.
func greeted(t testing.TB, conn net.Conn) {
	t.Helper()
	var b [1]byte
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(b[:]); err != nil || b[0] != 'k' {
		t.Errorf("not served: %v", err)
	}
}

// turnedAway waits for the close that comes without a greeting.
func turnedAway(t testing.TB, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v; want the end", n, err)
	}
}

func TestAcceptServes(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    config.Listener
	}{
		{"tcp", config.Listener{}},
		{"several sockets", config.Listener{Sockets: 4}},
		{"unix", config.Listener{Unix: filepath.Join(t.TempDir(), "s")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := mustOpen(t, &tt.c, 1)
			d := newDoor(t, l, &Limit{Max: 1000}, &journal{})
			for range 20 {
				conn := dial(t, l, "")
				greeted(t, conn)
				d.do(func() {
					g := d.served[len(d.served)-1]
					if tt.c.Unix == "" && g.peer.String() != conn.LocalAddr().String() || tt.c.Unix != "" && g.peer.IsValid() {
						t.Errorf("peer %v, want %v", g.peer, conn.LocalAddr())
					}
				})
			}
			d.do(func() {
				if d.accepted() != 20 || l.Active() != 20 || d.limit.Active() != 20 {
					t.Errorf("accepted %d, active %d, of the limit %d; want 20", d.accepted(), l.Active(), d.limit.Active())
				}
			})
		})
	}
}

// TestRejected: who may not come in is closed at the door, is counted, and takes
// no place.
func TestRejected(t *testing.T) {
	l := mustOpen(t, &config.Listener{
		Deny:                    []netip.Prefix{netip.MustParsePrefix("127.9.9.0/24")},
		MaxConnectionsPerSource: 1,
	}, 1)
	d := newDoor(t, l, &Limit{Max: 1000}, &journal{})
	turnedAway(t, dial(t, l, "127.9.9.1"))
	greeted(t, dial(t, l, "127.9.8.1"))
	turnedAway(t, dial(t, l, "127.9.8.1"))
	greeted(t, dial(t, l, "127.9.8.2"))
	d.do(func() { d.bye() })
	greeted(t, dial(t, l, "127.9.8.1"))
	d.do(func() {
		address, source := d.shard.Value(d.st.Rejected[RejectedAddress]), d.shard.Value(d.st.Rejected[RejectedSource])
		if d.accepted() != 5 || address != 1 || source != 1 || d.limit.Active() != 2 {
			t.Errorf("accepted %d, rejected %d and %d, active %d", d.accepted(), address, source, d.limit.Active())
		}
	})
}

// TestLimitThrottles: at a limit the queue of the kernel holds who comes, and the
// end of a connection lets the next one in. It is logged once.
func TestLimitThrottles(t *testing.T) {
	for _, tt := range []struct {
		name     string
		listener int
		global   int64
	}{
		{"of the process", 0, 2},
		{"of the listener", 2, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := mustOpen(t, &config.Listener{MaxConnections: tt.listener}, 1)
			d := newDoor(t, l, &Limit{Max: tt.global}, &journal{})
			var conns []net.Conn
			for range 5 {
				conns = append(conns, dial(t, l, ""))
			}
			greeted(t, conns[0])
			greeted(t, conns[1])
			d.until(t, "several rests", func() bool { return d.throttled() >= 3 })
			d.do(func() {
				if len(d.served) != 2 || !l.Throttled() {
					t.Errorf("%d served, throttled %t", len(d.served), l.Throttled())
				}
			})
			for _, conn := range conns[2:] {
				d.do(d.bye)
				greeted(t, conn)
			}
			if n := d.log.count("accepting is throttled"); n != 1 {
				t.Errorf("logged %d times", n)
			}
		})
	}
}

// TestPlaceFreedElsewhere: a place given back on another worker is found by the
// timer.
func TestPlaceFreedElsewhere(t *testing.T) {
	l := mustOpen(t, &config.Listener{}, 1)
	limit := &Limit{Max: 1}
	if !limit.enter() {
		t.Fatal("no place")
	}
	d := newDoor(t, l, limit, &journal{})
	conn := dial(t, l, "")
	d.until(t, "a rest", func() bool { return d.throttled() > 0 })
	limit.Leave()
	greeted(t, conn)
}

// TestStopDrains: who was queued when Stop was called is served, over every
// socket, and closing the sockets then resets nobody.
func TestStopDrains(t *testing.T) {
	for _, throttled := range []bool{false, true} {
		t.Run(map[bool]string{false: "polling", true: "throttled"}[throttled], func(t *testing.T) {
			l := mustOpen(t, &config.Listener{Sockets: 3}, 1)
			d := newDoor(t, l, &Limit{Max: 1000}, &journal{})
			var conns []net.Conn
			d.do(func() {
				if throttled {
					d.throttle("test")
				}
				for range 3 * acceptsPerTurn { // more than one turn takes
					conns = append(conns, dial(t, l, ""))
				}
				d.Stop()
				d.Stop()
				l.Close()
			})
			for _, conn := range conns {
				greeted(t, conn)
			}
			d.do(func() {
				if d.timer.Armed() {
					t.Error("a stopped acceptor has a timer")
				}
			})
		})
	}
}

// TestStopAndStart: an acceptor can begin again.
func TestStopAndStart(t *testing.T) {
	l := mustOpen(t, &config.Listener{}, 1)
	d := newDoor(t, l, &Limit{Max: 10}, &journal{})
	d.do(d.Stop)
	conn := dial(t, l, "")
	d.do(func() {
		if len(d.served) != 0 {
			t.Error("a stopped acceptor accepts")
		}
		if err := d.Start(); err != nil {
			t.Error(err)
		}
	})
	greeted(t, conn)
}

func TestStartFails(t *testing.T) {
	l := mustOpen(t, &config.Listener{}, 1)
	d := newDoor(t, l, &Limit{Max: 10}, &journal{})
	d.do(func() {
		d.Stop()
		d.socks = append(d.socks, acceptSocket{a: d.Acceptor, fd: -1})
		if err := d.Start(); err == nil {
			t.Error("a socket that is none was accepted")
		}
		for i := range d.socks {
			if d.socks[i].token != (eventloop.Token{}) {
				t.Errorf("socket %d is still polled", i)
			}
		}
		d.socks = d.socks[:1]
	})
}

// TestStartTriesAgain: a worker whose sockets could not be polled accepts as soon
// as they can.
func TestStartTriesAgain(t *testing.T) {
	l := mustOpen(t, &config.Listener{}, 1)
	d := newDoor(t, l, &Limit{Max: 10}, &journal{})
	conn := dial(t, l, "")
	greeted(t, conn)
	d.do(func() {
		d.Stop()
		d.socks = append(d.socks, acceptSocket{a: d.Acceptor, fd: -1})
		if err := d.Start(); err == nil || !l.Throttled() {
			t.Errorf("error %v, throttled %t", err, l.Throttled())
		}
	})
	waiting := dial(t, l, "")
	tries := 0
	d.until(t, "several tries", func() bool {
		if !d.timer.Armed() {
			t.Error("it is not tried again")
		}
		tries++
		return tries > 3
	})
	d.do(func() { d.socks = d.socks[:1] })
	greeted(t, waiting)
	d.until(t, "the end of it to be told", func() bool { return d.log.count("accepting again") == 1 })
	if l.Throttled() || d.log.count("throttled") != 0 {
		t.Errorf("throttled %t, log %q", l.Throttled(), d.log.buf.String())
	}
}

// TestFailedSorts: what is one connection's own fault goes on, the rest pauses.
func TestFailedSorts(t *testing.T) {
	for _, tt := range []struct {
		errno         syscall.Errno
		goOn, throttl bool
		failed        uint64
	}{
		{syscall.EAGAIN, false, false, 0},
		{syscall.ECONNABORTED, true, false, 1},
		{syscall.EPROTO, true, false, 1},
		{syscall.EPERM, true, false, 1},
		{syscall.EMFILE, false, true, 0},
		{syscall.ENFILE, false, true, 0},
		{syscall.ENOBUFS, false, true, 0},
		{syscall.ENOMEM, false, true, 0},
		{syscall.EINVAL, false, true, 1},
	} {
		l := mustOpen(t, &config.Listener{}, 1)
		d := newDoor(t, l, &Limit{Max: 10}, &journal{})
		d.do(func() {
			goOn := d.failed(tt.errno)
			if failed := d.shard.Value(d.st.Failed); goOn != tt.goOn || (d.state == acceptThrottled) != tt.throttl || failed != tt.failed {
				t.Errorf("%v: goes on %t, state %d, %d failed", tt.errno, goOn, d.state, failed)
			}
		})
	}
}

const descriptorChild = "BELAY_TEST_NO_DESCRIPTORS"

// TestOutOfDescriptors runs in a process of its own, whose limit it may lower.
func TestOutOfDescriptors(t *testing.T) {
	if os.Getenv(descriptorChild) != "" {
		outOfDescriptors(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestOutOfDescriptors$", "-test.v")
	cmd.Env = append(os.Environ(), descriptorChild+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// outOfDescriptors: with none left, accepting rests and the client waits; when
// there are some again it is served, and the log tells both.
func outOfDescriptors(t *testing.T) {
	l := mustOpen(t, &config.Listener{}, 1)
	d := newDoor(t, l, &Limit{Max: 10}, &journal{})
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(client)
	none := was
	none.Cur = 0 // what is open stays so; no number is below it
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(client, &unix.SockaddrInet4{Addr: l.Address.AP.Addr().As4(), Port: int(l.Address.AP.Port())}); err != nil {
		t.Fatal(err)
	}
	d.until(t, "several rests", func() bool { return d.throttled() >= 3 })
	if !l.Throttled() {
		t.Error("the listener does not say so")
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	d.until(t, "the client is served", func() bool { return len(d.served) == 1 })
	var b [1]byte
	if n, err := unix.Read(client, b[:]); n != 1 || err != nil {
		t.Errorf("the client read %d bytes, %v", n, err)
	}
	d.until(t, "recovery", func() bool { return !l.Throttled() })
	if n, m := d.log.count("no descriptor or memory"), d.log.count("accepting again"); n != 1 || m != 1 {
		t.Errorf("logged %d and %d times:\n%s", n, m, d.log.buf.String())
	}
}

func BenchmarkAdmitLeave(b *testing.B) {
	l := mustOpen(b, &config.Listener{MaxConnectionsPerSource: 10}, 1)
	peer := netip.MustParseAddrPort("10.0.0.1:1")
	b.ReportAllocs()
	for b.Loop() {
		l.admit(peer)
		l.leave(peer)
	}
}
