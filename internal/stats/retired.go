package stats

import (
	"cmp"
	"slices"
	"strings"
)

// retiredFamily is the series of one name that are not registered here. The
// family itself may be.
type retiredFamily struct {
	name, help string
	kind       Kind
	series     []*retired // in the order in which they were told
	byLabels   map[string]*retired
}

// retired is a series that only other generations can write. One that none can
// write any more keeps its counts, which are not in snapshots: the next generation
// may know it, or one that writes it may not have told yet.
type retired struct {
	labels  []Label  // as the family has them, if registered; else by name
	v       []uint64 // as in a shard; nil for a gauge
	writers []uint64 // epochs, ascending; replaced, never changed

	// passOn: some generation could write it in this process's time. Without that
	// a series that was given up would go from process to process for ever.
	passOn bool
}

// retire adds a delta to a series that is not registered here, or reports that
// it breaks a rule of names.
func (m *merge) retire(d *Delta, labels []Label) bool {
	writers := m.writers(d)
	var order []string
	if f := m.r.byName[d.Family]; f != nil {
		order = f.labelNames
	}
	labels = ordered(labels, order)
	f := m.o.retired[d.Family]
	if f == nil {
		f = &retiredFamily{name: d.Family, help: m.helpOf(d), kind: d.Kind, byLabels: make(map[string]*retired)}
	}
	if f.kind != d.Kind {
		return false
	}
	key := keyOf(labels)
	s := f.byLabels[key]
	if s == nil {
		if !f.takes(labels) {
			return false
		}
		s = &retired{labels: labels}
		f.byLabels[key] = s
		f.series = append(f.series, s)
		if m.o.retired == nil {
			m.o.retired = make(map[string]*retiredFamily)
		}
		m.o.retired[f.name] = f
	}
	for _, w := range writers {
		m.o.source(w)
	}
	s.writers = union(s.writers, writers)
	s.passOn = s.passOn || len(writers) > 0
	switch d.Kind {
	case KindGauge:
		m.from.retired[s] = d.Value
	case KindCounter:
		s.v = sized(s.v, 1)
		d.addTo(s.v)
	default:
		s.v = sized(s.v, histogramSlots)
		d.addTo(s.v)
	}
	return true
}

// helpOf is the help of a delta's family: a valid snapshot has some.
func (m *merge) helpOf(d *Delta) string {
	if h := m.help[d.Family]; h != "" {
		return h
	}
	return "Of another generation."
}

// takes reports whether labels may be those of a series of the family.
func (f *retiredFamily) takes(l []Label) bool {
	if len(f.series) > 0 && slices.EqualFunc(l, f.series[len(f.series)-1].labels, func(a, b Label) bool { return a.Name == b.Name }) {
		return true
	}
	named := family{name: f.name, help: f.help, kind: f.kind}
	for _, x := range l {
		if slices.Contains(named.labelNames, x.Name) {
			return false
		}
		named.labelNames = append(named.labelNames, x.Name)
	}
	return named.wrong() == ""
}

// drop drops the series that nobody can write and that have counted nothing.
func (f *retiredFamily) drop() {
	keep := f.series[:0]
	for _, s := range f.series {
		if len(s.writers) == 0 && !slices.ContainsFunc(s.v, func(n uint64) bool { return n != 0 }) {
			delete(f.byLabels, keyOf(s.labels))
			continue
		}
		keep = append(keep, s)
	}
	clear(f.series[len(keep):])
	f.series = keep
}

// families are the retired series for a snapshot, by the name of the family.
func (o *others) families() map[string]Family {
	gauges := make(map[*retired]float64)
	for _, s := range o.sources {
		for x, v := range s.retired {
			gauges[x] += v
		}
	}
	out := make(map[string]Family, len(o.retired))
	for name, f := range o.retired {
		x := Family{Name: name, Help: f.help, Kind: f.kind}
		for _, s := range f.series {
			if len(s.writers) > 0 {
				x.Series = append(x.Series, s.value(f.kind, gauges[s]))
			}
		}
		if x.Series != nil {
			out[name] = x
		}
	}
	return out
}

func (s *retired) value(k Kind, gauge float64) Series {
	x := Series{Labels: s.labels, Retired: true}
	switch k {
	case KindGauge:
		x.Value = gauge
	case KindCounter:
		x.Value = float64(s.v[0])
	default:
		d := distribution(slices.Clone(s.v))
		x.Dist, x.Value = &d, float64(d.Count)
	}
	return x
}

// ordered are labels in the order of names, if it has the same; else by name.
func ordered(l []Label, order []string) []Label {
	if slices.EqualFunc(l, order, func(x Label, n string) bool { return x.Name == n }) {
		return l
	}
	rank := func(x Label) int { return slices.Index(order, x.Name) }
	if len(l) != len(order) || slices.ContainsFunc(l, func(x Label) bool { return rank(x) < 0 }) {
		rank = func(Label) int { return 0 }
	}
	l = slices.Clone(l)
	slices.SortFunc(l, func(a, b Label) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Name, b.Name)) })
	return l
}

// keyOf names a series within its family. 0xff is in no valid UTF-8.
func keyOf(l []Label) string {
	n := 0
	for _, x := range l {
		n += len(x.Name) + len(x.Value) + 2
	}
	var b strings.Builder
	b.Grow(n)
	for _, x := range l {
		b.WriteString(x.Name)
		b.WriteByte(0xff)
		b.WriteString(x.Value)
		b.WriteByte(0xff)
	}
	return b.String()
}
