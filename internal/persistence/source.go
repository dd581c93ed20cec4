package persistence

import "net/netip"

// AppendSource appends a client's address as tables have it: 4 and the four bytes of
// an IPv4 address, or 6 and the sixteen of an IPv6 address whose lower 64 bits are
// zero, since one host has as many addresses as it likes in its /64 (RFC 8981).
func AppendSource(dst []byte, a netip.Addr) []byte {
	switch {
	case !a.IsValid():
		return dst
	case a.Is4():
		b := a.As4()
		return append(append(dst, 4), b[:]...)
	}
	b := a.As16()
	clear(b[8:])
	return append(append(dst, 6), b[:]...)
}
