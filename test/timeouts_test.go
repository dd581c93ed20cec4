package test

import (
	"net"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// took fails the test unless a limit acted: not early, and not much too late.
func took(t *testing.T, start time.Time, limit time.Duration) {
	t.Helper()
	d := time.Since(start)
	if d < limit-5*time.Millisecond || d > limit+3*time.Second {
		t.Errorf("took %v, the limit is %v", d, limit)
	}
}

const short = 300 * time.Millisecond

// A client that sends half a head: 408 and close after timeouts.head.
func TestTimeLimitHead(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.timeouts]\nhead = \"300ms\"\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	start := time.Now()
	c.Send("GET /half HTTP/1.1\r\nHost:")
	r := c.Reply("GET")
	wantStatus(t, r, 408)
	if !r.Close {
		t.Error("no Connection: close")
	}
	c.ExpectClose()
	took(t, start, short)
	rec := d.WaitRecord("408", func(r harness.Record) bool { return r.Int("status") == 408 })
	want(t, rec.Str("reason"), "head")
}

// A client that sends one byte a second is not saved by its bytes: the limit
// is for the whole head. The second request on a connection is no different.
func TestTimeLimitHeadOfASlowClient(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.timeouts]\nhead = \"500ms\"\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	c := harness.Dial(t, s.addr)
	c.ExpectOpen("/", "a")
	start := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	go func() {
		for range 40 {
			<-tick.C
			if _, err := c.Write([]byte("G")); err != nil {
				return
			}
		}
	}()
	wantStatus(t, c.Reply("GET"), 408)
	took(t, start, 500*time.Millisecond)
}

// A request body that stalls: 408 after timeouts.body.
func TestTimeLimitBodyStall(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{"length": post + "Content-Length: 10\r\n\r\nabc", "chunked": chkd + "5\r\nab"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &site{tables: "[listener.web.timeouts]\nbody = \"300ms\"\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
			d := serve(t, s)
			c := harness.Dial(t, s.addr)
			start := time.Now()
			c.Send(head)
			wantStatus(t, c.Reply("POST"), 408)
			c.ExpectClose()
			took(t, start, short)
			want(t, d.WaitPath("/").Str("reason"), "body")
		})
	}
}

// A connection with no request is closed after timeouts.idle, without a word.
func TestTimeLimitIdle(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.timeouts]\nidle = \"300ms\"\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	c := harness.Dial(t, s.addr)
	c.ExpectOpen("/", "a")
	start := time.Now()
	c.ExpectClose()
	took(t, start, short)
	fresh := harness.Dial(t, s.addr)
	start = time.Now()
	fresh.ExpectClose()
	took(t, start, short)
}

// A backend where no connection is established: 503 after connect_timeout.
func TestTimeLimitConnect(t *testing.T) {
	t.Parallel()
	s := &site{cluster: "connect_timeout = \"300ms\"", endpoints: []string{harness.Blackhole(t)}}
	d := serve(t, s)
	start := time.Now()
	c := harness.Dial(t, s.addr)
	wantStatus(t, c.Do("GET", "/", "a"), 503)
	took(t, start, short)
	want(t, d.WaitPath("/").Str("reason"), "connect", "timeout")
}

// A backend that accepts and says nothing: 504 after first_byte_timeout, of
// the cluster or the route.
func TestTimeLimitFirstByte(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t, harness.Silent)
	s := &site{
		cluster:   "first_byte_timeout = \"300ms\"",
		routes:    "[[listener.web.route]]\npath = \"/route\"\nfirst_byte_timeout = \"600ms\"\ncluster = \"back\"\n",
		endpoints: []string{b.Addr},
	}
	d := serve(t, s)
	for path, limit := range map[string]time.Duration{"/cluster": short, "/route": 2 * short} {
		start := time.Now()
		c := harness.Dial(t, s.addr)
		wantStatus(t, c.Do("GET", path, "a"), 504)
		took(t, start, limit)
		want(t, d.WaitPath(path).Str("reason"), "first-byte", "timeout")
	}
}

