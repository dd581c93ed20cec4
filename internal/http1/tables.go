package http1

import (
	"encoding/binary"
	"math/bits"
)

// Bits of nameClass; 0 is a byte that cannot stand in a token.
const (
	classToken      = 1 << iota
	classUnderscore // "_", which is a token byte as well
)

// Bits of targetClass; 0 is a byte that cannot stand in a request target.
const (
	classTarget = 1 << iota
	classQuery
	classPercent
	classBackslash
)

const notHex = 0xff

// The tables have a class for each byte.
var (
	nameClass   = makeNameClass()
	targetClass = makeTargetClass()
	hostClass   = makeHostClass()
	hexValue    = makeHexValue()
)

// makeNameClass marks tchar of RFC 9110 section 5.6.2.
func makeNameClass() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] = classToken
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = classToken, classToken
	}
	for _, c := range "!#$%&'*+-.^`|~" {
		t[c] = classToken
	}
	t['_'] = classToken | classUnderscore
	return t
}

// makeTargetClass marks visible ASCII but "#". RFC 3986 has fewer characters;
// browsers send the others in paths and queries (URL Standard, section 1.3).
func makeTargetClass() (t [256]uint8) {
	for c := 0x21; c <= 0x7e; c++ {
		t[c] = classTarget
	}
	t['#'] = 0
	t['?'] |= classQuery
	t['%'] |= classPercent
	t['\\'] |= classBackslash
	return t
}

// makeHostClass marks what RFC 3986 section 2.3 calls unreserved: of the other
// characters a registered name could have, none is in use and some mislead
// (the list a,b).
func makeHostClass() (t [256]bool) {
	for c := range t {
		t[c] = nameClass[c] != 0
	}
	for _, c := range "!#$%&'*+^`|" {
		t[c] = false
	}
	return t
}

func makeHexValue() (t [256]uint8) {
	for c := range t {
		t[c] = notHex
	}
	for i, c := range "0123456789abcdef" {
		t[c] = uint8(i)
	}
	for i, c := range "ABCDEF" {
		t[c] = uint8(10 + i)
	}
	return t
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// skipText returns the index of the first byte of b from i on that may be a
// control character: isText tells. All others may stand in a value (RFC 9110
// section 5.5). len(b) is returned if there is none.
func skipText(b []byte, i int) int {
	for ; i >= 0 && i < len(b)-7; i += 8 { // in this form no bound is checked again
		x := binary.LittleEndian.Uint64(b[i : i+8])
		// The top bit is set in bytes below 0x20 and in those that are 0x7f; a
		// carry out of 0xff can set it in others, but never clears it.
		m := ((x - 0x20*lowBits) | (x + lowBits)) &^ x & highBits
		if m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for i < len(b) && isText(b[i]) {
		i++
	}
	return i
}

// isText reports whether c may stand in a value: TAB and what is no control character.
func isText(c byte) bool { return c >= 0x20 && c != 0x7f || c == '\t' }

// skipLetters returns the index of the first byte of b from i on that is
// neither an ASCII letter nor "-", or one in the last seven bytes of b.
func skipLetters(b []byte, i int) int {
	for ; i >= 0 && i < len(b)-7; i += 8 {
		x := binary.LittleEndian.Uint64(b[i : i+8])
		low := (x | 0x20*lowBits) &^ highBits
		letter := (low + (0x80-'a')*lowBits) &^ (low + (0x80-'z'-1)*lowBits)
		d := x ^ '-'*lowBits
		other := d&^highBits + 0x7f*lowBits // top bit unless zero
		if m := (^letter&other | x) & highBits; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	return i
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// trim cuts blanks, which are SP and TAB and nothing else, from both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isBlank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isToken(b []byte) bool {
	for _, c := range b {
		if nameClass[c] == 0 {
			return false
		}
	}
	return len(b) > 0
}

// isFold reports whether b is lower but for the case of letters. lower is of
// lower-case letters, digits and "-", and b has no control characters: no other
// byte can then become equal by the bit of case.
func isFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range b {
		if b[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}

// equalFold reports whether a and b are equal but for the case of ASCII letters.
func equalFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if d := b[i]; c != d && (c^d != 0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// cut returns the first element of a comma list and the rest; the last element
// is the one with more false.
func cut(list []byte) (elem, rest []byte, more bool) {
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:], true
		}
	}
	return trim(list), nil, false
}
