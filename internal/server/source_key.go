package server

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"belay/internal/admin"
	"belay/internal/persistence"
)

// sourceBits is how much of an IPv6 address makes the key of a source.
const sourceBits = 64

// keyText shows a key: that of a source as an address, or as the network that IPv6
// clients are told apart by; else what is not visible ASCII, and \, as \xNN.
// tableKey reads it back.
func keyText(key []byte, sources bool) string {
	if a, ok := sourceOf(key); ok && sources {
		if a.Is4() {
			return a.String()
		}
		return netip.PrefixFrom(a, sourceBits).String()
	}
	var b strings.Builder
	for i, c := range key {
		if c <= ' ' || c >= 0x7f || c == '\\' || i == 0 && sources && isSource(string(key)) {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// sourceOf is the address in a key that persistence.AppendSource made.
func sourceOf(key []byte) (netip.Addr, bool) {
	if len(key) == 0 {
		return netip.Addr{}, false
	}
	a, ok := netip.AddrFromSlice(key[1:])
	return a, ok && string(persistence.AppendSource(nil, a)) == string(key)
}

// parseSource reads an address, or the network of an IPv6 client.
func parseSource(text string) (netip.Addr, bool) {
	if p, err := netip.ParsePrefix(text); err == nil && p.Bits() == sourceBits && !p.Addr().Is4() {
		return p.Addr(), true
	}
	a, err := netip.ParseAddr(text)
	return a.Unmap(), err == nil
}

func isSource(text string) bool {
	_, ok := parseSource(text)
	return ok
}

// tableKey reads what keyText shows. Where keys may be addresses, what looks like one
// is one.
func (s *Server) tableKey(table, text string) ([]byte, error) {
	if a, ok := parseSource(text); ok && s.bySource(table) {
		return persistence.AppendSource(nil, a), nil
	}
	var key []byte
	for rest := text; rest != ""; {
		if rest[0] != '\\' {
			key, rest = append(key, rest[0]), rest[1:]
			continue
		}
		if len(rest) < 4 || rest[1] != 'x' {
			return nil, admin.InvalidError(fmt.Sprintf(`key %q: a \ is written \x5c, and begins \xNN`, text))
		}
		c, err := strconv.ParseUint(rest[2:4], 16, 8)
		if err != nil {
			return nil, admin.InvalidError(fmt.Sprintf(`key %q: %s is not \xNN`, text, rest[:4]))
		}
		key, rest = append(key, byte(c)), rest[4:]
	}
	return persistence.FoldKey(key), nil
}
