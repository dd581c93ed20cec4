package proxyproto

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

const (
	fixedV2  = 16  // signature, version and command, family and transport, length
	pathSize = 108 // of sun_path
)

// parseV2 reads the binary header (section 2.2):
//
//	signature  12 bytes
//	version 2 │ command           1 byte, 4 bits each
//	family    │ transport         1 byte, 4 bits each
//	length     2 bytes: of what follows
//	addresses  0, 12, 36 or 216 bytes by family; then TLVs
//
// The first two bytes behind the signature are looked at as they come.
func (h *Header) parseV2(b []byte) Status {
	if b[12]>>4 != 2 {
		return h.fail("v2-bad-version")
	}
	if b[12]&0xf > uint8(Proxy) {
		return h.fail("v2-bad-command")
	}
	proxied := b[12]&0xf == uint8(Proxy) // section 2.2: LOCAL has its family and its block discarded
	if proxied && len(b) > 13 && (b[13]>>4 > uint8(Unix) || b[13]&0xf > uint8(Datagram)) {
		return h.fail("v2-bad-family")
	}
	if len(b) < fixedV2 {
		return NeedMore
	}
	size := fixedV2 + int(binary.BigEndian.Uint16(b[14:]))
	if size > h.maxSize() {
		return h.fail("v2-too-long")
	}
	if len(b) < size {
		return NeedMore
	}
	h.Size, h.Version, h.Command = size, 2, Command(b[12]&0xf)
	if !proxied {
		return Done
	}
	tlvs, reason := h.addresses(Family(b[13]>>4), Transport(b[13]&0xf), b[fixedV2:size:size])
	if reason != "" {
		return h.fail(reason)
	}
	if reason := h.readTLVs(b[:size:size], size-len(tlvs)); reason != "" {
		return h.fail(reason)
	}
	return Done
}

// addresses reads the address block and returns what is behind it. If only one
// of family and transport is UNSPEC, which no sender has a reason for, the
// block is passed over, and taken for as long as the family says.
func (h *Header) addresses(family Family, transport Transport, b []byte) (tlvs []byte, reason string) {
	n := [...]int{Unspec: 0, IPv4: 12, IPv6: 36, Unix: 2 * pathSize}[family]
	if len(b) < n {
		return nil, "v2-short-addresses"
	}
	if family == Unspec || transport == NoTransport {
		return b[n:], ""
	}
	h.Family, h.Transport = family, transport
	switch family {
	case IPv4:
		source, dest := netip.AddrFrom4([4]byte(b)), netip.AddrFrom4([4]byte(b[4:]))
		h.ports(source, dest, b[8:])
	case IPv6:
		source, dest := netip.AddrFrom16([16]byte(b)), netip.AddrFrom16([16]byte(b[16:]))
		h.ports(source.Unmap(), dest.Unmap(), b[32:])
	case Unix:
		h.SourcePath, h.DestPath = path(b[:pathSize]), path(b[pathSize:2*pathSize])
	}
	return b[n:], ""
}

func (h *Header) ports(source, dest netip.Addr, b []byte) {
	h.Source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(b))
	h.Dest = netip.AddrPortFrom(dest, binary.BigEndian.Uint16(b[2:]))
}

// path cuts the padding off a sun_path. An abstract name begins with NUL and
// may have others, so that of those only the last are taken for padding (unix(7)).
func path(b []byte) []byte {
	if b[0] != 0 {
		if n := bytes.IndexByte(b, 0); n >= 0 {
			b = b[:n]
		}
		return b[:len(b):len(b)]
	}
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b[:len(b):len(b)]
}
