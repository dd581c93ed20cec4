package harness

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// DNS is a name server on loopback, over UDP and TCP, whose answers a test can change.
type DNS struct {
	Addr string

	mu      sync.Mutex
	hosts   map[string][]netip.Addr // names with their final dot
	ttl     uint32
	rcode   int
	queries int
}

// NewDNS starts a name server that knows no name yet.
func NewDNS(t testing.TB) *DNS {
	t.Helper()
	d := &DNS{Addr: Addr(t), hosts: map[string][]netip.Addr{}, ttl: 1}
	pc, err := net.ListenPacket("udp", d.Addr)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", d.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: d}, {Listener: ln, Handler: d}} {
		up := make(chan struct{})
		down := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() {
			_ = s.ActivateAndServe()
			close(down)
		}()
		select {
		case <-up:
		case <-down:
			t.Fatal("dns server does not start")
		case <-time.After(5 * time.Second):
			t.Fatal("dns server does not start")
		}
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-down
		})
	}
	return d
}

// Set gives a name its addresses.
func (d *DNS) Set(name string, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var as []netip.Addr
	for _, a := range addrs {
		as = append(as, netip.MustParseAddr(a))
	}
	d.hosts[dns.Fqdn(name)] = as
}

// Fail makes every answer an error such as dns.RcodeServerFailure; 0 ends that.
func (d *DNS) Fail(rcode int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rcode = rcode
}

// Queries counts the questions so far.
func (d *DNS) Queries() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queries
}

// ServeDNS answers one question.
func (d *DNS) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	d.mu.Lock()
	d.queries++
	addrs, known := d.hosts[strings.ToLower(q.Question[0].Name)]
	switch {
	case d.rcode != 0:
		m.Rcode = d.rcode
	case !known:
		m.Rcode = dns.RcodeNameError
	}
	if m.Rcode == dns.RcodeSuccess {
		for _, a := range addrs {
			h := dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET, Ttl: d.ttl}
			switch {
			case a.Is4() && q.Question[0].Qtype == dns.TypeA:
				h.Rrtype = dns.TypeA
				m.Answer = append(m.Answer, &dns.A{Hdr: h, A: a.AsSlice()})
			case a.Is6() && q.Question[0].Qtype == dns.TypeAAAA:
				h.Rrtype = dns.TypeAAAA
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: a.AsSlice()})
			}
		}
	}
	d.mu.Unlock()
	_ = w.WriteMsg(m)
}
