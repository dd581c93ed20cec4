package test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// tcpSite writes the configuration of one TCP listener before one cluster.
type tcpSite struct {
	addr      string
	listener  string // keys of [listener.db]
	tables    string // tables below it
	cluster   string // keys of [cluster.back]
	endpoints []string
	more      string
}

func (s *tcpSite) String() string {
	return fmt.Sprintf("[listener.db]\naddress = %q\nprotocol = \"tcp\"\ncluster = \"back\"\n%s\n%s\n[cluster.back]\n%s\n%s\n%s",
		s.addr, s.listener, s.tables, endpoints(s.endpoints...), s.cluster, s.more)
}

func serveTCP(t *testing.T, s *tcpSite, opts ...harness.Options) *harness.Daemon {
	t.Helper()
	if s.addr == "" {
		s.addr = harness.Addr(t)
	}
	d := harness.Start(t, s.String(), opts...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.Hooks())
		}
	})
	return d
}

// tcpServer serves each connection by f and closes it then.
func tcpServer(t *testing.T, f func(*net.TCPConn)) string {
	t.Helper()
	return tcpServerAt(t, harness.Addr(t), f)
}

func tcpServerAt(t *testing.T, addr string, f func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				f(c.(*net.TCPConn))
				_ = c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

func echoTCP(c *net.TCPConn) { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }

func dialTCP(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := harness.TryDial("", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// echoes sends s and expects it back.
func echoes(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(s))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != s {
		t.Fatalf("got %q, %v; sent %q", b, err, s)
	}
}

func waitEnd(d *harness.Daemon, reason string) harness.Record {
	return d.WaitRecord("end "+reason, func(r harness.Record) bool { return r.Str("protocol") == "TCP" && r.Str("reason") == reason })
}

// A connection is passed on; its end is in the access log and the statistics.
func TestTCPEcho(t *testing.T) {
	t.Parallel()
	s := &tcpSite{endpoints: []string{tcpServer(t, echoTCP)}}
	d := serveTCP(t, s)
	c := dialTCP(t, s.addr)
	for i := range 100 {
		echoes(t, c, strings.Repeat("x", i+1))
	}
	if n, _ := d.Metric("belay_endpoint_active_requests", `cluster="back"`); n != 1 {
		t.Errorf("%v connections at the endpoint, want 1", n)
	}
	_ = c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
		t.Errorf("after the end: %q, %v", b, err)
	}
	r := waitEnd(d, "finished")
	if r.Int("bytes_in") != 5050 || r.Int("bytes_out") != 5050 || r.Str("endpoint") != "e0" || r.Str("endpoint_address") != s.endpoints[0] ||
		r.Str("cluster") != "back" || r.Str("listener") != "db" || r.Int("attempts") != 1 || r.Str("client") != "127.0.0.1" {
		t.Errorf("access log: %v", r)
	}
	for name, want := range map[string]float64{
		"belay_tcp_ended_total": 1, "belay_listener_accepted_total": 1, "belay_listener_connections": 0, "belay_listener_sent_bytes_total": 5050,
		"belay_listener_body_received_bytes_total": 5050, "belay_endpoint_connections": 0, "belay_endpoint_active_requests": 0,
		"belay_cluster_requests_total": 1, "belay_tcp_connection_duration_seconds_count": 1, "belay_connections": 0,
	} {
		if n, _ := d.Metric(name); n != want {
			t.Errorf("%s is %v, want %v", name, n, want)
		}
	}
}

// Each side may end its direction and still be sent to.
func TestTCPHalfClose(t *testing.T) {
	t.Parallel()
	const request, reply = "all that was asked", "all that was answered"
	got := make(chan string, 1)
	s := &tcpSite{endpoints: []string{tcpServer(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		got <- string(b)
		_, _ = io.WriteString(c, reply)
	})}}
	d := serveTCP(t, s)
	c := dialTCP(t, s.addr)
	_, _ = io.WriteString(c, request)
	_ = c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != reply {
		t.Errorf("the client got %q, %v", b, err)
	}
	if b := <-got; b != request {
		t.Errorf("the endpoint got %q", b)
	}
	waitEnd(d, "finished")

	after := make(chan string, 1)
	s = &tcpSite{endpoints: []string{tcpServer(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, reply)
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		after <- string(b)
	})}}
	d = serveTCP(t, s)
	c = dialTCP(t, s.addr)
	if b, err := io.ReadAll(c); err != nil || string(b) != reply {
		t.Errorf("the client got %q, %v", b, err)
	}
	_, _ = io.WriteString(c, request)
	_ = c.CloseWrite()
	if b := <-after; b != request {
		t.Errorf("the endpoint got %q after its end", b)
	}
	waitEnd(d, "finished")
}

