package harness

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestMain(m *testing.M) { Main(m) }

// The peers are tested against each other, without the daemon between them: a
// test that fails with them in place fails because of the daemon.
func TestClientAndEcho(t *testing.T) {
	b := NewEcho(t, "a")
	c := Dial(t, b.Addr)
	c.Send("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")
	r := c.Reply("POST")
	if r.Status != 200 || r.Header.Get("X-Backend") != "a" || !strings.HasSuffix(r.Body, "\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n") {
		t.Errorf("reply %+v", r)
	}
	if r := c.Do("HEAD", "/", "h"); r.Length <= 0 || r.Body != "" {
		t.Errorf("HEAD %+v", r)
	}
	c.ExpectOpen("/", "h")
	if b.Conns() != 1 || b.Heads() != 3 || b.Open() != 1 {
		t.Errorf("%d connections, %d heads, %d open", b.Conns(), b.Heads(), b.Open())
	}
	if f := Field("GET / HTTP/1.1\r\nA: 1\r\nB:  2 \r\n\r\n", "b"); f != "2" {
		t.Errorf("field %q", f)
	}
}

func TestEndsOfConnections(t *testing.T) {
	b := NewBackend(t, func(p *Peer) {
		if strings.Contains(p.Head(), "reset") {
			p.Reset()
		}
	})
	Dial(t, b.Addr).Send("GET / HTTP/1.1\r\n\r\n").ExpectClose()
	if _, reset := Dial(t, b.Addr).Send("GET /reset HTTP/1.1\r\n\r\n").Rest(); !reset {
		t.Error("a reset is not seen")
	}
	silent := NewBackend(t, Silent)
	c := Dial(t, silent.Addr)
	c.ExpectNothing(50 * time.Millisecond)
	c.CloseWrite()
	c.ExpectClose()
}

func TestUnixBackend(t *testing.T) {
	b := NewBackendAt(t, TempDir(t)+"/s", Echo("u"))
	Dial(t, b.Addr).ExpectOpen("/", "h")
}

func TestAddressesThatDoNotAnswer(t *testing.T) {
	if c, err := net.DialTimeout("tcp", Refusing(t), time.Second); err == nil {
		_ = c.Close()
		t.Error("connected to an address that refuses")
	}
	c, err := net.DialTimeout("tcp", Blackhole(t), 300*time.Millisecond)
	if err == nil {
		_ = c.Close()
		t.Error("connected to a black hole")
	}
	if e, ok := err.(net.Error); !ok || !e.Timeout() {
		t.Errorf("black hole: %v", err)
	}
}

func TestDNS(t *testing.T) {
	d := NewDNS(t)
	d.Set("a.example", "127.0.0.1", "::1")
	for _, network := range []string{"udp", "tcp"} {
		c := dns.Client{Net: network}
		ask := func(name string, qtype uint16) *dns.Msg {
			m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, qtype), d.Addr)
			if err != nil {
				t.Fatalf("%s: %v", network, err)
			}
			return m
		}
		if m := ask("A.example.", dns.TypeA); len(m.Answer) != 1 {
			t.Errorf("A: %v", m)
		}
		if m := ask("a.example.", dns.TypeAAAA); len(m.Answer) != 1 {
			t.Errorf("AAAA: %v", m)
		}
		if m := ask("b.example.", dns.TypeA); m.Rcode != dns.RcodeNameError {
			t.Errorf("unknown name: %v", m)
		}
		d.Fail(dns.RcodeServerFailure)
		if m := ask("a.example.", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("failure: %v", m)
		}
		d.Fail(0)
	}
	if d.Queries() != 8 {
		t.Errorf("%d queries", d.Queries())
	}
}
