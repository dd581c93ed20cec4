package hotrestart

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"belay/internal/eventloop"
	pb "belay/internal/hotrestart/hotrestartpb"
	"belay/internal/shm"
	"belay/internal/systemd"
)

// childEnv tells a process that it is a child: "EPOCH BASE HOOKFD TOKEN PARENTPID
// DIRECTORY". It is for the process alone, so it is unset at once.
const childEnv = "BELAY_HOT_RESTART"

// Parent is the generation that a child is about to replace.
type Parent struct {
	Conn *Conn
	Info *pb.HelloReply
	id   shm.Identity
	hook *Conn

	o         Options
	node      atomic.Pointer[Node] // nil until Join; the connections' goroutines look too
	epoch     uint64
	groups    []Group
	others    []Group
	committed bool
	probed    bool  // the probe has ended
	probeErr  error // how
	reporting bool  // a report is on its way
	joined    time.Time
	reason    string // why the parent resumed
	fate      atomic.Uint32
	takenBack atomic.Bool // before commit: the parent has said so
}

// What becomes of a child. It is settled at once when a peer says so, not when the
// node comes to it: a parent that asks the child to step back and a child that asks
// the parent to release would else wait for each other.
const (
	fateOpen  uint32 = iota
	fateTaken        // the hook has told it to take over
	fateMain         // it is becoming main
	fateBack         // the parent has taken the restart back
)

// stepBack settles that the parent serves on; false if it is too late.
func (p *Parent) stepBack(decided bool) bool {
	return p.fate.CompareAndSwap(fateOpen, fateBack) || decided && p.fate.CompareAndSwap(fateTaken, fateBack)
}

// Child connects a process that a hook started with its parent; nil if no hook
// did. The parent's restart socket is asked; nothing changes yet.
func Child(program string) (*Parent, error) {
	text := os.Getenv(childEnv)
	if text == "" {
		return nil, nil
	}
	_ = os.Unsetenv(childEnv)
	f := strings.SplitN(text, " ", 6)
	if len(f) != 6 {
		return nil, fmt.Errorf("%s=%q is not of this version", childEnv, text)
	}
	p := &Parent{}
	var errs [4]error
	var fd int
	p.epoch, errs[0] = strconv.ParseUint(f[0], 10, 64)
	p.o.BaseID, errs[1] = strconv.Atoi(f[1])
	fd, errs[2] = strconv.Atoi(f[2])
	p.id.PID, errs[3] = strconv.Atoi(f[4])
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", childEnv, err)
		}
	}
	p.o.Directory, p.o.Program = f[5], program
	Fault("child.start")
	var err error
	if p.hook, err = inherit(fd, p.fromPeer); err != nil {
		return nil, err
	}
	go p.followHook()
	if err := p.hello(f[3]); err != nil {
		p.Fail(err)
		return nil, err
	}
	return p, nil
}

// helloTime bounds the first call, before the parent has told its own limit.
const helloTime = 5 * time.Second

func (p *Parent) hello(token string) error {
	segment, err := shm.Attach(SegmentPath(p.o.Directory, p.o.BaseID))
	if err != nil {
		return err
	}
	defer segment.Close()
	var parent uint64
	for _, x := range segment.Processes() {
		if x.PID == p.id.PID {
			parent, p.id = x.Epoch, x.Identity
		}
	}
	if parent == 0 {
		return fmt.Errorf("the running process %d has ended", p.id.PID)
	}
	if p.Conn, err = Dial(SocketPath(p.o.Directory, p.o.BaseID, parent), helloTime, p.fromPeer); err != nil {
		return err
	}
	p.o.CallTime = helloTime
	low, high := versions()
	m, err := p.call(&pb.Message{Body: &pb.Message_Hello{Hello: &pb.Hello{
		MinVersion: low, MaxVersion: high, Epoch: p.epoch, Pid: int64(os.Getpid()), Role: pb.Hello_CHILD, Token: token, Program: p.o.Program,
	}}})
	if err != nil {
		return err
	}
	if p.Info = m.GetHelloReply(); p.Info == nil {
		return fmt.Errorf("process %d answered Hello with %s", p.id.PID, name(m))
	}
	if p.Info.CallNs > 0 {
		p.o.CallTime = time.Duration(p.Info.CallNs)
	}
	Fault("child.hello")
	return nil
}

// call is one call to the parent; an error names what did not come.
func (p *Parent) call(m *pb.Message) (*pb.Message, error) {
	r, fds, err := p.callFDs(m)
	closeAll(fds)
	return r, err
}

