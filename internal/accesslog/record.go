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
}
