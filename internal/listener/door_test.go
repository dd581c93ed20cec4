package listener

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/stats"
	"belay/internal/transport"
)

// porch is a Door behind an Acceptor, on a worker of its own. It keeps who comes
// through.
type porch struct {
	loop
	*Acceptor
	door   *Door
	gate   *Gate
	limits *DoorLimits
	log    *journal
	came   []Client
}

// porchOptions say what is at the door; the zero value has no limits that matter.
type porchOptions struct {
	config    config.Listener
	most      int
	perSource int
	hello     int
	wantDest  bool
}

// deaf is the protocol of those who came through.
type deaf struct{}

func (deaf) Ready(eventloop.Events) {}

// selfSigned is TLS that needs no files.
func selfSigned() *config.TLS {
	return &config.TLS{Client: config.ClientCertificate{Mode: "none"}}
}

// newPorch starts one. At the end of the test nothing may be left at the door, and
// every place must be given back.
func newPorch(t testing.TB, o porchOptions) *porch {
	t.Helper()
	if o.most == 0 {
		o.most = 1000
	}
	if o.hello == 0 {
		o.hello = 16 << 10
	}
	if o.config.Timeouts.Handshake == 0 {
		o.config.Timeouts.Handshake = patience
	}
	o.config.Name = "web"
	r := stats.NewRegistry()
	p := &porch{loop: startLoop(t), log: &journal{}, limits: NewDoorLimits(o.most, o.perSource, o.hello, r)}
	p.limits.WantDest = o.wantDest
	store := certs.NewStore(certs.Options{})
	var err error
	p.gate, err = NewGate(&o.config, func(_ *config.TLS, chain string) (*certs.Server, error) {
		return store.Server(certs.ServerOptions{Name: chain, Certificates: []certs.Source{&certs.SelfSigned{}}})
	}, r)
	if err != nil {
		t.Fatal(err)
	}
	st := Stats{Accepted: r.Counter("accepted_total", "x"), Throttled: r.Counter("throttled_total", "x"), Failed: r.Counter("failed_total", "x")}
	st.Rejected[RejectedAddress], st.Rejected[RejectedSource] = r.Counter("rejected_address_total", "x"), r.Counter("rejected_source_total", "x")
	log, shard := slog.New(slog.NewTextHandler(p.log, nil)), r.NewShard()
	l := mustOpen(t, &o.config, 1)
	l.Gate = p.gate
	p.do(func() {
		handshakes := transport.NewHandshakes(p.Worker, 0)
		p.door = NewDoor(p.Worker, shard, handshakes, p.limits, log, nil)
		p.Acceptor = NewAcceptor(l, l.FDs(), p.Worker, shard, st, &Limit{Max: 5000}, log, func(fd int, peer netip.AddrPort) {
			p.door.Serve(p.Acceptor, p.gate, fd, peer, func(c Client) {
				c.Socket.SetOwner(deaf{})
				p.came = append(p.came, c)
			})
		})
		if err := p.Start(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		p.do(func() {
			p.Stop()
			p.door.Abort()
			for _, c := range p.came {
				c.Socket.Close()
				p.Done(c.Peer)
			}
			p.door.handshakes.Close()
			if n := p.limit.Active(); n != 0 || l.Active() != 0 || p.door.Waiting() != 0 || p.limits.open.Load() != 0 || shard.GaugeValue(p.limits.counts.Open) != 0 {
				t.Errorf("left behind: %d of the limit, %d of the listener, %d at the door, %d of all doors", n, l.Active(), p.door.Waiting(), p.limits.open.Load())
			}
			if s := p.limits.sources; s != nil {
				for i := range s.shards {
					if len(s.shards[i].n) != 0 {
						t.Errorf("sources that are remembered: %v", s.shards[i].n)
					}
				}
			}
		})
	})
	return p
}

// waiting waits until n wait at the door.
func (p *porch) waiting(t testing.TB, n int) {
	t.Helper()
	p.until(t, "the door", func() bool { return p.door.Waiting() == n })
}

// failed waits until n connections are counted as refused for a reason.
func (p *porch) failed(t testing.TB, why failure, n uint64) {
	t.Helper()
	p.until(t, why.String(), func() bool { return p.door.shard.Value(p.gate.st.failed[why]) == n })
}

// next waits for the nth who comes through.
func (p *porch) next(t testing.TB, n int) (c Client) {
	t.Helper()
	p.until(t, "a client", func() bool {
		if len(p.came) < n {
			return false
		}
		c = p.came[n-1]
		return true
	})
	return c
}

// reset waits for the end of a connection, which must be RST.
func reset(t testing.TB, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d bytes, %v; want a reset", n, err)
	}
}

func say(t testing.TB, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Error(err)
	}
}

// firstFlight is a ClientHello for a name.
func firstFlight(t testing.TB, name string) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() { _ = tls.Client(theirs, &tls.Config{ServerName: name}).Handshake() }()
	b := make([]byte, 8<<10)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

