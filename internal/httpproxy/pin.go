package httpproxy

import (
	"encoding/binary"
	"slices"
	"time"

	"belay/internal/cluster"
	"belay/internal/header"
	"belay/internal/persistence"
)

// pin is where the session of an exchange is and what has become of it. It stays out
// of the header maps until the final reply, so that no 1xx, retry or local reply
// clears or leaks it.
type pin struct {
	plan    *pinPlan // of s.cl on s.route; nil: no persistence
	ep      *cluster.Endpoint
	from    pinSource
	lost    bool // ep cannot take the request, or did not: another one may
	old     bool // what the client brought is to be minted again
	shared  bool // ep was chosen for a request of the same client just before
	told    bool // the reply or a table says where the session is
	strange bool // an authentic token named an endpoint that is not there
	found   cluster.Finding
	done    cluster.Outcome
	session uint64 // as persistence.Token.Session; 0: a new one
	key     []byte // of the table; its memory is used again
	cookie  [16]byte
	hash    uint64
	hashed  hashState
}

type pinSource uint8

const (
	fromNone pinSource = iota
	fromCookie
	fromHeader
	fromTable
)

type hashState uint8

const (
	hashUnasked hashState = iota
	hashNone
	hashKnown
	hashMinted // and its cookie goes with the reply
)

func (p *pin) reset() {
	*p = pin{key: p.key[:0]}
}

// sharedPin is a choice that pipelined requests of a connection share.
type sharedPin struct {
	plan    *pinPlan
	ep      *cluster.Endpoint
	session uint64
}

// chooseCluster finds the session and with it the cluster; without one the route's
// weights decide. It reports false if the request was answered.
func (s *stream) chooseCluster() bool {
	r := s.route
	i := -1
	if r.pinned {
		i = s.findPin()
	}
	x := s.c.shared
	s.c.shared = nil
	if i < 0 && x != nil {
		i = slices.Index(r.pins, x.plan)
	}
	if i < 0 {
		i = 0
		if r.split != nil {
			i = r.split.Pick(s.w.rng.Uint64())
		}
	}
	s.cl = s.w.clusters[r.clusters[i]]
	s.pin.plan = r.pins[i]
	if s.pin.plan == nil {
		return true
	}
	if s.pin.ep == nil && x != nil {
		s.takeShared(x)
	}
	if t := s.pin.plan.table; t != nil && s.pin.from != fromTable {
		s.tableKey(t) // another cluster's may be there, and the request is about to be changed
	}
	return s.admitPin()
}

// findPin asks the client's cookies, headers and the tables where its session is. It
// returns the place in route.clusters, or -1.
func (s *stream) findPin() int {
	now := s.w.unix()
	best := persistence.None
	for i, p := range s.route.pins {
		if p == nil {
			continue
		}
		cl := s.w.clusters[s.route.clusters[i]].shared
		for from := fromCookie; from <= fromTable; from++ {
			e, v := s.lookPin(p, cl, from, now)
			if e != nil {
				s.pin.ep, s.pin.from, s.pin.found = e, from, cluster.Finding(v)
				return i
			}
			if weight(v) > weight(best) {
				best = v
			}
		}
	}
	s.pin.found = cluster.Finding(best)
	return -1
}

// weight orders what is told of several that led nowhere: the one that was nearest
// to a session.
func weight(v persistence.Verdict) int {
	switch v {
	case persistence.None:
		return 0
	case persistence.Invalid:
		return 1
	case persistence.UnknownKey:
		return 2
	}
	return 3
}

// lookPin asks one place.
func (s *stream) lookPin(p *pinPlan, cl *Cluster, from pinSource, now uint32) (*cluster.Endpoint, persistence.Verdict) {
	c := &s.w.candidates
	switch {
	case from == fromCookie && p.cookie != nil:
		size := persistence.MaxValue
		if p.cookie.wrap != wrapNone {
			size = persistence.MaxAppValue
		}
		c.Reset()
		s.req.Header.Values(header.Cookie, func(line []byte) bool {
			c.Scan(line, p.cookie.name, size)
			return true
		})
		return s.openPin(p, p.cookie, cl, now)
	case from == fromHeader && p.header != nil:
		c.Reset()
		if v := s.req.Header.GetName(p.header.name); len(v) > 0 {
			c.Seen, c.N, c.Values[0] = 1, 1, v
		}
		return s.openPin(p, p.header, cl, now)
	case from == fromTable && p.table != nil:
		return s.lookTable(p.table, cl, now)
	}
	return nil, persistence.None
}

