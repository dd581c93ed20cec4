package http1

import (
	"encoding/binary"

	"belay/internal/header"
)

// stages of a head, in the order of the wire.
const (
	atStart   = iota
	inLeading // behind the CR of an empty line before the request line
	inMethod
	inTarget
	inVersion
	inStatus // of a response: behind the status code
	inFields
	ended
)

// maxMethod bounds the method, in bytes; the longest registered one has 17.
const maxMethod = 64

// maxVersion bounds what is read to tell a malformed version from one that is not supported.
const maxVersion = 32

// span is a part of the buffer, in which it stays while the buffer moves.
type span struct{ off, end int }

// of returns the part; nil if the head was refused before its end was seen.
func (s span) of(b []byte) []byte {
	if s.end <= s.off {
		return nil
	}
	return b[s.off:s.end:s.end]
}

// Request is the head of a request. The zero value is ready for Parse; Reset
// makes it so again without giving up its memory. Fields and the results of
// methods are valid when Parse has returned without error, until Reset, and
// slices as long as the buffer given to Parse or Rebase is left alone. After an
// error the method and the target are there, for a log, as far as they were read.
type Request struct {
	Header        header.Map // as received, except that Host and Content-Length say what was understood
	Method        Method
	Minor         int // of the version: 0 or 1; higher ones are taken for 1 (RFC 9110 section 2.5)
	Framing       Framing
	ContentLength int64 // of FrameLength; else -1
	KeepAlive     bool  // the client's part; the proxy may still close
	Expect100     bool  // a body comes when 100 (Continue) was sent
	Upgrade       bool  // GET that asks for another protocol than h2c and has no body

	buf      []byte
	fallback []byte // Options.DefaultHost, in Header
	built    []byte // target that is not in buf
	method   span
	raw      span // target as received
	target   span // origin-form, if built is empty
	host     span // authority of an absolute-form target until Host was seen, then the one that rules
	query    int  // offset of "?"; 0: there is none
	fields   fields
	facts    facts
	stage    uint8
	class    uint8 // bits of targetClass seen in the target
	absolute bool
	hostSeen bool
}

// Reset readies r for the next head.
func (r *Request) Reset() {
	r.Header.Reset(nil)
	r.Method, r.Minor, r.Framing, r.ContentLength = Other, 0, FrameNone, 0
	r.KeepAlive, r.Expect100, r.Upgrade = false, false, false
	r.buf, r.fallback, r.built = nil, nil, r.built[:0]
	r.method, r.raw, r.target, r.host, r.query = span{}, span{}, span{}, span{}, 0
	r.facts = facts{}
	r.stage, r.class, r.absolute, r.hostSeen = atStart, 0, false, false
}

// Rebase tells that the bytes given to Parse now begin buf.
func (r *Request) Rebase(buf []byte) {
	r.buf = buf
	r.Header.Rebase(buf)
}

// Parse reads a head from buf. On ErrNeedMore it is called again with the same
// bytes and more behind them; the buffer may have moved meanwhile. It returns
// how many bytes the head has, with an empty line in front of it, which a
// client may have sent (RFC 9112 section 2.2). An *Error is final: it comes as
// soon as the byte is there that cannot be part of a message, a line is
// complete that must not be in it, or a limit is passed.
func (r *Request) Parse(buf []byte, o *Options) (n int, err error) {
	r.Rebase(buf)
	if r.stage < inFields {
		if err := r.parseLine(buf, o); err != nil {
			return 0, err
		}
	}
	for {
		h, err := r.fields.next(buf, &r.Header)
		if err != nil {
			return 0, err
		}
		if h-1 >= header.Expect { // also 0, and fieldEnd
			if h != fieldEnd {
				continue
			}
			break
		}
		if err := r.note(h, buf[r.fields.value:r.fields.end], o); err != nil {
			return 0, err
		}
	}
	if err := r.finish(o); err != nil {
		return 0, err
	}
	r.stage = ended
	return r.fields.pos, nil
}

// parseLine reads the request line, as far as it is there.
func (r *Request) parseLine(b []byte, o *Options) error {
	if r.stage <= inLeading {
		if err := r.leading(b, o); err != nil {
			return err
		}
	}
	if r.stage == inMethod {
		if err := r.parseMethod(b); err != nil {
			return err
		}
	}
	if r.stage == inTarget {
		if err := r.parseTarget(b, o); err != nil {
			return err
		}
	}
	if err := r.parseVersion(b); err != nil {
		return err
	}
	if err := r.reduce(b, o); err != nil {
		return err
	}
	r.stage = inFields
	r.fields.begin(r.fields.pos, o.Header)
	r.fields.rule = o.Underscores
	return nil
}

