package test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// stickyTCP is a belay before TCP servers that greet with a letter each.
type stickyTCP struct {
	*tcpSite
	t       *testing.T
	d       *harness.Daemon
	servers []*harness.Backend
}

func newStickyTCP(t *testing.T, n int, persistence string) *stickyTCP {
	s := &stickyTCP{t: t, tcpSite: &tcpSite{cluster: persistence, more: "[table.clients]\n" + hotRestart}}
	for i := range n {
		b := harness.NewBackend(t, greet(letter(i)))
		s.servers = append(s.servers, b)
		s.endpoints = append(s.endpoints, b.Addr)
	}
	return s
}

func letter(i int) string { return string(rune('A' + i)) }

func greet(with string) harness.Script {
	return func(p *harness.Peer) {
		if p.Send(with) == nil {
			p.UntilClosed()
		}
	}
}

func (s *stickyTCP) open() *stickyTCP {
	s.t.Helper()
	s.d = serveTCP(s.t, s.tcpSite)
	return s
}

// from is who serves a client with a source address; "" if nobody does.
func (s *stickyTCP) from(source string) string {
	s.t.Helper()
	c, err := harness.TryDial(source, s.addr)
	if errors.Is(err, syscall.ECONNRESET) { // refused before the client had looked
		return ""
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 1)
	if _, err := io.ReadFull(c, b); err != nil {
		return ""
	}
	return string(b)
}

const bySource = "[cluster.back.persistence.table]\nname = \"clients\"\nkey = [{ source = true }]\n"

// A source stays on its server, over hot restarts too, and what the old process
// learns of it while it drains holds in the new one.
func TestTCPStickyBySource(t *testing.T) {
	t.Parallel()
	s := newStickyTCP(t, 3, bySource).open()
	const clients = 12
	home := map[string]string{}
	source := func(i int) string { return fmt.Sprintf("127.6.6.%d", i+1) }
	seen := map[string]bool{}
	for i := range clients {
		home[source(i)] = s.from(source(i))
		seen[home[source(i)]] = true
	}
	if len(seen) != 3 {
		t.Fatalf("all clients are on %v", seen)
	}
	stay := func(when string) {
		t.Helper()
		for i := range clients {
			if got := s.from(source(i)); got != home[source(i)] {
				t.Errorf("%s: %s went from %s to %s", when, source(i), home[source(i)], got)
			}
		}
	}
	stay("at once")
	s.d.HotRestart()
	stay("after a hot restart")
	if r := s.d.WaitRecord("a kept session", func(r harness.Record) bool { return r.Str("persistence") == "valid" }); r.Str("persistence_outcome") != "kept" {
		t.Errorf("the log says %v", r)
	}
	one := source(0)
	at := map[string]string{"A": "B", "B": "C", "C": "A"}[home[one]]
	if out, err := belayctl(t, s.d, "table", "set", "clients", one, fmt.Sprint("back/e", strings.Index("ABC", at))); err != nil {
		t.Fatalf("table set: %v %s", err, out)
	}
	if got := s.from(one); got != at {
		t.Errorf("set to %s, served by %s", at, got)
	}
	if out, err := belayctl(t, s.d, "table", "show", "clients", "--key", one); err != nil || !strings.Contains(out, one) {
		t.Errorf("show: %v %s", err, out)
	}
}

// What becomes of a client whose server is gone, by policy.
func TestTCPStickyPolicies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ policy, first, back string }{
		{"redispatch", "other", "other"}, {"strict", "", "home"}, {"detour", "other", "home"},
	} {
		t.Run(tt.policy, func(t *testing.T) {
			t.Parallel()
			s := newStickyTCP(t, 2, fmt.Sprintf("persistence.policy = %q\n", tt.policy)+bySource).open()
			const client = "127.6.7.1"
			home := s.from(client)
			other := map[string]string{"A": "B", "B": "A"}[home]
			meant := map[string]string{"": "", "home": home, "other": other}
			i := strings.Index("AB", home)
			addr := s.servers[i].Addr
			s.servers[i].Close()
			for range 2 {
				if got := s.from(client); got != meant[tt.first] {
					t.Errorf("while %s is gone: served by %q, want %q", home, got, meant[tt.first])
				}
			}
			harness.NewBackendAt(t, addr, greet(home))
			if got := s.from(client); got != meant[tt.back] {
				t.Errorf("when %s is back: served by %q, want %q", home, got, meant[tt.back])
			}
		})
	}
}

