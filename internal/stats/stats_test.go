package stats

import (
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
)

// panics is what f panics with, "" if it does not.
func panics(f func()) (why string) {
	defer func() {
		if x := recover(); x != nil {
			why = fmt.Sprint(x)
		}
	}()
	f()
	return ""
}

func TestRegistrationRules(t *testing.T) {
	l := Label{"listener", "web"}
	for _, tt := range []struct {
		name string
		do   func(r *Registry)
		want string // a part of the panic; "": none
	}{
		{"OK", func(r *Registry) { r.Counter("belay_a_total", "A.", l) }, ""},
		{"OK no labels", func(r *Registry) { r.Gauge("belay_a", "A.") }, ""},
		{"OK function", func(r *Registry) { r.Func(KindGauge, "belay_a", "A.", func() float64 { return 0 }) }, ""},
		{"bad name", func(r *Registry) { r.Gauge("belay-a", "A.") }, "bad name"},
		{"bad name upper case", func(r *Registry) { r.Gauge("belay_A", "A.") }, "bad name"},
		{"bad no help", func(r *Registry) { r.Gauge("belay_a", "") }, "no help"},
		{"bad counter", func(r *Registry) { r.Counter("belay_a", "A.") }, "ends in _total"},
		{"bad gauge", func(r *Registry) { r.Gauge("belay_a_total", "A.") }, "only a counter's"},
		{"bad gauge suffix", func(r *Registry) { r.Gauge("belay_a_count", "A.") }, "_count is what"},
		{"bad histogram", func(r *Registry) { r.Histogram("belay_a_ms", "A.") }, "ends in _seconds"},
		{"bad label", func(r *Registry) { r.Gauge("belay_a", "A.", Label{"a-b", ""}) }, "bad label name"},
		{"bad label le", func(r *Registry) { r.Gauge("belay_a", "A.", Label{"le", ""}) }, "bad label name"},
		{"bad kinds", func(r *Registry) { r.Gauge("belay_a_seconds", "A."); r.Histogram("belay_a_seconds", "A.") }, "different ways"},
		{"bad label sets", func(r *Registry) { r.Gauge("belay_a", "A."); r.Gauge("belay_a", "A.", l) }, "different labels"},
		{"bad shard and function", func(r *Registry) {
			r.Gauge("belay_a", "A.")
			r.Func(KindGauge, "belay_a", "A.", func() float64 { return 0 })
		}, "different ways"},
		{"bad function histogram", func(r *Registry) { r.Func(KindHistogram, "belay_a_seconds", "A.", nil) }, "no histogram"},
		{"bad late", func(r *Registry) { r.NewShard(); r.Gauge("belay_a", "A.") }, "after the first shard"},
		{"OK known after the first shard", func(r *Registry) { r.Gauge("belay_a", "A.", l); r.NewShard(); r.Gauge("belay_a", "A.", l) }, ""},
	} {
		got := panics(func() { tt.do(NewRegistry()) })
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestSameSeriesAgain(t *testing.T) {
	r := NewRegistry()
	l := []Label{{"cluster", "c"}, {"endpoint", "e"}}
	a := r.Counter("belay_a_total", "A.", l...)
	b := r.Counter("belay_b_total", "B.", l...)
	other := r.Counter("belay_a_total", "A.", l[0], Label{"endpoint", "f"})
	l[1].Value = "changed by the caller"
	if again := r.Counter("belay_a_total", "A.", Label{"cluster", "c"}, Label{"endpoint", "e"}); again != a || a == b || a == other || a == 0 {
		t.Errorf("handles %d, %d, %d and again %d", a, b, other, again)
	}
	if x, y := r.Atomic("belay_c_total", "C."), r.Atomic("belay_c_total", "C."); x != y {
		t.Error("two counters of one name")
	}
	if n := len(r.Merge(nil).Family("belay_a_total").Series); n != 2 {
		t.Errorf("%d series", n)
	}
}

func TestMergeSumsShards(t *testing.T) {
	r := NewRegistry()
	l := Label{"listener", "web"}
	c := r.Counter("belay_requests_total", "Requests.", l)
	g := r.Gauge("belay_open", "Open.", l)
	h := r.Histogram("belay_time_seconds", "Time.", l)
	r.Func(KindGauge, "belay_limit", "Limit.", func() float64 { return 7.5 })
	r.Atomic("belay_late_total", "Late.").Add(3)
	a, b := r.NewShard(), r.NewShard()
	a.Inc(c)
	b.Add(c, 4)
	a.GaugeAdd(g, 3)
	b.GaugeAdd(g, -5)
	a.Observe(h, 1_000_000)
	b.Observe(h, 3_000_400)
	if a.Value(c) != 1 || b.GaugeValue(g) != -5 {
		t.Errorf("the workers' shares are %d and %d", a.Value(c), b.GaugeValue(g))
	}
	s := r.Merge([][]uint64{a.CopyTo(nil), nil, b.CopyTo(make([]uint64, 1))})
	for name, want := range map[string]float64{"belay_requests_total": 5, "belay_open": -2, "belay_time_seconds": 2} {
		if got, ok := s.Value(name, l); !ok || got != want {
			t.Errorf("%s = %v, %v, want %v", name, got, ok, want)
		}
	}
	for name, want := range map[string]float64{"belay_limit": 7.5, "belay_late_total": 3} {
		if got, ok := s.Value(name); !ok || got != want {
			t.Errorf("%s = %v, %v, want %v", name, got, ok, want)
		}
	}
	if d := s.Find("belay_time_seconds", l).Dist; d.Sum != 0.004 || d.Count != 2 {
		t.Errorf("%d times, %v s", d.Count, d.Sum)
	}
	last := ""
	for _, f := range s.Families() {
		if f.Name <= last {
			t.Errorf("%s after %s", f.Name, last)
		}
		last = f.Name
	}
}

// What has no handle counts for nobody.
func TestZeroHandlesAreSinks(t *testing.T) {
	r := NewRegistry()
	c := r.Counter("belay_a_total", "A.")
	g := r.Gauge("belay_b", "B.")
	h := r.Histogram("belay_c_seconds", "C.")
	s := r.NewShard()
	for _, ns := range []int64{0, 1e6, math.MaxInt64, -1} {
		s.Inc(0)
		s.Add(0, math.MaxUint64)
		s.GaugeAdd(0, -9)
		s.Observe(0, ns)
	}
	if s.Value(c) != 0 || s.GaugeValue(g) != 0 || r.Merge([][]uint64{s.CopyTo(nil)}).Find("belay_c_seconds").Dist.Count != 0 {
		t.Error("a sink leaks into ", c, g, h)
	}
}

func TestFindAndSum(t *testing.T) {
	r := NewRegistry()
	var handles []Counter
	for _, c := range []string{"a", "b"} {
		for _, e := range []string{"x", "y"} {
			handles = append(handles, r.Counter("belay_a_total", "A.", Label{"cluster", c}, Label{"endpoint", e}))
		}
	}
	sh := r.NewShard()
	for i, h := range handles {
		sh.Add(h, uint64(1)<<i)
	}
	s := r.Merge([][]uint64{sh.CopyTo(nil)})
	for _, tt := range []struct {
		name   string
		labels []Label
		value  float64
		found  bool
		sum    float64
	}{
		{"belay_a_total", []Label{{"cluster", "b"}, {"endpoint", "x"}}, 4, true, 4},
		{"belay_a_total", []Label{{"endpoint", "y"}, {"cluster", "a"}}, 2, true, 2},
		{"belay_a_total", []Label{{"cluster", "b"}}, 0, false, 12},
		{"belay_a_total", []Label{{"cluster", "b"}, {"cluster", "b"}}, 0, false, 12},
		{"belay_a_total", []Label{{"cluster", "c"}, {"endpoint", "x"}}, 0, false, 0},
		{"belay_a_total", nil, 0, false, 15},
		{"belay_b_total", nil, 0, false, 0},
	} {
		if v, ok := s.Value(tt.name, tt.labels...); v != tt.value || ok != tt.found {
			t.Errorf("%s%v: value %v, %v", tt.name, tt.labels, v, ok)
		}
		if v := s.Sum(tt.name, tt.labels...); v != tt.sum {
			t.Errorf("%s%v: sum %v, want %v", tt.name, tt.labels, v, tt.sum)
		}
	}
}

func TestSnapshotDoesNotKeepCopies(t *testing.T) {
	r := NewRegistry()
	h := r.Histogram("belay_a_seconds", "A.")
	s := r.NewShard()
	s.Observe(h, 1e6)
	c := s.CopyTo(nil)
	snap := r.Merge([][]uint64{c})
	clear(c)
	if d := snap.Find("belay_a_seconds").Dist; d.Quantile(0.5) == 0 {
		t.Error("the snapshot changed")
	}
}

func TestShardDoesNotAllocate(t *testing.T) {
	r := NewRegistry()
	c, g, h := r.Counter("belay_a_total", "A."), r.Gauge("belay_b", "B."), r.Histogram("belay_c_seconds", "C.")
	s := r.NewShard()
	dst := s.CopyTo(nil)
	if n := testing.AllocsPerRun(100, func() {
		s.Inc(c)
		s.GaugeAdd(g, -1)
		s.Observe(h, 12345)
		dst = s.CopyTo(dst)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkInc(b *testing.B) {
	r := NewRegistry()
	c := r.Counter("belay_a_total", "A.")
	s := r.NewShard()
	b.ReportAllocs()
	for b.Loop() {
		s.Inc(c)
	}
}

func BenchmarkObserve(b *testing.B) {
	r := NewRegistry()
	h := r.Histogram("belay_a_seconds", "A.")
	s := r.NewShard()
	b.ReportAllocs()
	ns := int64(0)
	for b.Loop() {
		ns = (ns + 123_457) & (1<<30 - 1)
		s.Observe(h, ns)
	}
}

// manyEndpoints registers what 1000 clusters of 10 endpoints need.
func manyEndpoints() *Registry {
	r := NewRegistry()
	for c := range 1000 {
		cluster := "cluster" + fmt.Sprint(c)
		for e := range 10 {
			l := []Label{{"cluster", cluster}, {"endpoint", endpointNames[e]}}
			for _, name := range counterNames {
				r.Counter(name, "Help.", l...)
			}
			r.Gauge("belay_endpoint_active", "Help.", l...)
			r.Histogram("belay_endpoint_first_byte_seconds", "Help.", l...)
			for _, class := range classNames {
				r.Counter("belay_endpoint_replies_total", "Help.", l[0], l[1], Label{"class", class})
			}
		}
	}
	return r
}

var (
	endpointNames = []string{"e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "e9"}
	counterNames  = []string{"belay_a_total", "belay_b_total", "belay_c_total", "belay_d_total", "belay_e_total", "belay_f_total"}
	classNames    = []string{"2xx", "3xx", "4xx", "5xx"}
)

// BenchmarkRegister120k registers 120 000 series.
func BenchmarkRegister120k(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		manyEndpoints()
	}
}

func BenchmarkSnapshot120k(b *testing.B) {
	r := manyEndpoints()
	s := r.NewShard()
	dst := s.CopyTo(nil)
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			dst = s.CopyTo(dst)
		}
		b.SetBytes(int64(len(dst) * 8))
	})
	b.Run("merge", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Merge([][]uint64{dst, dst})
		}
	})
	b.Run("text", func(b *testing.B) {
		b.ReportAllocs()
		snap := r.Merge([][]uint64{dst, dst})
		var n atomic.Int64
		for b.Loop() {
			_ = WritePrometheus(countingWriter{&n}, snap)
		}
		b.SetBytes(n.Load() / int64(b.N))
	})
}

type countingWriter struct{ n *atomic.Int64 }

func (w countingWriter) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return len(p), nil
}
