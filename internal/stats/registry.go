// Package stats counts. Series are registered by name and labels while the
// daemon is built; after that every worker has a shard of plain integers that
// only it writes, and a snapshot is the sum of copies that the workers make of
// their shards between two turns. Nothing is locked or atomic per request.
package stats

import (
	"slices"
	"strings"
	"sync/atomic"
)

// Label is one label of a series.
type Label struct{ Name, Value string }

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
func (k Kind) String() string {
	switch k {
	case KindCounter:
		return "counter"
	case KindGauge:
		return "gauge"
	}
	return "histogram"
}

// sinkSlots is the room at the start of a shard for the zero handles: a
// histogram's, which is the largest.
const sinkSlots = histogramSlots

// Registry knows all series. It is filled by one goroutine before the first
// shard is made and only read afterwards.
type Registry struct {
	families map[string]*family
	order    []*family
	slots    uint32
	frozen   bool
}

// family is all series of one name.
type family struct {
	name, help string
	kind       Kind
	series     []series
}

// series is one set of labels; where its value comes from is one of slot, read
// and atomic.
type series struct {
	labels []Label
	slot   uint32
	read   func() float64
	atomic *atomic.Uint64
}

// NewRegistry makes an empty registry.
func NewRegistry() *Registry {
	return &Registry{families: make(map[string]*family), slots: sinkSlots}
}

// Counter registers a counter, whose name ends in _total.
func (r *Registry) Counter(name, help string, l ...Label) Counter {
	return Counter(r.add(KindCounter, name, help, l, 1))
}

// Gauge registers a gauge; its value is the sum of what the workers added.
func (r *Registry) Gauge(name, help string, l ...Label) Gauge {
	return Gauge(r.add(KindGauge, name, help, l, 1))
}

// Histogram registers a distribution of times, whose name ends in _seconds.
func (r *Registry) Histogram(name, help string, l ...Label) Histogram {
	return Histogram(r.add(KindHistogram, name, help, l, histogramSlots))
}

// Func registers a value that is read when a snapshot is taken, by the goroutine
// that takes it. kind is KindCounter or KindGauge.
func (r *Registry) Func(kind Kind, name, help string, f func() float64, l ...Label) {
	r.family(kind, name, help).append(series{labels: slices.Clone(l), read: f})
}

// Atomic registers a counter for goroutines that are no workers.
func (r *Registry) Atomic(name, help string, l ...Label) *atomic.Uint64 {
	v := new(atomic.Uint64)
	r.family(KindCounter, name, help).append(series{labels: slices.Clone(l), atomic: v})
	return v
}

func (f *family) append(s series) { f.series = append(f.series, s) }

func (r *Registry) add(k Kind, name, help string, l []Label, slots uint32) uint32 {
	f := r.family(k, name, help)
	slot := r.slots
	r.slots += slots
	f.append(series{labels: slices.Clone(l), slot: slot})
	return slot
}

// family finds or makes the family; one name has one kind.
func (r *Registry) family(k Kind, name, help string) *family {
	if r.frozen {
		panic("stats: " + name + " registered after the first shard was made")
	}
	f := r.families[name]
	if f == nil {
		f = &family{name: name, help: help, kind: k}
		r.families[name] = f
		r.order = append(r.order, f)
	}
	if f.kind != k {
		panic("stats: " + name + " registered as " + f.kind.String() + " and as " + k.String())
	}
	return f
}

// NewShard makes one worker's shard. It ends registration.
func (r *Registry) NewShard() *Shard {
	if !r.frozen {
		r.frozen = true
		slices.SortFunc(r.order, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	}
	return &Shard{v: make([]uint64, r.slots)}
}
