package tcpproxy

import (
	"time"

	"belay/internal/eventloop"
	"belay/internal/transport"
)

// parting is a connection one of whose sides has ended TLS without close_notify: the
// other must hear of a reset, for what it has may be cut. But many peers never send
// one, and a reset drops what the kernel still keeps. So it waits until all is
// delivered, which no event tells.
type parting struct {
	to     transport.Socket
	unsent int           // when it was asked last
	every  time.Duration // until it is asked again
	since  int64         // loop time of the last progress, ns
}

const (
	firstLook = 2 * time.Millisecond
	lastLook  = 250 * time.Millisecond
	partTime  = 30 * time.Second // without progress; as closed sockets linger
)

// part begins it, for the direction whose source has ended: all that came from there
// was given to the other side. Nobody takes any more what comes from that one. It
// reports whether the connection still stands.
func (c *conn) part(d *direction) bool {
	c.state, c.broken = connParting, truncated[c.lost(d.src)]
	c.parting = parting{to: d.dst, unsent: d.dst.Unsent(), every: firstLook, since: c.w.loop.Now()}
	for _, x := range []*direction{&c.in, &c.out} {
		x.drop(c.w)
		x.over = true
	}
	return c.delivered()
}

// partingReady is the event of either socket: only that what waits is lost matters.
func (c *conn) partingReady(ev eventloop.Events, of transport.Socket) {
	if ev&eventloop.Err != 0 && of == c.parting.to {
		c.end(c.broken, true)
	}
}

// delivered ends the connection if there is nothing left to wait for. It reports
// whether it still stands.
func (c *conn) delivered() bool {
	p, now := &c.parting, c.w.loop.Now()
	n := p.to.Unsent()
	if n < p.unsent {
		p.unsent, p.since = n, now
	}
	if n == 0 || now-p.since >= int64(partTime) {
		c.end(c.broken, true)
		return false
	}
	c.arm(p.every)
	p.every = min(2*p.every, lastLook)
	return true
}
