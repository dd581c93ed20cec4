package config

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// buildServerTLS makes server.tls.
func (b *builder) buildServerTLS(t *ServerTLS, raw *rawServerTLS, at *path) {
	b.noSelfSigned(at, "ticket_secret", raw.TicketSecret)
	t.TicketSecret = raw.TicketSecret.secret()
	put(&t.TicketRotation, raw.TicketRotation)
	put(&t.MaxHandshakes, raw.MaxHandshakes)
	put(&t.MaxHandshakesPerSource, raw.MaxHandshakesPerSource)
	put(&t.HandshakesPerTurn, raw.HandshakesPerTurn)
	put(&t.HelloBytes, raw.HelloBytes)
	put(&t.ExpiryWarning, raw.ExpiryWarning)
}

// buildTLS makes the context of a listener or a chain.
func (b *builder) buildTLS(raw *rawTLS, at *path, protocol string) *TLS {
	t := defaultTLS()
	if protocol == "http" {
		t.ALPN = []string{"http/1.1"}
	}
	b.versions(&t.MinVersion, &t.MaxVersion, raw.MinVersion, raw.MaxVersion, at)
	b.suites(raw.CipherSuites, t.MinVersion, at)
	t.CipherSuites, t.Curves = numbers[uint16](raw.CipherSuites), numbers[tls.CurveID](raw.Curves)
	if raw.ALPN != nil {
		t.ALPN = words(raw.ALPN)
	}
	if protocol == "http" {
		b.httpProtocols(t.ALPN, at.child("alpn"))
	}
	putText(&t.OCSPPolicy, raw.OCSPPolicy)
	if len(raw.Certificates) == 0 {
		b.missing(at, "certificates", `no certificate; write for example certificates = [{ cert = "/etc/belay/tls/a.pem", key = "/etc/belay/tls/a.key" }]`)
	}
	for i := range raw.Certificates {
		t.Certificates = append(t.Certificates, b.buildCertificate(&raw.Certificates[i], at.child("certificates").at(i)))
	}
	b.clientCertificate(&t.Client, &raw.Client, at.child("client_certificate"), protocol)
	putBool(&t.Tickets, raw.Tickets)
	return t
}

// secret is what was given; no self-signed one but for a cert.
func (x *secretFile) secret() Secret {
	if x == nil {
		return Secret{}
	}
	return Secret(*x)
}

// listenerTLS builds what comes before a listener's protocol.
func (b *builder) listenerTLS(l *Listener, raw *rawListener, at *path) {
	putText(&l.ProxyProtocol, raw.ProxyProtocol)
	l.ProxyProtocolFrom = prefixes(raw.ProxyProtocolFrom)
	switch {
	case l.ProxyProtocol != "off" && len(l.ProxyProtocolFrom) == 0 && l.Unix == "":
		b.missing(at, "proxy_protocol_from", "is missing: whoever may connect could say who they are; name the balancers")
	case l.ProxyProtocol == "off" && raw.ProxyProtocolFrom != nil && !b.has(at.child("proxy_protocol")):
		b.add(at.child("proxy_protocol"), `is missing: "accept" or "require"`)
	}
	if raw.TLS != nil {
		l.TLS = b.buildTLS(raw.TLS, at.child("tls"), l.Protocol)
	}
	l.Chains = b.buildChains(raw.Chains, at.child("chain"), l)
	first := make(map[string]int)
	for i, c := range l.Chains {
		if j, ok := first[c.Name]; ok {
			b.add(at.child("chain").at(i).child("name"), "%q is the name of chain[%d] as well", c.Name, j)
		}
		first[c.Name] = i
	}
	b.startTLS(l, raw, at)
}

// startTLS is for protocols without HTTP whose clients ask for TLS in the clear.
func (b *builder) startTLS(l *Listener, raw *rawListener, at *path) {
	if raw.StartTLS == nil || *raw.StartTLS == "none" {
		return
	}
	l.StartTLS = *raw.StartTLS
	switch at := at.child("starttls"); {
	case l.Protocol == ProtocolHTTP:
		b.add(at, "is only for protocol = %q", ProtocolTCP)
	case raw.TLS == nil && len(raw.Chains) == 0:
		b.add(at, "needs tls or chain: there is no TLS to start")
	}
}

// numbers and words convert lists; nil stays nil.
func numbers[D, S ~uint16](list []S) (out []D) {
	for _, x := range list {
		out = append(out, D(x))
	}
	return out
}

func words[S ~string](list []S) (out []string) {
	for _, x := range list {
		out = append(out, string(x))
	}
	return out
}

func (b *builder) versions(low, high *uint16, rawLow, rawHigh *tlsVersion, at *path) {
	if rawLow != nil {
		*low = uint16(*rawLow)
	}
	if rawHigh != nil {
		*high = uint16(*rawHigh)
	}
	if *low > *high {
		b.add(at.child("max_version"), "is below min_version")
	}
}

