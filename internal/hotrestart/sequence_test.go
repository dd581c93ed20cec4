package hotrestart

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"belay/internal/eventloop"
	pb "belay/internal/hotrestart/hotrestartpb"
	"belay/internal/shm"

	"golang.org/x/sys/unix"
)

func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// The whole sequence: who is asked to do what, in which order, and what each
// side knows at each step.
func TestSequence(t *testing.T) {
	_, dir := secrets(t)
	a := cold(t, func(o *Options) { o.Watchdog, o.Config = time.Minute, "/etc/x.toml" }, func(g *generation) { g.dir = dir })
	a.count = 5
	h := a.beginAs(managed())
	if b := h.begun; b.Epoch != 2 || b.Config != "/etc/x.toml" || b.Token == "" || b.Note != "" || b.CallNs != int64(2*time.Second) {
		t.Errorf("begun: %v", b)
	}
	c := h.prepare("B")
	i := c.from.Info
	if i.Version != MaxVersion || i.Epoch != 1 || i.Pid != int64(os.Getpid()) || i.Descriptors != 3 || i.WatchdogNs != int64(time.Minute) || i.OriginalStart != time.Unix(1000, 0).UnixNano() || i.Workers != 2 {
		t.Errorf("hello: %v", i)
	}
	if g := c.groups; len(g) != 1 || len(g[0].FDs) != 2 || g[0].Name != "web" || g[0].Address != a.groups[0].Address || inode(t, g[0].FDs[0]) != inode(t, a.groups[0].FDs[0]) {
		t.Errorf("sockets: %+v", g)
	}
	if o := c.from.Others(); len(o) != 1 || o[0].Name != "old" || o[0].Total != 1 || len(o[0].FDs) != 0 {
		t.Errorf("others: %+v", o)
	}
	if s := c.state; len(s) != 1 || s[0].Owner != "dns" || s[0].Version != 3 || string(s[0].Data) != "answers" {
		t.Errorf("state: %+v", s)
	}
	if fd := c.Credentials(); fd < 0 || fd == a.Credentials() || inode(t, fd) != inode(t, a.Credentials()) {
		t.Errorf("descriptor %d of the directory of credentials", fd)
	}
	if s := a.Status(); s.Phase != "prepare" || s.Child != os.Getpid() || len(s.Generations) != 2 || s.Generations[1].State != shm.StatePrepare.String() {
		t.Errorf("status: %+v", s)
	}
	wantRefused(t, c.release(0), pb.Error_REFUSED, "has not committed")
	if err := c.from.Commit(); err != nil {
		t.Fatal(err)
	}
	if p := h.waitPhase(pb.Phase_PROBATION); p.ChildPid != int64(os.Getpid()) {
		t.Errorf("phase: %v", p)
	}
	wantRefused(t, h.call(handOver()), pb.Error_GONE, "")
	c.add(2)
	c.from.Probed(nil)
	h.waitPhase(pb.Phase_PROVEN)
	if err := h.call(handOver()); err != nil {
		t.Fatal(err)
	}
	h.conn.Close() // from here its end takes nothing back
	if err := c.release(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	pause := fmt.Sprintf("A Pause %v", []eventloop.Address{a.groups[0].Address})
	a.wantBook(pause, "B BeforeRelease 1", "A Drain", "B Main")
	a.wantLast("ok", "")
	if n := a.Counts(); n != (Counts{Done: 1}) {
		t.Errorf("counts: %+v", n)
	}
	if s := c.Status(); s.Epoch != 2 || s.Phase != "" || s.Last.Result != "ok" || len(s.Generations) != 2 || !s.Generations[1].Main || s.Generations[0].State != shm.StateDraining.String() || s.Generations[0].Connections != 1 || s.Generations[0].Since.IsZero() {
		t.Errorf("status of the new one: %+v", s)
	}
	if n := c.sum(); n != 7 { // already with the answer to line 2
		t.Errorf("the new process has %d counts, want 7", n)
	}
	a.add(4)
	a.exit()
	eventually(t, "the old generation to be forgotten", func() bool { return slices.Contains(c.book.all(), "B Forget 1") })
	if n := c.sum(); n != 11 {
		t.Errorf("%d counts at the end, want 11", n)
	}
	c.wantBook(pause, "B BeforeRelease 1", "A Drain", "B Main", "B Forget 1")
}

// What a restart is refused for, and that nothing is changed by that.
func TestRefusals(t *testing.T) {
	pid := int64(os.Getpid())
	for _, tt := range []struct {
		name   string
		change func(*Options)
		before func(*generation)
		begin  *pb.Begin // nil: an ordinary one
		want   string
	}{
		{"second restart", nil, func(a *generation) { a.begin() }, nil, "a restart to epoch 2 is under way since"},
		{"min_interval", func(o *Options) { o.MinInterval = time.Hour }, func(a *generation) {
			a.begin().conn.Close()
			a.wantLast("failed", "") // which does not count
			a.begin().conn.Close()
			a.wantLast("failed", "")
			a.do(func() { a.Node.ended = time.Now() })
		}, nil, "hot_restart.min_interval is 1h0m0s"},
		{"a service, not called by its hook", func(o *Options) { o.Service = true }, nil, nil, "use systemctl reload belay"},
		{"another main process", nil, nil, &pb.Begin{MinVersion: 1, MaxVersion: 1, MainPid: 1, Notify: true}, "process 1 is main for the service manager"},
		{"no way to tell the manager", nil, nil, &pb.Begin{MinVersion: 1, MaxVersion: 1, MainPid: pid}, "NOTIFY_SOCKET is not set"},
		{"memory", nil, func(a *generation) { a.do(func() { a.full = errors.New("1.1 TiB are needed, 3 GiB are there") }) }, nil, "1.1 TiB are needed, 3 GiB are there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := cold(t, tt.change)
			if tt.before != nil {
				tt.before(a)
			}
			if tt.begin == nil {
				tt.begin = ourVersions()
			}
			_, err := a.tryBegin(tt.begin)
			wantRefused(t, err, pb.Error_REFUSED, tt.want)
			a.wantBook()
			if !strings.Contains(a.log.String(), "hot restart refused") {
				t.Errorf("the log does not tell:\n%s", a.log)
			}
		})
	}
}

