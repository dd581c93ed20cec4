package hotrestart

import (
	"fmt"
	"time"

	pb "belay/internal/hotrestart/hotrestartpb"
)

// hangs is how many heartbeats in a row may be missed.
const hangs = 2

// starves is how many looks may find no beat of a process that wants to run and is not let:
// on a machine with more work than CPUs that is no fault of its own.
const starves = 2 * 5 * hangs

// remindAfter is how long after HandOver line 2 may take before the parent
// accepts again, beside the child.
const remindAfter = 10

// wordTime is how many times call_time a child may take after probation to say how
// its probe ended.
const wordTime = 2

// tick is one heartbeat of the parent.
func (a *attempt) tick() {
	switch a.phase {
	case phaseWaiting, phasePreparing:
		a.tell(pb.Phase_PREPARE, "")
		if time.Since(a.began) > a.n.o.PrepareTime {
			a.lost(fmt.Sprintf("the new process was not ready within %v (hot_restart.prepare_time)", a.n.o.PrepareTime), true)
			return
		}
	case phaseProbation:
		a.tell(pb.Phase_PROBATION, "")
		if limit := a.n.o.Probation + wordTime*a.n.o.CallTime; !a.probed && time.Since(a.committed) > limit {
			a.back(fmt.Sprintf("process %d has not said within %v how the probe of its listeners ended", a.childID.PID, limit), false)
			return
		}
	case phaseHanded:
		if a.child.Err() != nil && !a.childID.Alive() {
			a.childGone()
			return
		}
		if a.handOn(); a.n.attempt != a {
			return
		}
		if !a.reminded && time.Since(a.handed) > remindAfter*a.n.o.CallTime {
			a.reminded = true
			if err := a.n.p.Resume(); err != nil {
				a.n.log.Error("accepting not resumed", "error", err)
			}
			a.n.log.Warn("the service manager was told of the new process, but the second line of ExecReload= never came: both processes accept until the next reload",
				"epoch", a.epoch, "pid", a.childID.PID)
		}
	}
	a.judge()
}

// checkBeat finds out whether the child still works; twice in each heartbeat, so
// that two which fail to come are two, wherever in between this process looks.
func (a *attempt) checkBeat() {
	if a.phase == phaseWaiting {
		return
	}
	joined := false
	for _, p := range a.n.seg.Processes() {
		if p.Epoch != a.epoch {
			continue
		}
		joined = true
		if p.Beats != a.beats {
			a.beats, a.missed = p.Beats, 0
			return
		}
	}
	if !joined && a.phase < phaseProbation {
		return // it loads its configuration, for which prepare_time is the limit
	}
	if a.missed++; a.missed >= a.patience() && !(a.missed < starves && starving(a.childID.PID)) {
		a.lost(fmt.Sprintf("process %d hangs: no heartbeat for %v", a.childID.PID, time.Duration(a.missed)*a.n.o.Heartbeat/2), true)
	}
}

// patience is how many looks may find no beat. Before commit a hang hurts nobody.
// From HandOver on the child may be the service manager's main process, with which
// the manager would end this one, and many connections with both.
func (a *attempt) patience() int {
	few := 2 * hangs // looks are twice as often as heartbeats
	if a.phase < phaseProbation || a.phase == phaseHanded {
		return max(few, int(2*a.n.o.CallTime/a.n.o.Heartbeat))
	}
	return few
}

// judge ends probation: the time is over, the probe is good, and the child
// answers.
func (a *attempt) judge() {
	if a.phase != phaseProbation || !a.probed || a.pinged {
		return
	}
	if a.probeErr != "" {
		a.back("probe: "+a.probeErr, false)
		return
	}
	if left := a.n.o.Probation - time.Since(a.committed); left > 0 {
		if left < a.n.o.Heartbeat {
			a.judgeAfter(left)
		}
		return
	}
	a.pinged = true
	go func() {
		ctx, cancel := a.n.callContext() // that it hangs, its heartbeats tell sooner
		defer cancel()
		_, _, err := a.child.Call(ctx, &pb.Message{Body: &pb.Message_Ping{Ping: &pb.Ping{}}})
		a.n.post(func() { a.ponged(err) })
	}()
}

// ponged: the child has answered, or not.
func (a *attempt) ponged(err error) {
	switch {
	case a.n.attempt != a || a.phase != phaseProbation:
	case err != nil:
		a.lost(fmt.Sprintf("process %d hangs at the end of probation: %v", a.childID.PID, err), true)
	default:
		a.phase = phaseProven
		Fault("parent.proven")
		a.tell(pb.Phase_PROVEN, "")
	}
}

// ping answers when every worker has turned.
func (n *Node) ping(r *Request) {
	if n.p.Turn(n.o.CallTime) {
		r.Ack()
	} else {
		r.Refuse(pb.Error_OTHER, "a worker of process %d does not turn", n.self.PID)
	}
}

// judgeAfter looks again when probation is over, which no heartbeat need hit.
func (a *attempt) judgeAfter(d time.Duration) {
	time.AfterFunc(d, func() {
		a.n.post(func() {
			if a.n.attempt == a {
				a.judge()
			}
		})
	})
}