// Bulk in both directions at once arrives as it was sent, spliced or copied.
func TestTCPBulk(t *testing.T) {
	t.Parallel()
	const size = 256 << 20
	for name, tt := range map[string]struct {
		tables, more string
		spliced      bool
	}{
		"splice":         {"", "", true},
		"small pipes":    {"", "[server]\nworkers = 1\nsplice_pipes = 1\nsplice_pipe_size = \"64KiB\"\n", true},
		"listener's off": {"[listener.db.tcp]\nsplice = false\n", "", false},
		"no pipes":       {"", "[server]\nworkers = 2\nsplice_pipes = 0\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			up := make(chan [32]byte, 1)
			s := &tcpSite{tables: tt.tables, more: tt.more, endpoints: []string{tcpServer(t, func(c *net.TCPConn) {
				var wg sync.WaitGroup
				wg.Go(func() { up <- sink(t, c, size) })
				wg.Go(func() { source(c, 2, size) })
				wg.Wait()
			})}}
			d := serveTCP(t, s)
			c := dialTCP(t, s.addr)
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			sent := make(chan [32]byte, 1)
			go func() { sent <- source(c, 1, size); _ = c.CloseWrite() }()
			down := sink(t, c, size)
			if <-sent != <-up {
				t.Error("what the endpoint got is not what the client sent")
			}
			if down != source(nil, 2, size) {
				t.Error("what the client got is not what the endpoint sent")
			}
			r := waitEnd(d, "finished")
			n, _ := d.Metric("belay_tcp_spliced_bytes_total")
			t.Logf("%v: %.0f of %d bytes spliced", r.Str("duration"), n, 2*size)
			if r.Int("bytes_in") != size || r.Int("bytes_out") != size || tt.spliced && n < size || !tt.spliced && n != 0 {
				t.Errorf("%v spliced; %v", n, r)
			}
		})
	}
}

// source writes n bytes of a seed and returns their sum; nil writes nowhere.
func source(c net.Conn, seed byte, n int64) [32]byte {
	h := sha256.New()
	w := io.Writer(h)
	if c != nil {
		w = io.MultiWriter(h, c)
	}
	block := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(block)
	for i := int64(0); i < n; i += int64(len(block)) {
		block[0], block[1] = byte(i>>20), byte(i>>28)
		if _, err := w.Write(block); err != nil {
			break
		}
	}
	return [32]byte(h.Sum(nil))
}

func sink(t *testing.T, c io.Reader, n int64) [32]byte {
	h := sha256.New()
	if got, err := io.Copy(h, c); err != nil || got != n {
		t.Errorf("got %d bytes of %d: %v", got, n, err)
	}
	return [32]byte(h.Sum(nil))
}

