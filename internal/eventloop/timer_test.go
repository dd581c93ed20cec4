package eventloop

import (
	"math/rand/v2"
	"testing"
)

// probe notes when its timer fired.
type probe struct {
	t     Timer
	w     *Worker
	fired []int64
}

func (p *probe) HandleTimer(*Timer) { p.fired = append(p.fired, p.w.now) }

// TestWheelAgainstModel moves random timers through random times and compares
// with a plain list: nothing early, nothing later than a tick, nothing lost.
func TestWheelAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := &Worker{now: 1 << 40}
		w.wheel.start(w.now)
		const tick = int64(1) << tickShift
		probes := make([]*probe, 300)
		due := make([]int64, len(probes))
		for i := range probes {
			probes[i] = &probe{w: w}
		}
		spans := []int64{tick, 100 * tick, 300 * tick, 20_000 * tick, 2_000_000 * tick, 90_000_000 * tick}
		for range 4000 {
			i := rng.IntN(len(probes))
			switch rng.IntN(4) {
			case 0, 1:
				due[i] = w.now + rng.Int64N(spans[rng.IntN(len(spans))])
				w.SetTimer(&probes[i].t, probes[i], due[i])
			case 2:
				w.StopTimer(&probes[i].t)
				due[i] = 0
			case 3:
				w.now += rng.Int64N(spans[rng.IntN(4)])
				w.wheel.advance(w.now)
				for k, p := range probes {
					switch {
					case len(p.fired) > 1:
						t.Fatalf("seed %d: timer %d fired %d times", seed, k, len(p.fired))
					case len(p.fired) == 1 && (due[k] == 0 || due[k] > w.now):
						t.Fatalf("seed %d: timer %d fired early", seed, k)
					case len(p.fired) == 0 && due[k] != 0 && due[k]+2*tick <= w.now:
						t.Fatalf("seed %d: timer %d is late by %d ticks", seed, k, (w.now-due[k])/tick)
					}
					if len(p.fired) == 1 {
						p.fired, due[k] = p.fired[:0], 0
					}
				}
			}
		}
	}
}

// TestTimeoutNeverOversleeps: the time epoll may sleep ends at the latest a tick
// after the next timer.
func TestTimeoutNeverOversleeps(t *testing.T) {
	w := &Worker{now: 5 << tickShift}
	w.wheel.start(w.now)
	if got := w.wheel.timeout(w.now); got != -1 {
		t.Fatalf("an empty wheel sleeps %d ms, want for ever", got)
	}
	p := &probe{w: w}
	w.SetTimer(&p.t, p, w.now+3_000_000_000)
	for turns := 0; len(p.fired) == 0; turns++ {
		if turns > 20 {
			t.Fatal("the wheel wakes up too often")
		}
		w.now += int64(w.wheel.timeout(w.now)) * 1_000_000
		w.wheel.advance(w.now)
	}
	if late := p.fired[0] - p.t.at; late < 0 || late > 3<<tickShift {
		t.Fatalf("fired %d ns after its time", late)
	}
}

func BenchmarkTimerLater(b *testing.B) {
	w := &Worker{}
	w.wheel.start(0)
	probes := make([]probe, 100_000)
	for i := range probes {
		w.SetTimer(&probes[i].t, &probes[i], 1<<40)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.SetTimer(&probes[i].t, &probes[i], 1<<40+int64(i))
		if i++; i == len(probes) {
			i = 0
		}
	}
}

func BenchmarkTimerEarlier(b *testing.B) {
	w := &Worker{}
	w.wheel.start(0)
	probes := make([]probe, 100_000)
	b.ReportAllocs()
	i, at := 0, int64(1)<<50
	for b.Loop() {
		at -= 1 << tickShift
		w.SetTimer(&probes[i].t, &probes[i], at)
		if i++; i == len(probes) {
			i = 0
		}
	}
}
