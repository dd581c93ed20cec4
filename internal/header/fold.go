package header

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"unsafe"
)

const (
	caseBits = 0x2020202020202020
	highBits = 0x8080808080808080
	ones     = 0x0101010101010101
)

// The seeds of the hash differ in every process, so that nobody can prepare
// names that all fall into one slot.
var seed = [3]uint64{rand.Uint64(), rand.Uint64(), rand.Uint64() | 1}

// view returns the bytes of s without copying; they must not be written.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func load64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
func load32(b []byte) uint64 { return uint64(binary.LittleEndian.Uint32(b)) }

// is2 reports whether b begins with the bytes x and y.
func is2(b []byte, x, y byte) bool {
	return binary.LittleEndian.Uint16(b) == uint16(x)|uint16(y)<<8
}

// ends returns the first and the last bytes of b, at most eight each; up to 16
// bytes they and the length are all there is to know.
func ends(b []byte) (a, z uint64) {
	if n := len(b); n >= 8 {
		return load64(b), load64(b[n-8:])
	}
	return shortEnds(b)
}

func shortEnds(b []byte) (a, z uint64) {
	n := len(b)
	switch {
	case n >= 4:
		return load32(b), load32(b[n-4:])
	case n > 0:
		return uint64(b[0]), uint64(b[n/2])<<8 | uint64(b[n-1])
	}
	return 0, 0
}

// letters returns the bit of case of those bytes of x that are letters.
func letters(x uint64) uint64 {
	// The sums carry into the top bit of a byte from 'a' on and from 'z'+1 on;
	// bytes above 0x7f are no letters.
	low := (x | caseBits) &^ highBits
	return (low + (0x80-'a')*ones) &^ (low + (0x80-'z'-1)*ones) &^ x & highBits >> 2
}

// sameWord reports whether the eight bytes of x and y, which are not the same,
// are equal but for the case of letters.
func sameWord(x, y uint64) bool {
	d := x ^ y
	return d&^caseBits == 0 && d&^letters(y) == 0
}

// sameShort reports whether a and b are equal, case and all, and of 8 to 16
// bytes: what is most often asked.
func sameShort(a, b []byte) bool {
	n := len(a)
	return n >= 8 && n <= 16 && n == len(b) && load64(a) == load64(b) && load64(a[n-8:]) == load64(b[n-8:])
}

// equalFold reports whether a and b are equal but for the case of ASCII letters.
// It begins at the end, because names often share how they begin.
func equalFold(a, b []byte) bool {
	n := len(a)
	if n != len(b) {
		return false
	}
	if n < 8 {
		a0, a1 := shortEnds(a)
		b0, b1 := shortEnds(b)
		return (a0 == b0 || sameWord(a0, b0)) && (a1 == b1 || sameWord(a1, b1))
	}
	if x, y := load64(a[n-8:]), load64(b[n-8:]); x != y && !sameWord(x, y) {
		return false
	}
	for len(a) > 8 && len(b) > 8 {
		if x, y := load64(a), load64(b); x != y && !sameWord(x, y) {
			return false
		}
		a, b = a[8:], b[8:]
	}
	return true
}

// hashEnds hashes a name of n bytes by its ends, regardless of case. Names
// that differ by more than case may be equal to it ("^" and "~").
func hashEnds(a, z uint64, n int) uint64 {
	hi, lo := bits.Mul64((a|caseBits)^seed[0], (z|caseBits)^seed[1]^uint64(n))
	return hi ^ lo
}

// hashAll completes a hash by hashEnds to one of all bytes of the name.
func hashAll(x uint64, name []byte) uint32 {
	for len(name) > 16 {
		hi, lo := bits.Mul64((load64(name)|caseBits)^x, (load64(name[8:])|caseBits)^seed[1])
		x = hi ^ lo
		name = name[16:]
	}
	return uint32(x * seed[2] >> 48)
}

// validValue reports whether v holds neither CR, LF nor NUL (RFC 9110 section 5.5).
func validValue(v []byte) bool {
	n := len(v)
	if n < 8 {
		return validBytes(v)
	}
	// A top bit is set where a byte is below 0x0e, and perhaps above such a
	// byte: worth a closer look, which TAB passes.
	low := (load64(v[n-8:]) - 0x0e*ones) &^ load64(v[n-8:])
	for w := v; len(w) > 8; w = w[8:] {
		x := load64(w)
		low |= (x - 0x0e*ones) &^ x
	}
	return low&highBits == 0 || validBytes(v)
}

func validBytes(v []byte) bool {
	for _, c := range v {
		if c == '\r' || c == '\n' || c == 0 {
			return false
		}
	}
	return true
}

// validName reports whether name is a token (RFC 9110 section 5.6.2).
func validName(name []byte) bool {
	n := len(name)
	if n < 8 {
		return validToken(name)
	}
	plain := plainWord(load64(name[n-8:]))
	for w := name; len(w) > 8; w = w[8:] {
		plain = plain && plainWord(load64(w))
	}
	return plain || validToken(name)
}

// plainWord reports whether the bytes of x are all letters, digits or "-", as
// in most names; other tokens need a look at each byte.
func plainWord(x uint64) bool {
	low := x &^ highBits
	digit := (low + (0x80-'0')*ones) &^ (low + (0x80-'9'-1)*ones)
	dash := (low + (0x80-'-')*ones) &^ (low + (0x80-'-'-1)*ones)
	return (letters(x)<<2|(digit|dash)&^x)&highBits == highBits
}

func validToken(name []byte) bool {
	for _, c := range name {
		if tokenBits[c>>6]>>(c&63)&1 == 0 {
			return false
		}
	}
	return len(name) > 0
}

// tokenBits has the bit of each byte set that may stand in a token.
var tokenBits = [4]uint64{
	1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.' | 0x3ff<<'0',
	0x3ffffff<<('A'-64) | 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | 0x3ffffff<<('a'-64) | 1<<('|'-64) | 1<<('~'-64),
}