// A process that drains, and one that its parent has not released, begin no
// restart.
func TestRefusalsByRole(t *testing.T) {
	a := cold(t, nil)
	h := a.begin()
	c := h.commit("B")
	_, err := c.tryBegin(ourVersions())
	wantRefused(t, err, pb.Error_REFUSED, "has not been released by its parent")
	c.from.Probed(nil)
	h.waitPhase(pb.Phase_PROVEN)
	if err := errors.Join(h.call(handOver()), c.release(0)); err != nil {
		t.Fatal(err)
	}
	_, err = a.tryBegin(ourVersions())
	wantRefused(t, err, pb.Error_REFUSED, "drains already")
	wantRefused(t, a.release(0), pb.Error_GONE, "no restart is under way")
}

// A second process under the same base id is refused while the first serves, and
// not after its end.
func TestColdBesideColdIsRefused(t *testing.T) {
	a := cold(t, nil)
	eventually(t, "it serves", func() bool { return a.Status().Generations[0].Main })
	if n, err := Cold(a.o); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d (epoch 1) is serving under base id 0", os.Getpid())) {
		t.Errorf("a second one: %v", err)
		if err == nil {
			n.Close()
		}
	}
	a.leave()
	n, err := Cold(a.o)
	if err != nil {
		t.Fatal(err)
	}
	if n.Epoch() != 2 {
		t.Errorf("epoch %d after the end of epoch 1", n.Epoch())
	}
	n.Close()
}

// What Begin tells the hook: the note of the head-room check, and versions that
// do not overlap.
func TestBeginNote(t *testing.T) {
	a := cold(t, nil)
	a.do(func() { a.note = "no memory limit can be read" })
	h, err := a.tryBegin(&pb.Begin{MinVersion: MaxVersion + 1, MaxVersion: MaxVersion + 3})
	if err != nil {
		t.Fatal(err)
	}
	if n := h.begun.Note; !strings.Contains(n, "no memory limit can be read; the two programs have no protocol version in common") {
		t.Errorf("note %q", n)
	}
}

// rollback is one way in which a restart whose child lives is taken back.
type rollback struct {
	name   string
	phase  pb.Phase_Name // up to which the restart came
	do     func(*hookEnd, *generation)
	reason string
}

