package eventloop

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// entry is one timer of the model: when it should fire and what it did.
type entry struct {
	t      Timer
	armed  bool
	at     int64
	latest int64 // tick at which it must have fired
	onFire func()
}

// model is a wheel under test beside a plain list of what it should hold.
type model struct {
	testing.TB
	wheel   wheel
	now     int64
	entries []entry
	fired   int
	last    int64 // tick of the last firing
}

func (m *model) HandleTimer(t *Timer) {
	var e *entry
	for i := range m.entries {
		if &m.entries[i].t == t {
			e = &m.entries[i]
		}
	}
	switch {
	case e == nil:
		m.Fatal("a timer nobody has fired")
	case !e.armed:
		m.Fatalf("fired while not armed, set for %d", e.at)
	case t.Armed():
		m.Fatal("still armed while it fires")
	case e.at > m.now:
		m.Fatalf("fired %v early", time.Duration(e.at-m.now))
	case m.wheel.tick < m.last:
		m.Fatal("fired out of order")
	}
	m.last = m.wheel.tick
	m.fired++
	e.armed = false
	if e.onFire != nil {
		e.onFire()
	}
}

func (m *model) set(e *entry, at int64) {
	latest := max(dueTick(at), m.wheel.tick+1)
	if e.armed {
		latest = max(latest, min(e.latest, m.wheel.tick+1))
	}
	e.armed, e.at, e.latest = true, at, latest
	m.wheel.set(&e.t, m, at)
}

func (m *model) stop(e *entry) {
	m.wheel.stop(&e.t)
	e.armed = false
}

// advance moves the time and checks that all that was due has fired, that the
// wheel agrees on who is armed, and that the loop would not have slept past it.
func (m *model) advance(d int64) {
	sleep := m.wheel.timeout(m.now)
	for i := range m.entries {
		e := &m.entries[i]
		if wait := e.latest*tickNS - m.now; e.armed && (sleep < 0 || int64(sleep) > max(0, wait)/1_000_000+1) {
			m.Fatalf("the loop would sleep %d ms, but a timer is due in %v", sleep, time.Duration(wait))
		}
	}
	m.now += d
	m.wheel.advance(m.now)
	if m.wheel.tick != m.now/tickNS {
		m.Fatalf("tick %d at %d ns", m.wheel.tick, m.now)
	}
	for i := range m.entries {
		e := &m.entries[i]
		if e.armed != e.t.Armed() {
			m.Fatalf("timer %d: armed %t, want %t", i, e.t.Armed(), e.armed)
		}
		if e.armed && e.latest <= m.now/tickNS {
			m.Fatalf("timer %d is %v late", i, time.Duration(m.now-e.at))
		}
	}
}

// TestWheelAgainstModel sets, moves and stops timers at random, from outside and
// from handlers, over spans that reach every level.
func TestWheelAgainstModel(t *testing.T) {
	spans := []int64{1, tickNS, 60 * tickNS, 70 * tickNS, 5000 * tickNS, 300_000 * tickNS, 1 << 54, 1 << 60}
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := &model{TB: t, now: rng.Int64N(1 << 50), entries: make([]entry, 200)}
		m.wheel.start(m.now)
		pick := func() *entry { return &m.entries[rng.IntN(len(m.entries))] }
		someTime := func() int64 { return m.now - 2*tickNS + rng.Int64N(spans[rng.IntN(len(spans))]+3*tickNS) }
		for i := range m.entries {
			if i%3 != 0 {
				continue
			}
			m.entries[i].onFire = func() {
				m.set(pick(), someTime())
				m.stop(pick())
			}
		}
		for range 3000 {
			switch rng.IntN(6) {
			case 0, 1, 2:
				m.set(pick(), someTime())
			case 3:
				m.stop(pick())
			default:
				m.advance(rng.Int64N(spans[rng.IntN(6)]))
			}
		}
		for range 30 {
			m.advance(1 << 57)
		}
		if m.fired == 0 {
			t.Fatalf("seed %d: nothing fired", seed)
		}
	}
}

func TestDueTick(t *testing.T) {
	for _, tt := range []struct{ at, want int64 }{
		{0, 0}, {1, 1}, {tickNS - 1, 1}, {tickNS, 1}, {tickNS + 1, 2}, {-1, 0}, {-tickNS, -1}, {math.MaxInt64, math.MaxInt64/tickNS + 1},
	} {
		if got := dueTick(tt.at); got != tt.want {
			t.Errorf("dueTick(%d) = %d, want %d", tt.at, got, tt.want)
		}
	}
}

