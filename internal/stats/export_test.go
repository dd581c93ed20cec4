package stats

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// text is deltas, one a line, with all that is in them but the help.
func text(list []Delta) (lines []string) {
	for _, d := range list {
		line := fmt.Sprintf("%s%v %v", d.Family, d.Labels, d.Kind)
		switch d.Kind {
		case KindCounter:
			line += fmt.Sprint(" ", d.Count)
		case KindGauge:
			line += fmt.Sprint(" ", d.Value)
		case KindHistogram:
			n := uint64(0)
			for _, c := range d.Counts {
				n += c
			}
			line += fmt.Sprintf(" %d, %d µs", n, d.Sum)
		}
		if d.Retired {
			line += " retired"
		}
		if len(d.Writers) > 0 {
			line += fmt.Sprint(" of ", d.Writers)
		}
		lines = append(lines, line)
	}
	return lines
}

func wantDeltas(t *testing.T, what string, got []Delta, want ...string) {
	t.Helper()
	if lines := text(got); !slices.Equal(lines, want) {
		t.Errorf("%s:\n%q\nwant\n%q", what, lines, want)
	}
}

// every is a registry with a series of each sort, which has counted a little.
func every() (*Registry, *Shard) {
	r := NewRegistry()
	l := Label{"x", "a"}
	c, g, h := r.Counter("belay_a_total", "A.", l), r.Gauge("belay_b", "B.", l), r.Histogram("belay_c_seconds", "C.", l)
	r.Func(KindGauge, "belay_d", "D.", func() float64 { return 7 })
	r.FuncSum("belay_e", "E.", func() float64 { return 1.5 })
	r.Func(KindCounter, "belay_f_total", "F.", func() float64 { return 2.5 })
	r.Atomic("belay_g_total", "G.").Add(3)
	r.Counter("belay_zero_total", "Zero.")
	r.Gauge("belay_zero", "Zero.")
	r.FuncSum("belay_zero_too", "Zero.", func() float64 { return 0 })
	s := r.NewShard()
	s.Inc(c)
	s.GaugeAdd(g, -2)
	s.Observe(h, 2e6)
	return r, s
}

var everyDeltas = []string{
	"belay_a_total[x=\"a\"] counter 1", "belay_b[x=\"a\"] gauge -2", "belay_c_seconds[x=\"a\"] histogram 1, 2000 µs",
	"belay_e[] gauge 1.5", "belay_f_total[] counter 2", "belay_g_total[] counter 3",
}

func TestNext(t *testing.T) {
	r, s := every()
	e := NewExporter(r)
	next := func() []Delta { return e.Next([][]uint64{s.CopyTo(nil)}) }
	gauges := []string{everyDeltas[1], everyDeltas[3]}
	wantDeltas(t, "first", next(), everyDeltas...)
	wantDeltas(t, "not acknowledged", next(), everyDeltas...)
	e.Ack()
	wantDeltas(t, "acknowledged", next(), gauges...)
	s.Inc(r.Counter("belay_a_total", "A.", Label{"x", "a"}))
	wantDeltas(t, "grown", next(), "belay_a_total[x=\"a\"] counter 1", gauges[0], gauges[1])
	wantDeltas(t, "a copy is missing", e.Next(nil), "belay_e[] gauge 1.5")
	e.Ack()
	wantDeltas(t, "the copy is there again", next(), "belay_a_total[x=\"a\"] counter 1", gauges[0], gauges[1])
	e.Ack()
	e.Ack()
	wantDeltas(t, "acknowledged twice", next(), gauges...)
	e.Reset()
	e.Ack() // of what was asked before
	everyDeltas := slices.Clone(everyDeltas)
	everyDeltas[0] = "belay_a_total[x=\"a\"] counter 2"
	wantDeltas(t, "reset", next(), everyDeltas...)
	if d := next(); d[0].Help != "A." || d[0].Bounds != nil {
		t.Errorf("%+v", d[0])
	}
	wantDeltas(t, "another receiver", NewExporter(r).Next([][]uint64{s.CopyTo(nil)}), everyDeltas...)
}

// A family's help is told once.
func TestNextHelp(t *testing.T) {
	r := NewRegistry()
	for _, name := range []string{"belay_a_total", "belay_b_total"} {
		for _, v := range modelLabels {
			r.Atomic(name, "Help of "+name, Label{"x", v}).Add(1)
		}
	}
	to := NewRegistry()
	d := NewExporter(r).Next(nil)
	to.Apply(1, d)
	for i, x := range d {
		if (x.Help != "") != (i%3 == 0) {
			t.Errorf("%s%v: help %q", x.Family, x.Labels, x.Help)
		}
	}
	if f := to.Merge(nil).Family("belay_b_total"); f.Help != "Help of belay_b_total" {
		t.Error(f.Help)
	}
}

