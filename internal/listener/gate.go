package listener

import (
	"bytes"
	"errors"
	"net/netip"

	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/netset"
	"belay/internal/stats"
	"belay/internal/transport"
)

// Gate is what comes between accept and protocol on a listener: the PROXY header,
// STARTTLS, the filter chain, TLS. It is immutable and shared by all workers.
type Gate struct {
	Config *config.Listener
	Chains []*Chain // the listener's own tls last

	st       gateStats
	chains   *chains
	tls      bool // TLS is expected
	ports    bool // a chain asks for the port
	alpn     bool // a chain asks for ALPN
	mixed    bool // clients of one chain may have to show what those of another need not
	proxy    bool // the PROXY header may come
	from     *netset.Set
	postgres bool // STARTTLS as PostgreSQL does
	// WantLog fills Client.Log in; set before the first connection.
	WantLog bool
}

// ServerTLS makes the TLS of a chain.
type ServerTLS func(t *config.TLS, chain string) (*certs.Server, error)

// NewGate makes the gate of a listener; nil if nothing comes in between.
func NewGate(l *config.Listener, serve ServerTLS, r *stats.Registry) (*Gate, error) {
	g := &Gate{
		Config: l, tls: l.TLS != nil || len(l.Chains) > 0,
		proxy: l.ProxyProtocol != "off" && l.ProxyProtocol != "", from: netset.New(l.ProxyProtocolFrom), postgres: l.StartTLS == "postgres",
	}
	if !g.tls && !g.proxy && !g.postgres {
		return nil, nil
	}
	var errs []error
	add := func(name string, c *config.Chain, t *config.TLS) *Chain {
		chain := &Chain{Name: name, Config: c, Index: len(g.Chains)}
		g.Chains = append(g.Chains, chain)
		if t == nil {
			return chain
		}
		var err error
		if chain.Server, err = serve(t, name); err != nil {
			errs = append(errs, err)
		}
		g.mixed = g.mixed || t.Client.Mode != "none"
		return chain
	}
	for _, c := range l.Chains {
		add(c.Name, c, c.TLS)
		g.ports = g.ports || len(c.Ports) > 0
		g.alpn = g.alpn || len(c.ALPN) > 0
	}
	var base *Chain
	if named := g.Chains; l.TLS != nil {
		base = add(l.Name, nil, l.TLS)
		g.chains = newChains(named, base)
	} else {
		g.chains = newChains(named, nil)
	}
	g.mixed = g.mixed && len(g.Chains) > 1
	g.st = newGateStats(r, l.Name, g.tls)
	return g, errors.Join(errs...)
}

// Find tells which chain a connection would take.
func (g *Gate) Find(f *Facts) Match { return g.chains.find(f) }

// Misdirected reports whether host, the Host of a request with or without a port,
// maps to another policy on client certificates than the one that the connection
// passed (RFC 9110 section 15.5.20: 421). It allocates nothing.
func (g *Gate) Misdirected(s *Secure, host []byte) bool {
	if !g.mixed {
		return false
	}
	var lower [256]byte
	name := HostName(host)
	switch {
	case len(name) > len(lower): // no server name is so long, but a route's suffix may match
		return true
	case bytes.EqualFold(name, []byte(s.name)):
		return false
	}
	for i, b := range name {
		if 'A' <= b && b <= 'Z' {
			b |= 0x20
		}
		lower[i] = b
	}
	f := Facts{ServerName: lower[:len(name)], ALPN: s.alpn, Source: s.source, Port: s.port}
	c := g.chains.find(&f).Chain
	switch {
	case c == s.Chain:
		return false
	case c == nil || c.Server == nil, c.Server.Config() == nil: // the policy of one that warms up is not known
		return true
	}
	return c.Server.ClientPolicy() != s.Policy
}

// HostName is a Host field's value without port, brackets, and the dot at the
// end.
func HostName(host []byte) []byte {
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		return host[1 : n-1]
	}
	return bytes.TrimSuffix(host, []byte("."))
}

// mayProxy reports whether a peer may send a PROXY header. On a Unix socket the
// file's mode has decided.
func (g *Gate) mayProxy(peer netip.AddrPort) bool {
	return g != nil && g.proxy && (!peer.IsValid() || g.from.Contains(peer.Addr()))
}

// failure is why a connection did not come through the gate: the label of a
// counter, the reason in the log.
type failure uint8

// First come those of transport.Failure, then those of certs.Reason, then ours.
const failedCertificate = failure(transport.Failures)

const (
	failedTimeout = failedCertificate + failure(certs.ReasonInvalid) + 1 + iota
	failedShed
	failedSource
	failedNoChain
	failedWarming
	failedPlain
	failedHello
	failedHelloSize
	failedStartTLS
	failedProxyHeader
	failedProxyMissing
	failedDescriptor
	failures
)

var ownFailures = [...]string{
	"timeout", "shed", "source-limit", "no-chain", "warming", "plain", "bad-hello", "hello-too-big", "starttls", "bad-proxy-header",
	"no-proxy-header", "descriptor",
}

func (f failure) String() string { return failureNames[f] }

var failureNames = func() (names [failures]string) {
	for f := transport.Failure(0); f < transport.Failures; f++ {
		names[f] = dashed(f.String())
	}
	for _, r := range certs.Reasons() {
		names[failedCertificate+failure(r)] = "certificate-" + dashed(r.String())
	}
	for i, name := range ownFailures {
		names[int(failedTimeout)+i] = name
	}
	return names
}()

func dashed(s string) string { return string(bytes.ReplaceAll([]byte(s), []byte("_"), []byte("-"))) }

// failureOf sorts the error of a handshake.
func failureOf(err error) failure {
	if r := certs.ReasonOf(err); r != certs.ReasonNone {
		return failedCertificate + failure(r)
	}
	var he *transport.HandshakeError
	if errors.As(err, &he) {
		return failure(he.Reason)
	}
	return failure(transport.FailedClosed) // the socket's error
}
