package listener

import (
	"net/netip"
	"strings"
	"testing"

	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/stats"
)

// testGate has a chain that asks for client certificates, one for its subdomains that
// asks for others, and one for everybody else.
func testGate(t testing.TB) *Gate {
	t.Helper()
	tls := func(mode string) *config.TLS {
		return &config.TLS{Certificates: []config.Certificate{{SelfSigned: true}}, Client: config.ClientCertificate{Mode: mode}}
	}
	store := certs.NewStore(certs.Options{})
	serve := func(c *config.TLS, name string) (*certs.Server, error) {
		o := certs.ServerOptions{Name: name, Certificates: []certs.Source{&certs.SelfSigned{Names: []string{name}}}}
		if c.Client.Mode == "require" {
			o.ClientAuth, o.Client.SPKIPins = certs.ClientRequire, []string{strings.Repeat("ab", 31) + map[string]string{"closed": "01", "below": "02", "inside": "03"}[name]}
		}
		return store.Server(o)
	}
	g, err := NewGate(&config.Listener{
		Name: "web", Protocol: "http", TLS: tls("none"),
		Chains: []*config.Chain{
			{Name: "closed", ServerNames: []string{"closed.example"}, TLS: tls("require")},
			{Name: "below", ServerNames: []string{"*.closed.example"}, TLS: tls("require")},
			{Name: "open", ServerNames: []string{"open.example"}, TLS: tls("none")},
			{Name: "inside", ServerNames: []string{"open.example"}, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, TLS: tls("require")},
		},
	}, serve, stats.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// onChain is a connection that asked for a name.
func onChain(g *Gate, name, source string) *Secure {
	f := Facts{ServerName: []byte(name), Source: netip.MustParseAddr(source)}
	s := &Secure{Chain: g.Find(&f).Chain, source: f.Source}
	s.ServerName = name
	s.Policy = s.Chain.Server.ClientPolicy()
	return s
}

func TestMisdirected(t *testing.T) {
	g := testGate(t)
	long := strings.Repeat("a.", 200) + "closed.example"
	for _, tt := range []struct {
		name, source, host string
		want               bool
	}{
		{"open.example", "192.0.2.1", "open.example", false},
		{"open.example", "192.0.2.1", "other.example", false},
		{"open.example", "192.0.2.1", "", false},
		{"open.example", "192.0.2.1", "closed.example", true},
		{"open.example", "192.0.2.1", "CLOSED.example", true},
		{"open.example", "192.0.2.1", "closed.example.", true},
		{"open.example", "192.0.2.1", "closed.example:443", true},
		{"open.example", "192.0.2.1", "closed.example.:443", true},
		{"open.example", "192.0.2.1", "a.b.closed.example", true},
		{"open.example", "192.0.2.1", long, true},
		{"", "192.0.2.1", "closed.example", true},
		{"", "192.0.2.1", "[2001:db8::1]:443", false},
		{"closed.example", "192.0.2.1", "Closed.Example:8443", false},
		{"closed.example", "192.0.2.1", "a.closed.example", true}, // another policy
		{"closed.example", "192.0.2.1", "open.example", true},
		{"other.example", "10.0.0.1", "open.example", true}, // asks for a certificate from there
		{"other.example", "192.0.2.1", "open.example", false},
	} {
		if got := g.Misdirected(onChain(g, tt.name, tt.source), []byte(tt.host)); got != tt.want {
			t.Errorf("%q from %s, Host %.40q: %t", tt.name, tt.source, tt.host, got)
		}
	}
	s := onChain(g, "open.example", "192.0.2.1")
	host := []byte("a.Closed.example:443")
	if n := testing.AllocsPerRun(100, func() { g.Misdirected(s, host) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHostName(t *testing.T) {
	for host, want := range map[string]string{
		"a.example": "a.example", "a.example:80": "a.example", "a.example.": "a.example", "a.example.:80": "a.example",
		"[::1]": "::1", "[::1]:80": "::1", "10.0.0.1:80": "10.0.0.1", "": "", ":80": "", "a:": "a",
	} {
		if got := string(HostName([]byte(host))); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

func BenchmarkFindChain(b *testing.B) {
	g := testGate(b)
	f := Facts{ServerName: []byte("a.b.c.closed.example"), Source: netip.MustParseAddr("192.0.2.1")}
	b.ReportAllocs()
	for b.Loop() {
		if g.Find(&f).Chain == nil {
			b.Fatal("none")
		}
	}
}
