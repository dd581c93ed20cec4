package clienthello

// Status is what Parse knows of the bytes.
type Status uint8

const (
	// NeedMore is the start of a hello: call again when more has come.
	NeedMore Status = iota
	// Done is a complete hello; only then are the fields of Hello valid.
	Done
	// NotTLS is another protocol; Hello.Plain says which.
	NotTLS
	// Malformed is TLS that no ClientHello can be; Hello.Reason says why.
	Malformed
	// TooBig is a hello that would pass Hello.MaxSize.
	TooBig
)

// String returns the status in the form of a statistic's name.
func (s Status) String() string {
	switch s {
	case NeedMore:
		return "need-more"
	case Done:
		return "done"
	case NotTLS:
		return "not-tls"
	case Malformed:
		return "malformed"
	case TooBig:
		return "too-big"
	}
	return "unknown"
}

// DefaultMaxSize is the limit of a Hello that sets none. One record has at most
// as many bytes (RFC 8446 section 5.1). A hello with X25519MLKEM768 has about
// 1.7 KiB, one with SecP384r1MLKEM1024 about 2.3 KiB, one that brings a client's
// many tickets a few more.
const DefaultMaxSize = 16 << 10

// NameState is what came of the server_name extension (RFC 6066 section 3).
type NameState uint8

const (
	// NameAbsent is a hello without a host name.
	NameAbsent NameState = iota
	// NameValid is a host name; it is in Hello.ServerName.
	NameValid
	// NameAddress is an IPv4 or IPv6 address, which "is not permitted": an
	// address says nothing that the connection does not. ServerName is empty.
	NameAddress
	// NameInvalid is what cannot be a DNS name in ASCII without trailing dot.
	// ServerName is empty. crypto/tls refuses only the dot, and an empty name.
	NameInvalid
)

// String returns the state in one word.
func (s NameState) String() string {
	switch s {
	case NameAbsent:
		return "absent"
	case NameValid:
		return "valid"
	case NameAddress:
		return "address"
	case NameInvalid:
		return "invalid"
	}
	return "unknown"
}

// Hello is a ClientHello. The zero value is ready for Parse; Reset makes it so
// again without giving up its memory. Slices are valid until Reset, and as long
// as the buffer given to the Parse that returned Done is left alone.
type Hello struct {
	// MaxSize bounds the bytes from the first record's header to the end of the
	// hello, record headers included; 0: DefaultMaxSize. A buffer of that size
	// always suffices. Reset keeps it.
	MaxSize int

	Plain  Plain  // with NotTLS
	Reason string // with Malformed: short and stable, for logs and statistics

	Version    uint16 // legacy_version; see MaxVersion
	Random     []byte // 32 bytes
	SessionID  []byte // at most 32 bytes; TLS 1.3 clients fill it for middleboxes
	Ciphers    List   // cipher suites, GREASE and SCSV included
	Versions   List   // supported_versions; empty before TLS 1.3
	Groups     List   // supported_groups
	SigAlgs    List   // signature_algorithms
	ALPN       Protocols
	Extensions Extensions // all, in the order of the wire

	ServerName []byte // host name in lower case, without trailing dot; see Name
	RawName    []byte // as it came, for a log: bytes of the client's choice
	Name       NameState

	Ticket    bool // session_ticket is there (RFC 5077)
	Resumes   bool // and has a ticket in it
	PSK       bool // pre_shared_key: a TLS 1.3 client resumes (RFC 8446 section 4.2.11)
	EarlyData bool // early_data: 0-RTT data follows (section 4.2.10)
	ECH       bool // encrypted_client_hello, real or GREASE (RFC 9849); ServerName is the outer one

	status Status
	scan   scan
	joined []byte    // message that came in several records
	lower  [253]byte // ServerName that came with capitals
}

// Reset readies h for the hello of another connection.
func (h *Hello) Reset() {
	joined, limit := h.joined[:0], h.MaxSize
	*h = Hello{MaxSize: limit, joined: joined}
}

func (h *Hello) maxSize() int {
	if h.MaxSize > 0 {
		return h.MaxSize
	}
	return DefaultMaxSize
}

func (h *Hello) fail(reason string) Status {
	h.Reason = reason
	return Malformed
}

// MaxVersion returns the highest version the client offers, GREASE left out:
// of supported_versions if it came, else the legacy version (RFC 8446 section
// 4.2.1).
func (h *Hello) MaxVersion() uint16 {
	if len(h.Versions) == 0 {
		return h.Version
	}
	var highest uint16
	for i := range h.Versions.Len() {
		if v := h.Versions.At(i); v > highest && !IsGREASE(v) {
			highest = v
		}
	}
	return highest
}

// IsGREASE reports whether v is one of the sixteen reserved values that clients
// sprinkle over their lists (RFC 8701 section 2).
func IsGREASE(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }
