package httpproxy

import (
	"errors"
	"io"

	"belay/internal/header"
	"belay/internal/http1"
	"belay/internal/transport"
)

// maxInterims bounds the 1xx replies before a final one.
const maxInterims = 16

// readReply reads from the endpoint as long as the client takes what comes.
func (s *stream) readReply() {
	for range readsPerTurn {
		if s.c.pending() { // back pressure: the flush goes on here
			s.upTiming = upNone
			return
		}
		buf := s.w.rbuf[:readBuffer]
		if s.upIn != nil {
			buf = s.upIn[s.upInN:]
		}
		n, err := s.up.Socket.Read(buf)
		if err != nil {
			if errors.Is(err, transport.ErrAgain) {
				switch {
				case s.state == streamReplying:
					s.arm(upBody, s.cl.shared.Config.BodyTimeout)
				case s.upTiming == upNone:
					s.sent(true)
				}
				return
			}
			s.endpointEnded(err)
			return
		}
		s.flags |= gotReply
		if !s.fed(buf[:n]) {
			return
		}
	}
	if s.state == streamReplying {
		s.upTiming = upNone
	}
	s.resume()
}

// clientWritable is called when everything that was kept for the client went
// out. It reports false if the exchange ended.
func (s *stream) clientWritable() bool {
	switch s.state {
	case streamDone:
		s.end()
		return false
	case streamTunnel:
		return s.tunnelFromEndpoint()
	case streamAwait, streamReplying:
		c := s.c
		if s.up != nil {
			s.readReply()
		}
		if c.s != s || c.state == connClosed {
			return false
		}
		if !s.has(bodyDone) {
			s.watchBody()
		}
	}
	return true
}

// fed takes bytes from the endpoint. It reports whether to read on.
func (s *stream) fed(p []byte) bool {
	if s.state == streamReplying {
		return s.replyBody(nil, p)
	}
	if s.firstByte == 0 {
		s.firstByte = s.w.loop.Now()
	}
	if s.upIn != nil {
		s.upInN += int32(len(p))
		p = s.upIn[:s.upInN]
	}
	for {
		n, err := s.resp.Parse(p, s.req.Method, &s.cl.shared.options)
		if err == http1.ErrNeedMore {
			return s.keepHead(p)
		}
		if err != nil {
			s.w.shard.Inc(s.epst.BadReplies)
			s.tryFailed(failReply, reasonBadReply)
			return false
		}
		p = p[n:]
		if !s.resp.Interim() {
			return s.beginReply(p)
		}
		if s.interims++; s.interims > maxInterims {
			s.w.shard.Inc(s.epst.BadReplies)
			s.tryFailed(failReply, reasonInterimFlood)
			return false
		}
		if !s.interim() {
			return false
		}
		s.resp.Reset()
		if len(p) == 0 {
			s.dropUpIn()
			return true
		}
		if s.upIn != nil { // the parser counts from where its bytes begin
			s.upInN = int32(copy(s.upIn, p))
			p = s.upIn[:s.upInN]
		}
	}
}

// keepHead keeps the part of a head that has come until the rest does.
func (s *stream) keepHead(p []byte) bool {
	if s.upIn == nil {
		s.upIn = s.w.loop.Get(max(headBuffer, 2*len(p)))
		s.upInN = int32(copy(s.upIn, p))
		return true
	}
	if int(s.upInN) == len(s.upIn) {
		b := s.w.loop.Get(2 * len(s.upIn))
		copy(b, s.upIn[:s.upInN])
		s.w.loop.Put(s.upIn)
		s.upIn = b
	}
	return true
}

// interim passes a 1xx on (RFC 9110 15.2), unless the client is too old.
func (s *stream) interim() bool {
	if s.req.Minor == 0 {
		return true
	}
	s.cleanReply()
	b := http1.AppendStatusLine(s.w.wbuf[:0], 1, s.resp.Status)
	b = s.resp.Header.AppendTo(b)
	b = append(b, "\r\n"...)
	s.flags |= interimSent
	s.bytesOut += int64(len(b))
	s.headsOut += int64(len(b))
	return s.c.write(b, nil)
}

