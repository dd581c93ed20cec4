package shm

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A slot goes from free to its process and back:
//
//	0 -> P+flag (being filled) -> P -> P+flag (being emptied) -> 0
//
// Whoever finds P dead makes it his own first, R+flag, and then empties it: so of
// two who find it, one does, and if he dies in it the next one finds him.

// Process is a living process of the segment.
type Process struct {
	Identity
	Epoch      uint64
	State      State
	Beats      uint64 // how often it has shown that it turns
	JoinedUnix int64  // seconds
}

// Slot is the place of a process in the segment. Its methods may be called by
// several goroutines; after Leave, and after Close of the segment, they do nothing.
type Slot struct {
	s    *Segment
	r    *slotRecord
	gone atomic.Bool // emptied, by Leave or Close
}

// Join gives the process a slot: a free one, or one of a process that has
// ended. It is left by Leave, by Close, or by the end of the process. The epoch
// must have come from NextEpoch, here or in the parent.
func (s *Segment) Join(epoch uint64, st State) (*Slot, error) {
	if !s.enter() {
		return nil, errClosed
	}
	defer s.leave()
	if epoch == 0 || epoch >= maxEpoch {
		return nil, fmt.Errorf("join: epoch %d is out of range", epoch)
	}
	s.m.raiseEpoch(epoch + 1)
	for i := range s.m.slots {
		r := &s.m.slots[i]
		if !r.take(s.self.word()) {
			continue
		}
		r.epoch.Store(epoch)
		r.state.Store(uint64(st))
		r.beats.Store(0)
		r.joined.Store(time.Now().Unix())
		r.owner.Store(s.self.word())
		slot := &Slot{s: s, r: r}
		s.keep(slot)
		return slot, nil
	}
	return nil, s.full()
}

// full tells who has all the slots.
func (s *Segment) full() error {
	var holders []string
	for _, p := range s.Processes() {
		holders = append(holders, fmt.Sprintf("%d (epoch %d, %v)", p.PID, p.Epoch, p.State))
	}
	return fmt.Errorf("join: all %d slots are taken, by processes %s", slotCount, strings.Join(holders, ", "))
}

// take makes a slot that is free, or a dead process's, one being filled by the
// owner of word.
func (r *slotRecord) take(word uint64) bool {
	w := r.owner.Load()
	if w != 0 && identity(w).Alive() {
		return false
	}
	return r.owner.CompareAndSwap(w, word|flag)
}

// empty frees a slot that is being emptied by its caller.
func (r *slotRecord) empty() {
	r.epoch.Store(0)
	r.state.Store(0)
	r.beats.Store(0)
	r.joined.Store(0)
	r.owner.Store(0)
}

// use calls f if the slot is still the process's.
func (l *Slot) use(f func(r *slotRecord)) {
	if l.gone.Load() || !l.s.enter() {
		return
	}
	defer l.s.leave()
	if l.r.owner.Load() == l.s.self.word() {
		f(l.r)
	}
}

// SetState tells the other processes what this one does.
func (l *Slot) SetState(st State) {
	l.use(func(r *slotRecord) { r.state.Store(uint64(st)) })
}

// Beat tells them that it turns.
func (l *Slot) Beat() {
	l.use(func(r *slotRecord) { r.beats.Add(1) })
}

// Beats is how often Beat was called; 0 after Leave.
func (l *Slot) Beats() (n uint64) {
	l.use(func(r *slotRecord) { n = r.beats.Load() })
	return n
}

// Leave frees the slot. It may be called more than once.
func (l *Slot) Leave() {
	if l.gone.Swap(true) || !l.s.enter() {
		return
	}
	defer l.s.leave()
	l.vacate()
}

func (l *Slot) vacate() {
	if me := l.s.self.word(); l.r.owner.CompareAndSwap(me, me|flag) {
		l.r.empty()
	}
}

// Processes are the living ones, by epoch.
func (s *Segment) Processes() []Process {
	if !s.enter() {
		return nil
	}
	defer s.leave()
	var list []Process
	for i := range s.m.slots {
		if p, ok := s.m.slots[i].read(); ok && p.Alive() {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b Process) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return list
}

// read is the content of a slot that somebody has, alive or not. A slot that
// changes hands meanwhile counts as free.
func (r *slotRecord) read() (Process, bool) {
	w := r.owner.Load()
	if w == 0 || w&flag != 0 {
		return Process{}, false
	}
	p := Process{
		Identity: identity(w), Epoch: r.epoch.Load(), State: State(min(r.state.Load(), 255)),
		Beats: r.beats.Load(), JoinedUnix: r.joined.Load(),
	}
	return p, r.owner.Load() == w && r.epoch.Load() == p.Epoch
}

var errClosed = errors.New("the segment is closed")
