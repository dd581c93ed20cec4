package clienthello

import "iter"

// List is a list of 16-bit numbers as it stands in a hello.
type List []byte

// Len returns how many numbers there are.
func (l List) Len() int { return len(l) / 2 }

// At returns number i.
func (l List) At(i int) uint16 { return uint16(l[2*i])<<8 | uint16(l[2*i+1]) }

// Has reports whether v is in the list.
func (l List) Has(v uint16) bool {
	for i := range l.Len() {
		if l.At(i) == v {
			return true
		}
	}
	return false
}

// Protocols is the list of the ALPN extension (RFC 7301 section 3.1), in the
// client's order of preference.
type Protocols []byte

// All yields the names, of which none is empty.
func (p Protocols) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(p) > 0 {
			n := 1 + int(p[0])
			if !yield(p[1:n:n]) {
				return
			}
			p = p[n:]
		}
	}
}

// Has reports whether the client speaks name.
func (p Protocols) Has(name string) bool {
	for q := range p.All() {
		if string(q) == name {
			return true
		}
	}
	return false
}

// First returns the name the client likes best; nil if there is none.
func (p Protocols) First() []byte {
	for q := range p.All() {
		return q
	}
	return nil
}

// Extensions is the block of all extensions.
type Extensions []byte

// All yields type and data of each.
func (e Extensions) All() iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(e) > 0 {
			n := 4 + (int(e[2])<<8 | int(e[3]))
			if !yield(uint16(e[0])<<8|uint16(e[1]), e[4:n:n]) {
				return
			}
			e = e[n:]
		}
	}
}

// Get returns the data of an extension, and whether it is there.
func (e Extensions) Get(extension uint16) ([]byte, bool) {
	for t, data := range e.All() {
		if t == extension {
			return data, true
		}
	}
	return nil, false
}
