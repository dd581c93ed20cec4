package httpproxy

import (
	"math/rand/v2"
	"time"
)

// fading is how a worker parts with its clients. A reply announces the end of its
// connection, which then ends after it; who sends nothing hears nothing, and is
// closed when the time is over, if the worker drains.
type fading struct {
	drain    fade
	announce fade

	draining bool
	closeAt  int64 // loop time at which silent connections are closed
	spread   int64 // ns after closeAt over which their ends are spread

	empty []func() // to be called, once, when draining and no connection is left
}

// fade is the chance that a reply announces: none at start, rising to certainty
// at end (loop times).
type fade struct {
	on         bool
	start, end int64
}

func newFade(now int64, d time.Duration, immediate bool) fade {
	if immediate {
		d = 0
	}
	return fade{on: true, start: now, end: now + int64(d)}
}

func (f *fade) strikes(now int64, rng *rand.ChaCha8) bool {
	switch {
	case !f.on:
		return false
	case now >= f.end:
		return true
	}
	return int64(rng.Uint64()%uint64(f.end-f.start)) < now-f.start
}

// drainGrace is how long a silent connection may still bring a request after the
// time for that is over, and after a reply that did not announce the end.
const drainGrace = 250 * time.Millisecond

// The ends of silent connections are spread over a part of the drain time, since
// each costs the loop some 10 µs and there may be many.
const (
	maxSpread   = 2 * time.Second
	spreadShare = 8  // of the drain time
	spreadSteps = 64 // by connection id
)

// Drain has every reply announce the end of its connection and closes the
// connections on which no request comes within 250 ms. It may tighten a
// DrainOver. empty, if not nil, is called once, on the worker, when no connection
// is left, at once if there is none.
func (w *Worker) Drain(empty func()) {
	now := w.loop.Now()
	w.startDrain(newFade(now, 0, true), now, 0, empty)
}

// DrainOver takes the time d to part with the clients. Replies announce the end
// of their connection, always if immediate, else the likelier the more of d is
// over; from the half of d on all do, so that whoever is closed at its end has been
// silent for the other half. Tunnels and long
// replies live on until they end by themselves or by Abort. empty is as with
// Drain; each that was given is called. Nothing undoes a drain, and a drain that
// ends sooner is not prolonged.
func (w *Worker) DrainOver(d time.Duration, immediate bool, empty func()) {
	now := w.loop.Now()
	w.startDrain(newFade(now, d/2, immediate), now+int64(d), min(int64(maxSpread), int64(d)/spreadShare), empty)
}

// Announce has replies announce the end of their connection as DrainOver does,
// while all else goes on: new connections are served, and silent ones live as
// long as their listener allows. on = false ends that.
func (w *Worker) Announce(on bool, d time.Duration, immediate bool) {
	w.announce = fade{}
	if on {
		w.announce = newFade(w.loop.Now(), d, immediate)
	}
}

func (w *Worker) startDrain(f fade, closeAt, spread int64, empty func()) {
	if empty != nil {
		w.empty = append(w.empty, empty)
	}
	if !w.draining || f.end < w.drain.end {
		w.drain = f
	}
	if !w.draining || closeAt < w.closeAt {
		w.closeAt, w.spread = closeAt, spread
	}
	w.draining = true
	for _, c := range w.conns {
		if c.state == connIdle {
			c.hasten()
		}
	}
	w.checkEmpty()
}

// checkEmpty tells once that no connection is left.
func (w *Worker) checkEmpty() {
	if !w.draining || len(w.conns) > 0 {
		return
	}
	todo := w.empty
	w.empty = nil
	for _, f := range todo {
		f()
	}
}

// partAfter decides, as the head of a reply is made, whether the connection ends
// behind it.
func (w *Worker) partAfter() bool {
	now := w.loop.Now()
	return w.drain.strikes(now, w.rng) || w.announce.strikes(now, w.rng)
}

// await arms the timer for a request that shall come within limit; zero means no
// limit. A drain may allow less.
func (c *conn) await(limit time.Duration) {
	c.arm(timeIdle, limit)
	if c.w.draining {
		c.hasten()
	}
}

// hasten has the drain end the wait for a request, if that is sooner.
func (c *conn) hasten() {
	w := c.w
	now := w.loop.Now()
	at := max(w.closeAt+int64(c.id%spreadSteps)*w.spread/spreadSteps, now+int64(drainGrace))
	if c.timing == timeNone || at < c.timer.At() {
		c.arm(timeDrain, time.Duration(at-now))
	}
}

// drained closes a connection that stayed silent to the end. The last look keeps
// it from being closed under a request that has just come.
func (c *conn) drained() {
	if c.deferred || !c.sock.Alive() {
		c.arm(timeDrain, drainGrace)
		return
	}
	c.w.shard.Inc(c.plan.Stats.DrainClosed)
	c.close()
}
