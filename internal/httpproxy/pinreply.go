package httpproxy

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"

	"belay/internal/cluster"
	"belay/internal/header"
	"belay/internal/http1"
	"belay/internal/persistence"

	"github.com/cespare/xxhash/v2"
)

// pinReply puts into the final head of an endpoint's reply what keeps the session
// there. It is called once for an exchange, when nothing of the head can change any
// more.
func (s *stream) pinReply() {
	if s.pin.hashed == hashMinted {
		s.setHashCookie()
	}
	x := &s.pin
	p := x.plan
	if p == nil {
		return
	}
	s.ep.Home()
	home, old := x.ep == s.ep, x.session
	switch {
	case home && x.shared:
		x.done = cluster.Minted
	case home && x.lost: // it took the request after all
		x.lost, x.done = false, cluster.Kept
	case home && x.old:
		x.done = cluster.Refreshed
	case home:
		x.done = cluster.Kept
	case x.done == cluster.Detoured:
		s.detourReply(p)
		s.debugHeader()
		return
	case x.ep != nil:
		x.done, x.session = cluster.Moved, 0
	default:
		x.done, x.session = cluster.Minted, 0
	}
	if p.cookie != nil {
		s.cookieReply(p, home)
	}
	if p.header != nil {
		s.headerReply(p, home)
	}
	if p.table != nil {
		s.tableReply(p.table, home)
	}
	switch { // it was not to be told, or there was no way
	case x.told:
	case x.done == cluster.Minted:
		x.done = cluster.OutcomeNone
	case x.done == cluster.Refreshed:
		x.done = cluster.Kept
	}
	if x.told || s.ep.State() == cluster.Draining {
		s.track(old)
	}
	s.share()
	s.debugHeader()
}

// detourReply leaves the session where it is, unless the endpoint has begun one
// itself: that is on this endpoint, and the client forgets the other one.
func (s *stream) detourReply(p *pinPlan) {
	x, m := &s.pin, &s.resp.Header
	old := x.session
	x.session = 0
	if k := p.cookie; k != nil && m.Has(header.SetCookie) {
		if k.wrap != wrapNone {
			s.wrapCookies(p, k)
		} else {
			s.endpointSets(k)
		}
	}
	if k := p.header; k != nil {
		if k.wrap == wrapEnvelope {
			s.wrapHeader(p, k)
		} else {
			m.RemoveName([]byte(k.name))
		}
	}
	if p.table != nil {
		s.learn(p.table)
	}
	if x.told {
		x.done = cluster.Moved
		s.track(old)
	}
}

// needs reports whether the client has to be told where its session is by this mode.
func (s *stream) needs(from pinSource, home bool) bool {
	return !home || s.pin.old || s.pin.shared || s.pin.from != from
}

// mint appends a token for the endpoint that has answered.
func (s *stream) mint(dst []byte, p *pinPlan, k *tokenPin) []byte {
	w := s.w
	dst = p.keys.Load().Mint(dst, w.token, s.ep.Key, s.pin.session, k.binding, w.unix())
	s.pin.session, s.pin.told = w.token.Session(), true
	return dst
}

// cookieReply sets the cookie, or wraps the application's.
func (s *stream) cookieReply(p *pinPlan, home bool) {
	k, m := p.cookie, &s.resp.Header
	if k.wrap != wrapNone {
		s.wrapCookies(p, k)
		return
	}
	if m.Has(header.SetCookie) && s.endpointSets(k) {
		return
	}
	if !s.needs(fromCookie, home) || k.postOnly && s.req.Method != http1.POST && s.pin.ep == nil { // a session that began goes on with any method
		return
	}
	wr := k.plain
	if s.clientSecure() {
		wr = k.secure
	}
	b := wr.Begin(s.w.text[:0])
	b = s.mint(b, p, k)
	age := uint32(0)
	if k.keep {
		age = k.limits.Remaining(s.w.token.FirstSeen, s.w.unix())
	}
	b = wr.End(b, age)
	s.w.text = b
	_ = m.AddNameBytes(setCookie, b)
	if k.noCache {
		s.makePrivate()
	}
}

var setCookie = []byte("Set-Cookie")

// clientSecure reports whether the client's own connection is TLS, be it with a
// trusted proxy before us.
func (s *stream) clientSecure() bool {
	return s.c.secure() || s.c.plan.Listener.XForwarded && string(s.req.Header.Get(header.XForwardedProto)) == "https"
}

