package http1

import (
	"math"

	"belay/internal/header"
)

// Framing is how the end of a body is found (RFC 9112 section 6.3).
type Framing uint8

const (
	// FrameNone is a message without a body.
	FrameNone Framing = iota
	// FrameLength is a body of Content-Length bytes, which may be 0.
	FrameLength
	// FrameChunked is a body in chunks.
	FrameChunked
	// FrameClose is a body that ends with the connection: responses only.
	FrameClose
)

// String returns the framing in one word.
func (f Framing) String() string {
	switch f {
	case FrameNone:
		return "none"
	case FrameLength:
		return "length"
	case FrameChunked:
		return "chunked"
	case FrameClose:
		return "close"
	}
	return "unknown"
}

// facts is what fields say about the message and its connection, in both directions.
type facts struct {
	length  int64 // valid if hasLength
	has     factSet
	rewrite bool // Content-Length must be written anew to say what was understood
}

type factSet uint8

const (
	hasLength factSet = 1 << iota
	hasChunked
	hasClose     // Connection: close
	hasKeepAlive // Connection: keep-alive
	hasUpgrade   // Connection: upgrade
	hasProtocol  // Upgrade, without h2c
	hasH2C       // Upgrade with h2c
	hasContinue  // Expect: 100-continue
)

// connection reads one Connection field (RFC 9110 section 7.6.1). A message in
// which it names what its framing or its destination rests on is refused.
func (f *facts) connection(v []byte) error {
	if isFold(v, "keep-alive") {
		f.has |= hasKeepAlive
		return nil
	}
	for more := true; more; {
		var e []byte
		e, v, more = cut(v)
		switch {
		case isFold(e, "keep-alive"):
			f.has |= hasKeepAlive
		case isFold(e, "close"):
			f.has |= hasClose
		case isFold(e, "upgrade"):
			f.has |= hasUpgrade
		default:
			switch header.Lookup(e) {
			case header.Host, header.ContentLength, header.TransferEncoding:
				return errNominated
			}
		}
	}
	return nil
}

// upgrade reads one Upgrade field (RFC 9110 section 7.8). h2c is out of use
// (RFC 9113 section 3.1) and a way around a proxy's rules.
func (f *facts) upgrade(v []byte) {
	for more := true; more; {
		var e []byte
		e, v, more = cut(v)
		switch {
		case isFold(e, "h2c"):
			f.has |= hasH2C
		case len(e) > 0:
			f.has |= hasProtocol
		}
	}
}

// upgrades reports whether the fields ask for, or grant, another protocol.
func (f *facts) upgrades() bool {
	return f.has&(hasUpgrade|hasProtocol|hasH2C) == hasUpgrade|hasProtocol
}

// contentLength reads one Content-Length field (RFC 9110 section 8.6).
func (f *facts) contentLength(v []byte, o *Options) error {
	if f.has&hasChunked != 0 {
		return errBothFramings
	}
	for more := true; more; {
		var e []byte
		e, v, more = cut(v)
		n, err := parseLength(e, o)
		if err != nil {
			return err
		}
		if more && !o.AllowEqualLengths {
			return errLengthTwice
		}
		if f.has&hasLength != 0 {
			if !o.AllowEqualLengths || n != f.length {
				return errLengthTwice
			}
			f.rewrite = true
		}
		if len(e) > 1 && e[0] == '0' {
			f.rewrite = true
		}
		f.length = n
		f.has |= hasLength
	}
	return nil
}

// parseLength reads 1*DIGIT up to 2^63-1.
func parseLength(v []byte, o *Options) (int64, error) {
	if len(v) == 0 || len(v) > 1 && v[0] == '0' && !o.AllowLeadingZeros {
		return 0, errLength
	}
	var n int64
	for _, c := range v {
		d := int64(c - '0')
		if c < '0' || c > '9' || n > (math.MaxInt64-d)/10 {
			return 0, errLength
		}
		n = n*10 + d
	}
	return n, nil
}

// transferEncoding reads a Transfer-Encoding field (RFC 9112 section 6.1). Only
// chunked alone is taken. What is well-formed but unknown is 501 in a request.
func (f *facts) transferEncoding(v []byte, minor int) error {
	switch {
	case minor == 0:
		return errCodingOld
	case f.has&hasChunked != 0:
		return errCodingTwice
	case f.has&hasLength != 0:
		return errBothFramings
	case isFold(v, "chunked"):
		f.has |= hasChunked
		return nil
	}
	for more := true; more; {
		var e []byte
		e, v, more = cut(v)
		if !isToken(e) || isFold(e, "identity") || isFold(e, "chunked") && more {
			return errCoding
		}
	}
	return errCodingOther
}

// keepAlive reports whether the connection can carry another message after
// this one (RFC 9112 section 9.3).
func (f *facts) keepAlive(minor int) bool {
	if minor == 0 {
		return f.has&(hasClose|hasKeepAlive) == hasKeepAlive
	}
	return f.has&hasClose == 0
}

// connectionTokens calls yield with each name in the Connection fields of m
// until it returns false. Elements that are no tokens name nothing.
func connectionTokens(m *header.Map, yield func([]byte) bool) {
	m.Values(header.Connection, func(v []byte) bool {
		for more := true; more; {
			var e []byte
			e, v, more = cut(v)
			if isToken(e) && !yield(e) {
				return false
			}
		}
		return true
	})
}
