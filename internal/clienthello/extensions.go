package clienthello

// Extensions that are looked into; the registry is IANA's "TLS ExtensionType
// Values".
const (
	extServerName        = 0
	extSupportedGroups   = 10
	extSignatureAlgs     = 13
	extALPN              = 16
	extSessionTicket     = 35
	extPreSharedKey      = 41
	extEarlyData         = 42
	extSupportedVersions = 43
	extECH               = 0xfe0d
)

// maxExtensions bounds how many extensions a hello may have, so that looking
// for one that came twice stays cheap. Browsers send twenty.
const maxExtensions = 128

// seen are the types that have come, which must come once (RFC 8446 section 4.2).
type seen struct {
	low   uint64 // the types below 64, in which nearly all are
	high  [maxExtensions]uint16
	count int // of high
}

func (s *seen) twice(t uint16) bool {
	if t < 64 {
		before := s.low
		s.low |= 1 << t
		return before == s.low
	}
	for _, h := range s.high[:s.count] {
		if h == t {
			return true
		}
	}
	s.high[s.count] = t
	s.count++
	return false
}

// extensions reads the block; "" or a Reason.
func (h *Hello) extensions(block []byte) (reason string) {
	var came seen
	n := 0
	for b := block; len(b) > 0; n++ {
		if n == maxExtensions {
			return "too-many-extensions"
		}
		if len(b) < 4 {
			return "truncated"
		}
		t := uint16(b[0])<<8 | uint16(b[1])
		data, rest, ok := vector16(b[2:])
		if !ok {
			return "truncated"
		}
		if came.twice(t) {
			return "duplicate-extension"
		}
		if h.PSK {
			return "pre-shared-key-not-last" // RFC 8446 section 4.2.11
		}
		if reason := h.extension(t, data); reason != "" {
			return reason
		}
		b = rest
	}
	h.Extensions = block
	return ""
}

func (h *Hello) extension(t uint16, data []byte) (reason string) {
	var ok bool
	switch t {
	case extServerName:
		return h.serverName(data)
	case extALPN:
		return h.protocols(data)
	case extSupportedGroups:
		if h.Groups, ok = list16(data); !ok {
			return "bad-supported-groups"
		}
	case extSignatureAlgs:
		if h.SigAlgs, ok = list16(data); !ok {
			return "bad-signature-algorithms"
		}
	case extSupportedVersions:
		v, rest, ok := vector8(data)
		if !ok || len(rest) > 0 || len(v) == 0 || len(v)%2 != 0 {
			return "bad-supported-versions"
		}
		h.Versions = v
	case extSessionTicket:
		h.Ticket, h.Resumes = true, len(data) > 0
	case extPreSharedKey:
		h.PSK = true
	case extEarlyData:
		if h.EarlyData = true; len(data) > 0 {
			return "bad-early-data"
		}
	case extECH:
		h.ECH = true
	}
	return ""
}

// list16 returns a list with two bytes of length that fills data and is not empty.
func list16(data []byte) (List, bool) {
	v, rest, ok := vector16(data)
	return v, ok && len(rest) == 0 && len(v) > 0 && len(v)%2 == 0
}

// protocols reads the ALPN extension (RFC 7301 section 3.1).
func (h *Hello) protocols(data []byte) (reason string) {
	names, rest, ok := vector16(data)
	if !ok || len(rest) > 0 || len(names) == 0 {
		return "bad-alpn"
	}
	for b := names; len(b) > 0; {
		var name []byte
		if name, b, ok = vector8(b); !ok || len(name) == 0 {
			return "bad-alpn"
		}
	}
	h.ALPN = names
	return ""
}
