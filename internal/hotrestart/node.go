package hotrestart

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "belay/internal/hotrestart/hotrestartpb"
	"belay/internal/shm"
	"belay/internal/systemd"

	"golang.org/x/sys/unix"
)

// Node is one process's place in the chain of generations. Everything it knows
// belongs to one goroutine, which runs what is posted to it: requests, ends of
// connections, timers. Roles:
//
//	cold start ──> main ──successor released it──> draining ──> gone
//	child: prepare ──Commit──> committed ──Release──> main
//	                               └─parent resumed─> stepping back ──> gone
type Node struct {
	o    Options
	p    Process
	log  *slog.Logger
	seg  *shm.Segment
	slot *shm.Slot
	self shm.Identity
	srv  *Server

	epoch uint64
	posts chan func()
	quit  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
	runs  atomic.Bool // the goroutine is there: what is posted before waits for it

	role     role
	up       *Parent  // the parent that has not released us yet; nil: none
	born     *Parent  // the parent that we had
	attempt  *attempt // the restart under way; nil: none
	elders   map[uint64]*elder
	main     *Conn // while draining: who takes our counts; nil: nobody
	leaving  bool  // the last counts are on their way
	telling  bool  // and before them what this process has learnt
	waiting  bool  // for an older generation to end before a restart begins
	alone    bool  // main speaks no version of ours
	stopping bool  // this process was told to stop
	stats    statsState
	adopting map[uint64]bool // generations that are being met
	late     map[uint64]bool // those that did not answer, by epoch
	seen     map[uint64]seen
	last     Outcome
	ended    time.Time // when the restart to this process was over, for MinInterval
	counts   struct{ done, failed, rolledBack atomic.Uint64 }
}

// Counts counts restarts by how they ended.
type Counts struct{ Done, Failed, RolledBack uint64 }

// Counts tells how the restarts that this process began ended. It may be called
// from any goroutine.
func (n *Node) Counts() Counts {
	return Counts{n.counts.done.Load(), n.counts.failed.Load(), n.counts.rolledBack.Load()}
}

type role uint8

const (
	roleChild role = iota
	roleMain
	roleDraining
	roleSteppingBack
)

// Outcome is how a restart ended.
type Outcome struct {
	At     time.Time
	Result string // "", "ok", "failed" before commit, "rolled back" after it
	Reason string
	Epoch  uint64
	Took   time.Duration
	Cut    int64 // connections of older generations that were ended for it
}

const (
	resultOK         = "ok"
	resultFailed     = "failed"
	resultRolledBack = "rolled back"
)

// newNode attaches the segment and starts to listen; epoch 0 takes the next one.
func newNode(o Options, epoch uint64, st shm.State) (*Node, error) {
	if err := os.MkdirAll(o.Directory, 0o750); err != nil {
		return nil, err
	}
	seg, repairs, err := shm.Open(SegmentPath(o.Directory, o.BaseID))
	if err != nil {
		return nil, err
	}
	for _, r := range repairs {
		o.Log.Warn("hot-restart segment repaired", "path", SegmentPath(o.Directory, o.BaseID), "what", r.What)
	}
	n := &Node{
		o: o, log: o.Log, seg: seg, self: shm.Self(), epoch: epoch,
		posts: make(chan func(), 256), quit: make(chan struct{}), elders: make(map[uint64]*elder),
		adopting: make(map[uint64]bool), late: make(map[uint64]bool),
	}
	if epoch == 0 {
		if err := n.first(); err != nil {
			_ = seg.Close()
			return nil, err
		}
	}
	if n.slot, err = seg.Join(n.epoch, st); err != nil {
		_ = seg.Close()
		return nil, err
	}
	return n, nil
}

// first is the start without a parent: nobody may serve under this base id.
func (n *Node) first() (err error) {
	for _, p := range n.seg.Processes() {
		if p.State == shm.StateServing || p.State == shm.StateStarting {
			return fmt.Errorf("process %d (epoch %d) is %s under base id %d in %s: use its hot restart, or another hot_restart.base_id",
				p.PID, p.Epoch, p.State, n.o.BaseID, n.o.Directory)
		}
	}
	n.epoch, err = n.seg.NextEpoch()
	return err
}

// Cold makes the node of a process that has no parent.
func Cold(o Options) (*Node, error) {
	n, err := newNode(o, 0, shm.StateStarting)
	if err == nil {
		n.role = roleMain
	}
	return n, err
}

// Epoch is the number of this generation.
func (n *Node) Epoch() uint64 { return n.epoch }

// Segment is the shared segment; Close unmaps it.
func (n *Node) Segment() *shm.Segment { return n.seg }

// Run attaches the process and begins to answer others. A child calls it before
// Commit, others when they serve.
func (n *Node) Run(p Process) error {
	n.p = p
	path := SocketPath(n.o.Directory, n.o.BaseID, n.epoch)
	srv, err := Serve(path, func(r *Request) { n.post(func() { n.request(r) }) },
		func(err error) { n.log.Warn("hot-restart socket", "path", path, "error", err) })
	if err != nil {
		return err
	}
	n.srv = srv
	n.wg.Add(1)
	n.runs.Store(true)
	go n.loop()
	if n.role == roleMain {
		n.post(func() {
			n.slot.SetState(shm.StateServing)
			n.sweep()
			n.adopt()
		})
	}
	return nil
}

