package upstream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/proxyproto"
	"belay/internal/transport"
)

// sslRequest is PostgreSQL's: its length, 1234 and 5679.
const sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"

func wantBytes(t testing.TB, conn net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(conn, b); err != nil || string(b) != want {
		t.Errorf("the endpoint read %q, %v\nwant %q", b[:n], err, want)
	}
}

// origins are clients, and what version 1 and 2 say of them.
var origins = []struct {
	name   string
	origin *proxyproto.Origin
	v1, v2 string
}{
	{"nobody", nil, "PROXY UNKNOWN\r\n", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"},
	{"addresses", &proxyproto.Origin{Peer: netip.MustParseAddrPort("192.0.2.1:4660"), Dest: netip.MustParseAddrPort("198.51.100.2:443")},
		"PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x34\x01\xbb"},
	{"TLS", &proxyproto.Origin{
		Peer: netip.MustParseAddrPort("192.0.2.1:4660"), Dest: netip.MustParseAddrPort("198.51.100.2:443"),
		Secure: &proxyproto.OriginTLS{Version: "TLSv1.3", ALPN: "x", ServerName: "a.example", CommonName: "me", Certificate: true},
	}, "PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x33\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x34\x01\xbb" +
			"\x01\x00\x01x" + "\x02\x00\x09a.example" + "\x20\x00\x14\x07\x00\x00\x00\x00" + "\x21\x00\x07TLSv1.3" + "\x22\x00\x02me"},
}

// TestProxyHeader: each connection begins with its client's header, and nobody else
// gets it.
func TestProxyHeader(t *testing.T) {
	for version := 1; version <= 2; version++ {
		for _, tt := range origins {
			t.Run(tt.name, func(t *testing.T) {
				set := settings()
				set.ProxyProtocol = version
				s, p := onePool(t, set)
				var d driver
				p.begin(&d, Want{Origin: tt.origin})
				conn := s.backend.next(t)
				if err := p.finish(t, &d); err != nil {
					t.Fatal(err)
				}
				want := tt.v1
				if version == 2 {
					want = tt.v2
				}
				p.do(func() { d.conn.Socket.Write([]byte("hello"), nil) })
				wantBytes(t, conn, want+"hello")
				p.do(d.conn.Release)
				wantEnd(t, conn)
				p.want(t, counts{connects: 1})
			})
		}
	}
}

// TestProxyHeaderWaiting: who waited for room gets a connection with its own header.
func TestProxyHeaderWaiting(t *testing.T) {
	set := settings()
	set.ProxyProtocol, set.MaxConnections = 1, 1
	s, p := onePool(t, set)
	var first, second driver
	p.begin(&first, Want{Origin: origins[1].origin})
	conn := s.backend.next(t)
	if err := p.finish(t, &first); err != nil {
		t.Fatal(err)
	}
	other := *origins[1].origin
	other.Peer = netip.MustParseAddrPort("192.0.2.77:7")
	p.begin(&second, Want{Origin: &other})
	wantBytes(t, conn, origins[1].v1)
	p.do(first.conn.Release)
	wantEnd(t, conn)
	conn = s.backend.next(t)
	if err := p.finish(t, &second); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, conn, "PROXY TCP4 192.0.2.77 198.51.100.2 7 443\r\n")
	p.do(second.conn.Close)
}

// TestPrefaceInPieces: a socket that takes only a part of what comes before TLS gets
// the rest later.
func TestPrefaceInPieces(t *testing.T) {
	a := newAuthority(t)
	set := hosts()
	set.ProxyProtocol = 2
	s := newSecured(t, set, certs.ClientOptions{Server: certs.Trust{CA: a.file}})
	origin := *origins[2].origin
	secure := *origin.Secure
	secure.ServerName = strings.Repeat("x", 50_000)
	origin.Secure = &secure
	want := origin.Append(nil, 2)
	pieces := 0
	var d driver
	d.amid = func(c *Conn) {
		if n := len(c.preface.out); n > 0 && n < len(want) {
			pieces++
		}
	}
	s.do(func() { // no step before the buffer is small
		c, err := s.pool.Acquire(&d, &d.Waiter, d.grant, &Want{Name: []byte("a.example"), Origin: &origin})
		if err != nil {
			t.Error(err)
			return
		}
		if err := unix.SetsockoptInt(c.Socket.Descriptor(), unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
			t.Error(err)
		}
		d.grant(c, nil)
	})
	conn := s.backend.next(t)
	wantBytes(t, conn, string(want))
	server := tls.Server(conn, a.server(t, "a.example"))
	go server.Handshake()
	if err := s.finish(t, &d); err != nil {
		t.Fatal(err)
	}
	if pieces == 0 {
		t.Error("all was taken at once")
	}
	s.exchange(t, d.conn, server)
	s.do(d.conn.Close)
}

