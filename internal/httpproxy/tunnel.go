package httpproxy

import (
	"errors"
	"io"
	"slices"

	"belay/internal/eventloop"
	"belay/internal/header"
	"belay/internal/http1"
	"belay/internal/transport"
)

// beginTunnel passes a 101 on and turns the exchange into a byte stream both
// ways (RFC 9110 7.8). Each direction reads only while the other side takes.
func (s *stream) beginTunnel(rest []byte) bool {
	if !s.has(upgrade) || !s.has(reqSent) || !s.resp.Upgrade() {
		s.w.shard.Inc(s.epst.BadReplies)
		s.tryFailed(failReply, reasonBadReply)
		return false
	}
	s.cleanReply()
	m := &s.resp.Header
	m.SetString(header.Connection, "upgrade")
	if !s.route.response.empty() {
		s.route.response.apply(m, s)
	}
	s.ep.Result(true)
	s.pinReply()
	b := http1.AppendStatusLine(s.w.wbuf[:0], 1, 101)
	b = m.AppendTo(b)
	b = append(b, "\r\n"...)
	c := s.c
	s.flags |= replyStarted
	s.flags &^= keepAlive
	s.state, c.state = streamTunnel, connTunnel
	s.upTiming = upNone
	s.w.loop.StopTimer(&s.whole)
	s.w.shard.Inc(c.plan.Stats.Upgrades)
	s.touchTunnel()
	s.headsOut += int64(len(b))
	if !s.writeClient(b, rest) {
		return false
	}
	s.dropUpIn()
	if s.w.access != nil {
		// The line is written when the tunnel ends, the buffer belongs to others then.
		s.req.Rebase(slices.Clone(c.in[s.head:c.r]))
	}
	if c.n > c.r {
		early := c.in[c.r:c.n]
		c.r = c.n
		s.bytesIn += int64(len(early))
		if !s.tunnelSend(early) {
			return false
		}
	}
	c.dropIn()
	s.resume() // both sides may have more that raised its event already
	return false
}

func (s *stream) touchTunnel() {
	s.c.arm(timeTunnel, s.c.plan.Listener.Timeouts.Tunnel)
}

// tunnelReady is the endpoint's socket in a tunnel.
func (s *stream) tunnelReady(ev eventloop.Events) {
	if ev&eventloop.Out != 0 && len(s.upOut) > int(s.upOutR) {
		n, err := s.up.Socket.Write(s.upOut[s.upOutR:], nil)
		if err != nil {
			s.finishTunnel(reasonUpstreamReset)
			return
		}
		s.upOutR += int32(n)
		if len(s.upOut) == int(s.upOutR) {
			s.dropUpOut()
			if s.tunnelCliEOF {
				s.up.Socket.CloseWrite()
			}
			if !s.tunnelFromClient() {
				return
			}
		}
	}
	if ev&(eventloop.In|eventloop.RdHup|eventloop.Hup|eventloop.Err) != 0 {
		s.tunnelFromEndpoint()
	}
}

// tunnelFromClient moves what the client sent. It reports whether the tunnel
// still stands.
func (s *stream) tunnelFromClient() bool {
	for range readsPerTurn {
		if s.tunnelCliEOF || len(s.upOut) > int(s.upOutR) {
			return true
		}
		n, err := s.c.sock.Read(s.w.rbuf[:readBuffer])
		switch {
		case err == nil:
			s.bytesIn += int64(n)
			s.touchTunnel()
			if !s.tunnelSend(s.w.rbuf[:n]) {
				return false
			}
		case errors.Is(err, transport.ErrAgain):
			return true
		case err == io.EOF:
			s.tunnelCliEOF = true
			s.up.Socket.CloseWrite()
			return s.tunnelEnded()
		default:
			s.finishTunnel(reasonClientAbort)
			return false
		}
	}
	s.resume()
	return true
}

func (s *stream) tunnelSend(p []byte) bool {
	n, err := s.up.Socket.Write(p, nil)
	if err != nil {
		s.finishTunnel(reasonUpstreamReset)
		return false
	}
	if n < len(p) {
		s.keepUp(p[n:])
	}
	return true
}

// tunnelFromEndpoint moves what the endpoint sent. It reports whether the
// tunnel still stands.
func (s *stream) tunnelFromEndpoint() bool {
	for range readsPerTurn {
		if s.c.pending() {
			return true
		}
		if s.tunnelUpEOF {
			s.c.sock.CloseWrite()
			return s.tunnelEnded()
		}
		n, err := s.up.Socket.Read(s.w.rbuf[:readBuffer])
		switch {
		case err == nil:
			s.bytesOut += int64(n)
			s.touchTunnel()
			if !s.c.write(s.w.rbuf[:n], nil) {
				return false
			}
		case errors.Is(err, transport.ErrAgain):
			return true
		case err == io.EOF:
			s.tunnelUpEOF = true
		default:
			s.finishTunnel(reasonUpstreamReset)
			return false
		}
	}
	s.resume()
	return true
}

// tunnelEnded closes a tunnel whose two directions have both ended.
func (s *stream) tunnelEnded() bool {
	if !s.tunnelCliEOF || !s.tunnelUpEOF || s.c.pending() || len(s.upOut) > int(s.upOutR) {
		return true
	}
	s.finishTunnel("")
	return false
}

// finishTunnel closes both sides, with RST if one has broken off: nobody shall take
// what it has for the whole.
func (s *stream) finishTunnel(reason string) {
	c := s.c
	c.s = nil
	s.reason = reason
	broken := reason == reasonClientAbort || reason == reasonUpstreamReset
	if broken {
		s.up.Reset()
	}
	s.account()
	s.free()
	if broken {
		c.reset()
		return
	}
	c.close()
}
