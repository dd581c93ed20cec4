package eventloop

import (
	"math"
	"math/bits"
)

// The wheel reads a tick number as digits of six bits. Level l has one slot per
// value of digit l, and a timer is in the level of the highest digit in which
// its tick differs from the present one:
//
//	level  slots of      holds
//	0      4 ms          the ticks left of the present 256 ms
//	1      256 ms        … of the present 16 s
//	2      16 s          … of the present 17 min
//	3      17 min        … of the present 18 h
//	4, 5   18 h, 49 days … of the present 49 days, 8 years
//	6      8 years       the rest: 42 bits hold every int64 of ns
//
// So everything on a level is due before everything on the next, and the first
// used slot of the lowest used level is what comes next. When a slot above
// level 0 begins, its timers move down; one that was set later meanwhile goes to
// where it belongs now. A timer is looked at once per level at most, and between
// those times the loop may sleep.
const (
	tickNS    = 4_000_000
	digitBits = 6
	digits    = 1 << digitBits
	levels    = 7
)

// wheel holds the timers of a worker. It knows no clock: it is told the time.
type wheel struct {
	tick  int64          // worked off; no timer's visit is before or at it
	used  [levels]uint64 // slots that are not empty
	slots [levels * digits]*Timer
}

func (w *wheel) start(now int64) { w.tick = now / tickNS }

// dueTick is the first tick at or after a time.
func dueTick(at int64) int64 {
	tick := at / tickNS
	if at%tickNS > 0 {
		tick++
	}
	return tick
}

func (w *wheel) set(t *Timer, h TimerHandler, at int64) {
	t.h = h
	if t.slot != 0 {
		if at >= t.at || dueTick(at) >= t.visit {
			t.at = at
			return
		}
		w.unlink(t)
	}
	t.at = at
	w.insert(t, max(dueTick(at), w.tick+1))
}

func (w *wheel) stop(t *Timer) {
	if t.slot != 0 {
		w.unlink(t)
	}
}

// insert puts t where it is looked at no later than at the tick due.
func (w *wheel) insert(t *Timer, due int64) {
	level := 0
	if differ := uint64(due ^ w.tick); differ != 0 {
		level = (bits.Len64(differ) - 1) / digitBits
	}
	shift := level * digitBits
	t.visit = due >> shift << shift
	digit := int(due>>shift) & (digits - 1)
	w.used[level] |= 1 << digit
	i := level*digits + digit
	t.slot = int16(i + 1)
	head := w.slots[i]
	if head == nil {
		t.next, t.prev = t, t
		w.slots[i] = t
		return
	}
	t.next, t.prev = head, head.prev
	head.prev.next = t
	head.prev = t
}

func (w *wheel) unlink(t *Timer) {
	i := int(t.slot) - 1
	switch {
	case t.next == t:
		w.slots[i] = nil
		w.used[i/digits] &^= 1 << (i % digits)
	case w.slots[i] == t:
		w.slots[i] = t.next
		fallthrough
	default:
		t.prev.next, t.next.prev = t.next, t.prev
	}
	t.next, t.prev, t.slot = nil, nil, 0
}

// next is the slot to be looked at next and the tick at which it begins; slot -1
// means that no timer is armed.
func (w *wheel) next() (slot int, tick int64) {
	for level, used := range w.used {
		if used == 0 {
			continue
		}
		digit := bits.TrailingZeros64(used)
		shift := level * digitBits
		above := w.tick >> (shift + digitBits) << (shift + digitBits)
		return level*digits + digit, above + int64(digit)<<shift
	}
	return -1, math.MaxInt64
}

// advance fires what is due at now (ns). Handlers may set and stop any timer; one
// set for the present or the past fires at a later tick, never in a circle.
func (w *wheel) advance(now int64) {
	target := now / tickNS
	for {
		slot, tick := w.next()
		if tick > target {
			break
		}
		w.tick = tick
		// Nothing set meanwhile comes into this slot: later ticks that share its
		// digit differ in a higher one.
		for t := w.slots[slot]; t != nil; t = w.slots[slot] {
			w.unlink(t)
			if due := dueTick(t.at); due > tick {
				w.insert(t, due)
			} else {
				t.h.HandleTimer(t)
			}
		}
	}
	w.tick = max(w.tick, target)
}

// timeout is how long epoll_wait may sleep, in ms; -1 means for ever.
func (w *wheel) timeout(now int64) int {
	slot, tick := w.next()
	if slot < 0 {
		return -1
	}
	d := tick*tickNS - now
	if d <= 0 {
		return 0
	}
	return int(min((d-1)/1_000_000+1, math.MaxInt32))
}
