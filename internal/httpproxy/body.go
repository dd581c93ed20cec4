package httpproxy

import (
	"errors"
	"io"

	"belay/internal/eventloop"
	"belay/internal/http1"
	"belay/internal/transport"
)

// clientReadable is the client's socket while the request is under way.
func (s *stream) clientReadable() {
	if s.has(bodyDone) || s.state == streamDone {
		s.clientEarly()
		return
	}
	c := s.c
	s.readBody()
	if c.s == s && s.has(bodyDone) && s.state != streamDone && c.sock.Readable() { // the end came with the rest of the body
		s.clientEarly()
	}
}

// clientEarly looks at a client that sends while we owe it a reply. Bytes are a
// next request and wait. After an end the reply must begin within goneGrace.
func (s *stream) clientEarly() {
	c := s.c
	if int(c.n-c.r) > 0 || c.eof || len(c.in) == 0 || int(c.n) == len(c.in) {
		return
	}
	n, err := c.sock.Read(c.in[c.n:])
	switch {
	case err == nil:
		c.n += int32(n)
	case errors.Is(err, transport.ErrAgain):
	case err == io.EOF:
		c.eof = true
		s.flags &^= keepAlive
		if !s.has(replyStarted) {
			c.arm(timeGone, goneGrace)
		}
	default:
		c.abort(reasonClientAbort)
	}
}

// readBody takes what the client sends of the request body and passes it on,
// as far as there is room.
func (s *stream) readBody() {
	c := s.c
	for range readsPerTurn {
		if s.has(bodyDone) || !s.room() {
			s.watchBody()
			return
		}
		n, err := c.sock.Read(c.in[c.n:])
		if err != nil {
			if errors.Is(err, transport.ErrAgain) {
				s.watchBody()
				return
			}
			s.bodyLost(err)
			return
		}
		c.n += int32(n)
		if !s.decodeBody() {
			return
		}
		if !s.sendBody() {
			return
		}
	}
	if s.c.timing == timeBody {
		s.c.timing = timeNone
	}
	s.resume()
}

// resume has the exchange go on in the next turn, once.
func (s *stream) resume() {
	if !s.deferred {
		s.deferred = true
		s.w.loop.Defer(s)
	}
}

// RunTask goes on where a turn's share was used up.
func (s *stream) RunTask() {
	s.deferred = false
	if s.c == nil {
		return
	}
	switch s.state {
	case streamTunnel:
		s.tunnelFromClient()
		if s.c != nil && s.state == streamTunnel {
			s.tunnelFromEndpoint()
		}
		return
	case streamConnecting, streamWaiting, streamBackoff, streamAwait, streamReplying:
	default:
		return
	}
	if !s.has(bodyDone) && s.c.sock.Readable() {
		s.readBody()
	}
	if s.c != nil && s.up != nil && (s.state == streamAwait || s.state == streamReplying) {
		s.readReply()
	}
}

// room makes space in conn.in for more body and reports whether there is any.
// Until the buffer is as large as a direction may hold, it grows and the body
// stays whole for a retry; then the part that was sent is dropped.
func (s *stream) room() bool {
	c := s.c
	full := int(c.n) == len(c.in)
	most := bodyBuffer
	if most-int(s.bodyBeg) < headBuffer { // a head that leaves the body no room
		most *= 2
	}
	if full && len(c.in) < most {
		size := 4 * len(c.in)
		if s.req.Framing == http1.FrameLength { // all of it in one read if it fits
			size = max(size, int(s.bodyBeg)+int(min(s.req.ContentLength, bodyBuffer)))
		}
		c.grow(min(size, most))
		s.req.Rebase(c.in[s.head:])
		return true
	}
	if !full && s.has(replayable) {
		return true
	}
	if s.bodySent == s.bodyEnd && s.has(headSent) {
		s.flags &^= replayable
		s.bodySent, s.bodyEnd = s.bodyBeg, s.bodyBeg
		c.r, c.n = s.bodyBeg, s.bodyBeg
	}
	return int(c.n) < len(c.in)
}