// A client that does not read stops the endpoint; little is held meanwhile.
func TestTCPBackPressure(t *testing.T) {
	t.Parallel()
	for _, splice := range []bool{true, false} {
		t.Run(fmt.Sprintf("splice=%v", splice), func(t *testing.T) {
			const size = 32 << 20
			s := &tcpSite{tables: fmt.Sprintf("[listener.db.tcp]\nsplice = %v\n", splice), endpoints: []string{tcpServer(t, func(c *net.TCPConn) {
				source(c, 3, size)
			})}}
			d := serveTCP(t, s)
			warm := dialTCP(t, s.addr)
			if sink(t, warm, size) != source(nil, 3, size) {
				t.Error("wrong bytes")
			}
			before, _ := harness.RSS(t, d.PID())
			var slow []*net.TCPConn
			for range 8 {
				c := dialTCP(t, s.addr)
				_ = c.SetReadBuffer(64 << 10)
				slow = append(slow, c)
			}
			held := -1.0
			harness.Eventually(t, patience, "everything to stand still", func() bool {
				n, _ := d.Metric("belay_listener_sent_bytes_total")
				time.Sleep(50 * time.Millisecond) // a pace of looks
				m, _ := d.Metric("belay_listener_sent_bytes_total")
				held = n
				return n == m && n > size
			})
			now, _ := harness.RSS(t, d.PID())
			t.Logf("%.1f MB under way of 8 connections, memory grew by %d KiB", (held-size)/1e6, (now-before)>>10)
			if now-before > 20<<20 {
				t.Errorf("memory grew by %d KiB", (now-before)>>10)
			}
			for i, c := range slow {
				if sink(t, c, size) != source(nil, 3, size) {
					t.Errorf("connection %d: wrong bytes", i)
				}
			}
		})
	}
}

// An endpoint that refuses is passed over; with none left the client is reset.
func TestTCPConnectFailure(t *testing.T) {
	t.Parallel()
	good := tcpServer(t, echoTCP)
	s := &tcpSite{endpoints: []string{harness.Refusing(t), harness.Refusing(t), good}}
	d := serveTCP(t, s)
	for range 12 {
		c := dialTCP(t, s.addr)
		echoes(t, c, "hello")
		_ = c.Close()
	}
	if n, _ := d.Metric("belay_endpoint_failures_total"); n < 8 {
		t.Errorf("%v failed tries", n)
	}

	s = &tcpSite{endpoints: []string{harness.Refusing(t), harness.Refusing(t)}}
	d = serveTCP(t, s)
	dialReset(t, s.addr)
	if r := waitEnd(d, "connect-failure"); r.Int("attempts") != 2 {
		t.Errorf("access log: %v", r)
	}

	s = &tcpSite{endpoints: []string{harness.Refusing(t), harness.Refusing(t)}, tables: "[listener.db.tcp]\nconnect_attempts = 1\n"}
	d = serveTCP(t, s)
	dialReset(t, s.addr)
	if r := waitEnd(d, "connect-failure"); r.Int("attempts") != 1 {
		t.Errorf("access log: %v", r)
	}

	s = &tcpSite{endpoints: []string{harness.Blackhole(t), good}, cluster: `connect_timeout = "100ms"`}
	d = serveTCP(t, s)
	for range 4 {
		echoes(t, dialTCP(t, s.addr), "hello")
	}
	if n, _ := d.Metric("belay_cluster_timeouts_total", `kind="connect"`); n < 1 {
		t.Error("no connect timeout was counted")
	}
}

// dialReset is expectReset for a connection that may be reset before the client
// has heard that there is one.
func dialReset(t *testing.T, addr string) {
	t.Helper()
	c, err := harness.TryDial("", addr)
	switch {
	case err == nil:
		_ = c.SetDeadline(time.Now().Add(patience))
		expectReset(t, c.(*net.TCPConn))
		_ = c.Close()
	case !errors.Is(err, syscall.ECONNRESET):
		t.Error(err)
	}
}

func expectReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if b, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v; want a reset", b, err)
	}
}

// A connection without a byte either way is closed after timeouts.tunnel.
func TestTCPIdle(t *testing.T) {
	t.Parallel()
	s := &tcpSite{endpoints: []string{tcpServer(t, echoTCP)}, tables: "[listener.db.timeouts]\ntunnel = \"300ms\"\n"}
	d := serveTCP(t, s)
	c := dialTCP(t, s.addr)
	start := time.Now()
	for time.Since(start) < 700*time.Millisecond {
		echoes(t, c, "still here")
		time.Sleep(50 * time.Millisecond) // a client's pace
	}
	last := time.Now()
	if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
		t.Errorf("%q, %v", b, err)
	}
	if took := time.Since(last); took < 200*time.Millisecond || took > 3*time.Second {
		t.Errorf("closed after %v", took)
	}
	waitEnd(d, "tunnel-timeout")
}

