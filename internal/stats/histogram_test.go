package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

func TestBounds(t *testing.T) {
	if boundNS[0] != 50_000 || boundNS[bounds-1] != 125e9 || boundNS[bounds] != math.MaxUint64 {
		t.Fatalf("from %d to %d ns, then %d", boundNS[0], boundNS[bounds-1], boundNS[bounds])
	}
	for b := 1; b < bounds; b++ {
		if ratio := float64(boundNS[b]) / float64(boundNS[b-1]); ratio < 1.19 || ratio > 1.34 {
			t.Errorf("bound %d is %v times the one before", boundNS[b], ratio)
		}
	}
}

func TestBucketOf(t *testing.T) {
	times := []uint64{0, 1, 15, 16, 17, 255, 49_999, math.MaxInt64, math.MaxUint64}
	for shift := range 64 {
		times = append(times, 1<<shift-1, 1<<shift, 1<<shift+1)
	}
	for _, ns := range boundNS[:bounds] {
		times = append(times, ns-1, ns, ns+1)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		times = append(times, rng.Uint64()>>rng.IntN(64))
	}
	for _, ns := range times {
		want := sort.Search(bounds, func(b int) bool { return ns <= boundNS[b] })
		if got := int(bucketOf(ns)); got != want {
			t.Errorf("%d ns is in bucket %d, want %d", ns, got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	r := NewRegistry()
	h := r.Histogram("belay_a_seconds", "A.")
	dist := func(times ...int64) *Distribution {
		s := r.NewShard()
		for _, ns := range times {
			s.Observe(h, ns)
		}
		return r.Merge([][]uint64{s.CopyTo(nil)}).Find("belay_a_seconds").Dist
	}
	for _, tt := range []struct {
		name   string
		times  []int64
		q      float64
		lo, hi float64
	}{
		{"nothing", nil, 0.5, 0, 0},
		{"one", []int64{1e6}, 0.5, 0.0008, 0.001},
		{"one, all of it", []int64{1e6}, 1, 0.001, 0.001},
		{"short", []int64{10}, 0.5, 0, 50e-6},
		{"beyond the last bound", []int64{1e6, 1e15}, 0.99, 125, 125},
		{"negative", []int64{-5}, 1, 50e-6, 50e-6},
		{"gap", []int64{1e6, 1e6, 1e6, 5e9}, 0.75, 0.001, 0.001},
		{"gap above", []int64{1e6, 1e6, 1e6, 5e9}, 0.76, 4, 5},
	} {
		if got := dist(tt.times...).Quantile(tt.q); got < tt.lo || got > tt.hi {
			t.Errorf("%s: %v, want %v to %v", tt.name, got, tt.lo, tt.hi)
		}
	}
}

// Of times as servers have them a quantile is at most a sixth off.
func TestQuantileError(t *testing.T) {
	r := NewRegistry()
	h := r.Histogram("belay_a_seconds", "A.")
	s := r.NewShard()
	rng := rand.New(rand.NewPCG(3, 4))
	times := make([]int64, 20_000)
	for i := range times {
		times[i] = int64(2e6 * math.Exp(rng.NormFloat64()))
		s.Observe(h, times[i])
	}
	slices.Sort(times)
	d := r.Merge([][]uint64{s.CopyTo(nil)}).Find("belay_a_seconds").Dist
	for _, q := range []float64{0.01, 0.1, 0.5, 0.9, 0.99, 0.999} {
		want := float64(times[int(q*float64(len(times)))]) / 1e9
		if got := d.Quantile(q); math.Abs(got-want) > want/6 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}
