package config

import (
	"crypto/tls"
	"net/netip"
	"regexp"
	"time"
)

// ServerTLS is server.tls: what TLS has once in a process.
type ServerTLS struct {
	TicketSecret           Secret        // ticket keys are derived from it, the same on every machine; zero: random ones
	TicketRotation         time.Duration // a ticket key encrypts for so long; default 12h
	MaxHandshakes          int           // open at a time over all workers, of clients; one more sheds the oldest; default 10000
	MaxHandshakesPerSource int           // open at a time of one address; default 100; 0: no limit
	HandshakesPerTurn      int           // that one turn of a worker's loop moves on; default 1
	HelloBytes             int           // the largest ClientHello; default 16KiB
	ExpiryWarning          time.Duration // before a certificate expires; default 336h
}

// TLS is listener.NAME.tls, or the tls of one of its chains: how a client is
// answered.
type TLS struct {
	Certificates []Certificate
	MinVersion   uint16        // tls.VersionTLS12 (default) or tls.VersionTLS13
	MaxVersion   uint16        // default tls.VersionTLS13
	CipherSuites []uint16      // of TLS 1.2; nil: those of Go
	Curves       []tls.CurveID // nil: those of Go, post-quantum first
	ALPN         []string      // default: http/1.1 for HTTP, postgresql with starttls = "postgres", else none
	OCSPPolicy   string        // "lenient" (default), "strict", "must_staple"
	Client       ClientCertificate
	Tickets      bool // key session_tickets: sessions may be resumed; default true
}

// Certificate is one element of certificates. Either SelfSigned, or Cert and Key.
type Certificate struct {
	Cert, Key  Secret
	OCSP       Secret   // zero: none
	SelfSigned bool     // cert = "self-signed"
	Names      []string // of a self-signed one: DNS names and IP addresses; nil: localhost and its addresses
}

// Secret is where a key, a certificate or a list comes from: a file, or a credential
// of the service manager. The zero Secret is none.
type Secret struct {
	File       string
	Credential string // name in $CREDENTIALS_DIRECTORY
}

// String is the secret's place, as it was written.
func (s Secret) String() string {
	if s.Credential != "" {
		return credentialPrefix + s.Credential
	}
	return s.File
}

// ClientCertificate is tls.client_certificate.
type ClientCertificate struct {
	Mode           string // "none" (default), "request", "require"
	CA             Secret
	CRL            Secret
	CRLExpired     string // a list past its nextUpdate: "refuse" (default) all, or "accept" what it says
	SAN            []SANMatcher
	SPKI           [][32]byte // SHA-256 of SubjectPublicKeyInfo; one must match if there is one
	Certificate    [][32]byte // SHA-256 of the certificate
	Forward        string     // X-Forwarded-Client-Cert: "sanitize" (default), "forward_only", "append_forward", "sanitize_set", "always_forward_only"
	ForwardDetails []string   // of "cert", "chain", "subject", "uri", "dns"
	ClientCert     bool       // RFC 9440 Client-Cert and Client-Cert-Chain
}

// SANMatcher is one element of san: one of the subject alternative names of the
// type must match. Exactly one of the others is set.
type SANMatcher struct {
	Type                            string // "dns", "uri", "email", "ip"
	Exact, Prefix, Suffix, Contains string
	Regex                           *regexp.Regexp // anchored
}

// Chain is one element of listener.NAME.chain. A connection takes the chain whose
// conditions it meets; the most specific wins: destination port, then server name
// (exact, longest suffix, none), then ALPN, then source (longest prefix).
type Chain struct {
	Name        string
	ServerNames []string // lower case; exact or "*.suffix"; none: any, also without a name
	Sources     []netip.Prefix
	Ports       []uint16
	ALPN        []string
	TLS         *TLS   // nil: Passthrough
	Passthrough bool   // the bytes go to the cluster as they are; TCP listeners only
	Cluster     string // TCP listeners only; "": the listener's
}

// ClusterTLS is cluster.NAME.tls.
type ClusterTLS struct {
	Verify       bool         // default true
	CA           Secret       // zero: the system's roots
	SNI          string       // fixed name; "" if SNIFromHost, or none is sent
	SNIFromHost  bool         // the host of each request, or of the endpoint's address; the default
	SAN          []SANMatcher // instead of the server name
	SPKI         [][32]byte
	Certificate  [][32]byte
	Cert, Key    Secret // zero: no certificate is shown
	ALPN         []string
	MinVersion   uint16
	MaxVersion   uint16
	CipherSuites []uint16
	Curves       []tls.CurveID
	Sessions     int    // remembered per worker, one for each endpoint and server name; default 1024; 0: none
	StartTLS     string // "" (default) or "postgres": asked for before the handshake
}