// cleanReply removes the fields that are between the endpoint and us.
func (s *stream) cleanReply() {
	m := &s.resp.Header
	if m.Has(header.Connection) {
		s.resp.ConnectionTokens(func(name []byte) bool {
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
	if s.resp.Status != 101 {
		m.Remove(header.Upgrade)
	}
	if s.resp.Status == 204 || s.resp.Status < 200 { // RFC 9110 8.6
		m.Remove(header.ContentLength)
	}
}

// beginReply handles the final head; rest is what came behind it.
func (s *stream) beginReply(rest []byte) bool {
	status := s.resp.Status
	s.status = status
	if status == 101 {
		return s.beginTunnel(rest)
	}
	if s.retryStatus(status) {
		s.w.shard.Inc(s.epst.Failures)
		s.endTry()
		s.status = 0
		s.retry()
		return false
	}
	s.rbody.Init(s.resp.Framing, s.resp.ContentLength, &s.cl.shared.options)
	if s.rbody.Done() && len(rest) > 0 {
		s.w.shard.Inc(s.epst.BadReplies)
		s.tryFailed(failReply, reasonSurplus)
		return false
	}
	s.cleanReply()
	if s.c.timing == timeGone {
		s.c.timing = timeNone
	}
	if !s.has(bodyDone) { // answered before the request ended
		s.flags &^= keepAlive
	}
	b := s.replyHead()
	return s.replyBody(b, rest)
}

// replyHead decides how the reply is framed for the client and serialises its
// head into the worker's buffer.
func (s *stream) replyHead() []byte {
	m := &s.resp.Header
	switch s.resp.Framing {
	case http1.FrameChunked, http1.FrameClose:
		if s.req.Minor == 1 {
			s.flags |= chunkedOut
			m.SetString(header.TransferEncoding, "chunked")
		} else {
			s.flags &^= keepAlive
		}
	}
	s.setConnection()
	if !s.route.response.empty() {
		s.route.response.apply(m, s)
	}
	b := http1.AppendStatusLine(s.w.wbuf[:0], 1, s.resp.Status)
	b = m.AppendTo(b)
	return append(b, "\r\n"...)
}

// setConnection tells the client, last thing before the head is written, whether
// its connection stays.
func (s *stream) setConnection() {
	if s.has(keepAlive) && s.w.partAfter() {
		s.flags &^= keepAlive
	}
	m := &s.resp.Header
	if !s.has(keepAlive) {
		m.SetString(header.Connection, "close")
	} else if s.req.Minor == 0 {
		m.SetString(header.Connection, "keep-alive")
	}
}

// replyBody passes bytes of the reply on, behind head if that is given. It
// reports whether to read on.
func (s *stream) replyBody(head, p []byte) bool {
	n, used, err := s.rbody.Decode(p)
	if err != nil {
		s.w.shard.Inc(s.epst.BadReplies)
		s.tryFailed(failReply, reasonBadReply)
		return false
	}
	if s.rbody.Done() && used < len(p) {
		s.w.shard.Inc(s.epst.BadReplies)
		if head != nil {
			s.tryFailed(failReply, reasonSurplus)
			return false
		}
		s.flags |= surplus
	}
	if head != nil {
		s.flags |= replyStarted
		s.state = streamReplying
		s.headsOut += int64(len(head))
	}
	if !s.writeReply(head, p[:n]) {
		return false
	}
	if head != nil {
		s.dropUpIn()
	}
	if s.rbody.Done() {
		s.replyDone()
		return false
	}
	return true
}

// writeReply frames payload and hands it to the client's connection.
func (s *stream) writeReply(head, payload []byte) bool {
	b := head
	if b == nil {
		b = s.w.wbuf[:0]
	}
	done := s.rbody.Done()
	if !s.has(chunkedOut) {
		return s.writeClient(b, payload)
	}
	if len(payload) > 0 {
		b = http1.AppendChunkHeader(b, len(payload))
	}
	if len(payload) > copyLimit && cap(payload)-len(payload) >= 2 {
		payload = append(payload, "\r\n"...)
		if !s.writeClient(b, payload) {
			return false
		}
		if !done {
			return true
		}
		return s.writeClient(appendLastChunk(s.w.wbuf[:0], &s.rbody), nil)
	}
	if len(payload) > 0 {
		b = append(b, payload...)
		b = append(b, "\r\n"...)
	}
	if done {
		b = appendLastChunk(b, &s.rbody)
	}
	return s.writeClient(b, nil)
}

// writeClient sends a and b in one piece where copying is cheaper than gathering.
func (s *stream) writeClient(a, b []byte) bool {
	s.bytesOut += int64(len(a) + len(b))
	if len(a) == 0 {
		a, b = b, nil
	} else if len(b) <= copyLimit {
		a, b = append(a, b...), nil
	}
	if len(a) == 0 {
		return true
	}
	return s.c.write(a, b)
}

// replyDone ends the exchange with the endpoint: its connection goes back to
// the pool if nothing is left in either direction.
func (s *stream) replyDone() {
	up := s.up
	s.up = nil
	s.upTiming = upNone
	if s.has(reqSent) && s.resp.KeepAlive && !s.has(surplus) {
		up.Release()
	} else {
		up.Close()
	}
	s.uncount()
	s.dropUpOut()
	s.done()
}

// endpointEnded is EOF or an error from the endpoint's socket.
func (s *stream) endpointEnded(err error) {
	s.up.Broken(err)
	if s.state == streamReplying {
		if err == io.EOF && s.rbody.EOF() == nil {
			s.flags |= surplus // the connection has ended
			if s.has(chunkedOut) && !s.writeClient(appendLastChunk(s.w.wbuf[:0], &s.rbody), nil) {
				return
			}
			s.replyDone()
			return
		}
		s.w.shard.Inc(s.epst.Failures)
		s.replyBroken(reasonUpstreamTruncated)
		return
	}
	if s.has(gotReply) {
		s.w.shard.Inc(s.epst.BadReplies)
		s.tryFailed(failReply, reasonUpstreamTruncated)
		return
	}
	s.tryFailed(failReset, reasonUpstreamReset)
}

// closeFramed reports whether only the end of the connection tells the client
// where the reply ends.
func (s *stream) closeFramed() bool {
	return s.state == streamReplying && !s.has(chunkedOut) &&
		(s.resp.Framing == http1.FrameClose || s.resp.Framing == http1.FrameChunked)
}

// replyBroken ends a reply that cannot be completed. The client must not take
// what it has for whole: chunks stay without their end, a length unfilled, and
// a body that only the close would end is reset.
func (s *stream) replyBroken(reason string) {
	s.reason = reason
	c := s.c
	c.s = nil
	closeFramed := s.closeFramed()
	s.account()
	s.free()
	if closeFramed {
		c.reset()
		return
	}
	if c.pending() {
		c.closeAfterFlush()
		return
	}
	c.close()
}
