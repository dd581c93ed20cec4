package eventloop

import "math/bits"

// The wheel has four levels of slots, each slot a ring of timers:
//
//	level 0: 256 slots of one tick (4 ms)     → about 1 s
//	level 1:  64 slots of 256 ticks (1.02 s)  → about 65 s
//	level 2:  64 slots of 16384 ticks (65 s)  → about 70 min
//	level 3:  64 slots of 2^20 ticks (70 min) → about 3 days; later ones wait in its last slot
//
// A timer is put in by its time's distance and moved down when its slot's turn
// comes. One that was only moved later stays where it is until then.
const (
	tickShift = 22 // 4.19 ms in ns
	level0    = 8
	levelN    = 6
	levels    = 4
)

// Timer is a time at which its handler is called; embed it in its owner, which
// must not move while the timer is armed.
type Timer struct {
	next, prev *Timer
	h          TimerHandler
	at         int64
	ring       *ring // nil: not in the wheel
	when       int64 // tick it was put in for
}

// TimerHandler is told that a timer's time has come; the timer is not armed then.
type TimerHandler interface{ HandleTimer(t *Timer) }

// Armed reports whether the timer will fire.
func (t *Timer) Armed() bool { return t.ring != nil }

// At is the time the timer is set to, in Now's ns.
func (t *Timer) At() int64 { return t.at }

type ring struct{ head Timer }

type wheel struct {
	tick  int64
	count int
	l0    [1 << level0]ring
	ln    [levels - 1][1 << levelN]ring
	bits0 [1 << level0 / 64]uint64
	bitsN [levels - 1]uint64
}

func (w *wheel) start(now int64) {
	w.tick = now >> tickShift
	for i := range w.l0 {
		w.l0[i].head.next, w.l0[i].head.prev = &w.l0[i].head, &w.l0[i].head
	}
	for l := range w.ln {
		for i := range w.ln[l] {
			h := &w.ln[l][i].head
			h.next, h.prev = h, h
		}
	}
}

// SetTimer has h called at the time at, never early and at most a tick and a
// turn late. Moving an armed timer later is one store.
func (w *Worker) SetTimer(t *Timer, h TimerHandler, at int64) {
	t.h = h
	t.at = at
	if t.ring != nil {
		if (at>>tickShift)+1 >= t.when {
			return
		}
		w.wheel.unlink(t)
	}
	w.wheel.insert(t, w.wheel.tick+1)
}

// StopTimer disarms t.
func (w *Worker) StopTimer(t *Timer) {
	if t.ring != nil {
		w.wheel.unlink(t)
	}
}

// insert puts t in for the tick after its time, at the earliest for tick first.
func (w *wheel) insert(t *Timer, first int64) {
	when := max(t.at>>tickShift+1, first)
	t.when = when
	d := when - w.tick
	var r *ring
	switch {
	case d < 1<<level0:
		i := when & (1<<level0 - 1)
		r = &w.l0[i]
		w.bits0[i/64] |= 1 << (i % 64)
	default:
		l := 0
		for l < levels-2 && d >= 1<<(level0+levelN*(l+1)) {
			l++
		}
		shift := level0 + levelN*l
		if d >= 1<<(shift+levelN) {
			when = w.tick + 1<<(shift+levelN) - 1
		}
		i := when >> shift & (1<<levelN - 1)
		r = &w.ln[l][i]
		w.bitsN[l] |= 1 << i
	}
	t.ring = r
	h := &r.head
	t.prev, t.next = h.prev, h
	h.prev.next = t
	h.prev = t
	w.count++
}

func (w *wheel) unlink(t *Timer) {
	t.prev.next, t.next.prev = t.next, t.prev
	t.next, t.prev, t.ring = nil, nil, nil
	w.count--
}

// advance fires what is due at now.
func (w *wheel) advance(now int64) {
	target := now >> tickShift
	for w.tick < target {
		if w.count == 0 {
			w.tick = target
			return
		}
		next := w.nextTick()
		if next > target {
			w.tick = target
			return
		}
		w.tick = next
		w.cascade()
		i := next & (1<<level0 - 1)
		w.fire(&w.l0[i], now)
		if r := &w.l0[i]; r.head.next == &r.head {
			w.bits0[i/64] &^= 1 << (i % 64)
		}
	}
}

// nextTick is the next tick at which something is to be done: a slot of level 0,
// or the border at which a higher level is looked into.
func (w *wheel) nextTick() int64 {
	border := (w.tick>>level0 + 1) << level0
	pos := int(w.tick&(1<<level0-1)) + 1
	for word := pos / 64; word < len(w.bits0); word++ {
		b := w.bits0[word]
		if word == pos/64 {
			b &= ^uint64(0) << (pos % 64)
		}
		if b != 0 {
			return w.tick&^(1<<level0-1) + int64(word*64+bits.TrailingZeros64(b))
		}
	}
	low := w.bits0[0] | w.bits0[1] | w.bits0[2] | w.bits0[3]
	if low != 0 || w.bitsN[0] == 0 && w.bitsN[1]|w.bitsN[2] != 0 {
		return border
	}
	if w.bitsN[0] == 0 {
		return border
	}
	// Nothing on level 0: jump to the next used slot of level 1, or its border.
	at := w.tick >> level0
	p := int(at&(1<<levelN-1)) + 1
	if p < 1<<levelN {
		if b := w.bitsN[0] & (^uint64(0) << p); b != 0 {
			return (at&^(1<<levelN-1) + int64(bits.TrailingZeros64(b))) << level0
		}
	}
	return (at>>levelN + 1) << (level0 + levelN)
}

// cascade moves the timers of higher slots whose turn has come down.
func (w *wheel) cascade() {
	for l := levels - 2; l >= 0; l-- {
		shift := level0 + levelN*l
		if w.tick&(1<<shift-1) != 0 {
			continue
		}
		i := w.tick >> shift & (1<<levelN - 1)
		if w.bitsN[l]&(1<<i) == 0 {
			continue
		}
		w.bitsN[l] &^= 1 << i
		r := &w.ln[l][i]
		for r.head.next != &r.head { // every one of them goes to another slot
			t := r.head.next
			w.unlink(t)
			w.insert(t, w.tick)
		}
	}
}

// fire calls the handlers of a slot; a timer that was moved later goes back in.
func (w *wheel) fire(r *ring, now int64) {
	n := 0
	for t := r.head.next; t != &r.head; t = t.next {
		n++
	}
	for ; n > 0 && r.head.next != &r.head; n-- {
		t := r.head.next
		w.unlink(t)
		if t.at > now {
			w.insert(t, w.tick+1)
			continue
		}
		t.h.HandleTimer(t)
	}
}

// timeout is what epoll_wait may sleep, in ms; -1: for ever.
func (w *wheel) timeout(now int64) int {
	if w.count == 0 {
		return -1
	}
	d := w.nextTick()<<tickShift - now
	if d <= 0 {
		return 0
	}
	return int((d + 999_999) / 1_000_000)
}