// leading skips one empty line (RFC 9112 section 2.2).
func (r *Request) leading(b []byte, o *Options) error {
	if len(b) == 0 {
		return ErrNeedMore
	}
	pos := 0
	if r.stage == inLeading || b[0] == '\r' {
		r.stage = inLeading
		if len(b) < 2 {
			return ErrNeedMore
		}
		if b[1] != '\n' {
			return errBareCR
		}
		if pos = 2; len(b) == 2 {
			return ErrNeedMore
		}
	}
	if nameClass[b[pos]] == 0 {
		switch b[pos] {
		case '\n':
			return errBareLF
		case '\r':
			return errLeading
		case 0x16: // content type of a handshake record, RFC 8446 section 5.1
			return errTLS
		}
		return errMethod
	}
	r.ContentLength = -1
	r.Header.SetLimits(o.Header)
	r.method.off, r.fields.pos = pos, pos
	r.stage = inMethod
	return nil
}

func (r *Request) parseMethod(b []byte) error {
	i := r.fields.pos
	if w := b[i:]; len(w) >= 4 && string(w[:4]) == "GET " && i == r.method.off {
		i += 3
	}
	for i < len(b) && nameClass[b[i]] != 0 {
		i++
	}
	r.fields.pos = i
	if i-r.method.off > maxMethod {
		return errMethodLong
	}
	if i == len(b) {
		return ErrNeedMore
	}
	if b[i] != ' ' {
		return badByte(b[i], errMethod)
	}
	r.method.end = i
	r.Method = methodOf(r.method.of(b))
	r.raw.off, r.fields.pos = i+1, i+1
	r.stage = inTarget
	return nil
}

// badByte is err unless c says more.
func badByte(c byte, err error) error {
	if c == '\n' {
		return errBareLF
	}
	return err
}

// parseTarget reads up to the blank behind the target.
func (r *Request) parseTarget(b []byte, o *Options) error {
	i, class := r.fields.pos, r.class
	for ; i < len(b); i++ {
		c := targetClass[b[i]]
		if c == 0 {
			break
		}
		class |= c
	}
	r.fields.pos, r.class = i, class
	if i-r.raw.off > o.maxLine() {
		return errTooLong
	}
	if i == len(b) {
		return ErrNeedMore
	}
	if c := b[i]; c != ' ' || i == r.raw.off {
		if c == '\r' {
			return errNoVersion
		}
		return badByte(c, errTarget)
	}
	r.raw.end = i
	r.fields.pos = i + 1
	r.stage = inVersion
	return nil
}

const version11 = 'H' | 'T'<<8 | 'T'<<16 | 'P'<<24 | '/'<<32 | '1'<<40 | '.'<<48 | '1'<<56

// parseVersion reads the version and the end of the line; pos is then behind it.
func (r *Request) parseVersion(b []byte) error {
	v := b[r.fields.pos:]
	if len(v) >= 10 && binary.LittleEndian.Uint64(v) == version11 && v[8] == '\r' && v[9] == '\n' {
		r.Minor = 1
		r.fields.pos += 10
		return nil
	}
	const name = "HTTP/"
	i, dot := 0, 0
	for ; i < len(v) && v[i] != '\r'; i++ {
		switch c := v[i]; {
		case i < len(name):
			if c != name[i] {
				return badByte(c, errVersion)
			}
		case c == '.' && dot == 0 && i > len(name):
			dot = i
		case c < '0' || c > '9' || i >= maxVersion:
			return badByte(c, errVersion)
		}
	}
	if i == len(v) {
		return ErrNeedMore
	}
	if dot == 0 || i == dot+1 {
		return errVersion
	}
	if i+1 == len(v) {
		return ErrNeedMore
	}
	if v[i+1] != '\n' {
		return errBareCR
	}
	major, minor := v[len(name):dot], v[dot+1:i]
	switch {
	case major[0] == '0' || minor[0] == '0' && len(minor) > 1:
		return errVersion // leading zeros; and before 1.0 there was no version
	case len(major) > 1 || major[0] != '1' || len(minor) > 1:
		return errNotHTTP1
	}
	r.Minor = min(int(minor[0]-'0'), 1)
	r.fields.pos += i + 2
	return nil
}

