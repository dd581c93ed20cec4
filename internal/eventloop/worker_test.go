package eventloop

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newWorker is a worker whose turns the test takes itself.
func newWorker(t testing.TB) *Worker {
	t.Helper()
	w, err := New(Options{ID: 7})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if w.epfd >= 0 {
			w.end()
		}
	})
	return w
}

// startWorker is a running worker; it is stopped at the end of the test.
func startWorker(t testing.TB) *Worker {
	t.Helper()
	w, err := New(Options{})
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
	return w
}

// step takes one turn without sleeping.
func (w *Worker) step(t testing.TB) {
	t.Helper()
	n, errno := w.poll()
	if errno != 0 {
		t.Fatal(errno)
	}
	w.turn(n)
}

// do has a running worker call f and waits for it.
func do(t testing.TB, w *Worker, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !w.Post(func() { f(); close(done) }) {
		t.Fatal("the worker has ended")
	}
	<-done
}

// asleep waits until the worker has gone, or is just about to go, to sleep.
func asleep(w *Worker) {
	for !w.box.asleep.Load() {
		runtime.Gosched()
	}
}

type taskFunc func()

func (f *taskFunc) RunTask() { (*f)() }

func TestTurnOrder(t *testing.T) {
	w := newWorker(t)
	w.step(t) // what New left
	var got []string
	say := func(s string) func() { return func() { got = append(got, s) } }

	a, b := pair(t)
	task := taskFunc(say("task"))
	deferInTurn := taskFunc(say("task of the turn"))
	w.Add(a, eventFunc(func(Events) { say("event")(); w.Defer(&deferInTurn) }), Edge)
	var timer Timer
	w.SetTimer(&timer, fireFunc(say("timer")), w.Now())
	w.Post(say("posted"))
	w.Defer(&task)
	w.AtTurnEnd(say("end"))
	send(t, b, "x")
	for Monotonic() < w.Now()+2*tickNS {
	}
	w.step(t)
	w.step(t)
	want := []string{"event", "timer", "posted", "task", "end", "task of the turn", "end"}
	if !equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestDeferDoesNotSleep: a task that defers itself goes on turn by turn although
// nothing happens, and not within one turn.
func TestDeferDoesNotSleep(t *testing.T) {
	w := startWorker(t)
	turns := make(chan uint64, 1)
	do(t, w, func() {
		var task taskFunc
		n, from := 0, w.Turns()
		task = func() {
			if n++; n == 100 {
				turns <- w.Turns() - from
				return
			}
			w.Defer(&task)
		}
		w.Defer(&task)
	})
	if n := <-turns; n != 100 {
		t.Errorf("100 runs took %d turns", n)
	}
}

func TestStop(t *testing.T) {
	w, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	w.Post(func() { ran++ })
	w.Stop()
	w.Post(func() { w.Post(func() { ran++ }); ran++ })
	if err := w.Run(); err != nil {
		t.Fatal(err)
	}
	if ran != 3 {
		t.Errorf("%d of 3 posted functions ran", ran)
	}
	if w.Post(func() { t.Error("ran after the end") }) {
		t.Error("Post is accepted after the end")
	}
	w.Stop()
}

// TestTimersFireInRun: real time, real sleeps of epoll.
func TestTimersFireInRun(t *testing.T) {
	w := startWorker(t)
	const n = 50
	late := make(chan int64, n)
	do(t, w, func() {
		for i := range n {
			at := w.Now() + int64(i)*1_700_000
			timer := new(Timer)
			w.SetTimer(timer, fireFunc(func() { late <- w.Now() - at }), at)
		}
	})
	for range n {
		if l := <-late; l < 0 {
			t.Errorf("fired %v early", time.Duration(-l))
		}
	}
}

// TestIdleWorkerSleeps: with nothing due, no turn is taken.
func TestIdleWorkerSleeps(t *testing.T) {
	w := startWorker(t)
	do(t, w, func() {})
	asleep(w)
	before := w.Turns()
	<-time.After(50 * time.Millisecond) // the time is what is tested
	if n := w.Turns() - before; n > 1 {
		t.Errorf("%d turns while idle", n)
	}
}

// TestCollectorRuns: a raw call that slept would have no safe point, and the
// first collection would never end; a worker that never sleeps must stop too.
func TestCollectorRuns(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(map[bool]string{false: "beside an idle worker", true: "beside a busy one"}[busy], func(t *testing.T) {
			w := startWorker(t)
			if busy {
				var again taskFunc
				again = func() { w.Defer(&again) }
				do(t, w, again)
			} else {
				asleep(w)
			}
			done := make(chan struct{})
			go func() {
				for range 20 {
					runtime.GC()
				}
				close(done)
			}()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatal("the collector waits for the worker")
			}
		})
	}
}

// TestSignalsInterruptNothing: EINTR ends neither the loop nor a call.
func TestSignalsInterruptNothing(t *testing.T) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGUSR2)
	defer signal.Stop(signals)
	w := startWorker(t)
	tid := 0
	do(t, w, func() { tid = unix.Gettid() })
	for range 200 {
		asleep(w)
		if err := unix.Tgkill(os.Getpid(), tid, unix.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		<-signals
	}
	do(t, w, func() {})
}

