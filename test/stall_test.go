package test

import (
	"strings"
	"testing"

	"belay/test/harness"
)

// A body that filled its buffer while its request waited for a connection goes
// on when there is one, although no further event tells of what has come.
func TestUploadThatWaitedForAConnection(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	b := harness.NewBackend(t, func(p *harness.Peer) {
		for head := p.Head(); head != ""; head = p.Head() {
			if strings.HasPrefix(head, "GET /hold") {
				<-hold
			}
			body, err := p.Body(head)
			if err != nil || p.Send(harness.Reply200(string(rune('0'+len(body)%10)))) != nil {
				return
			}
		}
	})
	s := &site{cluster: "max_connections = 1", endpoints: []string{b.Addr}, more: "[server]\nworkers = 1\n"}
	serve(t, s)
	first := harness.Dial(t, s.addr).Send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
	harness.Eventually(t, patience, "the connection is taken", func() bool { return b.Heads() == 1 })
	body := strings.Repeat("x", 100003)
	second := harness.Dial(t, s.addr)
	go second.Send(harness.Request("POST", "/", "a", "Content-Length: 100003") + body)
	third := harness.Dial(t, s.addr)
	third.Send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n") // queued behind the upload: it has been read by then
	close(hold)
	wantStatus(t, first.Reply("GET"), 200)
	if r := second.Reply("POST"); r.Status != 200 || r.Body != "3" {
		t.Errorf("reply %+v", r)
	}
	wantStatus(t, third.Reply("GET"), 200)
}

// Pipelined requests that end in the middle of the buffer are all answered.
func TestPipelineLongerThanTheBuffer(t *testing.T) {
	t.Parallel()
	s := &site{routes: "[[listener.web.route]]\nrespond = { status = 200, body = \"r\" }\n"}
	serve(t, s)
	const n = 200
	c := harness.Dial(t, s.addr)
	c.Send(strings.Repeat(get+"X-Pad: "+strings.Repeat("p", 41)+"\r\n\r\n", n))
	for range n {
		wantStatus(t, c.Reply("GET"), 200)
	}
}

// A head that leaves its buffer no room does not keep its body from coming.
func TestBodyBehindALargeHead(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}, tables: "[listener.web.limits]\nhead_bytes = \"70KiB\"\nfields = 200\n"}
	serve(t, s)
	for _, size := range []int{65536, 65535, 65500, 62000} {
		head := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n"
		for len(head)+4000 < size {
			head += "X-Pad: " + strings.Repeat("p", 3000) + "\r\n"
		}
		head += "X-End: " + strings.Repeat("p", size-len(head)-len("X-End: \r\n\r\n")) + "\r\n\r\n"
		c := harness.Dial(t, s.addr)
		c.Send(head).Send(strings.Repeat("b", 5000))
		r := c.Reply("POST")
		if r.Status != 200 || !strings.HasSuffix(r.Body, strings.Repeat("b", 5000)) {
			t.Errorf("head of %d bytes: status %d, %d bytes", size, r.Status, len(r.Body))
		}
	}
}

// A reply that breaks off on its way to an HTTP/1.0 client ends in a reset: the
// end of the connection would make it look whole.
func TestBrokenReplyToAnOldClient(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t, func(p *harness.Peer) {
		p.Head()
		_ = p.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	})
	s := &site{endpoints: []string{b.Addr}}
	serve(t, s)
	c := harness.Dial(t, s.addr).Send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
	if data, reset := c.Rest(); !reset {
		t.Errorf("a clean end after %q", data)
	}
}
