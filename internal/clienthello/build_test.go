package clienthello

import "encoding/binary"

// builder makes hellos that no client sends. The zero value is a small valid one.
type builder struct {
	version     uint16 // 0: TLS 1.2
	session     []byte
	ciphers     []byte // nil: two
	compression []byte // nil: null
	extensions  []byte
	noBlock     bool // no block of extensions at all
	tail        []byte
}

func (b builder) body() []byte {
	out := binary.BigEndian.AppendUint16(nil, max(b.version, 1))
	if b.version == 0 {
		out = []byte{3, 3}
	}
	out = append(out, "0123456789abcdef0123456789ABCDEF"...)
	out = append(append(out, byte(len(b.session))), b.session...)
	if b.ciphers == nil {
		b.ciphers = []byte{0x13, 0x01, 0xc0, 0x2f}
	}
	out = append(out, v16(b.ciphers)...)
	if b.compression == nil {
		b.compression = []byte{0}
	}
	out = append(append(out, byte(len(b.compression))), b.compression...)
	if !b.noBlock {
		out = append(out, v16(b.extensions)...)
	}
	return append(out, b.tail...)
}

func (b builder) bytes() []byte { return message(clientHello, b.body()) }

// message puts a body into one message, and that into as few records as hold it.
func message(kind byte, body []byte) []byte {
	m := append([]byte{kind, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	return cut(m, maxRecord)
}

func v8(b []byte) []byte  { return append([]byte{byte(len(b))}, b...) }
func v16(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }

// ext is an extension.
func ext(t uint16, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, t), v16(data)...)
}

// name is a server_name extension with one host name.
func name(host string) []byte {
	return ext(extServerName, v16(append([]byte{0}, v16([]byte(host))...)))
}

// numbers are 16-bit numbers one behind the other.
func numbers(list ...uint16) []byte {
	var b []byte
	for _, v := range list {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}