var rollbacks = []rollback{
	{"the hook ends", pb.Phase_PROBATION, func(h *hookEnd, _ *generation) { h.conn.Close() }, "the hook of the reload has ended"},
	{"the hook gives up", pb.Phase_PROVEN, func(h *hookEnd, _ *generation) {
		_ = h.conn.Notify(&pb.Message{Body: &pb.Message_Phase{Phase: &pb.Phase{Name: pb.Phase_FAILED, Reason: "stopped"}}})
	}, "stopped"},
	{"the probe fails", pb.Phase_PROBATION, func(_ *hookEnd, c *generation) { c.from.Probed(errors.New("web: nobody answers")) }, "probe: web: nobody answers"},
	{"the child says that it fails", pb.Phase_PROBATION, func(_ *hookEnd, c *generation) { c.from.Fail(errors.New("told to stop")) }, "told to stop"},
	{"the parent is told to stop", pb.Phase_PROVEN, func(h *hookEnd, _ *generation) { h.to.Cancel("the process stops") }, "the process stops"},
	{"the service manager keeps the old one", pb.Phase_PROVEN, func(h *hookEnd, _ *generation) {
		if err := h.call(handOver()); err != nil {
			h.t.Error(err)
		}
		wantRefused(h.t, h.to.release(os.Getpid()), pb.Error_REFUSED, "is NotifyAccess=exec in the unit?")
	}, "the service manager still takes process"},
	{"line 2 never came, and the next reload is asked of the old one", pb.Phase_PROVEN, func(h *hookEnd, _ *generation) {
		if err := h.call(handOver()); err != nil {
			h.t.Error(err)
		}
		h.conn.Close()
		_, err := h.to.tryBegin(&pb.Begin{MinVersion: 1, MaxVersion: 1, MainPid: int64(os.Getpid())})
		wantRefused(h.t, err, pb.Error_REFUSED, "NOTIFY_SOCKET") // settled before it is judged
	}, "the service manager kept the old process"},
}

// However a restart is taken back whose child lives: the parent accepts again
// before the child stops, looks at what was queued meanwhile, and has the counts
// of the child exactly, those before and those after.
func TestRollback(t *testing.T) {
	for _, tt := range rollbacks {
		t.Run(tt.name, func(t *testing.T) {
			a := cold(t, nil)
			a.add(100)
			h := a.beginAs(managed())
			c := h.commit("B")
			c.add(7)
			c.reported(t)
			c.add(20)
			if tt.phase == pb.Phase_PROVEN {
				c.from.Probed(nil)
				h.waitPhase(pb.Phase_PROVEN)
			}
			tt.do(h, c)
			a.wantLast("rolled back", tt.reason)
			a.wantBook(fmt.Sprintf("A Pause %v", []eventloop.Address{a.groups[0].Address}), "A Resume", "B StepBack", "A Renew")
			if s := c.Status(); s.Last.Result != "rolled back" || !strings.Contains(s.Last.Reason, tt.reason) {
				t.Errorf("what the child knows: %+v", s.Last)
			}
			c.add(3)
			c.exit()
			eventually(t, "the child to be forgotten", func() bool { return slices.Contains(a.book.all(), "A Forget 2") })
			if n := a.sum(); n != 130 {
				t.Errorf("the parent has %d counts, want 130", n)
			}
			if n := a.Counts(); n != (Counts{RolledBack: 1}) {
				t.Errorf("counts: %+v", n)
			}
			nextRestart(t, a)
		})
	}
}

// nextRestart works, unless the process was told to stop.
func nextRestart(t *testing.T, a *generation) {
	t.Helper()
	if strings.Contains(a.Status().Last.Reason, "the process stops") {
		_, err := a.tryBegin(ourVersions())
		wantRefused(t, err, pb.Error_STOPPING, "was told to stop")
		return
	}
	a.restart("C")
	if n := a.Counts(); n.Done != 1 || n.Failed+n.RolledBack != 1 {
		t.Errorf("counts: %+v", n)
	}
}

