package stats

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// others is what other generations told.
type others struct {
	slots    []uint64  // counts, as in a shard; nil: none
	external []uint64  // counts, as in Registry.external; nil: none
	sources  []*source // by epoch
	gone     map[uint64]bool
	retired  map[string]*retiredFamily // by name
}

// source is a generation that told something, or of which another one told.
type source struct {
	epoch  uint64
	writes bitset // registered series that it has, by Registry.place
	// Its part of gauges registered here, by Registry.place, and of retired ones;
	// both are replaced by every Apply.
	gauges  map[uint32]float64
	retired map[*retired]float64
}

// Apply adds what another generation's Exporter returned: one whole list of Next.
// Counts are added for good; applying a list twice counts twice, so the protocol
// has to see to it that an unacknowledged list is not followed by the next. The
// gauges in the list replace all that from told before: a list without them
// takes them away, and of one that is there twice the last value counts. Labels
// and Writers of the list are kept.
//
// A series that is not registered here is retired: snapshots have it until the
// last generation that can write it is forgotten. What fits no family here, or
// has other bounds, is left out and counted in belay_stats_incompatible_total.
//
// Like NewShard, it ends registration.
func (r *Registry) Apply(from uint64, deltas []Delta) {
	r.freeze()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.others.gone, from)
	a := merge{r: r, o: &r.others, from: r.others.source(from), sender: []uint64{from}, help: make(map[string]string)}
	clear(a.from.gauges)
	clear(a.from.retired)
	for i := range deltas {
		if !a.add(&deltas[i]) {
			r.incompatible.Add(1)
		}
	}
}

// Forget says that a generation is gone. Its gauges and the retired series that
// only it could still write go away; its counts in series registered here stay.
// What a retired series counted still goes to the next generation, once, and is
// there again if a generation turns up that writes it.
func (r *Registry) Forget(from uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := &r.others
	o.sources = slices.DeleteFunc(o.sources, func(s *source) bool { return s.epoch == from })
	if o.gone == nil {
		o.gone = make(map[uint64]bool)
	}
	o.gone[from] = true
	for _, f := range o.retired {
		for _, s := range f.series {
			s.writers = without(s.writers, from)
		}
		f.drop()
		if len(f.series) == 0 {
			delete(o.retired, f.name)
		}
	}
}

// Generations are the epochs of all generations that told something, or of which
// another one told, ascending, until they are forgotten. Whoever knows which of
// them still live has to forget the others.
func (r *Registry) Generations() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]uint64, len(r.others.sources))
	for i, s := range r.others.sources {
		list[i] = s.epoch
	}
	return list
}

// source finds or makes the source of an epoch.
func (o *others) source(epoch uint64) *source {
	i, ok := slices.BinarySearchFunc(o.sources, epoch, func(s *source, e uint64) int { return cmp.Compare(s.epoch, e) })
	if !ok {
		o.sources = slices.Insert(o.sources, i, &source{epoch: epoch, gauges: make(map[uint32]float64), retired: make(map[*retired]float64)})
	}
	return o.sources[i]
}

// addCounts adds the counts to those of this process.
func (o *others) addCounts(slots, external []uint64) {
	for i, n := range o.slots {
		slots[i] += n
	}
	for i, n := range o.external {
		external[i] += n
	}
}

// addTo adds counts and gauges of registered series to the values of this process.
func (o *others) addTo(slots []uint64, outside []float64) {
	for i, n := range o.slots {
		slots[i] += n
	}
	for i, n := range o.external {
		outside[i] += float64(n)
	}
	for _, s := range o.sources {
		for place, v := range s.gauges {
			if i := int(place) - len(slots); i >= 0 {
				outside[i] += v
			} else {
				slots[place] += uint64(int64(v))
			}
		}
	}
}

// place numbers the registered series: the slots of a shard, then what is outside.
func (r *Registry) place(f *family, x series) uint32 {
	if f.outside {
		return r.slots + x.slot
	}
	return x.slot
}

// merge is one Apply under way.
type merge struct {
	r      *Registry
	o      *others
	from   *source
	sender []uint64          // the epoch of from, alone
	help   map[string]string // of families in the list
}

// add adds one delta, or reports that it cannot be added.
func (m *merge) add(d *Delta) bool {
	if d.Help != "" {
		m.help[d.Family] = d.Help
	}
	switch d.Kind {
	case KindCounter:
	case KindGauge:
		if math.IsNaN(d.Value) || math.IsInf(d.Value, 0) {
			return false
		}
	case KindHistogram:
		if len(d.Bounds) > 0 && !slices.Equal(d.Bounds, boundSeconds) || len(d.Counts) != slotSum {
			return false
		}
	default:
		return false
	}
	labels := valid(d.Labels)
	f := m.r.byName[d.Family]
	if f == nil {
		return m.retire(d, labels)
	}
	if f.kind != d.Kind {
		return false
	}
	if f.own {
		return true // the rule of this gauge: not of other generations
	}
	if i := m.r.find(f, labels); i >= 0 {
		m.registered(f, f.series[i], d)
		return true
	}
	return m.retire(d, labels)
}

// registered adds a delta to a series that is registered here.
func (m *merge) registered(f *family, x series, d *Delta) {
	place := m.r.place(f, x)
	for _, w := range m.writers(d) {
		m.o.source(w).writes.set(place)
	}
	switch o := m.o; {
	case d.Kind == KindGauge:
		m.from.gauges[place] = d.Value
	case f.outside:
		o.external = sized(o.external, len(m.r.external))
		o.external[x.slot] += d.Count
	default:
		o.slots = sized(o.slots, int(m.r.slots))
		d.addTo(o.slots[x.slot:])
	}
}

// addTo adds a counter's or histogram's growth to its slots.
func (d *Delta) addTo(slots []uint64) {
	if d.Kind == KindCounter {
		slots[0] += d.Count
		return
	}
	for b, n := range d.Counts {
		slots[b] += n
	}
	slots[slotSum] += d.Sum
}

// writers are the generations that can write the series of a delta, as far as
// they are not gone.
func (m *merge) writers(d *Delta) []uint64 {
	list := m.sender
	if d.Retired {
		list = nil
	}
	for _, w := range d.Writers {
		if !m.o.gone[w] {
			list = union(list, []uint64{w})
		}
	}
	return list
}

// valid are labels whose values are valid UTF-8, as registered ones are.
func valid(l []Label) []Label {
	for i, x := range l {
		if utf8.ValidString(x.Value) {
			continue
		}
		l = slices.Clone(l)
		for k := i; k < len(l); k++ {
			l[k].Value = strings.ToValidUTF8(l[k].Value, "\uFFFD")
		}
		break
	}
	return l
}

// bitset is a set of small numbers.
type bitset []uint64

func (b bitset) has(i uint32) bool { return int(i/64) < len(b) && b[i/64]>>(i%64)&1 != 0 }

func (b *bitset) set(i uint32) {
	if n := int(i/64) + 1; n > len(*b) {
		*b = append(*b, make([]uint64, n-len(*b))...)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

// union and without make ascending lists. The ones given are never changed:
// others have them too.
func union(a, b []uint64) []uint64 {
	if len(a) == 0 {
		return b
	}
	for _, n := range b {
		if i, ok := slices.BinarySearch(a, n); !ok {
			a = slices.Insert(slices.Clip(a), i, n)
		}
	}
	return a
}

func without(list []uint64, n uint64) []uint64 {
	i, ok := slices.BinarySearch(list, n)
	if !ok {
		return list
	}
	return slices.Delete(slices.Clone(list), i, i+1)
}
