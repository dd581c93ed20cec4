package server

import (
	"encoding/hex"

	"belay/internal/certs"
	"belay/internal/config"
)

// serverTLSOptions are those of a context that clients meet; chain names it.
func serverTLSOptions(t *config.TLS, chain string, files *certs.Files) certs.ServerOptions {
	o := certs.ServerOptions{
		Name:           chain,
		OCSP:           ocspPolicies[t.OCSPPolicy],
		Params:         certs.Params{MinVersion: t.MinVersion, MaxVersion: t.MaxVersion, CipherSuites: t.CipherSuites, Curves: t.Curves, ALPN: t.ALPN},
		ClientAuth:     clientAuths[t.Client.Mode],
		DisableTickets: !t.Tickets,
	}
	for i := range t.Certificates {
		c := &t.Certificates[i]
		if c.SelfSigned {
			o.Certificates = append(o.Certificates, &certs.SelfSigned{Names: c.Names})
			continue
		}
		o.Certificates = append(o.Certificates, &certs.FileSource{Files: files, Cert: c.Cert.String(), Key: c.Key.String(), Staple: c.OCSP.String()})
	}
	if c := &t.Client; o.ClientAuth != certs.ClientNone {
		o.Client = trust(c.CA, c.SAN, c.SPKI, c.Certificate)
		o.Client.CRL = c.CRL.String()
		o.Client.AllowStale = c.CRLExpired == "accept"
	}
	return o
}

var ocspPolicies = map[string]certs.OCSPPolicy{
	"lenient": certs.OCSPLenient, "strict": certs.OCSPStrict, "must_staple": certs.OCSPMustStaple,
}

var clientAuths = map[string]certs.ClientAuth{
	"none": certs.ClientNone, "request": certs.ClientRequest, "require": certs.ClientRequire,
}

// clientTLSOptions are those of the TLS towards a cluster.
func clientTLSOptions(c *config.Cluster, files *certs.Files) certs.ClientOptions {
	t := c.TLS
	o := certs.ClientOptions{
		Name:           c.Name,
		ServerName:     t.SNI,
		Insecure:       !t.Verify,
		Server:         trust(t.CA, t.SAN, t.SPKI, t.Certificate),
		Params:         certs.Params{MinVersion: t.MinVersion, MaxVersion: t.MaxVersion, CipherSuites: t.CipherSuites, Curves: t.Curves, ALPN: t.ALPN},
		DisableTickets: t.Sessions == 0,
		MaxSessions:    t.Sessions,
	}
	if t.Cert != (config.Secret{}) {
		o.Certificate = &certs.FileSource{Files: files, Cert: t.Cert.String(), Key: t.Key.String()}
	}
	return o
}

func trust(ca config.Secret, sans []config.SANMatcher, spki, whole [][32]byte) certs.Trust {
	t := certs.Trust{CA: ca.String(), SPKIPins: pins(spki), CertPins: pins(whole)}
	for i := range sans {
		t.SANs = append(t.SANs, sanMatcher(&sans[i]))
	}
	return t
}

func pins(list [][32]byte) (out []string) {
	for _, p := range list {
		out = append(out, hex.EncodeToString(p[:]))
	}
	return out
}

var sanTypes = map[string]certs.SANType{"dns": certs.SANDNS, "uri": certs.SANURI, "email": certs.SANEmail, "ip": certs.SANIP}

func sanMatcher(m *config.SANMatcher) certs.SANMatcher {
	out := certs.SANMatcher{Type: sanTypes[m.Type]}
	switch {
	case m.Prefix != "":
		out.Kind, out.Value = certs.MatchPrefix, m.Prefix
	case m.Suffix != "":
		out.Kind, out.Value = certs.MatchSuffix, m.Suffix
	case m.Contains != "":
		out.Kind, out.Value = certs.MatchContains, m.Contains
	case m.Regex != nil:
		out.Kind, out.Value = certs.MatchRegex, m.Regex.String()
	default:
		out.Kind, out.Value = certs.MatchExact, m.Exact
	}
	return out
}
