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

	"golang.org/x/sys/unix"
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
	managed   bool // a service manager waits, and calls line 2
	version   uint32
	pinged    bool
	probed    bool
	probeErr  string
	// report is all that the child counted since commit. It is ours when the child is
	// lost; one that steps back gives it again while it drains.
	report []stats.Delta
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
		code := pb.Error_REFUSED
		if n.stopping {
			code = pb.Error_STOPPING
		}
		r.Refuse(code, "%v", err)
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
	a := &attempt{n: n, epoch: epoch, token: rand.Text(), began: time.Now(), hook: r.Conn(), cut: cut, managed: b.MainPid != 0}
	n.attempt = a
	n.event(slog.LevelInfo, systemd.EventReloadBegun, "hot restart begins", "child_epoch", epoch, "program", b.Program)
	n.watch(a.hook, a.hookGone)
	// Without a service manager the caller's stderr may be a pipe that ends with it.
	var stderr []int
	if !a.managed {
		stderr = []int{unix.Stderr}
	}
	r.Reply(&pb.Message{Body: &pb.Message_BeginReply{BeginReply: &pb.BeginReply{
		Epoch: epoch, Token: a.token, Config: n.o.Config, HeartbeatNs: int64(n.o.Heartbeat), CallNs: int64(n.o.CallTime),
		PrepareNs: int64(n.o.PrepareTime), ProbationNs: int64(n.o.Probation), Note: note,
	}}}, stderr...)
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
	if n.stopping || n.role != roleMain { // told meanwhile
		return "", 0, fmt.Errorf("process %d was told to stop", n.self.PID)
	}
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
		a.back("the service manager kept the old process, as the next reload tells", true)
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
		if p := r.GetPhase(); p != nil && p.Name == pb.Phase_FAILED {
			// The hook gives up, and says why. After HandOver it does so only when the
			// service manager has heard nothing.
			a.back(p.Reason, a.phase == phaseHanded)
		}
		return
	}
	if a == nil || r.Conn() != a.child {
		r.Refuse(pb.Error_GONE, "the restart is over: %s", n.last.Reason)
		return
	}
	switch m := r.Body.(type) {
	case *pb.Message_PassSockets:
		a.passSockets(r, fromAddresses(m.PassSockets.Wanted), m.PassSockets.Names)
	case *pb.Message_State:
		reply := n.stateReply()
		Fault("parent.state")
		var fds []int
		if fd := n.p.Credentials(); fd >= 0 {
			fds = append(fds, fd)
		}
		r.Reply(reply, fds...)
	case *pb.Message_Pause:
		a.commit(r, fromAddresses(m.Pause.Taken))
	case *pb.Message_Report:
		a.report = fromDeltas(m.Report.Deltas)
		r.Ack()
		if m.Report.Probed && !a.probed {
			a.probed, a.probeErr = true, m.Report.ProbeError
			a.judge()
		}
	case *pb.Message_Phase:
		if m.Phase.Name == pb.Phase_FAILED {
			a.childFailed(m.Phase.Reason)
		}
	}
}

// stateReply is what a child starts with.
func (n *Node) stateReply() *pb.Message {
	return &pb.Message{Body: &pb.Message_StateReply{StateReply: &pb.StateReply{Blobs: toBlobs(n.p.State())}}}
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
		x := &pb.PassSocketsReply_Group{Address: toAddress(g.Address), Name: g.Name, Inherited: g.Manager, Admin: g.Admin, Total: uint32(len(g.FDs))}
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