// postgres has TLS begin as PostgreSQL wants it.
func postgres() config.Cluster {
	set := hosts()
	set.TLS.StartTLS = "postgres"
	return set
}

// TestStartTLS: nothing but 'S' leads on, and what follows it in clear is none of
// what TLS carries (CVE-2021-23222).
func TestStartTLS(t *testing.T) {
	a := newAuthority(t)
	cfg := a.server(t, "a.example")
	for _, tt := range []struct {
		name, answer, reason, text string
		version                    int
	}{
		{name: "agrees", answer: "S"},
		{name: "agrees, with a PROXY header", answer: "S", version: 2},
		{name: "declines", answer: "N", reason: "starttls", text: `"N"`},
		{name: "is too old", answer: "Eunsupported frontend protocol\x00", reason: "starttls", text: `"E"`},
		{name: "is another program", answer: "HTTP/1.1 400 Bad Request\r\n\r\n", reason: "starttls", text: `"H"`},
		{name: "closes", reason: "starttls", text: "EOF"},
		{name: "injects", answer: "SR\x00\x00\x00\x08\x00\x00\x00\x00", reason: "not_tls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := postgres()
			set.ProxyProtocol = tt.version
			s := newSecured(t, set, certs.ClientOptions{Server: certs.Trust{CA: a.file}})
			var d driver
			s.begin(&d, Want{Name: []byte("a.example")})
			conn := s.backend.next(t)
			if tt.version == 2 {
				wantBytes(t, conn, origins[0].v2)
			}
			wantBytes(t, conn, sslRequest)
			if tt.answer == "" {
				conn.Close()
			}
			io.WriteString(conn, tt.answer)
			if tt.reason == "" {
				server := tls.Server(conn, cfg)
				go server.Handshake()
				if err := s.finish(t, &d); err != nil {
					t.Fatal(err)
				}
				s.exchange(t, d.conn, server)
				s.do(d.conn.Close)
				return
			}
			if err := s.finish(t, &d); !IsTLS(err) {
				t.Errorf("the connection: %v", err)
			}
			s.do(func() {
				d.conn.Close()
				if n := s.pool.env.Shard.Value(s.tls.Stats.Failed[tt.reason]); n != 1 || !strings.Contains(s.log.String(), strings.ReplaceAll(tt.text, `"`, `\"`)) {
					t.Errorf("%d failures are counted as %s; %s", n, tt.reason, s.log)
				}
			})
		})
	}
}

// stages are where a connection with all there is may be when it is given up: what
// the endpoint does until then, and whether it is there.
var stages = []struct {
	name  string
	serve func(t *testing.T, conn net.Conn, cfg *tls.Config)
	there func(c *Conn) bool
}{
	{"before the first step", nil, func(c *Conn) bool { return c.preface.stage == stageConnect }},
	{"answer", func(t *testing.T, conn net.Conn, _ *tls.Config) { wantBytes(t, conn, origins[1].v1+sslRequest) },
		func(c *Conn) bool { return c.preface.stage == stageAnswer }},
	{"hello", func(t *testing.T, conn net.Conn, _ *tls.Config) {
		wantBytes(t, conn, origins[1].v1+sslRequest)
		io.WriteString(conn, "S")
		wantBytes(t, conn, "\x16\x03\x01")
	}, func(c *Conn) bool { return c.preface.stage == stageTLS }},
	{"amid the flight of the endpoint", func(t *testing.T, conn net.Conn, cfg *tls.Config) {
		wantBytes(t, conn, origins[1].v1+sslRequest)
		io.WriteString(conn, "S")
		half := &halfWriter{Conn: conn, left: 200}
		go tls.Server(half, cfg).Handshake()
	}, func(c *Conn) bool { return c.preface.stage == stageTLS && c.pool.env.Handshakes.Open() == 1 }},
	{"open", func(t *testing.T, conn net.Conn, cfg *tls.Config) {
		wantBytes(t, conn, origins[1].v1+sslRequest)
		io.WriteString(conn, "S")
		if err := tls.Server(conn, cfg).Handshake(); err != nil {
			t.Error(err)
		}
	}, func(c *Conn) bool { return c.preface.stage == stageOpen }},
}

// halfWriter lets only the first bytes through.
type halfWriter struct {
	net.Conn
	left int
}

