package clienthello

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// MaxJA4 is the length of a JA4 fingerprint.
const MaxJA4 = 36

// AppendJA4 appends the JA4 fingerprint of h, which must be Done: FoxIO's TLS
// client fingerprint over TCP (technical_details/JA4.md of FoxIO-LLC/ja4, under
// the BSD licence, unlike the rest of JA4+). For example
//
//	t13d1516h2_8daaf6152771_e5627efa2ab1
//
// are TCP, the highest version, whether server_name came, the numbers of cipher
// suites and extensions, first and last character of the first ALPN name; a
// digest of the sorted suites; and one of the sorted extensions without
// server_name and ALPN, with the signature algorithms in the client's order.
// GREASE is left out of everything.
func (h *Hello) AppendJA4(b []byte) []byte {
	var suites, types, algorithms [64]uint16
	ciphers := appendPlain(suites[:0], h.Ciphers)
	slices.Sort(ciphers)
	extensions, count, named := types[:0], 0, byte('i')
	for t := range h.Extensions.All() {
		switch {
		case IsGREASE(t):
			continue
		case t == extServerName:
			named = 'd'
		case t != extALPN:
			extensions = append(extensions, t)
		}
		count++
	}
	slices.Sort(extensions)

	b = append(b, 't')
	b = append(b, versionMark(h.MaxVersion())...)
	b = append(b, named)
	b = appendCount(b, len(ciphers))
	b = appendCount(b, count)
	b = appendALPN(b, h.ALPN)
	b = append(b, '_')
	b = appendDigest(b, ciphers, nil)
	b = append(b, '_')
	return appendDigest(b, extensions, appendPlain(algorithms[:0], h.SigAlgs))
}

// appendPlain appends what is not GREASE.
func appendPlain(to []uint16, l List) []uint16 {
	for i := range l.Len() {
		if v := l.At(i); !IsGREASE(v) {
			to = append(to, v)
		}
	}
	return to
}

func versionMark(v uint16) string {
	switch v {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

func appendCount(b []byte, n int) []byte {
	n = min(n, 99)
	return append(b, '0'+byte(n/10), '0'+byte(n%10))
}

// appendALPN appends the two characters of the first name that is not GREASE:
// those of its hexadecimal form if one of its own is not a letter or digit.
func appendALPN(b []byte, names Protocols) []byte {
	const digits = "0123456789abcdef"
	for name := range names.All() {
		if len(name) == 2 && IsGREASE(uint16(name[0])<<8|uint16(name[1])) {
			continue
		}
		first, last := name[0], name[len(name)-1]
		if isAlphanumeric(first) && isAlphanumeric(last) {
			return append(b, first, last)
		}
		return append(b, digits[first>>4], digits[last&0xf])
	}
	return append(b, '0', '0')
}

func isAlphanumeric(c byte) bool { return c != '-' && c != '_' && nameClass[c] != 0 }

// appendDigest appends the first twelve digits of SHA-256 of both lists.
func appendDigest(b []byte, list, more []uint16) []byte {
	if len(list) == 0 {
		return append(b, "000000000000"...)
	}
	var space [1024]byte
	text := appendHex(space[:0], list)
	if len(more) > 0 {
		text = appendHex(append(text, '_'), more)
	}
	sum := sha256.Sum256(text)
	return hex.AppendEncode(b, sum[:6])
}

// appendHex appends the numbers in lower case with commas between them.
func appendHex(b []byte, list []uint16) []byte {
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = hex.AppendEncode(b, []byte{byte(v >> 8), byte(v)})
	}
	return b
}
