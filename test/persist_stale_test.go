package test

import (
	"testing"

	"belay/test/harness"
)

// A server that dies while it has a request on a connection that was kept refuses the
// next one: the session is moved, as from any server that cannot be reached.
func TestPersistRedispatchAfterStaleConnection(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2).open()
	b := s.pinned("e1")
	s.stays(b, "e1") // over a connection that is kept
	path := newPath()
	got := make(chan *harness.Answer, 1)
	go func() {
		a, err := b.Get(path, "Answer-Hold: 1")
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	holding := func(id string) {
		harness.Eventually(t, patience, "a request on "+id, func() bool { return s.apps[id].Holding() == 1 })
	}
	holding("e1")
	go s.apps["e1"].Close()
	harness.Eventually(t, patience, "a request on e0 or a reply", func() bool { return s.apps["e0"].Holding() == 1 || len(got) > 0 })
	s.apps["e0"].Release()
	a := <-got
	wantStatus(t, a.Reply, 200)
	one(t, a, "SRV")
	s.says(path, "down", "moved")
	s.stays(b, "e0")
}
