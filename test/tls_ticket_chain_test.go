package test

import (
	"crypto/tls"
	"fmt"
	"testing"

	"belay/test/harness"
)

// A ticket is good for the chain that has issued it and for no other, even where
// both ask for the same; least of all where they trust different authorities.
func TestTLSTicketOfAnotherChain(t *testing.T) {
	t.Parallel()
	a, other := harness.NewAuthority(t), harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"*.example"}})
	client, theirs := a.Issue(harness.Leaf{Name: "client"}), other.Issue(harness.Leaf{Name: "theirs"})
	chain := func(name, clients string) string {
		if clients != "" {
			clients = fmt.Sprintf("[listener.web.chain.tls.client_certificate]\nmode = \"require\"\nca = %q\n", clients)
		}
		return fmt.Sprintf("[[listener.web.chain]]\nname = %q\nserver_names = [\"%s.example\"]\n[listener.web.chain.tls]\ncertificates = [%s]\n%s", name, name, pairOf(server), clients)
	}
	addr := harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\n", addr)+chain("one", "")+chain("two", "")+chain("ours", a.File)+chain("theirs", other.File)+fmt.Sprintf(respond, "x"))
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := &oneSession{}
		with := func(cfg *tls.Config) *tls.Config {
			cfg.ClientSessionCache, cfg.MaxVersion = cache, v
			return cfg
		}
		one, two := with(names(a, "one.example")), with(names(a, "two.example"))
		resumes(t, addr, one)
		if !resumes(t, addr, one) {
			t.Errorf("%#x: not resumed at its own chain", v)
		}
		if resumes(t, addr, two) {
			t.Errorf("%#x: resumed at another chain", v)
		}
		cache.session = nil
		ours := with(shows(a, client, "ours.example"))
		resumes(t, addr, ours)
		if !resumes(t, addr, ours) {
			t.Errorf("%#x: not resumed with a certificate", v)
		}
		session := cache.session
		wantRefused(t, d, addr, with(shows(a, client, "theirs.example")), "unknown certificate authority", "certificate-unknown-authority")
		cache.session = session
		c, conn := secure(t, addr, with(shows(a, theirs, "theirs.example"))) // who is good here is so by a handshake of its own
		wantStatus(t, c.Do("GET", "/", "theirs.example"), 200)
		if conn.ConnectionState().DidResume {
			t.Errorf("%#x: a session of another authority's client is resumed", v)
		}
	}
}
