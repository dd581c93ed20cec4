package http1

import "belay/internal/header"

// Response is the head of a response. As for Request, the zero value is ready,
// and results are valid from Parse to Reset, as long as the buffer is left alone.
type Response struct {
	Header        header.Map // as received, except that Content-Length says what was understood
	Status        int        // 100 to 599
	Minor         int        // of the version: 0 or 1; higher ones are taken for 1
	Framing       Framing
	ContentLength int64 // value of the field, also where it does not frame (HEAD, 304); -1: there is none
	KeepAlive     bool  // the connection can carry another response after this one

	buf    []byte
	reason span
	fields fields
	facts  facts
	stage  uint8
}

// Reset readies r for the next head.
func (r *Response) Reset() {
	r.Header.Reset(nil)
	r.Status, r.Minor, r.Framing, r.ContentLength, r.KeepAlive = 0, 0, FrameNone, 0, false
	r.buf, r.reason, r.facts, r.stage = nil, span{}, facts{}, atStart
}

// Rebase tells that the bytes given to Parse now begin buf.
func (r *Response) Rebase(buf []byte) {
	r.buf = buf
	r.Header.Rebase(buf)
}

// Parse reads the head of a response to a request with reqMethod from buf, as
// Request.Parse does. Any *Error has status 502.
func (r *Response) Parse(buf []byte, reqMethod Method, o *Options) (n int, err error) {
	r.Rebase(buf)
	if r.stage < inFields {
		if err := r.parseLine(buf, o); err != nil {
			return 0, fromUpstream(err)
		}
	}
	for {
		h, err := r.fields.next(buf, &r.Header)
		if err != nil {
			return 0, fromUpstream(err)
		}
		if h-1 >= header.Expect { // also 0, and fieldEnd
			if h != fieldEnd {
				continue
			}
			break
		}
		if err := r.note(h, buf[r.fields.value:r.fields.end], o); err != nil {
			return 0, fromUpstream(err)
		}
	}
	if err := r.finish(reqMethod, o); err != nil {
		return 0, fromUpstream(err)
	}
	r.stage = ended
	return r.fields.pos, nil
}

// statusLen is the length of "HTTP/1.1 200 ".
const statusLen = 13

// parseLine reads the status line (RFC 9112 section 4), as far as it is there.
func (r *Response) parseLine(buf []byte, o *Options) error {
	b := buf[:min(len(buf), o.maxLine())]
	i := r.fields.pos
	if r.stage == atStart {
		r.Header.SetLimits(o.Header)
		r.ContentLength = -1
		r.stage = inVersion
		i = 0
	}
	if r.stage == inVersion {
		for ; i < statusLen; i++ {
			if i == len(b) {
				return r.more(b, i, o)
			}
			if !statusByte(i, b[i]) {
				return errStatusLine
			}
		}
		r.Minor = min(int(b[7]-'0'), 1)
		r.Status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
		r.reason.off = i
		r.stage = inStatus
	}
	i = skipText(b, i)
	for i < len(b) && isText(b[i]) {
		i = skipText(b, i+1)
	}
	switch {
	case i == len(b), b[i] == '\r' && i+1 == len(b):
		return r.more(b, i, o)
	case b[i] == '\n':
		return errBareLF
	case b[i] != '\r':
		return errStatusLine
	case b[i+1] != '\n':
		return errBareCR
	}
	r.reason.end = i
	r.stage = inFields
	r.fields.begin(i+2, o.Header)
	r.fields.rule = UnderscoreAllow
	return nil
}

// more keeps the position until there are more bytes, unless there cannot be.
func (r *Response) more(b []byte, i int, o *Options) error {
	r.fields.pos = i
	if len(b) >= o.maxLine() {
		return errLineLong
	}
	return ErrNeedMore
}

// statusByte reports whether c can be byte i of a status line.
func statusByte(i int, c byte) bool {
	const line = "HTTP/1.0 100 "
	switch i {
	case 7, 10, 11:
		return c >= '0' && c <= '9'
	case 9:
		return c >= '1' && c <= '5' // RFC 9110 section 15
	}
	return c == line[i]
}

// note acts upon a field whose line is complete.
func (r *Response) note(h header.Handle, v []byte, o *Options) error {
	switch h {
	case header.Connection:
		return r.facts.connection(v)
	case header.ContentLength:
		return r.facts.contentLength(v, o)
	case header.TransferEncoding:
		return r.facts.transferEncoding(v, r.Minor)
	case header.Upgrade:
		r.facts.upgrade(v)
	}
	return nil
}

// finish says what the head means as a whole (RFC 9112 section 6.3).
func (r *Response) finish(reqMethod Method, o *Options) error {
	f := &r.facts
	bodiless := r.Status < 200 || r.Status == 204
	if bodiless && f.has&(hasLength|hasChunked) != 0 {
		if !o.AllowZeroLength || f.has&hasChunked != 0 || f.length != 0 {
			return errBodiless
		}
		f.has &^= hasLength
		r.Header.Remove(header.ContentLength)
	}
	if f.has&hasLength != 0 {
		r.ContentLength = f.length
		if f.rewrite {
			r.Header.SetInt(header.ContentLength, f.length)
		}
	}
	switch {
	case bodiless, r.Status == 304, reqMethod == HEAD:
		r.Framing = FrameNone
	case f.has&hasChunked != 0:
		r.Framing = FrameChunked
	case f.has&hasLength != 0:
		r.Framing = FrameLength
	default:
		r.Framing = FrameClose
	}
	r.KeepAlive = r.Framing != FrameClose && f.keepAlive(r.Minor)
	return nil
}

// Reason returns the reason phrase as received, which may be empty.
func (r *Response) Reason() []byte { return r.reason.of(r.buf) }

// Interim reports whether another response to the same request follows: 1xx but 101.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// Upgrade reports whether the connection speaks another protocol from here on:
// 101 with Upgrade and the token in Connection (RFC 9110 section 7.8).
func (r *Response) Upgrade() bool { return r.Status == 101 && r.Minor > 0 && r.facts.upgrades() }

// ConnectionTokens calls yield with each token of the Connection fields, as
// Request.ConnectionTokens does.
func (r *Response) ConnectionTokens(yield func([]byte) bool) { connectionTokens(&r.Header, yield) }
