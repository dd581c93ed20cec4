package tcpproxy

import (
	"time"

	"belay/internal/eventloop"
	"belay/internal/stats"
)

// pipes are the pipes of one worker, last in first out. A direction has one only
// while it moves bulk, and keeps it into the next turn only if dst is full, so
// few serve many.
type pipes struct {
	loop  *eventloop.Worker
	shard *stats.Shard
	st    Stats

	free  []*eventloop.Pipe
	low   int // fewest that were free since the last trim
	open  int // all
	limit int
	size  int

	timer   eventloop.Timer // next trim; armed while some are free
	refused int64           // loop time at which the kernel last refused one
}

const (
	// pipeTrim is how long a pipe must have been of no use before it is closed:
	// it counts against the user's pipe pages.
	pipeTrim = int64(10 * time.Second)
	// pipeRetry is how long the kernel is not asked again after it refused one.
	pipeRetry = int64(time.Second)
)

// lend gives the direction a pipe, unless it has one, and reports whether it has.
func (p *pipes) lend(d *direction) bool {
	if d.pipe != nil {
		return true
	}
	if n := len(p.free); n > 0 {
		d.pipe = p.free[n-1]
		p.free[n-1] = nil
		p.free = p.free[:n-1]
		p.low = min(p.low, n-1)
		return true
	}
	if p.open >= p.limit || p.refused != 0 && p.loop.Now()-p.refused < pipeRetry {
		p.shard.Inc(p.st.Refused)
		return false
	}
	x, err := eventloop.NewPipe(p.size)
	if err != nil {
		p.refused = p.loop.Now()
		p.shard.Inc(p.st.Refused)
		return false
	}
	d.pipe = &x
	p.open++
	p.shard.GaugeAdd(p.st.Open, 1)
	return true
}

// giveBack takes the direction's pipe. One that is not empty is closed: its bytes
// must not come out elsewhere.
func (p *pipes) giveBack(d *direction) {
	x := d.pipe
	d.pipe = nil
	if d.piped > 0 {
		d.piped = 0
		p.close(x)
		return
	}
	p.free = append(p.free, x)
	if !p.timer.Armed() {
		p.loop.SetTimer(&p.timer, p, p.loop.Now()+pipeTrim)
	}
}

func (p *pipes) close(x *eventloop.Pipe) {
	x.Close()
	p.open--
	p.shard.GaugeAdd(p.st.Open, -1)
}

// HandleTimer closes the pipes that nobody needed in the period that ends.
func (p *pipes) HandleTimer(t *eventloop.Timer) {
	for _, x := range p.free[:p.low] {
		p.close(x)
	}
	kept := copy(p.free, p.free[p.low:])
	clear(p.free[kept:])
	p.free = p.free[:kept]
	p.low = kept
	if kept > 0 {
		p.loop.SetTimer(t, p, p.loop.Now()+pipeTrim)
	}
}