// openPin takes the first of the worker's candidates that leads to an endpoint.
func (s *stream) openPin(p *pinPlan, k *tokenPin, cl *Cluster, now uint32) (*cluster.Endpoint, persistence.Verdict) {
	w := s.w
	c := &w.candidates
	if c.Seen == 0 {
		return nil, persistence.None
	}
	for i := range c.N {
		switch k.wrap {
		case wrapPrefix:
			c.Values[i], _ = persistence.SplitPrefix(c.Values[i])
		case wrapEnvelope:
			token, rest, _ := persistence.OpenEnvelope(w.text[:0], c.Values[i])
			c.Values[i], w.text = token, rest
		}
	}
	ring, best := p.keys.Load(), persistence.None
	for {
		v := ring.OpenFirst(w.token, c, k.binding, k.limits, now)
		if !v.Usable() {
			if weight(v) > weight(best) {
				best = v
			}
			return nil, best
		}
		e, at := cl.ByKey(w.token.Endpoint)
		if e != nil {
			s.pin.session = w.token.Session()
			s.pin.old = v == persistence.OldKey || k.limits.Refresh(w.token, now)
			return e, v
		}
		best, s.pin.strange = at, true
	}
}

// takeShared has a request that brings no session follow one of the same connection
// that was under way when it came.
func (s *stream) takeShared(x *sharedPin) {
	if x.plan == s.pin.plan && x.ep.AdmitsPinned() {
		s.pin.ep, s.pin.session, s.pin.shared = x.ep, x.session, true
	}
}

// admitPin has the policy decide about a session whose endpoint is not there. It
// reports false if the request was answered.
func (s *stream) admitPin() bool {
	switch f := s.pin.found; {
	case s.pin.ep != nil:
		return s.pin.ep.AdmitsPinned() || s.losePin(s.pin.ep.Absent())
	case s.pin.strange && (f == cluster.FoundUnknown || f == cluster.FoundGeneration) && s.pin.plan.cfg.Unknown == "strict":
		s.refuseSession()
		return false
	}
	return true
}

// losePin acts by the policy on a pinned endpoint that cannot take the request, or
// did not. It reports whether the request may go elsewhere; if not, it is answered.
func (s *stream) losePin(why cluster.Finding) bool {
	p := &s.pin
	if p.lost {
		return true
	}
	p.found = why
	switch p.plan.cfg.Policy {
	case "strict":
		if !p.shared {
			s.refuseSession()
			return false
		}
		p.done = cluster.Moved
	case "detour":
		p.done = cluster.Detoured
		if why != cluster.FoundOverloaded && int64(s.w.unix())-p.ep.Away(int64(s.w.unix())) > p.plan.grace {
			p.done = cluster.Moved
		}
	default:
		p.done = cluster.Moved
	}
	p.lost = true
	return true
}

// refuseSession is the answer of policy = "strict".
func (s *stream) refuseSession() {
	s.pin.done = cluster.Refused
	cfg := s.pin.plan.cfg
	s.dropUpstream()
	s.resp.Reset()
	s.localError(cfg.StrictStatus, reasonSessionRefused, cfg.RetryAfter)
}

// holds reports whether the request still belongs to its pinned endpoint.
func (s *stream) holds() bool { return s.pin.ep != nil && !s.pin.lost }

// stays reports whether another try goes to the pinned endpoint: with "strict" all
// do, else all but the last that the route's policy grants, as in HAProxy.
func (s *stream) stays() bool {
	return s.pin.plan.cfg.Policy == "strict" || !s.has(unreachable) && s.attempts < s.route.cfg.Retry.Attempts
}

// hint is what the balancer must know. ok is false if the request was answered.
func (s *stream) hint() (h cluster.Hint, ok bool) {
	h.Avoid = s.ep
	if s.holds() {
		p := s.pin.ep
		switch {
		case !p.AdmitsPinned():
			if !s.losePin(s.pin.ep.Absent()) {
				return h, false
			}
		case s.ep == nil:
			h.Pinned = p
		case s.ep == p && !s.stays():
			if !s.losePin(cluster.FoundDown) {
				return h, false
			}
		default:
			h.Pinned = p
			if s.ep == p {
				h.Avoid = nil
			}
		}
	}
	if len(s.cl.shared.hash) > 0 && h.Pinned == nil {
		h.Hash, h.Hashed = s.hashOn()
	}
	return h, true
}

