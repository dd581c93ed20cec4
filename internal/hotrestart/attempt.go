package hotrestart

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"belay/internal/eventloop"
	pb "belay/internal/hotrestart/hotrestartpb"
	"belay/internal/shm"
	"belay/internal/stats"
	"belay/internal/systemd"
)

// attempt is the parent's side of one restart. Only it decides.
//
//	waiting ──Hello──> preparing ──Pause──> probation ──time over, probe and
//	heartbeat good──> proven ──HandOver──> handed ──Release──> over
//
// Until Pause a failure costs nothing. From Pause on the parent has to resume:
// back does so for a child that lives, lost for one that is dead or hangs.
type attempt struct {
	n     *Node
	epoch uint64
	token string
	phase phase
	began time.Time
	cut   int64

	hook    *Conn
	child   *Conn
	childID shm.Identity
	taken   []eventloop.Address

	committed time.Time
	beats     uint64 // of the child, when last looked at
	missed    int    // looks in a row that found no beat
	handed    time.Time
	reminded  bool
	version   uint32
	pinged    bool
	probed    bool
	probeErr  string
	// reports is what the child counted since commit. It is ours when the child is
	// lost or steps back.
	reports [][]stats.Delta
}

type phase uint8

const (
	phaseWaiting phase = iota
	phasePreparing
	phaseProbation
	phaseProven
	phaseHanded
)

func (p phase) String() string {
	return [...]string{"waiting for the new process", "prepare", "probation", "proven", "handed over"}[p]
}

// begin answers a hook.
func (n *Node) begin(r *Request, b *pb.Begin) {
	note, cut, err := n.mayBegin(b)
	if err != nil {
		n.event(slog.LevelWarn, systemd.EventReloadFailed, "hot restart refused", "reason", err.Error())
		r.Refuse(pb.Error_REFUSED, "%v", err)
		return
	}
	epoch, err := n.seg.NextEpoch()
	if err != nil {
		r.Refuse(pb.Error_REFUSED, "%v", err)
		return
	}
	if ok, owner := n.seg.BeginInit(n.self, epoch); !ok {
		r.Refuse(pb.Error_REFUSED, "process %d is starting epoch %d", owner.PID, owner.Epoch)
		return
	}
	a := &attempt{n: n, epoch: epoch, token: rand.Text(), began: time.Now(), hook: r.Conn(), cut: cut}
	n.attempt = a
	n.event(slog.LevelInfo, systemd.EventReloadBegun, "hot restart begins", "child_epoch", epoch, "program", b.Program)
	n.watch(a.hook, a.hookGone)
	r.Reply(&pb.Message{Body: &pb.Message_BeginReply{BeginReply: &pb.BeginReply{
		Epoch: epoch, Token: a.token, Config: n.o.Config, HeartbeatNs: int64(n.o.Heartbeat), CallNs: int64(n.o.CallTime),
		PrepareNs: int64(n.o.PrepareTime), ProbationNs: int64(n.o.Probation), Note: note,
	}}})
	Fault("parent.begin")
}

// mayBegin says why a restart may not begin, or what is worth telling.
func (n *Node) mayBegin(b *pb.Begin) (note string, cut int64, err error) {
	if b.MainPid != 0 {
		n.learnMain(int(b.MainPid))
	}
	switch a := n.attempt; {
	case n.stopping:
		return "", 0, fmt.Errorf("process %d was told to stop", n.self.PID)
	case n.waiting:
		return "", 0, fmt.Errorf("process %d ends an older generation for a restart that begins", n.self.PID)
	case a != nil:
		return "", 0, fmt.Errorf("a restart to epoch %d is under way since %v (%s)", a.epoch, time.Since(a.began).Round(time.Millisecond), a.phase)
	case n.up != nil:
		return "", 0, fmt.Errorf("process %d has not been released by its parent", n.self.PID)
	case n.role != roleMain:
		return "", 0, fmt.Errorf("process %d drains already", n.self.PID)
	case n.o.Service && b.MainPid == 0:
		return "", 0, fmt.Errorf("process %d runs as a service: use systemctl reload belay", n.self.PID)
	case b.MainPid != 0 && int(b.MainPid) != n.self.PID:
		return "", 0, fmt.Errorf("process %d is main for the service manager, this is %d", b.MainPid, n.self.PID)
	case b.MainPid != 0 && !b.Notify:
		return "", 0, fmt.Errorf("the service manager cannot be told of the new process: NOTIFY_SOCKET is not set; NotifyAccess=exec is needed")
	case n.o.MinInterval > 0 && time.Since(n.ended) < n.o.MinInterval && !n.ended.IsZero():
		return "", 0, fmt.Errorf("the last restart was %v ago; hot_restart.min_interval is %v", time.Since(n.ended).Round(time.Millisecond), n.o.MinInterval)
	}
	note, err = n.p.Headroom()
	if err != nil {
		return "", 0, err
	}
	text, cut := n.endOldest()
	other := ""
	if common(b.MinVersion, b.MaxVersion) == 0 {
		other = "the two programs have no protocol version in common: only the sockets pass, counts begin anew"
	}
	return strings.Join(nonEmpty(note, text, other), "; "), cut, nil
}

