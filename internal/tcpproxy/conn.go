package tcpproxy

import (
	"net/netip"
	"time"

	"belay/internal/accesslog"
	"belay/internal/cluster"
	"belay/internal/eventloop"
	"belay/internal/listener"
	"belay/internal/transport"
	"belay/internal/upstream"
)

// conn is a client's connection with the endpoint's. The structs are pooled per
// worker.
//
//	waiting ──room at the endpoint──> connecting ──> relay ──both directions over──> closed
//	   ^ └─no room in time─> closed       │            └─a reset, idle too long────> closed
//	   └──────next address or endpoint────┴─none left─> closed
//
//	relay ──TLS without close_notify──> parting ──all is delivered, or no progress──> closed
//
// In every state a client that resets, and Abort, end it.
type conn struct {
	w      *Worker
	acc    *listener.Acceptor
	plan   *Plan
	client transport.Socket
	up     *upstream.Conn // nil unless connecting, relay or parting
	far    far
	peer   netip.AddrPort
	via    netip.AddrPort   // as in listener.Client
	dest   netip.AddrPort   // as in listener.Client
	tls    *listener.Secure // nil: belay has not terminated TLS
	said   *accesslog.TLS   // as Log in listener.Client
	head   []byte           // read before the endpoint was there; a buffer of the loop's
	id     uint64

	cl     *clusterWorker
	ep     *cluster.Endpoint // of the last try
	epst   *endpointStats    // nil: the connection is in nobody's books
	waiter upstream.Waiter
	grant  func(*upstream.Conn, error) // c.granted, made once
	tried  [maxTries]*cluster.Endpoint

	in, out direction // from the client, to the client
	timer   eventloop.Timer

	start, connectAt, connected, firstByte int64 // loop times, ns; 0: not reached
	active                                 int64 // when a byte was moved last
	where                                  string
	broken                                 ending // a sink is lost; the other direction goes on
	parting                                parting

	index               int32 // in Worker.conns
	tries, addressTries int
	state               connState
	deferred            bool // RunTask is due
}

type connState uint8

const (
	connFree connState = iota
	connWaiting
	connConnecting
	connRelay
	connParting
	connClosed
)

// far has the events of the endpoint's socket.
type far struct{ c *conn }

// Ready is the event of the client's socket. Until there is an endpoint it only
// matters whether the client has reset the connection; what it sends, or that it
// sends no more, is read later.
func (c *conn) Ready(ev eventloop.Events) {
	if c.state != connRelay {
		if c.state == connParting {
			c.partingReady(ev, c.client)
		} else if ev&eventloop.Err != 0 {
			c.end(endClientReset, true)
		}
		return
	}
	c.ready(ev, &c.in, &c.out, endClientReset)
}

// Ready is the event of the endpoint's socket.
func (f *far) Ready(ev eventloop.Events) {
	switch c := f.c; c.state {
	case connConnecting:
		c.handshake()
	case connRelay:
		c.ready(ev, &c.out, &c.in, endUpstreamReset)
	case connParting:
		c.partingReady(ev, c.up.Socket)
	}
}

// ready moves what the event of one socket is about: from is the direction that
// reads from it, to the one that writes. No read tells of a reset that came after
// the last byte was read; what that direction still holds is delivered.
func (c *conn) ready(ev eventloop.Events, from, to *direction, reset ending) {
	if ev&eventloop.Err != 0 && from.eof {
		to.drop(c.w)
		to.over, c.broken = true, reset
		if !c.ended() {
			return
		}
	}
	if ev&eventloop.Out != 0 && to.waits() && !c.move(to) {
		return
	}
	if ev&(eventloop.In|eventloop.RdHup|eventloop.Hup|eventloop.Err) != 0 {
		c.move(from)
	}
}

// RunTask goes on where a turn's share was used up.
func (c *conn) RunTask() {
	c.deferred = false
	switch {
	case c.state == connClosed:
		c.w.freeConn(c)
	case c.state == connRelay && c.move(&c.in):
		c.move(&c.out)
	}
}

func (c *conn) deferNext() {
	if !c.deferred {
		c.deferred = true
		c.w.loop.Defer(c)
	}
}

// arm sets the timer; a time of zero means no limit.
func (c *conn) arm(d time.Duration) {
	if d <= 0 {
		c.w.loop.StopTimer(&c.timer)
		return
	}
	c.w.loop.SetTimer(&c.timer, c, c.w.loop.Now()+int64(d))
}

// HandleTimer is the end of connect_timeout, or a look at how long the
// connection has been idle: moving bytes does not touch the timer.
func (c *conn) HandleTimer(*eventloop.Timer) {
	switch c.state {
	case connConnecting:
		c.w.shard.Inc(c.cl.shared.Stats.ConnectTimeouts)
		c.connectFailed(endConnectTimeout)
	case connRelay:
		at := c.active + int64(c.plan.Listener.Timeouts.Tunnel)
		if at > c.w.loop.Now() {
			c.w.loop.SetTimer(&c.timer, c, at)
			return
		}
		c.end(endIdle, c.in.waits() || c.out.waits())
	case connParting:
		c.delivered()
	}
}

// end closes both sides, with RST where a close would look like the regular end
// of a stream that is not whole.
func (c *conn) end(why ending, reset bool) {
	if c.state == connClosed {
		return
	}
	w := c.w
	w.loop.StopTimer(&c.timer)
	c.waiter.Cancel()
	c.account(why)
	c.leaveEndpoint()
	c.in.drop(w)
	c.out.drop(w)
	if c.head != nil {
		w.loop.Put(c.head[:cap(c.head)])
		c.head = nil
	}
	if reset {
		c.client.Reset()
	} else {
		c.client.Close()
	}
	c.state = connClosed
	last := len(w.conns) - 1
	w.conns[c.index] = w.conns[last]
	w.conns[c.index].index = c.index
	w.conns[last] = nil
	w.conns = w.conns[:last]
	if up := c.up; up != nil {
		c.up = nil
		if reset {
			up.Reset()
		} else {
			up.Close()
		}
	}
	acc, peer := c.acc, c.peer
	if !c.deferred {
		w.freeConn(c)
	}
	acc.Done(peer)
	w.checkEmpty()
}
