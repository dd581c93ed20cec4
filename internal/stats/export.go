package stats

import (
	"maps"
	"slices"
	"sync"
)

// Delta is what one series grew by, or a gauge's value, in a form that a process
// of another version or with another configuration understands. Nobody may
// change its slices.
type Delta struct {
	Family string
	Help   string // with the first of its family in a list, else empty
	Kind   Kind
	Labels []Label
	Count  uint64    // what a counter grew by
	Value  float64   // of a gauge: its value now
	Counts []uint64  // what a histogram's buckets grew by, the last without a bound
	Sum    uint64    // what a histogram's sum grew by, µs
	Bounds []float64 // of a histogram, seconds; nil: the 65 from 50 µs to 125 s

	// Retired says that the sender only passes on what others counted: it has
	// no such series. Writers are other generations known to have it.
	Retired bool
	Writers []uint64 // epochs, ascending
}

// Exporter tells one receiver what the registry counted: this process's own part
// and what Apply brought of others, each count once. A process that has changed
// its receiver, because the one it told handed over to the next, goes on with the
// same Exporter.
//
// Gauges are always this process's own part: every generation tells its own.
//
// It may be used by several goroutines.
type Exporter struct {
	// Own leaves out what Apply brought: a child tells its parent only what it
	// counted itself. Not to be changed after the first Next. The parent holds such
	// lists until the child has failed, and drops them if the child takes over:
	// once applied they are in the parent's Next, which goes to the child.
	Own bool

	r       *Registry
	mu      sync.Mutex
	taken   tally // acknowledged
	offered tally // by the last Next
	open    bool  // the last Next may be acknowledged
}

// tally is how far the counts of all series are.
type tally struct {
	slots    []uint64 // as in a shard
	external []uint64 // as in Registry.external
	retired  map[*retired][]uint64
}

// NewExporter makes an Exporter that has told nothing yet.
func NewExporter(r *Registry) *Exporter { return &Exporter{r: r} }

// Next is what counters and histograms grew by since the last Next that was
// acknowledged, and all gauges whose values add up; what is zero is left out.
// copies are those of all shards, as for Merge; one that is missing is told of
// later. Families come in the order of their names, retired series last.
//
// The receiver must Apply one whole list, or nothing. One that may have been
// applied, but is not acknowledged, must not be followed by another: the same
// counts are in that again.
func (e *Exporter) Next(copies [][]uint64) []Delta {
	r := e.r
	r.freeze()
	e.mu.Lock()
	defer e.mu.Unlock()
	outside := r.readOutside(func(f *family) bool { return !f.own })
	n := &e.offered
	n.slots = addUp(zeros(n.slots, int(r.slots)), copies)
	n.external = zeros(n.external, len(r.external))
	e.taken.slots = sized(e.taken.slots, int(r.slots))
	e.taken.external = sized(e.taken.external, len(r.external))

	r.mu.Lock()
	defer r.mu.Unlock()
	if !e.Own {
		r.others.addCounts(n.slots, n.external)
	}
	x := export{e: e, o: &r.others, outside: outside, out: make([]Delta, 0, e.size())}
	for _, f := range r.families {
		if !f.own { // these were not read
			x.family(f)
		}
	}
	n.retired = nil
	if !e.Own {
		x.retired()
	}
	e.open = true
	return x.out
}

// size is about how many deltas there will be: no more slots than grew, and no
// more series than there are.
func (e *Exporter) size() int {
	grown, series := len(e.r.external), 0
	for i, n := range e.offered.slots {
		if n != e.taken.slots[i] {
			grown++
		}
	}
	for _, f := range e.r.families {
		series += len(f.series)
	}
	return min(grown, series)
}

// Ack says that what the last Next returned was applied. Without it the next Next
// returns that again. Another Ack, or one after Reset, does nothing.
func (e *Exporter) Ack() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open {
		e.taken, e.offered = e.offered, e.taken
		e.open = false
	}
}

// Reset says that the receiver died and gave nothing on: the next Next is
// everything, for another receiver.
func (e *Exporter) Reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taken, e.open = tally{}, false
}

