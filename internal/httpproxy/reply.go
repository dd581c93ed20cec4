package httpproxy

import (
	"strconv"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/header"
	"belay/internal/http1"
	"belay/internal/route"
)

// Why belay answered by itself or broke an exchange off; the access log's
// reason. The codec's own reasons for a 4xx and upstream's for a 503 join these.
const (
	reasonNoRoute              = "no-route"
	reasonDenied               = "denied"
	reasonRespond              = "respond"
	reasonRedirect             = "redirect"
	reasonHeadTimeout          = "head-timeout"
	reasonTruncatedHead        = "truncated-head"
	reasonTruncatedBody        = "truncated-body"
	reasonBadBody              = "bad-body"
	reasonBodyTooLarge         = "body-too-large"
	reasonBodyTimeout          = "body-timeout"
	reasonClientAbort          = "client-abort"
	reasonClientWriteTimeout   = "client-write-timeout"
	reasonRequestTimeout       = "request-timeout"
	reasonNoEndpoint           = "no-endpoint"
	reasonConnectFailure       = "connect-failure"
	reasonMisdirected          = "misdirected"
	reasonTLSFailure           = "tls-failure"
	reasonConnectTimeout       = "connect-timeout"
	reasonFirstByteTimeout     = "first-byte-timeout"
	reasonUpstreamReset        = "upstream-reset"
	reasonUpstreamWriteTimeout = "upstream-write-timeout"
	reasonUpstreamBodyTimeout  = "upstream-body-timeout"
	reasonUpstreamTruncated    = "upstream-truncated"
	reasonBadReply             = "bad-upstream-reply"
	reasonInterimFlood         = "upstream-interim-flood"
	reasonSurplus              = "upstream-surplus-data"
	reasonTunnelTimeout        = "tunnel-timeout"
	reasonStopped              = "stopped"
	reasonOverflow             = "overflow"
	reasonSessionRefused       = "session-refused"
)

// reply answers with an error of belay's own. All have one shape: a short text
// that names the status. The reason goes to the access log, not to the client.
func (s *stream) reply(status int, reason string) {
	retryAfter := time.Duration(0)
	if status == 503 && s.cl != nil {
		retryAfter = time.Second
	}
	s.localError(status, reason, retryAfter)
}

// localError is reply with a Retry-After, rounded up to seconds; 0: none.
func (s *stream) localError(status int, reason string, retryAfter time.Duration) {
	if s.has(replyStarted) {
		s.c.abort(reason)
		return
	}
	m := &s.resp.Header
	m.Reset(nil)
	m.SetString(header.ContentType, "text/plain; charset=utf-8")
	if retryAfter > 0 {
		m.SetInt(header.RetryAfter, int64(seconds(retryAfter)))
	}
	if status == 405 {
		m.SetString(header.Allow, "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS")
	}
	b := strconv.AppendInt(s.w.text[:0], int64(status), 10)
	b = append(b, ' ')
	b = append(b, http1.StatusText(status)...)
	b = append(b, '\n')
	s.w.text = b
	s.local(status, reason, b)
}

// respond is a route that answers by itself.
func (s *stream) respond(r *config.Respond) {
	m := &s.resp.Header
	m.Reset(nil)
	for _, h := range r.Headers {
		m.AddName(h[0], h[1])
	}
	s.route.response.apply(m, s)
	s.w.text = append(s.w.text[:0], r.Body...)
	s.local(r.Status, reasonRespond, s.w.text)
}

// redirect is a route that answers with another place.
func (s *stream) redirect(r *config.Redirect) {
	m := &s.resp.Header
	m.Reset(nil)
	s.pathBuf = route.Location(s.pathBuf[:0], s.route.cfg, s.c.scheme(), s.req.Host(), s.req.Path(), s.req.Query(), s.req.HasQuery())
	if m.Set(header.Location, s.pathBuf) != nil {
		s.reply(400, reasonRedirect)
		return
	}
	s.route.response.apply(m, s)
	s.local(r.Status, reasonRedirect, nil)
}

// local sends a reply that has no upstream. m, s.resp.Header, has the fields
// that are its own; body is not kept.
func (s *stream) local(status int, reason string, body []byte) {
	s.settleBody()
	s.status, s.reason = status, reason
	m := &s.resp.Header
	if sv := s.c.plan.Listener.ServerHeader; sv != "" {
		m.SetString(header.Server, sv)
	}
	m.Set(header.Date, s.w.date())
	if status >= 200 && status != 204 && status != 304 {
		m.SetInt(header.ContentLength, int64(len(body)))
	} else {
		body = nil
	}
	if s.req.Method == http1.HEAD {
		body = nil
	}
	s.setConnection()
	if s.pin.plan != nil {
		if s.pin.done != cluster.Refused { // nobody has served the session
			s.pin.done = cluster.OutcomeNone
		}
		s.debugHeader()
	}
	b := http1.AppendStatusLine(s.w.wbuf[:0], 1, status)
	b = m.AppendTo(b)
	b = append(b, "\r\n"...)
	s.flags |= replyStarted
	s.headsOut += int64(len(b))
	s.w.shard.Inc(s.c.plan.Stats.LocalReplies)
	if s.writeClient(b, body) {
		s.done()
	}
}

// settleBody makes sure that no request is read out of the rest of a body: what
// is already here is taken; if that is not all, the connection ends after the
// reply.
func (s *stream) settleBody() {
	c := s.c
	if !s.has(bodyDone) && s.has(replayable) && c.n > c.r {
		payload, used, err := s.body.Decode(c.in[c.r:c.n])
		s.bytesIn += int64(payload)
		c.r += int32(used)
		if err == nil && s.body.Done() {
			s.flags |= bodyDone
		}
	}
	if !s.has(bodyDone) {
		s.flags &^= keepAlive
	}
	if c.timing == timeBody || c.timing == timeGone {
		c.timing = timeNone
	}
}