// decodeBody takes the framing off in[r:n]; payload joins in[bodyBeg:bodyEnd].
// It reports false if the exchange ended over it.
func (s *stream) decodeBody() bool {
	c := s.c
	payload, used, err := s.body.Decode(c.in[c.r:c.n])
	if payload > 0 {
		if s.bodyEnd != c.r {
			copy(c.in[s.bodyEnd:], c.in[c.r:int(c.r)+payload])
		}
		s.bodyEnd += int32(payload)
		s.bytesIn += int64(payload)
	}
	c.r += int32(used)
	if c.r == c.n { // what was decoded is compact: the rest is free again
		c.r, c.n = s.bodyEnd, s.bodyEnd
	}
	if err != nil {
		s.badBody(err)
		return false
	}
	if s.body.Done() {
		s.flags |= bodyDone
	}
	if max := s.maxBody(); max > 0 && s.bytesIn > max {
		s.w.shard.Inc(s.c.plan.Stats.BodyTooLarge)
		s.refuse(413, reasonBodyTooLarge)
		return false
	}
	return true
}

// badBody answers a body whose framing is broken.
func (s *stream) badBody(err error) {
	s.w.shard.Inc(s.c.plan.Stats.BadRequests)
	status, reason := 400, reasonBadBody
	var pe *http1.Error
	if errors.As(err, &pe) {
		status, reason = pe.Status, pe.Reason
	}
	s.refuse(status, reason)
}

// refuse ends an exchange for the client's fault: by a reply, or if a reply is
// already under way by breaking it off.
func (s *stream) refuse(status int, reason string) {
	if s.has(replyStarted) {
		s.c.abort(reason)
		return
	}
	s.dropUpstream()
	s.reply(status, reason)
}

// bodyLost is a client that ended or broke off in the middle of its body.
func (s *stream) bodyLost(err error) {
	s.c.eof = true
	if err == io.EOF && !s.has(replyStarted) {
		s.w.shard.Inc(s.c.plan.Stats.BadRequests)
		s.refuse(400, reasonTruncatedBody)
		return
	}
	s.c.abort(reasonClientAbort)
}

// bodyTimeout is a client that stopped sending in the middle of its body.
func (s *stream) bodyTimeout() {
	s.w.shard.Inc(s.c.plan.Stats.BodyTimeouts)
	s.refuse(408, reasonBodyTimeout)
}

// watchBody arms the body timer while it is the client that we wait for.
func (s *stream) watchBody() {
	c := s.c
	switch {
	case c.timing == timeWrite:
	case s.has(bodyDone) || int(c.n) == len(c.in):
		c.timing = timeNone
	default:
		c.arm(timeBody, c.plan.Listener.Timeouts.Body)
	}
}

// sendBody gives the endpoint what there is of the body. It reports false if
// the exchange ended over it.
func (s *stream) sendBody() bool {
	if !s.has(headSent) || s.up == nil || len(s.upOut) > int(s.upOutR) {
		return true
	}
	p := s.c.in[s.bodySent:s.bodyEnd]
	wrote := false
	if s.has(chunkedUp) {
		return s.sendChunk(p)
	}
	if len(p) > 0 {
		n, err := s.up.Socket.Write(p, nil)
		if err != nil {
			return s.sendFailed()
		}
		if n > 0 {
			s.flags |= sentAny
			wrote = true
		}
		s.bodySent += int32(n)
	}
	return s.sent(wrote)
}

// sendChunk frames p as one chunk and, after the last, the end with trailers.
func (s *stream) sendChunk(p []byte) bool {
	b := s.w.wbuf[:0]
	if len(p) > 0 {
		b = http1.AppendChunkHeader(b, len(p))
		b = append(b, p...)
		b = append(b, "\r\n"...)
		s.bodySent = s.bodyEnd
	}
	if s.has(bodyDone) && !s.has(lastChunkUp) {
		b = appendLastChunk(b, &s.body)
		s.flags |= lastChunkUp
	}
	return s.writeUp(b) && s.sent(true)
}

