package hotrestart

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	pb "belay/internal/hotrestart/hotrestartpb"
	"belay/internal/shm"
	"belay/internal/systemd"
)

// handOver: from here the hook may go.
func (n *Node) handOver(r *Request) {
	a := n.attempt
	if a == nil || r.Conn() != a.hook || a.phase != phaseProven {
		r.Refuse(pb.Error_GONE, "the restart was taken back: %s", n.last.Reason)
		return
	}
	a.phase, a.handed = phaseHanded, time.Now()
	Fault("parent.handed")
	r.Ack()
}

// hookGone: a hook that leaves before HandOver takes the restart back. Without a
// service manager it also sees to what comes after; with one line 2 does.
func (a *attempt) hookGone() {
	if a.n.attempt != a || a.phase >= phaseHanded && a.managed {
		return
	}
	a.back(hookEnded, false)
}

const hookEnded = "the hook of the reload has ended"

func (a *attempt) childGone() {
	switch {
	case a.n.attempt != a:
	case a.tookOver():
		a.handOn()
	case a.phase < phaseHanded && a.hook.Err() != nil: // the child leaves with its hook
		a.lost(hookEnded, false)
	default:
		a.lost(fmt.Sprintf("process %d has died; its last words are in the log", a.childID.PID), false)
	}
}

// childFailed: the child says why it cannot go on, and leaves.
func (a *attempt) childFailed(reason string) {
	if a.phase >= phaseProbation {
		a.back(reason, true)
		return
	}
	a.lost(reason, false)
}

// lost ends a restart whose child is dead, hangs or leaves: everything is as
// before.
func (a *attempt) lost(reason string, hung bool) {
	n := a.n
	if hung {
		if a.child != nil {
			kill(a.childID)
		}
	}
	result := resultFailed
	if a.phase >= phaseProbation {
		result = resultRolledBack
		if !hung { // EOF came from a process that may still be exiting
			waitGone(a.childID, n.o.CallTime)
		}
		if err := n.p.Resume(); err != nil {
			n.log.Error("accepting not resumed", "error", err)
		}
		if a.report != nil {
			n.p.Apply(a.epoch, a.report)
		}
		n.p.Forget(a.epoch)
	}
	a.end(result, reason)
	if a.child != nil {
		a.child.Close()
	}
}

// back ends a restart whose child lives: after commit the child stops accepting,
// drains its own connections and leaves. Decided says that this process is main
// for certain; else a child that has taken over goes on.
func (a *attempt) back(reason string, decided bool) {
	n := a.n
	if a.phase < phaseProbation {
		if a.child != nil {
			_ = a.child.Notify(&pb.Message{Body: &pb.Message_Phase{Phase: &pb.Phase{Name: pb.Phase_FAILED, Reason: reason}}}) // so that it is no death
			a.child.Close()                                                                                                   // the child leaves on this
		}
		a.end(resultFailed, reason)
		return
	}
	if err := n.p.Resume(); err != nil {
		n.log.Error("accepting not resumed", "error", err)
	}
	ctx, cancel := n.callContext()
	_, _, err := a.child.Call(ctx, &pb.Message{Body: &pb.Message_Resume{Resume: &pb.Resume{Reason: reason, Decided: decided}}})
	cancel()
	var no *Refused
	switch {
	case errors.As(err, &no) && no.Code == pb.Error_TAKEN, err != nil && a.tookOver():
		a.handOn()
		return
	case err != nil:
		a.lost(reason, true)
		return
	}
	n.p.Renew()
	a.end(resultRolledBack, reason)
	n.addElder(&elder{epoch: a.epoch, id: a.childID, conn: a.child, own: true, report: a.report})
}

// state is what the child says of itself in the segment; 0 if it is not alive.
func (a *attempt) state() shm.State {
	for _, p := range a.n.seg.Processes() {
		if p.Identity == a.childID && p.Epoch == a.epoch {
			return p.State
		}
	}
	return 0
}

// serves reports whether the child is main already, and tookOver whether it is, or
// waits to become it because its hook said so.
func (a *attempt) serves() bool { return a.state() == shm.StateServing }

func (a *attempt) tookOver() bool {
	st := a.state()
	return st == shm.StateServing || st == shm.StateTakingOver
}

// handOn: this process hung, and the hook has handed over without it. It is now as
// if it had been asked.
func (a *attempt) handOn() {
	if a.phase != phaseHanded {
		a.phase, a.handed = phaseHanded, time.Now()
		a.n.log.Warn("the new process has taken over: this one did not answer in time", "epoch", a.epoch, "pid", a.childID.PID)
	}
	if a.serves() && a.child.Err() != nil {
		a.pass()
	}
}

func (a *attempt) end(result, reason string) {
	a.tell(pb.Phase_FAILED, reason)
	a.n.finish(Outcome{At: time.Now(), Result: result, Reason: reason, Epoch: a.epoch, Took: time.Since(a.began), Cut: a.cut})
}

// release: the child is main. This process closes its listeners and drains.
func (a *attempt) release(r *Request, takenOver bool) {
	if a.phase < phaseHanded && !(takenOver && a.phase >= phaseProbation) {
		r.Refuse(pb.Error_REFUSED, "the restart to epoch %d is in %s", a.epoch, a.phase)
		return
	}
	Fault("parent.release")
	a.pass()
	if a.version == 0 {
		r.Ack()
	} else {
		r.Reply(a.n.stateReply())
	}
	Fault("parent.released")
}

// pass makes the child main, which asks for our counts and those of the older
// generations from now on. One whose connection broke while this process hung does
// not: what was counted meanwhile is lost.
func (a *attempt) pass() {
	n := a.n
	n.flushElders()
	n.role = roleDraining
	n.slot.SetState(shm.StateDraining)
	n.setMain(a.child, a.version)
	if a.child.Err() != nil {
		n.main, n.alone = nil, true
	}
	n.p.Drain()
	n.event(slog.LevelInfo, systemd.EventDraining, "draining: a new process is main", "successor", a.epoch, "pid", a.childID.PID)
	n.finish(Outcome{At: time.Now(), Result: resultOK, Epoch: a.epoch, Took: time.Since(a.began), Cut: a.cut})
}