func (p *Parent) callFDs(m *pb.Message) (*pb.Message, []int, error) {
	n := Node{o: p.o}
	ctx, cancel := n.callContext()
	defer cancel()
	return p.Conn.Call(ctx, m)
}

// Epoch is the number that the parent gave this generation.
func (p *Parent) Epoch() uint64 { return p.epoch }

// Directory and BaseID are where the running generation is; those of the
// configuration count from the next cold start on.
func (p *Parent) Directory() string { return p.o.Directory }

// BaseID is the base id of the running generation.
func (p *Parent) BaseID() int { return p.o.BaseID }

// Sockets takes every socket that the parent has for the addresses, and those that
// came from the service manager under one of the names. The
// descriptors are the caller's. A socket missing for want of descriptors is an
// error before any is taken.
func (p *Parent) Sockets(wanted []eventloop.Address, names []string) ([]Group, error) {
	if err := checkDescriptors(int(p.Info.Descriptors)); err != nil {
		return nil, err
	}
	m, fds, err := p.callFDs(&pb.Message{Body: &pb.Message_PassSockets{PassSockets: &pb.PassSockets{Wanted: toAddresses(wanted), Names: names}}})
	if err != nil {
		return nil, err
	}
	rest := fds
	for _, g := range m.GetPassSocketsReply().GetGroups() {
		a, ok := fromAddress(g.Address)
		if n := int(g.Sockets); !ok || n > len(rest) {
			closeAll(fds)
			return nil, fmt.Errorf("process %d passed %d sockets where %d for %s were announced", p.id.PID, len(rest), n, g.Address)
		}
		p.groups = append(p.groups, Group{Address: a, Name: g.Name, FDs: rest[:g.Sockets:g.Sockets], Manager: g.Inherited, Admin: g.Admin})
		rest = rest[g.Sockets:]
	}
	closeAll(rest)
	for _, g := range m.GetPassSocketsReply().GetOthers() {
		if a, ok := fromAddress(g.Address); ok {
			p.others = append(p.others, Group{Address: a, Name: g.Name, Manager: g.Inherited, Admin: g.Admin, Total: int(g.Total)})
		}
	}
	Fault("child.sockets")
	return p.groups, nil
}

// Others are the addresses of the parent that were not asked for.
func (p *Parent) Others() []Group { return p.others }

// State takes what the parent passes on, and its descriptor of the directory of
// credentials, which is the caller's; -1: it has none. A parent that knows no state
// passes nothing.
func (p *Parent) State() (list []Blob, credentials int, err error) {
	if p.Info.Version == 0 {
		return nil, -1, nil
	}
	m, fds, err := p.callFDs(&pb.Message{Body: &pb.Message_State{State: &pb.State{}}})
	if err != nil {
		return nil, -1, err
	}
	credentials = -1
	if len(fds) > 0 {
		credentials = fds[0]
		closeAll(fds[1:])
	}
	Fault("child.state")
	return fromBlobs(m.GetStateReply().GetBlobs()), credentials, nil
}

// Join makes the child's node, which beats from now on.
func (p *Parent) Join(o Options) (*Node, error) {
	o.Directory, o.BaseID = p.o.Directory, p.o.BaseID
	n, err := newNode(o, p.epoch, shm.StatePrepare)
	if err != nil {
		return nil, err
	}
	n.role, n.up, n.born = roleChild, p, p
	p.joined = time.Now()
	p.o.Log = o.Log
	p.node.Store(n)
	return n, nil
}

// Accepting says that the process is about to accept: from here on the end of the
// hook is the parent's business, because connections hang on this process.
func (p *Parent) Accepting() {
	p.node.Load().do(func() { p.committed = true })
}

// Commit tells the parent that this process accepts on the sockets it took, and
// returns when the parent has let go of them.
func (p *Parent) Commit() error {
	taken := make([]eventloop.Address, len(p.groups))
	for i, g := range p.groups {
		taken[i] = g.Address
	}
	Fault("child.commit")
	n := p.node.Load()
	p.state(shm.StateCommit)
	p.Accepting()
	if _, err := p.call(&pb.Message{Body: &pb.Message_Pause{Pause: &pb.Pause{Taken: toAddresses(taken)}}}); err != nil && !p.ended() {
		return err
	} // without the parent nobody else accepts
	p.state(shm.StateProbation)
	n.watch(p.Conn, p.parentGone)
	Fault("child.committed")
	return nil
}

// state tells the others how far a child is, unless it is main already.
func (p *Parent) state(st shm.State) {
	n := p.node.Load()
	n.do(func() {
		if n.up == p {
			n.slot.SetState(st)
		}
	})
}

