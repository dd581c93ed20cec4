package shm

import (
	"sync"
	"sync/atomic"
	"time"
)

// lock excludes the goroutines of all processes that have the segment open.
//
//  1. The process's own mutex: its goroutines wait as Go's do, and one at most
//     is a party to the rest. It also makes "who is inside" a plain field, so
//     that Unlock knows what there is to free.
//  2. The owner word: free, and one compare-and-swap takes it.
//  3. Else the flag asks the owner to wake somebody, and futex(2) sleeps until
//     then, for a tick at most: a dead owner wakes nobody, and must be noticed.
//  4. A dead owner's lock is taken over, and that is counted.
//  5. An owner that lives but does not run (stopped, or stuck in a write to a
//     dead disk) is waited for, for a while. Then the caller goes on as if it had
//     the lock, and that is counted: two lines that run into each other are
//     better than a data path that stands. Its Unlock leaves the word alone. As
//     long as the same hold lasts, nobody in the process waits for it again.
type lock struct {
	s *Segment
	r *lockRecord

	mu    sync.Mutex
	entry atomic.Uint32 // how the one inside came in; written under mu
	stuck hold          // the one last given up on; guarded by mu
}

// How somebody is inside.
const (
	outside = iota // nobody is
	owning         // the word is ours, and the segment is entered
	without        // gave up waiting, or the segment is closed
)

// hold is one time between Lock and Unlock of one process.
type hold struct{ owner, turn uint64 }

const (
	tick     = 20 * time.Millisecond // between two looks whether the owner lives
	patience = 2 * time.Second       // with an owner that does
)

// LogLock is held around a write to a log file. Its Lock waits 2 s at most, and
// then goes on without. It panics if it is unlocked while it is not locked. After
// Close of the segment it excludes the goroutines of this process only.
func (s *Segment) LogLock() sync.Locker { return &s.log }

// AccessLogLock is the same for the access log: held around one batch of whole
// lines, and around reopening.
func (s *Segment) AccessLogLock() sync.Locker { return &s.accessLog }

func (l *lock) Lock() {
	l.mu.Lock()
	if !l.s.enter() {
		l.entry.Store(without)
		return
	}
	me := l.s.self.word()
	if l.r.owner.CompareAndSwap(0, me) || l.wait(me) {
		l.entry.Store(owning)
		return
	}
	l.s.leave()
	l.entry.Store(without)
}

func (l *lock) Unlock() {
	switch l.entry.Swap(outside) {
	case outside:
		panic("shm: unlock of a lock that this process does not hold")
	case owning:
		l.free(l.s.self.word())
		l.s.leave()
	}
	l.mu.Unlock()
}

// wait takes the word when it can be had; false if it is not to be waited for
// any longer.
func (l *lock) wait(me uint64) bool {
	end := time.Now().Add(l.s.patience)
	for slept := false; ; slept = true {
		w, turn := l.r.owner.Load(), l.r.turn.Load()
		h := hold{w &^ flag, turn}
		late := h == l.stuck || time.Until(end) <= 0
		switch {
		case h.owner == 0:
			// With the flag: there may be others who sleep.
			if l.r.owner.CompareAndSwap(w, me|flag) {
				return true
			}
			continue
		case (slept || late) && !identity(w).Alive():
			if l.r.owner.CompareAndSwap(w, me|flag) {
				l.r.takeovers.Add(1)
				return true
			}
			continue
		case late:
			l.stuck = h
			l.r.gaveUp.Add(1)
			return false
		}
		if w&flag != 0 || l.r.owner.CompareAndSwap(w, w|flag) {
			sleep(&l.r.owner, w|flag, min(tick, max(time.Until(end), 0)))
		}
	}
}

// free gives the word back and wakes one who waits for it.
func (l *lock) free(me uint64) {
	l.r.turn.Add(1) // while it is ours, so that our next hold differs from this one
	for {
		w := l.r.owner.Load()
		if w&^flag != me {
			return // somebody overwrote it: it is not ours to free
		}
		if l.r.owner.CompareAndSwap(w, 0) {
			if w&flag != 0 {
				wake(&l.r.owner)
			}
			return
		}
	}
}
