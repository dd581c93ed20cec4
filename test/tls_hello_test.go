package test

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"belay/test/harness"
)

// shredder is a connection all of whose records of the handshake go out cut into
// records and segments of a few bytes each.
type shredder struct {
	net.Conn
	record, segment int
	old             bool // TLS 1.2, where ChangeCipherSpec means what it says
	sealed          bool // from now on
}

func (s *shredder) Write(b []byte) (int, error) {
	var out []byte
	for rest := b; len(rest) >= 5; {
		n := 5 + int(binary.BigEndian.Uint16(rest[3:]))
		r := rest[:n]
		rest = rest[n:]
		s.sealed = s.sealed || r[0] == 20 && s.old
		if r[0] != 22 || s.sealed {
			out = append(out, r...)
			continue
		}
		for body := r[5:]; len(body) > 0; {
			m := min(s.record, len(body))
			out = append(binary.BigEndian.AppendUint16(append(out, r[:3]...), uint16(m)), body[:m]...)
			body = body[m:]
		}
	}
	for len(out) > 0 {
		m := min(s.segment, len(out))
		if _, err := s.Conn.Write(out[:m]); err != nil {
			return 0, err
		}
		out = out[m:]
	}
	return len(b), nil
}

// holder is a connection that sends what was written only when something is to be
// read: what would go out in several segments comes at once.
type holder struct {
	net.Conn
	held []byte
}

func (h *holder) Write(b []byte) (int, error) {
	h.held = append(h.held, b...)
	return len(b), nil
}

func (h *holder) Read(b []byte) (int, error) {
	if len(h.held) > 0 {
		if _, err := h.Conn.Write(h.held); err != nil {
			return 0, err
		}
		h.held = nil
	}
	return h.Conn.Read(b)
}

func dialRaw(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// However the bytes of a handshake are cut or joined: the second hello that
// HelloRetryRequest asks for, and a request on the heels of the last flight.
func TestTLSHandshakePieces(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\ncurves = [\"secp384r1\"]\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	for name, wrap := range map[string]func(net.Conn, bool) net.Conn{
		"whole":             func(c net.Conn, _ bool) net.Conn { return c },
		"bytes":             func(c net.Conn, old bool) net.Conn { return &shredder{c, 1 << 14, 1, old, false} },
		"records":           func(c net.Conn, old bool) net.Conn { return &shredder{c, 7, 1 << 20, old, false} },
		"records and bytes": func(c net.Conn, old bool) net.Conn { return &shredder{c, 50, 3, old, false} },
		"joined":            func(c net.Conn, _ bool) net.Conn { return &holder{Conn: c} },
	} {
		for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprintf("%s %#x", name, v), func(t *testing.T) {
				t.Parallel()
				raw := dialRaw(t, s.addr)
				_ = raw.SetNoDelay(true)
				c := tls.Client(wrap(raw, v == tls.VersionTLS12), &tls.Config{InsecureSkipVerify: true, MaxVersion: v, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}})
				w := harness.Wrap(t, c)
				for i := range 3 { // pipelined as well
					w.Send(harness.Request("GET", fmt.Sprint("/", i), "a"))
				}
				for i := range 3 {
					r := w.Reply("GET")
					wantStatus(t, r, 200)
					want(t, r.Body, fmt.Sprint("GET /", i))
				}
				if c.ConnectionState().CurveID != tls.CurveP384 {
					t.Errorf("group %v", c.ConnectionState().CurveID)
				}
			})
		}
	}
}

// Hellos with bytes changed, cut, doubled and moved never harm: each connection is
// answered or ends, none is left at the door, and good ones are served meanwhile.
func TestTLSMangledHellos(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n[listener.web.timeouts]\nhandshake = \"300ms\"\n", routes: fmt.Sprintf(respond, "x"), more: "[server.tls]\nmax_handshakes_per_source = 0\n"}
	d := serve(t, s)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	hello := recordedHello(t, "a.example")
	const n = 300
	ended := make(chan error, n)
	for range n {
		b := append([]byte(nil), hello...)
		for range 1 + random.IntN(4) {
			at := random.IntN(len(b))
			switch random.IntN(4) {
			case 0:
				b[at] = byte(random.Uint32())
			case 1:
				b = b[:at+1]
			case 2:
				b = append(b, b[at:]...)
			case 3:
				b = append(b[:at:at], b[min(len(b), at+1+random.IntN(8)):]...)
			}
			if len(b) == 0 {
				b = []byte{22}
			}
		}
		c := dialRaw(t, s.addr)
		_, _ = c.Write(b)
		go func() {
			_, err := io.Copy(io.Discard, c)
			ended <- err
		}()
		if random.IntN(20) == 0 {
			good, conn := secure(t, s.addr, &tls.Config{InsecureSkipVerify: true})
			wantStatus(t, good.Do("GET", "/", "a"), 200)
			_ = conn.Close()
		}
	}
	for range n {
		if err := <-ended; err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Fatal("a connection does not end")
			}
		}
	}
	harness.Eventually(t, patience, "every place is given back", func() bool {
		open, _ := d.Metric("belay_handshakes_open")
		return open == 0
	})
	if failed, _ := d.Metric("belay_listener_handshake_failures_total"); failed != n {
		t.Errorf("%v failures are counted, want %d", failed, n)
	}
	if internal, _ := d.Metric("belay_listener_handshake_failures_total", `reason="internal"`); internal != 0 {
		t.Errorf("%v failures are said to be ours", internal)
	}
}

// What other protocols and old versions begin with is reset at once, not at the
// timeout.
func TestTLSStrangeBeginnings(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n", routes: fmt.Sprintf(respond, "x")}
	d := serve(t, s)
	for name, tt := range map[string]struct{ sent, reason string }{
		"SSL 2.0":                {"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80", "plain"},
		"SSH":                    {"SSH-2.0-OpenSSH_9.2p1\r\n", "plain"},
		"PROXY where it is off":  {"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n", "plain"},
		"an alert":               {"\x15\x03\x01\x00\x02\x02\x28", "plain"},
		"application data":       {"\x17\x03\x03\x00\x05hello", "plain"},
		"a record of no version": {"\x16\x09\x01\x00\x05hello", "plain"},
		"an empty record":        {"\x16\x03\x01\x00\x00", "bad-hello"},
		"a record too long":      {"\x16\x03\x01\xff\xff\x01", "bad-hello"},
		"a Finished":             {"\x16\x03\x03\x00\x04\x14\x00\x00\x0c", "bad-hello"},
		"a hello of 16 MiB":      {"\x16\x03\x01\x02\x00\x01\xff\xff\xff\x03\x03", "hello-too-big"},
		"a hello of nothing":     {"\x16\x03\x01\x00\x04\x01\x00\x00\x00", "bad-hello"},
	} {
		before, _ := d.Metric("belay_listener_handshake_failures_total", `reason="`+tt.reason+`"`)
		if data, reset := harness.Dial(t, s.addr).Send(tt.sent).Rest(); data != "" || !reset {
			t.Errorf("%s: %q, reset %t", name, data, reset)
		}
		harness.Eventually(t, patience, name+" is counted as "+tt.reason, func() bool {
			n, _ := d.Metric("belay_listener_handshake_failures_total", `reason="`+tt.reason+`"`)
			return n == before+1
		})
	}
}
