package traffic

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// against makes one client of a kind and a server that runs script on every
// connection. script gets the request target of the first request.
func against(t *testing.T, o Options, script func(c *net.TCPConn, r *bufio.Reader, uri string)) (*client, *Run) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			if uri := readHead(r); uri != "" {
				script(c.(*net.TCPConn), r, uri)
			}
			_ = c.Close()
		}
	}()
	o.Targets = map[string]string{"web": ln.Addr().String()}
	run, clients := newRun(o)
	t.Cleanup(func() {
		clients[0].hangUp()
		_ = ln.Close()
		<-done
	})
	return clients[0], run
}

// readHead reads a request head and returns its target; "" at the end.
func readHead(r *bufio.Reader) string {
	uri := ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return ""
		}
		if uri == "" {
			uri = strings.Fields(line)[1]
		}
		if line == "\r\n" {
			return uri
		}
	}
}

func reply(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func good(uri string) string { return reply("GET 0 " + uri + "\n") }

func say(c net.Conn, s string) { _, _ = io.WriteString(c, s) }

func reset(c *net.TCPConn) { _ = c.SetLinger(0) }

func TestOutcomes(t *testing.T) {
	hold := func(c net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }
	upgraded := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: load-echo\r\n\r\n"
	type script = func(c *net.TCPConn, r *bufio.Reader, uri string)
	for _, tt := range []struct {
		name   string
		o      Options
		want   string
		status int
		script script
	}{
		{"good", Options{KeepAlive: 1}, OK, 200, func(c *net.TCPConn, r *bufio.Reader, uri string) { say(c, good(uri)); hold(c, r) }},
		{"closed under the request", Options{KeepAlive: 1}, EOFBefore, 0, func(*net.TCPConn, *bufio.Reader, string) {}},
		{"reset under the request", Options{KeepAlive: 1}, Reset, 0, func(c *net.TCPConn, _ *bufio.Reader, _ string) { reset(c) }},
		{"half a head", Options{KeepAlive: 1}, EOFIn, 0, func(c *net.TCPConn, _ *bufio.Reader, _ string) { say(c, "HTTP/1.1 200 OK\r\nA: b\r\n") }},
		{"half a body", Options{KeepAlive: 1}, EOFIn, 200, func(c *net.TCPConn, _ *bufio.Reader, _ string) { say(c, strings.TrimSuffix(reply("12345"), "45")) }},
		{"half a chunked body", Options{Slow: 1}, EOFIn, 200, func(c *net.TCPConn, _ *bufio.Reader, _ string) {
			say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\npiece 0\n\r\n")
		}},
		{"nothing", Options{KeepAlive: 1, Timeout: 30 * time.Millisecond}, Timeout, 0, func(c *net.TCPConn, r *bufio.Reader, _ string) { hold(c, r) }},
		{"the reply of another", Options{KeepAlive: 1}, WrongBody, 200, func(c *net.TCPConn, r *bufio.Reader, uri string) { say(c, good(uri+"1")); hold(c, r) }},
		{"unavailable", Options{KeepAlive: 1}, Status5xx, 503, func(c *net.TCPConn, _ *bufio.Reader, _ string) {
			say(c, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
		}},
		{"not found", Options{KeepAlive: 1}, StatusOther, 404, func(c *net.TCPConn, _ *bufio.Reader, _ string) {
			say(c, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
		}},
		{"not HTTP", Options{KeepAlive: 1}, Malformed, 0, func(c *net.TCPConn, _ *bufio.Reader, _ string) { say(c, "SSH-2.0\r\n\r\n") }},
		{"two replies", Options{KeepAlive: 1}, Malformed, 200, func(c *net.TCPConn, r *bufio.Reader, uri string) { say(c, good(uri)+good(uri)); hold(c, r) }},
		{"upgrade cut", Options{Upgrade: 1}, EOFIn, 101, func(c *net.TCPConn, r *bufio.Reader, _ string) {
			say(c, upgraded)
			readHead(bufio.NewReader(io.LimitReader(r, 4)))
		}},
		{"upgrade garbled", Options{Upgrade: 1}, WrongBody, 101, func(c *net.TCPConn, r *bufio.Reader, _ string) { say(c, upgraded+"hello\n"); hold(c, r) }},
		{"upgrade refused", Options{Upgrade: 1}, StatusOther, 200, func(c *net.TCPConn, r *bufio.Reader, uri string) { say(c, good(uri)); hold(c, r) }},
		{"answered before the body", Options{Upload: 1, BodySize: 1 << 20}, Status5xx, 503, func(c *net.TCPConn, r *bufio.Reader, _ string) {
			say(c, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
			hold(c, r)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, run := against(t, tt.o, tt.script)
			c.do(c)
			n := run.Totals().Total("")
			if n.Requests != 1 || n.Outcomes[tt.want] != 1 || len(n.Outcomes) != 1 {
				t.Errorf("%d requests, outcomes %v, want one %s\n%s", n.Requests, n.Outcomes, tt.want, run.Totals())
			}
			if want := min(tt.status, 1); n.Replies() != int64(want) || want == 1 && n.Status[tt.status] != 1 {
				t.Errorf("status %v, want %d", n.Status, tt.status)
			}
			if c.conn != nil && tt.want != OK {
				t.Error("the connection is kept")
			}
		})
	}
}

func TestRefused(t *testing.T) {
	c, run := against(t, Options{KeepAlive: 1}, nil)
	for name, addr := range map[string]string{"tcp": "127.0.0.1:1", "unix": t.TempDir() + "/none"} {
		c.addr = addr
		c.do(c)
		if n := run.Totals().Total("").Outcomes; len(n) != 1 || n[Refused] == 0 {
			t.Errorf("%s: outcomes %v", name, n)
		}
	}
}

// untilSeen waits until the end of the server's side has arrived, without
// taking its error as a read would.
func untilSeen(t *testing.T, c *client) {
	t.Helper()
	raw, err := c.conn.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if outer := raw.Control(func(fd uintptr) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10000)
	}); outer != nil || err != nil || n != 1 {
		t.Fatalf("the server does not close: %v %v", outer, err)
	}
}

func TestIdleConnectionClosedIsNoFailure(t *testing.T) {
	c, run := against(t, Options{KeepAlive: 1}, func(c *net.TCPConn, _ *bufio.Reader, uri string) { say(c, good(uri)) })
	c.do(c)
	untilSeen(t, c)
	c.do(c)
	n := run.Totals().Total("")
	if n.IdleClosed != 1 || n.Outcomes[OK] != 2 || n.Failed() != 0 || n.Connections != 2 {
		t.Errorf("%+v", n)
	}
}

func TestIdleConnectionResetIsAFailure(t *testing.T) {
	answered := make(chan struct{})
	c, run := against(t, Options{KeepAlive: 1}, func(c *net.TCPConn, _ *bufio.Reader, uri string) {
		say(c, good(uri))
		<-answered // RST would throw away what the client has not read
		reset(c)
	})
	c.do(c)
	close(answered)
	untilSeen(t, c)
	c.do(c)
	n := run.Totals().Total("")
	if n.Outcomes[Reset] != 1 || n.Failed() != 1 || n.IdleClosed != 0 || n.Requests != 3 {
		t.Errorf("%+v", n)
	}
}

func TestAnnouncedCloseIsNoFailure(t *testing.T) {
	c, run := against(t, Options{KeepAlive: 1}, func(c *net.TCPConn, r *bufio.Reader, uri string) {
		say(c, strings.Replace(good(uri), "\r\n", "\r\nConnection: close\r\n", 1))
		_, _ = io.Copy(io.Discard, r)
	})
	c.do(c)
	c.do(c)
	n := run.Totals().Total("web", KeepAlive)
	if n.Announced != 2 || n.Outcomes[OK] != 2 || n.IdleClosed != 0 || n.Connections != 2 {
		t.Errorf("%+v", n)
	}
}

// All kinds against their own backend: clean, and both ends count the same.
func TestCleanRun(t *testing.T) {
	b, err := StartBackend("127.0.0.1:0", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	targets := map[string]string{}
	for i, ln := range b.addrs {
		targets[fmt.Sprint("t", i)] = ln
	}
	r, err := Start(Options{
		Targets: targets, KeepAlive: 4, Fresh: 4, Upload: 2, Download: 2, Slow: 2, Upgrade: 2,
		Rate: 500, BodyRate: 100, SlowFor: 200 * time.Millisecond, UpgradeFor: 250 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	<-r.Ready()
	for r.Totals().Requests() < 200 {
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	res := r.Stop()
	n, seen := res.Total(""), b.Seen()
	if res.Failed() != 0 || n.Outcomes[OK] != n.Requests || n.Replies() != n.Requests || len(res.Failures) != 0 {
		t.Errorf("not clean:\n%s", res)
	}
	if seen.Requests != n.Requests || seen.Connections != n.Connections {
		t.Errorf("the backend has seen %+v\n%s", seen, res)
	}
	for target := range targets {
		for _, kind := range []string{KeepAlive, Fresh, Upload, Download, Slow, Upgrade} {
			if res.Total(target, kind).Outcomes[OK] == 0 {
				t.Errorf("no %s request to %s", kind, target)
			}
		}
	}
	if n.IdleClosed != 0 || n.Announced != 0 || n.Messages == 0 || n.Sent == 0 || n.Received == 0 || res.Latency.For == 0 {
		t.Errorf("%s", res)
	}
}

func TestQuantile(t *testing.T) {
	r := Result{Latency: Stall{For: 900 * time.Microsecond}}
	r.Spread[3] = 60 // 4 to 7 µs
	r.Spread[5] = 39
	r.Spread[10] = 1
	for q, want := range map[float64]time.Duration{0: 8, 0.5: 8, 0.6: 8, 0.61: 32, 0.99: 32, 1: 900} {
		if got := r.Quantile(q); got != want*time.Microsecond {
			t.Errorf("Quantile(%v) = %v, want %v µs", q, got, int64(want))
		}
	}
	if got := new(Result).Quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}