// note acts upon a field whose line is complete.
func (r *Request) note(h header.Handle, v []byte, o *Options) error {
	switch h {
	case header.Host:
		return r.noteHost(v, o)
	case header.Connection:
		return r.facts.connection(v)
	case header.ContentLength:
		return r.facts.contentLength(v, o)
	case header.TransferEncoding:
		return r.facts.transferEncoding(v, r.Minor)
	case header.Upgrade:
		r.facts.upgrade(v)
	case header.Expect:
		if !isFold(v, "100-continue") {
			return errExpect
		}
		r.facts.has |= hasContinue
	}
	return nil
}

// noteHost checks Host, which is there once: the map refuses a second one.
func (r *Request) noteHost(v []byte, o *Options) error {
	if !validAuthority(v) {
		return errHost
	}
	r.hostSeen = true
	if r.absolute && !equalFold(v, r.host.of(r.buf)) {
		if !o.AllowHostMismatch {
			return errHostMismatch
		}
		return nil
	}
	r.host = span{r.fields.value, r.fields.end}
	return nil
}

// finish says what the head means as a whole.
func (r *Request) finish(o *Options) error {
	f := &r.facts
	if !r.hostSeen {
		if r.Minor > 0 || !r.absolute && o.DefaultHost == "" {
			return errNoHost
		}
		if !r.absolute {
			if err := r.Header.SetString(header.Host, o.DefaultHost); err != nil {
				return errHost
			}
			r.fallback = r.Header.Get(header.Host)
		}
	}
	if r.absolute {
		if host := r.host.of(r.buf); string(r.Header.Get(header.Host)) != string(host) {
			if err := r.Header.Set(header.Host, host); err != nil {
				return errHost
			}
		}
	}
	switch {
	case f.has&hasChunked != 0:
		r.Framing = FrameChunked
	case f.has&hasLength != 0:
		r.Framing, r.ContentLength = FrameLength, f.length
		if f.rewrite {
			r.Header.SetInt(header.ContentLength, f.length)
		}
	}
	body := r.Framing == FrameChunked || r.ContentLength > 0
	if r.Method == TRACE {
		if body {
			return errTraceBody
		}
		return errTrace
	}
	r.KeepAlive = f.keepAlive(r.Minor)
	r.Expect100 = body && r.Minor > 0 && f.has&hasContinue != 0
	r.Upgrade = !body && r.Minor > 0 && r.Method == GET && f.upgrades()
	return nil
}

// MethodBytes returns the method as received.
func (r *Request) MethodBytes() []byte { return r.method.of(r.buf) }

// RawTarget returns the request target as received.
func (r *Request) RawTarget() []byte { return r.raw.of(r.buf) }

// Target returns the request target for the next server: in origin-form, or "*".
func (r *Request) Target() []byte {
	if len(r.built) > 0 {
		return r.built
	}
	return r.target.of(r.buf)
}

// Path returns the target up to the query, as received: escapes and dot
// segments are still in it. It is nil for "*".
func (r *Request) Path() []byte {
	t := r.Target()
	if len(t) == 0 || t[0] == '*' {
		return nil
	}
	if n := r.queryLen(); n >= 0 {
		return t[: len(t)-n-1 : len(t)-n-1]
	}
	return t
}

// Query returns what is behind "?" in the target; HasQuery tells an empty
// query from none.
func (r *Request) Query() []byte {
	if n := r.queryLen(); n >= 0 {
		t := r.Target()
		return t[len(t)-n:]
	}
	return nil
}

// HasQuery reports whether the target has a "?".
func (r *Request) HasQuery() bool { return r.query > 0 }

// queryLen returns the length of the query, -1 without one.
func (r *Request) queryLen() int {
	if r.query == 0 {
		return -1
	}
	return r.raw.end - r.query - 1
}

// Host returns the authority the request is for, which Parse has also left in
// the field Host: that of an absolute-form target, else Host, else
// Options.DefaultHost. It does not change with the field.
func (r *Request) Host() []byte {
	if r.fallback != nil {
		return r.fallback
	}
	return r.host.of(r.buf)
}

// ConnectionTokens calls yield with each token of the Connection fields until
// it returns false: options, and names of fields that are not to be passed on.
// yield may remove fields from Header, but not add any.
func (r *Request) ConnectionTokens(yield func([]byte) bool) { connectionTokens(&r.Header, yield) }
