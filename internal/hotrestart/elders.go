package hotrestart

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	pb "belay/internal/hotrestart/hotrestartpb"
	"belay/internal/shm"
	"belay/internal/stats"
	"belay/internal/systemd"
)

// elder is another generation that drains and tells the main one what it counts.
type elder struct {
	epoch uint64
	id    shm.Identity
	conn  *Conn
	busy  bool      // a Stats call is under way
	own   bool      // it steps back: we are its parent
	heard time.Time // when it last answered
	mute  bool      // it speaks no version of ours: it tells no counts
	// report is what a child that steps back had told before; it counts if the child
	// dies before it tells all of it again.
	report []stats.Delta

	program string // version
	open    int64
	since   time.Time
	until   time.Time
}

// statsState is a draining generation's side of Stats.
type statsState struct {
	id      uint64 // of the last reply
	to      *Conn  // who got it
	pending bool   // it is not acknowledged
}

// adopt connects to the generations that drain already, all at once: one that hangs
// holds up neither this process nor the others. It is tried again with later
// heartbeats.
func (n *Node) adopt() {
	for _, p := range n.seg.Processes() {
		if p.Epoch == n.epoch || n.isElder(p.Epoch) || n.adopting[p.Epoch] {
			continue
		}
		switch {
		case p.State == shm.StateDraining, p.State == shm.StateSteppingBack:
			n.adopting[p.Epoch] = true
			go func() {
				e, err := n.meet(p)
				n.post(func() { n.met(p, e, err) })
			}()
		case p.State == shm.StateServing && p.Epoch < n.epoch && !n.late[p.Epoch] && (n.born == nil || n.born.id != p.Identity):
			n.late[p.Epoch] = true
			n.killLater(p.Identity) // it hung when a child took over from it, before us
		}
	}
	for _, epoch := range n.p.Generations() { // those of which only the parent knew
		if !n.isElder(epoch) && !n.lives(epoch) {
			n.p.Forget(epoch)
		}
	}
}

func (n *Node) lives(epoch uint64) bool {
	return slices.ContainsFunc(n.seg.Processes(), func(p shm.Process) bool { return p.Epoch == epoch })
}

// meet introduces this process to one that drains.
func (n *Node) meet(p shm.Process) (*elder, error) {
	low, high := versions()
	conn, err := Dial(SocketPath(n.o.Directory, n.o.BaseID, p.Epoch), n.o.CallTime, func(r *Request) { n.post(func() { n.request(r) }) })
	if err != nil {
		return nil, err
	}
	ctx, cancel := n.callContext()
	defer cancel()
	m, _, err := conn.Call(ctx, &pb.Message{Body: &pb.Message_Hello{Hello: &pb.Hello{
		MinVersion: low, MaxVersion: high, Epoch: n.epoch, Pid: int64(n.self.PID), Role: pb.Hello_SUCCESSOR, Program: n.o.Program,
	}}})
	if err != nil {
		conn.Close()
		return nil, err
	}
	h := m.GetHelloReply()
	return &elder{epoch: p.Epoch, id: p.Identity, conn: conn, program: h.GetProgram(), mute: h.GetVersion() == 0}, nil
}

// met is the end of meet.
func (n *Node) met(p shm.Process, e *elder, err error) {
	delete(n.adopting, p.Epoch)
	switch {
	case err == nil && n.role == roleMain && !n.isElder(p.Epoch):
		n.addElder(e)
	case err == nil:
		e.conn.Close()
	case p.Alive() && !n.late[p.Epoch]:
		n.late[p.Epoch] = true
		n.log.Warn("a draining generation does not answer; it is asked again", "generation", p.Epoch, "pid", p.PID, "error", err)
		n.killLater(p.Identity)
	}
}

func (n *Node) isElder(epoch uint64) bool { return n.elders[epoch] != nil }

func (n *Node) addElder(e *elder) {
	e.heard = time.Now()
	n.elders[e.epoch] = e
	n.watch(e.conn, func() {
		if n.elders[e.epoch] != e {
			return
		}
		n.lose(e)
		n.event(slog.LevelInfo, systemd.EventGenerationEnded, "a draining generation has ended", "generation", e.epoch, "pid", e.id.PID)
	})
	e.poll(n)
}

// lose forgets a generation that is gone.
func (n *Node) lose(e *elder) {
	delete(n.elders, e.epoch)
	if e.report != nil {
		n.p.Apply(e.epoch, e.report)
	}
	n.p.Forget(e.epoch)
}

