package proxyproto

import "net/netip"

// Origin is whose connection another one carries on.
type Origin struct {
	Peer, Dest netip.AddrPort // invalid: unknown, as on a Unix socket
	Secure     *OriginTLS     // nil: the client's connection is not TLS
}

// OriginTLS is the client's TLS; empty strings are unknown.
type OriginTLS struct {
	Version, Cipher, ALPN, ServerName string
	CommonName                        string // of the client's certificate
	Certificate                       bool   // the client has shown one, which was verified
}

// Append appends the header of a version, 1 or 2, for a client; a nil Origin is a
// connection of our own, LOCAL in version 2 and UNKNOWN in version 1.
func (o *Origin) Append(b []byte, version int) []byte {
	h := Header{Command: Local}
	if o != nil {
		h.Command, h.Transport, h.Source, h.Dest = Proxy, Stream, o.Peer, o.Dest
		if o.Secure != nil {
			o.Secure.put(&h)
		}
	}
	if version == 1 {
		return AppendV1(b, &h)
	}
	out, err := AppendV2(b, &h)
	if err != nil { // a name too long for its TLV; the addresses are what matters
		h = Header{Command: h.Command, Transport: h.Transport, Source: h.Source, Dest: h.Dest}
		out, _ = AppendV2(b, &h)
	}
	return out
}

func (s *OriginTLS) put(h *Header) {
	h.ALPN, h.Authority = optional(s.ALPN), optional(s.ServerName)
	h.SSL = SSL{Present: true, Client: ClientSSL, Verify: 1, TLSVersion: optional(s.Version), Cipher: optional(s.Cipher), CommonName: optional(s.CommonName)}
	if s.Certificate {
		h.SSL.Client |= ClientCertConn | ClientCertSession
		h.SSL.Verify = 0
	}
}

func optional(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}
