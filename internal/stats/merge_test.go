package stats

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// A retired series lives as long as a generation that can write it.
func TestForget(t *testing.T) {
	l := Label{"x", "a"}
	count := func(n uint64) Delta {
		return Delta{Family: "belay_old_total", Help: "Old.", Labels: []Label{l}, Count: n}
	}
	r := NewRegistry()
	r.Gauge("belay_open", "Open.")
	known := r.Atomic("belay_known_total", "Known.", Label{"x", "b"})
	value := func() string {
		s := r.Merge(nil)
		checkText(t, s)
		out := fmt.Sprint(s.Sum("belay_open"), s.Sum("belay_known_total"))
		if x := s.Find("belay_old_total", l); x != nil {
			out += fmt.Sprint(" old ", x.Value)
		}
		return out
	}
	gauge, early := Delta{Family: "belay_open", Kind: KindGauge, Value: 2}, Delta{Family: "belay_open", Kind: KindGauge, Value: 9}
	known.Add(1)
	for i, step := range []struct {
		do   func()
		want string
	}{
		{func() {
			r.Apply(1, []Delta{early, count(5), gauge, {Family: "belay_known_total", Labels: []Label{{"x", "b"}}, Count: 3}})
		}, "2 4 old 5"},
		{func() { r.Apply(2, []Delta{count(1), gauge}) }, "4 4 old 6"},
		{func() { r.Forget(9) }, "4 4 old 6"},
		{func() { r.Forget(1) }, "2 4 old 6"},
		{func() { r.Forget(2) }, "0 4"},
		{func() { r.Forget(2) }, "0 4"},
		// Nobody writes it, so 3 only passes it on; but there it was known.
		{func() { d := count(1); d.Retired, d.Writers = true, []uint64{1}; r.Apply(3, []Delta{d}) }, "0 4"},
		{func() { r.Forget(3) }, "0 4"},
		{func() { r.Apply(4, []Delta{count(2)}) }, "0 4 old 9"},
		// 5 tells that 6 writes it too.
		{func() { d := count(1); d.Retired, d.Writers = true, []uint64{6}; r.Apply(5, []Delta{d}) }, "0 4 old 10"},
		{func() { r.Forget(4) }, "0 4 old 10"},
		{func() { r.Forget(5) }, "0 4 old 10"},
		{func() { r.Forget(6) }, "0 4"},
		{func() { d := count(1); d.Retired, d.Writers = true, []uint64{6}; r.Apply(7, []Delta{d}) }, "0 4"},
		{func() { r.Apply(6, nil) }, "0 4"}, // not gone after all
		{func() { d := count(1); d.Retired, d.Writers = true, []uint64{6}; r.Apply(7, []Delta{d}) }, "0 4 old 12"},
		{func() { r.Forget(6); r.Forget(7) }, "0 4"},
	} {
		step.do()
		if got := value(); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	if g := r.Generations(); len(g) != 0 {
		t.Errorf("left %v", g)
	}
}

// A retired gauge is there, 0 too, as long as a generation that has it.
func TestForgetGauge(t *testing.T) {
	r := NewRegistry()
	list := []Delta{{Family: "belay_old", Kind: KindGauge, Value: 2}, {Family: "belay_old", Kind: KindGauge, Value: 3}}
	for i, step := range []struct {
		do    func()
		value float64
		found bool
	}{
		{func() { r.Apply(8, list) }, 3, true},
		{func() { r.Apply(9, list) }, 6, true},
		{func() { r.Forget(8) }, 3, true},
		{func() { r.Apply(9, nil) }, 0, true},
		{func() { r.Forget(9) }, 0, false},
	} {
		step.do()
		if v, ok := r.Merge(nil).Value("belay_old"); v != step.value || ok != step.found {
			t.Errorf("step %d: %v, %v", i, v, ok)
		}
	}
	if len(r.others.retired) != 0 {
		t.Error("a gauge that nobody can write is kept")
	}
}

// A retired series goes on once even if nobody can write it any more. The next
// generation takes it up if it knows it or hears of a writer, and else does not
// pass it on.
func TestRetiredGoesOn(t *testing.T) {
	l := Label{"x", "a"}
	old := []Delta{{Family: "belay_old_total", Help: "Old.", Labels: []Label{l}, Count: 5}}
	middle := NewRegistry()
	middle.Apply(1, old)
	middle.Forget(1)
	middle.Apply(3, []Delta{{Family: "belay_old_total", Labels: []Label{l}, Count: 1, Retired: true}})
	e := NewExporter(middle)
	d := e.Next(nil)
	wantDeltas(t, "first", d, "belay_old_total[x=\"a\"] counter 6 retired")
	e.Ack()
	wantDeltas(t, "second", e.Next(nil))
	knows, does := NewRegistry(), NewRegistry()
	knows.Atomic("belay_old_total", "Old.", l).Add(1)
	for _, r := range []*Registry{knows, does} {
		r.Apply(2, d)
		r.Forget(2)
	}
	if v := knows.Merge(nil).Sum("belay_old_total"); v != 7 {
		t.Errorf("known: %v", v)
	}
	if f := does.Merge(nil).Family("belay_old_total"); f != nil {
		t.Errorf("unknown: %+v", f)
	}
	wantDeltas(t, "unknown", NewExporter(does).Next(nil))
	does.Apply(1, old)
	if v, ok := does.Merge(nil).Value("belay_old_total", l); v != 11 || !ok {
		t.Errorf("after a writer told: %v, %v", v, ok)
	}
	wantDeltas(t, "known after all", NewExporter(does).Next(nil), "belay_old_total[x=\"a\"] counter 11 retired of [1]")

	// The next generation waits for a writer of which the messenger told.
	middle.Apply(1, old)
	d = e.Next(nil)
	wantDeltas(t, "writer back", d, "belay_old_total[x=\"a\"] counter 5 retired of [1]")
	next := NewRegistry()
	next.Apply(2, d)
	next.Forget(2)
	if v, ok := next.Merge(nil).Value("belay_old_total", l); v != 5 || !ok {
		t.Errorf("after the messenger is gone: %v, %v", v, ok)
	}
	next.Forget(1)
	if next.Merge(nil).Family("belay_old_total") != nil {
		t.Error("there after the writer is gone")
	}
}

// The next generation learns who else can write what it does not know.
func TestWritersOfKnownSeries(t *testing.T) {
	r, s := every()
	copies := [][]uint64{s.CopyTo(nil)}
	r.Apply(3, []Delta{{Family: "belay_g_total", Count: 1}, {Family: "belay_f_total", Count: 1}})
	r.Apply(1, []Delta{{Family: "belay_g_total", Count: 1, Writers: []uint64{2}}, {Family: "belay_a_total", Labels: []Label{{"x", "a"}}, Count: 1}})
	r.Forget(2)
	next := NewRegistry()
	next.Apply(4, NewExporter(r).Next(copies))
	if got := next.Generations(); !slices.Equal(got, []uint64{1, 3, 4}) {
		t.Error(got)
	}
	next.Forget(4)
	for name, want := range map[string]bool{"belay_a_total": true, "belay_f_total": true, "belay_g_total": true, "belay_c_seconds": false} {
		if got := next.Merge(nil).Family(name) != nil; got != want {
			t.Errorf("%s is there: %v", name, got)
		}
	}
	next.Forget(1)
	if s := next.Merge(nil); s.Family("belay_a_total") != nil || s.Family("belay_f_total") == nil || s.Family("belay_g_total") == nil {
		t.Error("1 and 3 have the wrong series")
	}
}

// Retired series of a registered family are with the others, their labels in
// the same order; other label names make another series.
func TestRetiredInKnownFamily(t *testing.T) {
	r := NewRegistry()
	l := func(v ...string) (l []Label) {
		for i := 0; i < len(v); i += 2 {
			l = append(l, Label{v[i], v[i+1]})
		}
		return l
	}
	r.Atomic("belay_middle_total", "M.", l("name", "n", "cluster", "c")...)
	r.Apply(1, []Delta{
		{Family: "belay_middle_total", Labels: l("name", "n", "cluster", "c"), Count: 1},
		{Family: "belay_middle_total", Labels: l("name", "o", "cluster", "c"), Count: 2},
		{Family: "belay_middle_total", Labels: l("cluster", "c", "name", "o"), Count: 4},
		{Family: "belay_middle_total", Labels: l("cluster", "c", "name", "\xff"), Count: 8},
		{Family: "belay_middle_total", Labels: l("cluster", "c", "name", "\uFFFD"), Count: 16},
		{Family: "belay_middle_total", Labels: l("old", "c"), Count: 32},
		{Family: "belay_first_total", Labels: l("z", "1", "y", "2"), Count: 1},
		{Family: "belay_first_total", Labels: l("y", "2", "z", "1"), Count: 2},
		{Family: "belay_z_total", Count: 1},
	})
	s := r.Merge(nil)
	checkText(t, s)
	var got []string
	for _, f := range s.Families() {
		for _, x := range f.Series {
			got = append(got, fmt.Sprint(f.Name, x.Labels, x.Value))
		}
	}
	if want := []string{
		`belay_first_total[y="2" z="1"] 3`, `belay_middle_total[name="n" cluster="c"] 1`, `belay_middle_total[name="o" cluster="c"] 6`,
		"belay_middle_total[name=\"\uFFFD\" cluster=\"c\"] 24", `belay_middle_total[old="c"] 32`, `belay_stats_incompatible_total[] 0`, `belay_z_total[] 1`,
	}; !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if x := s.Find("belay_middle_total", l("name", "o", "cluster", "c")...); x == nil || x.Value != 6 || !x.Retired {
		t.Errorf("found %+v", x)
	}
	if x := s.Find("belay_first_total", l("y", "2")...); x != nil {
		t.Errorf("found %+v", x)
	}
	if v := s.Sum("belay_middle_total"); v != 63 {
		t.Errorf("sum %v", v)
	}
	promtool(t, s)
}

func TestIncompatible(t *testing.T) {
	l := []Label{{"x", "a"}}
	counts := func(n int) []uint64 { return slices.Repeat([]uint64{1}, n) }
	others := slices.Clone(boundSeconds)
	others[3] *= 2
	for _, tt := range []struct {
		name string
		d    Delta
		want float64
	}{
		{"OK", Delta{Family: "belay_a_total", Labels: l}, 0},
		{"OK standard bounds", Delta{Family: "belay_c_seconds", Kind: KindHistogram, Labels: l, Counts: counts(bounds + 1), Bounds: slices.Clone(boundSeconds)}, 0},
		{"OK own gauge", Delta{Family: "belay_d", Kind: KindGauge, Value: 5}, 0},
		{"OK own gauge, other labels", Delta{Family: "belay_d", Kind: KindGauge, Value: 5, Labels: l}, 0},
		{"OK no help", Delta{Family: "belay_new_total", Count: 1}, 0},
		{"bad other bounds", Delta{Family: "belay_c_seconds", Kind: KindHistogram, Labels: l, Counts: counts(bounds + 1), Bounds: others}, 1},
		{"bad other bounds unknown", Delta{Family: "belay_new_seconds", Kind: KindHistogram, Counts: counts(bounds + 1), Bounds: others}, 1},
		{"bad fewer buckets", Delta{Family: "belay_c_seconds", Kind: KindHistogram, Labels: l, Counts: counts(bounds)}, 1},
		{"bad more buckets", Delta{Family: "belay_c_seconds", Kind: KindHistogram, Labels: l, Counts: counts(bounds + 2)}, 1},
		{"bad no buckets", Delta{Family: "belay_c_seconds", Kind: KindHistogram, Labels: l}, 1},
		{"bad kind", Delta{Family: "belay_a_total", Kind: KindGauge, Labels: l, Value: 1}, 1},
		{"bad kind of retired", Delta{Family: "belay_retired_seconds", Kind: KindGauge, Value: 1}, 1},
		{"bad no kind", Delta{Family: "belay_a_total", Kind: 3, Labels: l}, 1},
		{"bad no kind unknown", Delta{Family: "belay_new", Kind: 3, Counts: counts(bounds + 1)}, 1},
		{"bad gauge", Delta{Family: "belay_e", Kind: KindGauge, Value: math.NaN()}, 1},
		{"bad endless gauge", Delta{Family: "belay_e", Kind: KindGauge, Value: math.Inf(-1)}, 1},
		{"bad name", Delta{Family: "Belay_total", Count: 1}, 1},
		{"bad empty", Delta{}, 1},
		{"bad label name", Delta{Family: "belay_new_total", Count: 1, Labels: []Label{{"le", "a"}}}, 1},
		{"bad label name in retired", Delta{Family: "belay_retired_total", Count: 1, Labels: []Label{{"A", "a"}}}, 1},
		{"bad label twice", Delta{Family: "belay_new_total", Count: 1, Labels: []Label{{"x", "a"}, {"x", "b"}}}, 1},
		{"bad label twice in known", Delta{Family: "belay_a_total", Count: 1, Labels: []Label{{"x", "a"}, {"x", "a"}}}, 1},
	} {
		r, s := every()
		r.Apply(1, []Delta{
			{Family: "belay_retired_total", Labels: l, Count: 1}, {Family: "belay_retired_seconds", Kind: KindHistogram, Labels: l, Counts: counts(bounds + 1)},
		})
		before := r.Merge([][]uint64{s.CopyTo(nil)})
		r.Apply(1, []Delta{tt.d})
		snap := r.Merge([][]uint64{s.CopyTo(nil)})
		checkText(t, snap)
		if got := snap.Sum("belay_stats_incompatible_total"); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if tt.want == 1 && snap.Sum("belay_a_total")+snap.Sum("belay_c_seconds") != before.Sum("belay_a_total")+before.Sum("belay_c_seconds") {
			t.Errorf("%s: was counted", tt.name)
		}
		if tt.want == 1 && len(snap.Families()) != len(before.Families()) {
			t.Errorf("%s: %d families, not %d", tt.name, len(snap.Families()), len(before.Families()))
		}
		if snap.Sum("belay_d") != 7 {
			t.Errorf("%s: an own gauge is %v", tt.name, snap.Sum("belay_d"))
		}
	}
}

func TestGaugeRulesDoNotMix(t *testing.T) {
	zero := func() float64 { return 0 }
	r := NewRegistry()
	r.FuncSum("belay_a", "A.", zero, Label{"x", "a"})
	if why := panics(func() { r.Func(KindGauge, "belay_a", "A.", zero, Label{"x", "b"}) }); why == "" {
		t.Error("one family with two rules")
	}
}