// poll asks for the counts without waiting. One that does not answer is not asked
// again: what it has not read would pile up and end the connection.
func (e *elder) poll(n *Node) {
	if e.busy {
		e.silent(n)
		return
	}
	if e.mute {
		return
	}
	e.busy = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), n.o.ShutdownTime+n.o.CallTime)
		defer cancel()
		m, fds, err := e.conn.Call(ctx, &pb.Message{Body: &pb.Message_Stats{Stats: &pb.Stats{}}})
		closeAll(fds)
		n.post(func() {
			e.busy = false
			if err == nil {
				// The hook waits for this process no longer than call_time.
				ctx, cancel := context.WithTimeout(context.Background(), n.o.CallTime/2)
				defer cancel()
				e.take(ctx, n, m.GetStatsReply())
			}
		})
	}()
}

// silent ends a generation that hangs when the time of its connections is over;
// it cannot do so itself.
func (e *elder) silent(n *Node) {
	if n.elders[e.epoch] == e && time.Since(e.heard) > n.o.ShutdownTime {
		n.log.Warn("old process killed: it does not answer any more", "generation", e.epoch, "pid", e.id.PID)
		kill(e.id)
	}
}

// take adds a reply up and acknowledges it.
func (e *elder) take(ctx context.Context, n *Node, s *pb.StatsReply) {
	if s == nil || n.elders[e.epoch] != e {
		return
	}
	e.heard, e.report = time.Now(), nil
	n.p.Apply(e.epoch, fromDeltas(s.Deltas))
	// Whoever asks next must not be told of these again, so this waits.
	if _, _, err := e.conn.Call(ctx, &pb.Message{Body: &pb.Message_StatsAck{StatsAck: &pb.StatsAck{Id: s.Id}}}); err != nil {
		n.log.Warn("counts of a draining generation not acknowledged", "generation", e.epoch, "pid", e.id.PID, "error", err)
	}
	e.open, e.since, e.until = s.Connections, unixTime(s.DrainingSince), unixTime(s.Deadline)
}

func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// flushElders takes what the draining generations have counted until now and
// lets go of them: our successor is about to ask them itself.
func (n *Node) flushElders() {
	// The successor, too, waits no longer than CallTime for us. One that hangs is its
	// to end.
	ctx, cancel := context.WithTimeout(context.Background(), n.o.CallTime/2)
	defer cancel()
	for epoch, e := range n.elders {
		m, fds, err := e.conn.Call(ctx, &pb.Message{Body: &pb.Message_Stats{Stats: &pb.Stats{}}})
		closeAll(fds)
		if err == nil {
			e.take(ctx, n, m.GetStatsReply())
		}
		delete(n.elders, epoch) // what it can still write, the successor knows from our counts
		e.conn.Close()
	}
}

// giveStats answers a main process.
func (n *Node) giveStats(r *Request) {
	if r.Conn() != n.main || n.leaving {
		r.Refuse(pb.Error_REFUSED, "the counts of process %d go to another one", n.self.PID)
		return
	}
	r.Reply(&pb.Message{Body: &pb.Message_StatsReply{StatsReply: n.statsReply(r.Conn())}})
}

func (n *Node) statsReply(to *Conn) *pb.StatsReply {
	open, since, until := n.p.Connections()
	n.stats = statsState{id: n.stats.id + 1, to: to, pending: true}
	return &pb.StatsReply{
		Id: n.stats.id, Deltas: toDeltas(n.p.Deltas(n.role == roleSteppingBack)),
		Connections: open, DrainingSince: unixNano(since), Deadline: unixNano(until),
	}
}

func (n *Node) statsTaken(r *Request, id uint64) {
	if r.Conn() == n.stats.to && n.stats.pending && id == n.stats.id {
		n.stats.pending = false
		n.p.DeltasTaken()
	}
	r.Ack()
}

// setMain is who takes our counts from now on; one that speaks no version of ours
// takes none.
func (n *Node) setMain(c *Conn, version uint32) {
	n.main, n.alone = c, version == 0
	n.watch(c, func() {
		if n.main == c {
			n.main = nil
		}
	})
}

// final takes the last counts of a generation that leaves.
func (n *Node) final(r *Request, m *pb.Final) {
	for _, e := range n.elders {
		if e.conn == r.Conn() && m.Stats != nil {
			n.p.Apply(e.epoch, fromDeltas(m.Stats.Deltas))
			e.open, e.report = 0, nil
			r.Ack()
			return
		}
	}
	r.Refuse(pb.Error_REFUSED, "process %d takes no counts of yours", n.self.PID)
}

