package test

import (
	"crypto/tls"
	"fmt"
	"os"
	"testing"

	"belay/test/harness"
)

// resumes makes connections with a client's sessions and reports whether the last
// was resumed.
func resumes(t *testing.T, addr string, cfg *tls.Config) bool {
	t.Helper()
	c, s := secure(t, addr, cfg)
	resumed := s.ConnectionState().DidResume
	wantStatus(t, c.Do("GET", "/", cfg.ServerName), 200) // TLS 1.3 sends tickets behind the handshake
	_ = s.Close()
	return resumed
}

// Sessions are resumed by every worker, and by the processes that follow in hot
// restarts; with both versions of TLS.
func TestTLSResumption(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	s := &site{tables: "[listener.web.tls]\ncertificates = [" + pairOf(server) + "]\n", routes: fmt.Sprintf(respond, "x"), more: patient}
	d := serve(t, s)
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := names(a, "a.example")
		cfg.MaxVersion, cfg.ClientSessionCache = v, tls.NewLRUClientSessionCache(4)
		if resumes(t, s.addr, cfg) {
			t.Error("the first session is resumed")
		}
		for range 8 { // both workers
			if !resumes(t, s.addr, cfg) {
				t.Errorf("%#x: not resumed", v)
			}
		}
		for range 2 {
			d.HotRestart()
			if !resumes(t, s.addr, cfg) {
				t.Errorf("%#x: not resumed after a hot restart", v)
			}
		}
	}
}

// With session_tickets = false there is nothing to resume.
func TestTLSNoTickets(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	s := &site{tables: "[listener.web.tls]\nsession_tickets = false\ncertificates = [" + pairOf(server) + "]\n", routes: fmt.Sprintf(respond, "x")}
	serve(t, s)
	cfg := names(a, "a.example")
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	resumes(t, s.addr, cfg)
	if resumes(t, s.addr, cfg) {
		t.Error("resumed")
	}
}

// Two daemons with one ticket_secret resume each other's sessions; with another
// one they do not.
func TestTLSTicketSecret(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	start := func(secret string) string {
		path := harness.TempDir(t) + "/secret"
		if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		s := &site{tables: "[listener.web.tls]\ncertificates = [" + pairOf(server) + "]\n", routes: fmt.Sprintf(respond, "x"),
			more: fmt.Sprintf("[server]\nworkers = 1\n[server.tls]\nticket_secret = %q\n", path)}
		serve(t, s)
		return s.addr
	}
	const secret = "a secret that is long enough for this: 0123456789abcdef"
	one, two, three := start(secret), start(secret), start(secret+"!")
	cfg := names(a, "a.example")
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	resumes(t, one, cfg)
	if !resumes(t, two, cfg) {
		t.Error("the other machine does not resume")
	}
	if resumes(t, three, cfg) {
		t.Error("a machine with another secret resumes")
	}
}

// A ticket is bound to the policy that it was issued under: one of the chain that
// asks for nothing opens no session at the one that asks for a certificate, nor the
// other way round.
func TestTLSTicketOfAnotherPolicy(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"open.example", "closed.example"}})
	client := a.Issue(harness.Leaf{Name: "client"})
	tlsTable := fmt.Sprintf("[listener.web.chain.tls]\ncertificates = [%s]\n", pairOf(server))
	addr := harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\n", addr)+
		"[[listener.web.chain]]\nserver_names = [\"closed.example\"]\n"+tlsTable+fmt.Sprintf("[listener.web.chain.tls.client_certificate]\nmode = \"require\"\nca = %q\n", a.File)+
		"[[listener.web.chain]]\n"+tlsTable+fmt.Sprintf(respond, "x"))
	cache := &oneSession{}
	open, closed := names(a, "open.example"), shows(a, client, "closed.example")
	open.ClientSessionCache, closed.ClientSessionCache = cache, cache
	for _, from := range []*tls.Config{open, closed} {
		to := closed
		if from == closed {
			to = open
		}
		cache.session = nil
		resumes(t, addr, from)
		if !resumes(t, addr, from) {
			t.Fatalf("%s: its own session is not resumed", from.ServerName)
		}
		if resumes(t, addr, to) {
			t.Errorf("a session of %s is resumed at %s", from.ServerName, to.ServerName)
		}
	}
	cache.session = nil
	resumes(t, addr, open)
	bare := names(a, "closed.example")
	bare.ClientSessionCache = cache
	if err := refusal(t, addr, bare); err == nil {
		t.Error("a ticket of the open chain stands for a certificate")
	}
	wantFailure(t, d, "no-certificate", 1)
}

// oneSession offers the same session to everybody.
type oneSession struct{ session *tls.ClientSessionState }

func (c *oneSession) Get(string) (*tls.ClientSessionState, bool) { return c.session, c.session != nil }

func (c *oneSession) Put(_ string, s *tls.ClientSessionState) { c.session = s }
