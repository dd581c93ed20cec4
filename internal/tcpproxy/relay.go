package tcpproxy

import (
	"errors"
	"io"
	"syscall"

	"belay/internal/eventloop"
	"belay/internal/transport"
)

const (
	// turnShare is how much a direction moves before others get their turn.
	turnShare = 512 << 10

	// A direction is spliced once it moved bulkStart in turns of at least bulkTurn,
	// and copied again after some small turns: a splice costs one system call
	// more than a copy, and saves the copy.
	bulkStart  = 256 << 10
	bulkTurn   = 16 << 10
	smallTurns = 8
)

// direction is one of the two ways of a connection. It reads only while it holds
// nothing, so a slow reader stops its writer.
type direction struct {
	src, dst transport.Socket

	// held[r:] was read by copying and waits for dst; or piped bytes are in pipe.
	held  []byte
	r     int
	pipe  *eventloop.Pipe // nil: none
	piped int

	bytes   int64 // read
	streak  int   // bytes of the turns in a row that were large
	small   uint8 // turns in a row that were small
	bulk    bool
	splices bool // both ends can
	eof     bool // src ended
	over    bool // nothing more is moved: dst was told the end, or is lost
}

// waits reports whether dst has to take something first.
func (d *direction) waits() bool { return len(d.held) > d.r || d.piped > 0 }

// relay begins to move bytes. Both sides may have some that raised their event
// before.
func (c *conn) relay() {
	c.state = connRelay
	now := c.w.loop.Now()
	c.connected, c.active = now, now
	if c.w.access != nil {
		c.where = c.up.Where()
	}
	up := c.up.Socket
	splices := c.plan.Listener.TCP.Splice && c.w.pipes.limit > 0 && transport.CanSplice(c.client) != nil && transport.CanSplice(up) != nil
	c.in = direction{src: c.client, dst: up, splices: splices}
	c.out = direction{src: up, dst: c.client, splices: splices}
	if c.head != nil {
		c.in.held, c.head = c.head, nil
		c.in.bytes = int64(len(c.in.held))
		c.w.shard.Add(c.plan.Stats.BytesIn, uint64(len(c.in.held)))
	}
	c.arm(c.plan.Listener.Timeouts.Tunnel)
	if c.move(&c.in) {
		c.move(&c.out)
	}
}

// move carries a direction on until its source is dry, its sink full, or the
// turn's share is used up. It reports whether the connection still stands.
func (c *conn) move(d *direction) bool {
	if d.over {
		return true
	}
	moved := 0
	var err error
	for err == nil {
		if d.waits() && !c.flush(d) {
			break
		}
		if d.over || d.eof {
			break
		}
		if moved >= turnShare {
			c.deferNext()
			break
		}
		var n int
		n, err = c.take(d)
		moved += n
	}
	c.moved(d, moved)
	switch {
	case d.over:
		return c.sinkLost(d)
	case err == io.EOF || d.eof && !d.waits():
		d.eof = true
		return c.sourceEnded(d)
	case err != nil && !errors.Is(err, transport.ErrAgain):
		if d.src == c.up.Socket {
			c.up.Broken(err)
		}
		if errors.Is(err, transport.ErrTruncated) {
			return c.part(d)
		}
		c.end(c.lost(d.src), true)
		return false
	}
	return true
}

// take reads once and offers dst what came.
func (c *conn) take(d *direction) (int, error) {
	if d.bulk && d.splices && c.w.pipes.lend(d) {
		n, err := d.src.(transport.Splicer).SpliceIn(*d.pipe, min(d.pipe.Size, turnShare))
		if !errors.Is(err, syscall.EINVAL) {
			d.piped = n
			return n, err
		}
		d.splices = false // a kind of socket that cannot, after all
	}
	b := c.w.buf
	n, err := d.src.Read(b)
	if err != nil {
		return 0, err
	}
	k, err := d.dst.Write(b[:n], nil)
	switch {
	case err != nil:
		d.over = true
	case k < n:
		p := c.w.loop.Get(n - k)
		d.held, d.r = p[:copy(p, b[k:n])], 0
	}
	return n, nil
}

// flush offers dst what is held and reports whether all is gone. If dst takes
// nothing ever again the direction is over.
func (c *conn) flush(d *direction) bool {
	var n int
	var err error
	if d.piped > 0 {
		n, err = d.dst.(transport.Splicer).SpliceOut(*d.pipe, d.piped)
		d.piped -= n
		c.w.shard.Add(c.plan.Stats.Spliced, uint64(n))
	} else {
		n, err = d.dst.Write(d.held[d.r:], nil)
		d.r += n
		if d.r == len(d.held) {
			c.w.loop.Put(d.held[:cap(d.held)])
			d.held, d.r = nil, 0
		}
	}
	if n > 0 {
		c.active = c.w.loop.Now()
	}
	if err != nil {
		d.over = true
	}
	return err == nil && !d.waits()
}

// moved enters a turn of a direction into the books and judges whether it is bulk.
func (c *conn) moved(d *direction, n int) {
	w := c.w
	if d.pipe != nil && d.piped == 0 {
		w.pipes.giveBack(d)
	}
	if n == 0 {
		return
	}
	d.bytes += int64(n)
	c.active = w.loop.Now()
	if d == &c.in {
		w.shard.Add(c.plan.Stats.BytesIn, uint64(n))
	} else {
		w.shard.Add(c.plan.Stats.BytesOut, uint64(n))
		if c.firstByte == 0 {
			c.firstByte = c.active
		}
	}
	switch {
	case n >= bulkTurn:
		d.small = 0
		if !d.bulk {
			d.streak += n
			d.bulk = d.streak >= bulkStart
		}
	case !d.bulk:
		d.streak = 0
	default:
		d.small++
		if d.small == smallTurns {
			d.bulk, d.streak, d.small = false, 0, 0
		}
	}
}

// sourceEnded passes the end on, once all that came before it is out.
func (c *conn) sourceEnded(d *direction) bool {
	if d.waits() {
		return true
	}
	d.over = true
	if c.broken == "" && d.dst.CloseWrite() != nil {
		c.broken = c.lost(d.dst)
	}
	return c.ended()
}

// sinkLost ends a direction whose sink takes no more. What the sink said before,
// such as why, may still be on its way in the other direction; the reset follows
// it.
func (c *conn) sinkLost(d *direction) bool {
	d.drop(c.w)
	c.broken = c.lost(d.dst)
	if !c.ended() {
		return false
	}
	return c.move(c.reverse(d))
}

// ended ends the connection if both directions have ended. It reports whether it
// still stands.
func (c *conn) ended() bool {
	switch {
	case !c.in.over || !c.out.over:
		return true
	case c.broken != "":
		c.end(c.broken, true)
	default:
		c.end(endFinished, false)
	}
	return false
}

func (c *conn) reverse(d *direction) *direction {
	if d == &c.in {
		return &c.out
	}
	return &c.in
}

// lost is how a connection ends that lost one of its sockets.
func (c *conn) lost(s transport.Socket) ending {
	if s == c.client {
		return endClientReset
	}
	return endUpstreamReset
}

// drop gives back what the direction holds; what is in it is lost.
func (d *direction) drop(w *Worker) {
	if d.held != nil {
		w.loop.Put(d.held[:cap(d.held)])
		d.held, d.r = nil, 0
	}
	if d.pipe != nil {
		w.pipes.giveBack(d)
	}
}