// The server name is the key, whether belay terminates TLS or passes it through.
func TestTCPStickyBySNI(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	cert := a.Issue(harness.Leaf{Name: "any", DNS: []string{"*.example"}})
	bySNI := "[cluster.back.persistence.table]\nname = \"clients\"\nkey = [{ sni = true }]\n"
	for how, tables := range map[string]string{
		"terminated": fmt.Sprintf("[listener.db.tls]\ncertificates = [%s]\n", pairOf(cert)),
		"passed":     "[[listener.db.chain]]\npassthrough = true\n",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newStickyTCP(t, 0, bySNI)
			s.tables = tables
			for i := range 3 {
				greeting := letter(i)
				s.endpoints = append(s.endpoints, tcpServer(t, func(c *net.TCPConn) {
					var w net.Conn = c
					if how == "passed" {
						w = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert.Certificate}})
					}
					_, _ = io.WriteString(w, greeting)
					_, _ = io.Copy(io.Discard, w)
				}))
			}
			s.open()
			home, seen := map[string]string{}, map[string]bool{}
			for round := range 3 {
				for i := range 9 {
					name := fmt.Sprintf("n%d.example", i)
					c, err := tlsDial(s.addr, names(a, name))
					if err != nil {
						t.Fatal(err)
					}
					b := make([]byte, 1)
					if _, err := io.ReadFull(c, b); err != nil {
						t.Fatal(err)
					}
					_ = c.Close()
					if round == 0 {
						home[name], seen[string(b)] = string(b), true
					} else if string(b) != home[name] {
						t.Errorf("%s went from %s to %s", name, home[name], b)
					}
				}
			}
			if len(seen) != 3 {
				t.Errorf("all names are on %v", seen)
			}
		})
	}
}

// Hashes on the source need no table.
func TestTCPAffinity(t *testing.T) {
	t.Parallel()
	s := newStickyTCP(t, 3, "balance = \"maglev\"\n").open()
	seen := map[string]bool{}
	for i := range 12 {
		source := fmt.Sprintf("127.6.8.%d", i+1)
		home := s.from(source)
		seen[home] = true
		for range 3 {
			if got := s.from(source); got != home {
				t.Errorf("%s went from %s to %s", source, home, got)
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("all clients are on %v", seen)
	}
}

// Connections of one source that come together share a server, though no table has it.
func TestTCPFirstRequestWindow(t *testing.T) {
	t.Parallel()
	s := newStickyTCP(t, 4, "persistence.first_request_window = \"60s\"\n"+bySource).open()
	for i := range 6 {
		source := fmt.Sprintf("127.6.9.%d", i+1)
		got := make(chan string, 6)
		for range cap(got) {
			go func() {
				c, err := harness.TryDial(source, s.addr)
				if err != nil {
					got <- err.Error()
					return
				}
				defer c.Close()
				b := make([]byte, 1)
				_, _ = io.ReadFull(c, b)
				got <- string(b)
			}()
		}
		seen := map[string]bool{}
		for range cap(got) {
			seen[<-got] = true
		}
		if len(seen) != 1 {
			t.Errorf("%s is on %v", source, seen)
		}
	}
}

// A connection that belongs nowhere passes over servers that are full, and waits only if
// all are.
func TestTCPPassesOverFullServers(t *testing.T) {
	t.Parallel()
	s := newStickyTCP(t, 4, "balance = \"random\"\nmax_connections = 2\npending_timeout = \"1m\"\n").open()
	greeting := func(c net.Conn) string {
		t.Helper()
		b := make([]byte, 1)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	served := map[string]int{}
	var open []net.Conn
	for range 8 {
		c := dialTCP(t, s.addr)
		open = append(open, c)
		served[greeting(c)]++
	}
	for letter, n := range served {
		if n != 2 {
			t.Errorf("%s has %d connections: %v", letter, n, served)
		}
	}
	waits := dialTCP(t, s.addr)
	harness.Eventually(t, patience, "one to wait", func() bool {
		n, _ := s.d.Metric("belay_endpoint_pending_requests")
		return n == 1
	})
	if n, _ := s.d.Metric("belay_endpoint_requests_total"); n != 8 {
		t.Errorf("%v tries: those passed over are none", n)
	}
	for _, c := range open {
		_ = c.Close()
	}
	greeting(waits)
}