func (w *halfWriter) Write(p []byte) (int, error) {
	n := min(w.left, len(p))
	w.left -= n
	if _, err := w.Conn.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// everything is a cluster with all that can come before the first byte.
func everything(t *testing.T, a *authority) *secured {
	set := postgres()
	set.ProxyProtocol, set.MaxConnections = 1, 1
	return newSecured(t, set, certs.ClientOptions{Server: certs.Trust{CA: a.file}})
}

// TestGiveUpInEveryStage: whatever has begun, nothing of it is left.
func TestGiveUpInEveryStage(t *testing.T) {
	a := newAuthority(t)
	cfg := a.server(t, "a.example")
	for _, how := range []struct {
		name string
		end  func(*Conn)
	}{{"close", (*Conn).Close}, {"reset", (*Conn).Reset}} {
		for _, stage := range stages {
			t.Run(how.name+" "+stage.name, func(t *testing.T) {
				s := everything(t, a)
				sockets := openSockets(t)
				var d driver
				want := Want{Name: []byte("a.example"), Origin: origins[1].origin}
				if stage.serve == nil {
					s.do(func() { d.conn, d.err = s.pool.Acquire(quiet{}, &d.Waiter, d.grant, &want) })
				} else {
					s.begin(&d, want)
				}
				conn := s.backend.next(t)
				if stage.serve != nil {
					stage.serve(t, conn, cfg)
				}
				s.until(t, "the stage", func() bool { return stage.there(d.conn) })
				s.do(func() {
					how.end(d.conn)
					d.over = true
					inUse, _ := s.BufferStats()
					h := s.pool.env.Handshakes
					if h.Open() != 0 || h.Waiting() != 0 || h.Lingering() != 0 || inUse != 0 {
						t.Errorf("%d handshakes are open, %d wait, %d linger, %d bytes of buffers are lent", h.Open(), h.Waiting(), h.Lingering(), inUse)
					}
				})
				conn.Close()
				if n := openSockets(t); n != sockets {
					t.Errorf("%d sockets are open, there were %d", n, sockets)
				}
				s.want(t, counts{connects: 1})
				if n := s.cluster.Endpoints[0].Open.Load(); n != 0 {
					t.Errorf("%d places are lost", n)
				}
			})
		}
	}
}

// TestOwnerChangesInEveryStage: the events go to the new owner, whatever socket the
// connection has by then.
func TestOwnerChangesInEveryStage(t *testing.T) {
	a := newAuthority(t)
	cfg := a.server(t, "a.example")
	s := everything(t, a)
	var first, second driver
	s.begin(&first, Want{Name: []byte("a.example"), Origin: origins[1].origin})
	conn := s.backend.next(t)
	now, next := &first, &second
	move := func() {
		s.do(func() {
			now.over = true
			next.conn, next.over = now.conn, false
			next.conn.Socket.SetFirst(true)
			next.conn.Socket.SetOwner(next)
			next.conn.Socket.SetFirst(false)
			now, next = next, now
		})
	}
	wantBytes(t, conn, origins[1].v1+sslRequest)
	s.until(t, "the request is out", func() bool { return now.conn.preface.stage == stageAnswer })
	move()
	io.WriteString(conn, "S")
	s.until(t, "TLS begins", func() bool { return now.conn.preface.stage == stageTLS })
	move()
	server := tls.Server(conn, cfg)
	go server.Handshake()
	if err := s.finish(t, now); err != nil {
		t.Fatal(err)
	}
	s.exchange(t, now.conn, server)
	s.do(now.conn.Close)
	if first.steps < 2 || second.steps == 0 {
		t.Errorf("%d and %d steps", first.steps, second.steps)
	}
}

// TestFailedConnect: that nobody listens is no failure of TLS.
func TestFailedConnect(t *testing.T) {
	a := newAuthority(t)
	s := everything(t, a)
	s.backend.Close()
	var d driver
	s.begin(&d, Want{Name: []byte("a.example")})
	err := s.finish(t, &d)
	if !errors.Is(err, unix.ECONNREFUSED) || IsTLS(err) || errors.Is(err, transport.ErrAgain) {
		t.Errorf("the connection: %v", err)
	}
	s.do(func() { d.conn.Failed(); d.conn.Close() })
	s.want(t, counts{connects: 1, fails: 1})
	if s.log.String() != "" {
		t.Errorf("logged: %s", s.log)
	}
}

// openSockets leaves out what else a process opens and closes meanwhile.
func openSockets(t testing.TB) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if to, _ := os.Readlink("/proc/self/fd/" + f.Name()); strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
