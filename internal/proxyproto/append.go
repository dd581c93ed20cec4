package proxyproto

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
)

// MaxV1 is the size of a buffer in which every header of version 1 has room.
const MaxV1 = maxV1

// ErrTooLong is a header of version 2 that its length field cannot hold, or one
// with a value that may not be so long.
var ErrTooLong = errors.New("PROXY header is too long")

// AppendV1 appends the line of version 1 for Source and Dest of h: UNKNOWN if
// one of them is missing or Transport is Datagram, which version 1 cannot say.
// If only one is an IPv4 address it is mapped into IPv6.
func AppendV1(b []byte, h *Header) []byte {
	source, dest, family := h.sameFamily()
	switch {
	case family == Unspec || h.Transport == Datagram:
		return append(b, "PROXY UNKNOWN\r\n"...)
	case family == IPv4:
		b = append(b, "PROXY TCP4 "...)
	default:
		b = append(b, "PROXY TCP6 "...)
	}
	b = append(source.AppendTo(b), ' ')
	b = append(dest.AppendTo(b), ' ')
	b = append(strconv.AppendUint(b, uint64(h.Source.Port()), 10), ' ')
	b = strconv.AppendUint(b, uint64(h.Dest.Port()), 10)
	return append(b, '\r', '\n')
}

// AppendV2 appends the header of version 2 for h. With Local it has neither
// addresses nor TLVs. Else Source and Dest are written if both are there, if
// not SourcePath and DestPath if one of them is not nil, if not UNSPEC; Family
// is not looked at, and Transport is Stream unless it is Datagram. The TLVs are
// those of the fields that are not nil, then Extra, then the checksum.
//
// On ErrTooLong b is returned as it was.
func AppendV2(b []byte, h *Header) ([]byte, error) {
	start := len(b)
	b = append(b, signature2...)
	b = append(b, 0x20|byte(h.Command), 0, 0, 0)
	if h.Command == Local {
		return b, nil
	}
	if len(h.UniqueID) > maxUniqueID || len(h.SourcePath) > pathSize || len(h.DestPath) > pathSize {
		return b[:start], ErrTooLong
	}
	var family Family
	b, family = h.appendAddresses(b)
	if family != Unspec {
		transport := Stream
		if h.Transport == Datagram {
			transport = Datagram
		}
		b[start+13] = byte(family)<<4 | byte(transport)
	}
	ok := true
	b = appendTLV(b, TypeALPN, h.ALPN, &ok)
	b = appendTLV(b, TypeAuthority, h.Authority, &ok)
	b = appendTLV(b, TypeUniqueID, h.UniqueID, &ok)
	b = h.SSL.append(b, &ok)
	b = appendTLV(b, TypeNetNS, h.NetNS, &ok)
	b = append(b, h.Extra...)
	if h.Checksum {
		b = append(b, byte(TypeCRC32C), 0, 4, 0, 0, 0, 0)
	}
	n := len(b) - start - fixedV2
	if !ok || n > 0xffff {
		return b[:start], ErrTooLong
	}
	binary.BigEndian.PutUint16(b[start+14:], uint16(n))
	if h.Checksum {
		binary.BigEndian.PutUint32(b[len(b)-4:], checksum(b[start:], len(b)-start-4))
	}
	return b, nil
}

// sameFamily returns Source and Dest in one family; Unspec if one is missing.
func (h *Header) sameFamily() (source, dest netip.Addr, family Family) {
	source, dest = h.Source.Addr().Unmap(), h.Dest.Addr().Unmap()
	switch {
	case !source.IsValid() || !dest.IsValid():
		return source, dest, Unspec
	case source.Is4() && dest.Is4():
		return source, dest, IPv4
	}
	return netip.AddrFrom16(source.As16()), netip.AddrFrom16(dest.As16()), IPv6 // without zones
}

func (h *Header) appendAddresses(b []byte) ([]byte, Family) {
	source, dest, family := h.sameFamily()
	switch family {
	case IPv4:
		s, d := source.As4(), dest.As4()
		b = append(append(b, s[:]...), d[:]...)
	case IPv6:
		s, d := source.As16(), dest.As16()
		b = append(append(b, s[:]...), d[:]...)
	default:
		if h.SourcePath == nil && h.DestPath == nil {
			return b, Unspec
		}
		return appendPath(appendPath(b, h.SourcePath), h.DestPath), Unix
	}
	b = binary.BigEndian.AppendUint16(b, h.Source.Port())
	return binary.BigEndian.AppendUint16(b, h.Dest.Port()), family
}

func appendPath(b, path []byte) []byte {
	var zero [pathSize]byte
	b = append(b, path...)
	return append(b, zero[len(path):]...)
}

// AppendTLV appends a TLV, for Header.Extra; the value must be shorter than 64 KiB.
func AppendTLV(b []byte, t Type, value []byte) ([]byte, error) {
	if len(value) > 0xffff {
		return b, ErrTooLong
	}
	b = append(b, byte(t), byte(len(value)>>8), byte(len(value)))
	return append(b, value...), nil
}

// appendTLV appends a TLV unless value is nil. One that is too long clears ok.
func appendTLV(b []byte, t Type, value []byte, ok *bool) []byte {
	if value == nil {
		return b
	}
	b, err := AppendTLV(b, t, value)
	if err != nil {
		*ok = false
	}
	return b
}

func (s *SSL) append(b []byte, ok *bool) []byte {
	if !s.Present {
		return b
	}
	start := len(b)
	b = append(b, byte(TypeSSL), 0, 0, byte(s.Client))
	b = binary.BigEndian.AppendUint32(b, s.Verify)
	b = appendTLV(b, subVersion, s.TLSVersion, ok)
	b = appendTLV(b, subCommonName, s.CommonName, ok)
	b = appendTLV(b, subCipher, s.Cipher, ok)
	b = appendTLV(b, subSigAlg, s.SigAlg, ok)
	b = appendTLV(b, subKeyAlg, s.KeyAlg, ok)
	b = appendTLV(b, subGroup, s.Group, ok)
	b = appendTLV(b, subSigScheme, s.SigScheme, ok)
	b = appendTLV(b, subClientCert, s.ClientCert, ok)
	n := len(b) - start - tlvHeader
	if n > 0xffff {
		*ok = false
		return b
	}
	binary.BigEndian.PutUint16(b[start+1:], uint16(n))
	return b
}