func (b *builder) suites(list []cipherSuite, low uint16, at *path) {
	if len(list) > 0 && low == tls.VersionTLS13 {
		b.add(at.child("cipher_suites"), "are of TLS 1.2, which min_version excludes")
	}
}

// httpProtocols reports what an HTTP listener cannot speak.
func (b *builder) httpProtocols(list []string, at *path) {
	for i, p := range list {
		switch p {
		case "http/1.1", "http/1.0":
		case "h2":
			b.add(at.at(i), "%q is "+notYet, p)
		default:
			b.add(at.at(i), "%q is no protocol of an HTTP listener", p)
		}
	}
}

func (b *builder) buildCertificate(raw *rawCertificate, at *path) Certificate {
	c := Certificate{Cert: raw.Cert.secret(), Key: raw.Key.secret(), OCSP: raw.OCSP.secret(), Names: words(raw.Names)}
	if c.SelfSigned = c.Cert.File == selfSigned; c.SelfSigned {
		c.Cert = Secret{}
		for key, given := range map[string]bool{"key": raw.Key != nil, "ocsp": raw.OCSP != nil} {
			if given {
				b.add(at.child(key), "a self-signed certificate has none")
			}
		}
		return c
	}
	if raw.Cert == nil {
		b.missing(at, "cert", `is missing: a PEM file, "credential:NAME", or "self-signed" for development`)
	}
	if raw.Key == nil {
		b.missing(at, "key", `is missing: a PEM file or "credential:NAME"`)
	}
	if len(raw.Names) > 0 {
		b.add(at.child("names"), "is for a self-signed certificate; others have their names")
	}
	b.noSelfSigned(at, "key", raw.Key)
	b.noSelfSigned(at, "ocsp", raw.OCSP)
	return c
}

// noSelfSigned reports the word where a file belongs.
func (b *builder) noSelfSigned(at *path, key string, x *secretFile) {
	if x != nil && x.File == selfSigned {
		b.add(at.child(key), `must be an absolute path or "credential:NAME"`)
	}
}

func (b *builder) clientCertificate(c *ClientCertificate, raw *rawClientCert, at *path, protocol string) {
	putText(&c.Mode, raw.Mode)
	putText(&c.CRLExpired, raw.CRLExpired)
	putText(&c.Forward, raw.Forward)
	putBool(&c.ClientCert, raw.ClientCert)
	c.CA, c.CRL = raw.CA.secret(), raw.CRL.secret()
	b.noSelfSigned(at, "ca", raw.CA)
	b.noSelfSigned(at, "crl", raw.CRL)
	c.SAN = b.matchers(raw.SAN, at.child("san"))
	c.SPKI, c.Certificate = pins(raw.SPKI), pins(raw.Certificate)
	c.ForwardDetails = words(raw.ForwardDetails)
	trusts := raw.CA != nil || len(c.SPKI)+len(c.Certificate) > 0
	switch {
	case c.Mode == "none" && (trusts || raw.CRL != nil || len(c.SAN) > 0) && !b.has(at.child("mode")):
		b.add(at.child("mode"), `is missing: "request" or "require"`)
	case c.Mode != "none" && !trusts:
		b.missing(at, "ca", "is missing, and there are no pins: no certificate could be verified")
	}
	if raw.CA == nil && (raw.CRL != nil || len(c.SAN) > 0) && c.Mode != "none" {
		b.missing(at, "ca", "is missing: crl and san say something about certificates that it verifies")
	}
	if protocol != "http" {
		for key, given := range map[string]bool{"forward": raw.Forward != nil, "forward_details": raw.ForwardDetails != nil, "client_cert_header": raw.ClientCert != nil} {
			if given {
				b.add(at.child(key), "is for HTTP: a TCP proxy has no headers")
			}
		}
	}
}

func pins(list []pin) (out [][32]byte) {
	for _, p := range list {
		out = append(out, p)
	}
	return out
}

func (b *builder) matchers(list []rawSAN, at *path) (out []SANMatcher) {
	for i := range list {
		raw, at := &list[i], at.at(i)
		m := SANMatcher{Regex: raw.Regex.anchored()}
		if putText(&m.Type, raw.Type); m.Type == "" {
			b.missing(at, "type", `is missing: "dns", "uri", "email" or "ip"`)
		}
		putText(&m.Exact, raw.Exact)
		putText(&m.Prefix, raw.Prefix)
		putText(&m.Suffix, raw.Suffix)
		putText(&m.Contains, raw.Contains)
		keys := []string{"exact", "prefix", "suffix", "contains", "regex"}
		if b.exclusive(at, keys, raw.Exact != nil, raw.Prefix != nil, raw.Suffix != nil, raw.Contains != nil, raw.Regex != nil) == 0 {
			b.add(at, "one of exact, prefix, suffix, contains and regex is needed")
		}
		for k, x := range []*string{raw.Exact, raw.Prefix, raw.Suffix, raw.Contains} {
			if x != nil && *x == "" {
				b.add(at.child(keys[k]), "is empty")
			}
		}
		if m.Type == "ip" && m.Exact != "" {
			if _, err := netip.ParseAddr(m.Exact); err != nil {
				b.add(at.child("exact"), "%q is no IP address", m.Exact)
			}
		}
		out = append(out, m)
	}
	return out
}

