package stats

import (
	"maps"
	"slices"
	"strings"
)

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
	Series     []Series // in the order of registration; then the retired ones

	family *family // nil: not registered here
}

// Series is one set of labels with its value.
type Series struct {
	Labels  []Label
	Value   float64       // of a histogram: its count
	Dist    *Distribution // of a histogram, else nil
	Retired bool          // not registered here: other generations count in it
}

// Merge makes a snapshot of copies of shards; a nil copy counts as zeros. It adds
// what Apply brought, and reads what is not in the shards now. The copies are
// not kept.
func (r *Registry) Merge(copies [][]uint64) *Snapshot {
	r.freeze()
	sum := addUp(make([]uint64, r.slots), copies)
	outside := r.readOutside(func(*family) bool { return true })
	r.mu.Lock()
	r.others.addTo(sum, outside)
	retired := r.others.families()
	r.mu.Unlock()
	s := &Snapshot{registry: r, families: make([]Family, 0, len(r.families)+len(retired))}
	for _, f := range r.families {
		s.families = append(s.families, r.values(f, sum, outside, retired[f.name].Series))
		delete(retired, f.name)
	}
	if len(retired) > 0 {
		s.families = slices.AppendSeq(s.families, maps.Values(retired))
		slices.SortFunc(s.families, func(a, b Family) int { return strings.Compare(a.Name, b.Name) })
	}
	s.index = make(map[string]int, len(s.families))
	for i := range s.families {
		s.index[s.families[i].Name] = i
	}
	return s
}

// addUp adds copies of shards to sum.
func addUp(sum []uint64, copies [][]uint64) []uint64 {
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

// readOutside reads those values of Registry.external whose family is wanted.
// Nothing is locked: a function may take its time, or ask for a snapshot.
func (r *Registry) readOutside(wanted func(*family) bool) []float64 {
	v := make([]float64, len(r.external))
	for _, f := range r.families {
		if !f.outside || !wanted(f) {
			continue
		}
		for _, x := range f.series {
			v[x.slot] = r.external[x.slot].value()
			if f.kind == KindCounter {
				v[x.slot] = float64(whole(v[x.slot]))
			}
		}
	}
	return v
}

// values makes a family's part of a snapshot; gone are its retired series.
func (r *Registry) values(f *family, sum []uint64, outside []float64, gone []Series) Family {
	out := Family{Name: f.name, Help: f.help, Kind: f.kind, family: f, Series: make([]Series, len(f.series), len(f.series)+len(gone))}
	var dists []Distribution
	if f.kind == KindHistogram {
		dists = make([]Distribution, len(f.series))
	}
	for i, x := range f.series {
		o := &out.Series[i]
		o.Labels = r.labelsOf(f, x)
		switch {
		case f.outside:
			o.Value = outside[x.slot]
		case f.kind == KindHistogram:
			dists[i] = distribution(sum[x.slot:][:histogramSlots:histogramSlots])
			o.Dist, o.Value = &dists[i], float64(dists[i].Count)
		case f.kind == KindGauge:
			o.Value = float64(int64(sum[x.slot]))
		default:
			o.Value = float64(sum[x.slot])
		}
	}
	out.Series = append(out.Series, gone...)
	return out
}

func (e *external) value() float64 {
	if e.read != nil {
		return e.read()
	}
	return float64(e.atomic.Load())
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
	registered := 0
	if f.family != nil {
		if i := s.registry.find(f.family, labels); i >= 0 {
			return &f.Series[i]
		}
		registered = len(f.family.series)
	}
	for i := registered; i < len(f.Series); i++ {
		if x := &f.Series[i]; len(x.Labels) == len(labels) && containsAll(x.Labels, labels) {
			return x
		}
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