// max_connections, max_connections_per_source, deny: as for any listener; and
// the cluster's max_connections has connections wait.
func TestTCPLimits(t *testing.T) {
	t.Parallel()
	s := &tcpSite{endpoints: []string{tcpServer(t, echoTCP)}, listener: "max_connections = 3\ndeny = [\"127.0.0.9\"]"}
	d := serveTCP(t, s)
	denied := harness.DialFrom(t, "127.0.0.9", s.addr)
	denied.ExpectClose()
	var held []*net.TCPConn
	for range 3 {
		c := dialTCP(t, s.addr)
		echoes(t, c, "x")
		held = append(held, c)
	}
	over := dialTCP(t, s.addr)
	_, _ = io.WriteString(over, "later")
	_ = over.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := over.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a fourth connection: %d, %v", n, err)
	}
	_ = held[0].Close()
	_ = over.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(over, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	if n, _ := d.Metric("belay_listener_rejected_total", `reason="address"`); n != 1 {
		t.Errorf("%v rejected", n)
	}

	s = &tcpSite{endpoints: []string{tcpServer(t, echoTCP)}, cluster: "max_connections = 1\nmax_pending = 1\npending_timeout = \"300ms\"",
		more: "[server]\nworkers = 1\n"}
	d = serveTCP(t, s)
	first := dialTCP(t, s.addr)
	echoes(t, first, "x")
	dialReset(t, s.addr)
	waitEnd(d, "pending-timeout")
	second := dialTCP(t, s.addr)
	harness.Eventually(t, patience, "one to wait", func() bool {
		n, _ := d.Metric("belay_endpoint_pending_requests")
		return n == 1
	})
	dialReset(t, s.addr)
	waitEnd(d, "pending-full")
	_ = first.Close()
	echoes(t, second, "at last")
}

// A reset of one side is a reset for the other.
func TestTCPReset(t *testing.T) {
	t.Parallel()
	got := make(chan error, 1)
	s := &tcpSite{endpoints: []string{tcpServer(t, func(c *net.TCPConn) {
		b := make([]byte, 1)
		_, _ = io.ReadFull(c, b)
		if b[0] == 'r' {
			_ = c.SetLinger(0)
			return // closed with RST
		}
		_, err := io.ReadAll(c)
		got <- err
	})}}
	d := serveTCP(t, s)
	c := dialTCP(t, s.addr)
	_, _ = io.WriteString(c, "r")
	expectReset(t, c)
	waitEnd(d, "upstream-reset")

	c = dialTCP(t, s.addr)
	_, _ = io.WriteString(c, "c")
	harness.Eventually(t, patience, "the byte to be on its way", func() bool {
		n, _ := d.Metric("belay_listener_body_received_bytes_total")
		return n == 2
	})
	_ = c.SetLinger(0)
	_ = c.Close()
	if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the endpoint saw %v, want a reset", err)
	}
	waitEnd(d, "client-reset")
}

// What an endpoint says before it closes on unread data reaches the client.
func TestTCPLastWords(t *testing.T) {
	t.Parallel()
	s := &tcpSite{endpoints: []string{tcpServer(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_, _ = io.WriteString(c, "too many clients")
		time.Sleep(50 * time.Millisecond) // so that the words are out before the reset
	})}}
	serveTCP(t, s)
	for range 5 {
		c := dialTCP(t, s.addr)
		_, _ = io.WriteString(c, strings.Repeat("x", 1<<20))
		b, _ := io.ReadAll(c)
		if string(b) != "too many clients" {
			t.Errorf("the client got %q", b)
		}
	}
}
