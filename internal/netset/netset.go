// Package netset holds sets of IP prefixes, for lists of addresses that are
// allowed, denied or trusted.
package netset

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// Set is a set of prefixes that does not change: any goroutine may use it. A nil
// Set is empty.
type Set struct {
	table bart.Lite
}

// New makes a set; of no prefixes it is nil. A prefix of IPv4 addresses mapped
// into IPv6 (RFC 4291 section 2.5.5.2) is one of IPv4 addresses. Bits beyond a
// prefix's length do not matter, invalid prefixes hold nothing.
func New(prefixes []netip.Prefix) *Set {
	s := &Set{}
	for _, p := range prefixes {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		if p.IsValid() {
			s.table.Insert(p.Masked())
		}
	}
	if s.table.Size() == 0 {
		return nil
	}
	return s
}

// Contains reports whether a prefix of the set covers a; a mapped IPv4 address
// counts as IPv4, a zone does not matter, the zero Addr is in no set. It does not
// allocate.
func (s *Set) Contains(a netip.Addr) bool {
	return s != nil && a.IsValid() && s.table.Contains(a.Unmap().WithZone(""))
}

// Empty reports whether the set has no prefix, so that it contains no address.
func (s *Set) Empty() bool { return s == nil }
