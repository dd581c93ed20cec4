package transport

import (
	"runtime"
	"testing"
	"time"

	"belay/internal/eventloop"
)

// patience bounds every wait; only a failing test uses it up.
const patience = 10 * time.Second

// loop is a running worker, stopped at the end of the test.
type loop struct{ *eventloop.Worker }

func startLoop(t testing.TB) loop {
	t.Helper()
	w, err := eventloop.New(eventloop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run() }()
	t.Cleanup(func() {
		w.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return loop{w}
}

// do calls f on the worker and waits for it.
func (l loop) do(f func()) {
	done := make(chan struct{})
	l.Post(func() {
		defer close(done)
		f()
	})
	<-done
}

// until asks on the worker, turn by turn, until the answer is yes.
func (l loop) until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end, yes := time.Now().Add(patience), false; ; runtime.Gosched() {
		if l.do(func() { yes = cond() }); yes {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
