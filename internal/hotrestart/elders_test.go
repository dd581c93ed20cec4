package hotrestart

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"belay/internal/eventloop"
	pb "belay/internal/hotrestart/hotrestartpb"
)

// Several generations drain at once and end in any order; whatever each of them
// counts, before and after every change of who is main, the last one has all of
// it and nothing twice.
func TestCountsThroughAChain(t *testing.T) {
	chain := []*generation{cold(t, nil)}
	want := uint64(0)
	add := func() {
		for i, g := range chain {
			n := uint64(i + 1)
			if g != nil {
				g.add(n)
				want += n
			}
		}
	}
	add()
	for i := range 4 {
		add()
		chain = append(chain, chain[len(chain)-1].restart(string(rune('B'+i))))
		add()
		if i == 2 { // one in the middle ends
			chain[1].exit()
			chain[1] = nil
		}
	}
	last := chain[len(chain)-1]
	if n := len(last.Status().Generations); n != 4 {
		t.Errorf("%d generations", n)
	}
	add()
	for _, i := range []int{3, 0, 2} {
		chain[i].exit()
		chain[i] = nil
		add()
	}
	eventually(t, "the last one is alone", func() bool { return len(last.Status().Generations) == 1 })
	if n := last.sum(); n != want {
		t.Errorf("%d counts, want %d", n, want)
	}
}

// A generation that ends while the next restart is in probation hands its counts
// to whoever is main in the end.
func TestElderEndsDuringRestart(t *testing.T) {
	for _, taken := range []bool{true, false} {
		t.Run(fmt.Sprintf("taken=%v", taken), func(t *testing.T) {
			a := cold(t, nil)
			b := a.restart("B")
			a.add(1)
			b.add(10)
			h := b.beginAs(managed())
			c := h.commit("C")
			c.add(100)
			a.add(1000)
			a.exit()
			if !taken {
				h.conn.Close()
				b.wantLast("rolled back", "")
				c.exit()
				eventually(t, "C is forgotten", func() bool { return slices.Contains(a.book.all(), "B Forget 3") })
				if n := b.sum(); n != 1111 {
					t.Errorf("%d counts, want 1111", n)
				}
				return
			}
			c.from.Probed(nil)
			h.waitPhase(pb.Phase_PROVEN)
			if err := h.call(handOver()); err != nil {
				t.Fatal(err)
			}
			if err := c.release(0); err != nil {
				t.Fatal(err)
			}
			b.exit()
			eventually(t, "C is alone", func() bool { return len(c.Status().Generations) == 1 })
			if n := c.sum(); n != 1111 {
				t.Errorf("%d counts, want 1111", n)
			}
		})
	}
}

// max_generations ends the oldest first, which gives its last counts and is not
// killed, and the hook is told how many connections that cut.
func TestMaxGenerations(t *testing.T) {
	a := cold(t, func(o *Options) { o.MaxGenerations = 2 })
	a.fake.mu.Lock()
	a.open = 3
	a.fake.mu.Unlock()
	a.add(5)
	b := a.restart("B")
	a.add(6)
	ended := make(chan struct{})
	go func() { // what the server does when it is told to end
		defer close(ended)
		<-a.gone
		a.exit()
	}()
	h := b.begin()
	<-ended // by itself: who waits for it in vain kills it, which is this process
	want := fmt.Sprintf("epoch 1 (process %d) ended early, 3 connections cut: max_generations is 2", a.self.PID)
	if h.begun.Note != want {
		t.Errorf("note %q, want %q", h.begun.Note, want)
	}
	if !slices.Contains(a.book.all(), "A Terminate 0s") || !slices.Contains(a.book.all(), "B Forget 1") {
		t.Errorf("calls %v", a.book.all())
	}
	if n := b.sum(); n != 11 {
		t.Errorf("%d counts, want 11", n)
	}
	if c := h.prepare("C"); c.from.Info.CutConnections != 3 {
		t.Errorf("the child knows of %d", c.from.Info.CutConnections)
	}
	if strings.Contains(a.log.String(), "no process took the last counts") {
		t.Error(a.log)
	}
}

// The end of a service ends what drains, within its time.
func TestEndElders(t *testing.T) {
	a := cold(t, nil)
	b := a.restart("B")
	c := b.restart("C")
	for _, g := range []*generation{a, b} {
		go func() {
			<-g.gone
			g.exit()
		}()
	}
	c.EndElders(patience)
	for _, name := range []string{"A", "B"} {
		if !slices.Contains(c.book.all(), name+" Terminate "+patience.String()) {
			t.Errorf("%s was not told", name)
		}
	}
	eventually(t, "both have left", func() bool { return len(c.Status().Generations) == 1 })
}

