package config

import (
	"crypto/tls"
	"slices"
)

// buildServerTLS makes server.tls.
func (b *builder) buildServerTLS(t *ServerTLS, raw *rawServerTLS, at *path) {
	t.TicketSecret = raw.TicketSecret.secret()
	put(&t.TicketRotation, raw.TicketRotation)
	put(&t.MaxHandshakes, raw.MaxHandshakes)
	put(&t.MaxHandshakesPerSource, raw.MaxHandshakesPerSource)
	put(&t.HandshakesPerTurn, raw.HandshakesPerTurn)
	put(&t.HelloBytes, raw.HelloBytes)
	put(&t.ExpiryWarning, raw.ExpiryWarning)
}

// buildTLS makes the context of a listener or a chain.
func (b *builder) buildTLS(raw *rawTLS, at *path, l *Listener) *TLS {
	t := defaultTLS()
	switch {
	case l.Protocol == ProtocolHTTP:
		t.ALPN = []string{"http/1.1"}
	case l.StartTLS == "postgres":
		t.ALPN = []string{"postgresql"} // clients that begin with TLS insist on it
	}
	b.versions(&t.MinVersion, &t.MaxVersion, raw.MinVersion, raw.MaxVersion, at)
	b.suites(raw.CipherSuites, t.MinVersion, at)
	t.CipherSuites, t.Curves = numbers[uint16](raw.CipherSuites), numbers[tls.CurveID](raw.Curves)
	if raw.ALPN != nil {
		t.ALPN = words(raw.ALPN)
	}
	if l.Protocol == ProtocolHTTP {
		b.httpProtocols(t.ALPN, at.child("alpn"))
	}
	putText(&t.OCSPPolicy, raw.OCSPPolicy)
	if len(raw.Certificates) == 0 {
		b.missing(at, "certificates", `no certificate; write for example certificates = [{ cert = "/etc/belay/tls/a.pem", key = "/etc/belay/tls/a.key" }]`)
	}
	for i := range raw.Certificates {
		t.Certificates = append(t.Certificates, b.buildCertificate(&raw.Certificates[i], at.child("certificates").at(i)))
	}
	b.clientCertificate(&t.Client, &raw.Client, at.child("client_certificate"), l.Protocol)
	putBool(&t.Tickets, raw.Tickets)
	return t
}

// listenerTLS builds what comes before a listener's protocol.
func (b *builder) listenerTLS(l *Listener, raw *rawListener, at *path) {
	putText(&l.ProxyProtocol, raw.ProxyProtocol)
	l.ProxyProtocolFrom = prefixes(raw.ProxyProtocolFrom)
	switch {
	case l.ProxyProtocol != "off" && len(l.ProxyProtocolFrom) == 0 && l.Unix == "":
		b.missing(at, "proxy_protocol_from", "is missing: whoever may connect could say who they are; name the balancers")
	case l.ProxyProtocol == "off" && len(l.ProxyProtocolFrom) > 0:
		b.missing(at, "proxy_protocol", `"accept" or "require" is needed for proxy_protocol_from`)
	}
	b.startTLS(l, raw, at)
	if raw.TLS != nil {
		l.TLS = b.buildTLS(raw.TLS, at.child("tls"), l)
	}
	b.buildChains(l, raw, at)
}

// startTLS is for other protocols than HTTP, whose clients ask for TLS in the clear.
func (b *builder) startTLS(l *Listener, raw *rawListener, at *path) {
	l.StartTLS = raw.StartTLS.protocol()
	if l.StartTLS != "" && l.Protocol == ProtocolHTTP {
		b.add(at.child("starttls"), "is only for protocol = %q", ProtocolTCP)
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
	for _, p := range list {
		switch p {
		case "http/1.1", "http/1.0":
		case "h2":
			b.add(at, "%q is "+notYet, p)
		default:
			b.add(at, "%q is no protocol of an HTTP listener", p)
		}
	}
}

func (b *builder) buildCertificate(raw *rawCertificate, at *path) Certificate {
	c := Certificate{Key: raw.Key.secret(), OCSP: raw.OCSP.secret(), Names: words(raw.Names)}
	if raw.Cert != nil {
		c.Cert, c.SelfSigned = raw.Cert.secret(), raw.Cert.selfSigned
	}
	if c.SelfSigned {
		if raw.Key != nil {
			b.add(at.child("key"), "is not for a self-signed certificate, which has a key of its own")
		}
		if raw.OCSP != nil {
			b.add(at.child("ocsp"), "is not for a self-signed certificate")
		}
		return c
	}
	if raw.Cert == nil {
		b.missing(at, "cert", `is missing: a PEM file, "credential:NAME", or "self-signed" for development`)
	}
	if raw.Key == nil {
		b.missing(at, "key", `is missing: a PEM file or "credential:NAME"; it may be that of cert`)
	}
	if raw.Names != nil {
		b.add(at.child("names"), "is for a self-signed certificate; others have their names")
	}
	return c
}

func (b *builder) clientCertificate(c *ClientCertificate, raw *rawClientCert, at *path, protocol string) {
	putText(&c.Mode, raw.Mode)
	putText(&c.CRLExpired, raw.CRLExpired)
	c.CA, c.CRL = raw.CA.secret(), raw.CRL.secret()
	c.SAN = b.matchers(raw.SAN, at.child("san"))
	c.SPKI, c.Certificate = pins(raw.SPKI), pins(raw.Certificate)
	trusts := raw.CA != nil || len(c.SPKI)+len(c.Certificate) > 0
	restricts := raw.CRL != nil || len(c.SAN) > 0
	switch {
	case c.Mode == "none" && (trusts || restricts):
		b.missing(at, "mode", `"request" or "require" is needed: no client is asked for its certificate`)
	case c.Mode != "none" && !trusts && !b.has(at.child("spki_sha256")) && !b.has(at.child("certificate_sha256")):
		b.missing(at, "ca", "is missing, and there are no pins: no certificate could be verified")
	case c.Mode != "none" && raw.CA == nil && restricts:
		b.missing(at, "ca", "is missing: crl and san say something about certificates that it verifies")
	}
	if raw.CRLExpired != nil && raw.CRL == nil {
		b.missing(at, "crl", "is missing: crl_expired says something about it")
	}
	b.forwardCertificate(c, raw, at, protocol)
}

// forwardCertificate sets what a backend is told of the client's certificate.
func (b *builder) forwardCertificate(c *ClientCertificate, raw *rawClientCert, at *path, protocol string) {
	putText(&c.Forward, raw.Forward)
	putBool(&c.ClientCert, raw.ClientCert)
	c.ForwardDetails = words(raw.ForwardDetails)
	if protocol != ProtocolHTTP {
		keys := slices.DeleteFunc(given(raw), func(key string) bool {
			return key != "forward" && key != "forward_details" && key != "client_cert_header"
		})
		b.onlyFor(ProtocolHTTP, keys, at)
		return
	}
	if len(c.ForwardDetails) > 0 && c.Forward != "append_forward" && c.Forward != "sanitize_set" && !b.has(at.child("forward")) {
		b.add(at.child("forward_details"), `needs forward = "append_forward" or "sanitize_set"`)
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
			b.add(at, "needs one of exact, prefix, suffix, contains or regex")
		}
		for k, x := range []*string{raw.Exact, raw.Prefix, raw.Suffix, raw.Contains} {
			if x != nil && *x == "" {
				b.add(at.child(keys[k]), "is empty")
			}
		}
		if m.Type == "ip" && m.Exact != "" {
			var p prefix
			b.check(at.child("exact"), p.set(m.Exact))
		}
		out = append(out, m)
	}
	return out
}
