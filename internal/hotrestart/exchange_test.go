package hotrestart

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "belay/internal/hotrestart/hotrestartpb"
)

// manyFacts are more than one message holds.
func manyFacts(what string) (list []string) {
	for i := range 3*factsAtATime + 1 {
		list = append(list, fmt.Sprint(what, i))
	}
	return list
}

// A child knows all that its parent knows before it accepts.
func TestFetch(t *testing.T) {
	a := cold(t, nil)
	facts := manyFacts("a")
	a.learn(facts...)
	if b := a.begin().prepare("B"); !b.knows(facts...) {
		t.Errorf("B knows %v", b.facts)
	}
}

// What any of the processes learns while several serve, all of them know soon: in
// probation, after the release, and through a chain.
func TestExchange(t *testing.T) {
	a := cold(t, nil)
	h := a.beginAs(managed())
	b := h.commit("B")
	all := []*generation{a, b}
	share := func(when string) {
		t.Helper()
		for _, g := range all {
			g.learn(manyFacts(when + g.name)...)
		}
		for _, g := range all {
			for _, from := range all {
				eventually(t, fmt.Sprintf("%s: %s knows what %s learns", when, g.name, from.name), func() bool { return g.knows(manyFacts(when + from.name)...) })
			}
		}
	}
	share("probation ")
	b.from.Probed(nil)
	h.waitPhase(pb.Phase_PROVEN)
	if err := h.call(handOver()); err != nil {
		t.Fatal(err)
	}
	if err := b.release(0); err != nil {
		t.Fatal(err)
	}
	share("released ")
	c := b.restart("C")
	all = append(all, c)
	share("three ")
	if n := len(c.Status().Generations); n != 3 {
		t.Errorf("%d generations", n)
	}
}

// What a process learns just before it ends, the main one knows when it has ended.
func TestLastFacts(t *testing.T) {
	a := cold(t, nil)
	b := a.restart("B")
	for i := range 5 {
		facts := manyFacts(fmt.Sprint(i, " "))
		a.learn(facts...)
		if i == 4 {
			a.exit()
			if !b.knows(facts...) {
				t.Errorf("B does not know what A learnt last:\n%s", a.log)
			}
		}
	}
	if strings.Contains(a.log.String(), "not acknowledged") || strings.Contains(a.log.String(), "no process took") {
		t.Error(a.log)
	}
	if n := b.sum(); n != 0 {
		t.Errorf("%d counts", n)
	}
}

// A child that steps back tells its parent what it has learnt.
func TestExchangeAfterRollback(t *testing.T) {
	a := cold(t, nil)
	h := a.beginAs(managed())
	b := h.commit("B")
	h.conn.Close()
	a.wantLast("rolled back", "")
	b.learn(manyFacts("b")...)
	b.exit()
	if !a.knows(manyFacts("b")...) {
		t.Error("A does not know what B learnt")
	}
}

// A process that does not know the message is asked once, and everything else goes
// on.
func TestExchangeUnknown(t *testing.T) {
	asked := make(chan string, 100)
	path := filepath.Join(t.TempDir(), "s")
	old, err := Serve(path, func(r *Request) {
		asked <- name(r.Message)
		r.Refuse(pb.Error_UNKNOWN_MESSAGE, "what?")
	}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(old.Close)
	conn, err := Dial(path, patience, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)

	p := &Parent{Conn: conn, Info: &pb.HelloReply{Version: 1}, o: testOptions("")}
	for range 2 {
		if err := p.Fetch((&fake{}).Link()); err != nil {
			t.Error(err)
		}
	}
	if n := len(asked); n != 1 {
		t.Errorf("asked %d times", n)
	}

	conn.exchange = exchange{}
	a := cold(t, nil)
	a.learn(manyFacts("a")...)
	a.do(func() { a.exchange(conn) })
	eventually(t, "the answer", func() (deaf bool) {
		a.do(func() { deaf = conn.exchange.deaf && !conn.exchange.busy })
		return deaf
	})
	a.do(func() {
		a.exchange(conn)
		if conn.exchange.busy || a.Node.rest(conn) != nil {
			t.Error("it is asked again")
		}
	})
	if n := len(asked); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// A parent that dies has told all that it ever will; one that has taken the restart
// back has not died.
func TestFetchFromTheDead(t *testing.T) {
	for _, takenBack := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "s")
		parent, err := Serve(path, func(r *Request) { r.Conn().Close() }, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(parent.Close)
		conn, err := Dial(path, patience, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		p := &Parent{Conn: conn, Info: &pb.HelloReply{Version: 1}, o: testOptions("")}
		p.takenBack.Store(takenBack)
		if err := p.Fetch((&fake{}).Link()); (err != nil) != takenBack {
			t.Errorf("taken back: %v; error %v", takenBack, err)
		}
	}
}

// Only processes of the chain take part.
func TestExchangeWithStrangers(t *testing.T) {
	a := cold(t, nil)
	b := a.restart("B")
	m := &pb.Message{Body: &pb.Message_Exchange{Exchange: &pb.Exchange{Blobs: []*pb.StateReply_Blob{{Owner: "facts", Data: []byte("lie")}}}}}
	for _, g := range []*generation{a, b} {
		_, err := call(t, dialTo(t, g), m)
		wantRefused(t, err, pb.Error_REFUSED, "exchanges nothing")
		if g.knows("lie") {
			t.Errorf("%s believes it", g.name)
		}
	}
}

// A call that fails begins anew: what it was to tell comes again.
func TestExchangeFailed(t *testing.T) {
	a := cold(t, nil)
	b := a.restart("B")
	facts := manyFacts("b")
	b.do(func() {
		for _, e := range b.elders {
			b.learn(facts...)
			b.link(e.conn).Next() // told, as it seems
			e.conn.exchange.failed(fmt.Errorf("no answer"))
		}
	})
	eventually(t, "A knows what B learnt", func() bool { return a.knows(facts...) })
}

// Without another process nothing wakes up.
func TestExchangeAlone(t *testing.T) {
	a := cold(t, nil)
	b := a.restart("B")
	for _, g := range []*generation{a, b} {
		want := g == b
		g.do(func() {
			if g.hasPartners() != want {
				t.Errorf("%s has partners: %v", g.name, !want)
			}
		})
	}
	a.exit()
	eventually(t, "B is alone", func() (alone bool) {
		b.do(func() { alone = !b.hasPartners() })
		return alone
	})
}

// A process that leaves tells what it knows to an end, however much it is told.
func TestLastFactsUnderFire(t *testing.T) {
	a := cold(t, nil)
	b := a.restart("B")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			b.learn(fmt.Sprint("more ", i))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	a.learn(manyFacts("a")...)
	began := time.Now()
	a.exit()
	close(stop)
	<-done
	if took := time.Since(began); took >= a.o.CallTime {
		t.Errorf("it took %v to leave", took)
	}
	if !b.knows(manyFacts("a")...) || strings.Contains(a.log.String(), "no process") {
		t.Error("B does not know it all")
	}
}