// Until it has committed a child can be lost at no cost: the parent changes
// nothing.
func TestFailureBeforeCommit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(*hookEnd, *generation)
		reason string
	}{
		{"the child says why", func(_ *hookEnd, c *generation) { c.from.Fail(errors.New("no such file")) }, "no such file"},
		{"the child is gone", func(_ *hookEnd, c *generation) { c.from.Conn.Close() }, "has died"},
		{"the hook gives up", func(h *hookEnd, _ *generation) {
			_ = h.conn.Notify(&pb.Message{Body: &pb.Message_Phase{Phase: &pb.Phase{Name: pb.Phase_FAILED, Reason: "told to stop"}}})
		}, "told to stop"},
		{"the hook is gone", func(h *hookEnd, _ *generation) { h.conn.Close() }, "the hook of the reload has ended"},
		{"the parent is told to stop", func(h *hookEnd, _ *generation) { h.to.Cancel("the process stops") }, "the process stops"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := cold(t, nil)
			h := a.begin()
			c := h.prepare("B")
			tt.do(h, c)
			a.wantLast("failed", tt.reason)
			a.wantBook()
			if err := c.from.Commit(); err == nil {
				t.Error("the child could commit all the same")
			}
			a.wantBook()
			c.leave()
			nextRestart(t, a)
		})
	}
}

// Only the child that the hook started is taken, and only one.
func TestToken(t *testing.T) {
	a := cold(t, nil)
	if _, err := (&hookEnd{t: t, to: a, begun: &pb.BeginReply{Epoch: 2, Token: "x"}}).connect(); err == nil {
		t.Error("a child without a restart is taken")
	}
	h := a.begin()
	wrong := *h
	wrong.begun = &pb.BeginReply{Epoch: 2, Token: "guessed"}
	_, err := wrong.connect()
	wantRefused(t, err, pb.Error_GONE, "waits for no child, or for another one")
	if reason := <-wrong.words; !strings.Contains(reason, "waits for no child") {
		t.Errorf("the hook heard %q", reason)
	}
	h.prepare("B")
	_, err = call(t, dialTo(t, a), &pb.Message{Body: &pb.Message_Hello{Hello: &pb.Hello{Token: h.begun.Token}}})
	wantRefused(t, err, pb.Error_GONE, "waits for no child, or for another one")
}

// Line 2 that never came: the next reload, asked of the child, makes it main.
func TestLineTwoLost(t *testing.T) {
	a := cold(t, nil)
	h := a.beginAs(managed())
	c := h.prove("B")
	if err := h.call(handOver()); err != nil {
		t.Fatal(err)
	}
	h.conn.Close()
	next, err := c.tryBegin(&pb.Begin{MinVersion: 1, MaxVersion: 1, MainPid: int64(os.Getpid()), Notify: true})
	if err != nil {
		t.Fatalf("the next reload: %v", err)
	}
	if next.begun.Epoch != 3 || !slices.Contains(a.book.all(), "A Drain") || !slices.Contains(a.book.all(), "B Main") {
		t.Errorf("epoch %d, calls %v", next.begun.Epoch, a.book.all())
	}
}

// A hook that waited for the parent in vain may ask the child to take over once
// it has proved itself; nobody else may.
func TestTakeOver(t *testing.T) {
	takeOver := &pb.Message{Body: &pb.Message_TakeOver{TakeOver: &pb.TakeOver{}}}
	a := cold(t, nil)
	_, err := call(t, dialTo(t, a), takeOver)
	wantRefused(t, err, pb.Error_REFUSED, "only the hook")
	h := a.begin()
	c := h.commit("B")
	_, err = call(t, dialTo(t, c), takeOver)
	wantRefused(t, err, pb.Error_REFUSED, "only the hook")
	_, err = call(t, h.child, takeOver)
	wantRefused(t, err, pb.Error_REFUSED, "has not proved itself")
	c.from.Probed(nil)
	if _, err = call(t, h.child, takeOver); err != nil {
		t.Error(err)
	}
}

