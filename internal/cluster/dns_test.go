package cluster

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// server is a DNS server on loopback, the same port by UDP and TCP.
type server struct {
	addr netip.AddrPort

	mu      sync.Mutex          // guards what follows
	records map[string][]dns.RR // by "name. TYPE"
	codes   map[string]int      // other answers than success, by name or "name. TYPE"
	silent  bool
	asked   map[string]int // by "name. TYPE network"
}

// newServer starts a server with records in the form of a zone file (RFC 1035
// section 5); it ends with the test.
func newServer(t *testing.T, records ...string) *server {
	t.Helper()
	s := &server{records: make(map[string][]dns.RR), codes: make(map[string]int), asked: make(map[string]int)}
	s.set(t, records...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().(*net.TCPAddr).AddrPort()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	for _, d := range []*dns.Server{{Listener: l, Handler: s}, {PacketConn: pc, Handler: s}} {
		started := make(chan struct{})
		d.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() {
			if err := d.ActivateAndServe(); err != nil {
				t.Errorf("DNS server: %v", err)
			}
		})
		<-started
		t.Cleanup(func() {
			if err := d.Shutdown(); err != nil {
				t.Errorf("DNS server: %v", err)
			}
		})
	}
	return s
}

// set replaces all records.
func (s *server) set(t *testing.T, records ...string) {
	t.Helper()
	m := make(map[string][]dns.RR)
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		k := key(rr.Header().Name, rr.Header().Rrtype)
		m[k] = append(m[k], rr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = m
}

// refuse has a name, or "name. TYPE", answered by a code.
func (s *server) refuse(what string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[what] = code
}

func (s *server) setSilent(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = yes
}

// count tells how often something was asked.
func (s *server) count(name, kind, network string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name+" "+kind+" "+network]
}

func key(name string, kind uint16) string {
	return strings.ToLower(name) + " " + dns.TypeToString[kind]
}

// ServeDNS answers as a recursive server does, with the CNAMEs it went through.
func (s *server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	question := q.Question[0]
	name, network := strings.ToLower(question.Name), w.LocalAddr().Network()
	s.asked[key(name, question.Qtype)+" "+network]++
	if s.silent {
		return
	}
	m := new(dns.Msg).SetReply(q)
	if code, ok := s.codes[name]; ok {
		m.Rcode = code
	} else if code, ok := s.codes[key(name, question.Qtype)]; ok {
		m.Rcode = code
	} else {
		for range 10 {
			alias := s.records[key(name, dns.TypeCNAME)]
			m.Answer = append(append(m.Answer, alias...), s.records[key(name, question.Qtype)]...)
			if len(alias) == 0 {
				break
			}
			name = strings.ToLower(alias[0].(*dns.CNAME).Target)
		}
		if len(m.Answer) == 0 && len(s.records[key(name, dns.TypeA)])+len(s.records[key(name, dns.TypeAAAA)]) == 0 {
			m.Rcode = dns.RcodeNameError
		}
	}
	if network == "udp" {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m) // who asked may have gone
}

// write makes a file, in one step as an administrator's tool does.
func write(t *testing.T, path, text string) string {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), ".new")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
	return path
}