// endpointSets handles a cookie of our name that the endpoint sets: with preserve it
// stays and ours is not set, else it goes.
func (s *stream) endpointSets(k *tokenPin) (stays bool) {
	found := false
	s.resp.Header.Values(header.SetCookie, func(line []byte) bool {
		found = persistence.SetCookieIs(line, k.name)
		return !found
	})
	if !found || k.preserve {
		return found
	}
	s.rewriteSetCookies(func(dst, line []byte) []byte {
		if persistence.SetCookieIs(line, k.name) {
			return dst
		}
		return append(dst, line...)
	})
	return false
}

// wrapCookies puts the token into the application's own cookie where it sets it.
func (s *stream) wrapCookies(p *pinPlan, k *tokenPin) {
	found := false
	s.resp.Header.Values(header.SetCookie, func(line []byte) bool {
		found = k.wraps(line)
		return !found
	})
	if !found {
		return
	}
	token := s.mint(s.w.token2[:0], p, k)
	s.rewriteSetCookies(func(dst, line []byte) []byte {
		if !k.wraps(line) {
			return append(dst, line...)
		}
		if k.wrap == wrapPrefix {
			dst, _ = persistence.AppendPrefixed(dst, line, k.name, token)
		} else {
			dst, _ = persistence.AppendEnveloped(dst, line, k.name, token)
		}
		return dst
	})
}

// wraps reports whether a Set-Cookie line gets the token. One that it would make longer
// than browsers keep does not: better the pin is lost than the application's session.
func (k *tokenPin) wraps(line []byte) bool {
	v := persistence.SetCookieValue(line, k.name)
	n := len(v)
	if k.wrap == wrapEnvelope {
		n = base64.RawURLEncoding.EncodedLen(n)
	}
	return len(v) > 0 && string(v) != `""` && len(k.name)+persistence.TokenSize+1+n <= persistence.MaxAppValue
}

// rewriteSetCookies has edit append each Set-Cookie line as it is to be; nothing
// appended drops it.
func (s *stream) rewriteSetCookies(edit func(dst, line []byte) []byte) {
	m := &s.resp.Header
	b := s.w.text[:0]
	m.Values(header.SetCookie, func(line []byte) bool {
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		b = edit(b, line)
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
		return true
	})
	s.w.text = b
	m.Remove(header.SetCookie)
	for len(b) > 0 {
		n := binary.BigEndian.Uint32(b)
		if n > 0 {
			_ = m.AddNameBytes(setCookie, b[4:4+n])
		}
		b = b[4+n:]
	}
}

// makePrivate keeps shared caches from giving one client's session to others (RFC
// 9111 5.2.2.7); what a cache may not store anyway stays as it is.
func (s *stream) makePrivate() {
	m := &s.resp.Header
	fresh := m.Has(header.CacheControl) || m.Has(header.Expires)
	if !fresh && s.req.Method != http1.GET && s.req.Method != http1.HEAD {
		return
	}
	b, done := s.w.text[:0], false
	m.Values(header.CacheControl, func(line []byte) bool {
		for len(line) > 0 {
			var d []byte
			d, line, _ = bytes.Cut(line, []byte(","))
			d = bytes.TrimSpace(d)
			name, _, _ := bytes.Cut(d, []byte("="))
			switch {
			case len(d) == 0, bytes.EqualFold(name, []byte("public")), bytes.EqualFold(name, []byte("s-maxage")):
				continue
			case bytes.EqualFold(d, []byte("private")), bytes.EqualFold(name, []byte("no-store")):
				done = true
				return false
			}
			b = append(append(b, d...), ", "...)
		}
		return true
	})
	s.w.text = b
	if !done {
		s.w.text = append(b, "private"...)
		m.Set(header.CacheControl, s.w.text)
	}
}

// headerReply tells an API client the token in a header.
func (s *stream) headerReply(p *pinPlan, home bool) {
	k, m := p.header, &s.resp.Header
	if k.wrap == wrapEnvelope {
		s.wrapHeader(p, k)
		return
	}
	m.RemoveName([]byte(k.name))
	if s.needs(fromHeader, home) {
		s.w.text = s.mint(s.w.text[:0], p, k)
		_ = m.AddNameBytes([]byte(k.name), s.w.text)
		s.makePrivate()
	}
}

