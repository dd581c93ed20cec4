package http1

import (
	"math"

	"belay/internal/header"
)

// bodyState is where a Body stands.
//
//	chunkSize → chunkDigits → extName … extQuoteEnd → chunkLF → chunkData → dataCR → dataLF → chunkSize
//	                   └──── no extension ──────────→    │ size 0
//	                                                     ▼
//	                                                  lastLine → lastLF → bodyDone
//	                                                     │ a name             ▲
//	                                                     └──→ inTrailer ──────┘
//
// Any other byte leads to bodyFailed, which is final as bodyDone is.
type bodyState uint8

const (
	bodyDone      bodyState = iota
	bodyFailed              // an error was reported
	bodyLength              // left counts down
	bodyClose               // until the connection ends
	chunkSize               // first digit of the size
	chunkDigits             // further digits
	extName                 // first byte of an extension's name
	extNameRest             // name
	extValue                // first byte of its value
	extToken                // value, as a token
	extQuoted               // value, in quotes
	extQuotedPair           // behind "\"
	extQuoteEnd             // behind the closing quote
	chunkLF                 // end of the size line
	chunkData               // left counts down
	dataCR                  // behind the data
	dataLF                  // and behind its CR
	lastLine                // behind the last chunk: empty line or a trailer
	lastLF                  // end of the empty line
	inTrailer               // trailer section
)

// maxDigits is how many digits a chunk size may have, zeros in front included.
const maxDigits = 16

// chunkFactor times its payload is what framing a chunk may have for nothing.
const chunkFactor = 4

// Body takes the framing off one body. The zero value is a body that has
// ended; Init begins another. It is a plain value, but must not be copied once
// Trailer was called.
type Body struct {
	o       *Options
	t       *trailer
	err     error
	left    int64 // payload to come in this chunk or, with bodyLength, in the message
	size    int64 // of this chunk
	excess  int64 // framing in excess of what payload allows
	line    int32 // bytes of this chunk's size line
	digits  uint8
	state   bodyState
	framing Framing
}

// Init begins a body with the framing and length of a parsed head. o is kept
// until the body ends.
func (b *Body) Init(f Framing, length int64, o *Options) {
	t := b.t
	if t != nil && !t.recycle() {
		t = nil
	}
	*b = Body{o: o, t: t, framing: f}
	switch f {
	case FrameLength:
		b.left = length
		if length > 0 {
			b.state = bodyLength
		}
	case FrameChunked:
		b.state = chunkSize
	case FrameClose:
		b.state = bodyClose
	}
}

// Done reports whether the body has ended.
func (b *Body) Done() bool { return b.state == bodyDone }

// EOF tells that the peer has closed. It returns nil if that is where the body
// ends, or it has ended before; else ErrTruncated, or what Decode said last.
func (b *Body) EOF() error {
	switch b.state {
	case bodyDone:
		return nil
	case bodyFailed:
		return b.err
	case bodyClose:
		b.state = bodyDone
		return nil
	}
	b.state, b.err = bodyFailed, ErrTruncated
	return b.err
}

// Trailer returns the trailer fields when the body has ended, nil if there are
// none. They are copies and valid until Init. Fields that must not be merged
// into a header or would reach past this hop were dropped (RFC 9110 section 6.5.1).
func (b *Body) Trailer() *header.Map {
	if b.t == nil || b.t.m.Len() == 0 {
		return nil
	}
	return &b.t.m
}

// Decode takes the next bytes of the connection. It moves the payload in them
// to p[:payload] and returns how many bytes of p belong to the body; what
// follows in p[consumed:] is not touched. Payload before an error is returned
// with it. An error is an *Error and final.
func (b *Body) Decode(p []byte) (payload, consumed int, err error) {
	switch b.state {
	case bodyDone:
		return 0, 0, nil
	case bodyFailed:
		return 0, 0, b.err
	case bodyClose:
		return len(p), len(p), nil
	case bodyLength:
		n := int(min(b.left, int64(len(p))))
		b.left -= int64(n)
		if b.left == 0 {
			b.state = bodyDone
		}
		return n, n, nil
	}
	return b.decodeChunked(p)
}