// The whole request: 504 when no byte of a reply went out, else the
// connection is cut; of the listener or the route.
func TestTimeLimitRequest(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t, func(p *harness.Peer) {
		if head := p.Head(); strings.Contains(head, "/drip") {
			_ = p.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if p.Send("1\r\nx\r\n") != nil {
					return
				}
			}
		}
		p.UntilClosed()
	})
	s := &site{
		tables:    "[listener.web.timeouts]\nrequest = \"300ms\"\n",
		routes:    "[[listener.web.route]]\npath = \"/route\"\nrequest_timeout = \"600ms\"\ncluster = \"back\"\n",
		endpoints: []string{b.Addr},
	}
	d := serve(t, s)
	for path, limit := range map[string]time.Duration{"/silent": short, "/route": 2 * short} {
		start := time.Now()
		wantStatus(t, harness.Dial(t, s.addr).Do("GET", path, "a"), 504)
		took(t, start, limit)
		want(t, d.WaitPath(path).Str("reason"), "request", "timeout")
	}
	start := time.Now()
	c := harness.Dial(t, s.addr).Send(harness.Request("GET", "/drip", "a"))
	data, _ := c.Rest()
	took(t, start, short)
	if strings.HasSuffix(data, "0\r\n\r\n") {
		t.Error("a cut reply looks whole")
	}
	want(t, d.WaitPath("/drip").Str("reason"), "request", "timeout")
}

// A reply body that stalls is cut after the cluster's body_timeout.
func TestTimeLimitReplyBodyStall(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t, func(p *harness.Peer) {
		p.Head()
		_ = p.Send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
		p.UntilClosed()
	})
	s := &site{cluster: "body_timeout = \"300ms\"", endpoints: []string{b.Addr}}
	d := serve(t, s)
	start := time.Now()
	data, _ := harness.Dial(t, s.addr).Send(get + "\r\n").Rest()
	took(t, start, short)
	want(t, data, "200 OK", "abc")
	want(t, d.WaitPath("/").Str("reason"), "body", "timeout")
}

// A client that never reads is dropped after timeouts.write, and the backend's
// connection with it.
func TestTimeLimitWriteToAClientThatNeverReads(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	b := harness.NewBackend(t, func(p *harness.Peer) {
		p.Head()
		_ = p.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		chunk := strings.Repeat("x", 1<<16)
		for p.Send(chunk) == nil {
		}
		gone <- struct{}{}
	})
	s := &site{tables: "[listener.web.timeouts]\nwrite = \"300ms\"\n", endpoints: []string{b.Addr}}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	c.Send(harness.Request("GET", "/never", "a"))
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the backend is still connected")
	}
	want(t, d.WaitPath("/never").Str("reason"), "write", "timeout")
}

// A backend that takes no byte of a request body: 504 after write_timeout.
func TestTimeLimitWriteToABackendThatNeverReads(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	b := harness.NewBackend(t, func(*harness.Peer) { <-hold })
	defer close(hold)
	s := &site{cluster: "write_timeout = \"300ms\"", endpoints: []string{b.Addr}}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	c.Send(harness.Request("POST", "/never", "a", "Content-Length: 1000000000"))
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		chunk := []byte(strings.Repeat("x", 1<<16))
		for {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}()
	wantStatus(t, c.Reply("POST"), 504)
	_ = c.Close()
	<-stop
	want(t, d.WaitPath("/never").Str("reason"), "write", "timeout")
}

