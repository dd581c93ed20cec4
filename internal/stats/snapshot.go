package stats

import "slices"

// Snapshot is all values at one time. It does not change, and nobody may change
// what it returns.
type Snapshot struct {
	registry *Registry
	families []Family
	index    map[string]int // by family name
}

// Family is all series of one name.
type Family struct {
	Name, Help string
	Kind       Kind
	Series     []Series // in the order of registration

	family *family
}

// Series is one set of labels with its value.
type Series struct {
	Labels []Label
	Value  float64       // of a histogram: its count
	Dist   *Distribution // of a histogram, else nil
}

// Merge makes a snapshot of copies of shards; a nil copy counts as zeros. It adds
// what Carry brought, and reads what is not in the shards now. The copies are
// not kept.
func (r *Registry) Merge(copies [][]uint64) *Snapshot {
	r.freeze()
	sum := r.sum(copies)
	s := &Snapshot{registry: r, families: make([]Family, len(r.families)), index: make(map[string]int, len(r.families))}
	for i, f := range r.families {
		s.families[i] = r.values(f, sum)
		s.index[f.name] = i
	}
	return s
}

// sum adds up copies and base.
func (r *Registry) sum(copies [][]uint64) []uint64 {
	sum := make([]uint64, r.slots)
	r.mu.Lock()
	copy(sum, r.base)
	r.mu.Unlock()
	for _, c := range copies {
		if c == nil {
			continue
		}
		c = c[:len(sum)]
		for i := range sum {
			sum[i] += c[i]
		}
	}
	return sum
}

// values makes a family's part of a snapshot.
func (r *Registry) values(f *family, sum []uint64) Family {
	out := Family{Name: f.name, Help: f.help, Kind: f.kind, family: f, Series: make([]Series, len(f.series))}
	var dists []Distribution
	if f.kind == KindHistogram {
		dists = make([]Distribution, len(f.series))
	}
	for i, x := range f.series {
		o := &out.Series[i]
		o.Labels = r.labelsOf(f, x)
		switch {
		case f.outside:
			o.Value = r.external[x.slot].value()
		case f.kind == KindHistogram:
			dists[i] = distribution(sum[x.slot:][:histogramSlots:histogramSlots])
			o.Dist, o.Value = &dists[i], float64(dists[i].Count)
		case f.kind == KindGauge:
			o.Value = float64(int64(sum[x.slot]))
		default:
			o.Value = float64(sum[x.slot])
		}
	}
	return out
}

func (e *external) value() float64 {
	if e.read != nil {
		return e.read()
	}
	return float64(e.atomic.Load())
}

// Carry adds what another process counted in a series of a family to all
// snapshots from now on: the value of a counter, or the distribution of a
// histogram with the same bounds. It reports whether there is such a series here;
// a gauge is never carried, because its value is not this process's.
func (r *Registry) Carry(name string, s Series) bool {
	f := r.byName[name]
	if f == nil || f.outside {
		return false
	}
	i := r.find(f, s.Labels)
	if i < 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.base == nil {
		r.base = make([]uint64, r.slots)
	}
	v := r.base[f.series[i].slot:]
	switch {
	case f.kind == KindCounter && s.Dist == nil:
		v[0] += uint64(s.Value)
	case f.kind == KindHistogram && s.Dist != nil && slices.Equal(s.Dist.Bounds, boundSeconds) && len(s.Dist.Counts) == slotSum:
		for b, n := range s.Dist.Counts {
			v[b] += n
		}
		v[slotSum] += uint64(s.Dist.Sum*1e6 + 0.5)
	default:
		return false
	}
	return true
}

// find is the index of the series of a family that has these labels, in any
// order; -1 if there is none.
func (r *Registry) find(f *family, l []Label) int {
	if len(l) != len(f.labelNames) {
		return -1
	}
	ordered := make([]Label, 0, 4)
	for _, n := range f.labelNames {
		i := slices.IndexFunc(l, func(x Label) bool { return x.Name == n })
		if i < 0 {
			return -1
		}
		ordered = append(ordered, l[i])
	}
	return r.lookup(f, r.labels.hashOf(ordered), ordered)
}

// Families are sorted by name.
func (s *Snapshot) Families() []Family { return s.families }

// Family finds a family by its name; nil if there is none.
func (s *Snapshot) Family(name string) *Family {
	if i, ok := s.index[name]; ok {
		return &s.families[i]
	}
	return nil
}

// Find finds one series by all its labels, in any order; nil if there is none.
func (s *Snapshot) Find(name string, labels ...Label) *Series {
	f := s.Family(name)
	if f == nil {
		return nil
	}
	if i := s.registry.find(f.family, labels); i >= 0 {
		return &f.Series[i]
	}
	return nil
}

// Value is the value of the series that Find finds.
func (s *Snapshot) Value(name string, labels ...Label) (float64, bool) {
	if x := s.Find(name, labels...); x != nil {
		return x.Value, true
	}
	return 0, false
}

// Sum adds up the series of a family that have all the given labels.
func (s *Snapshot) Sum(name string, labels ...Label) float64 {
	f := s.Family(name)
	if f == nil {
		return 0
	}
	var sum float64
	for i := range f.Series {
		if containsAll(f.Series[i].Labels, labels) {
			sum += f.Series[i].Value
		}
	}
	return sum
}

func containsAll(all, some []Label) bool {
	for _, l := range some {
		if !slices.Contains(all, l) {
			return false
		}
	}
	return true
}
