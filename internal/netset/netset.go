// Package netset holds sets of IP prefixes.
package netset

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// Set is an immutable set of prefixes. A nil Set is empty.
type Set struct {
	table bart.Lite
	size  int
}

// New makes a set; without prefixes it returns nil.
func New(prefixes []netip.Prefix) *Set {
	if len(prefixes) == 0 {
		return nil
	}
	s := &Set{size: len(prefixes)}
	for _, p := range prefixes {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		s.table.Insert(p.Masked())
	}
	return s
}

// Contains reports whether a prefix of the set covers a; an IPv4 address mapped
// into IPv6 counts as IPv4. The zero Addr is in no set. It does not allocate.
func (s *Set) Contains(a netip.Addr) bool {
	return s != nil && a.IsValid() && s.table.Contains(a.Unmap().WithZone(""))
}

// Empty reports whether the set has no prefix.
func (s *Set) Empty() bool { return s == nil || s.size == 0 }
