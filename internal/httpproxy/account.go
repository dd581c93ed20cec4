package httpproxy

import (
	"time"

	"belay/internal/accesslog"
	"belay/internal/header"
)

// account enters an exchange that ended into the statistics and the access log.
func (s *stream) account() {
	w, p := s.w, s.c.plan
	took := w.loop.Now() - s.start
	class := s.status / 100
	if class > 5 {
		class = 0
	}
	w.shard.Inc(p.Stats.Replies[class])
	w.shard.Observe(p.Stats.Duration, took)
	w.shard.Add(p.Stats.BytesIn, uint64(s.bytesIn))
	w.shard.Add(p.Stats.BytesOut, uint64(s.bytesOut))
	if s.epst != nil && s.attempts > 0 {
		w.shard.Inc(s.epst.Requests)
		if s.firstByte != 0 && s.resp.Status != 0 {
			w.shard.Inc(s.epst.Replies[class])
			w.shard.Observe(s.epst.Latency, s.firstByte-s.connectAt)
		}
	}
	s.countPin()
	if w.access != nil {
		s.logAccess(took)
	}
}

func (s *stream) logAccess(took int64) {
	c := s.c
	r := &s.w.record
	*r = accesslog.Record{
		Start: s.w.wall(s.start), Duration: took,
		UpstreamConnect: since(s.connected, s.connectAt), UpstreamFirstByte: since(s.firstByte, s.connectAt),
		Client: c.peer, Peer: c.peer, Listener: c.plan.Listener.Name,
		Status: s.status, BytesIn: s.bytesIn, BytesOut: s.bytesOut - s.headsOut, Attempts: s.tries, Reason: s.reason,
		ConnID: c.id, Protocol: protocols[s.req.Minor&1],
	}
	if c.came != nil {
		if c.came.via.IsValid() {
			r.Peer = c.came.via
		}
		r.TLS = c.came.log
	}
	if s.client.IsValid() && s.client != c.peer.Addr() {
		r.Client = addrOnly(s.client)
	}
	if s.route != nil {
		r.Route = s.route.cfg.Name
	}
	if s.cl != nil {
		r.Cluster = s.cl.shared.Config.Name
	}
	if s.pin.plan != nil {
		r.Persistence, r.Outcome = s.pin.found.String(), s.pin.done.String()
	}
	if s.ep != nil {
		r.Endpoint, r.EndpointAddress, r.Reused = s.ep.ID, s.where, s.reused
	}
	if s.has(began) {
		m := &s.req.Header
		r.Method, r.Host, r.Path = s.req.MethodBytes(), s.req.Host(), s.req.Target()
		r.UserAgent, r.Referer = m.Get(header.UserAgent), m.Get(header.Referer)
		r.RequestID, r.ForwardedFor = m.Get(header.XRequestID), m.Get(header.XForwardedFor)
	}
	s.w.access.Append(r)
}

var protocols = [2][]byte{[]byte("HTTP/1.0"), []byte("HTTP/1.1")}

// since is the time from one loop time to a later one, -1 if that was not reached.
func since(to, from int64) int64 {
	if to == 0 || from == 0 {
		return -1
	}
	return to - from
}

// imfFixdate is the form of an HTTP date (RFC 9110 5.6.7).
const imfFixdate = "Mon, 02 Jan 2006 15:04:05 GMT"

// date is the Date field (RFC 9110 6.6.1), made anew each second.
func (w *Worker) date() []byte {
	sec := w.wall(w.loop.Now()).Unix()
	if sec != w.dateSec {
		w.dateSec = sec
		w.dateBuf = time.Unix(sec, 0).UTC().AppendFormat(w.dateBuf[:0], imfFixdate)
	}
	return w.dateBuf
}