// TestPanicPassesThrough: a handler's panic is the program's, and nothing else
// runs after it.
func TestPanicPassesThrough(t *testing.T) {
	w, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	boom := errors.New("boom")
	got := make(chan any, 1)
	later := false
	w.Post(func() { panic(boom) })
	w.Post(func() { later = true })
	w.AtTurnEnd(func() { later = true })
	go func() {
		defer func() { got <- recover() }()
		w.Run()
	}()
	if v := <-got; v != boom {
		t.Errorf("Run panicked with %v, want %v", v, boom)
	}
	if later {
		t.Error("the loop went on after the panic")
	}
}

// TestPostFromManyGoroutines: every function is run once, those of one goroutine
// in their order, also while the worker sleeps and wakes.
func TestPostFromManyGoroutines(t *testing.T) {
	w := startWorker(t)
	const senders, each = 8, 500
	var last [senders]int
	var wg sync.WaitGroup
	wg.Add(senders * each)
	for s := range senders {
		go func() {
			for i := range each {
				ok := w.Post(func() {
					if last[s] != i {
						t.Errorf("sender %d: %d ran when %d was due", s, i, last[s])
					}
					last[s] = i + 1
					wg.Done()
				})
				if !ok {
					t.Error("refused")
					wg.Done()
				}
				if i%50 == s {
					runtime.Gosched()
				}
			}
		}()
	}
	wg.Wait()
}

// TestPostRacesWithStop: what Post accepted has run when Run returns, and what
// it refused never runs.
func TestPostRacesWithStop(t *testing.T) {
	for range 50 {
		w, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		var accepted, ran atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for w.Post(func() { ran.Add(1) }) {
					accepted.Add(1)
				}
			})
		}
		wg.Go(func() { w.Stop() })
		if err := w.Run(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if ran.Load() != accepted.Load() {
			t.Fatalf("%d accepted, %d ran", accepted.Load(), ran.Load())
		}
	}
}

// TestPostToBusyWorkerWakesNobody: the eventfd is written only for a sleeper.
func TestPostToBusyWorkerWakesNobody(t *testing.T) {
	w := newWorker(t)
	var b [8]byte
	w.Post(func() {})
	if _, err := unix.Read(w.box.wakefd, b[:]); err != unix.EAGAIN {
		t.Fatalf("the eventfd was written: %v", err)
	}
	w.step(t)
	if !w.box.sleep() {
		t.Fatal("something is posted in an empty mailbox")
	}
	w.Post(func() {})
	w.Post(func() {})
	if _, err := unix.Read(w.box.wakefd, b[:]); err != nil || b[0] != 1 {
		t.Errorf("two posts to a sleeper wrote %d, %v, want 1", b[0], err)
	}
	if w.box.sleep() {
		t.Error("the worker would sleep although something is posted")
	}
}

func TestTurnAllocs(t *testing.T) {
	w := newWorker(t)
	a, b := pair(t)
	buf := make([]byte, 100)
	var timer Timer
	nothing := fireFunc(func() {})
	var task taskFunc = func() {}
	w.Add(a, eventFunc(func(Events) {
		Recv(a, buf)
		w.SetTimer(&timer, nothing, w.Now()+int64(time.Second))
		w.Defer(&task)
		p := w.Get(5000)
		w.Put(p)
	}), Edge)
	w.step(t)
	if n := testing.AllocsPerRun(100, func() {
		Sendv(b, buf[:10], buf[10:20])
		w.step(t)
	}); n != 0 {
		t.Errorf("%v allocations per turn", n)
	}
}

func TestMonotonicIsTheKernelsClock(t *testing.T) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	if d := Monotonic() - ts.Nano(); d < -int64(time.Millisecond) || d > int64(time.Second) {
		t.Errorf("off by %v", time.Duration(d))
	}
}

func BenchmarkTurnIdle(b *testing.B) {
	w := newWorker(b)
	b.ReportAllocs()
	for b.Loop() {
		w.step(b)
	}
}

// BenchmarkTurnEvent is a turn with one event, a recv and a send: what half a
// proxied request costs in the loop.
func BenchmarkTurnEvent(b *testing.B) {
	w := newWorker(b)
	x, y := pair(b)
	buf := make([]byte, 4096)
	w.Add(x, eventFunc(func(Events) { Recv(x, buf) }), Edge)
	msg := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		Send(y, msg)
		w.step(b)
	}
}

func BenchmarkPostBusy(b *testing.B) {
	w := newWorker(b)
	f := func() {}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		w.Post(f)
		if n++; n%64 == 0 {
			w.box.run()
		}
	}
}

// BenchmarkPostAsleep is a round trip to a worker that sleeps.
func BenchmarkPostAsleep(b *testing.B) {
	w := startWorker(b)
	done := make(chan struct{}, 1)
	f := func() { done <- struct{}{} }
	b.ReportAllocs()
	for b.Loop() {
		w.Post(f)
		<-done
	}
}

func BenchmarkMonotonic(b *testing.B) {
	for b.Loop() {
		Monotonic()
	}
}
