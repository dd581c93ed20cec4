package traffic

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// client is one of a run. All but the counts is its own goroutine's.
type client struct {
	run    *Run
	target string
	addr   string
	kind   string
	id     int
	every  time.Duration // between two requests; 0: at once
	do     func(*client) // one request

	conn    *conn // nil: none
	n       int   // requests begun
	start   time.Time
	failed  bool // the last request
	readied bool
}

// conn is a connection to a target.
type conn struct {
	net.Conn
	r        *bufio.Reader
	answered int
	sent     int64 // not yet added to the counts
	received int64
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent += int64(n)
	return n, err
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received += int64(n)
	return n, err
}

// failure says why a request is not OK.
type failure struct {
	outcome string
	detail  string
}

// failureOf makes a failure of an error of the network. begun says that a part
// of the reply was there.
func failureOf(err error, begun bool) *failure {
	f := &failure{Local, err.Error()}
	var network net.Error
	isNetwork := errors.As(err, &network)
	switch {
	// A Unix socket is refused by ENOENT and, its queue full, by EAGAIN too.
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EAGAIN):
		f.outcome = Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		f.outcome = Reset
	case isNetwork && network.Timeout():
		f.outcome = Timeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		f.outcome = EOFBefore
		if begun {
			f.outcome = EOFIn
		}
	case !isNetwork:
		f.outcome = Malformed // net/http has no type for it
	}
	return f
}

// small asks for a small reply. A fresh client asks to close in every second
// request, and the end of the connection is then a part of the reply.
func (c *client) small() {
	more, closing := "", c.kind == Fresh && c.n%2 == 1
	if closing {
		more = "Connection: close\r\n"
	}
	c.request("GET", "/fast", more, nil, func(resp *http.Response, uri string) *failure {
		if err := expect(resp.Body, "GET 0 "+uri+"\n"); err != nil || !closing {
			return err
		}
		if _, err := c.conn.r.ReadByte(); err == nil {
			return &failure{Malformed, "bytes behind the reply"}
		} else if !errors.Is(err, io.EOF) {
			return failureOf(err, true)
		}
		return nil
	})
	if c.kind == Fresh {
		c.hangUp()
	}
}

// upload sends a body and gets its length and sum back.
func (c *client) upload() {
	body := pattern(c.n*7919, c.run.o.BodySize)
	more, sent := fmt.Sprintf("Content-Length: %d\r\n", len(body)), body
	if c.n%2 == 1 {
		more, sent = "Transfer-Encoding: chunked\r\n", chunked(body)
	}
	c.request("POST", "/up", more, sent, func(resp *http.Response, uri string) *failure {
		return expect(resp.Body, fmt.Sprintf("POST %d %08x %s\n", len(body), crc32.ChecksumIEEE(body), uri))
	})
}

func chunked(body []byte) []byte {
	var b bytes.Buffer
	for part := range chunks(body, len(body)/3+1) {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
	}
	b.WriteString("0\r\n\r\n")
	return b.Bytes()
}

// download gets a body.
func (c *client) download() {
	path := fmt.Sprintf("/down/%d/%d", c.n*104729%patternSize, c.run.o.BodySize)
	want := pattern(c.n*104729%patternSize, c.run.o.BodySize)
	c.request("GET", path, "", nil, func(resp *http.Response, _ string) *failure {
		return expect(resp.Body, string(want))
	})
}

// slow gets a body that takes its time.
func (c *client) slow() {
	pieces := max(1, int(c.spread(c.run.o.SlowFor)/dripEvery))
	c.request("GET", fmt.Sprintf("/slow/%d", pieces), "", nil, func(resp *http.Response, _ string) *failure {
		c.isReady()
		var want strings.Builder
		for i := range pieces {
			want.WriteString(piece(i))
		}
		_ = c.conn.SetDeadline(time.Now().Add(c.run.o.SlowFor + c.run.o.Timeout))
		return expect(resp.Body, want.String())
	})
}

// spread makes the first of what lasts shorter for most clients, so that they
// do not all begin anew at the same time.
func (c *client) spread(d time.Duration) time.Duration {
	if c.n > 0 {
		return d
	}
	return d * time.Duration(c.id%5+1) / 5
}

// expect compares a body with what it must be.
func expect(body io.Reader, want string) *failure {
	got, err := io.ReadAll(body)
	if err != nil {
		f := failureOf(err, true)
		f.detail = fmt.Sprintf("after %d of %d bytes: %s", len(got), len(want), f.detail)
		return f
	}
	if string(got) != want {
		return &failure{WrongBody, fmt.Sprintf("%d bytes %.80q, want %d bytes %.80q", len(got), got, len(want), want)}
	}
	return nil
}

