package upstream

import (
	"slices"

	"belay/internal/eventloop"
	"belay/internal/transport"
)

// Conn is one connection to an endpoint. While lent it belongs to one exchange,
// which ends the loan with exactly one of Release and Close.
type Conn struct {
	Socket   transport.Socket
	Address  eventloop.Address
	Requests int // exchanges it was lent to, this one included

	pool      *Pool
	preface   *preface            // nil: TCP alone
	known     []eventloop.Address // the endpoint's addresses when Address was last found in them
	state     connState
	idleSince int64 // loop time, ns
	where     string
}

type connState uint8

const (
	connLent connState = iota
	connIdle
	connClosed
)

// Reused reports whether an earlier exchange used the connection, so that a
// failure before any reply may only mean that it had grown stale.
func (c *Conn) Reused() bool { return c.Requests > 1 }

// Where is the address the connection leads to, as text; made once, when asked.
func (c *Conn) Where() string {
	if c.where == "" {
		c.where = c.Address.String()
	}
	return c.where
}

// Failed counts a connection that could not be made. Close follows.
func (c *Conn) Failed() { c.pool.env.Shard.Inc(c.pool.st.ConnectFails) }

// Release ends the loan: nothing is left to read or to write. The connection
// goes to a waiting request, to the idle ones, or is closed.
func (c *Conn) Release() {
	p := c.pool
	if p.cfg.MaxRequestsPerConnection > 0 && c.Requests >= p.cfg.MaxRequestsPerConnection || c.Socket.Readable() && !c.Socket.Alive() || !c.current() || p.cfg.ProxyProtocol != 0 || c.outdated() {
		c.Close() // with a PROXY header it is one client's
		return
	}
	if len(p.waiting) > 0 && c.is(p.waiting[0].name) {
		w := p.shift()
		c.Requests++
		p.env.Shard.Inc(p.st.Reused)
		w.grant(c, nil)
		return
	}
	if p.cfg.IdleTimeout <= 0 || len(p.idle) >= p.cfg.MaxIdle || p.Endpoint.Waiting.Load() > 0 {
		c.Close()
		return
	}
	c.state = connIdle
	c.idleSince = p.env.Loop.Now()
	c.Socket.SetOwner(c)
	c.Socket.SetFirst(true)
	p.idle = append(p.idle, c)
	p.env.Shard.GaugeAdd(p.st.Idle, 1)
	if !p.timer.Armed() {
		p.arm()
	}
}

// current reports whether the endpoint still is where the connection leads to.
func (c *Conn) current() bool {
	now := c.pool.Endpoint.Addresses()
	if len(now) > 0 && len(now) == len(c.known) && &now[0] == &c.known[0] {
		return true
	}
	c.known = now
	return slices.Contains(now, c.Address)
}

// Ready hears of the idle connection. Data nobody asked for or the end make it
// useless. But an event may be older than the idleness: it was fetched in one
// batch with the event that led to the read of what it tells of.
func (c *Conn) Ready(ev eventloop.Events) {
	if ev&(eventloop.In|eventloop.RdHup|eventloop.Hup|eventloop.Err) == 0 || c.state != connIdle || c.Socket.Alive() {
		return
	}
	p := c.pool
	for i, x := range p.idle {
		if x == c {
			p.dropIdle(i)
			break
		}
	}
	p.env.Shard.Inc(p.st.IdleClosed)
	c.Close()
}

// Close ends the connection.
func (c *Conn) Close() { c.end((transport.Socket).Close) }

// Reset ends the connection with RST: the endpoint must not take what it got
// for a whole request.
func (c *Conn) Reset() { c.end((transport.Socket).Reset) }

func (c *Conn) end(how func(transport.Socket)) {
	if c.state == connClosed {
		return
	}
	c.state = connClosed
	how(c.Socket)
	c.pool.env.Shard.GaugeAdd(c.pool.st.Open, -1)
	c.pool.freeRoom()
}
