package proxyproto

import (
	"iter"
	"net/netip"
)

// Status is what Parse knows of the bytes.
type Status uint8

const (
	// NeedMore is the start of a header: call again when more has come.
	NeedMore Status = iota
	// Done is a complete header of Header.Size bytes; only then are the other
	// fields of Header valid.
	Done
	// NotProxy is something that has no header. Section 2: where one is
	// expected, the connection is to be dropped.
	NotProxy
	// Malformed is a header with a mistake; Header.Reason says which.
	Malformed
)

// String returns the status in the form of a statistic's name.
func (s Status) String() string {
	switch s {
	case NeedMore:
		return "need-more"
	case Done:
		return "done"
	case NotProxy:
		return "not-proxy"
	case Malformed:
		return "malformed"
	}
	return "unknown"
}

// Command is why the sender opened the connection (section 2.2).
type Command uint8

const (
	// Local is the sender's own, such as a health check: the addresses are those
	// of the socket.
	Local Command = iota
	// Proxy is on behalf of a client. Version 1 has nothing else.
	Proxy
)

// String returns the document's word.
func (c Command) String() string {
	switch c {
	case Local:
		return "LOCAL"
	case Proxy:
		return "PROXY"
	}
	return "unknown"
}

// Family is the kind of the addresses, with the numbers of section 2.2.
type Family uint8

const (
	// Unspec has no addresses, UNKNOWN in version 1: take those of the socket.
	Unspec Family = iota
	// IPv4 is AF_INET.
	IPv4
	// IPv6 is AF_INET6; an address may still be an IPv4 one, see Header.Source.
	IPv6
	// Unix is AF_UNIX.
	Unix
)

// String returns the family in one word.
func (f Family) String() string {
	switch f {
	case Unspec:
		return "unspec"
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	case Unix:
		return "unix"
	}
	return "unknown"
}

// Transport is the kind of the client's socket, with the numbers of section 2.2.
type Transport uint8

const (
	// NoTransport is UNSPEC.
	NoTransport Transport = iota
	// Stream is TCP, or a UNIX stream.
	Stream
	// Datagram is UDP, or UNIX datagrams.
	Datagram
)

// String returns the transport in one word.
func (t Transport) String() string {
	switch t {
	case NoTransport:
		return "unspec"
	case Stream:
		return "stream"
	case Datagram:
		return "datagram"
	}
	return "unknown"
}

// DefaultMaxSize is the limit of a Header that sets none. The largest usual
// header, with a client certificate of HAProxy 3.2, is well below it.
const DefaultMaxSize = 4096

// Header is one header. The zero value is ready for Parse; Reset makes it so
// again. Slices from Parse are valid as long as the buffer given to it is left
// alone; those given to the writers are only read.
type Header struct {
	// MaxSize bounds a header of version 2, in bytes; 0: DefaultMaxSize. Version
	// 1 has a bound of its own, 107. Reset keeps it.
	MaxSize int

	Size   int    // bytes of the header; what the connection carries comes behind
	Reason string // with Malformed: short and stable, for logs and statistics

	Version   int // 1 or 2
	Command   Command
	Family    Family // Unspec if the addresses are to be taken from the socket
	Transport Transport

	// Source is the client, Dest what it connected to, if Family is IPv4 or
	// IPv6. IPv4-mapped IPv6 addresses (RFC 4291 section 2.5.5.2), which a sender
	// with a dual-stack socket gives, have become IPv4 ones.
	Source, Dest netip.AddrPort
	// SourcePath and DestPath are the sockets if Family is Unix; an abstract one
	// begins with NUL, one without name is empty.
	SourcePath, DestPath []byte

	// The TLVs of version 2 with a meaning in section 2.2; nil if they did not
	// come. A sender can put anything into them.
	ALPN      []byte
	Authority []byte // host name, usually the SNI
	UniqueID  []byte // at most 128 bytes
	NetNS     []byte
	SSL       SSL
	Checksum  bool // CRC32C came and is right; for AppendV2: write it

	// Extra are further TLVs for AppendV2, one behind the other as AppendTLV
	// makes them. Parse leaves it alone; see TLVs.
	Extra []byte

	raw    []byte // all TLVs that came
	status Status
	offset int // of version 1: how far its line was searched
}

// SSL is the TLV PP2_TYPE_SSL (section 2.2.6): how the client's TLS connection
// to the sender is. Strings are nil if they did not come.
type SSL struct {
	Present    bool
	Client     ClientFlags
	Verify     uint32 // 0 if a certificate came and was verified
	TLSVersion []byte // "TLSv1.3"
	CommonName []byte // of the client's certificate
	Cipher     []byte
	SigAlg     []byte // of the sender's certificate
	KeyAlg     []byte // of the sender's certificate
	Group      []byte // HAProxy 3.2
	SigScheme  []byte // HAProxy 3.2
	ClientCert []byte // DER, HAProxy 3.2
}

// ClientFlags are the bits of the field client in section 2.2.6.
type ClientFlags uint8

const (
	// ClientSSL says that the client came over TLS.
	ClientSSL ClientFlags = 1 << iota
	// ClientCertConn says that it gave a certificate in this connection.
	ClientCertConn
	// ClientCertSession says that it gave one at least once in this TLS session.
	ClientCertSession
)

// Verified reports whether the client gave a certificate that the sender found
// good.
func (s *SSL) Verified() bool {
	return s.Present && s.Client&ClientSSL != 0 && s.Client&(ClientCertConn|ClientCertSession) != 0 && s.Verify == 0
}

// Reset readies h for the header of another connection.
func (h *Header) Reset() { *h = Header{MaxSize: h.MaxSize} }

func (h *Header) maxSize() int {
	if h.MaxSize > 0 {
		return h.MaxSize
	}
	return DefaultMaxSize
}

func (h *Header) fail(reason string) Status {
	h.Reason = reason
	return Malformed
}

// TLVs yields type and value of all TLVs that Parse met, in their order.
func (h *Header) TLVs() iter.Seq2[Type, []byte] {
	return func(yield func(Type, []byte) bool) {
		for b := h.raw; len(b) > 0; {
			t, value, rest, ok := cutTLV(b)
			if !ok || !yield(t, value) {
				return
			}
			b = rest
		}
	}
}
