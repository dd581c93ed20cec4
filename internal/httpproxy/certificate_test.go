package httpproxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"belay/internal/config"
	"belay/internal/header"
	"belay/internal/listener"
	"belay/internal/transport"
	"belay/internal/xfcc"
)

// clientChain is a certificate and an authority, which is not the one that signed.
func clientChain(t *testing.T) (chain []*x509.Certificate) {
	t.Helper()
	for _, name := range []string{"client", "authority", "root"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}

// certified is a stream on a connection with these options whose client has shown
// the chain; secure is false for a plain connection.
func certified(o xfcc.Options, chain []*x509.Certificate, secure bool) *stream {
	s := &stream{w: &Worker{}, c: &conn{plan: &Plan{certificates: forwarding{o}, Listener: &config.Listener{}}}}
	if !secure {
		return s
	}
	came := &arrival{tls: &listener.Secure{Chain: &listener.Chain{}}}
	if chain != nil {
		came.certificate = xfcc.NewConn(&s.c.plan.certificates[0], []string{"spiffe://us"}, chain)
	}
	s.c.came = came
	return s
}

// claims has s come with what a client could say of itself.
func claims(t *testing.T, s *stream) {
	t.Helper()
	m := &s.req.Header
	m.Reset(nil)
	for _, f := range [][2]string{{"X-Forwarded-Client-Cert", "By=a;Hash=b"}, {"x-forwarded-client-CERT", `Subject="x,y"`}, {"Client-Cert", ":AA==:"}, {"Client-Cert-Chain", ":AA==:"}, {"client-cert", "more"}} {
		if err := m.AddName(f[0], f[1]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClientCertificateFields(t *testing.T) {
	const came = `By=a;Hash=b,Subject="x,y"`
	chain := clientChain(t)[:2]
	for _, tt := range []struct {
		name   string
		o      xfcc.Options
		secure bool
		chain  []*x509.Certificate
		want   string // of X-Forwarded-Client-Cert; "…" at the end: and more
		rfc    bool   // the two others are there
	}{
		{"plain", xfcc.Options{Mode: xfcc.AlwaysForwardOnly, ClientCert: true}, false, nil, "", false},
		{"sanitize", xfcc.Options{}, true, chain, "", false},
		{"sanitize and RFC 9440", xfcc.Options{ClientCert: true, ClientCertChain: true}, true, chain, "", true},
		{"forward_only", xfcc.Options{Mode: xfcc.ForwardOnly}, true, chain, came, false},
		{"forward_only without", xfcc.Options{Mode: xfcc.ForwardOnly, ClientCert: true}, true, nil, "", false},
		{"append_forward", xfcc.Options{Mode: xfcc.AppendForward}, true, chain, came + ",By=spiffe://us;Hash=…", false},
		{"append_forward without", xfcc.Options{Mode: xfcc.AppendForward}, true, nil, "", false},
		{"sanitize_set", xfcc.Options{Mode: xfcc.SanitizeSet, ClientCert: true, ClientCertChain: true}, true, chain, "By=spiffe://us;Hash=…", true},
		{"sanitize_set without", xfcc.Options{Mode: xfcc.SanitizeSet}, true, nil, "", false},
		{"always_forward_only", xfcc.Options{Mode: xfcc.AlwaysForwardOnly}, true, chain, came, false},
		{"always_forward_only without", xfcc.Options{Mode: xfcc.AlwaysForwardOnly, ClientCert: true}, true, nil, came, false},
	} {
		s := certified(tt.o, tt.chain, tt.secure)
		for range 2 { // the second request of the connection is as the first
			claims(t, s)
			s.clientCertificate()
			m := &s.req.Header
			got := string(s.joined(header.XForwardedClientCert, 0))
			if start, more := strings.CutSuffix(tt.want, "…"); got != tt.want && !(more && strings.HasPrefix(got, start)) {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
			want := [2]string{}
			if tt.rfc {
				want = [2]string{xfcc.ClientCert(chain[0]), xfcc.ClientCert(chain[1])}
			}
			if got := [2]string{string(m.Get(header.ClientCert)), string(m.Get(header.ClientCertChain))}; got != want {
				t.Errorf("%s: Client-Cert and chain %q, want %q", tt.name, got, want)
			}
			if m.Count(header.ClientCert) > 1 {
				t.Errorf("%s: a second Client-Cert", tt.name)
			}
		}
	}
}

// After the first request of a connection none allocates.
func TestClientCertificateAllocatesOnce(t *testing.T) {
	chain := clientChain(t)
	for mode := xfcc.Sanitize; mode <= xfcc.AlwaysForwardOnly; mode++ {
		s := certified(xfcc.Options{Mode: mode, Details: xfcc.Cert | xfcc.Chain | xfcc.Subject, ClientCert: true, ClientCertChain: true}, chain, true)
		use := func() {
			claims(t, s)
			s.clientCertificate()
		}
		for range 3 { // the map and the worker's text grow
			use()
		}
		if n := testing.AllocsPerRun(100, use); n != 0 {
			t.Errorf("%s: %v allocations for each request", mode, n)
		}
	}
}

// Only what has verified the client is told: not the root, and not what the client
// has sent beside it.
func TestClientChain(t *testing.T) {
	chain := clientChain(t)
	sent := append(chain[:2:2], clientChain(t)...)
	for _, tt := range []struct {
		name string
		s    listener.Secure
		want []*x509.Certificate
	}{
		{"none", listener.Secure{}, nil},
		{"pinned", listener.Secure{TLSInfo: transport.TLSInfo{PeerCertificates: sent}}, chain[:1]},
		{"verified", listener.Secure{TLSInfo: transport.TLSInfo{PeerCertificates: sent, VerifiedChains: [][]*x509.Certificate{chain}}}, chain[:2]},
		{"an authority itself", listener.Secure{TLSInfo: transport.TLSInfo{PeerCertificates: sent, VerifiedChains: [][]*x509.Certificate{chain[:1]}}}, chain[:1]},
	} {
		got := tt.s.ClientChain()
		if len(got) != len(tt.want) {
			t.Errorf("%s: %d certificates, want %d", tt.name, len(got), len(tt.want))
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: certificate %d is %s", tt.name, i, got[i].Subject)
			}
		}
	}
}

// A connection of whose certificate nobody is told, or that has none, has no values.
func TestForwardingOfNothing(t *testing.T) {
	shown := &listener.Secure{Chain: &listener.Chain{}, TLSInfo: transport.TLSInfo{PeerCertificates: clientChain(t)}}
	if (forwarding{{Details: xfcc.Cert}}).conn(shown) != nil {
		t.Error("sanitize makes values")
	}
	shown.PeerCertificates = nil
	if (forwarding{{Mode: xfcc.SanitizeSet, ClientCert: true}}).conn(shown) != nil {
		t.Error("a client without certificate has values")
	}
}

func TestForwardingOptions(t *testing.T) {
	l := &config.Listener{
		Chains: []*config.Chain{{Passthrough: true}, {TLS: &config.TLS{Client: config.ClientCertificate{Forward: "append_forward", ForwardDetails: []string{"subject", "dns"}}}}},
		TLS:    &config.TLS{Client: config.ClientCertificate{Forward: "sanitize", ClientCert: true}},
	}
	want := forwarding{{}, {Mode: xfcc.AppendForward, Details: xfcc.Subject | xfcc.DNS}, {ClientCert: true, ClientCertChain: true}}
	got := newForwarding(l)
	if len(got) != len(want) {
		t.Fatalf("%d options, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("chain %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}
