package httpproxy

import (
	"errors"
	"io"
	"net/netip"
	"time"

	"belay/internal/eventloop"
	"belay/internal/http1"
	"belay/internal/listener"
	"belay/internal/transport"
)

// conn is a client's HTTP/1 connection. Idle, it holds no buffer and no stream.
//
//	idle ──bytes──> head ──complete──> busy ──reply flushed, keep-alive──> idle
//	  │               │                 │ ├──reply flushed, close──> linger ──> closed
//	  │               └─bad, slow─> busy│ └──101──> tunnel ──both ends──> closed
//	  └─timer, EOF──> closed            ├─client gone──> closed
//	                                    └─reply broken off──> flush ──> closed
type conn struct {
	w    *Worker
	acc  *listener.Acceptor
	plan *Plan
	sock transport.Socket
	s    *stream // while head, busy or tunnel
	peer netip.AddrPort
	came *arrival // nil: plain, and nothing more is known
	// shared is the choice that the request behind the present one shares; nil: none.
	shared *sharedPin
	id     uint64
	timer  eventloop.Timer

	// in[r:n] is read and not consumed. While a stream is busy its head and
	// what is kept of its body lie before r.
	in   []byte
	r, n int32
	// out[outR:] waits for the socket.
	out  []byte
	outR int32

	index    int32 // in Worker.conns
	requests int32
	turn     uint8 // requests begun in this turn
	state    connState
	timing   timing
	eof      bool // the client sends no more
	deferred bool // RunTask is due
}

type connState uint8

const (
	connIdle connState = iota
	connHead
	connBusy
	connTunnel
	connFlush
	connLinger
	connClosed
)

// timing says what the connection's one timer is for.
type timing uint8

const (
	timeNone timing = iota
	timeIdle
	timeDrain
	timeHead
	timeBody
	timeWrite
	timeLinger
	timeTunnel
	timeGone
)

const (
	// lingerTime is how long a closed connection may take to hear of it: what
	// the client still sends is read and dropped meanwhile, since a close with
	// unread bytes would reset the connection under the reply.
	lingerTime = 2 * time.Second
	// goneGrace is how long a client that ended its direction may wait for its
	// reply to begin. It may only have nothing more to ask; more often it is gone.
	goneGrace = time.Second
)

// arm sets the timer's purpose and time; a time of zero means no limit.
func (c *conn) arm(t timing, d time.Duration) {
	if d <= 0 {
		c.timing = timeNone
		return
	}
	c.timing = t
	c.w.loop.SetTimer(&c.timer, c, c.w.loop.Now()+int64(d))
}

// HandleTimer acts on the purpose that is armed. A timer left over from an
// earlier purpose finds timeNone.
func (c *conn) HandleTimer(*eventloop.Timer) {
	t := c.timing
	c.timing = timeNone
	switch t {
	case timeIdle, timeLinger:
		c.close()
	case timeDrain:
		c.drained()
	case timeHead:
		c.w.shard.Inc(c.plan.Stats.HeadTimeouts)
		c.state = connBusy
		c.s.reply(408, reasonHeadTimeout)
	case timeBody:
		c.s.bodyTimeout()
	case timeWrite:
		c.w.shard.Inc(c.plan.Stats.WriteTimeouts)
		c.abort(reasonClientWriteTimeout)
	case timeGone:
		c.abort(reasonClientAbort)
	case timeTunnel:
		c.s.finishTunnel(reasonTunnelTimeout)
	}
}

// Ready is the socket's event.
func (c *conn) Ready(ev eventloop.Events) {
	if ev&eventloop.Out != 0 && c.pending() && !c.flush() {
		return
	}
	if ev&(eventloop.Hup|eventloop.Err) != 0 && c.isGone(ev) {
		c.gone()
		return
	}
	if ev&(eventloop.In|eventloop.RdHup|eventloop.Hup|eventloop.Err) == 0 {
		return
	}
	c.turn = 0
	switch c.state {
	case connIdle, connHead:
		c.readHead()
	case connBusy:
		c.s.clientReadable()
	case connTunnel:
		c.s.tunnelFromClient()
	case connLinger:
		c.discard()
	}
}

// isGone: an idle connection finds out by reading; a tunnel may still have the
// client's last bytes to read when both directions are shut without an error.
func (c *conn) isGone(ev eventloop.Events) bool {
	switch c.state {
	case connIdle, connHead:
		return false
	case connTunnel:
		return ev&eventloop.Err != 0
	}
	return true
}

