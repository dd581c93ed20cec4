package test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// Pipelined requests are answered in their order; over the cap they wait.
func TestPipelining(t *testing.T) {
	t.Parallel()
	addr, _ := front(t)
	const n = 50
	var b strings.Builder
	for i := range n {
		if i%2 == 0 {
			fmt.Fprintf(&b, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
		} else {
			fmt.Fprintf(&b, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", i)
		}
	}
	c := harness.Dial(t, addr).Send(b.String())
	for i := range n {
		r := c.Reply("GET")
		wantStatus(t, r, 200)
		want(t, r.Body, fmt.Sprintf(" /%d HTTP/1.1\r\n", i))
	}
	c.ExpectOpen("/", "a")
}

// Requests that arrive byte by byte are no different.
func TestRequestByteByByte(t *testing.T) {
	t.Parallel()
	addr, _ := front(t)
	c := harness.Dial(t, addr)
	msg := chkd + "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
	for i := range len(msg) {
		c.Send(msg[i : i+1])
	}
	r := c.Reply("POST")
	wantStatus(t, r, 200)
	want(t, r.Body, "Transfer-Encoding: chunked\r\n")
	c.ExpectOpen("/", "a")
}

// A client that asks with Expect: 100-continue gets 100 before it sends the
// body; HTTP/1.0 gets none; a body already sent is taken.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	addr, _ := front(t)
	c := harness.Dial(t, addr)
	c.Send(post + "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	if r := c.AnyReply("POST"); r.Status != 100 {
		t.Fatalf("status %d, want 100", r.Status)
	}
	r := c.Send("abc").Reply("POST")
	wantStatus(t, r, 200)
	want(t, r.Body, "\r\n\r\nabc")

	r = c.Send(post + "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc").Reply("POST")
	wantStatus(t, r, 200)
	c.ExpectOpen("/", "a")

	old := harness.Dial(t, addr)
	old.Send("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc")
	r = old.AnyReply("POST")
	wantStatus(t, r, 200)
	wantNot(t, r.Body, "Expect:") // which means nothing in HTTP/1.0
}

// A final reply instead of 100 ends the connection when the body is unread.
func TestExpectContinueRefused(t *testing.T) {
	t.Parallel()
	s := &site{routes: "[[listener.web.route]]\npath = \"/here\"\nrespond = { status = 403, body = \"no\" }\n",
		endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	for path, status := range map[string]int{"/here": 403} {
		c := harness.Dial(t, s.addr)
		c.Send(harness.Request("POST", path, "a", "Content-Length: 1000000", "Expect: 100-continue"))
		r := c.AnyReply("POST")
		if r.Status == 100 {
			r = c.AnyReply("POST")
		}
		wantStatus(t, r, status)
		if !r.Close {
			t.Error("the connection stays open with an unread body")
		}
		c.ExpectClose()
	}
}

// HTTP/1.0 clients: closed by default, kept with keep-alive, never chunked.
func TestHTTP10Clients(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t, harness.Canned("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
	s := &site{endpoints: []string{b.Addr}}
	serve(t, s)
	data, _ := harness.Dial(t, s.addr).Send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").Rest()
	if !strings.HasPrefix(data, "HTTP/1.") || !strings.HasSuffix(data, "\r\n\r\nhello") || strings.Contains(strings.ToLower(data), "chunked") {
		t.Errorf("reply %q", data)
	}
	echo := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, echo)
	c := harness.Dial(t, echo.addr)
	for range 2 {
		r := c.Send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").Reply("GET")
		wantStatus(t, r, 200)
		if !strings.EqualFold(r.Header.Get("Connection"), "keep-alive") {
			t.Errorf("Connection: %q", r.Header.Get("Connection"))
		}
		want(t, r.Body, "GET / HTTP/1.1\r\n")
	}
}

// HEAD: the length of the body, and no body.
func TestHead(t *testing.T) {
	t.Parallel()
	addr, _ := front(t)
	c := harness.Dial(t, addr)
	r := c.Do("HEAD", "/", "a")
	if r.Status != 200 || r.Length <= 0 || r.Body != "" {
		t.Errorf("reply %+v", r)
	}
	c.ExpectOpen("/", "a")
}

// Trailers of a chunked body come through, in both directions.
func TestTrailers(t *testing.T) {
	t.Parallel()
	addr, _ := front(t)
	r := harness.Dial(t, addr).Send(post + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n").Reply("POST")
	wantStatus(t, r, 200)
	want(t, r.Body, "\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n")

	b := harness.NewBackend(t, harness.Canned("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n"))
	s := &site{endpoints: []string{b.Addr}}
	serve(t, s)
	r = harness.Dial(t, s.addr).Do("GET", "/", "a", "TE: trailers")
	if r.Body != "abc" || r.Trailer.Get("X-Sum") != "9" {
		t.Errorf("reply %+v", r)
	}
}

// An upgraded connection is a byte stream both ways, half-closed one side at a time.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewBackend(t, upgradeEcho).Addr}}
	d := serve(t, s)
	c := upgrade(t, s.addr)
	msg := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	go func() { _, _ = io.WriteString(c.Conn, msg) }()
	if got := c.ReadN(len(msg)); got != msg {
		t.Error("the stream is not the same")
	}
	c.Send("last")
	c.CloseWrite()
	if data, _ := c.Rest(); data != "last" {
		t.Errorf("after half-close %q", data)
	}
	rec := d.WaitPath("/chat")
	if rec.Int("status") != 101 || rec.Int("bytes_out") < int64(len(msg)) {
		t.Errorf("record %v", rec)
	}
}

// Bytes that follow the upgrade request at once belong to the stream.
func TestUpgradeEarlyBytes(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewBackend(t, upgradeEcho).Addr}}
	serve(t, s)
	c := harness.Dial(t, s.addr)
	c.Send(harness.Request("GET", "/", "a", "Connection: Upgrade", "Upgrade: websocket") + "early")
	wantStatus(t, c.Reply("GET"), 101)
	if got := c.ReadN(5); got != "early" {
		t.Errorf("stream %q", got)
	}
}

