package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
)

// Type is the type of a TLV (section 2.2).
type Type uint8

// The registered types; 0xE0 to 0xEF are for applications.
const (
	TypeALPN      Type = 0x01
	TypeAuthority Type = 0x02
	TypeCRC32C    Type = 0x03
	TypeNoop      Type = 0x04
	TypeUniqueID  Type = 0x05
	TypeSSL       Type = 0x20
	TypeNetNS     Type = 0x30

	TypeMinCustom Type = 0xe0
	TypeMaxCustom Type = 0xef
)

// Types within TypeSSL (section 2.2.6); the last three are HAProxy's since 3.2.
const (
	subVersion    Type = 0x21
	subCommonName Type = 0x22
	subCipher     Type = 0x23
	subSigAlg     Type = 0x24
	subKeyAlg     Type = 0x25
	subGroup      Type = 0x26
	subSigScheme  Type = 0x27
	subClientCert Type = 0x28
)

const (
	tlvHeader   = 3
	sslFixed    = 5   // client and verify
	maxUniqueID = 128 // section 2.2.5
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	zeros      = make([]byte, 4) // only read
)

// cutTLV splits b behind its first TLV.
func cutTLV(b []byte) (t Type, value, rest []byte, ok bool) {
	if len(b) < tlvHeader {
		return 0, nil, nil, false
	}
	n := tlvHeader + int(binary.BigEndian.Uint16(b[1:]))
	if len(b) < n {
		return 0, nil, nil, false
	}
	return Type(b[0]), b[tlvHeader:n:n], b[n:], true
}

// readTLVs reads the TLVs that begin at offset of header; "" or a Reason.
func (h *Header) readTLVs(header []byte, offset int) (reason string) {
	h.raw = header[offset:]
	for b := h.raw; len(b) > 0; {
		t, value, rest, ok := cutTLV(b)
		if !ok {
			return "v2-bad-tlv"
		}
		switch t {
		case TypeCRC32C:
			if len(value) != 4 {
				return "v2-bad-checksum"
			}
			if h.Checksum {
				return "v2-duplicate-tlv"
			}
			at := len(header) - len(rest) - 4
			if checksum(header, at) != binary.BigEndian.Uint32(value) {
				return "v2-bad-checksum"
			}
			h.Checksum = true
		case TypeSSL:
			if h.SSL.Present {
				return "v2-duplicate-tlv"
			}
			if reason := h.SSL.read(value); reason != "" {
				return reason
			}
		case TypeUniqueID:
			if len(value) > maxUniqueID {
				return "v2-unique-id-too-long"
			}
			fallthrough
		default:
			if field := h.field(t); !set(field, value) {
				return "v2-duplicate-tlv"
			}
		}
		b = rest
	}
	return ""
}

// field returns where the value of a TLV is kept as it is; nil if nowhere.
func (h *Header) field(t Type) *[]byte {
	switch t {
	case TypeALPN:
		return &h.ALPN
	case TypeAuthority:
		return &h.Authority
	case TypeUniqueID:
		return &h.UniqueID
	case TypeNetNS:
		return &h.NetNS
	}
	return nil
}

// set puts value, which is never nil, into a field that is still nil.
func set(field *[]byte, value []byte) bool {
	if field == nil {
		return true
	}
	if *field != nil {
		return false
	}
	*field = value
	return true
}

// checksum is CRC32C over header with zeros for the four bytes at offset at
// (section 2.2.3).
func checksum(header []byte, at int) uint32 {
	c := crc32.Update(0, castagnoli, header[:at])
	c = crc32.Update(c, castagnoli, zeros)
	return crc32.Update(c, castagnoli, header[at+4:])
}

// read takes the value of TypeSSL apart; "" or a Reason.
func (s *SSL) read(b []byte) (reason string) {
	if len(b) < sslFixed {
		return "v2-bad-ssl"
	}
	s.Present, s.Client, s.Verify = true, ClientFlags(b[0]), binary.BigEndian.Uint32(b[1:])
	for b = b[sslFixed:]; len(b) > 0; {
		t, value, rest, ok := cutTLV(b)
		if !ok {
			return "v2-bad-ssl"
		}
		if !set(s.field(t), value) {
			return "v2-duplicate-tlv"
		}
		b = rest
	}
	return ""
}

func (s *SSL) field(t Type) *[]byte {
	switch t {
	case subVersion:
		return &s.TLSVersion
	case subCommonName:
		return &s.CommonName
	case subCipher:
		return &s.Cipher
	case subSigAlg:
		return &s.SigAlg
	case subKeyAlg:
		return &s.KeyAlg
	case subGroup:
		return &s.Group
	case subSigScheme:
		return &s.SigScheme
	case subClientCert:
		return &s.ClientCert
	}
	return nil
}
