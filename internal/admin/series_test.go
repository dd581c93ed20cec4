package admin

import (
	"strconv"
	"testing"

	"belay/internal/admin/adminapi"
	"belay/internal/stats"
)

func TestLatencyOf(t *testing.T) {
	d := &stats.Distribution{Bounds: []float64{1, 2, 4}, Counts: []uint64{3, 0, 2, 1}, Count: 6, Sum: 20}
	l := LatencyOf(d)
	want := []adminapi.Bucket{{From: 0, To: 1, Count: 3}, {From: 2, To: 4, Count: 2}, {From: 4, To: 0, Count: 1}}
	if len(l.Buckets) != len(want) || l.Count != 6 || l.Sum != 20 {
		t.Fatalf("%+v", l)
	}
	for i := range want {
		if l.Buckets[i] != want[i] {
			t.Errorf("%+v, want %+v", l.Buckets[i], want[i])
		}
	}
	for _, q := range []float64{0, 0.1, 0.5, 0.7, 0.99, 1} {
		if a, b := l.Quantile(q), d.Quantile(q); a != b {
			t.Errorf("quantile %v: %v, the daemon says %v", q, a, b)
		}
	}
	if l := LatencyOf(nil); l.Count != 0 || l.Buckets != nil {
		t.Errorf("%+v", l)
	}
}

func TestFiguresThatAreNotThere(t *testing.T) {
	f := NewFigures(newSource().snapshot)
	if f.Counter("nix") != 0 || f.Gauge("belay_load", "x") != 0 || f.Latency("belay_load").Count != 0 || f.Replies("nix", "app") != (adminapi.Replies{}) {
		t.Error("made up")
	}
}

// BenchmarkFigures looks up the figures of 1000 clusters of 10 endpoints.
func BenchmarkFigures(b *testing.B) {
	r := stats.NewRegistry()
	for c := range 1000 {
		for e := range 10 {
			l := []stats.Label{{Name: "cluster", Value: strconv.Itoa(c)}, {Name: "endpoint", Value: strconv.Itoa(e)}}
			r.Counter("requests_total", "", l...)
			r.Histogram("first_byte_seconds", "", l...)
		}
	}
	s := r.Merge([][]uint64{r.NewShard().CopyTo(nil)})
	b.ReportAllocs()
	for b.Loop() {
		f := NewFigures(s)
		for c := range 1000 {
			for e := range 10 {
				f.Counter("requests_total", strconv.Itoa(c), strconv.Itoa(e))
				f.Latency("first_byte_seconds", strconv.Itoa(c), strconv.Itoa(e))
			}
		}
	}
}
