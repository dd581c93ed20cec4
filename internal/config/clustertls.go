package config

import (
	"crypto/tls"
	"slices"
)

func (b *builder) buildClusterTLS(raw *rawClusterTLS, at *path) *ClusterTLS {
	t := defaultClusterTLS()
	putBool(&t.Verify, raw.Verify)
	b.versions(&t.MinVersion, &t.MaxVersion, raw.MinVersion, raw.MaxVersion, at)
	b.suites(raw.CipherSuites, t.MinVersion, at)
	t.CipherSuites, t.Curves, t.ALPN = numbers[uint16](raw.CipherSuites), numbers[tls.CurveID](raw.Curves), words(raw.ALPN)
	put(&t.Sessions, raw.Sessions)
	t.StartTLS = raw.StartTLS.protocol()
	if raw.SNI != nil {
		t.SNI, t.SNIFromHost = raw.SNI.name, raw.SNI.host
	}
	t.CA, t.Cert, t.Key = raw.CA.secret(), raw.Cert.secret(), raw.Key.secret()
	t.SAN, t.SPKI, t.Certificate = b.matchers(raw.SAN, at.child("san")), pins(raw.SPKI), pins(raw.Certificate)
	switch {
	case raw.Cert != nil && raw.Key == nil:
		b.missing(at, "key", "is missing: a client certificate has one")
	case raw.Cert == nil && raw.Key != nil:
		b.missing(at, "cert", "is missing: the key belongs to one")
	}
	switch {
	case !t.Verify && (raw.CA != nil || len(t.SAN)+len(t.SPKI)+len(t.Certificate) > 0):
		b.add(at.child("verify"), "false makes ca, san and pins useless")
	case t.Verify && t.SNI == "" && !t.SNIFromHost && len(t.SAN) == 0 && !b.has(at.child("san")):
		b.add(at.child("sni"), `"none" leaves no name to verify: san is needed`)
	}
	return t
}

// checkClusterTLS reports clusters whose TLS does not suit those who send there.
func (b *builder) checkClusterTLS(cfg *Config) {
	http, tcp := make(map[string]string), make(map[string]string) // who sends, by cluster
	for i, l := range cfg.Listeners {
		at := b.listeners[i].at
		for j, r := range l.Routes {
			for _, c := range r.Clusters {
				http[c.Cluster] = at.child("route").at(j).String()
			}
		}
		for _, c := range l.Clusters {
			tcp[c.Cluster] = at.String()
		}
		for j, c := range l.Chains {
			tcp[c.Cluster] = at.child("chain").at(j).String()
		}
	}
	for i, c := range cfg.Clusters {
		if c.TLS == nil {
			continue
		}
		at := b.clusters[i].at.child("tls")
		if user := http[c.Name]; user != "" {
			if c.TLS.StartTLS != "" {
				b.add(at.child("starttls"), "%q is not for the HTTP that %s sends", c.TLS.StartTLS, user)
			}
			if slices.Contains(c.TLS.ALPN, "h2") {
				b.add(at.child("alpn"), `"h2" is %s; %s sends HTTP/1.1`, notYet, user)
			}
		}
		// Only a request has a host of its own.
		if user := tcp[c.Name]; user != "" && c.TLS.Verify && c.TLS.SNIFromHost && len(c.TLS.SAN) == 0 {
			if j := slices.IndexFunc(c.Endpoints, func(e Endpoint) bool { return e.Unix != "" }); j >= 0 {
				b.add(at.child("sni"), `is needed, or san: endpoints[%d] has no name to verify for what %s sends`, j, user)
			}
		}
	}
}
