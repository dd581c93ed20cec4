package admin

import (
	"crypto/tls"
	"encoding/hex"
	"strings"

	"belay/internal/config"
)

// The tables of TLS. Of a secret they have its place, which is all that config
// knows of it.

func serverTLSTable(t *config.ServerTLS) table {
	return append(given(table{{"ticket_secret", t.TicketSecret.String()}}), fields(t, "TicketSecret")...)
}

// listenerTLSTable is tls and chain, nothing for none.
func listenerTLSTable(l *config.Listener) table {
	var t table
	if l.TLS != nil {
		t = append(t, member{"tls", tlsTable(l.TLS, l.Protocol)})
	}
	if len(l.Chains) > 0 {
		t = append(t, member{"chain", list(l.Chains, func(c **config.Chain) table { return chainTable(*c, l.Protocol) })})
	}
	return t
}

func chainTable(c *config.Chain, protocol string) table {
	t := append(table{{"name", c.Name}}, given(fields(c, "Name", "TLS"))...)
	if c.TLS != nil {
		t = append(t, member{"tls", tlsTable(c.TLS, protocol)})
	}
	return t
}

func tlsTable(t *config.TLS, protocol string) table {
	out := table{{"certificates", list(t.Certificates, certificateTable)}}
	out = append(out, paramsTable(t.MinVersion, t.MaxVersion, t.CipherSuites, t.Curves)...)
	return append(out, member{"alpn", texts(t.ALPN)}, member{"ocsp_policy", t.OCSPPolicy},
		member{"session_tickets", t.Tickets}, member{"client_certificate", clientCertificateTable(&t.Client, protocol)})
}

func certificateTable(c *config.Certificate) table {
	if c.SelfSigned {
		return append(table{{"cert", "self-signed"}}, given(table{{"names", c.Names}})...)
	}
	return given(table{{"cert", c.Cert.String()}, {"key", c.Key.String()}, {"ocsp", c.OCSP.String()}})
}

// paramsTable leaves out the lists that Go has the default of.
func paramsTable(least, most uint16, suites []uint16, curves []tls.CurveID) table {
	var suiteNames, curveNames []string
	for _, id := range suites {
		suiteNames = append(suiteNames, tls.CipherSuiteName(id))
	}
	for _, id := range curves {
		curveNames = append(curveNames, config.CurveName(id))
	}
	t := table{{"min_version", version(least)}, {"max_version", version(most)}}
	return append(t, given(table{{"cipher_suites", suiteNames}, {"curves", curveNames}})...)
}

func version(v uint16) string { return strings.TrimPrefix(tls.VersionName(v), "TLS ") }

func clientCertificateTable(c *config.ClientCertificate, protocol string) table {
	t := append(table{{"mode", c.Mode}}, given(trustTable(c.CA, c.SAN, c.SPKI, c.Certificate))...)
	if c.CRL != (config.Secret{}) {
		t = append(t, member{"crl", c.CRL.String()}, member{"crl_expired", c.CRLExpired})
	}
	if protocol != config.ProtocolHTTP {
		return t
	}
	return append(t, member{"forward", c.Forward}, member{"forward_details", texts(c.ForwardDetails)},
		member{"client_cert_header", c.ClientCert})
}

func trustTable(ca config.Secret, san []config.SANMatcher, spki, certificate [][32]byte) table {
	return table{
		{"ca", ca.String()}, {"san", list(san, func(m *config.SANMatcher) table { return given(fields(m)) })},
		{"spki_sha256", pins(spki)}, {"certificate_sha256", pins(certificate)},
	}
}

func pins(list [][32]byte) []string {
	var out []string
	for _, p := range list {
		out = append(out, hex.EncodeToString(p[:]))
	}
	return out
}

func clusterTLSTable(c *config.ClusterTLS) table {
	sni := orNone(c.SNI)
	if c.SNIFromHost {
		sni = "host"
	}
	t := append(table{{"verify", c.Verify}, {"sni", sni}}, given(trustTable(c.CA, c.SAN, c.SPKI, c.Certificate))...)
	t = append(t, given(table{{"cert", c.Cert.String()}, {"key", c.Key.String()}})...)
	t = append(t, paramsTable(c.MinVersion, c.MaxVersion, c.CipherSuites, c.Curves)...)
	return append(t, member{"alpn", texts(c.ALPN)}, member{"sessions", c.Sessions}, member{"starttls", orNone(c.StartTLS)})
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// texts is a list that is written even if it is empty.
func texts(list []string) []string { return append([]string{}, list...) }