func nonEmpty(list ...string) (out []string) {
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// learnMain settles a restart whose line 2 never came: the service manager now
// says who is main.
func (n *Node) learnMain(pid int) {
	switch a := n.attempt; {
	case a != nil && a.phase == phaseHanded && pid == n.self.PID:
		a.back("the service manager kept the old process, as the next reload tells")
	case n.up != nil && pid == n.self.PID:
		if err := n.becomeMain(); err != nil {
			n.log.Error("not released", "error", err)
		}
	}
}

// hello: the child is there.
func (a *attempt) hello(c *Conn, version uint32) {
	a.child, a.version = c, version
	a.phase = phasePreparing
	a.childID, _ = alive(c.PeerPID())
	a.n.watch(c, a.childGone)
	Fault("parent.hello")
}

// fromChild answers what a child asks.
func (n *Node) fromChild(r *Request) {
	a := n.attempt
	if a != nil && r.Conn() == a.hook {
		if p := r.GetPhase(); p != nil && p.Name == pb.Phase_FAILED && a.phase < phaseHanded {
			a.back(p.Reason) // the hook gives up, and says why
		}
		return
	}
	if a == nil || r.Conn() != a.child {
		n.lateReport(r)
		return
	}
	switch m := r.Body.(type) {
	case *pb.Message_PassSockets:
		a.passSockets(r, fromAddresses(m.PassSockets.Wanted), m.PassSockets.Names)
	case *pb.Message_State:
		reply := &pb.StateReply{}
		for _, b := range n.p.State() {
			reply.Blobs = append(reply.Blobs, &pb.StateReply_Blob{Owner: b.Owner, Version: b.Version, Data: b.Data})
		}
		Fault("parent.state")
		r.Reply(&pb.Message{Body: &pb.Message_StateReply{StateReply: reply}})
	case *pb.Message_Pause:
		a.commit(r, fromAddresses(m.Pause.Taken))
	case *pb.Message_Report:
		if d := fromDeltas(m.Report.Deltas); len(d) > 0 {
			a.reports = append(a.reports, d)
		}
		if m.Report.Probed {
			a.probed, a.probeErr = true, m.Report.ProbeError
			a.judge()
		}
	case *pb.Message_Phase:
		if m.Phase.Name == pb.Phase_FAILED {
			a.childFailed(m.Phase.Reason)
		}
	}
}

// lateReport takes what a child counted before it heard that it steps back.
func (n *Node) lateReport(r *Request) {
	for _, e := range n.elders {
		if d := r.GetReport().GetDeltas(); e.conn == r.Conn() && len(d) > 0 {
			n.p.Apply(e.epoch, fromDeltas(d))
			return
		}
	}
	r.Refuse(pb.Error_GONE, "the restart is over: %s", n.last.Reason)
}

// takeReports adds up what a child counted that will not be main.
func (a *attempt) takeReports() {
	for _, d := range a.reports {
		a.n.p.Apply(a.epoch, d)
	}
	a.reports = nil
}

func (a *attempt) passSockets(r *Request, wanted []eventloop.Address, names []string) {
	Fault("parent.sockets")
	want := make(map[eventloop.Address]bool, len(wanted))
	for _, w := range wanted {
		want[w] = true
	}
	reply := &pb.PassSocketsReply{}
	var fds []int
	for _, g := range a.n.p.Sockets() {
		x := &pb.PassSocketsReply_Group{Address: toAddress(g.Address), Name: g.Name, Inherited: g.Manager, Total: uint32(len(g.FDs))}
		if !want[g.Address] && !(g.Manager && slices.Contains(names, g.Name)) {
			reply.Others = append(reply.Others, x)
			continue
		}
		x.Sockets = uint32(len(g.FDs))
		fds = append(fds, g.FDs...)
		reply.Groups = append(reply.Groups, x)
	}
	r.Reply(&pb.Message{Body: &pb.Message_PassSocketsReply{PassSocketsReply: reply}}, fds...)
}

// commit: the child accepts, so this process stops.
func (a *attempt) commit(r *Request, taken []eventloop.Address) {
	Fault("parent.pause")
	a.taken = taken
	a.n.p.Pause(taken)
	a.phase, a.committed, a.missed = phaseProbation, time.Now(), 0
	Fault("parent.paused")
	r.Ack()
	a.tell(pb.Phase_PROBATION, "")
}

// tell tells the hook where the restart is.
func (a *attempt) tell(p pb.Phase_Name, reason string) {
	_ = a.hook.Notify(&pb.Message{Body: &pb.Message_Phase{Phase: &pb.Phase{Name: p, Reason: reason, ChildPid: int64(a.childID.PID), Stopping: a.n.stopping}}}) // its end is watched
}

// hangs is how many heartbeats in a row may be missed.
const hangs = 2

// starves is how many looks may find no beat of a process that wants to run and is not let:
// on a machine with more work than CPUs that is no fault of its own.
const starves = 2 * 5 * hangs

// remindAfter is how long after HandOver line 2 may take before the parent
// accepts again, beside the child.
const remindAfter = 10

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
	case phaseHanded:
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
		a.back("probe: " + a.probeErr)
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

// hookGone: a hook that leaves before HandOver takes the restart back.
func (a *attempt) hookGone() {
	if a.n.attempt != a || a.phase >= phaseHanded {
		return
	}
	a.back("the hook of the reload has ended")
}

func (a *attempt) childGone() {
	if a.n.attempt == a {
		a.lost(fmt.Sprintf("process %d has died; its last words are in the log", a.childID.PID), false)
	}
}

// childFailed: the child says why it cannot go on, and leaves.
func (a *attempt) childFailed(reason string) {
	if a.phase >= phaseProbation {
		a.back(reason)
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
	result := "failed"
	if a.phase >= phaseProbation {
		result = "rolled back"
		if !hung { // EOF came from a process that may still be exiting
			waitGone(a.childID, n.o.CallTime)
		}
		if err := n.p.Resume(); err != nil {
			n.log.Error("accepting not resumed", "error", err)
		}
		a.takeReports()
		n.p.Forget(a.epoch)
	}
	a.end(result, reason)
	if a.child != nil {
		a.child.Close()
	}
}

// back ends a restart whose child lives: after commit the child stops accepting,
// drains its own connections and leaves.
func (a *attempt) back(reason string) {
	n := a.n
	if a.phase < phaseProbation {
		if a.child != nil {
			a.child.Close() // the child leaves on this
		}
		a.end("failed", reason)
		return
	}
	if err := n.p.Resume(); err != nil {
		n.log.Error("accepting not resumed", "error", err)
	}
	ctx, cancel := n.callContext()
	_, _, err := a.child.Call(ctx, &pb.Message{Body: &pb.Message_Resume{Resume: &pb.Resume{Reason: reason}}})
	cancel()
	if err != nil {
		a.lost(reason, true)
		return
	}
	n.p.Renew()
	a.takeReports()
	a.end("rolled back", reason)
	n.addElder(&elder{epoch: a.epoch, id: a.childID, conn: a.child, own: true})
}

func (a *attempt) end(result, reason string) {
	a.tell(pb.Phase_FAILED, reason)
	a.n.finish(Outcome{At: time.Now(), Result: result, Reason: reason, Epoch: a.epoch, Took: time.Since(a.began), Cut: a.cut})
}

// release: the child is main. This process closes its listeners and drains.
func (a *attempt) release(r *Request) {
	n := a.n
	if a.phase < phaseProbation {
		r.Refuse(pb.Error_REFUSED, "the new process has not committed")
		return
	}
	Fault("parent.release")
	n.flushElders()
	n.role = roleDraining
	n.slot.SetState(shm.StateDraining)
	n.setMain(a.child, a.version)
	n.p.Drain()
	n.event(slog.LevelInfo, systemd.EventDraining, "draining: a new process is main", "successor", a.epoch, "pid", a.childID.PID)
	n.finish(Outcome{At: time.Now(), Result: "ok", Epoch: a.epoch, Took: time.Since(a.began), Cut: a.cut})
	r.Ack()
	Fault("parent.released")
}
