package stats

// Shard has one worker's share of all values. Only that worker uses it.
type Shard struct{ v []uint64 }

// Inc adds one.
func (s *Shard) Inc(c Counter) { s.v[c]++ }

// Add adds n.
func (s *Shard) Add(c Counter, n uint64) { s.v[c] += n }

// GaugeAdd adds d, which may be negative.
func (s *Shard) GaugeAdd(g Gauge, d int64) { s.v[g] += uint64(d) }

// Observe enters a time in ns.
func (s *Shard) Observe(h Histogram, ns int64) {
	if ns < 0 {
		ns = 0
	}
	v := s.v[h : h+histogramSlots : h+histogramSlots]
	v[bucketOf(uint64(ns))]++
	v[slotSum] += uint64(ns)
}

// Value is the worker's share of a counter.
func (s *Shard) Value(c Counter) uint64 { return s.v[c] }

// GaugeValue is the worker's share of a gauge.
func (s *Shard) GaugeValue(g Gauge) int64 { return int64(s.v[g]) }

// CopyTo copies the shard into dst, which is grown as needed, for Merge.
func (s *Shard) CopyTo(dst []uint64) []uint64 { return append(dst[:0], s.v...) }
