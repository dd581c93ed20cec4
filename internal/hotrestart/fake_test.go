package hotrestart

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"belay/internal/eventloop"
	"belay/internal/stats"
)

// book is what the processes of a test were asked to do, in order.
type book struct {
	mu    sync.Mutex
	lines []string
}

func (b *book) write(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

// all is what was written but for the calls that ask and change nothing.
func (b *book) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

// fake is a Process that writes down what it is asked to do. It has one counter,
// which it exports as the server does: each count once, its own part or all.
type fake struct {
	name   string
	book   *book
	tell   func(format string, args ...any) // nil: nobody else
	groups []Group
	state  []Blob
	dir    *os.File    // of credentials; nil: none
	note   string      // of Headroom
	full   error       // of Headroom
	stuck  atomic.Bool // a worker does not turn

	mu      sync.Mutex // guards what follows
	open    int64
	since   time.Time
	count   uint64
	applied map[uint64]uint64 // by epoch
	acked   [2]uint64         // of all counts, of our own
	handed  [2]uint64
	own     int           // which of the two was handed out last
	facts   []string      // learnt, in this order
	gone    chan struct{} // closed when the process is to end
	ended   bool
}

func (f *fake) write(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if f.tell != nil {
		f.tell("%s", line)
	}
	f.book.write(f.name + " " + line) // last: tests wait for it
}

func (f *fake) Sockets() []Group                { return f.groups }
func (f *fake) Pause(taken []eventloop.Address) { f.write("Pause %v", taken) }
func (f *fake) Resume() error                   { f.write("Resume"); return nil }
func (f *fake) Renew()                          { f.write("Renew") }
func (f *fake) Drain()                          { f.write("Drain"); f.drain() }
func (f *fake) StepBack()                       { f.write("StepBack"); f.drain() }
func (f *fake) Turn(time.Duration) bool         { return !f.stuck.Load() }
func (f *fake) State() []Blob                   { return f.state }

func (f *fake) Link() Link { return &fakeLink{f: f} }

// fakeLink tells facts, a few at a time.
type fakeLink struct {
	f    *fake
	told int
}

const factsAtATime = 10

func (l *fakeLink) Next() ([]Blob, bool) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	list := l.f.facts[l.told:]
	list = list[:min(len(list), factsAtATime)]
	l.told += len(list)
	var blobs []Blob
	for _, fact := range list {
		blobs = append(blobs, Blob{Owner: "facts", Version: 1, Data: []byte(fact)})
	}
	return blobs, l.told < len(l.f.facts)
}

func (l *fakeLink) Take(blobs []Blob) {
	for _, b := range blobs {
		l.f.learn(string(b.Data))
	}
}

func (f *fake) learn(facts ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fact := range facts {
		if !slices.Contains(f.facts, fact) {
			f.facts = append(f.facts, fact)
		}
	}
}

func (f *fake) knows(facts ...string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fact := range facts {
		if !slices.Contains(f.facts, fact) {
			return false
		}
	}
	return true
}

func (f *fake) Credentials() int {
	if f.dir == nil {
		return -1
	}
	return int(f.dir.Fd())
}

func (f *fake) Headroom() (string, error) { return f.note, f.full }
func (f *fake) BeforeRelease(d []Group)   { f.write("BeforeRelease %d", len(d)) }
func (f *fake) LateState(s []Blob)        { f.state = s }
func (f *fake) Main()                     { f.write("Main") }

func (f *fake) Terminate(within time.Duration) int64 {
	f.write("Terminate %v", within)
	f.end()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

func (f *fake) drain() {
	f.mu.Lock()
	f.since = time.Now()
	empty := f.open == 0
	f.mu.Unlock()
	if empty || f.name == "child" {
		f.end()
	}
}

// end ends the last connection.
func (f *fake) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone != nil && !f.ended {
		f.ended = true
		close(f.gone)
	}
}

func (f *fake) Connections() (int64, time.Time, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since.IsZero() {
		return f.open, time.Time{}, time.Time{}
	}
	return f.open, f.since, f.since.Add(time.Hour)
}

// total is all that was counted, or what this process did.
func (f *fake) total(own bool) uint64 {
	n := f.count
	for _, c := range f.applied {
		if !own {
			n += c
		}
	}
	return n
}

func (f *fake) Deltas(own bool) []stats.Delta {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own = 0
	if own {
		f.own = 1
	}
	f.handed[f.own] = f.total(own)
	return []stats.Delta{{Family: "n", Count: f.handed[f.own] - f.acked[f.own], Labels: []stats.Label{{Name: "a", Value: "b"}}}}
}

func (f *fake) DeltasTaken() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked[f.own] = f.handed[f.own]
}

func (f *fake) DeltasReset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked, f.handed = [2]uint64{}, [2]uint64{}
}

func (f *fake) Apply(epoch uint64, list []stats.Delta) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied == nil {
		f.applied = make(map[uint64]uint64)
	}
	for _, d := range list {
		if d.Family == "n" && len(d.Labels) == 1 && d.Labels[0] == (stats.Label{Name: "a", Value: "b"}) {
			f.applied[epoch] += d.Count
		}
	}
}

func (f *fake) Forget(epoch uint64) { f.write("Forget %d", epoch) }

func (f *fake) Generations() (list []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for e := range f.applied {
		list = append(list, e)
	}
	return list
}

func (f *fake) add(n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count += n
}

func (f *fake) sum() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total(false)
}
