package test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"belay/test/harness"
)

// allow and deny of a listener close the connection at accept; deny wins.
func TestListenerAllowAndDeny(t *testing.T) {
	t.Parallel()
	s := &site{
		listener:  "allow = [\"127.0.0.0/24\"]\ndeny = [\"127.0.0.66/32\"]",
		endpoints: []string{harness.NewEcho(t, "a").Addr},
	}
	serve(t, s)
	for source, ok := range map[string]bool{"127.0.0.2": true, "127.0.0.66": false, "127.0.1.1": false} {
		c := harness.DialFrom(t, source, s.addr)
		if ok {
			c.ExpectOpen("/", "a")
			continue
		}
		_, _ = c.Write([]byte(get + "\r\n")) // it may be closed already
		if data, _ := c.Rest(); data != "" {
			t.Errorf("%s was answered: %q", source, data)
		}
	}
}

// allow and deny of a route answer 403, on the trusted client address.
func TestRouteAllowAndDeny(t *testing.T) {
	t.Parallel()
	s := &site{
		listener:  `trusted_proxies = ["127.0.0.8/32"]`,
		route:     `allow = ["10.0.0.0/8"]` + "\n" + `deny = ["10.6.6.6/32"]`,
		endpoints: []string{harness.NewEcho(t, "a").Addr},
	}
	d := serve(t, s)
	for _, tt := range []struct {
		source, forwarded string
		status            int
	}{
		{"127.0.0.8", "10.1.2.3", 200},
		{"127.0.0.8", "10.6.6.6", 403},
		{"127.0.0.8", "11.1.2.3", 403},
		{"127.0.0.9", "10.1.2.3", 403}, // a stranger cannot say who he is
	} {
		r := harness.DialFrom(t, tt.source, s.addr).Do("GET", "/", "a", "X-Forwarded-For: "+tt.forwarded)
		if r.Status != tt.status {
			t.Errorf("%v: status %d", tt, r.Status)
		}
	}
	d.WaitRecord("403 with a reason", func(r harness.Record) bool { return r.Int("status") == 403 && r.Str("reason") != "" })
}

// A source has its own connection limit; other sources are not affected.
func TestConnectionLimitPerSource(t *testing.T) {
	t.Parallel()
	s := &site{listener: "max_connections_per_source = 3", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	var held []*harness.Conn
	for range 3 {
		c := harness.DialFrom(t, "127.0.0.2", s.addr)
		c.ExpectOpen("/", "a")
		held = append(held, c)
	}
	over := harness.DialFrom(t, "127.0.0.2", s.addr)
	_, _ = over.Write([]byte(get + "\r\n"))
	if data, _ := over.Rest(); data != "" {
		t.Errorf("the fourth connection was answered: %q", data)
	}
	harness.DialFrom(t, "127.0.0.3", s.addr).ExpectOpen("/", "a")
	_ = held[0].Close()
	harness.Eventually(t, patience, "room for the source again", func() bool {
		conn, err := harness.TryDial("127.0.0.2", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		c := harness.Wrap(t, conn)
		_, _ = c.Write([]byte(get + "\r\n"))
		r, err := c.TryReply("GET")
		return err == nil && r.Status == 200
	})
}

// At the connection limit accepting pauses: who is connected is served, who
// comes waits in the queue and is served when there is room.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]struct{ listener, more string }{
		"listener": {"max_connections = 4", "[server]\nworkers = 2\n"},
		"server":   {"", "[server]\nworkers = 2\nmax_connections = 4\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &site{listener: config.listener, more: config.more, endpoints: []string{harness.NewEcho(t, "a").Addr}}
			serve(t, s)
			var held []*harness.Conn
			for range 4 {
				c := harness.Dial(t, s.addr)
				c.ExpectOpen("/", "a")
				held = append(held, c)
			}
			over := harness.Dial(t, s.addr)
			over.Send(get + "\r\n")
			over.ExpectNothing(200 * time.Millisecond)
			held[1].ExpectOpen("/", "a")
			for _, c := range held {
				_ = c.Close()
			}
			wantStatus(t, over.Reply("GET"), 200)
		})
	}
}

