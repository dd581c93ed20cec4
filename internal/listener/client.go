package listener

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"

	"belay/internal/accesslog"
	"belay/internal/certs"
	"belay/internal/proxyproto"
	"belay/internal/transport"
)

// Client is a connection that came through the door: its protocol serves it and
// closes it, and gives its place back by Acceptor.Done(Peer).
type Client struct {
	Socket transport.Socket
	// Peer is who the client is: the source of a PROXY header from a proxy that
	// may send one, else the socket's peer. Invalid on a Unix socket.
	Peer netip.AddrPort
	// Dest is what the client connected to: of the PROXY header, else of the
	// socket. Invalid unless DoorLimits.WantDest, a chain's ports or a PROXY header asked
	// for it.
	Dest netip.AddrPort
	// Via is the socket's peer if a PROXY header named another; else invalid.
	Via netip.AddrPort
	// Head is what was read and not consumed: a PROXY header's rest, or the
	// ClientHello of a chain that passes TLS through. It is a buffer of the loop's
	// Get, cut to length, and the receiver's to give back; nil: nothing.
	Head []byte
	// Chain is the filter chain that the connection met; nil on a listener without
	// any.
	Chain *Chain
	// TLS is what the handshake settled; nil: belay did not terminate TLS.
	TLS *Secure
	// Log is what the access log tells of the client's TLS, also of one that passes
	// through; nil unless Gate.WantLog.
	Log *accesslog.TLS
}

// Secure is the TLS of a client's connection. It lives as long as that and never
// changes.
type Secure struct {
	transport.TLSInfo
	Chain *Chain
	// Policy is what client certificates were checked against at the handshake:
	// names with another one are not to be served on this connection (421).
	Policy certs.PolicyID
	name   string   // that the chain was chosen by; "" also if what came cannot be a name
	alpn   []string // that the client offered, if chains ask for it
	port   uint16
	source netip.Addr
}

// Origin is who a connection to an endpoint is made for; s may be nil.
func (s *Secure) Origin(peer, dest netip.AddrPort) *proxyproto.Origin {
	o := &proxyproto.Origin{Peer: peer, Dest: dest}
	if s == nil {
		return o
	}
	o.Secure = &proxyproto.OriginTLS{
		Version: "TLSv" + VersionName(s.Version), Cipher: tls.CipherSuiteName(s.CipherSuite), ALPN: s.ALPN, ServerName: s.ServerName,
	}
	if len(s.PeerCertificates) > 0 {
		o.Secure.Certificate, o.Secure.CommonName = true, s.PeerCertificates[0].Subject.CommonName
	}
	return o
}

// ClientChain is what the client's certificate was verified by, that first, without
// the authority at the end, which who reads this must know by itself. What else the
// client has sent proves nothing and is left out. Nil: it has shown none.
func (s *Secure) ClientChain() []*x509.Certificate {
	switch {
	case len(s.PeerCertificates) == 0:
		return nil
	case len(s.VerifiedChains) == 0: // pins
		return s.PeerCertificates[:1]
	}
	chain := s.VerifiedChains[0]
	return chain[:max(1, len(chain)-1)]
}

// newLog is the connection as the access log tells of it. subject is made of what
// the client has shown, so it is bounded by the size of a handshake.
func (s *Secure) newLog(sni, ja4 string) *accesslog.TLS {
	l := &accesslog.TLS{
		Version: VersionName(s.Version), Cipher: tls.CipherSuiteName(s.CipherSuite), Group: GroupName(s.Curve), ServerName: sni,
		ALPN: s.ALPN, JA4: ja4, Chain: s.Chain.Name, Resumed: s.Resumed, Handshake: int64(s.Duration),
	}
	if len(s.PeerCertificates) > 0 {
		l.Subject = s.PeerCertificates[0].Subject.String()
	}
	return l
}