// claim lets the requests of one source that bring no session share a choice, but for
// one where the last try failed.
func (s *stream) claim(failed *cluster.Endpoint) {
	p := s.pin.plan
	if p == nil || p.claims == nil || s.pin.ep != nil || s.ep == nil || !s.client.IsValid() {
		return
	}
	var room [20]byte
	k, ok := p.claims.Claim(persistence.AppendSource(room[:0], s.client), s.ep.Key, s.w.unix(), p.window)
	if !ok {
		return
	}
	if e, _ := s.cl.shared.ByKey(k); e != nil && e != failed && e.AdmitsPinned() {
		s.ep = e
	}
}

// unclaim forgets the choice of a source, since it could not be reached: the next
// request, or the next try of this one, makes another.
func (s *stream) unclaim() {
	p := s.pin.plan
	if p == nil || p.claims == nil || s.pin.ep != nil || !s.client.IsValid() {
		return
	}
	var room [20]byte
	key := persistence.AppendSource(room[:0], s.client)
	if v, ok := p.claims.Peek(key, s.w.unix()); ok && v.Endpoint == s.ep.Key {
		p.claims.Delete(key)
	}
}

// mayRedispatch reports whether a request whose pinned endpoint could not be reached
// goes elsewhere though no retry is configured: nothing was sent, and that is what
// the policy promises.
func (s *stream) mayRedispatch(f failure) bool {
	return f == failConnect && s.atHome() && s.has(replayable) && s.pin.plan.cfg.Policy != "strict"
}

// unix is the wall clock in seconds, as tokens and tables have it: read from the
// system, for it may be set while belay runs.
func (w *Worker) unix() uint32 {
	if now := w.loop.Now(); now-w.clockAt >= int64(clockStep) || w.clock == 0 {
		w.clock, w.clockAt = uint32(time.Now().Unix()), now
	}
	return w.clock
}

const clockStep = 50 * time.Millisecond

// track counts a session for who drains its endpoint.
func (s *stream) track(old uint64) {
	t := s.cl.shared.Sessions
	if t == nil || s.pin.session == 0 {
		return
	}
	var k [8]byte
	if old != 0 && old != s.pin.session {
		binary.BigEndian.PutUint64(k[:], old)
		t.Delete(k[:])
	}
	binary.BigEndian.PutUint64(k[:], s.pin.session)
	t.Store(k[:], s.ep.Key, s.w.unix())
}

// hidePin takes from the request what is between the client and belay.
func (s *stream) hidePin() {
	p := s.pin.plan
	if p == nil {
		return
	}
	if k := p.cookie; k != nil && (k.hide || k.wrap != wrapNone) {
		s.hideCookie(k)
	}
	if k := p.header; k != nil {
		switch v := s.req.Header.GetName(k.name); {
		case len(v) == 0:
		case k.wrap == wrapEnvelope:
			if _, out, ok := persistence.OpenEnvelope(s.w.text[:0], v); ok {
				s.w.text = out
				s.setField(k.name, out)
			}
		case k.hide:
			s.req.Header.RemoveName([]byte(k.name))
		}
	}
}

// setField replaces a request's field by one with the value v.
func (s *stream) setField(name string, v []byte) {
	s.req.Header.RemoveName([]byte(name))
	_ = s.req.Header.AddNameBytes([]byte(name), v) // the value is shorter than what it replaces
}

// hideCookie rewrites the Cookie lines without the token. Lines without it stay where
// they are.
func (s *stream) hideCookie(k *tokenPin) {
	m := &s.req.Header
	touched := false
	b := s.w.text[:0]
	m.Values(header.Cookie, func(line []byte) bool {
		if len(b) > 0 {
			b = append(b, "; "...)
		}
		was, n := len(b), 0
		switch k.wrap {
		case wrapPrefix:
			b, n = persistence.RemovePrefix(b, line, k.name)
		case wrapEnvelope:
			b, n = persistence.RemoveEnvelope(b, line, k.name)
		default:
			b, n = persistence.Remove(b, line, k.name)
		}
		touched = touched || n > 0
		if len(b) == was && was > 0 {
			b = b[:was-2]
		}
		return true
	})
	s.w.text = b
	switch {
	case !touched:
	case len(b) == 0:
		m.Remove(header.Cookie)
	default:
		m.Set(header.Cookie, b)
	}
}

// hashOn is the hash of what the request has of the cluster's hash.on.
func (s *stream) hashOn() (uint64, bool) {
	p := &s.pin
	if p.hashed == hashUnasked {
		s.computeHash()
	}
	return p.hash, p.hashed >= hashKnown
}
