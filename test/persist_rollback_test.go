package test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// A new process that dies while it can still be rolled back leaves what it has
// learned to the old one, which serves again: cookies and entries of a table.
func TestPersistRollback(t *testing.T) {
	t.Parallel()
	s := bothModes(t)
	s.keys = "" // in memory: the keys are those that the processes hand over
	s.more += strings.Replace(calmRestart, `probation = "200ms"`, `probation = "60s"`, 1)
	s.open(harness.Options{Env: []string{"STATE_DIRECTORY="}, Errors: true})
	now := &visitor{addr: s.bind, fresh: true}
	var list []*stay
	begin := func(n int) {
		t.Helper()
		for range n {
			for _, k := range []*stay{cookieSession(), tableSession(int64(len(list)))} {
				if err := now.begin(k); err != nil {
					t.Fatal(err)
				}
				list = append(list, k)
			}
		}
	}
	begin(40)
	ended := make(chan int, 1)
	go func() {
		_, code := s.d.TryHotRestart()
		ended <- code
	}()
	child := 0
	harness.Eventually(t, patience, "the new process to serve", func() bool {
		for _, g := range statusOf(t, s.d).Generations {
			if g.Epoch == 2 && g.State == "probation" {
				child = g.PID
			}
		}
		return child != 0
	})
	begin(40)
	time.Sleep(300 * time.Millisecond) // processes tell each other every 100ms
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code == 0 {
		t.Error("the restart is said to have worked")
	}
	if !harness.ProcessAlive(s.d.PID()) {
		t.Fatal("the old process has ended")
	}
	harness.Eventually(t, patience, "the old process to be alone", func() bool { return statusOf(t, s.d).Phase == "serving" })
	lost := 0
	for _, k := range list {
		if err := now.again(k); err != nil {
			t.Log(err)
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d sessions lost", lost, len(list))
	}
	if st := statusOf(t, s.d); len(st.Generations) != 1 || st.Generations[0].PID != s.d.PID() {
		t.Errorf("generations: %+v", st.Generations)
	}
}