// Only one that drains is told to end, and only its main process hears its counts.
func TestStrangersAskInVain(t *testing.T) {
	a := cold(t, nil)
	b := a.restart("B")
	stats := &pb.Message{Body: &pb.Message_Stats{Stats: &pb.Stats{}}}
	terminate := &pb.Message{Body: &pb.Message_Terminate{Terminate: &pb.Terminate{}}}
	c := dialTo(t, b)
	for _, m := range []*pb.Message{stats, terminate, {Body: &pb.Message_Pause{Pause: &pb.Pause{}}}, {Body: &pb.Message_PassSockets{PassSockets: &pb.PassSockets{}}},
		{Body: &pb.Message_Resume{Resume: &pb.Resume{}}}, {Body: &pb.Message_Final{Final: &pb.Final{Stats: &pb.StatsReply{}}}}, {Body: &pb.Message_HandOver{HandOver: &pb.HandOver{}}},
		{Body: &pb.Message_Hello{Hello: &pb.Hello{Role: pb.Hello_SUCCESSOR}}}, {Body: &pb.Message_Hello{Hello: &pb.Hello{}}}} {
		if _, err := call(t, c, m); err == nil {
			t.Errorf("%s is done for a stranger", name(m))
		}
	}
	_, err := call(t, dialTo(t, a), stats)
	wantRefused(t, err, pb.Error_REFUSED, "go to another one")
	b.wantBook(a.book.all()[:4]...)
}

// A parent of another version hands over its sockets and nothing else: no state,
// no counts; and it leaves without anybody who takes them.
func TestFrozenMinimum(t *testing.T) {
	a := cold(t, nil)
	a.add(5)
	h := a.begin()
	conn, err := Dial(SocketPath(a.o.Directory, 0, 1), patience, nil) // a child of the future
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	m, err := call(t, conn, &pb.Message{Body: &pb.Message_Hello{Hello: &pb.Hello{MinVersion: MaxVersion + 1, MaxVersion: MaxVersion + 2, Epoch: 2, Token: h.begun.Token}}})
	if err != nil || m.GetHelloReply().Version != 0 {
		t.Fatalf("hello: %v, %v", m, err)
	}
	web := toAddress(a.groups[0].Address)
	m, fds, err := conn.Call(testContext(t), &pb.Message{Body: &pb.Message_PassSockets{PassSockets: &pb.PassSockets{Wanted: []*pb.Address{web}}}})
	if err != nil || len(fds) != 2 || len(m.GetPassSocketsReply().GetGroups()) != 1 {
		t.Fatalf("sockets: %v, %d descriptors, %v", m, len(fds), err)
	}
	closeAll(fds)
	a.do(func() { a.attempt.childID.PID = 0 }) // it is this process: not to be killed
	n, err := newNode(a.o, 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	defer beat(n)()
	for _, m := range []*pb.Message{{Body: &pb.Message_Pause{Pause: &pb.Pause{Taken: []*pb.Address{web}}}}, {Body: &pb.Message_Release{Release: &pb.Release{TakenOver: true}}}} {
		if _, err := call(t, conn, m); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	a.exit()
	if took := time.Since(began); took >= a.o.CallTime {
		t.Errorf("it waited %v for somebody to take its counts", took)
	}
}

// A child of this version takes the sockets of a parent of another one.
func TestFrozenMinimumOfTheParent(t *testing.T) {
	a := cold(t, nil)
	h := a.begin()
	p, err := h.connect()
	if err != nil {
		t.Fatal(err)
	}
	p.Info.Version = 0 // as such a parent says
	if blobs, fd, err := p.State(); blobs != nil || fd != -1 || err != nil {
		t.Errorf("state: %v, %v", blobs, err)
	}
	if g, err := p.Sockets([]eventloop.Address{a.groups[0].Address}, nil); err != nil || len(g) != 1 {
		t.Errorf("sockets: %v, %v", g, err)
	} else {
		closeAll(g[0].FDs)
	}
}

// Last counts that a main process refuses, since it does not know the generation yet,
// are told again.
func TestLastCountsBeforeTheyAreWanted(t *testing.T) {
	a := cold(t, nil)
	b := a.restart("B")
	a.add(7)
	var e *elder
	b.do(func() {
		e = b.elders[1]
		delete(b.elders, 1)
	})
	left := make(chan struct{})
	go func() {
		defer close(left)
		a.exit()
	}()
	eventually(t, "the last counts were refused", func() (told bool) {
		a.do(func() { told = a.leaving && !a.stats.pending })
		return told
	})
	b.do(func() { b.elders[1] = e })
	<-left
	if n := b.sum(); n != 7 {
		t.Errorf("%d counts, want 7", n)
	}
}
