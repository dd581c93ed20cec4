package accesslog

import (
	"net/netip"
	"time"
)

// Record is one exchange. Append keeps none of its slices.
type Record struct {
	Start             time.Time
	Duration          int64          // ns
	UpstreamConnect   int64          // ns from the start of the last try; -1: none
	UpstreamFirstByte int64          // ns from the start of the last try; -1: none
	Client            netip.AddrPort // zero: unknown, as on a Unix socket
	Peer              netip.AddrPort
	Listener          string
	Route             string
	Cluster           string
	Endpoint          string
	EndpointAddress   string
	Method            []byte
	Host              []byte
	Path              []byte // the target as received
	Protocol          []byte
	UserAgent         []byte
	Referer           []byte
	RequestID         []byte
	ForwardedFor      []byte
	Status            int
	BytesIn           int64
	BytesOut          int64
	Attempts          int
	Reason            string // why belay answered or broke off; "" for a reply passed on whole
	ConnID            uint64
	Reused            bool
	Persistence       string // what the client brought for its session and what became of that; "": no persistence
	Outcome           string // what was done about it
	TLS               *TLS   // of the client's connection; nil: plain
}

// TLS is what a connection's handshake has settled; of one that failed or passes
// through, what the ClientHello said. It is made once for a connection.
type TLS struct {
	Version    string // "1.3"
	Cipher     string // name in the registry of IANA
	Group      string // key exchange, name in the registry of IANA; "": none took place
	ServerName string // SNI, as the client sent it
	ALPN       string // that both agreed on
	Subject    string // of the client's certificate
	JA4        string
	Chain      string // filter chain
	Resumed    bool
	Handshake  int64 // ns; -1: not over
}