// buildChains makes the chains of a listener, and reports two that nobody could
// tell apart.
func (b *builder) buildChains(raw []rawChain, at *path, l *Listener) (out []*Chain) {
	same := make(map[string]int)
	for i := range raw {
		at := at.at(i)
		c := b.buildChain(&raw[i], at, l, i)
		for _, key := range c.conditions() {
			if j, ok := same[key]; ok && j != i {
				b.add(at, "has a condition of chain[%d]: %s", j, key)
			}
			same[key] = i
		}
		out = append(out, c)
	}
	return out
}

func (b *builder) buildChain(raw *rawChain, at *path, l *Listener, i int) *Chain {
	c := &Chain{Name: fmt.Sprintf("%s.%d", l.Name, i), ServerNames: words(raw.ServerNames), Sources: prefixes(raw.Sources), ALPN: words(raw.ALPN)}
	if raw.Name != nil {
		if c.Name = *raw.Name; !isLabel(c.Name) {
			b.add(at.child("name"), "%q: a name has 1 to %d bytes of visible ASCII, without quotes and \"\\\"", c.Name, maxLabel)
		}
	}
	for _, p := range raw.Ports {
		c.Ports = append(c.Ports, uint16(p))
	}
	putBool(&c.Passthrough, raw.Passthrough)
	putText(&c.Cluster, raw.Cluster)
	if c.Cluster != "" {
		b.known(at.child("cluster"), c.Cluster)
	}
	if l.Protocol == "http" {
		if raw.Cluster != nil {
			b.add(at.child("cluster"), "an HTTP listener chooses by its routes")
		}
		if c.Passthrough {
			b.add(at.child("passthrough"), `is for protocol = "tcp"`)
		}
	}
	switch {
	case raw.TLS != nil && c.Passthrough:
		b.add(at.child("tls"), "excludes passthrough")
	case raw.TLS != nil:
		c.TLS = b.buildTLS(raw.TLS, at.child("tls"), l.Protocol)
	case !c.Passthrough:
		b.missing(at, "tls", "is missing: the certificates of this chain")
	}
	return c
}

// conditions are all combinations of a chain's conditions, so that two chains with
// one in common can be found.
func (c *Chain) conditions() (out []string) {
	orAny := func(list []string) []string {
		if len(list) == 0 {
			return []string{"any"}
		}
		return list
	}
	var ports, sources []string
	for _, p := range c.Ports {
		ports = append(ports, fmt.Sprint(p))
	}
	for _, p := range c.Sources {
		sources = append(sources, p.String())
	}
	for _, n := range orAny(c.ServerNames) {
		for _, p := range orAny(ports) {
			for _, a := range orAny(c.ALPN) {
				for _, s := range orAny(sources) {
					out = append(out, strings.Join([]string{"server name " + n, "port " + p, "ALPN " + a, "source " + s}, ", "))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (b *builder) buildClusterTLS(raw *rawClusterTLS, at *path) *ClusterTLS {
	t := defaultClusterTLS()
	putBool(&t.Verify, raw.Verify)
	b.versions(&t.MinVersion, &t.MaxVersion, raw.MinVersion, raw.MaxVersion, at)
	b.suites(raw.CipherSuites, t.MinVersion, at)
	t.CipherSuites, t.Curves, t.ALPN = numbers[uint16](raw.CipherSuites), numbers[tls.CurveID](raw.Curves), words(raw.ALPN)
	put(&t.Sessions, raw.Sessions)
	if raw.StartTLS != nil && *raw.StartTLS != "none" {
		t.StartTLS = *raw.StartTLS
	}
	if raw.SNI != nil {
		t.SNI, t.SNIFromHost = raw.SNI.name, raw.SNI.host
	}
	t.CA, t.Cert, t.Key = raw.CA.secret(), raw.Cert.secret(), raw.Key.secret()
	for key, x := range map[string]*secretFile{"ca": raw.CA, "cert": raw.Cert, "key": raw.Key} {
		b.noSelfSigned(at, key, x)
	}
	t.SAN, t.SPKI, t.Certificate = b.matchers(raw.SAN, at.child("san")), pins(raw.SPKI), pins(raw.Certificate)
	if (raw.Cert == nil) != (raw.Key == nil) {
		missing := "key"
		if raw.Cert == nil {
			missing = "cert"
		}
		b.missing(at, missing, "is missing: a client certificate has both")
	}
	if !t.Verify && (raw.CA != nil || len(t.SAN) > 0) {
		b.add(at.child("verify"), "false makes ca and san useless")
	}
	return t
}
