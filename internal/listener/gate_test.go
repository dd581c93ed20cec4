package listener

import (
	"net/netip"
	"strings"
	"testing"

	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/stats"
	"belay/internal/transport"
)

// mixedGate has a chain for closed.example and below that requires a certificate,
// one for late.example that does too and has no certificate of its own yet, and one
// for everybody else.
func mixedGate(t *testing.T) *Gate {
	t.Helper()
	pin := strings.Repeat("00", 32)
	closed := &config.TLS{Client: config.ClientCertificate{Mode: "require"}}
	l := &config.Listener{Name: "web", TLS: &config.TLS{Client: config.ClientCertificate{Mode: "none"}}, Chains: []*config.Chain{
		{Name: "closed", ServerNames: []string{"closed.example", "*.closed.example"}, TLS: closed},
		{Name: "late", ServerNames: []string{"late.example"}, TLS: closed},
		{Name: "open", ServerNames: []string{"open.example"}, TLS: &config.TLS{Client: config.ClientCertificate{Mode: "none"}}},
	}}
	store := certs.NewStore(certs.Options{})
	g, err := NewGate(l, func(c *config.TLS, chain string) (*certs.Server, error) {
		o := certs.ServerOptions{Name: chain, Certificates: []certs.Source{&certs.SelfSigned{}}}
		if chain == "late" {
			o.Certificates = []certs.Source{&certs.Fake{Label: "late"}}
		}
		if c.Client.Mode == "require" {
			o.ClientAuth, o.Client.SPKIPins = certs.ClientRequire, []string{pin}
		}
		return store.Server(o)
	}, stats.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// came is a connection of a client that asked for a name.
func came(t *testing.T, g *Gate, name string) *Secure {
	t.Helper()
	source := netip.MustParseAddr("192.0.2.1")
	c := g.Find(&Facts{ServerName: []byte(name), Source: source}).Chain
	if c == nil {
		t.Fatalf("no chain for %s", name)
	}
	return &Secure{TLSInfo: transport.TLSInfo{ServerName: name}, name: name, Chain: c, Policy: c.Server.ClientPolicy(), source: source}
}

func TestMisdirected(t *testing.T) {
	g := mixedGate(t)
	long := strings.Repeat("a.", 130) + "closed.example"
	for _, tt := range []struct {
		name, host string
		want       bool
	}{
		{"open.example", "open.example", false},
		{"open.example", "OPEN.example:443", false},
		{"open.example", "elsewhere.example", false}, // the same policy
		{"open.example", "closed.example", true},
		{"open.example", "Closed.Example.:8443", true},
		{"open.example", "x.y.closed.example", true},
		{"open.example", "late.example", true}, // its policy is not known yet
		{"open.example", long, true},
		{"", "closed.example", true},
		{"", "", false},
		{"", "[2001:db8::1]:443", false},
		{"closed.example", "closed.example", false},
		{"closed.example", "x.closed.example", false},
		{"closed.example", "open.example", true},
		{"closed.example", "", true},
	} {
		s := came(t, g, tt.name)
		if got := g.Misdirected(s, []byte(tt.host)); got != tt.want {
			t.Errorf("%.40s on a connection to %q: %t", tt.host, tt.name, got)
		}
	}
	s, host := came(t, g, "open.example"), []byte("x.closed.example:443")
	if n := testing.AllocsPerRun(100, func() { g.Misdirected(s, host) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Where all clients are treated alike, nothing is misdirected.
func TestMisdirectedWithOneChain(t *testing.T) {
	l := &config.Listener{Name: "web", TLS: &config.TLS{Client: config.ClientCertificate{Mode: "require"}}}
	g, err := NewGate(l, func(*config.TLS, string) (*certs.Server, error) {
		return certs.NewStore(certs.Options{}).Server(certs.ServerOptions{Certificates: []certs.Source{&certs.SelfSigned{}}})
	}, stats.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if g.Misdirected(came(t, g, "a.example"), []byte("b.example")) {
		t.Error("another host is misdirected")
	}
}