// ended reports whether the parent has died. Its connection ends before it does.
func (p *Parent) ended() bool {
	return p.Conn.Err() != nil && !p.takenBack.Load() && endsSoon(p.id, p.o.CallTime)
}

// Probed tells the parent how the probe of the listeners ended.
func (p *Parent) Probed(err error) {
	Fault("child.probed")
	p.node.Load().do(func() {
		p.probed, p.probeErr = true, err
		p.report()
	})
}

// report tells the parent what was counted since commit. Each report has all of
// it, so one that the parent never saw is not missing; there is one at a time.
func (p *Parent) report() {
	n := p.node.Load()
	if n.up != p || p.reporting {
		return
	}
	m := &pb.Report{Probed: p.probed}
	if p.probeErr != nil {
		m.ProbeError = p.probeErr.Error()
	}
	if p.Info.Version > 0 {
		m.Deltas = toDeltas(n.p.Deltas(true))
	}
	p.reporting = true
	go func() { // a parent that hangs holds up nothing here
		_, err := p.call(&pb.Message{Body: &pb.Message_Report{Report: m}})
		n.post(func() {
			p.reporting = false
			if p.probed && !m.Probed && err == nil { // the probe ended meanwhile; else the next heartbeat tells
				p.report()
			}
		})
	}()
}

// Report gives the parent the counts so far, with each heartbeat of probation: a
// child that is killed loses only what came after the last one.
func (n *Node) Report() {
	if !n.runs.Load() {
		return
	}
	n.post(func() {
		if n.up != nil && n.up.committed {
			n.up.report()
		}
	})
}

// Fail tells hook and parent why this process does not go on.
func (p *Parent) Fail(why error) {
	m := func() *pb.Message {
		return &pb.Message{Body: &pb.Message_Phase{Phase: &pb.Phase{Name: pb.Phase_FAILED, Reason: why.Error(), ChildPid: int64(os.Getpid())}}}
	}
	_ = p.hook.Notify(m()) // the hook may have gone before us
	if p.Conn != nil {
		_ = p.Conn.Notify(m()) // as may the parent
	}
}

// followHook ends the process when the hook dies before commit: nobody waits
// for it any more.
func (p *Parent) followHook() {
	<-p.hook.Done()
	n := p.node.Load()
	leave := n == nil || !n.runs.Load() // Commit comes after Run
	if !leave {
		n.do(func() { leave = !p.committed }) // a node that is closed is of a process that ends by itself
	}
	if !leave {
		n.do(p.hookGone)
	}
	if leave {
		fmt.Fprintln(os.Stderr, "belayd: the hook of the reload has ended; so does this process")
		os.Exit(1)
	}
}

// hookGone: without a service manager nobody else calls line 2 for a child that was
// told to take over.
func (p *Parent) hookGone() {
	n := p.node.Load()
	if n.up != p || n.o.Service || p.fate.Load() != fateTaken {
		return
	}
	if err := n.becomeMain(); err != nil {
		n.log.Error("take over", "error", err)
	}
}

// fromPeer answers the parent, and the hook, which asks only when the parent hangs.
func (p *Parent) fromPeer(r *Request) {
	if x := r.GetPhase(); x != nil && x.Name == pb.Phase_FAILED && r.Notice() {
		p.takenBack.Store(true) // the end of the connection comes next
		return
	}
	n := p.node.Load()
	if n == nil {
		r.Refuse(pb.Error_REFUSED, "the new process is not ready")
		return
	}
	if m := r.GetResume(); m != nil && r.Conn() == p.Conn && !p.stepBack(m.Decided) {
		r.Refuse(pb.Error_TAKEN, "process %d has taken over", n.self.PID)
		return
	}
	n.post(func() { n.request(r) })
}

// resumed: the parent accepts again; this process drains and leaves.
func (n *Node) resumed(r *Request, m *pb.Resume) {
	p := n.up
	if p == nil || r.Conn() != p.Conn {
		r.Refuse(pb.Error_GONE, "process %d is not a child of yours", n.self.PID)
		return
	}
	Fault("child.resume")
	p.reason = m.Reason
	n.up, n.role = nil, roleSteppingBack
	n.slot.SetState(shm.StateSteppingBack)
	n.setMain(p.Conn, p.Info.Version)
	n.p.StepBack()
	n.last = Outcome{At: time.Now(), Result: resultRolledBack, Reason: m.Reason, Epoch: n.epoch}
	n.event(slog.LevelWarn, systemd.EventRolledBack, "stepping back: the old process serves on", "reason", m.Reason)
	r.Ack()
}
