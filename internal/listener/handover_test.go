package listener

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belay/internal/config"
	"belay/internal/eventloop"
)

// duplicates are l's sockets as another process would get them.
func duplicates(t testing.TB, l *Listener) []int {
	t.Helper()
	var fds []int
	for _, fd := range l.FDs() {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, dup)
	}
	return fds
}

// mustInherit opens a listener like l on duplicates of its sockets.
func mustInherit(t testing.TB, l *Listener) *Listener {
	t.Helper()
	c := *l.Config
	h, err := Open(&c, 1, duplicates(t, l), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// porter is a door that greets and says goodbye at once.
type porter struct {
	*door
	greetings int // on the worker
}

// newPorter makes a stopped porter.
func newPorter(t *testing.T, l *Listener) *porter {
	d := &porter{door: newDoor(t, l, &Limit{Max: 1000}, &journal{})}
	d.do(func() {
		d.Stop()
		d.serve = func(fd int, peer netip.AddrPort) {
			eventloop.Send(fd, []byte("k"))
			eventloop.Close(fd)
			d.Done(peer)
			d.greetings++
		}
	})
	return d
}

// start starts the acceptor.
func (d *door) start(t *testing.T) {
	t.Helper()
	d.do(func() {
		if err := d.Start(); err != nil {
			t.Error(err)
		}
	})
}

// handOver gives accepting from one to the other, as two processes do.
func handOver(t *testing.T, giver, taker *door) {
	t.Helper()
	taker.start(t)
	giver.do(giver.Stop)
	taker.do(func() {
		if err := taker.Renew(); err != nil {
			t.Error(err)
		}
	})
}

// visit connects and waits to be greeted.
func visit(l *Listener) error {
	network, at := l.Address.Network(), l.Address.AP.String()
	if l.Address.Unix != "" {
		at = l.Address.Unix
	}
	conn, err := net.DialTimeout(network, at, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(conn); err != nil || string(b) != "k" {
		return errors.Join(err, errors.New("not greeted: "+string(b)))
	}
	return nil
}

// TestHandOver passes accepting back and forth between two loops over the same
// sockets, while clients connect without pause: each of them is served.
func TestHandOver(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    config.Listener
	}{
		{"tcp", config.Listener{Sockets: 3}},
		{"unix", config.Listener{Unix: filepath.Join(t.TempDir(), "s")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := mustOpen(t, &tt.c, 1)
			giver, taker := newPorter(t, l), newPorter(t, mustInherit(t, l))
			giver.start(t)
			var over atomic.Bool
			var clients sync.WaitGroup
			defer func() {
				over.Store(true)
				clients.Wait()
			}()
			for range 8 {
				clients.Go(func() {
					for !over.Load() {
						if err := visit(l); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			for range 20 {
				handOver(t, giver.door, taker.door)
				start := -1
				taker.until(t, "the taker serves", func() bool {
					if start < 0 {
						start = taker.greetings
					}
					return taker.greetings >= start+50 || t.Failed()
				})
				giver.do(func() {
					if giver.state != acceptStopped {
						t.Error("the giver still accepts")
					}
				})
				giver, taker = taker, giver
			}
		})
	}
}

// TestHandOverQueued: who was queued when nobody accepted is served by the taker,
// and what the giver's sockets are closed for afterwards resets nobody.
func TestHandOverQueued(t *testing.T) {
	l := mustOpen(t, &config.Listener{Sockets: 3}, 1)
	heir := mustInherit(t, l)
	taker := newPorter(t, heir)
	var conns []net.Conn
	for range 50 {
		conns = append(conns, dial(t, l, ""))
	}
	l.Close()
	taker.start(t)
	for _, conn := range conns {
		greeted(t, conn)
	}
}

// TestRenewKeepsState: only an acceptor that polls is put into the loop again.
func TestRenewKeepsState(t *testing.T) {
	l := mustOpen(t, &config.Listener{Sockets: 2}, 1)
	d := newPorter(t, l)
	renew := func(want acceptState) {
		t.Helper()
		err := d.Renew()
		if err != nil || d.state != want {
			t.Errorf("state %d, want %d; error %v", d.state, want, err)
		}
		for i := range d.socks {
			if polled := d.socks[i].token != (eventloop.Token{}); polled != (want == acceptPolling) {
				t.Errorf("in state %d socket %d is polled: %t", want, i, polled)
			}
		}
	}
	d.do(func() {
		renew(acceptStopped)
		for range 2 { // the second time there is nothing to do
			if err := d.Start(); err != nil {
				t.Error(err)
			}
		}
		renew(acceptPolling)
		d.throttle("test")
		renew(acceptThrottled)
	})
	if err := visit(l); err != nil { // the rest ends by itself
		t.Error(err)
	}
}

// TestRenewFails: what cannot be registered now is tried again later.
func TestRenewFails(t *testing.T) {
	l := mustOpen(t, &config.Listener{}, 1)
	d := newPorter(t, l)
	d.do(func() {
		d.Start()
		d.socks = append(d.socks, acceptSocket{a: d.Acceptor, fd: -1})
		if err := d.Renew(); err == nil || d.state != acceptThrottled {
			t.Errorf("error %v, state %d", err, d.state)
		}
		d.socks = d.socks[:1]
	})
	if err := visit(l); err != nil {
		t.Error(err)
	}
}

// TestStopThrottledAndStart: an acceptor that rested when it was stopped polls
// again after Start, and its listener no longer tells of the rest.
func TestStopThrottledAndStart(t *testing.T) {
	l := mustOpen(t, &config.Listener{MaxConnections: 1}, 1)
	d := newDoor(t, l, &Limit{Max: 10}, &journal{})
	greeted(t, dial(t, l, ""))
	waiting := dial(t, l, "")
	d.until(t, "a rest", func() bool { return d.throttled() > 0 })
	d.do(func() {
		d.Stop()
		if l.Throttled() || d.timer.Armed() {
			t.Errorf("stopped, it is throttled %t, has a timer %t", l.Throttled(), d.timer.Armed())
		}
		d.bye() // makes room, but the acceptor has stopped
		if d.state != acceptStopped || len(d.served) != 0 {
			t.Errorf("state %d, %d served", d.state, len(d.served))
		}
	})
	d.start(t)
	greeted(t, waiting)
}