var everybody = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestDoorWithoutGate(t *testing.T) {
	for _, want := range []bool{false, true} {
		p := newPorch(t, porchOptions{wantDest: want})
		conn := dial(t, p.Listener, "")
		c := p.next(t, 1)
		if p.gate != nil || c.TLS != nil || c.Chain != nil || c.Head != nil || c.Via.IsValid() || c.Peer.String() != conn.LocalAddr().String() {
			t.Errorf("%+v", c)
		}
		if got := c.Dest == p.Listener.Address.AP; got != want {
			t.Errorf("destination %v, wanted %t", c.Dest, want)
		}
	}
}

// The time to come through is one for all steps: saying a little does not win more.
func TestDoorTimeout(t *testing.T) {
	p := newPorch(t, porchOptions{config: config.Listener{
		TLS: selfSigned(), ProxyProtocol: "accept", ProxyProtocolFrom: everybody, Timeouts: config.ListenerTimeouts{Handshake: 300 * time.Millisecond},
	}})
	began := time.Now()
	silent, slow := dial(t, p.Listener, ""), dial(t, p.Listener, "")
	hello := firstFlight(t, "a.example")
	go func() {
		say(t, slow, "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n")
		for i := 0; i < len(hello)-1; i++ { // never the last byte
			if _, err := slow.Write(hello[i : i+1]); err != nil {
				return
			}
			if i == len(hello)-2 {
				return
			}
		}
	}()
	reset(t, silent)
	reset(t, slow)
	if took := time.Since(began); took < 300*time.Millisecond || took > patience {
		t.Errorf("they ended after %v", took)
	}
	p.failed(t, failedTimeout, 2)
}

// When all places are taken the one who waits longest gives way.
func TestDoorShedsOldest(t *testing.T) {
	p := newPorch(t, porchOptions{most: 3, config: config.Listener{TLS: selfSigned()}})
	var conns []net.Conn
	for i := range 5 {
		conns = append(conns, dial(t, p.Listener, ""))
		p.waiting(t, min(i+1, 3))
	}
	for i := range 2 {
		p.failed(t, failedShed, 2)
		reset(t, conns[i])
	}
	for _, c := range conns[2:] { // in any place of the list
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		if err := s.Handshake(); err != nil {
			t.Error(err)
		}
	}
	if c := p.next(t, 3); c.TLS == nil || c.TLS.Version != tls.VersionTLS13 || c.Chain == nil || c.Chain.Name != "web" {
		t.Errorf("%+v", c)
	}
}

// One source has its share, counted by the client that a header names; a place is
// free again when its handshake is over, well or badly.
func TestDoorSources(t *testing.T) {
	p := newPorch(t, porchOptions{perSource: 2, config: config.Listener{TLS: selfSigned(), ProxyProtocol: "accept", ProxyProtocolFrom: everybody}})
	const one, other = "PROXY TCP4 10.0.0.1 10.0.0.9 1 2\r\n\x16", "PROXY TCP4 10.0.0.2 10.0.0.9 1 2\r\n\x16"
	first, second := dial(t, p.Listener, ""), dial(t, p.Listener, "")
	say(t, first, one)
	say(t, second, one)
	p.waiting(t, 2)
	p.until(t, "both to be counted", func() bool {
		a := netip.MustParseAddr("10.0.0.1")
		return p.limits.sources.shards[p.limits.sources.shard(a)].n[a] == 2
	})
	third := dial(t, p.Listener, "")
	say(t, third, one)
	reset(t, third)
	p.failed(t, failedSource, 1)
	fourth := dial(t, p.Listener, "")
	say(t, fourth, other)
	p.waiting(t, 3)
	first.Close()
	p.failed(t, failure(transport.FailedClosed), 1)
	c := dial(t, p.Listener, "")
	say(t, c, one[:len(one)-1])
	if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
		t.Errorf("the place that is free again: %v", err)
	}
	if got := p.next(t, 1); got.Peer.String() != "10.0.0.1:1" || got.Via.String() != c.LocalAddr().String() || got.Dest.String() != "10.0.0.9:2" {
		t.Errorf("%+v", got)
	}
}

