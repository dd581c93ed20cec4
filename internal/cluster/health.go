package cluster

import (
	"time"

	"belay/internal/persistence"
)

// State is what an endpoint may be given, by everything that is known of it.
type State uint8

// The states, in the order of preference.
const (
	Healthy   State = iota
	Degraded        // taken for new sessions only where no endpoint is healthy
	Draining        // pinned sessions only
	Unhealthy       // checks fail, or its replies were errors
	Disabled        // nothing
)

// String is the state's name in the admin API and in statistics.
func (s State) String() string {
	return [...]string{"healthy", "degraded", "draining", "unhealthy", "disabled"}[s]
}

// Admin is what the operator wants of an endpoint.
type Admin uint8

// The wishes.
const (
	Enable Admin = iota
	Drain
	Disable
)

// String is the wish's name.
func (a Admin) String() string { return [...]string{"enabled", "draining", "disabled"}[a] }

// Health is what active checks found.
type Health uint8

// The findings.
const (
	HealthUnknown Health = iota // not checked yet: taken for healthy
	HealthGood
	HealthDegraded
	HealthBad
)

// String is the finding's name.
func (h Health) String() string { return [...]string{"unknown", "healthy", "degraded", "unhealthy"}[h] }

// condition is all that an endpoint's State and weight come from. Cluster.mu
// guards it.
type condition struct {
	admin    Admin
	adminAt  time.Time // when the operator said so; zero: never
	deadline time.Time // of Drain: disabled then; zero: none
	ended    bool      // the drain is over: no session was left, or the deadline came

	health   Health
	healthAt time.Time // of the last change; zero: not checked
	why      string    // of the last check that failed

	ejections int       // in a row, for the length of the next one
	ejected   time.Time // until then; zero: not ejected
	reason    string    // of the ejection

	up time.Time // slow start counts from here; zero: it is over
}

// state sums the condition up.
func (c *condition) state() State {
	switch {
	case c.admin == Disable || c.admin == Drain && c.ended:
		return Disabled
	case c.health == HealthBad || !c.ejected.IsZero():
		return Unhealthy
	case c.admin == Drain:
		return Draining
	case c.health == HealthDegraded:
		return Degraded
	}
	return Healthy
}

// Info is what an operator may want to know of an endpoint.
type Info struct {
	State     State
	Admin     Admin
	AdminAt   time.Time // zero: as configured
	Deadline  time.Time // of a drain; zero: none
	Ended     bool      // the drain is over
	Health    Health
	HealthAt  time.Time
	Why       string // of the last failed check
	Ejected   time.Time
	Ejections int
	Reason    string  // of the ejection
	Share     float64 // of its weight, below 1 in a slow start
}

// Info tells all that is known of an endpoint.
func (e *Endpoint) Info() Info {
	c := e.Cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	x := &e.is
	return Info{
		State: x.state(), Admin: x.admin, AdminAt: x.adminAt, Deadline: x.deadline, Ended: x.ended,
		Health: x.health, HealthAt: x.healthAt, Why: x.why, Ejected: x.ejected, Ejections: x.ejections, Reason: x.reason,
		Share: c.share(e, c.now()),
	}
}

// State is what the endpoint may be given now. It may be called on any goroutine
// and costs a load.
func (e *Endpoint) State() State { return State(e.state.Load()) }

// SetAdmin notes the operator's wish. A drain ends at the deadline, if there is one,
// and then the endpoint is disabled.
func (e *Endpoint) SetAdmin(a Admin, deadline time.Time) {
	e.change(func(x *condition, now time.Time) {
		x.admin, x.adminAt, x.deadline, x.ended = a, now, deadline, false
	})
}

// EndDrain disables an endpoint that drains, since no session is left on it.
func (e *Endpoint) EndDrain() {
	e.change(func(x *condition, _ time.Time) {
		x.ended = x.admin == Drain
	})
}

