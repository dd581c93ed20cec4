package harness

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Conn is a client that sends exactly the bytes it is told to.
type Conn struct {
	net.Conn
	r *bufio.Reader
	t testing.TB
}

// patience is how long a client waits for anything.
const patience = 15 * time.Second

// Dial connects to "ip:port" or, with a slash in it, to a Unix socket.
func Dial(t testing.TB, addr string) *Conn {
	t.Helper()
	return DialFrom(t, "", addr)
}

// DialFrom is Dial with a source address, such as 127.0.0.2.
func DialFrom(t testing.TB, source, addr string) *Conn {
	t.Helper()
	c, err := TryDial(source, addr)
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	conn := Wrap(t, c)
	t.Cleanup(func() { _ = c.Close() })
	return conn
}

// TryDial is DialFrom for tests that expect it may fail. The caller closes the connection.
func TryDial(source, addr string) (net.Conn, error) {
	network := "tcp"
	if strings.Contains(addr, "/") {
		network = "unix"
	}
	d := net.Dialer{Timeout: patience}
	if source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	return d.Dial(network, addr)
}

// Wrap makes a Conn of a connection that the caller made and closes.
func Wrap(t testing.TB, c net.Conn) *Conn {
	_ = c.SetDeadline(time.Now().Add(patience))
	return &Conn{Conn: c, r: bufio.NewReader(c), t: t}
}

// Send writes bytes as they are.
func (c *Conn) Send(s string) *Conn {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatalf("send %.60q: %v", s, err)
	}
	return c
}

// Reply is a response as a client sees it.
type Reply struct {
	Status  int
	Proto   string
	Header  http.Header
	Trailer http.Header
	Body    string
	Close   bool  // the reply says that the connection ends
	Length  int64 // Content-Length; -1 if there is none
}

// Reply reads one final response, interim ones skipped.
func (c *Conn) Reply(method string) *Reply {
	c.t.Helper()
	for {
		r, err := c.read(method)
		if err != nil {
			c.t.Fatalf("read reply to %s: %v", method, err)
		}
		if r.Status >= 200 || r.Status == http.StatusSwitchingProtocols {
			return r
		}
	}
}

// AnyReply reads the next response, be it interim.
func (c *Conn) AnyReply(method string) *Reply {
	c.t.Helper()
	r, err := c.read(method)
	if err != nil {
		c.t.Fatalf("read reply to %s: %v", method, err)
	}
	return r
}

// TryReply is Reply for tests that expect it may fail.
func (c *Conn) TryReply(method string) (*Reply, error) { return c.read(method) }

func (c *Conn) read(method string) (*Reply, error) {
	if _, err := c.r.Peek(1); err != nil {
		return nil, err // http.ReadResponse would call a clean end unexpected
	}
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	reply := &Reply{Status: resp.StatusCode, Proto: resp.Proto, Header: resp.Header, Close: resp.Close, Length: resp.ContentLength}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return reply, nil
	}
	body, err := io.ReadAll(resp.Body)
	reply.Body = string(body)
	reply.Trailer = resp.Trailer
	return reply, err
}

// Do sends a request and reads its reply.
func (c *Conn) Do(method, target, host string, headers ...string) *Reply {
	c.t.Helper()
	c.Send(Request(method, target, host, headers...))
	return c.Reply(method)
}

// Request writes a request head; headers are whole lines without their end.
func Request(method, target, host string, headers ...string) string {
	var b strings.Builder
	b.WriteString(method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n")
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// Get does one request on a connection of its own.
func Get(t testing.TB, addr, target, host string, headers ...string) *Reply {
	t.Helper()
	c := Dial(t, addr)
	defer func() { _ = c.Close() }()
	return c.Do("GET", target, host, headers...)
}

// ReadLine reads up to and with the next line feed.
func (c *Conn) ReadLine() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read line: %v (after %q)", err, s)
	}
	return s
}

// ReadN reads exactly n bytes.
func (c *Conn) ReadN(n int) string {
	c.t.Helper()
	b := make([]byte, n)
	if m, err := io.ReadFull(c.r, b); err != nil {
		c.t.Fatalf("read %d bytes: %v (after %q)", n, err, b[:m])
	}
	return string(b)
}

// Rest reads until the other side closes; reset says that it did so by RST.
func (c *Conn) Rest() (data string, reset bool) {
	c.t.Helper()
	var b bytes.Buffer
	_, err := io.Copy(&b, c.r)
	switch {
	case err == nil:
	case errors.Is(err, syscall.ECONNRESET):
		reset = true
	default:
		c.t.Fatalf("waiting for the end of the connection: %v (after %.200q)", err, b.String())
	}
	return b.String(), reset
}

// ExpectClose expects that the other side closes without another byte.
func (c *Conn) ExpectClose() {
	c.t.Helper()
	if data, _ := c.Rest(); data != "" {
		c.t.Errorf("expected the connection to close, got %.200q", data)
	}
}

// ExpectOpen expects that the connection still answers.
func (c *Conn) ExpectOpen(target, host string) {
	c.t.Helper()
	if r := c.Do("GET", target, host); r.Status != http.StatusOK {
		c.t.Errorf("next request on the connection: status %d", r.Status)
	}
}

// ExpectNothing expects that no byte and no end arrives for d.
func (c *Conn) ExpectNothing(d time.Duration) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	b, err := c.r.Peek(1)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("expected silence, got %q, %v", b, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
}

// CloseWrite ends our half of the connection.
func (c *Conn) CloseWrite() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatalf("shutdown: %v", err)
	}
}

// Reset ends the connection by RST.
func (c *Conn) Reset() {
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// Discard drops n bytes and says how many there were before an error.
func (c *Conn) Discard(n int64) (int64, error) { return io.CopyN(io.Discard, c.r, n) }

// ExpectStatus reads a reply and compares its status.
func (c *Conn) ExpectStatus(status int) *Reply {
	c.t.Helper()
	r := c.Reply("GET")
	if r.Status != status {
		c.t.Errorf("status %d, want %d", r.Status, status)
	}
	return r
}
