package tcpproxy

import (
	"errors"
	"slices"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/listener"
	"belay/internal/transport"
	"belay/internal/upstream"
)

// maxTries is the largest connect_attempts.
const maxTries = 8

// begin picks the cluster, that of the filter chain if it names one, and goes for
// an endpoint. Nothing more is read from the client before there is one.
func (c *conn) begin(chain *listener.Chain) {
	c.cl = c.w.clusters[c.plan.pick(chain, &c.w.rng)]
	c.w.shard.Inc(c.cl.shared.Stats.Requests)
	if !c.findPin() {
		c.end(endRefused, true)
		return
	}
	if limit := int64(c.cl.shared.Config.MaxRequests); limit > 0 {
		if c.cl.shared.Active.Add(1) > limit {
			c.cl.shared.Active.Add(-1)
			c.w.shard.Inc(c.cl.shared.Stats.Overflow)
			c.end(endOverflow, true)
			return
		}
		c.admitted = true
	}
	c.pick("")
}

// pick goes for the next endpoint; failed is how the last try ended.
func (c *conn) pick(failed ending) {
	e := c.choose()
	if e == nil {
		if failed == "" {
			failed = endNoEndpoint
			c.w.shard.Inc(c.cl.shared.Stats.NoEndpoint)
		}
		c.end(failed, true)
		return
	}
	c.ep, c.epst = e, &c.cl.shared.endpoints[e.Index]
	c.tried[c.tries] = e
	c.tries++
	c.addressTries = 0
	c.cl.picker.Begin(e)
	c.w.shard.GaugeAdd(c.epst.Active, 1)
	c.connect()
}

// choose is where the session is, or the balancer's choice among the endpoints that
// were not tried yet.
func (c *conn) choose() *cluster.Endpoint {
	for range 2 * len(c.cl.shared.Endpoints) {
		h := c.hint()
		e := c.cl.picker.Pick(h)
		if e == nil {
			return nil
		}
		c.hashed = h.Hashed
		if c.passed == 0 {
			e = c.claim(e)
		} else if slices.Contains(c.full[:c.passed], e) {
			if o := c.cl.picker.Other(c.full[:c.passed]); o != nil {
				e = o
			}
		}
		if !c.wasTried(e) {
			return e
		}
	}
	return nil
}

func (c *conn) wasTried(e *cluster.Endpoint) bool {
	for _, t := range c.tried[:c.tries] {
		if t == e {
			return true
		}
	}
	return false
}

// connect asks for a new connection to c.ep.
func (c *conn) connect() {
	c.state = connWaiting
	c.connectAt = c.w.loop.Now()
	want := upstream.Want{Fresh: true, NoWait: c.mayPass()}
	if c.holds() {
		want.NoWait = c.cl.shared.pin.cfg.Full == "policy"
	}
	if c.cl.shared.Config.ProxyProtocol != 0 {
		want.Origin = c.tls.Origin(c.peer, c.dest)
	}
	up, err := c.cl.pool(c.ep).Acquire(&c.far, &c.waiter, c.grant, &want)
	if up != nil || err != nil {
		c.granted(up, err)
	}
}

// maxPassed bounds how many endpoints without room a connection passes over before it
// waits for one.
const maxPassed = 3

// mayPass reports whether a connection that belongs nowhere may look for an endpoint
// with room before it waits for the one that was chosen. What is hashed belongs somewhere.
func (c *conn) mayPass() bool {
	return !c.holds() && !c.hashed && c.passed < min(maxPassed, len(c.cl.shared.Endpoints)-1) && c.ep.MaxConnections() > 0
}

// pass goes on to the next endpoint, as if it had not been at this one.
func (c *conn) pass() {
	c.leaveEndpoint()
	c.full[c.passed] = c.ep
	c.passed++
	c.tries--
	c.pick("")
}

// granted is the pool's answer, at once or after a wait for room.
func (c *conn) granted(up *upstream.Conn, err error) {
	if errors.Is(err, upstream.ErrPendingFull) && c.mayPass() {
		c.pass()
		return
	}
	if c.addressTries == 0 {
		c.w.shard.Inc(c.epst.Requests)
	}
	switch {
	case errors.Is(err, upstream.ErrPendingFull):
		c.noRoom(endPendingFull)
		return
	case errors.Is(err, upstream.ErrPendingTimeout):
		c.noRoom(endPendingTimeout)
		return
	case errors.Is(err, upstream.ErrNoAddress):
		c.tryFailed(endUnresolved)
		return
	case err != nil:
		c.tryFailed(endConnectFailure)
		return
	}
	c.up = up
	up.Socket.SetOwner(&c.far)
	c.state = connConnecting
	c.arm(c.cl.shared.Config.ConnectTimeout)
	c.handshake()
}

// noRoom ends a connection that waited for room in vain, unless that was where its
// session is and the policy sends it elsewhere.
func (c *conn) noRoom(why ending) {
	switch {
	case !c.holds():
		c.end(why, true)
	case !c.losePin(cluster.FoundOverloaded):
		c.end(endRefused, true)
	default:
		c.w.shard.Inc(c.cl.shared.Stats.Redispatches)
		c.leaveEndpoint()
		c.pick(why)
	}
}

// handshake waits until bytes can flow to the endpoint.
func (c *conn) handshake() {
	err := c.up.Handshake()
	switch {
	case err == nil:
		c.relay()
	case errors.Is(err, transport.ErrAgain):
	case upstream.IsTLS(err):
		c.connectFailed(endTLSFailure)
	default:
		c.connectFailed(endConnectFailure)
	}
}

// connectFailed goes on with the next address of the endpoint's name, or counts
// the endpoint as failed.
func (c *conn) connectFailed(why ending) {
	c.up.Failed()
	c.up.Close()
	c.up = nil
	c.addressTries++
	if c.addressTries < len(c.ep.Addresses()) {
		c.connect()
		return
	}
	c.tryFailed(why)
}

// tryFailed goes on with another endpoint, as long as the listener allows.
func (c *conn) tryFailed(why ending) {
	c.w.shard.Inc(c.epst.Failures)
	if o := c.cl.shared.Config.Outlier; o != nil && o.On&config.RetryConnectFailure != 0 {
		c.ep.Result(false)
	}
	c.w.loop.StopTimer(&c.timer)
	c.leaveEndpoint()
	c.unclaim()
	if c.holds() && !c.losePin(cluster.FoundDown) {
		c.end(endRefused, true)
		return
	}
	if c.tries >= min(c.plan.Listener.TCP.ConnectAttempts, maxTries) {
		c.end(why, true)
		return
	}
	c.w.shard.Inc(c.cl.shared.Stats.Retries)
	c.pick(why)
}

// leaveEndpoint closes the endpoint's books on the connection.
func (c *conn) leaveEndpoint() {
	if !c.counted() {
		return
	}
	c.cl.picker.End(c.ep)
	c.w.shard.GaugeAdd(c.epst.Active, -1)
	c.epst = nil
}

func (c *conn) counted() bool { return c.epst != nil }