// zeros is n zeros, in v if it has the room.
func zeros(v []uint64, n int) []uint64 {
	v = sized(v, n)
	clear(v)
	return v
}

// sized is v if it has the size n, else zeros.
func sized(v []uint64, n int) []uint64 {
	if len(v) != n {
		return make([]uint64, n)
	}
	return v
}

// export is one Next under way.
type export struct {
	e       *Exporter
	o       *others
	outside []float64 // this process's values, as in Registry.external
	out     []Delta
	writers []uint64 // of the series before
	helped  string   // the family whose help is in out
}

// family appends the deltas of a registered family.
func (x *export) family(f *family) {
	r, n, taken := x.e.r, &x.e.offered, &x.e.taken
	for _, s := range f.series {
		d := Delta{Family: f.name, Kind: f.kind}
		switch {
		case f.outside && f.kind == KindGauge:
			d.Value = x.outside[s.slot]
		case f.kind == KindGauge:
			d.Value = float64(int64(n.slots[s.slot]))
		case f.outside:
			n.external[s.slot] += whole(x.outside[s.slot])
			d.Count = growth(taken.external[s.slot], &n.external[s.slot])
		case f.kind == KindCounter:
			d.Count = growth(taken.slots[s.slot], &n.slots[s.slot])
		default:
			d.histogram(taken.slots[s.slot:][:histogramSlots], n.slots[s.slot:][:histogramSlots])
		}
		if d.Value == 0 && d.Count == 0 && d.Counts == nil {
			continue
		}
		d.Labels = r.labelsOf(f, s)
		if !x.e.Own && f.kind != KindGauge {
			d.Writers = x.writersOf(r.place(f, s))
		}
		x.append(d, f.help)
	}
}

// retired appends the deltas of series that only others write.
func (x *export) retired() {
	n, taken := &x.e.offered, &x.e.taken
	n.retired = make(map[*retired][]uint64)
	for _, name := range slices.Sorted(maps.Keys(x.o.retired)) {
		f := x.o.retired[name]
		for _, s := range f.series {
			if f.kind == KindGauge || !s.passOn {
				continue
			}
			before, now := sized(taken.retired[s], len(s.v)), slices.Clone(s.v)
			n.retired[s] = now
			d := Delta{Family: name, Kind: f.kind, Labels: s.labels, Retired: true, Writers: s.writers}
			if f.kind == KindCounter {
				d.Count = growth(before[0], &now[0])
			} else {
				d.histogram(before, now)
			}
			if d.Count != 0 || d.Counts != nil {
				x.append(d, f.help)
			}
		}
	}
}

func (x *export) append(d Delta, help string) {
	if d.Family != x.helped {
		d.Help, x.helped = help, d.Family
	}
	x.out = append(x.out, d)
}

// writersOf are the epochs of the other generations that have the registered
// series at a place. Most series have the same ones as the one before.
func (x *export) writersOf(place uint32) []uint64 {
	var buf [16]uint64
	list := buf[:0]
	for _, s := range x.o.sources {
		if s.writes.has(place) {
			list = append(list, s.epoch)
		}
	}
	if len(list) == 0 {
		return nil
	}
	if !slices.Equal(list, x.writers) {
		x.writers = slices.Clone(list)
	}
	return x.writers
}

// histogram sets what a histogram's slots grew by, nothing if they did not.
func (d *Delta) histogram(taken, now []uint64) {
	grown := false
	for i := range now {
		now[i] = max(now[i], taken[i])
		grown = grown || now[i] != taken[i]
	}
	if !grown {
		return
	}
	d.Counts = make([]uint64, slotSum)
	for b := range d.Counts {
		d.Counts[b] = now[b] - taken[b]
	}
	d.Sum = now[slotSum] - taken[slotSum]
}

// growth is what a count grew by. One that seems to have gone down, because a
// shard's copy is missing, stays where it was until it has caught up.
func growth(taken uint64, now *uint64) uint64 {
	*now = max(*now, taken)
	return *now - taken
}

// whole is the whole part of a counter that a function reads.
func whole(v float64) uint64 {
	if !(v > 0) { // NaN too
		return 0
	}
	return uint64(v)
}
