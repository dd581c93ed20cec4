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

// takeOver: the hook has waited in vain for the parent.
func (n *Node) takeOver(r *Request) {
	p := n.born
	switch {
	case p == nil || r.Conn() != p.hook:
		r.Refuse(pb.Error_REFUSED, "only the hook may ask for that")
	case n.up == nil && n.role == roleMain:
		r.Ack() // the parent has died
	case !p.probed || p.probeErr != nil:
		r.Refuse(pb.Error_REFUSED, "the new process has not proved itself")
	case !p.fate.CompareAndSwap(fateOpen, fateTaken):
		r.Refuse(pb.Error_GONE, "the old process serves on: %s", p.reason)
	default:
		n.slot.SetState(shm.StateTakingOver)
		r.Ack()
	}
}

// parentGone: the connection to the parent has broken before it released us, which
// it does when the parent dies. One that hangs is the hook's to judge, or the
// service manager's; then lookUp finds its end.
func (p *Parent) parentGone() {
	n := p.node.Load()
	if n.up != p {
		return
	}
	if !p.ended() {
		n.log.Warn("the connection to the old process has broken; it lives", "pid", p.id.PID, "error", p.Conn.Err())
		return
	}
	p.inherit()
}

// lookUp finds out whether a parent has died of which nobody tells; with each
// heartbeat.
func (n *Node) lookUp() {
	if p := n.up; p != nil && p.committed && p.Conn.Err() != nil && !p.id.Alive() {
		p.inherit()
	}
}

// inherit takes the place of a parent that has died.
func (p *Parent) inherit() {
	n := p.node.Load()
	n.log.Warn("the old process has died before it released this one", "pid", p.id.PID)
	if err := n.becomeMain(); err != nil {
		n.log.Error("take over", "error", err)
	}
}

// TakePlace has a child become main that the service manager takes for the main
// process already; it reports whether it is main.
func (n *Node) TakePlace() (main bool) {
	n.do(func() {
		if n.up != nil {
			if err := n.becomeMain(); err != nil {
				n.log.Info("the old process stays main", "reason", err)
			}
		}
		main = n.role == roleMain
	})
	return main
}

// becomeMain releases the parent and takes its place. A parent that does not
// answer is ended at shutdown_time; one that is dead is forgotten.
func (n *Node) becomeMain() error {
	p := n.up
	if !p.committed {
		return fmt.Errorf("process %d has not committed", n.self.PID)
	}
	taken := p.fate.CompareAndSwap(fateTaken, fateMain)
	if !taken && !p.fate.CompareAndSwap(fateOpen, fateMain) {
		return fmt.Errorf("the old process %d serves on", p.id.PID)
	}
	Fault("child.release")
	n.p.BeforeRelease(p.others)
	m, err := p.call(&pb.Message{Body: &pb.Message_Release{Release: &pb.Release{TakenOver: taken}}})
	if err != nil && refused(err) {
		p.fate.Store(fateOpen)
		if taken {
			p.fate.Store(fateTaken)
		}
		return err
	}
	if err != nil {
		n.orphan(p, err)
	}
	n.up, n.role = nil, roleMain
	n.last = Outcome{At: time.Now(), Result: resultOK, Epoch: n.epoch, Took: time.Since(p.joined), Cut: p.Info.CutConnections}
	n.ended = n.last.At
	n.slot.SetState(shm.StateServing)
	n.p.DeltasReset() // what the parent heard in probation ended with its attempt
	n.p.LateState(fromBlobs(m.GetStateReply().GetBlobs()))
	if p.Conn.Err() == nil && p.Info.Version > 0 {
		e := &elder{epoch: p.Info.Epoch, id: p.id, conn: p.Conn, busy: err == nil, program: p.Info.Program}
		n.addElder(e)
		if err == nil {
			n.askNow(e)
		}
	}
	n.sweep()
	n.adopt()
	n.p.Main()
	n.event(slog.LevelInfo, systemd.EventReloadDone, "this process is main", "parent_pid", p.id.PID)
	Fault("child.released")
	return nil
}

// orphan sees to a parent that did not answer Release: the flag that it holds must
// not keep others from restarting.
func (n *Node) orphan(p *Parent, err error) {
	n.seg.EndInit(p.id)
	if p.id.Alive() {
		n.log.Warn("the old process does not answer; it is ended at shutdown_time", "pid", p.id.PID, "shutdown_time", n.o.ShutdownTime, "error", err)
		n.killLater(p.id)
	}
}

// askNow waits for the first counts of the parent, so that whoever looks at ours
// never sees less than before.
func (n *Node) askNow(e *elder) {
	ctx, cancel := n.callContext()
	defer cancel()
	m, fds, err := e.conn.Call(ctx, &pb.Message{Body: &pb.Message_Stats{Stats: &pb.Stats{}}})
	closeAll(fds)
	e.busy = false
	if err == nil {
		e.take(ctx, n, m.GetStatsReply())
	}
}

// refused reports whether the peer answered with a refusal.
func refused(err error) bool {
	var r *Refused
	return errors.As(err, &r)
}

// killLater ends a parent that hangs when its connections' time is over. If it
// comes back before, it reads the Release that waits for it and drains.
func (n *Node) killLater(id shm.Identity) {
	time.AfterFunc(n.o.ShutdownTime, func() {
		n.post(func() {
			for _, e := range n.elders {
				if e.id == id && time.Since(e.heard) < n.o.ShutdownTime {
					return // it drains, and ends by its own clock
				}
			}
			if id.Alive() {
				n.log.Warn("old process killed: it never answered", "pid", id.PID)
				kill(id)
			}
		})
	})
}
