package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Backend is an upstream that follows a script on every connection.
type Backend struct {
	Addr  string // "ip:port", or the path of a Unix socket
	conns atomic.Int64
	heads atomic.Int64
	ln    net.Listener

	mu   sync.Mutex
	open map[net.Conn]struct{}
	done bool
	wg   sync.WaitGroup
}

// Script speaks to one connection; the connection is closed when it returns.
type Script func(*Peer)

// NewBackend listens on an address of its own and follows script.
func NewBackend(t testing.TB, script Script) *Backend {
	t.Helper()
	return NewBackendAt(t, Addr(t), script)
}

// NewBackendAt is NewBackend on a given address; with a slash in it, a Unix socket.
func NewBackendAt(t testing.TB, addr string, script Script) *Backend {
	t.Helper()
	network := "tcp"
	if strings.Contains(addr, "/") {
		network = "unix"
	}
	var ln net.Listener
	var err error
	Eventually(t, 5*time.Second, "a listener for the backend on "+addr, func() bool {
		// An earlier one lives on in a process between its fork and its exec.
		ln, err = net.Listen(network, addr)
		return !errors.Is(err, syscall.EADDRINUSE)
	})
	if err != nil {
		t.Fatalf("backend: %v", err)
	}
	b := &Backend{Addr: addr, ln: ln, open: map[net.Conn]struct{}{}}
	b.wg.Add(1)
	go b.accept(script)
	t.Cleanup(b.Close)
	return b
}

func (b *Backend) accept(script Script) {
	defer b.wg.Done()
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		if b.done {
			b.mu.Unlock()
			_ = c.Close()
			return
		}
		b.open[c] = struct{}{}
		b.wg.Add(1)
		b.mu.Unlock()
		n := b.conns.Add(1)
		go func() {
			defer b.wg.Done()
			script(&Peer{Conn: c, R: bufio.NewReader(c), N: int(n), backend: b})
			_ = c.Close()
			b.mu.Lock()
			delete(b.open, c)
			b.mu.Unlock()
		}()
	}
}

// Close ends the backend and its connections and waits for its scripts.
func (b *Backend) Close() {
	b.mu.Lock()
	b.done = true
	_ = b.ln.Close()
	for c := range b.open {
		_ = c.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
	b.waitRefused()
}

// waitRefused waits until nobody listens at the address: a process between its fork and
// its exec may still have the socket, and the kernel then connects clients to nobody.
func (b *Backend) waitRefused() {
	if strings.Contains(b.Addr, "/") {
		return
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c, err := net.DialTimeout("tcp", b.Addr, time.Second)
		if err != nil {
			return
		}
		_ = c.Close()
	}
}

// Conns counts the connections accepted so far, Heads the request heads read.
func (b *Backend) Conns() int { return int(b.conns.Load()) }

// Heads counts the request heads read so far.
func (b *Backend) Heads() int { return int(b.heads.Load()) }

// Open counts the connections that are open now.
func (b *Backend) Open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// Peer is one connection that belay made to a backend.
type Peer struct {
	net.Conn
	R       *bufio.Reader
	N       int // the how manieth of its backend, from 1
	backend *Backend
}

// Head reads one request head as it came, with its empty line; "" when belay
// has closed the connection.
func (p *Peer) Head() string {
	var b strings.Builder
	for {
		line, err := p.R.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return ""
		}
		if line == "\r\n" {
			p.backend.heads.Add(1)
			return b.String()
		}
	}
}

// Field is the value of the first field of a raw head with that name.
func Field(head, name string) string {
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Body reads the body that head announces; chunked bodies are returned as they
// came, framing and trailers with them.
func (p *Peer) Body(head string) (string, error) {
	if strings.EqualFold(Field(head, "Transfer-Encoding"), "chunked") {
		return p.chunked()
	}
	n, _ := strconv.Atoi(Field(head, "Content-Length"))
	buf := make([]byte, n)
	m, err := io.ReadFull(p.R, buf)
	return string(buf[:m]), err
}

func (p *Peer) chunked() (string, error) {
	var b strings.Builder
	for {
		line, err := p.R.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String(), err
		}
		n, err := strconv.ParseUint(strings.TrimRight(line, "\r\n"), 16, 31)
		if err != nil {
			return b.String(), fmt.Errorf("chunk size %q: %w", line, err)
		}
		if n == 0 {
			break
		}
		data := make([]byte, n+2)
		m, err := io.ReadFull(p.R, data)
		b.Write(data[:m])
		if err != nil {
			return b.String(), err
		}
	}
	for { // trailers
		line, err := p.R.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String(), err
		}
	}
}

