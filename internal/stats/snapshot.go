package stats

import (
	"slices"
	"strings"
)

// Snapshot is all values at one time.
type Snapshot struct {
	families []Family
	index    map[string]int // by family name
}

// Family is all series of one name.
type Family struct {
	Name, Help string
	Kind       Kind
	Series     []Series
}

// Series is one set of labels with its value; Dist is set for histograms.
type Series struct {
	Labels []Label
	Value  float64 // of a histogram: its count
	Dist   *Distribution
}

// Distribution is a histogram's content. Counts are per bucket, not cumulative;
// the last one has what is longer than every bound.
type Distribution struct {
	Bounds []float64 // seconds, of all buckets but the last
	Counts []uint64
	Count  uint64
	Sum    float64 // seconds
}

// boundsSeconds are shared by all Distributions.
var boundsSeconds = func() []float64 {
	b := make([]float64, buckets)
	for i := range b {
		b[i] = float64(bound(i)) / 1e9
	}
	return b
}()

// Merge sums the copies of shards; a nil copy counts as zeros. Families come
// sorted by name, series in the order of registration.
func (r *Registry) Merge(copies [][]uint64) *Snapshot {
	s := &Snapshot{index: make(map[string]int, len(r.order))}
	for _, f := range r.order {
		out := Family{Name: f.name, Help: f.help, Kind: f.kind, Series: make([]Series, len(f.series))}
		for i := range f.series {
			out.Series[i] = f.series[i].merge(f.kind, copies)
		}
		s.index[f.name] = len(s.families)
		s.families = append(s.families, out)
	}
	return s
}

func (x *series) merge(k Kind, copies [][]uint64) Series {
	out := Series{Labels: x.labels}
	switch {
	case x.read != nil:
		out.Value = x.read()
	case x.atomic != nil:
		out.Value = float64(x.atomic.Load())
	case k == KindHistogram:
		out.Dist = distribution(x.slot, copies)
		out.Value = float64(out.Dist.Count)
	case k == KindGauge:
		var sum int64
		for _, c := range copies {
			if c != nil {
				sum += int64(c[x.slot])
			}
		}
		out.Value = float64(sum)
	default:
		var sum uint64
		for _, c := range copies {
			if c != nil {
				sum += c[x.slot]
			}
		}
		out.Value = float64(sum)
	}
	return out
}

func distribution(slot uint32, copies [][]uint64) *Distribution {
	d := &Distribution{Bounds: boundsSeconds, Counts: make([]uint64, buckets+1)}
	var sum uint64
	for _, c := range copies {
		if c == nil {
			continue
		}
		for b := range d.Counts {
			n := c[int(slot)+b]
			d.Counts[b] += n
			d.Count += n
		}
		sum += c[slot+slotSum]
	}
	d.Sum = float64(sum) / 1e9
	return d
}

// Quantile estimates the q-quantile in seconds, linear within a bucket; 0 if
// there is nothing.
func (d *Distribution) Quantile(q float64) float64 {
	if d.Count == 0 {
		return 0
	}
	rank, seen := q*float64(d.Count), 0.0
	for b, n := range d.Counts {
		if n == 0 || seen+float64(n) < rank {
			seen += float64(n)
			continue
		}
		if b == len(d.Bounds) {
			break
		}
		low := 0.0
		if b > 0 {
			low = d.Bounds[b-1]
		}
		return low + (d.Bounds[b]-low)*(rank-seen)/float64(n)
	}
	return d.Bounds[len(d.Bounds)-1]
}

// Families are sorted by name.
func (s *Snapshot) Families() []Family { return s.families }

// Value finds one series' value.
func (s *Snapshot) Value(name string, labels ...Label) (float64, bool) {
	if x := s.Find(name, labels...); x != nil {
		return x.Value, true
	}
	return 0, false
}

// Find finds one series by its labels in any order; nil if there is none.
func (s *Snapshot) Find(name string, labels ...Label) *Series {
	i, ok := s.index[name]
	if !ok {
		return nil
	}
	f := &s.families[i]
	for k := range f.Series {
		if sameLabels(f.Series[k].Labels, labels) {
			return &f.Series[k]
		}
	}
	return nil
}

func sameLabels(a, b []Label) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

// Sum adds up the series of a family that have all the given labels.
func (s *Snapshot) Sum(name string, labels ...Label) float64 {
	i, ok := s.index[name]
	if !ok {
		return 0
	}
	var sum float64
	for _, x := range s.families[i].Series {
		all := true
		for _, l := range labels {
			all = all && slices.Contains(x.Labels, l)
		}
		if all {
			sum += x.Value
		}
	}
	return sum
}

// String is the label as a name{…} line has it.
func (l Label) String() string { return l.Name + `="` + escape.Replace(l.Value) + `"` }

// escape is how the text format writes label values.
var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// Family finds a family by its name; nil if there is none.
func (s *Snapshot) Family(name string) *Family {
	if i, ok := s.index[name]; ok {
		return &s.families[i]
	}
	return nil
}
