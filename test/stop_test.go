package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// SIGTERM under load: requests in flight are answered with Connection: close,
// none fails, and nobody is accepted any more. Over both builds.
func TestSIGTERMUnderLoad(t *testing.T) {
	for _, race := range []bool{false, true} {
		t.Run(fmt.Sprintf("race=%v", race), func(t *testing.T) {
			b := harness.NewBackend(t, func(p *harness.Peer) {
				for p.Head() != "" {
					time.Sleep(2 * time.Millisecond) // so that some are in flight at any moment
					if p.Send(harness.Reply200(strings.Repeat("x", 1000))) != nil {
						return
					}
				}
			})
			s := &site{endpoints: []string{b.Addr}}
			d := serve(t, s, harness.Options{Race: race})
			var failed, done, closed atomic.Int64
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() { loadUntilClosed(s.addr, &failed, &done, &closed, t) })
			}
			harness.Eventually(t, patience, "load", func() bool { return done.Load() > 500 })
			start := time.Now()
			d.Signal(syscall.SIGTERM)
			if code := d.Wait(8 * time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
			wg.Wait()
			t.Logf("%d requests, ended %v after SIGTERM", done.Load(), time.Since(start).Round(time.Millisecond))
			if lost := int64(b.Heads()) - done.Load(); failed.Load() != 0 || lost != 0 {
				t.Errorf("of the requests in flight %d failed and %d were lost", failed.Load(), lost)
			}
			if closed.Load() == 0 {
				t.Error("no reply said Connection: close")
			}
			if c, err := harness.TryDial("", s.addr); err == nil {
				_ = c.Close()
				t.Error("the port is still open")
			}
		})
	}
}

// loadUntilClosed sends requests on one connection until belay ends it. A
// connection that ends between two requests is how HTTP/1.1 stops, and a
// request may cross that end; whether belay had taken it is seen at the
// backend, so only a broken reply counts as failed here.
func loadUntilClosed(addr string, failed, done, closed *atomic.Int64, t *testing.T) {
	conn, err := harness.TryDial("", addr)
	if err != nil {
		failed.Add(1)
		return
	}
	defer func() { _ = conn.Close() }()
	c := harness.Wrap(t, conn)
	for {
		if _, err := conn.Write([]byte(get + "\r\n")); err != nil {
			return
		}
		r, err := c.TryReply("GET")
		switch {
		case err != nil && r == nil && !errors.Is(err, io.ErrUnexpectedEOF):
			return
		case err != nil || r.Status != 200 || len(r.Body) != 1000:
			failed.Add(1)
			return
		}
		done.Add(1)
		if r.Close {
			closed.Add(1)
			return
		}
	}
}

// What is in flight at SIGTERM is finished: a slow reply arrives whole, says
// close, and then the process ends without waiting for stop_time.
func TestSIGTERMFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := harness.NewBackend(t, func(p *harness.Peer) {
		p.Head()
		<-release
		_ = p.Send(harness.Reply200("whole"))
	})
	s := &site{endpoints: []string{b.Addr}}
	d := serve(t, s)
	idle := harness.Dial(t, s.addr)
	var conns []*harness.Conn
	for range 5 {
		conns = append(conns, harness.Dial(t, s.addr).Send(get+"\r\n"))
	}
	harness.Eventually(t, patience, "requests at the backend", func() bool { return b.Heads() == 5 })
	d.Signal(syscall.SIGTERM)
	idle.ExpectClose() // an idle connection is not waited for
	harness.Eventually(t, patience, "the port is closed", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(release)
	for _, c := range conns {
		if r := c.ExpectStatus(200); r.Body != "whole" || !r.Close {
			t.Errorf("reply %+v", r)
		}
	}
	if code := d.Wait(3 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// The end comes within stop_time whatever is in flight.
func TestStopTime(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewBackend(t, harness.Silent).Addr}, more: "[server]\nworkers = 2\nstop_time = \"500ms\"\n"}
	d := serve(t, s)
	c := harness.Dial(t, s.addr).Send(get + "\r\n")
	c.ExpectNothing(50 * time.Millisecond)
	start := time.Now()
	d.Signal(syscall.SIGTERM)
	d.Wait(5 * time.Second)
	took(t, start, 500*time.Millisecond)
}

// A second signal ends now.
func TestSecondSignalEndsNow(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := &site{endpoints: []string{harness.NewBackend(t, harness.Silent).Addr}}
		d := serve(t, s)
		c := harness.Dial(t, s.addr).Send(get + "\r\n")
		c.ExpectNothing(50 * time.Millisecond)
		d.Signal(syscall.SIGTERM)
		harness.Eventually(t, patience, "the first signal is taken", func() bool {
			conn, err := net.Dial("tcp", s.addr)
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		})
		start := time.Now()
		d.Signal(sig)
		d.Wait(5 * time.Second)
		if end := time.Since(start); end > 2*time.Second {
			t.Errorf("%v: ended after %v", sig, end)
		}
	}
}

// A port in use by another program is an error that names it, at once; also by
// a second belay, whose SO_REUSEPORT would share it silently.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	s := &site{addr: harness.Addr(t), routes: "[[listener.web.route]]\nrespond = { status = 200, body = \"first\" }\n"}
	t.Run("program", func(t *testing.T) {
		ln, err := net.Listen("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		expectInUse(t, s)
	})
	t.Run("belay", func(t *testing.T) {
		serve(t, s)
		expectInUse(t, s)
		for range 20 { // and the first one has not lost a connection to it
			if r := harness.Get(t, s.addr, "/", "a"); r.Body != "first" {
				t.Errorf("reply %+v", r)
			}
		}
	})
	t.Run("wildcard", func(t *testing.T) {
		serve(t, s)
		_, port, _ := strings.Cut(s.addr, ":")
		expectInUse(t, &site{addr: "0.0.0.0:" + port, routes: s.routes})
	})
	t.Run("unix", func(t *testing.T) {
		u := &site{addr: "unix:" + harness.TempDir(t) + "/s", routes: s.routes}
		serve(t, u)
		expectInUse(t, u)
	})
}

func expectInUse(t *testing.T, s *site) {
	t.Helper()
	d := harness.Launch(t, s.String(), harness.Options{Errors: true})
	if code := d.Wait(10 * time.Second); code == 0 {
		t.Error("exit code 0")
	}
	want(t, d.Stderr(), "address already in use", strings.TrimPrefix(s.addr, "unix:"))
}

// The admin socket of a running belay is not taken away by a second one.
func TestAdminSocketInUse(t *testing.T) {
	t.Parallel()
	first := &site{routes: "[[listener.web.route]]\nrespond = { status = 200 }\n"}
	d := serve(t, first)
	second := &site{addr: harness.Addr(t), routes: first.routes, more: fmt.Sprintf("[admin]\nsocket = %q\n", d.Socket)}
	other := harness.Launch(t, second.String(), harness.Options{Errors: true})
	if code := other.Wait(10 * time.Second); code == 0 {
		t.Error("exit code 0")
	}
	if status, _ := d.Admin("/ready"); status != 200 {
		t.Errorf("the first one: /ready is %d", status)
	}
}
