package hotrestart

import (
	"time"

	"belay/internal/shm"
)

// Status is a node's view of all generations.
type Status struct {
	Epoch       uint64
	Phase       string // of the restart under way; "": none
	Child       int    // pid of the child under way; 0: none
	Since       time.Time
	Generations []Generation // by epoch
	Last        Outcome
	Counts      Counts
	Segment     string
	Original    time.Time
}

// Generation is one process of the chain.
type Generation struct {
	Epoch       uint64
	PID         int
	State       string
	Main        bool
	Connections int64
	Since       time.Time     // of draining; zero: it does not drain
	Until       time.Time     // when what is left is cut
	Age         time.Duration // since the last heartbeat
	Program     string        // version; "": not known
}

// seen is when a generation's heartbeat was last seen to change.
type seen struct {
	beats uint64
	at    time.Time
}

// lookAround notes the heartbeats of all generations; with each of our own.
func (n *Node) lookAround() {
	now, old := time.Now(), n.seen
	n.seen = make(map[uint64]seen, len(old))
	for _, p := range n.seg.Processes() {
		x, known := old[p.Epoch]
		if !known || x.beats != p.Beats {
			x = seen{p.Beats, now}
		}
		n.seen[p.Epoch] = x
	}
}

func (n *Node) age(p shm.Process) time.Duration {
	x, known := n.seen[p.Epoch]
	if !known || x.beats != p.Beats {
		return 0
	}
	return time.Since(x.at)
}

// Status tells where every generation is. It may be called from any goroutine
// but the node's own.
func (n *Node) Status() Status {
	var s Status
	n.do(func() { s = n.status() })
	return s
}

func (n *Node) status() Status {
	s := Status{Epoch: n.epoch, Last: n.last, Counts: n.Counts(), Segment: SegmentPath(n.o.Directory, n.o.BaseID), Original: n.o.Started}
	if a := n.attempt; a != nil {
		s.Phase, s.Child, s.Since = a.phase.String(), a.childID.PID, a.began
	}
	for _, p := range n.seg.Processes() {
		g := Generation{Epoch: p.Epoch, PID: p.PID, State: p.State.String(), Age: n.age(p), Main: p.State == shm.StateServing}
		if p.Epoch == n.epoch {
			g.Connections, g.Since, g.Until = n.p.Connections()
		} else if e := n.elders[p.Epoch]; e != nil {
			g.Connections, g.Since, g.Until, g.Program = e.open, e.since, e.until, e.program
		}
		s.Generations = append(s.Generations, g)
	}
	return s
}