// What was read and is not the door's goes on to the protocol: behind a header, and
// a hello that passes through.
func TestDoorHead(t *testing.T) {
	hello := firstFlight(t, "inner.example")
	const header = "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"
	for _, tt := range []struct {
		name string
		c    config.Listener
		sent []string
		head string
	}{
		{"a header and more", config.Listener{ProxyProtocol: "require"}, []string{header + "GET /"}, "GET /"},
		{"a header alone", config.Listener{ProxyProtocol: "require"}, []string{header}, ""},
		{"no header", config.Listener{ProxyProtocol: "accept"}, []string{"GET /"}, "GET /"},
		{"passthrough", config.Listener{Protocol: "tcp", Chains: []*config.Chain{{Name: "in", ServerNames: []string{"inner.example"}, Passthrough: true}}}, []string{string(hello)}, string(hello)},
		{
			"a header and passthrough", config.Listener{ProxyProtocol: "accept", Protocol: "tcp", Chains: []*config.Chain{{Name: "in", Passthrough: true}}},
			[]string{header[:10], header[10:] + string(hello[:9]), string(hello[9:]) + "and more"}, string(hello) + "and more",
		},
		{"no TLS where STARTTLS may be asked for", config.Listener{StartTLS: "postgres", Protocol: "tcp"}, []string{"\x00\x00\x00\x09\x00\x03\x00\x00\x00"}, "\x00\x00\x00\x09\x00\x03\x00\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.c.ProxyProtocol != "" {
				tt.c.ProxyProtocolFrom = everybody
			}
			p := newPorch(t, porchOptions{config: tt.c})
			conn := dial(t, p.Listener, "")
			for i, s := range tt.sent {
				say(t, conn, s)
				if i < len(tt.sent)-1 {
					p.waiting(t, 1)
				}
			}
			c := p.next(t, 1)
			p.until(t, "all that was sent", func() bool {
				if rest := tt.head[min(len(c.Head), len(tt.head)):]; rest != "" { // in the socket
					b := make([]byte, len(rest))
					n, err := c.Socket.Read(b)
					if errors.Is(err, transport.ErrAgain) {
						return false
					}
					c.Head = append(c.Head, b[:n]...)
				}
				return len(c.Head) >= len(tt.head)
			})
			if !bytes.Equal(c.Head, []byte(tt.head)) {
				t.Errorf("%q, want %q", c.Head, tt.head)
			}
			if (c.Chain != nil) != (len(tt.c.Chains) > 0) {
				t.Errorf("chain %v", c.Chain)
			}
		})
	}
}

// The end of the process: those who wait are given a shorter time, or none; and
// whoever asked is told when all is over.
func TestDoorHastenAndAbort(t *testing.T) {
	p := newPorch(t, porchOptions{config: config.Listener{TLS: selfSigned()}})
	var conns []net.Conn
	for range 10 {
		conns = append(conns, dial(t, p.Listener, ""))
	}
	p.waiting(t, 10)
	told := 0
	p.do(func() {
		if p.door.Quiet(func() { told++ }) {
			t.Error("ten wait, and it is quiet")
		}
		p.door.Hasten(time.Millisecond)
	})
	for _, c := range conns {
		reset(t, c)
	}
	p.failed(t, failedTimeout, 10)
	p.until(t, "the news", func() bool { return told == 1 })
	last := dial(t, p.Listener, "")
	p.waiting(t, 1)
	p.do(func() { p.door.Quiet(func() { told++ }) })
	p.do(p.door.Abort)
	reset(t, last)
	p.do(func() {
		if told != 2 || !p.door.Quiet(func() { told++ }) {
			t.Errorf("told %d times", told)
		}
	})
}

// A burst leaves no more behind than is worth keeping, and what is kept is used
// again without a trace of who had it before.
func TestDoorRecycles(t *testing.T) {
	p := newPorch(t, porchOptions{config: config.Listener{TLS: selfSigned()}})
	hello := firstFlight(t, "a.example")
	var conns []net.Conn
	for range maxFreeEntrants + 50 {
		c := dial(t, p.Listener, "")
		c.Write(hello[:len(hello)/2])
		conns = append(conns, c)
	}
	p.waiting(t, len(conns))
	for _, c := range conns {
		c.Close()
	}
	p.waiting(t, 0)
	p.do(func() {
		if p.door.freed != maxFreeEntrants {
			t.Errorf("%d are kept, want %d", p.door.freed, maxFreeEntrants)
		}
		for e := p.door.free; e != nil; e = e.next {
			if e.buf != nil || e.raw != nil || e.tls != nil || e.peer.IsValid() || e.sni != "" || e.state != entrantProxy || e.refused || e.counted {
				t.Fatalf("it remembers: %+v", e)
			}
		}
	})
	for range 3 {
		c := dial(t, p.Listener, "")
		if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	p.next(t, 3)
}

// Who only looks whether the port is open is no failure, and is not logged.
func TestDoorLooks(t *testing.T) {
	p := newPorch(t, porchOptions{config: config.Listener{TLS: selfSigned()}})
	c := dial(t, p.Listener, "")
	p.waiting(t, 1)
	c.Close()
	p.waiting(t, 0)
	p.do(func() {
		for f := range failures {
			if f.String() != "" && p.door.shard.Value(p.gate.st.failed[f]) != 0 {
				t.Errorf("counted as %v", f)
			}
		}
	})
	if n := p.log.count("refused"); n != 0 {
		t.Errorf("%d lines", n)
	}
}

// The labels are few, distinct and there; what the parts below say finds its own.
func TestFailures(t *testing.T) {
	seen := map[string]bool{}
	for f := range failures {
		if seen[f.String()] || f.String() == "" {
			t.Errorf("failure %d: %q", f, f)
		}
		seen[f.String()] = true
	}
	for err, want := range map[error]string{
		&transport.HandshakeError{Reason: transport.FailedVersion, Err: io.EOF}: "version",
		&certs.Refusal{Reason: certs.ReasonRevoked, Err: io.EOF}:                "certificate-revoked",
		syscall.EPIPE: "closed",
	} {
		if got := failureOf(err).String(); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}
