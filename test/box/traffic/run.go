package traffic

import (
	"context"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"
)

// Run is load that is being made.
type Run struct {
	o     Options
	began time.Time
	stop  context.Context // done: finish what is under way, begin nothing
	end   context.CancelFunc
	wg    sync.WaitGroup
	ready chan struct{}

	mu       sync.Mutex
	waiting  int // clients that have not finished a first request
	result   Result
	lastFast time.Time // when the last fast request was answered
}

// Start begins to make load.
func Start(o Options) (*Run, error) {
	r, clients := newRun(o)
	if len(clients) == 0 {
		return nil, fmt.Errorf("no target or no client")
	}
	for _, c := range clients {
		r.wg.Go(c.live)
	}
	return r, nil
}

// newRun makes the clients of a run, which do nothing yet.
func newRun(o Options) (*Run, []*client) {
	r := &Run{o: o.withDefaults(), began: time.Now(), ready: make(chan struct{})}
	r.stop, r.end = context.WithCancel(context.Background())
	r.result.Counts = map[string]map[string]*Counts{}
	kinds := []struct {
		name  string
		count int
		rate  float64
		of    int // clients that share the rate
		loop  func(*client)
	}{
		{KeepAlive, o.KeepAlive, r.o.Rate, o.KeepAlive + o.Fresh, (*client).small},
		{Fresh, o.Fresh, r.o.Rate, o.KeepAlive + o.Fresh, (*client).small},
		{Upload, o.Upload, r.o.BodyRate, o.Upload + o.Download, (*client).upload},
		{Download, o.Download, r.o.BodyRate, o.Upload + o.Download, (*client).download},
		{Slow, o.Slow, -1, 1, (*client).slow},
		{Upgrade, o.Upgrade, -1, 1, (*client).upgrade},
	}
	var clients []*client
	for name, addr := range o.Targets {
		r.result.Counts[name] = map[string]*Counts{}
		for _, k := range kinds {
			if k.count == 0 {
				continue
			}
			r.result.Counts[name][k.name] = &Counts{Outcomes: map[string]int64{}, Status: map[int]int64{}}
			for range k.count {
				c := &client{run: r, target: name, addr: addr, kind: k.name, id: len(clients), do: k.loop}
				if k.rate > 0 {
					c.every = time.Duration(float64(k.of*len(o.Targets)) / k.rate * float64(time.Second))
				}
				clients = append(clients, c)
			}
		}
	}
	r.waiting = len(clients)
	return r, clients
}

// Ready is closed when every client has finished a request or, for one that
// lasts, has the head of its reply.
func (r *Run) Ready() <-chan struct{} { return r.ready }

// Stop lets every client finish what it has begun and returns the final result.
func (r *Run) Stop() *Result {
	r.end()
	r.wg.Wait()
	return r.Totals()
}

// Totals is a copy of what has been counted so far.
func (r *Run) Totals() *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.result
	res.For = time.Since(r.began)
	if r.stop.Err() == nil && !r.lastFast.IsZero() {
		res.Gap.note(r.lastFast, time.Now()) // it may be in one
	}
	res.Failures = append([]Failure(nil), r.result.Failures...)
	res.Counts = map[string]map[string]*Counts{}
	for t, byKind := range r.result.Counts {
		res.Counts[t] = map[string]*Counts{}
		for k, c := range byKind {
			copied := *c
			copied.Outcomes, copied.Status = maps.Clone(c.Outcomes), maps.Clone(c.Status)
			res.Counts[t][k] = &copied
		}
	}
	return &res
}

// count changes the counts of a client under the lock.
func (c *client) count(f func(*Counts)) {
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	f(c.run.result.Counts[c.target][c.kind])
}

// begun counts a request.
func (c *client) begun() {
	c.start = time.Now()
	c.count(func(n *Counts) { n.Requests++ })
}

// done gives the request its one outcome.
func (c *client) done(err *failure) {
	now := time.Now()
	c.isReady()
	r := c.run
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.result.Counts[c.target][c.kind]
	if err != nil {
		n.Outcomes[err.outcome]++
		c.tell(err, now)
		return
	}
	n.Outcomes[OK]++
	if c.kind == KeepAlive || c.kind == Fresh {
		r.result.Latency.note(c.start, now)
		digits := bits.Len64(uint64(now.Sub(c.start).Microseconds()))
		r.result.Spread[min(digits, len(r.result.Spread)-1)]++
		if !r.lastFast.IsZero() {
			r.result.Gap.note(r.lastFast, now)
		}
		r.lastFast = now
	}
}

// tell keeps one of the first failures. The caller holds the lock.
func (c *client) tell(err *failure, now time.Time) {
	r := c.run
	if len(r.result.Failures) == keepFailure {
		return
	}
	f := Failure{At: now, After: now.Sub(c.start), Target: c.target, Kind: c.kind, Outcome: err.outcome, Detail: err.detail}
	if c.conn != nil {
		f.Local, f.Earlier = c.conn.LocalAddr().String(), c.conn.answered
	}
	r.result.Failures = append(r.result.Failures, f)
}

// isReady notes that the client has come so far.
func (c *client) isReady() {
	if c.readied {
		return
	}
	c.readied = true
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	if c.run.waiting--; c.run.waiting == 0 {
		close(c.run.ready)
	}
}

// live is the life of a client: requests at its pace until the run stops.
func (c *client) live() {
	next := time.Now().Add(time.Duration(rand.Float64() * float64(c.every)))
	for c.pause(time.Until(next)) {
		c.do(c)
		// One that is late does not hurry afterwards.
		if next = next.Add(c.every); next.Before(time.Now()) {
			next = time.Now()
		}
		if c.conn == nil && c.failed {
			next = next.Add(retryAfter)
		}
	}
	c.checkIdle()
	c.hangUp()
	c.isReady() // one that was stopped before its first request
}

// retryAfter keeps a client from spinning at a server that is not there.
const retryAfter = 20 * time.Millisecond

// pause waits; it returns false when the run has been stopped.
func (c *client) pause(d time.Duration) bool {
	if d <= 0 {
		return c.run.stop.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.run.stop.Done():
		return false
	}
}