// SetHealth notes what checks found; why is of the check that failed.
func (e *Endpoint) SetHealth(h Health, why string) {
	e.change(func(x *condition, now time.Time) {
		if x.health != h {
			x.health, x.healthAt = h, now
		}
		x.why = why
	})
}

// Eject takes an endpoint whose replies were errors out until a time, and counts
// how often that was in a row.
func (e *Endpoint) Eject(until time.Time, reason string) {
	e.change(func(x *condition, _ time.Time) {
		if x.ejected.IsZero() {
			x.ejections++
		}
		x.ejected, x.reason = until, reason
	})
}

// Return lets an ejected endpoint take requests again. Forgive has the next
// ejection be as short as the first.
func (e *Endpoint) Return(forgive bool) {
	e.errors.Store(0)
	e.change(func(x *condition, _ time.Time) {
		x.ejected = time.Time{}
		if forgive {
			x.ejections = 0
		}
	})
}

// change edits the condition and lets the workers know what follows from it.
func (e *Endpoint) change(edit func(x *condition, now time.Time)) {
	c := e.Cluster
	c.mu.Lock()
	before, now := e.is.state(), c.now()
	edit(&e.is, now)
	after := e.is.state()
	if usable(after) && !usable(before) && c.Config.SlowStart > 0 {
		e.is.up = now
	}
	if after != before {
		c.publish(now)
	}
	switch {
	case !served(after) && served(before):
		e.away.CompareAndSwap(0, now.Unix())
	case served(after) && !served(before):
		e.away.Store(0)
	}
	notice := c.Notice
	c.mu.Unlock()
	if after != before && notice != nil {
		notice(e, before, after)
	}
}

// served states are those in which an endpoint gets something.
func served(s State) bool { return s < Unhealthy }

// Away is since when the endpoint has not been there, in seconds since 1970: from
// now on if that is news.
func (e *Endpoint) Away(now int64) int64 {
	e.away.CompareAndSwap(0, now)
	return e.away.Load()
}

// Home notes that the endpoint has answered.
func (e *Endpoint) Home() {
	if e.away.Load() != 0 {
		e.away.Store(0)
	}
}

// usable states are those in which an endpoint gets new sessions.
func usable(s State) bool { return s == Healthy || s == Degraded }

// ByKey finds the endpoint that a token or a table names: Valid, or Unknown, or
// Generation if it is there but was replaced by another server of the same id.
func (c *Cluster) ByKey(k persistence.Endpoint) (*Endpoint, persistence.Verdict) {
	e := c.keys[k.ID]
	switch {
	case e == nil:
		return nil, persistence.Unknown
	case e.Key.Generation != k.Generation:
		return nil, persistence.Generation
	}
	return e, persistence.Valid
}

// Result tells how a request to the endpoint ended, for the count of errors in a
// row. It may be called on any worker; a success costs a load.
func (e *Endpoint) Result(ok bool) {
	o := e.Cluster.Config.Outlier
	if o == nil {
		return
	}
	if o.SuccessRate > 0 || o.FailurePercent > 0 {
		if ok {
			e.good.Add(1)
		} else {
			e.bad.Add(1)
		}
	}
	if ok {
		if e.errors.Load() != 0 {
			e.errors.Store(0)
		}
		return
	}
	if n := e.errors.Add(1); o.Consecutive > 0 && int(n) == o.Consecutive {
		select {
		case e.Cluster.Suspects <- e:
		default: // its outlier detector has enough to do; the next error in a row comes later
			e.errors.Store(0)
		}
	}
}

// Tally is how many requests to the endpoint ended well and badly so far; counted
// only if the cluster's outlier table judges their rate.
func (e *Endpoint) Tally() (good, bad uint64) { return e.good.Load(), e.bad.Load() }

// Forgive begins the count of errors in a row anew.
func (e *Endpoint) Forgive() { e.errors.Store(0) }

// Forget takes one ejection off the count that makes the next one longer.
func (e *Endpoint) Forget() {
	e.change(func(x *condition, _ time.Time) { x.ejections = max(0, x.ejections-1) })
}
