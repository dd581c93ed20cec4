package stats

import (
	"strings"
	"testing"
)

func TestBucketBounds(t *testing.T) {
	for _, ns := range []uint64{0, 1, 1 << 15, 1<<15 + 1, 40_000, 49_152, 49_153, 65_536, 65_537, 1e6, 1e9, 1 << 37, 1<<37 + 1, 1 << 62} {
		b := bucketOf(ns)
		if b < buckets && ns > bound(b) {
			t.Errorf("%d ns is in bucket %d, whose bound is %d", ns, b, bound(b))
		}
		if b > 0 && ns <= bound(b-1) {
			t.Errorf("%d ns is in bucket %d, but bucket %d would hold it (bound %d)", ns, b, b-1, bound(b-1))
		}
	}
}

func TestMergeSumsShards(t *testing.T) {
	r := NewRegistry()
	l := Label{"listener", `we"b`}
	c := r.Counter("belay_requests_total", "Requests.", l)
	g := r.Gauge("belay_open", "Open.", l)
	h := r.Histogram("belay_time_seconds", "Time.", l)
	r.Func(KindGauge, "belay_limit", "Limit.", func() float64 { return 7 })
	a, b := r.NewShard(), r.NewShard()
	a.Inc(c)
	b.Add(c, 4)
	a.GaugeAdd(g, 3)
	b.GaugeAdd(g, -2)
	a.Observe(h, 1_000_000)
	b.Observe(h, 3_000_000)
	a.Inc(0)
	a.Observe(0, 5) // sinks
	s := r.Merge([][]uint64{a.CopyTo(nil), nil, b.CopyTo(nil)})
	for name, want := range map[string]float64{"belay_requests_total": 5, "belay_open": 1, "belay_time_seconds": 2} {
		if got, ok := s.Value(name, l); !ok || got != want {
			t.Errorf("%s = %v, %v, want %v", name, got, ok, want)
		}
	}
	if q := s.Find("belay_time_seconds", l).Dist.Quantile(0.99); q < 0.002 || q > 0.0045 {
		t.Errorf("p99 = %v s of 1 ms and 3 ms", q)
	}
	var text strings.Builder
	if err := WritePrometheus(&text, s); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"# TYPE belay_requests_total counter\n",
		`belay_requests_total{listener="we\"b"} 5` + "\n",
		`belay_time_seconds_bucket{listener="we\"b",le="+Inf"} 2` + "\n",
		`belay_time_seconds_count{listener="we\"b"} 2` + "\n",
		"belay_limit 7\n",
	} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("%q is missing in\n%s", line, text.String())
		}
	}
}

func TestShardDoesNotAllocate(t *testing.T) {
	r := NewRegistry()
	c, h := r.Counter("a_total", ""), r.Histogram("b_seconds", "")
	s := r.NewShard()
	if n := testing.AllocsPerRun(100, func() { s.Inc(c); s.Observe(h, 12345) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	r := NewRegistry()
	h := r.Histogram("b_seconds", "")
	s := r.NewShard()
	b.ReportAllocs()
	for b.Loop() {
		s.Observe(h, 123_456)
	}
}

func BenchmarkInc(b *testing.B) {
	r := NewRegistry()
	c := r.Counter("a_total", "")
	s := r.NewShard()
	b.ReportAllocs()
	for b.Loop() {
		s.Inc(c)
	}
}
