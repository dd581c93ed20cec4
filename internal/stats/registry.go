// Package stats counts. Series are registered by name and labels while the
// daemon is built; after that every worker has a shard of plain integers that
// only it writes, and a snapshot is the sum of copies that the workers make of
// their shards between two turns. Nothing is locked or atomic per request.
//
// A process that takes over from another goes on with its counts: an Exporter
// there, Registry.Apply here.
package stats

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Label is one label of a series.
type Label struct{ Name, Value string }

// String is the label as the text format has it: name="value".
func (l Label) String() string { return string(l.append(nil)) }

// Handles of series. The zero value of each is a valid sink that is never
// exported, so a series that was not registered costs its writer no question.
type (
	Counter   uint32
	Gauge     uint32
	Histogram uint32
)

// Kind is what a family's values are.
type Kind uint8

// The kinds.
const (
	KindCounter Kind = iota
	KindGauge
	KindHistogram
)

// String is the kind as Prometheus writes it.
func (k Kind) String() string { return [...]string{"counter", "gauge", "histogram"}[k] }

// Registry knows all series. It is filled by one goroutine, before the first
// shard or snapshot is made; from then on any goroutine may use it.
//
// Asking again for the same name and labels gives the same series. Names are
// checked as promtool does, and what breaks a rule, or comes too late, panics:
// it is a mistake in the program.
type Registry struct {
	families []*family // sorted by name once frozen
	byName   map[string]*family
	labels   labelStore
	slots    uint32 // of a shard
	external []external
	frozen   bool

	incompatible *atomic.Uint64 // deltas that Apply could not use

	mu     sync.Mutex
	others others // guarded by mu
}

// family is all series of one name.
type family struct {
	name, help string
	kind       Kind
	outside    bool // the series are of Registry.external
	own        bool // the values of generations do not add up: gauges of Func
	labelNames []string
	series     []series
	table      table // of series, by labels
}

// series has no pointers: there may be a hundred thousand.
type series struct {
	slot   uint32 // in a shard; or in Registry.external
	labels uint32 // place in Registry.labels
}

// external is a series that no worker writes: one of the two.
type external struct {
	read   func() float64
	atomic *atomic.Uint64
}

// NewRegistry makes a registry that has only belay_stats_incompatible_total.
func NewRegistry() *Registry {
	r := &Registry{byName: make(map[string]*family), slots: sinkSlots, labels: labelStore{seed: maphash.MakeSeed()}}
	r.incompatible = r.Atomic("belay_stats_incompatible_total", "Values of another generation that could not be added: another kind, or other bounds.")
	return r
}

// sinkSlots is the room at the start of a shard for the zero handles: that of a
// histogram, which is the largest.
const sinkSlots = histogramSlots

// Counter registers a counter, whose name ends in _total. The labels are kept,
// as in the other registrations: they must not be changed afterwards.
func (r *Registry) Counter(name, help string, l ...Label) Counter {
	return Counter(r.inShard(KindCounter, name, help, l, 1))
}

// Gauge registers a gauge; its value is the sum of what the workers added.
func (r *Registry) Gauge(name, help string, l ...Label) Gauge {
	return Gauge(r.inShard(KindGauge, name, help, l, 1))
}

// Histogram registers a distribution of times, whose name ends in _seconds.
func (r *Registry) Histogram(name, help string, l ...Label) Histogram {
	return Histogram(r.inShard(KindHistogram, name, help, l, histogramSlots))
}

func (r *Registry) inShard(k Kind, name, help string, l []Label, slots uint32) uint32 {
	x, isNew := r.add(family{name: name, help: help, kind: k}, l)
	if isNew {
		x.slot = r.slots
		r.slots += slots
	}
	return x.slot
}

// Func registers a value that is read while a snapshot is made, by the goroutine
// that makes it; several may at the same time. kind is KindCounter or KindGauge.
// Such a gauge is this process's own: other generations neither get nor give it.
// Of such a counter only the whole part counts; it may not go down.
func (r *Registry) Func(kind Kind, name, help string, f func() float64, l ...Label) {
	if kind == KindHistogram {
		panic("stats: " + name + ": a function is no histogram")
	}
	r.outside(family{name: name, help: help, kind: kind, own: kind == KindGauge}, l).read = f
}

// FuncSum registers a gauge as Func does, but one that has the sum over all
// generations, as a Gauge has.
func (r *Registry) FuncSum(name, help string, f func() float64, l ...Label) {
	r.outside(family{name: name, help: help, kind: KindGauge}, l).read = f
}

// Atomic registers a counter for goroutines that are no workers.
func (r *Registry) Atomic(name, help string, l ...Label) *atomic.Uint64 {
	x := r.outside(family{name: name, help: help, kind: KindCounter}, l)
	if x.atomic == nil {
		x.atomic = new(atomic.Uint64)
	}
	return x.atomic
}

func (r *Registry) outside(f family, l []Label) *external {
	f.outside = true
	x, isNew := r.add(f, l)
	if isNew {
		x.slot = uint32(len(r.external))
		r.external = append(r.external, external{})
	}
	return &r.external[x.slot]
}

// add finds or makes a series of a family like wanted. The pointer is good until
// the next add.
func (r *Registry) add(wanted family, l []Label) (x *series, isNew bool) {
	f := r.family(wanted, l)
	if r.frozen {
		if i := r.find(f, l); i >= 0 {
			return &f.series[i], false
		}
		panic("stats: " + f.name + " registered after the first shard was made")
	}
	place, hash := r.labels.keep(l)
	if i := r.lookup(f, hash, r.labels.at(place, len(l))); i >= 0 {
		return &f.series[i], false
	}
	f.table.insert(hash, len(f.series))
	f.series = append(f.series, series{labels: place})
	return &f.series[len(f.series)-1], true
}

// labelsOf are the labels of a series, not to be changed.
func (r *Registry) labelsOf(f *family, x series) []Label {
	return r.labels.at(x.labels, len(f.labelNames))
}

// lookup is the index of the series of a family that has these labels, in the
// order of registration; -1 if there is none.
func (r *Registry) lookup(f *family, hash uint64, l []Label) int {
	return f.table.find(hash, func(i int) bool { return slices.Equal(r.labelsOf(f, f.series[i]), l) })
}

// family finds or makes a family like wanted; all its series are of one kind and
// have the same label names.
func (r *Registry) family(wanted family, l []Label) *family {
	f := r.byName[wanted.name]
	if f == nil {
		f = &wanted
		for _, x := range l {
			f.labelNames = append(f.labelNames, x.Name)
		}
		if why := f.wrong(); why != "" {
			panic("stats: " + f.name + ": " + why)
		}
		r.families = append(r.families, f)
		r.byName[f.name] = f
		return f
	}
	if f.kind != wanted.kind || f.outside != wanted.outside || f.own != wanted.own {
		panic("stats: " + f.name + " registered twice in different ways")
	}
	if !slices.EqualFunc(l, f.labelNames, func(x Label, n string) bool { return x.Name == n }) {
		panic("stats: " + f.name + " registered with different labels")
	}
	return f
}

// freeze ends registration.
func (r *Registry) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen {
		return
	}
	r.frozen = true
	slices.SortFunc(r.families, func(a, b *family) int { return strings.Compare(a.name, b.name) })
}
