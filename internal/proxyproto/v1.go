package proxyproto

import (
	"bytes"
	"net/netip"
)

// maxV1 is the longest line, with CRLF (section 2.1).
const maxV1 = 107

// parseV1 reads "PROXY TCP4 source dest sport dport\r\n" (section 2.1): single
// spaces, and no CR or LF but at the end.
func (h *Header) parseV1(b []byte) Status {
	limited := b[:min(len(b), maxV1)]
	for ; h.offset < len(limited); h.offset++ {
		switch c := limited[h.offset]; {
		case c == '\r':
			if h.offset+1 == len(limited) {
				if len(limited) == maxV1 {
					return h.fail("v1-too-long")
				}
				return NeedMore
			}
			if limited[h.offset+1] != '\n' {
				return h.fail("v1-bare-cr")
			}
			h.Size = h.offset + 2
			h.Version, h.Command = 1, Proxy
			return h.line(limited[len(signature1):h.offset])
		case c == '\n':
			return h.fail("v1-bare-lf")
		case c < ' ' || c > '~':
			return h.fail("v1-bad-byte")
		}
	}
	if len(limited) == maxV1 {
		return h.fail("v1-too-long")
	}
	return NeedMore
}

// line reads what is between "PROXY" and CRLF.
func (h *Header) line(b []byte) Status {
	if string(b) == " UNKNOWN" || bytes.HasPrefix(b, []byte(" UNKNOWN ")) {
		return Done // the receiver must ignore anything behind it
	}
	if !bytes.HasPrefix(b, []byte(" TCP")) || len(b) < 6 || b[5] != ' ' {
		return h.fail("v1-bad-family")
	}
	switch b[4] {
	case '4':
		h.Family = IPv4
	case '6':
		h.Family = IPv6
	default:
		return h.fail("v1-bad-family")
	}
	h.Transport = Stream
	b = b[6:]

	source, b, ok1 := bytes.Cut(b, []byte(" "))
	dest, b, ok2 := bytes.Cut(b, []byte(" "))
	sport, dport, ok3 := bytes.Cut(b, []byte(" "))
	if !ok1 || !ok2 || !ok3 {
		return h.fail("v1-missing-field")
	}
	from, ok1 := parseAddr(source, h.Family)
	to, ok2 := parseAddr(dest, h.Family)
	if !ok1 || !ok2 {
		return h.fail("v1-bad-address")
	}
	fromPort, ok1 := parsePort(sport)
	toPort, ok2 := parsePort(dport)
	if !ok1 || !ok2 {
		return h.fail("v1-bad-port")
	}
	h.Source, h.Dest = netip.AddrPortFrom(from, fromPort), netip.AddrPortFrom(to, toPort)
	return Done
}

// parsePort reads 0 to 65535 without leading zeros.
func parsePort(b []byte) (uint16, bool) {
	if len(b) == 0 || len(b) > 5 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return uint16(n), n <= 0xffff
}