func TestTimeout(t *testing.T) {
	const now = 1000 * tickNS
	for _, tt := range []struct {
		name string
		at   int64 // 0: no timer
		now  int64
		want int
	}{
		{"no timer sleeps for ever", 0, now, -1},
		{"a tick away", now + tickNS, now, 4},
		{"within the tick", now + 1, now, 4},
		{"rounded up to the ms", now + tickNS, now + 1_500_000, 3},
		{"overdue", now - 1, now + 2*tickNS, 0},
		{"for ever is a time too", math.MaxInt64, now, math.MaxInt32},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w wheel
			w.start(now)
			var timer Timer
			if tt.at != 0 {
				w.set(&timer, nil, tt.at)
			}
			if got := w.timeout(tt.now); got != tt.want {
				t.Errorf("timeout is %d, want %d", got, tt.want)
			}
		})
	}
}

// woken lets the wheel sleep as its timeout says until fired tells to end, and
// counts how often it was up.
func woken(t *testing.T, w *wheel, now int64, fired func() bool) (int, int64) {
	t.Helper()
	for turns := 1; ; turns++ {
		sleep := w.timeout(now)
		if sleep < 0 || turns > 1000 {
			t.Fatalf("turn %d: timeout is %d", turns, sleep)
		}
		now += int64(sleep) * 1_000_000
		w.advance(now)
		if fired() {
			return turns, now
		}
	}
}

// TestNoPeriodicWakeups: what the wheel is up for is bounded by its levels, not
// by the time that passes.
func TestNoPeriodicWakeups(t *testing.T) {
	for _, d := range []time.Duration{time.Millisecond, 5 * time.Millisecond, time.Second, time.Minute, time.Hour, 20 * 24 * time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			start := int64(123456789012345)
			var w wheel
			w.start(start)
			var timer Timer
			at := start + int64(d)
			fired := false
			w.set(&timer, fireFunc(func() { fired = true }), at)
			turns, now := woken(t, &w, start, func() bool { return fired })
			if turns > levels {
				t.Errorf("woken %d times", turns)
			}
			if late := now - at; late < 0 || late > 5_000_000 {
				t.Errorf("fired %v late", time.Duration(late))
			}
		})
	}
}

type fireFunc func()

func (f fireFunc) HandleTimer(*Timer) { f() }

// TestHandlerSetsItself: a timer set anew for the past by its own handler fires
// once per tick, not in a circle.
func TestHandlerSetsItself(t *testing.T) {
	var w wheel
	w.start(0)
	var timer Timer
	n := 0
	var again fireFunc
	again = func() {
		n++
		w.set(&timer, again, 0)
	}
	w.set(&timer, again, 0)
	w.advance(10 * tickNS)
	if n != 10 {
		t.Errorf("fired %d times in 10 ticks", n)
	}
}

func benchmarkTimers(n int) (*wheel, []Timer) {
	w := &wheel{}
	w.start(1 << 50)
	timers := make([]Timer, n)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range timers {
		w.set(&timers[i], fireFunc(func() {}), 1<<50+rng.Int64N(int64(time.Minute)))
	}
	return w, timers
}

const manyTimers = 100_000

// BenchmarkTimerLater is what a busy connection does per request.
func BenchmarkTimerLater(b *testing.B) {
	w, timers := benchmarkTimers(manyTimers)
	nothing := fireFunc(func() {})
	b.ReportAllocs()
	i, at := 0, int64(1<<50)+int64(time.Minute)
	for b.Loop() {
		at++
		w.set(&timers[i], nothing, at)
		if i++; i == len(timers) {
			i = 0
		}
	}
}

// BenchmarkTimerEarlier takes a timer from far in the future to a nearer time
// and back, so that every other call moves it to another slot.
func BenchmarkTimerEarlier(b *testing.B) {
	w, timers := benchmarkTimers(manyTimers)
	nothing := fireFunc(func() {})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.set(&timers[i], nothing, 1<<50+int64(i+1)*tickNS)
		w.set(&timers[i], nothing, 1<<50+int64(time.Hour))
		w.set(&timers[i], nothing, 1<<50+int64(i+1)*tickNS/2)
		if i++; i == len(timers) {
			i = 0
		}
	}
}

func BenchmarkTimerStopAndSet(b *testing.B) {
	w, timers := benchmarkTimers(manyTimers)
	nothing := fireFunc(func() {})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.stop(&timers[i])
		w.set(&timers[i], nothing, 1<<50+int64(i)<<18)
		if i++; i == len(timers) {
			i = 0
		}
	}
}

// BenchmarkTimerFire counts a timer's whole way down the levels and the next
// setting; the minute over which the 100k are spread passes again and again.
func BenchmarkTimerFire(b *testing.B) {
	for _, n := range []int{1000, manyTimers} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := &wheel{}
			now := int64(1 << 50)
			w.start(now)
			timers := make([]Timer, n)
			fired := 0
			h := &refire{w: w, now: &now, fired: &fired}
			for i := range timers {
				w.set(&timers[i], h, now+int64(i)*int64(time.Minute)/int64(n))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for fired < b.N {
				now += 5 * tickNS
				w.advance(now)
			}
		})
	}
}

type refire struct {
	w     *wheel
	now   *int64
	fired *int
}

func (r *refire) HandleTimer(t *Timer) {
	*r.fired++
	r.w.set(t, r, *r.now+int64(time.Minute))
}