// sweep removes the sockets of generations that were killed.
func (n *Node) sweep() {
	prefix := strings.TrimSuffix(SocketPath(n.o.Directory, n.o.BaseID, 0), "0.sock")
	files, err := filepath.Glob(prefix + "*.sock")
	if err != nil {
		return
	}
	lives := make(map[string]bool)
	for _, p := range n.seg.Processes() {
		lives[SocketPath(n.o.Directory, n.o.BaseID, p.Epoch)] = true
	}
	for _, f := range files {
		if !lives[f] {
			_ = os.Remove(f) // the next one tries again
		}
	}
}

// post has the node's goroutine run f; after Close it is not run.
func (n *Node) post(f func()) {
	select {
	case n.posts <- f:
	case <-n.quit:
	}
}

// do posts and waits.
func (n *Node) do(f func()) {
	done := make(chan struct{})
	n.post(func() { f(); close(done) })
	select {
	case <-done:
	case <-n.quit:
		n.wg.Wait() // f may be running
	}
}

// Do runs f between two steps of the protocol, and returns when that is done; it
// reports false if the node is closed.
func (n *Node) Do(f func()) (done bool) {
	n.do(func() { f(); done = true })
	return done
}

// loop is the node's goroutine. A tick is a heartbeat.
func (n *Node) loop() {
	defer n.wg.Done()
	tick := time.NewTicker(n.o.Heartbeat / 2)
	defer tick.Stop()
	exchange := time.NewTicker(exchangeInterval)
	defer exchange.Stop()
	for half := false; ; {
		due := exchange.C
		if !n.hasPartners() {
			due = nil // nothing wakes up for nothing
		}
		select {
		case f := <-n.posts:
			f()
		case <-due:
			n.exchangeAll()
		case <-tick.C:
			n.hear()
			if n.attempt != nil {
				n.attempt.checkBeat()
			}
			if half = !half; !half {
				n.tick()
			}
		case <-n.quit:
			return
		}
	}
}

// hear runs what came in while the process could not run: a parent that was
// stopped itself must not take its child for hung.
func (n *Node) hear() {
	for {
		select {
		case f := <-n.posts:
			f()
		default:
			return
		}
	}
}

// tick is one heartbeat.
func (n *Node) tick() {
	if n.attempt != nil {
		n.attempt.tick()
	}
	for _, e := range n.elders {
		e.poll(n)
	}
	if n.role == roleMain && len(n.late) > 0 {
		n.adopt()
	}
	n.lookUp()
	n.lookAround()
}

// SignalOthers sends a signal to every other generation.
func (n *Node) SignalOthers(sig unix.Signal) {
	for _, p := range n.seg.Processes() {
		if p.PID != n.self.PID && p.Alive() {
			_ = unix.Kill(p.PID, sig) // it may end just now
		}
	}
}

// Beat tells the other generations that the process works; the server calls it
// when every worker has turned.
func (n *Node) Beat() { n.slot.Beat() }

// Close leaves the chain. A restart under way must have been taken back before.
func (n *Node) Close() {
	n.once.Do(func() {
		close(n.quit)
		n.wg.Wait()
		n.slot.Leave() // first: who sees the connections end looks whether we are there
		if n.srv != nil {
			n.srv.Close()
		}
		if n.main != nil {
			n.main.Close()
		}
		for _, e := range n.elders {
			e.conn.Close()
		}
		_ = n.seg.Close()
	})
}

// request answers one request of a peer.
func (n *Node) request(r *Request) {
	if len(r.FDs) > 0 {
		closeAll(r.FDs) // nobody has descriptors to give us
	}
	switch m := r.Body.(type) {
	case *pb.Message_Begin:
		n.begin(r, m.Begin)
	case *pb.Message_Hello:
		n.hello(r, m.Hello)
	case *pb.Message_PassSockets, *pb.Message_State, *pb.Message_Pause, *pb.Message_Report, *pb.Message_Phase:
		n.fromChild(r)
	case *pb.Message_HandOver:
		n.handOver(r)
	case *pb.Message_Release:
		n.release(r, m.Release)
	case *pb.Message_Terminate:
		n.terminate(r, m.Terminate)
	case *pb.Message_Stats:
		n.giveStats(r)
	case *pb.Message_StatsAck:
		n.statsTaken(r, m.StatsAck.Id)
	case *pb.Message_Exchange:
		n.exchanged(r, m.Exchange)
	case *pb.Message_Final:
		n.final(r, m.Final)
	case *pb.Message_Resume:
		n.resumed(r, m.Resume)
	case *pb.Message_TakeOver:
		n.takeOver(r)
	case *pb.Message_Ping:
		n.ping(r)
	default:
		r.Refuse(pb.Error_UNKNOWN_MESSAGE, "belayd %s does not know this message", n.o.Program)
	}
}

