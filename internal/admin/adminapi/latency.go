package adminapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Latency is a distribution of times. P50 and P99 are those of the whole life
// of the daemon; for those of a while take two and subtract (Since).
type Latency struct {
	Count   uint64   `json:"count"`
	Sum     float64  `json:"sum_seconds"`
	P50     float64  `json:"p50_seconds"` // 0 if Count is 0
	P99     float64  `json:"p99_seconds"`
	Buckets []Bucket `json:"buckets,omitempty"` // ascending, without the empty ones; only when asked for
}

// Bucket counts the times in (From, To], in seconds. A bucket without upper
// bound has To 0. As JSON it is [from, to, count]: a daemon has many.
type Bucket struct {
	From, To float64
	Count    uint64
}

// MarshalJSON writes [from, to, count].
func (b Bucket) MarshalJSON() ([]byte, error) { return json.Marshal([3]any{b.From, b.To, b.Count}) }

// UnmarshalJSON reads [from, to, count].
func (b *Bucket) UnmarshalJSON(data []byte) error {
	part := [3]any{&b.From, &b.To, &b.Count}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	if len(raw) != len(part) {
		return fmt.Errorf("bucket of %d numbers, want %d", len(raw), len(part))
	}
	for i, r := range raw {
		if err := json.Unmarshal(r, part[i]); err != nil {
			return err
		}
	}
	return nil
}

// NewLatency makes a distribution of its buckets, which it keeps.
func NewLatency(sum float64, buckets []Bucket) Latency {
	l := Latency{Sum: sum, Buckets: buckets}
	l.settle()
	return l
}

// settle computes what follows from the buckets.
func (l *Latency) settle() {
	l.Count = 0
	for _, b := range l.Buckets {
		l.Count += b.Count
	}
	l.P50, l.P99 = l.Quantile(0.5), l.Quantile(0.99)
}

// Add adds the distribution o.
func (l *Latency) Add(o Latency) {
	l.Buckets = merge(l.Buckets, o.Buckets, func(a, b uint64) uint64 { return a + b })
	l.Sum += o.Sum
	l.settle()
}

// Since is what came after old, an earlier state of the same distribution. After
// a restart of the daemon, which counts from 0 again, that is all there is.
func (l Latency) Since(old Latency) Latency {
	if old.Count > l.Count {
		return l
	}
	reset := false
	diff := merge(l.Buckets, old.Buckets, func(now, before uint64) uint64 {
		reset = reset || before > now
		return now - before
	})
	if reset {
		return l
	}
	return NewLatency(max(0, l.Sum-old.Sum), diff)
}

// merge combines the counts of equal buckets and drops those that become empty.
func merge(a, b []Bucket, combine func(a, b uint64) uint64) []Bucket {
	out := make([]Bucket, 0, max(len(a), len(b)))
	for len(a) > 0 || len(b) > 0 {
		var x Bucket
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].From < b[0].From:
			x, a = a[0], a[1:]
			x.Count = combine(x.Count, 0)
		case len(a) == 0 || b[0].From < a[0].From:
			x, b = b[0], b[1:]
			x.Count = combine(0, x.Count)
		default:
			x = a[0]
			x.Count = combine(a[0].Count, b[0].Count)
			a, b = a[1:], b[1:]
		}
		if x.Count != 0 {
			out = append(out, x)
		}
	}
	return slices.Clip(out)
}

// Quantile is the time in seconds below which the share q of all times lies,
// interpolated within its bucket; 0 if there are none. Times beyond the last
// bound count as that bound.
func (l *Latency) Quantile(q float64) float64 {
	if l.Count == 0 {
		return 0
	}
	rank := q * float64(l.Count)
	var seen float64
	for _, b := range l.Buckets {
		n := float64(b.Count)
		if seen+n < rank {
			seen += n
			continue
		}
		if b.To == 0 {
			return b.From
		}
		return b.From + (b.To-b.From)*(rank-seen)/n
	}
	if n := len(l.Buckets); n > 0 {
		return max(l.Buckets[n-1].From, l.Buckets[n-1].To)
	}
	return 0
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