// C1 row 127: without the Connection token, on 1.0, on POST, or where the
// route forbids it, nothing is upgraded.
func TestUpgradeRefused(t *testing.T) {
	t.Parallel()
	s := &site{
		routes:    "[[listener.web.route]]\npath = \"/off\"\nupgrade = false\ncluster = \"back\"\n",
		endpoints: []string{harness.NewEcho(t, "a").Addr},
	}
	serve(t, s)
	for name, msg := range map[string]string{
		"no token": "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
		"1.0":      "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"POST":     "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
		"route":    "GET /off HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		r := harness.Dial(t, s.addr).Send(msg).Reply("GET")
		if r.Status == 101 || strings.Contains(strings.ToLower(r.Body), "\r\nupgrade:") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A refused upgrade leaves an ordinary reply and connection.
func TestUpgradeDeclinedByTheBackend(t *testing.T) {
	t.Parallel()
	addr, _ := front(t)
	c := harness.Dial(t, addr)
	wantStatus(t, c.Do("GET", "/", "a", "Connection: Upgrade", "Upgrade: websocket"), 200)
	c.ExpectOpen("/", "a")
}

// Many clients that vanish in the middle of things leave nothing behind.
func TestClientsThatVanish(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t, func(p *harness.Peer) {
		head := p.Head()
		if strings.Contains(head, "/slow") {
			p.UntilClosed()
			return
		}
		_, _ = p.Body(head)
		_ = p.Send(harness.Reply200(strings.Repeat("x", 100000)))
		p.UntilClosed()
	})
	s := &site{cluster: `idle_timeout = "200ms"`, endpoints: []string{b.Addr}}
	d := serve(t, s)
	before := harness.OpenFiles(t, d.PID())
	msgs := []string{"GET /", get, get + "\r\n", post + "Content-Length: 100\r\n\r\nabc", chkd + "5\r\nab", "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"}
	for i := range 60 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := harness.Wrap(t, conn).Send(msgs[i%len(msgs)])
		if i%2 == 0 {
			c.Reset()
		} else {
			_ = c.Close()
		}
	}
	c := harness.Dial(t, s.addr)
	if r := c.Do("GET", "/", "a"); len(r.Body) != 100000 {
		t.Errorf("reply %d, %d bytes", r.Status, len(r.Body))
	}
	_ = c.Close()
	harness.Eventually(t, 10*time.Second, "descriptors are given back", func() bool {
		return harness.OpenFiles(t, d.PID()) <= before+2
	})
}

// A client that ends behind a whole body is let go of like one without a body.
func TestClientThatVanishesBehindItsBody(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	b := harness.NewBackend(t, func(p *harness.Peer) {
		p.Head()
		p.UntilClosed()
		gone <- struct{}{}
	})
	s := &site{endpoints: []string{b.Addr}}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	c.Send(harness.Request("POST", "/slow", "a", "Content-Length: 300000"))
	harness.Eventually(t, patience, "the head at the backend", func() bool { return b.Heads() == 1 })
	c.Send(strings.Repeat("x", 300000))
	_ = c.Close()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the backend is still connected")
	}
	if rec := d.WaitPath("/slow"); rec.Int("status") != 499 {
		t.Errorf("record %v", rec)
	}
}

// After [limits] requests_per_connection the connection ends, said in time.
func TestRequestsPerConnection(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.limits]\nrequests_per_connection = 3\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	c := harness.Dial(t, s.addr)
	for i := range 3 {
		if r := c.Do("GET", "/", "a"); r.Close != (i == 2) {
			t.Errorf("request %d: close %v", i, r.Close)
		}
	}
	c.ExpectClose()
}

// A client's Connection: close is honoured; bytes behind it are ignored (C1 row 122).
func TestConnectionClose(t *testing.T) {
	t.Parallel()
	echo := harness.NewEcho(t, "a")
	s := &site{endpoints: []string{echo.Addr}}
	serve(t, s)
	c := harness.Dial(t, s.addr)
	c.Send(get + "Connection: close\r\n\r\n" + get + "\r\n")
	if r := c.Reply("GET"); !r.Close {
		t.Error("the reply does not say close")
	}
	c.ExpectClose()
	wantStatus(t, harness.Get(t, s.addr, "/", "a"), 200)
	if echo.Conns() > 2 || echo.Heads() != 2 {
		t.Errorf("%d connections, %d requests at the backend", echo.Conns(), echo.Heads())
	}
}