// hello takes a child, or a new main process for our counts.
func (n *Node) hello(r *Request, h *pb.Hello) {
	version := common(h.MinVersion, h.MaxVersion)
	reply := &pb.HelloReply{
		Version: version, Epoch: n.epoch, Pid: int64(n.self.PID), Program: n.o.Program, Workers: uint32(n.o.Workers),
		OriginalStart: n.o.Started.UnixNano(), WatchdogNs: int64(n.o.Watchdog), HeartbeatNs: int64(n.o.Heartbeat), CallNs: int64(n.o.CallTime),
	}
	switch h.Role {
	case pb.Hello_SUCCESSOR:
		if n.role != roleDraining && n.role != roleSteppingBack {
			r.Refuse(pb.Error_REFUSED, "process %d does not drain", n.self.PID)
			return
		}
		n.setMain(r.Conn(), version)
	default:
		a := n.attempt
		if a == nil || a.token != h.Token || a.child != nil {
			r.Refuse(pb.Error_GONE, "process %d waits for no child, or for another one", n.self.PID)
			return
		}
		a.hello(r.Conn(), version)
		reply.CutConnections = a.cut
		for _, g := range n.p.Sockets() {
			reply.Descriptors += uint32(len(g.FDs))
		}
	}
	r.Reply(&pb.Message{Body: &pb.Message_HelloReply{HelloReply: reply}})
}

// common is the newest version that both sides speak; 0: the frozen part.
func common(low, high uint32) uint32 {
	ourLow, ourHigh := versions()
	if v := min(high, ourHigh); v >= max(low, ourLow) {
		return v
	}
	return 0
}

// release is asked of a child by line 2 of the hook, and of a parent by its child.
func (n *Node) release(r *Request, m *pb.Release) {
	switch a := n.attempt; {
	case a != nil && r.Conn() == a.child:
		a.release(r, m.TakenOver)
	case n.up != nil:
		if m.MainPid != 0 && int(m.MainPid) != n.self.PID {
			r.Refuse(pb.Error_REFUSED, "process %d is main for the service manager, this is %d", m.MainPid, n.self.PID)
			return
		}
		if err := n.becomeMain(); err != nil {
			r.Refuse(pb.Error_REFUSED, "%v", err)
			return
		}
		r.Ack()
	case a == nil && n.born != nil && n.last.Epoch == n.epoch && n.last.Result == resultOK:
		r.Ack() // the parent died between the two lines, so this process has released itself
	case a != nil && a.phase == phaseHanded:
		a.back("the service manager still takes process "+fmt.Sprint(n.self.PID)+" for the main one: is NotifyAccess=exec in the unit?", true)
		r.Refuse(pb.Error_REFUSED, "%s", n.last.Reason)
	default:
		reason := "no restart is under way"
		if n.last.Result != "" && n.last.Result != resultOK {
			reason = "the restart to epoch " + fmt.Sprint(n.last.Epoch) + " was taken back: " + n.last.Reason
		}
		code := pb.Error_GONE
		if n.stopping {
			code = pb.Error_STOPPING
		}
		r.Refuse(code, "%s", reason)
	}
}

// terminate is a main process asking a draining one to end.
func (n *Node) terminate(r *Request, m *pb.Terminate) {
	if n.role != roleDraining && n.role != roleSteppingBack {
		r.Refuse(pb.Error_REFUSED, "process %d does not drain", n.self.PID)
		return
	}
	open := n.p.Terminate(time.Duration(max(0, m.WithinNs)))
	r.Reply(&pb.Message{Body: &pb.Message_TerminateReply{TerminateReply: &pb.TerminateReply{Connections: open}}})
}

// callContext is the deadline of one call.
func (n *Node) callContext() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), n.o.CallTime, fmt.Errorf("nothing within %v", n.o.CallTime))
}

// watch posts f when the connection ends.
func (n *Node) watch(c *Conn, f func()) {
	go func() {
		select {
		case <-c.Done():
			n.post(f)
		case <-n.quit:
		}
	}()
}

// Cancel takes a restart under way back, because the process stops, and returns
// when that is done. No other begins.
func (n *Node) Cancel(reason string) {
	n.do(func() {
		n.stopping = true
		if n.attempt != nil {
			n.attempt.back(reason, true)
		}
		n.slot.SetState(shm.StateStopping)
	})
}

// event logs what operators search the journal for.
func (n *Node) event(level slog.Level, id, msg string, args ...any) {
	n.log.Log(context.Background(), level, msg, append([]any{systemd.MessageID, id}, args...)...)
}

// finish records how a restart ended.
func (n *Node) finish(o Outcome) {
	n.attempt = nil
	n.seg.EndInit(n.self)
	n.last = o
	switch o.Result {
	case resultOK:
		n.counts.done.Add(1)
	case resultFailed:
		n.counts.failed.Add(1)
		n.event(slog.LevelError, systemd.EventReloadFailed, "hot restart failed; nothing has changed", "child_epoch", o.Epoch, "reason", o.Reason)
	default:
		n.counts.rolledBack.Add(1)
		n.event(slog.LevelError, systemd.EventRolledBack, "hot restart rolled back; this process serves on", "child_epoch", o.Epoch, "reason", o.Reason)
	}
}
