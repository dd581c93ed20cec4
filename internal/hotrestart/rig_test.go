package hotrestart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"belay/internal/eventloop"
	pb "belay/internal/hotrestart/hotrestartpb"

	"golang.org/x/sys/unix"
)

// testOptions are short where a test waits and long where a busy machine does.
func testOptions(dir string) Options {
	return Options{
		Directory: dir, Program: "test", Workers: 2, Started: time.Unix(1000, 0), Log: slog.New(slog.DiscardHandler),
		Probation: 20 * time.Millisecond, Heartbeat: 500 * time.Millisecond, PrepareTime: patience, CallTime: 2 * time.Second,
		ShutdownTime: time.Hour, MaxGenerations: 8,
	}
}

// p0addresses is where the first process of a test listens: a name, so that a
// child in another process knows it.
var p0addresses = []eventloop.Address{{Unix: "@belay-hotrestart-test"}}

// beat has a node's heart beat until the returned function is called.
func beat(n *Node) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(50 * time.Millisecond)
		defer t.Stop()
		for {
			n.Beat()
			select {
			case <-t.C:
			case <-end:
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); <-done })
}

// generation is one process of a chain; all are in this process.
type generation struct {
	*Node
	*fake
	t    *testing.T
	o    Options
	from *Parent
	log  *logBuffer
	rest func() // stop beating
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newGeneration(t *testing.T, name string, b *book, o Options) *generation {
	g := &generation{t: t, o: o, log: &logBuffer{}, fake: &fake{name: name, book: b, gone: make(chan struct{}), open: 1}}
	g.o.Log = slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return g
}

// cold starts the first process of a chain; it listens on one TCP address with
// two sockets and on one that children do not ask for.
func cold(t *testing.T, change func(*Options), before ...func(*generation)) *generation {
	t.Helper()
	o := testOptions(t.TempDir())
	if change != nil {
		change(&o)
	}
	a := newGeneration(t, "A", &book{}, o)
	one, two, other := listen(t), 0, listen(t)
	var err error
	if two, err = unix.Dup(one.FDs[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(two) })
	one.Name, one.FDs, other.Name = "web", append(one.FDs, two), "old"
	a.groups = []Group{one, other}
	a.state = []Blob{{Owner: "dns", Version: 3, Data: []byte("answers")}}
	for _, f := range before {
		f(a)
	}
	if a.Node, err = Cold(a.o); err != nil {
		t.Fatal(err)
	}
	a.run()
	return a
}

func (g *generation) run() {
	g.t.Helper()
	if err := g.Run(g.fake); err != nil {
		g.t.Fatal(err)
	}
	g.rest = beat(g.Node)
	g.t.Cleanup(g.leave)
}

// leave ends the process without a word.
func (g *generation) leave() {
	g.rest()
	g.Close()
}

func listen(t *testing.T) Group {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return Group{Address: eventloop.Address{AP: netip.MustParseAddrPort(ln.Addr().String())}, FDs: []int{int(f.Fd())}}
}

// hookEnd is what a hook has in its hands.
type hookEnd struct {
	t      *testing.T
	conn   *Conn
	to     *generation
	begun  *pb.BeginReply
	phases chan *pb.Phase
	child  *Conn // to the child
	words  chan string
}

// tryBegin asks for a restart.
func (g *generation) tryBegin(b *pb.Begin) (*hookEnd, error) {
	h := &hookEnd{t: g.t, to: g, phases: make(chan *pb.Phase, 1000), words: make(chan string, 10)}
	var err error
	h.conn, err = Dial(SocketPath(g.o.Directory, g.o.BaseID, g.Epoch()), patience, func(r *Request) { h.phases <- r.GetPhase() })
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(h.conn.Close)
	m, _, err := h.conn.Call(testContext(g.t), &pb.Message{Body: &pb.Message_Begin{Begin: b}})
	h.begun = m.GetBeginReply()
	return h, err
}

func ourVersions() *pb.Begin { return &pb.Begin{MinVersion: MinVersion, MaxVersion: MaxVersion} }

// managed is what the hook of a service manager says.
func managed() *pb.Begin {
	b := ourVersions()
	b.MainPid, b.Notify = int64(os.Getpid()), true
	return b
}

func (g *generation) begin() *hookEnd {
	g.t.Helper()
	return g.beginAs(ourVersions())
}

func (g *generation) beginAs(b *pb.Begin) *hookEnd {
	g.t.Helper()
	h, err := g.tryBegin(b)
	if err != nil {
		g.t.Fatal(err)
	}
	return h
}

// waitPhase waits for a phase.
func (h *hookEnd) waitPhase(name pb.Phase_Name) *pb.Phase {
	h.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case p := <-h.phases:
			if p.Name == name {
				return p
			}
			if p.Name == pb.Phase_FAILED {
				h.t.Fatalf("waiting for %v: failed: %s", name, p.Reason)
			}
		case <-limit:
			h.t.Fatalf("no %v", name)
		}
	}
}