// gone handles a connection that is closed in both directions.
func (c *conn) gone() {
	if c.state == connLinger {
		c.close()
		return
	}
	c.abort(reasonClientAbort)
}

// readHead reads until a head is complete and begins its exchange; requests
// that are already in the buffer follow, up to the pipeline limit of a turn.
func (c *conn) readHead() {
	for {
		if c.n > c.r && c.state != connBusy && c.parse() {
			if c.state != connIdle {
				return
			}
			continue
		}
		if c.state != connIdle && c.state != connHead || c.deferred {
			return
		}
		if !c.fill() {
			return
		}
	}
}

// fill reads once and reports whether anything came.
func (c *conn) fill() bool {
	if c.in == nil {
		c.in = c.w.loop.Get(headBuffer)
		c.r, c.n = 0, 0
	} else if int(c.n) == len(c.in) {
		c.grow(2 * len(c.in))
	}
	n, err := c.sock.Read(c.in[c.n:])
	if err == nil {
		c.n += int32(n)
		return true
	}
	if errors.Is(err, transport.ErrAgain) {
		c.rest()
		return false
	}
	c.closeRead(err)
	return false
}

// closeRead ends a connection whose client sends no more before a head was whole.
func (c *conn) closeRead(err error) {
	if c.state == connHead {
		c.w.shard.Inc(c.plan.Stats.HeadAborts)
		if err == io.EOF && c.n > c.r {
			c.eof = true
			c.state = connBusy
			c.s.reply(400, reasonTruncatedHead)
			return
		}
	}
	c.close()
}

// rest gives the buffer back if nothing is in it.
func (c *conn) rest() {
	if c.r == c.n && c.in != nil && c.state == connIdle {
		c.w.loop.Put(c.in)
		c.in = nil
		c.r, c.n = 0, 0
	}
}

// grow moves the buffer's content to a larger one.
func (c *conn) grow(size int) {
	b := c.w.loop.Get(size)
	copy(b, c.in[:c.n])
	c.w.loop.Put(c.in)
	c.in = b
}

// parse looks at in[r:n] and reports whether an exchange was begun (and maybe
// already ended).
func (c *conn) parse() bool {
	if c.state == connIdle {
		if int(c.turn) >= c.plan.Listener.Limits.Pipeline && c.turn > 0 {
			c.deferNext()
			return false
		}
		c.state = connHead
		c.s = c.w.newStream(c)
		c.s.start = c.w.loop.Now()
		c.arm(timeHead, c.plan.Listener.Timeouts.Head)
	}
	if c.in[c.r] == tlsRecord && c.closeTLS() {
		return false
	}
	s := c.s
	n, err := s.req.Parse(c.in[c.r:c.n], &c.plan.options)
	if err == http1.ErrNeedMore {
		return false
	}
	c.turn++
	c.state = connBusy
	c.timing = timeNone
	s.head = c.r
	if err != nil {
		var pe *http1.Error
		errors.As(err, &pe)
		c.w.shard.Inc(c.plan.Stats.BadRequests)
		c.r = c.n
		s.reply(pe.Status, pe.Reason)
		return true
	}
	c.r += int32(n)
	c.requests++
	s.begin()
	if c.s == s && s.has(bodyDone) && c.sock.Readable() { // the end may have come with the request
		s.clientEarly()
	}
	return true
}

// deferNext has the connection go on in the next turn, after others.
func (c *conn) deferNext() {
	if !c.deferred {
		c.deferred = true
		c.w.loop.Defer(c)
	}
}

// RunTask goes on with what waits in the buffer or the socket.
func (c *conn) RunTask() {
	c.deferred = false
	c.turn = 0
	switch c.state {
	case connIdle, connHead:
		c.readHead()
	case connLinger:
		c.discard()
	}
}

// pending reports whether reply bytes wait for the socket.
func (c *conn) pending() bool { return len(c.out) > int(c.outR) }

// write sends a, then b. What the socket does not take is kept (the caller
// stops producing while pending is true). It reports false if the connection
// is lost, and is then closed.
func (c *conn) write(a, b []byte) bool {
	if c.pending() {
		c.keep(a, b)
		return true
	}
	n, err := c.sock.Write(a, b)
	if err != nil {
		c.abort(reasonClientAbort)
		return false
	}
	if n < len(a) {
		c.keep(a[n:], b)
	} else if n -= len(a); n < len(b) {
		c.keep(b[n:], nil)
	}
	return true
}