// The descriptor limit hit at 1000 connections: those that are in are served,
// the log says it once, a counter counts, and when connections go it recovers.
func TestDescriptorLimitAndRecovery(t *testing.T) {
	s := &site{
		endpoints: []string{harness.NewEcho(t, "a").Addr},
		more:      "[server]\nworkers = 2\nmax_connections = 100000\n",
	}
	d := serve(t, s, harness.Options{NoFile: 1000, Errors: true})
	first := harness.Dial(t, s.addr)
	first.ExpectOpen("/", "a")
	conns := crowd(t, s.addr, 1200)
	harness.Eventually(t, patience, "the limit is hit", func() bool { return harness.OpenFiles(t, d.PID()) >= 990 })

	first.ExpectOpen("/", "a") // its upstream connection is pooled
	for _, c := range conns[:600] {
		_ = c.Close()
	}
	fresh := harness.Dial(t, s.addr)
	fresh.ExpectOpen("/", "a")
	for _, c := range conns[1150:] {
		harness.Wrap(t, c).ExpectOpen("/", "a")
	}
	if n := throttleLines(d); n < 1 || n > 4 {
		t.Errorf("%d log lines about descriptors, want one a worker\n%s", n, d.Stderr())
	}
}

// throttleLines counts log lines that tell of the descriptor limit.
func throttleLines(d *harness.Daemon) int {
	n := 0
	for line := range strings.SplitSeq(strings.ToLower(d.Stderr()), "\n") {
		if strings.Contains(line, "descriptor") || strings.Contains(line, "too many open files") {
			n++
		}
	}
	return n
}

// Without max_connections the limit comes from RLIMIT_NOFILE, with room left
// for upstream connections: nobody sees an error.
func TestConnectionLimitFromDescriptors(t *testing.T) {
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s, harness.Options{NoFile: 300})
	conns := crowd(t, s.addr, 400)
	first := harness.Wrap(t, conns[0])
	first.ExpectOpen("/", "a")
	for _, c := range conns[1:300] {
		_ = c.Close()
	}
	for _, c := range conns[300:] {
		harness.Wrap(t, c).ExpectOpen("/", "a")
	}
}

// crowd opens n connections that say nothing, closed at the end of the test.
func crowd(t *testing.T, addr string, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, 0, n)
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	for i := range n {
		c, err := harness.TryDial("", addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conns = append(conns, c)
	}
	return conns
}

// max_connections of a cluster bounds the connections to an endpoint; the rest wait their turn.
func TestUpstreamConnectionLimit(t *testing.T) {
	t.Parallel()
	var active, peak atomic.Int64
	var once sync.Once
	both := make(chan struct{}) // closed when two requests are under way: the limit is used
	b := harness.NewBackend(t, func(p *harness.Peer) {
		for p.Head() != "" {
			n := active.Add(1)
			if n == 2 {
				once.Do(func() { close(both) })
			}
			for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
			}
			<-both
			active.Add(-1)
			if p.Send(harness.Reply200("x")) != nil {
				return
			}
		}
	})
	s := &site{cluster: "max_connections = 2", endpoints: []string{b.Addr}}
	serve(t, s)
	done := make(chan error, 20)
	for i := range 20 {
		go func() {
			conn, err := harness.TryDial("", s.addr)
			if err != nil {
				done <- err
				return
			}
			defer func() { _ = conn.Close() }()
			c := harness.Wrap(t, conn)
			for range 10 {
				if _, err := fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i); err != nil {
					done <- err
					return
				}
				if r, err := c.TryReply("GET"); err != nil || r.Status != 200 {
					done <- fmt.Errorf("reply %+v: %w", r, err)
					return
				}
			}
			done <- nil
		}()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := peak.Load(); n != 2 {
		t.Errorf("%d requests at the endpoint at one time, the limit is 2 connections", n)
	}
}
