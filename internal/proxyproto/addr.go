package proxyproto

import (
	"bytes"
	"net/netip"
)

// parseAddr reads an address of the family. It takes what netip.ParseAddr
// takes, without zones, but does not allocate.
func parseAddr(b []byte, family Family) (netip.Addr, bool) {
	if family == IPv4 {
		a, ok := parseIPv4(b)
		return netip.AddrFrom4(a), ok
	}
	a, ok := parseIPv6(b)
	return netip.AddrFrom16(a).Unmap(), ok
}

// parseIPv4 reads four decimal numbers without leading zeros.
func parseIPv4(b []byte) (a [4]byte, ok bool) {
	for i := range a {
		part, rest, more := bytes.Cut(b, []byte("."))
		if more != (i < 3) || len(part) > 3 {
			return a, false
		}
		n, ok := parsePort(part)
		if !ok || n > 0xff {
			return a, false
		}
		a[i] = byte(n)
		b = rest
	}
	return a, true
}

// parseIPv6 reads the forms of RFC 4291 section 2.2. The third one, with an
// IPv4 address at the end, is not in the document, but HAProxy writes mapped
// addresses so.
func parseIPv6(b []byte) (a [16]byte, ok bool) {
	i, gap := 0, -1
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap, b = 0, b[2:]
	}
	for len(b) > 0 {
		group, n := hexGroup(b)
		switch {
		case n == 0 || i > 14:
			return a, false
		case n < len(b) && b[n] == '.':
			v4, ok := parseIPv4(b)
			if !ok || i > 12 {
				return a, false
			}
			i += copy(a[i:], v4[:])
			return spread(a, i, gap)
		}
		a[i], a[i+1] = byte(group>>8), byte(group)
		i += 2
		if b = b[n:]; len(b) == 0 {
			break
		}
		if b[0] != ':' || len(b) == 1 {
			return a, false
		}
		if b = b[1:]; b[0] == ':' {
			if gap >= 0 {
				return a, false
			}
			gap, b = i, b[1:]
		}
	}
	return spread(a, i, gap)
}

// spread moves what stands behind "::" to the end; i bytes were read.
func spread(a [16]byte, i, gap int) ([16]byte, bool) {
	if gap < 0 || i == len(a) {
		return a, gap < 0 && i == len(a)
	}
	var moved [16]byte
	copy(moved[:], a[:gap])
	copy(moved[len(a)-(i-gap):], a[gap:i])
	return moved, true
}

// hexGroup reads up to four hexadecimal digits.
func hexGroup(b []byte) (v uint16, n int) {
	for ; n < len(b) && n < 4; n++ {
		c := b[n]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return v, n
		}
		v = v<<4 | uint16(c)
	}
	return v, n
}
