package stats

// Shard has one worker's share of all values. Only that worker uses it.
type Shard struct{ v []uint64 }

// NewShard makes a worker's shard. The first one ends registration.
func (r *Registry) NewShard() *Shard {
	r.freeze()
	return &Shard{v: make([]uint64, r.slots)}
}

// Inc adds one.
func (s *Shard) Inc(c Counter) { s.v[c]++ }

// Add adds n.
func (s *Shard) Add(c Counter, n uint64) { s.v[c] += n }

// GaugeAdd adds d, which may be negative. One worker may add what another takes
// off: only the sum of all shards means something.
func (s *Shard) GaugeAdd(g Gauge, d int64) { s.v[g] += uint64(d) }

// Observe enters a time in ns; a negative one counts as 0.
func (s *Shard) Observe(h Histogram, ns int64) {
	t := uint64(max(0, ns))
	v := s.v[h:][:histogramSlots]
	v[bucketOf(t)]++
	v[slotSum] += (t + 500) / 1000
}

// Value is the worker's share of a counter.
func (s *Shard) Value(c Counter) uint64 { return s.v[c] }

// GaugeValue is the worker's share of a gauge.
func (s *Shard) GaugeValue(g Gauge) int64 { return int64(s.v[g]) }

// CopyTo copies the shard over dst, which is grown as needed, for Merge. The
// copy is the caller's.
func (s *Shard) CopyTo(dst []uint64) []uint64 { return append(dst[:0], s.v...) }