// A parent that works again after its child took over does not take it back, in
// whatever order the two come to ask each other.
func TestParentWakesAfterTakeOver(t *testing.T) {
	a := cold(t, nil)
	h := a.beginAs(managed())
	c := h.commit("B")
	c.from.Probed(nil)
	h.waitPhase(pb.Phase_PROVEN)
	if _, err := call(t, h.child, &pb.Message{Body: &pb.Message_TakeOver{TakeOver: &pb.TakeOver{}}}); err != nil {
		t.Fatal(err)
	}
	h.conn.Close() // this the parent takes for the end of the restart
	eventually(t, "the parent has asked in vain", func() bool { return a.Status().Phase == phaseHanded.String() })
	if err := c.release(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	a.wantLast("ok", "")
	all := c.book.all()
	if slices.Contains(all, "B StepBack") || !slices.Contains(all, "A Drain") || !slices.Contains(all, "B Main") {
		t.Errorf("calls %v", all)
	}
	c.restart("C")
}

// Both ask at once: the child that the parent releases it, the parent that the
// child steps back. Neither waits for the other, and nobody is killed.
func TestReleaseMeetsResume(t *testing.T) {
	a := cold(t, nil)
	h := a.beginAs(managed())
	c := h.prove("B")
	if err := h.call(handOver()); err != nil {
		t.Fatal(err)
	}
	hold, held := make(chan struct{}), make(chan struct{})
	go a.do(func() { close(held); <-hold; a.attempt.back("late", false) })
	<-held
	released := make(chan error, 1)
	go func() { released <- c.release(os.Getpid()) }()
	eventually(t, "the child asks", func() bool { return c.from.fate.Load() == fateMain })
	close(hold)
	if err := <-released; err != nil {
		t.Fatal(err)
	}
	a.wantLast("ok", "")
}

// Line 2 finds a child that is main already: its parent died between the lines.
func TestParentDiesBeforeLineTwo(t *testing.T) {
	a := cold(t, nil)
	h := a.beginAs(managed())
	c := h.prove("B")
	if err := h.call(handOver()); err != nil {
		t.Fatal(err)
	}
	die(a, c)
	if err := c.release(os.Getpid()); err != nil {
		t.Error(err)
	}
	_, err := c.tryBegin(managed())
	if err != nil {
		t.Errorf("the next restart: %v", err)
	}
}

// The hook of a restart without a service manager dies after HandOver: the old
// process serves on, and the next restart works.
func TestHookDiesAfterHandOver(t *testing.T) {
	a := cold(t, nil)
	h := a.begin()
	c := h.prove("B")
	if err := h.call(handOver()); err != nil {
		t.Fatal(err)
	}
	h.conn.Close()
	a.wantLast("rolled back", "the hook of the reload has ended")
	c.exit()
	a.restart("C")
}

// Nobody but a proven child is released to: one that is told to end in probation
// steps back.
func TestReleaseInProbation(t *testing.T) {
	a := cold(t, func(o *Options) { o.Probation = time.Hour })
	c := a.begin().commit("B")
	wantRefused(t, c.release(0), pb.Error_REFUSED, "is in probation")
	if c.TakePlace() {
		t.Error("it is main")
	}
	c.from.Fail(errors.New("told to stop"))
	a.wantLast("rolled back", "told to stop")
}

func dialTo(t *testing.T, g *generation) *Conn {
	t.Helper()
	c, err := Dial(SocketPath(g.o.Directory, g.o.BaseID, g.Epoch()), patience, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// die ends a parent as SIGKILL would, though its process, the test, lives on.
func die(a, child *generation) {
	var conn *Conn
	a.do(func() { conn = a.attempt.child })
	a.seg.EndInit(a.self) // of a dead owner nobody minds it
	a.leave()
	child.do(func() { child.from.id = shm.Identity{PID: 1 << 30} })
	conn.Close()
	eventually(child.t, "the child is main", func() bool { return child.Status().Generations[0].Main })
}

// A parent that dies in probation leaves a child that is main from then on.
func TestParentDies(t *testing.T) {
	a := cold(t, nil)
	c := a.begin().commit("B")
	die(a, c)
	eventually(t, "the child is main", func() bool { return slices.Contains(c.book.all(), "B Main") })
	if s := c.Status(); len(s.Generations) != 1 || !s.Generations[0].Main {
		t.Errorf("status: %+v", s)
	}
	c.restart("C")
}

// A child whose workers do not turn does not pass, whatever its probe says.
func TestPingOfAStuckChild(t *testing.T) {
	a := cold(t, nil)
	c := a.begin().commit("B")
	c.stuck.Store(true)
	_, err := call(t, dialTo(t, c), &pb.Message{Body: &pb.Message_Ping{Ping: &pb.Ping{}}})
	wantRefused(t, err, pb.Error_OTHER, "does not turn")
}
