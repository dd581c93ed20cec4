package stats

import (
	"math"
	"math/bits"
)

// A histogram has ten buckets a decade, a little more than three an octave, from
// 50 µs to 125 s. Bucket b holds the times in (bound b-1, bound b]; the last one
// what is longer than every bound. In a shard the buckets are followed by the sum
// in microseconds: one in nanoseconds would be full after 200 days of a thousand
// requests at any time.
const (
	bounds         = 65
	slotSum        = bounds + 1
	histogramSlots = bounds + 2
)

// mantissas are the bounds of a decade, in hundredths.
var mantissas = [...]uint64{100, 125, 150, 200, 250, 300, 400, 500, 600, 800}

// exported are those that Prometheus gets: 1, 2.5, 5.
func exported(mantissa uint64) bool { return mantissa == 100 || mantissa == 250 || mantissa == 500 }

// boundNS has the bounds in ns; from index bounds on, no time is longer. It has
// an entry for every byte so that an index needs no check.
var boundNS = func() (t [256]uint64) {
	i := 0
	for scale := uint64(100); i < bounds; scale *= 10 { // ns in a hundredth of 10 µs, 100 µs, …
		for _, m := range mantissas {
			if ns := m * scale; ns >= 50_000 && i < bounds {
				t[i] = ns
				i++
			}
		}
	}
	for ; i < len(t); i++ {
		t[i] = math.MaxUint64
	}
	return t
}()

// Times are first put into cells, eight of equal width an octave, so narrow that
// a bound lies in none of them or one. firstBucket has the bucket of a cell's
// shortest time; the others are in that or the next.
var firstBucket = func() (t [512]uint8) {
	for c := range uint64(len(t)) {
		shortest := c
		if c >= 16 {
			octave := c>>3 - 1
			shortest = (c - octave<<3) << octave
		}
		for shortest > boundNS[t[c]] {
			t[c]++
		}
	}
	return t
}()

// bucketOf is the first bucket whose bound is not below ns.
func bucketOf(ns uint64) uint8 {
	octave := uint64(bits.Len64(ns|15)-4) & 63
	b := firstBucket[(octave<<3+ns>>octave)&511]
	if ns > boundNS[b] {
		b++
	}
	return b
}

// boundSeconds are the bounds of every Distribution.
var boundSeconds = func() []float64 {
	s := make([]float64, bounds)
	for i := range s {
		s[i] = float64(boundNS[i]) / 1e9
	}
	return s
}()

// Distribution is the content of a histogram. Its slices are not to be changed.
type Distribution struct {
	Bounds []float64 // seconds, ascending
	Counts []uint64  // times in (Bounds[i-1], Bounds[i]]; the last: longer ones
	Count  uint64
	Sum    float64 // seconds
}

// distribution makes a Distribution of a histogram's slots.
func distribution(slots []uint64) Distribution {
	d := Distribution{Bounds: boundSeconds, Counts: slots[:slotSum:slotSum], Sum: float64(slots[slotSum]) / 1e6}
	for _, n := range d.Counts {
		d.Count += n
	}
	return d
}

// Quantile is the time in seconds below which the share q of all times lies,
// linear within a bucket. It is 0 if there is no time, and the largest bound for
// what is beyond it.
func (d *Distribution) Quantile(q float64) float64 {
	if d.Count == 0 {
		return 0
	}
	rank, seen := q*float64(d.Count), 0.0
	for b, high := range d.Bounds {
		n := float64(d.Counts[b])
		if n == 0 || seen+n < rank {
			seen += n
			continue
		}
		low := 0.0
		if b > 0 {
			low = d.Bounds[b-1]
		}
		return low + (high-low)*(rank-seen)/n
	}
	return d.Bounds[len(d.Bounds)-1]
}
