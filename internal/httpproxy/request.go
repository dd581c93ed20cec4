package httpproxy

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"time"

	"belay/internal/header"
	"belay/internal/http1"
	"belay/internal/route"
)

// dispatch finds the route and does what it says.
func (s *stream) dispatch() {
	p := s.c.plan
	trusted := s.findClient()
	if s.c.secure() && p.Gate.Misdirected(s.c.came.tls, s.req.Host()) {
		s.requestID(trusted)
		s.w.shard.Inc(p.Stats.Misdirected)
		s.reply(421, reasonMisdirected)
		return
	}
	cfg := p.table.Match(&route.Input{Host: s.req.Host(), Path: s.req.Path(), Method: s.req.MethodBytes(), Header: &s.req.Header})
	s.requestID(trusted)
	if cfg == nil {
		s.w.shard.Inc(p.Stats.NoRoute)
		s.reply(404, reasonNoRoute)
		return
	}
	s.route = p.routes[cfg.Index]
	if s.route.deny.Contains(s.client) || !s.route.allow.Empty() && !s.route.allow.Contains(s.client) {
		s.w.shard.Inc(p.Stats.Denied)
		s.reply(403, reasonDenied)
		return
	}
	if max := s.maxBody(); max > 0 && s.req.Framing == http1.FrameLength && s.req.ContentLength > max {
		s.w.shard.Inc(p.Stats.BodyTooLarge)
		s.reply(413, reasonBodyTooLarge)
		return
	}
	if s.c.n > s.c.r && !s.has(bodyDone) && !s.decodeBody() {
		return
	}
	switch {
	case cfg.Respond != nil:
		s.respond(cfg.Respond)
	case cfg.Redirect != nil:
		s.redirect(cfg.Redirect)
	default:
		s.forward(trusted)
	}
}

// maxBody is the limit on the request body in bytes; 0: none.
func (s *stream) maxBody() int64 {
	if s.route != nil && s.route.cfg.MaxBody >= 0 {
		return s.route.cfg.MaxBody
	}
	return s.c.plan.Listener.Limits.Body
}

func (s *stream) firstByteTimeout() time.Duration {
	if t := s.route.cfg.FirstByteTimeout; t >= 0 {
		return t
	}
	return s.cl.shared.Config.FirstByteTimeout
}

// forward has the request answered by an endpoint.
func (s *stream) forward(trusted bool) {
	if !s.chooseCluster() || !s.admit() {
		return
	}
	s.w.shard.Inc(s.cl.shared.Stats.Requests)
	timeout := s.route.cfg.RequestTimeout
	if timeout < 0 {
		timeout = s.c.plan.Listener.Timeouts.Request
	}
	if timeout > 0 {
		s.w.loop.SetTimer(&s.whole, s, s.start+int64(timeout))
	}
	if s.req.Upgrade && s.route.cfg.Upgrade && s.has(bodyDone) {
		s.flags |= upgrade
	}
	if s.req.Framing == http1.FrameChunked {
		s.flags |= chunkedUp
	}
	s.prepare(trusted)
	s.hidePin()
	s.pick()
	if s.c != nil && !s.has(bodyDone) && s.state != streamDone {
		s.readBody()
	}
}

// admit holds max_requests: it reports false if the request was answered.
func (s *stream) admit() bool {
	if !s.cl.enter() {
		s.w.shard.Inc(s.cl.shared.Stats.Overflow)
		s.reply(503, reasonOverflow)
		return false
	}
	if s.cl.shared.Config.MaxRequests > 0 {
		s.flags |= admitted
	}
	return true
}

// prepare makes the head what is sent on (RFC 9110 7.6): fields for this hop
// go, those that tell the endpoint about the client come.
func (s *stream) prepare(trusted bool) {
	m := &s.req.Header
	if m.Has(header.Connection) {
		s.req.ConnectionTokens(func(name []byte) bool {
			if !framingField(header.Lookup(name)) {
				m.RemoveName(name)
			}
			return true
		})
		m.Remove(header.Connection)
	}
	m.Remove(header.KeepAlive)
	m.Remove(header.ProxyConnection)
	m.Remove(header.TransferEncoding)
	m.Remove(header.HTTP2Settings)
	if s.req.Minor == 0 { // RFC 9110 10.1.1: no expectation in HTTP/1.0
		m.Remove(header.Expect)
	}
	if te := m.Get(header.TE); te != nil {
		if hasToken(te, "trailers") {
			m.SetString(header.TE, "trailers")
			m.SetString(header.Connection, "TE")
		} else {
			m.Remove(header.TE)
		}
	}
	if s.has(upgrade) {
		m.SetString(header.Connection, "upgrade")
	} else {
		m.Remove(header.Upgrade)
	}
	if s.has(chunkedUp) {
		m.SetString(header.TransferEncoding, "chunked")
	}
	if s.c.plan.Listener.XForwarded {
		s.forwarded(trusted)
	}
	s.clientCertificate()
	if h := s.route.cfg.HostRewrite; h != "" {
		m.SetString(header.Host, h)
	}
}