// Empty is called by the server when the last connection of a draining process
// has ended: it gives its last counts and returns when the process may exit.
func (n *Node) Empty() {
	deadline := time.Now().Add(n.o.CallTime)
	for time.Now().Before(deadline) {
		var to *Conn
		var m *pb.Message
		alone := false
		n.do(func() {
			if alone = n.alone; alone {
				return
			}
			if n.stats.pending && n.stats.to == n.main {
				return // what was told a moment ago must be acknowledged first
			}
			n.leaving = true
			if to = n.main; to != nil {
				m = &pb.Message{Body: &pb.Message_Final{Final: &pb.Final{Stats: n.statsReply(to)}}}
			}
		})
		if alone {
			return
		}
		if to != nil {
			ctx, cancel := n.callContext()
			_, _, err := to.Call(ctx, m)
			cancel()
			if err == nil {
				return
			}
			if to.Err() == nil && !refused(err) {
				// It has them in its queue: told again, it would count them twice.
				n.log.Warn("the last counts of this process are not acknowledged", "error", err)
				return
			}
		}
		time.Sleep(finalRetry) // the next main process is about to ask for us
	}
	n.log.Warn("no process took the last counts of this one")
}

const finalRetry = 20 * time.Millisecond

// EndElders asks every draining generation to end within a time and waits for
// that, or until the time is over.
func (n *Node) EndElders(within time.Duration) {
	var conns []*Conn
	n.do(func() {
		n.meetAll()
		for _, e := range n.elders {
			conns = append(conns, e.conn)
		}
	})
	for _, c := range conns {
		go func() {
			ctx, cancel := n.callContext()
			defer cancel()
			_, _, err := c.Call(ctx, &pb.Message{Body: &pb.Message_Terminate{Terminate: &pb.Terminate{WithinNs: int64(within)}}})
			if err != nil {
				n.log.Warn("a draining generation does not answer", "error", err)
			}
		}()
	}
	limit := time.NewTimer(within + n.o.CallTime)
	defer limit.Stop()
	for _, c := range conns {
		select {
		case <-c.Done():
		case <-limit.C:
			return
		}
	}
}

// endOldest makes room when max_generations live side by side.
func (n *Node) endOldest() (note string, cut int64) {
	n.meetAll() // who is not known could only be killed
	for {
		list := n.seg.Processes()
		list = slices.DeleteFunc(list, func(p shm.Process) bool { return p.Epoch == n.epoch })
		if len(list)+1 < n.o.MaxGenerations || len(list) == 0 {
			return note, cut
		}
		p := list[0] // by epoch
		open, err := n.endNow(p)
		if err != nil {
			n.log.Error("oldest generation not ended", "generation", p.Epoch, "pid", p.PID, "error", err)
			return note, cut
		}
		cut += open
		note = strings.Join(nonEmpty(note, fmt.Sprintf("epoch %d (process %d) ended early, %d connections cut: max_generations is %d", p.Epoch, p.PID, open, n.o.MaxGenerations)), "; ")
		n.event(slog.LevelWarn, systemd.EventConnectionsCut, "oldest generation ended for a new one", "generation", p.Epoch, "pid", p.PID, "connections", open)
	}
}

// endNow ends a generation with what it has open, by force if it does not answer.
func (n *Node) endNow(p shm.Process) (open int64, err error) {
	e := n.elders[p.Epoch]
	if e != nil {
		ctx, cancel := n.callContext()
		m, _, err := e.conn.Call(ctx, &pb.Message{Body: &pb.Message_Terminate{Terminate: &pb.Terminate{}}})
		if err == nil {
			err = n.await(ctx, e.conn.Done())
		}
		cancel()
		if open = m.GetTerminateReply().GetConnections(); err != nil {
			open = max(open, e.open)
		}
	}
	if e == nil || err != nil {
		if kill(p.Identity); !endsSoon(p.Identity, n.o.CallTime) {
			return 0, fmt.Errorf("it lives on after SIGKILL")
		}
	}
	n.drainPosts() // its last counts
	if e != nil && n.elders[p.Epoch] == e {
		n.lose(e)
	}
	return open, nil
}

// await runs what is posted until done is closed: the last counts of a process
// must be acknowledged before it leaves.
func (n *Node) await(ctx context.Context, done <-chan struct{}) error {
	n.waiting = true // no other restart may begin meanwhile
	defer func() { n.waiting = false }()
	for {
		select {
		case f := <-n.posts:
			f()
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-n.quit:
			return net.ErrClosed
		}
	}
}

// meetAll waits until every generation that is being met has answered, or has not.
func (n *Node) meetAll() {
	ctx, cancel := n.callContext()
	defer cancel()
	n.waiting = true
	defer func() { n.waiting = false }()
	for len(n.adopting) > 0 {
		select {
		case f := <-n.posts:
			f()
		case <-ctx.Done():
			return
		case <-n.quit:
			return
		}
	}
}

// drainPosts hears what has been posted while the node was busy.
func (n *Node) drainPosts() {
	for {
		select {
		case f := <-n.posts:
			f()
		default:
			return
		}
	}
}
