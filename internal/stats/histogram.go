package stats

import "math/bits"

// A histogram has two buckets per octave from 2^15 ns (33 µs) to 2^37 ns (137 s):
// bucket b holds times up to bound(b); the last one what is longer. In a shard
// its slots are the buckets and the sum.
const (
	firstOctave    = 15
	lastOctave     = 37
	buckets        = 2*(lastOctave-firstOctave) + 1
	overflow       = buckets
	slotSum        = buckets + 1
	histogramSlots = buckets + 2
)

// bound is the longest time of a bucket, in ns.
func bound(b int) uint64 {
	o := uint64(1) << (firstOctave + b/2)
	if b%2 == 1 {
		o += o / 2
	}
	return o
}

// bucketOf is the first bucket whose bound is not below ns.
func bucketOf(ns uint64) int {
	if ns <= 1<<firstOctave {
		return 0
	}
	ns--
	top := bits.Len64(ns) - 1 // 2^top <= ns
	b := 2*(top-firstOctave) + 1 + int(ns>>(top-1)&1)
	return min(b, overflow)
}