// framingField are the fields that Connection cannot nominate away: those that
// frame, and those that are ours by then.
func framingField(h header.Handle) bool {
	switch h {
	case header.XRequestID, header.Host, header.ContentLength, header.TransferEncoding, header.Connection, header.TE, header.Upgrade:
		return true
	}
	return false
}

// hasToken reports whether a comma list has a token, whatever its parameters.
func hasToken(list []byte, token string) bool {
	for len(list) > 0 {
		var e []byte
		e, list, _ = bytes.Cut(list, []byte(","))
		e, _, _ = bytes.Cut(e, []byte(";"))
		if bytes.EqualFold(bytes.TrimSpace(e), []byte(token)) {
			return true
		}
	}
	return false
}

// findClient says who the client is: the peer, or, if that is a trusted proxy,
// the last address in X-Forwarded-For that is not one.
func (s *stream) findClient() (trusted bool) {
	peer := s.c.peer.Addr()
	s.client = peer
	p := s.c.plan
	// On a Unix socket it is a process of this host, but whom a PROXY header names.
	trusted = p.Listener.Unix != "" && !peer.IsValid() || p.trusted.Contains(peer)
	if !trusted {
		return false
	}
	m := &s.req.Header
	if m.Count(header.XForwardedFor) > 1 {
		b := s.w.text[:0]
		m.Values(header.XForwardedFor, func(v []byte) bool {
			if len(b) > 0 {
				b = append(b, ", "...)
			}
			b = append(b, v...)
			return true
		})
		s.w.text = b
		m.Set(header.XForwardedFor, b)
	}
	list := m.Get(header.XForwardedFor)
	for len(list) > 0 {
		i := bytes.LastIndexByte(list, ',')
		a, ok := parseAddr(bytes.TrimSpace(list[i+1:]))
		if !ok {
			break
		}
		s.client = a
		if i < 0 || !p.trusted.Contains(a) {
			break
		}
		list = list[:i]
	}
	return true
}

// parseAddr reads an element of X-Forwarded-For: an address, with a port or
// brackets as some proxies write it.
func parseAddr(b []byte) (netip.Addr, bool) {
	if len(b) == 0 || len(b) > 64 {
		return netip.Addr{}, false
	}
	t := string(b)
	if a, err := netip.ParseAddr(t); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(t); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if len(t) > 2 && t[0] == '[' && t[len(t)-1] == ']' {
		if a, err := netip.ParseAddr(t[1 : len(t)-1]); err == nil {
			return a.Unmap().WithZone(""), true
		}
	}
	return netip.Addr{}, false
}

// forwarded writes X-Forwarded-For, -Proto and -Host. What an untrusted client
// claims about itself is replaced.
func (s *stream) forwarded(trusted bool) {
	m := &s.req.Header
	var buf [48]byte
	if peer := s.c.peer.Addr(); peer.IsValid() {
		text := peer.AppendTo(buf[:0])
		if trusted {
			m.Append(header.XForwardedFor, ", ", text)
		} else {
			m.Set(header.XForwardedFor, text)
		}
	} else if !trusted { // a PROXY header named a Unix socket
		m.Remove(header.XForwardedFor)
	}
	if !trusted || !m.Has(header.XForwardedProto) {
		m.SetString(header.XForwardedProto, s.c.scheme())
	}
	if !trusted || !m.Has(header.XForwardedHost) {
		m.Set(header.XForwardedHost, s.req.Host())
	}
	if !trusted {
		m.Remove(header.Forwarded)
	}
}

// requestID keeps a trusted proxy's X-Request-Id or makes one (a version 4
// UUID, RFC 9562 5.4).
func (s *stream) requestID(trusted bool) {
	if s.c.plan.Listener.RequestID == "off" {
		return
	}
	m := &s.req.Header
	if id := m.Get(header.XRequestID); trusted && len(id) > 0 && len(id) <= 128 {
		return
	}
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:8], s.w.rng.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], s.w.rng.Uint64())
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	b := s.idBuf[:]
	hex.Encode(b[0:8], raw[0:4])
	hex.Encode(b[9:13], raw[4:6])
	hex.Encode(b[14:18], raw[6:8])
	hex.Encode(b[19:23], raw[8:10])
	hex.Encode(b[24:36], raw[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	m.SetRef(header.XRequestID, b)
}

// target is the request target for the endpoint.
func (s *stream) target() []byte {
	cfg := s.route.cfg
	if cfg.PathRewrite == nil || s.req.Path() == nil || len(s.req.Path()) == 0 {
		return s.req.Target()
	}
	b := route.RewritePath(s.pathBuf[:0], cfg, s.req.Path())
	if s.req.HasQuery() {
		b = append(append(b, '?'), s.req.Query()...)
	}
	s.pathBuf = b
	return b
}
