package http1

import "belay/internal/header"

// maxForwards is not sent on by this proxy in a trailer either.
var maxForwards = header.Register("Max-Forwards", header.Reject)

// forbidden has the fields that are dropped from a trailer section: those for
// framing, routing, authentication, request modification and the form of the
// content (RFC 9110 section 6.5.1), and those by which proxies tell each other
// about the client.
var forbidden = makeForbidden()

func makeForbidden() (t [256]bool) {
	for _, h := range [...]header.Handle{
		header.Host, header.Connection, header.ContentLength, header.TransferEncoding, header.Upgrade, header.Expect,
		header.TE, header.Trailer, header.KeepAlive, header.ProxyConnection, header.HTTP2Settings, maxForwards,
		header.Authorization, header.WWWAuthenticate, header.ProxyAuthenticate, header.ProxyAuthorization,
		header.Cookie, header.SetCookie, header.Origin, header.StrictTransportSecurity,
		header.ContentType, header.ContentEncoding, header.ContentLanguage, header.ContentLocation, header.ContentRange,
		header.ContentDisposition, header.ContentSecurityPolicy,
		header.CacheControl, header.Pragma, header.Age, header.Expires, header.Date, header.Vary, header.Location, header.RetryAfter,
		header.Range, header.IfRange, header.IfMatch, header.IfNoneMatch, header.IfModifiedSince, header.IfUnmodifiedSince,
		header.Forwarded, header.XForwardedFor, header.XForwardedProto, header.XForwardedHost, header.XForwardedPort,
		header.XRealIP, header.XRequestID, header.Via, header.XForwardedClientCert, header.ClientCert, header.ClientCertChain,
	} {
		t[h] = true
	}
	return t
}

// maxIdleTrailer is the largest buffer that is kept for a next body, in bytes.
const maxIdleTrailer = 4 << 10

// trailer collects a trailer section, which may come in any pieces, and reads
// it as the fields of a head.
type trailer struct {
	m      header.Map
	fields fields
	buf    []byte
}

// recycle empties t and reports whether it is small enough to keep.
func (t *trailer) recycle() bool {
	t.m.Reset(nil)
	t.buf = t.buf[:0]
	return cap(t.buf) <= maxIdleTrailer
}

func (b *Body) startTrailer() {
	if b.t == nil {
		b.t = new(trailer)
	}
	l := b.o.Header
	if l.Bytes <= 0 {
		l.Bytes = defaultTrailer
	}
	t := b.t
	t.buf = t.buf[:0]
	t.m.Reset(nil)
	t.m.SetLimits(l)
	t.fields = fields{trailer: true, rule: b.o.Underscores}
	t.fields.begin(0, l)
	b.state = inTrailer
}

// decodeTrailer takes the next bytes of the connection and returns how many of
// them belong to the trailer section.
func (b *Body) decodeTrailer(p []byte) (int, error) {
	t := b.t
	had := len(t.buf)
	t.buf = append(t.buf, p[:min(len(p), t.fields.limit-had)]...)
	t.m.Rebase(t.buf)
	for {
		h, err := t.fields.next(t.buf, &t.m)
		switch {
		case err == ErrNeedMore:
			return len(p), nil
		case err != nil:
			t.m.Reset(nil)
			return len(p), err
		case h == fieldEnd:
			t.buf = t.buf[:t.fields.pos]
			b.state = bodyDone
			return t.fields.pos - had, nil
		}
	}
}
