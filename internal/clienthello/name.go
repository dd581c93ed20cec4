package clienthello

import (
	"bytes"
	"net/netip"
)

const nameTypeHost = 0

// serverName reads the server_name extension (RFC 6066 section 3). Names of
// other types, of which none was ever registered, are passed over.
func (h *Hello) serverName(data []byte) (reason string) {
	names, rest, ok := vector16(data)
	if !ok || len(rest) > 0 || len(names) == 0 {
		return "bad-server-name"
	}
	for len(names) > 0 {
		kind := names[0]
		var name []byte
		if name, names, ok = vector16(names[1:]); !ok || len(name) == 0 {
			return "bad-server-name"
		}
		if kind != nameTypeHost {
			continue
		}
		if h.Name != NameAbsent {
			return "bad-server-name" // more than one of a type
		}
		h.RawName = name
		h.ServerName, h.Name = h.hostName(name)
	}
	return ""
}

// Bits of what a byte is in a host name; 0 is a byte that cannot be there.
const (
	className  = 1 << iota // letter, digit, "-", and "_" which some names have
	classUpper             // as well
	classDigit             // as well
)

var nameClass = makeNameClass()

func makeNameClass() (t [256]uint8) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = className, className|classUpper
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = className | classDigit
	}
	t['-'], t['_'] = className, className
	return t
}

const (
	maxName  = 253 // RFC 1035 section 2.3.4, without length bytes and root
	maxLabel = 63
)

// hostName checks the name and returns it in lower case.
func (h *Hello) hostName(name []byte) ([]byte, NameState) {
	if len(name) > maxName {
		return nil, NameInvalid
	}
	var all, last uint8
	last = 0xff // what all bytes of the last label are
	label := 0
	for _, c := range name {
		if c == '.' {
			if label == 0 {
				return nil, NameInvalid
			}
			label, last = 0, 0xff
			continue
		}
		class := nameClass[c]
		if class == 0 {
			return nil, notHost(name)
		}
		if label++; label > maxLabel {
			return nil, NameInvalid
		}
		all |= class
		last &= class
	}
	switch {
	case label == 0: // a dot at the end
		return nil, NameInvalid
	case last&classDigit != 0: // no top-level domain is a number (RFC 3696 section 2)
		return nil, notHost(name)
	case all&classUpper == 0:
		return name, NameValid
	}
	for i, c := range name {
		if nameClass[c]&classUpper != 0 {
			c |= 0x20
		}
		h.lower[i] = c
	}
	return h.lower[:len(name)], NameValid
}

// notHost tells an address from other names that cannot be.
func notHost(name []byte) NameState {
	text := bytes.TrimSuffix(bytes.TrimPrefix(name, []byte("[")), []byte("]"))
	if len(text) > 64 {
		return NameInvalid
	}
	if _, err := netip.ParseAddr(string(text)); err != nil {
		return NameInvalid
	}
	return NameAddress
}