// decodeChunked is Decode for chunks (RFC 9112 section 7.1).
func (b *Body) decodeChunked(p []byte) (w, r int, err error) {
	for r < len(p) && b.state != bodyDone {
		switch b.state {
		case chunkData:
			n := int(min(b.left, int64(len(p)-r)))
			if w != r {
				copy(p[w:], p[r:r+n])
			}
			w, r = w+n, r+n
			if b.left -= int64(n); b.left == 0 {
				b.state = dataCR
			}
			continue
		case inTrailer:
			var n int
			n, err = b.decodeTrailer(p[r:])
			r += n
		default:
			c := p[r]
			if b.state == lastLine && c != '\r' {
				b.startTrailer()
				continue
			}
			r++
			if b.state < chunkLF {
				err = b.sizeLine(c)
			} else {
				err = b.lineEnd(c)
			}
		}
		if err != nil {
			b.state, b.err = bodyFailed, err
			return w, r, err
		}
	}
	return w, r, nil
}

// sizeLine takes one byte of a chunk's first line.
func (b *Body) sizeLine(c byte) error {
	if b.line++; int(b.line) > b.o.maxChunkLine() && c != '\r' {
		return errChunkLine
	}
	if c == '\n' {
		return errBareLF
	}
	switch b.state {
	case chunkSize, chunkDigits:
		if v := hexValue[c]; v != notHex {
			if b.digits == maxDigits || b.size > math.MaxInt64>>4 {
				return errChunkSize
			}
			b.digits++
			b.size = b.size<<4 | int64(v)
			b.state = chunkDigits
			return nil
		}
		if b.state == chunkSize {
			return errChunkSize
		}
		return b.nextExt(c, errChunkSize)
	case extName:
		if nameClass[c] == 0 {
			return errChunkExt
		}
		b.state = extNameRest
	case extNameRest:
		if nameClass[c] != 0 {
			return nil
		}
		if c == '=' {
			b.state = extValue
			return nil
		}
		return b.nextExt(c, errChunkExt)
	case extValue:
		if c == '"' {
			b.state = extQuoted
			return nil
		}
		if nameClass[c] == 0 {
			return errChunkExt
		}
		b.state = extToken
	case extToken:
		if nameClass[c] == 0 {
			return b.nextExt(c, errChunkExt)
		}
	default:
		return b.quoted(c)
	}
	return nil
}

// quoted takes one byte of a quoted-string (RFC 9110 section 5.6.4).
func (b *Body) quoted(c byte) error {
	switch {
	case b.state == extQuoteEnd:
		return b.nextExt(c, errChunkExt)
	case c < 0x20 && c != '\t' || c == 0x7f:
		return errChunkExt
	case b.state == extQuotedPair:
		b.state = extQuoted
	case c == '"':
		b.state = extQuoteEnd
	case c == '\\':
		b.state = extQuotedPair
	}
	return nil
}

// nextExt takes the byte behind a size or an extension.
func (b *Body) nextExt(c byte, bad error) error {
	switch c {
	case ';':
		b.state = extName
	case '\r':
		b.state = chunkLF
	default:
		return bad
	}
	return nil
}

// lineEnd takes one byte of the fixed ones between chunks.
func (b *Body) lineEnd(c byte) error {
	want := byte('\n')
	if b.state == dataCR || b.state == lastLine {
		want = '\r'
	}
	if c != want {
		if b.state == chunkLF || b.state == lastLF {
			return errBareCR
		}
		return errChunkEnd
	}
	switch b.state {
	case chunkLF:
		return b.beginData()
	case dataLF:
		b.state, b.line, b.digits, b.size = chunkSize, 0, 0, 0
	case lastLF:
		b.state = bodyDone
	default:
		b.state++ // from CR to LF
	}
	return nil
}

// beginData is called when the size line is complete.
func (b *Body) beginData() error {
	if b.size == 0 {
		b.state = lastLine
		return nil
	}
	// line has the CR; three bytes more are LF and the CRLF behind the data.
	b.excess += int64(b.line) + 3 - chunkFactor*min(b.size, 1<<32)
	limit := int64(b.o.MaxChunkOverhead)
	if limit == 0 {
		limit = defaultChunkOverhead
	}
	if b.excess < 0 {
		b.excess = 0
	} else if limit > 0 && b.excess > limit {
		return errChunkTiny
	}
	b.left = b.size
	b.state = chunkData
	return nil
}