func (h *hookEnd) call(m *pb.Message) error {
	_, _, err := h.conn.Call(testContext(h.t), m)
	return err
}

// childEnvironment guards the variable from which a child learns what it is.
var childEnvironment sync.Mutex

// connect is Child of the process that the hook starts.
func (h *hookEnd) connect() (*Parent, error) {
	h.t.Helper()
	conn, end, err := pair(func(r *Request) {
		if p := r.GetPhase(); p != nil {
			h.words <- p.Reason
		}
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.child = conn
	fd, err := unix.Dup(int(end.Fd()))
	_ = end.Close()
	if err != nil {
		h.t.Fatal(err)
	}
	childEnvironment.Lock()
	defer childEnvironment.Unlock()
	h.t.Setenv(childEnv, fmt.Sprintf("%d %d %d %s %d %s", h.begun.Epoch, h.to.o.BaseID, fd, h.begun.Token, os.Getpid(), h.to.o.Directory))
	return Child("test")
}

// prepare starts a child, which takes the first address, and stops before it
// commits.
func (h *hookEnd) prepare(name string) *generation {
	h.t.Helper()
	p, err := h.connect()
	if err != nil {
		h.t.Fatal(err)
	}
	g := newGeneration(h.t, name, h.to.book, h.to.o)
	g.from = p
	if g.groups, err = p.Sockets([]eventloop.Address{h.to.groups[0].Address}, nil); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		for _, x := range g.groups {
			closeAll(x.FDs)
		}
	})
	var dir int
	if g.state, dir, err = p.State(); err != nil {
		h.t.Fatal(err)
	}
	if dir >= 0 {
		g.dir = os.NewFile(uintptr(dir), "credentials")
		h.t.Cleanup(func() { _ = g.dir.Close() })
	}
	if err := p.Fetch(g.fake.Link()); err != nil {
		h.t.Fatal(err)
	}
	if g.Node, err = p.Join(g.o); err != nil {
		h.t.Fatal(err)
	}
	g.run()
	// The end of the test is no failure of the child: that would kill its process,
	// which is this one.
	h.t.Cleanup(func() { h.to.do(func() { h.to.attempt = nil }) })
	return g
}

// commit is a child that has committed.
func (h *hookEnd) commit(name string) *generation {
	h.t.Helper()
	g := h.prepare(name)
	if err := g.from.Commit(); err != nil {
		h.t.Fatal(err)
	}
	h.waitPhase(pb.Phase_PROBATION)
	return g
}

// prove is a child that has passed probation.
func (h *hookEnd) prove(name string) *generation {
	h.t.Helper()
	g := h.commit(name)
	g.from.Probed(nil)
	h.waitPhase(pb.Phase_PROVEN)
	return g
}

func handOver() *pb.Message { return &pb.Message{Body: &pb.Message_HandOver{HandOver: &pb.HandOver{}}} }

// restart makes the next generation main.
func (g *generation) restart(name string) *generation {
	g.t.Helper()
	h := g.beginAs(managed())
	c := h.prove(name)
	if err := h.call(handOver()); err != nil {
		g.t.Fatal(err)
	}
	h.conn.Close()
	if err := c.release(0); err != nil {
		g.t.Fatal(err)
	}
	return c
}

// reported waits until the parent has what the child counted.
func (n *Node) reported(t *testing.T) {
	t.Helper()
	n.Report()
	eventually(t, "the parent has the report", func() (done bool) {
		n.do(func() { done = n.up == nil || !n.up.reporting })
		return done
	})
}

// release is line 2 of the reload, sent to this process.
func (g *generation) release(pid int) error {
	_, err := call(g.t, dialTo(g.t, g), &pb.Message{Body: &pb.Message_Release{Release: &pb.Release{MainPid: int64(pid)}}})
	return err
}

// exit is the end of a process that drains: its last counts, and then the end.
func (g *generation) exit() {
	g.Empty()
	g.leave()
}

func (g *generation) wantBook(want ...string) {
	g.t.Helper()
	if got := g.book.all(); !slices.Equal(got, want) {
		g.t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (g *generation) wantLast(result, reason string) {
	g.t.Helper()
	eventually(g.t, "the restart to end", func() bool { return g.Status().Phase == "" && g.Status().Last.Result != "" })
	if l := g.Status().Last; l.Result != result || !strings.Contains(l.Reason, reason) {
		g.t.Errorf("the restart ended as %q: %q; want %q: %q", l.Result, l.Reason, result, reason)
	}
}

func wantRefused(t *testing.T, err error, code pb.Error_Code, text string) {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) || r.Code != code || !strings.Contains(r.Text, text) {
		t.Errorf("error %v, want %v: %q", err, code, text)
	}
}

func call(t *testing.T, c *Conn, m *pb.Message) (*pb.Message, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, fds, err := c.Call(ctx, m)
	closeAll(fds)
	return r, err
}