// keep appends to out.
func (c *conn) keep(a, b []byte) {
	need := len(c.out) + len(a) + len(b)
	if need > cap(c.out) {
		bigger := c.w.loop.Get(need)[:len(c.out)]
		copy(bigger, c.out)
		if c.out != nil {
			c.w.loop.Put(c.out[:cap(c.out)])
		}
		c.out = bigger
	}
	if c.timing != timeTunnel {
		c.arm(timeWrite, c.plan.Listener.Timeouts.Write)
	}
	c.out = append(append(c.out, a...), b...)
}

// flush sends what waits. It reports false if the connection ended or went on
// to something else.
func (c *conn) flush() bool {
	n, err := c.sock.Write(c.out[c.outR:], nil)
	if err != nil {
		c.abort(reasonClientAbort)
		return false
	}
	c.outR += int32(n)
	if c.pending() {
		if n > 0 && c.timing == timeWrite {
			c.arm(timeWrite, c.plan.Listener.Timeouts.Write)
		}
		return true
	}
	c.dropOut()
	if c.timing == timeWrite {
		c.timing = timeNone
	}
	if c.s != nil {
		return c.s.clientWritable()
	}
	if c.state == connFlush {
		c.close()
		return false
	}
	return true
}

// closeAfterFlush ends a connection whose exchange has ended, once what is kept
// for the client is out.
func (c *conn) closeAfterFlush() {
	c.state = connFlush
	c.dropIn()
	c.arm(timeWrite, c.plan.Listener.Timeouts.Write)
}

// reset ends the connection with RST, so that the client does not take what it
// has for a whole reply.
func (c *conn) reset() {
	c.sock.Reset()
	c.close()
}

func (c *conn) dropOut() {
	if c.out != nil {
		c.w.loop.Put(c.out[:cap(c.out)])
		c.out, c.outR = nil, 0
	}
}

// next ends the loan of the stream and waits for the next request or closes. A
// client that asked for the end itself and sent nothing more needs no lingering.
func (c *conn) next(keepAlive, asked bool) {
	c.s = nil
	switch {
	case keepAlive:
		c.idle()
	case c.eof, asked && c.r == c.n && !c.sock.Readable():
		c.close()
	default:
		c.linger()
	}
}

func (c *conn) idle() {
	c.state = connIdle
	if c.r == c.n {
		c.r, c.n = 0, 0
		c.shared = nil // nothing was under way
	} else {
		copy(c.in, c.in[c.r:c.n])
		c.r, c.n = 0, c.n-c.r
	}
	if c.n > 0 || c.sock.Readable() {
		c.deferNext()
	} else {
		c.rest()
	}
	c.await(c.plan.Listener.Timeouts.Idle)
}

// linger closes our direction and waits for the client's end.
func (c *conn) linger() {
	c.state = connLinger
	c.dropIn()
	if c.sock.CloseWrite() != nil {
		c.close()
		return
	}
	c.arm(timeLinger, lingerTime)
	c.discard()
}

// discard reads and drops until the end or ErrAgain.
func (c *conn) discard() {
	for range readsPerTurn {
		_, err := c.sock.Read(c.w.rbuf)
		if errors.Is(err, transport.ErrAgain) {
			return
		}
		if err != nil {
			c.close()
			return
		}
	}
	c.deferNext()
}

func (c *conn) dropIn() {
	if c.in != nil {
		c.w.loop.Put(c.in)
		c.in = nil
	}
	c.r, c.n = 0, 0
}

// abort ends the connection and its exchange at once.
func (c *conn) abort(reason string) {
	if c.state == connClosed {
		return
	}
	cut := false
	if s := c.s; s != nil {
		c.s = nil
		cut = s.closeFramed()
		s.aborted(reason)
	}
	if cut {
		c.reset()
		return
	}
	c.close()
}

// close frees everything the connection has. The exchange must have ended.
func (c *conn) close() {
	if c.state == connClosed {
		return
	}
	if s := c.s; s != nil { // a head that never became a request
		c.s = nil
		s.free()
	}
	c.state = connClosed
	w := c.w
	w.loop.StopTimer(&c.timer)
	c.dropIn()
	c.dropOut()
	c.sock.Close()
	w.shard.GaugeAdd(c.plan.Stats.Active, -1)
	last := len(w.conns) - 1
	w.conns[c.index] = w.conns[last]
	w.conns[c.index].index = c.index
	w.conns[last] = nil
	w.conns = w.conns[:last]
	c.acc.Done(c.peer)
	w.checkEmpty()
}