// appendLastChunk ends a chunked body with the trailers that came.
func appendLastChunk(b []byte, body *http1.Body) []byte {
	b = append(b, "0\r\n"...)
	if t := body.Trailer(); t != nil {
		b = t.AppendTo(b)
	}
	return append(b, "\r\n"...)
}

// writeUp sends b to the endpoint and keeps what its socket does not take. It
// reports false if the try failed over it.
func (s *stream) writeUp(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	n, err := s.up.Socket.Write(b, nil)
	if err != nil {
		return s.sendFailed()
	}
	if n > 0 {
		s.flags |= sentAny
	}
	if n < len(b) {
		s.keepUp(b[n:])
	}
	return true
}

func (s *stream) keepUp(b []byte) {
	s.upOut = append(s.w.loop.Get(len(b))[:0], b...)
	s.upOutR = 0
}

// sent looks whether the request is complete and sets the timer to what comes.
// wrote says that the endpoint took something, which renews its time.
func (s *stream) sent(wrote bool) bool {
	waiting := len(s.upOut) > int(s.upOutR) || s.bodySent < s.bodyEnd
	switch {
	case waiting:
		if s.state == streamAwait && (wrote || s.upTiming != upWrite) {
			s.arm(upWrite, s.cl.shared.Config.WriteTimeout)
		}
	case s.has(bodyDone):
		if !s.has(reqSent) {
			s.flags |= reqSent
			s.sentAt = s.w.loop.Now()
		}
		if s.state == streamAwait {
			s.arm(upFirstByte, s.firstByteTimeout())
		}
	default:
		if s.state == streamAwait {
			s.upTiming = upNone
		}
	}
	return true
}

// sendFailed is a write to the endpoint that met an error. A reply may have come
// before the endpoint closed (an early refusal of a large body): read it.
func (s *stream) sendFailed() bool {
	if s.state == streamAwait && s.up.Socket.Readable() {
		s.flags &^= keepAlive
		s.dropUpOut()
		s.readReply()
		return false
	}
	if s.has(replyStarted) { // the reply goes on; the rest of the body is of no use
		s.flags &^= keepAlive
		s.dropUpOut()
		return true
	}
	s.tryFailed(failReset, reasonUpstreamReset)
	return false
}

// endpointWritable goes on sending.
func (s *stream) endpointWritable() bool {
	if len(s.upOut) > int(s.upOutR) {
		n, err := s.up.Socket.Write(s.upOut[s.upOutR:], nil)
		if err != nil {
			return s.sendFailed()
		}
		if n > 0 {
			s.flags |= sentAny
		}
		s.upOutR += int32(n)
		if len(s.upOut) > int(s.upOutR) {
			s.arm(upWrite, s.cl.shared.Config.WriteTimeout)
			return true
		}
		s.dropUpOut()
	}
	if s.has(reqSent) {
		return true
	}
	if !s.sendBody() {
		return false
	}
	if !s.has(bodyDone) && s.c.sock.Readable() {
		s.readBody()
		return s.c != nil
	}
	s.watchBody()
	return true
}

// Ready is the endpoint's socket.
func (s *stream) Ready(ev eventloop.Events) {
	if s.up == nil {
		return
	}
	switch s.state {
	case streamConnecting:
		s.handshake()
		return
	case streamTunnel:
		s.tunnelReady(ev)
		return
	}
	if ev&eventloop.Out != 0 && !s.has(reqSent) {
		if !s.endpointWritable() || s.up == nil {
			return
		}
	}
	if ev&(eventloop.In|eventloop.RdHup|eventloop.Hup|eventloop.Err) != 0 {
		s.readReply()
	}
}
