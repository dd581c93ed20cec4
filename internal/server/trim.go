package server

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// trimmer gives memory back when a burst is over. A TLS handshake leaves some 50 kB
// of garbage, and the collector lets garbage grow with what is alive, so that a
// thousand idle connections would hold twice the memory that they need.
type trimmer struct {
	samples []metrics.Sample
	allocs  uint64 // so far, at the last look
	floor   uint64 // bytes that the last trim could not give back
}

const (
	trimEvery = 2 * time.Second
	trimLeast = 4 << 20 // bytes that are worth a collection
)

// The metrics that a look takes, in this order.
var trimMetrics = []string{
	"/gc/heap/allocs:bytes", "/gc/heap/live:bytes", "/memory/classes/heap/objects:bytes",
	"/memory/classes/heap/unused:bytes", "/memory/classes/heap/free:bytes",
}

func newTrimmer() *trimmer {
	var t trimmer
	for _, name := range trimMetrics {
		t.samples = append(t.samples, metrics.Sample{Name: name})
	}
	return &t
}

// trim collects, and gives back what is free.
func (t *trimmer) trim() {
	debug.FreeOSMemory()
	t.floor, _ = t.excess()
}

// trimMemory looks until ctx ends.
func trimMemory(ctx context.Context) {
	t := newTrimmer()
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if t.worthwhile() {
				t.trim()
			}
		}
	}
}

// worthwhile reports whether much is held that nothing needs, while little is
// allocated: under load the collector's own pace is the cheaper one.
func (t *trimmer) worthwhile() bool {
	before := t.allocs
	excess, live := t.excess()
	return t.judge(excess, live, t.allocs-before)
}

// judge decides by the excess, by what was alive, and by what was allocated since
// the last look, in bytes.
func (t *trimmer) judge(excess, live, grown uint64) bool {
	return excess > t.floor+max(trimLeast, live/2) && grown < excess/8
}

// excess is how much memory the heap holds beside what was alive at the last
// collection.
func (t *trimmer) excess() (excess, live uint64) {
	metrics.Read(t.samples)
	value := func(i int) uint64 { return t.samples[i].Value.Uint64() }
	t.allocs, live = value(0), value(1)
	held := value(2) + value(3) + value(4)
	return held - min(live, held), live
}