// wrapHeader puts the token into the endpoint's own header.
func (s *stream) wrapHeader(p *pinPlan, k *tokenPin) {
	m := &s.resp.Header
	v := m.GetName(k.name)
	n := 0
	m.ValuesName([]byte(k.name), func([]byte) bool { n++; return true })
	if n != 1 || len(v) == 0 {
		return
	}
	token := s.mint(s.w.token2[:0], p, k)
	s.w.text = persistence.AppendEnvelope(s.w.text[:0], token, v)
	m.RemoveName([]byte(k.name))
	_ = m.AddNameBytes([]byte(k.name), s.w.text)
}

// tableReply notes in the table where the session is.
func (s *stream) tableReply(t *tablePin, home bool) {
	if s.learn(t) || home && s.pin.from == fromTable || !home && s.pin.ep != nil && !t.track {
		return
	}
	// With learn only the endpoint says which keys there are: what a client brings is
	// stored if a table led it here once.
	if len(s.pin.key) > 0 && (t.learn == nil || s.pin.ep != nil) {
		t.table.Store(s.pin.key, s.ep.Key, s.w.unix())
		s.pin.told = true
	}
}

// learn stores the key that the endpoint's reply sets, if it sets one.
func (s *stream) learn(t *tablePin) bool {
	if t.learn == nil {
		return false
	}
	key := s.learned(t.learn)
	if len(key) > 0 {
		s.setKey(key)
		t.table.Store(s.pin.key, s.ep.Key, s.w.unix())
		s.pin.told = true
	}
	return len(key) > 0
}

// learned is the key that the endpoint's reply sets.
func (s *stream) learned(k *keyPart) []byte {
	m := &s.resp.Header
	if k.kind == keyHeader {
		return m.GetName(k.name)
	}
	var key []byte
	m.Values(header.SetCookie, func(line []byte) bool {
		key = persistence.SetCookieValue(line, k.name)
		return len(key) == 0
	})
	return key
}

// share lets the pipelined requests behind this one, which cannot know its cookie yet,
// follow it.
func (s *stream) share() {
	c := s.c
	if (s.pin.done == cluster.Minted || s.pin.shared) && s.has(bodyDone) && c.n > c.r {
		c.shared = &sharedPin{plan: s.pin.plan, ep: s.ep, session: s.pin.session}
	}
}

// debugHeader says in the reply what the access log says, if the configuration asks
// for it.
func (s *stream) debugHeader() {
	name := s.pin.plan.cfg.DebugHeader
	if name == "" {
		return
	}
	b := append(s.w.text[:0], s.pin.found.String()...)
	b = append(b, "; "...)
	b = append(b, s.pin.done.String()...)
	if s.ep != nil {
		b = append(append(b, "; endpoint="...), s.ep.ID...)
	}
	s.w.text = b
	m := &s.resp.Header
	m.RemoveName([]byte(name))
	_ = m.AddNameBytes([]byte(name), b)
}

// countPin enters what was found and done into the statistics.
func (s *stream) countPin() {
	if p := s.pin.plan; p != nil {
		p.st.Count(s.w.shard, s.pin.found, s.pin.done)
	}
}

// computeHash hashes the parts of the request that the cluster asks for, in their
// order, until one is terminal.
func (s *stream) computeHash() {
	p := &s.pin
	p.hashed = hashNone
	var d xxhash.Digest
	d.Reset()
	for i := range s.cl.shared.hash {
		k := &s.cl.shared.hash[i]
		b := k.of(s, s.w.text[:0])
		s.w.text = b
		minted := len(b) == 0 && k.mint
		if minted {
			var raw [8]byte
			rand.Read(raw[:])
			hex.Encode(p.cookie[:], raw[:])
			b = p.cookie[:]
		}
		if len(b) == 0 {
			continue
		}
		d.Write(b)
		d.Write(hashEnd)
		p.hash = d.Sum64()
		switch {
		case minted:
			p.hashed = hashMinted
		case p.hashed == hashNone:
			p.hashed = hashKnown
		}
		if k.terminal {
			return
		}
	}
}

// hashEnd parts two values, neither of which can have it.
var hashEnd = []byte{0}

// setHashCookie gives the client the cookie that its next requests are hashed on.
func (s *stream) setHashCookie() {
	for i := range s.cl.shared.hash {
		if k := &s.cl.shared.hash[i]; k.mint {
			s.w.text = k.writer.Append(s.w.text[:0], s.pin.cookie[:], k.ttl)
			_ = s.resp.Header.AddNameBytes(setCookie, s.w.text)
			s.makePrivate()
			return
		}
	}
}