// request makes one request and gives it its outcome. body is sent behind the
// head as it is; check reads and judges what comes behind the reply's head.
func (c *client) request(method, path, more string, body []byte, check func(*http.Response, string) *failure) {
	c.checkIdle()
	c.begun()
	uri := fmt.Sprintf("%s?c=%d&n=%d", path, c.id, c.n)
	head := method + " " + uri + " HTTP/1.1\r\nHost: " + c.run.o.Host + "\r\n" + more + "\r\n"
	c.n++
	resp, err := c.exchange(method, head, body)
	if err == nil {
		err = c.judge(resp, uri, check)
	}
	c.failed = err != nil
	c.done(err)
	switch {
	case err != nil:
		c.hangUp()
	case resp.Close:
		if !strings.Contains(more, "Connection: close") {
			c.count(func(n *Counts) { n.Announced++ })
		}
		c.hangUp()
	default:
		c.conn.answered++
		c.flush()
	}
}

// exchange sends a request and reads the head of its reply.
func (c *client) exchange(method, head string, body []byte) (*http.Response, *failure) {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return nil, failureOf(err, false)
		}
	}
	_ = c.conn.SetDeadline(time.Now().Add(c.run.o.Timeout))
	_, sendErr := c.conn.Write(append([]byte(head), body...))
	if sendErr != nil && errors.Is(sendErr, os.ErrDeadlineExceeded) {
		return nil, failureOf(fmt.Errorf("send: %w", sendErr), false)
	}
	// A server may have answered, such as with 503, before it stopped reading.
	if _, err := c.conn.r.Peek(1); err != nil {
		if sendErr != nil {
			err = fmt.Errorf("send: %w", sendErr)
		}
		return nil, failureOf(err, false)
	}
	resp, err := http.ReadResponse(c.conn.r, &http.Request{Method: method})
	if err != nil {
		return nil, failureOf(fmt.Errorf("head of the reply: %w", err), true)
	}
	c.count(func(n *Counts) { n.Status[resp.StatusCode]++ })
	return resp, nil
}

// judge compares a reply with what is expected.
func (c *client) judge(resp *http.Response, uri string, check func(*http.Response, string) *failure) *failure {
	want := http.StatusOK
	if c.kind == Upgrade {
		want = http.StatusSwitchingProtocols
	}
	switch {
	case resp.StatusCode == want:
	case resp.StatusCode >= 500:
		return &failure{Status5xx, resp.Status}
	default:
		return &failure{StatusOther, resp.Status}
	}
	if err := check(resp, uri); err != nil {
		return err
	}
	if n := c.conn.r.Buffered(); n > 0 {
		return &failure{Malformed, fmt.Sprintf("%d bytes behind the reply", n)}
	}
	return nil
}

func (c *client) dial() error {
	network := "tcp"
	if strings.Contains(c.addr, "/") {
		network = "unix"
	}
	nc, err := net.DialTimeout(network, c.addr, c.run.o.Timeout)
	if err != nil {
		return err
	}
	c.conn = &conn{Conn: nc}
	c.conn.r = bufio.NewReader(c.conn)
	c.count(func(n *Counts) { n.Connections++ })
	return nil
}

// hangUp closes the connection if there is one.
func (c *client) hangUp() {
	if c.conn != nil {
		c.flush()
		_ = c.conn.Close()
		c.conn = nil
	}
}

// flush adds the bytes of the connection to the counts.
func (c *client) flush() {
	c.count(func(n *Counts) {
		n.Sent += c.conn.sent
		n.Received += c.conn.received
	})
	c.conn.sent, c.conn.received = 0, 0
}

// checkIdle looks whether the server has done something to a connection on
// which it owes nothing. A close is its right, and counted; it is a failure
// only if it comes so late that a request is already on its way.
func (c *client) checkIdle() {
	if c.conn == nil {
		return
	}
	n, err := peek(c.conn.Conn)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return
	case err == nil && n == 0:
		c.count(func(n *Counts) { n.IdleClosed++ })
	default:
		f := &failure{Malformed, "bytes on an idle connection"}
		if err != nil {
			f = failureOf(fmt.Errorf("idle connection: %w", err), false)
		}
		c.begun() // every failure is that of a request, so this counts as one
		c.done(f)
	}
	c.hangUp()
}

// peek looks for bytes, an end or an error without waiting and without taking them.
func peek(nc net.Conn) (n int, err error) {
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	outer := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return n, errors.Join(outer, err)
}
