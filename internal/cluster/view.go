package cluster

import (
	"time"
)

// view is what the pickers of all workers choose from: made anew whenever
// something about an endpoint changes, never changed itself.
type view struct {
	list    []*Endpoint // that new sessions go to, by Index
	weights []int64     // of list; in slow start a part of the configured ones
	equal   bool        // all weights are
	panics  bool        // so few are up that health is not asked for
	in      []bool      // by Endpoint.Index: it is in list
}

// rampScale is what weights are multiplied by while one of them is ramped up.
const rampScale = 100

// rampFloor is the share that a slow start begins with.
const rampFloor = 0.1

// publish makes the view that follows from what is known now. c.mu is held.
func (c *Cluster) publish(now time.Time) {
	v := &view{in: make([]bool, len(c.Endpoints))}
	ramps := false
	for _, e := range c.Endpoints {
		e.state.Store(uint32(e.is.state()))
		ramps = ramps || c.share(e, now) < 1
	}
	v.choose(c, func(e *Endpoint) bool { return e.State() == Healthy })
	if len(v.list) == 0 {
		v.choose(c, func(e *Endpoint) bool { return e.State() == Degraded })
	}
	if v.panics = c.panics(v); v.panics {
		some := len(v.list) > 0
		at := 0
		if some {
			at = v.list[0].Priority
		}
		v.list = v.list[:0]
		v.choose(c, func(e *Endpoint) bool { return e.is.admin == Enable && (!some || e.Priority == at) })
	}
	v.weigh(c, now, ramps)
	c.current.Store(v)
	c.ramps.Store(ramps)
}

// panics reports whether so few endpoints are up where v, which was chosen by health,
// would have the requests go that all of them there are asked instead. Backups that are
// up come first: they are there for when the others are not. c.mu is held.
func (c *Cluster) panics(v *view) bool {
	up, all := 0, 0
	for _, e := range c.Endpoints {
		if e.Weight == 0 || e.is.admin != Enable || len(v.list) > 0 && e.Priority != v.list[0].Priority {
			continue
		}
		all++
		if usable(e.State()) {
			up++
		}
	}
	return all > 0 && up*100 < c.Config.PanicThreshold*all
}

// choose takes the endpoints of the first priority that has some.
func (v *view) choose(c *Cluster, want func(*Endpoint) bool) {
	best := -1
	for _, e := range c.Endpoints {
		if e.Weight == 0 || len(e.Addresses()) == 0 || !want(e) {
			continue
		}
		if best < 0 || e.Priority < best {
			best, v.list = e.Priority, v.list[:0]
		}
		if e.Priority == best {
			v.list = append(v.list, e)
		}
	}
}

func (v *view) weigh(c *Cluster, now time.Time, ramps bool) {
	v.weights = make([]int64, len(v.list))
	v.equal = true
	for i, e := range v.list {
		w := int64(e.Weight)
		if ramps {
			w = max(1, int64(float64(w)*c.share(e, now)*rampScale))
		}
		v.weights[i] = w
		v.equal = v.equal && w == v.weights[0]
		v.in[e.Index] = true
	}
}

// share is the part of its weight that an endpoint has in its slow start. c.mu is
// held.
func (c *Cluster) share(e *Endpoint, now time.Time) float64 {
	if e.is.up.IsZero() || c.Config.SlowStart <= 0 {
		return 1
	}
	return min(1, max(rampFloor, float64(now.Sub(e.is.up))/float64(c.Config.SlowStart)))
}

// Tick lets time do what it does to endpoints: ends drains at their deadline and
// ejections, and raises weights in a slow start. It is called a few times a second
// by the control plane.
func (c *Cluster) Tick() {
	c.mu.Lock()
	now := c.now()
	var back []*Endpoint
	var ended []*Endpoint
	for _, e := range c.Endpoints {
		x := &e.is
		if !x.ejected.IsZero() && !now.Before(x.ejected) {
			back = append(back, e)
		}
		if x.admin == Drain && !x.ended && !x.deadline.IsZero() && !now.Before(x.deadline) {
			ended = append(ended, e)
		}
	}
	if c.ramps.Load() {
		c.publish(now)
	}
	c.mu.Unlock()
	for _, e := range back {
		e.Return(false)
	}
	for _, e := range ended {
		e.EndDrain()
	}
}