// A request that waits for a connection longer than pending_timeout: 503; more
// than max_pending wait: 503 at once.
func TestTimeLimitPending(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	b := harness.NewBackend(t, func(p *harness.Peer) {
		p.Head()
		select {
		case <-hold:
		case <-time.After(20 * time.Second):
		}
		_ = p.Send(harness.Reply200("late"))
	})
	s := &site{
		cluster:   "max_connections = 1\nmax_pending = 1\npending_timeout = \"400ms\"",
		endpoints: []string{b.Addr}, more: "[server]\nworkers = 1\n",
	}
	d := serve(t, s)
	first := harness.Dial(t, s.addr).Send(harness.Request("GET", "/first", "a"))
	harness.Eventually(t, 5*time.Second, "first request at the backend", func() bool { return b.Heads() == 1 })
	start := time.Now()
	second := harness.Dial(t, s.addr).Send(harness.Request("GET", "/second", "a"))
	second.ExpectNothing(50 * time.Millisecond)
	wantStatus(t, harness.Dial(t, s.addr).Do("GET", "/third", "a"), 503)
	if d := time.Since(start); d > 350*time.Millisecond {
		t.Errorf("the third request waited %v", d)
	}
	wantStatus(t, second.Reply("GET"), 503)
	took(t, start, 400*time.Millisecond)
	close(hold)
	wantStatus(t, first.Reply("GET"), 200)
	want(t, d.WaitPath("/second").Str("reason"), "pending", "timeout")
	want(t, d.WaitPath("/third").Str("reason"), "pending")
}

// An upgraded connection without a byte either way ends after timeouts.tunnel.
func TestTimeLimitTunnel(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.timeouts]\ntunnel = \"300ms\"\n", endpoints: []string{harness.NewBackend(t, upgradeEcho).Addr}}
	serve(t, s)
	c := upgrade(t, s.addr)
	c.Send("ping")
	if got := c.ReadN(4); got != "ping" {
		t.Errorf("echo %q", got)
	}
	start := time.Now()
	c.ExpectClose()
	took(t, start, short)
}

// A time limit of "0s" is none.
func TestTimeLimitZeroIsNone(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.timeouts]\nhead = \"0s\"\nidle = \"0s\"\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	c := harness.Dial(t, s.addr)
	c.Send("GET /")
	c.ExpectNothing(700 * time.Millisecond)
	c.Send(" HTTP/1.1\r\nHost: a\r\n\r\n")
	wantStatus(t, c.Reply("GET"), 200)
}

// An idle pooled connection is closed after the cluster's idle_timeout.
func TestTimeLimitPooledConnection(t *testing.T) {
	t.Parallel()
	ended := make(chan time.Time, 1)
	b := harness.NewBackend(t, func(p *harness.Peer) {
		harness.Echo("a")(p)
		ended <- time.Now()
	})
	s := &site{cluster: "idle_timeout = \"300ms\"", endpoints: []string{b.Addr}}
	serve(t, s)
	start := time.Now()
	wantStatus(t, harness.Get(t, s.addr, "/", "a"), 200)
	select {
	case at := <-ended:
		if at.Sub(start) < short {
			t.Errorf("closed after %v", at.Sub(start))
		}
	case <-time.After(5 * time.Second):
		t.Error("still open")
	}
}

// upgradeEcho accepts an upgrade and then sends back what it gets.
func upgradeEcho(p *harness.Peer) {
	head := p.Head()
	if harness.Field(head, "Upgrade") == "" || !strings.EqualFold(harness.Field(head, "Connection"), "upgrade") {
		_ = p.Send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		return
	}
	_ = p.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + harness.Field(head, "Upgrade") + "\r\n\r\n")
	buf := make([]byte, 4096)
	for {
		n, err := p.R.Read(buf)
		if n > 0 && p.Send(string(buf[:n])) != nil {
			return
		}
		if err != nil {
			_ = p.Conn.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// upgrade connects and switches protocols.
func upgrade(t *testing.T, addr string) *harness.Conn {
	t.Helper()
	c := harness.Dial(t, addr)
	r := c.Do("GET", "/chat", "a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
	wantStatus(t, r, 101)
	if !strings.EqualFold(r.Header.Get("Connection"), "upgrade") || r.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("101 with %v", r.Header)
	}
	return c
}