// Send writes bytes as they are; an error means that belay has gone.
func (p *Peer) Send(s string) error {
	_, err := io.WriteString(p.Conn, s)
	return err
}

// Reset ends the connection by RST.
func (p *Peer) Reset() {
	_ = p.Conn.(*net.TCPConn).SetLinger(0)
	_ = p.Close()
}

// End closes the sending direction, and returns when the kernel has belay's
// acknowledgement of it: belay can see the end from then on. (Close alone
// promises neither: a process between its fork and its exec may hold the
// descriptor, and the segment may be on its way.)
func (p *Peer) End() {
	c := p.Conn.(*net.TCPConn)
	if c.CloseWrite() != nil {
		return // belay has reset the connection
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	const established, finWait1 = 1, 4 // include/net/tcp_states.h
	for on := true; on; {
		err := raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			on = err == nil && (info.State == established || info.State == finWait1)
		})
		if err != nil {
			return
		}
		runtime.Gosched()
	}
}

// UntilClosed reads and drops until belay closes the connection.
func (p *Peer) UntilClosed() { _, _ = io.Copy(io.Discard, p.R) }

// Reply200 is a small reply.
func Reply200(body string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n", len(body))
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

// NewEcho is a backend that answers every request with what it received: the
// body of its reply is the head as it came and the body behind it. The reply
// says which backend it was in X-Backend.
func NewEcho(t testing.TB, name string) *Backend {
	t.Helper()
	return NewBackend(t, Echo(name))
}

// Echo is the script of NewEcho.
func Echo(name string) Script {
	return func(p *Peer) {
		for {
			head := p.Head()
			if head == "" {
				return
			}
			if Field(head, "Expect") != "" && p.Send("HTTP/1.1 100 Continue\r\n\r\n") != nil {
				return
			}
			body, err := p.Body(head)
			if err != nil {
				return
			}
			reply := Reply200(head+body, "X-Backend: "+name)
			if strings.HasPrefix(head, "HEAD ") {
				reply = reply[:strings.Index(reply, "\r\n\r\n")+4]
			}
			if p.Send(reply) != nil {
				return
			}
		}
	}
}

// Silent accepts, reads and says nothing.
func Silent(p *Peer) { p.UntilClosed() }

// Canned answers every request with the same bytes and keeps the connection.
func Canned(reply string) Script {
	return func(p *Peer) {
		for {
			head := p.Head()
			if head == "" {
				return
			}
			if _, err := p.Body(head); err != nil {
				return
			}
			if p.Send(reply) != nil {
				return
			}
		}
	}
}

// Once answers the first request with bytes and closes the connection.
func Once(reply string) Script {
	return func(p *Peer) {
		if head := p.Head(); head != "" {
			_, _ = p.Body(head)
			_ = p.Send(reply)
		}
	}
}

// Refusing is an address where connections are refused.
func Refusing(t testing.TB) string { return Addr(t) }

// Blackhole is an address where a connection is never established: its accept
// queue is full and nobody empties it.
func Blackhole(t testing.TB) string {
	t.Helper()
	addr := Addr(t)
	fd, err := listenTiny(addr)
	if err != nil {
		t.Fatalf("blackhole: %v", err)
	}
	f := os.NewFile(uintptr(fd), "blackhole")
	t.Cleanup(func() { _ = f.Close() })
	for range 16 {
		c, err := net.DialTimeout("tcp", addr, 150*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("blackhole: the accept queue does not fill")
	return ""
}
