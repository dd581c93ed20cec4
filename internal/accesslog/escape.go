package accesslog

import "unicode/utf8"

// plain are the bytes that need no escape in either form: printable ASCII but
// the quote and the backslash.
var plain = func() (t [256]bool) {
	for b := ' '; b < 0x7f; b++ {
		t[b] = b != '"' && b != '\\'
	}
	return t
}()

const hex = "0123456789abcdef"

// appendEscaped appends s for use between quotes: of JSON (RFC 8259 section 7)
// or of a format.
func appendEscaped[T string | []byte](dst []byte, s T, json bool) []byte {
	start := 0
	for i := 0; i < len(s); {
		if i+8 <= len(s) && allPlain(word(s, i)) {
			i += 8
			continue
		}
		if plain[s[i]] {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		n := 1
		if s[i] < utf8.RuneSelf {
			dst = appendASCII(dst, s[i], json)
		} else {
			var first [utf8.UTFMax]byte
			dst, n = appendRune(dst, first[:copy(first[:], s[i:])], json)
		}
		i += n
		start = i
	}
	return append(dst, s[start:]...)
}

// word is the eight bytes from i on; the compiler makes one load of it.
func word[T string | []byte](s T, i int) uint64 {
	_ = s[i+7]
	return uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
		uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
}

// allPlain reports whether all bytes of x are plain. A bit 7 is set in what a
// byte below the subtrahend leaves; borrows go only upwards of such a byte, so
// they cannot make a bad word look good.
func allPlain(x uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, backslash := x^('"'*ones), x^('\\'*ones)
	bad := x | (x + ones) | (x - ' '*ones) | (quote - ones) | (backslash - ones)
	return bad&high == 0
}

// appendASCII escapes a quote, a backslash or a control character.
func appendASCII(dst []byte, c byte, json bool) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c == '\n':
		return append(dst, '\\', 'n')
	case c == '\r':
		return append(dst, '\\', 'r')
	case c == '\t':
		return append(dst, '\\', 't')
	case json:
		return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	}
	return append(dst, '\\', 'x', hex[c>>4], hex[c&15])
}

// appendRune appends what p begins with, a byte from 0x80 on, and tells how many
// bytes that took. C1 controls are escaped because terminals obey them, and
// U+2028 and U+2029 because some readers take them for line ends.
func appendRune(dst, p []byte, json bool) ([]byte, int) {
	r, n := utf8.DecodeRune(p)
	invalid := r == utf8.RuneError && n == 1
	if !invalid && r > 0x9f && r != 0x2028 && r != 0x2029 {
		return append(dst, p[:n]...), n
	}
	if json {
		return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15]), n
	}
	for _, c := range p[:n] {
		dst = append(dst, '\\', 'x', hex[c>>4], hex[c&15])
	}
	return dst, n
}