// What another generation told is in the snapshot, and goes on to the next, but
// not out of an exporter of the own counts. Gauges do not go on: each generation
// tells its own.
func TestApplyEverySort(t *testing.T) {
	for _, tt := range []struct {
		name    string
		build   func() (*Registry, *Shard)
		own     float64 // times that the receiver itself counted
		retired bool
	}{
		{"known", every, 1, false},
		{"unknown", func() (*Registry, *Shard) { r := NewRegistry(); return r, r.NewShard() }, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, s := every()
			d := NewExporter(from).Next([][]uint64{s.CopyTo(nil)})
			r, own := tt.build()
			copies := [][]uint64{own.CopyTo(nil)}
			r.Apply(7, d)
			r.Apply(7, d) // twice: counts twice, but not gauges
			snap := r.Merge(copies)
			checkText(t, snap)
			l := Label{"x", "a"}
			for _, w := range []struct {
				family string
				labels []Label
				value  float64
			}{
				{"belay_a_total", []Label{l}, 2 + tt.own}, {"belay_b", []Label{l}, -2 - 2*tt.own}, {"belay_c_seconds", []Label{l}, 2 + tt.own},
				{"belay_e", nil, 1.5 + 1.5*tt.own}, {"belay_f_total", nil, 4 + 2*tt.own}, {"belay_g_total", nil, 6 + 3*tt.own},
				{"belay_stats_incompatible_total", nil, 0},
			} {
				x := snap.Find(w.family, w.labels...)
				if x == nil || x.Value != w.value || x.Retired != (tt.retired && w.value != 0) {
					t.Errorf("%s: %+v, want %v", w.family, x, w.value)
				}
			}
			r.Apply(8, d)
			if x := snap.Find("belay_c_seconds", l); math.Abs(x.Dist.Sum-0.002*(2+tt.own)) > 1e-9 || x.Dist.Counts[bucketOf(2e6)] != uint64(2+tt.own) {
				t.Errorf("%+v", x.Dist)
			}
			if x := snap.Find("belay_d"); (x != nil) != (tt.own != 0) || x != nil && x.Value != 7 {
				t.Errorf("belay_d: %+v", x)
			}
			e := NewExporter(r)
			e.Own = true
			wantDeltas(t, "own", e.Next(copies), everyDeltas[:6*int(tt.own)]...)
			if tt.retired {
				wantDeltas(t, "all", NewExporter(r).Next(copies), "belay_a_total[x=\"a\"] counter 3 retired of [7 8]",
					"belay_c_seconds[x=\"a\"] histogram 3, 6000 µs retired of [7 8]", "belay_f_total[] counter 6 retired of [7 8]",
					"belay_g_total[] counter 9 retired of [7 8]")
			} else {
				wantDeltas(t, "all", NewExporter(r).Next(copies), "belay_a_total[x=\"a\"] counter 4 of [7 8]", everyDeltas[1],
					"belay_c_seconds[x=\"a\"] histogram 4, 8000 µs of [7 8]", everyDeltas[3], "belay_f_total[] counter 8 of [7 8]",
					"belay_g_total[] counter 12 of [7 8]")
			}
			r.Apply(7, nil)
			r.Apply(8, nil)
			if v := r.Merge(copies).Sum("belay_b"); v != -2*tt.own {
				t.Errorf("after a list without gauges belay_b is %v", v)
			}
		})
	}
}

// Nothing that was handed in or out changes later, and all may happen at once.
func TestExportWhileAllElseGoesOn(t *testing.T) {
	l := Label{"x", "a"}
	r := NewRegistry()
	r.Func(KindCounter, "belay_slow_total", "Slow.", func() float64 { r.Generations(); return 1 })
	c := r.Atomic("belay_c_total", "C.", l)
	e := NewExporter(r)
	to := NewRegistry()
	to.Atomic("belay_c_total", "C.", l)
	var wg sync.WaitGroup
	var sent atomic.Uint64
	const rounds = 200
	for g := range uint64(3) {
		wg.Add(2)
		go func() {
			defer wg.Done()
			for range rounds {
				c.Add(1)
				r.Apply(g+1, []Delta{{Family: "belay_old_total", Labels: []Label{l}, Count: 1}, {Family: "belay_open", Kind: KindGauge, Value: 1}})
				r.Merge(nil)
				r.Forget(g + 1)
				sent.Add(1)
			}
		}()
		go func() {
			defer wg.Done()
			for range rounds {
				NewExporter(r).Next(nil)
				e.Reset()
				e.Ack()
			}
		}()
	}
	wg.Wait()
	old := []Delta{{Family: "belay_old_total", Labels: []Label{l}, Count: 1}}
	for _, g := range []uint64{4, 5, 6} {
		r.Apply(g, old)
	}
	d := e.Next(nil)
	before := text(d)
	r.Apply(1, old)
	r.Forget(5)
	to.Apply(1, d)
	to.Forget(1)
	if !reflect.DeepEqual(text(d), before) {
		t.Errorf("%q changed to %q", before, text(d))
	}
	wantDeltas(t, "at the end", e.Next(nil), fmt.Sprintf("belay_c_total[x=\"a\"] counter %d", sent.Load()),
		"belay_slow_total[] counter 1", fmt.Sprintf("belay_old_total[x=\"a\"] counter %d retired of [1 4 6]", sent.Load()+4))
}

func TestApplyEndsRegistration(t *testing.T) {
	r := NewRegistry()
	r.Apply(1, nil)
	if panics(func() { r.Atomic("belay_late_total", "Late.") }) == "" {
		t.Error("registered after Apply")
	}
}

// busyEndpoints is manyEndpoints with a count in each series.
func busyEndpoints() (*Registry, [][]uint64) {
	r := manyEndpoints()
	c := r.NewShard().CopyTo(nil)
	for i := range c {
		c[i] = 1
	}
	return r, [][]uint64{c, c}
}

// BenchmarkExport120k exports and applies 120 000 series.
func BenchmarkExport120k(b *testing.B) {
	r, copies := busyEndpoints()
	e := NewExporter(r)
	all := e.Next(copies)
	b.Run("everything", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.Next(copies)
		}
	})
	e.Ack()
	b.Run("nothing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.Next(copies)
			e.Ack()
		}
	})
	b.Run("apply", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Apply(1, all)
		}
	})
	b.Run("with writers", func(b *testing.B) {
		b.ReportAllocs()
		e := NewExporter(r)
		for b.Loop() {
			e.Next(copies)
		}
	})
	b.Run("retire", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			NewRegistry().Apply(1, all)
		}
	})
}
