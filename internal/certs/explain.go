package certs

import (
	"crypto/tls"
	"fmt"
	"slices"
)

// Query is a client that does not exist.
type Query struct {
	ServerName string
	ALPN       []string // none: no ALPN is offered
	NoECDSA    bool     // it can use RSA only
	TLS12      bool     // it knows nothing newer
}

// Explanation says what the client of a Query would get, and why.
type Explanation struct {
	State       string `json:"state"`                 // of the chain: warming or active
	Certificate string `json:"certificate,omitempty"` // its source
	*Info
	Name         string `json:"name_match"`
	Why          string `json:"why"`
	Version      string `json:"version,omitempty"`
	ALPN         string `json:"alpn,omitempty"`
	Staple       bool   `json:"ocsp_staple"`
	ClientAuth   string `json:"client_certificate"`
	ClientPolicy string `json:"client_policy,omitempty"` // names of one policy may share a connection
	Refused      string `json:"refused,omitempty"`       // why the handshake fails
}

func (a ClientAuth) String() string {
	return [...]string{"none", "request", "require"}[a]
}

// hello makes the ClientHello of a query, as a browser of 2025 sends it.
func (q *Query) hello() *tls.ClientHelloInfo {
	h := &tls.ClientHelloInfo{
		ServerName: q.ServerName, SupportedProtos: q.ALPN, SupportedPoints: []uint8{0},
		SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
		SupportedCurves:   []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521},
		SignatureSchemes: []tls.SignatureScheme{
			tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512,
		},
		CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	}
	if q.TLS12 {
		h.SupportedVersions = h.SupportedVersions[1:]
	}
	if !q.NoECDSA {
		h.CipherSuites = append(h.CipherSuites, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
		h.SignatureSchemes = append(h.SignatureSchemes,
			tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512, tls.Ed25519)
	}
	return h
}

// Explain says what a client would get, by the selection that serves real ones.
func (c *Server) Explain(q Query) Explanation {
	e := Explanation{State: Warming.String(), ClientAuth: c.options.ClientAuth.String()}
	s := c.current.Load()
	if s == nil {
		e.Refused = "the chain is warming: connections are reset"
		return e
	}
	e.State = Active.String()
	if c.options.ClientAuth != ClientNone {
		e.ClientPolicy = fmt.Sprintf("%x", s.client[:8])
	}
	chosen := s.index.choose(q.hello())
	e.Name, e.Why = chosen.match.String(), chosen.pick.String()
	if chosen.cert == nil {
		e.Refused = errUnusable.Error()
		return e
	}
	info := chosen.cert.pair.Info
	e.Certificate, e.Info, e.Staple = chosen.cert.name, &info, chosen.cert.tls.OCSPStaple != nil
	version := uint16(tls.VersionTLS13)
	if q.TLS12 {
		version = tls.VersionTLS12
	}
	least, most := c.options.versions()
	version = min(version, most)
	e.Version = tls.VersionName(version)
	if version < least {
		e.Refused = "no common version: the chain wants at least " + tls.VersionName(least)
	}
	e.alpn(q.ALPN, c.options.ALPN)
	return e
}

// alpn decides as crypto/tls does: by the server's preference, and none in
// common is fatal, but for a client that knows HTTP/1.1 and a server of HTTP/2.
func (e *Explanation) alpn(offered, served []string) {
	if len(offered) == 0 || len(served) == 0 {
		return
	}
	for _, p := range served {
		if slices.Contains(offered, p) {
			e.ALPN = p
			return
		}
	}
	if slices.Contains(served, "h2") && slices.Contains(offered, "http/1.1") {
		return
	}
	e.Refused = "no common ALPN protocol"
}
