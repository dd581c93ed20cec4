package transport

import (
	"crypto/tls"
	"errors"
	"iter"
	"slices"
	"time"

	"belay/internal/eventloop"
)

// Handshakes runs the TLS handshakes of one worker, each in a coroutine of its
// own that parks where crypto/tls would wait for bytes.
//
// A handshake costs a fifth of a millisecond, and nothing else on the worker
// moves meanwhile. So a turn of the loop advances only a few; whoever comes
// later waits in a queue, first come first served, for the turns that follow.
type Handshakes struct {
	loop  *eventloop.Worker
	limit int

	turn  uint64 // the turn that spent is of
	spent int    // steps made in it

	queue     []*TLS // from head on; those without tlsQueued have left
	head      int
	waiting   int // in queue and not left
	scheduled bool

	open      int          // not yet decided
	lingering []*straggler // oldest first
	mayLinger int
	// Settled, if not nil, is called on the worker when none lingers any more.
	Settled func()
	idle    []*coroutine
	joined  [maxRecord]byte // two pieces of a Write on their way into one record
}

const (
	defaultSteps = 4
	maxIdle      = 64 // coroutines kept, with their grown stacks
	lingerTime   = int64(30 * time.Second)
	maxLingering = 256 // of a worker; one more and the oldest is reset
)

// errAbandoned ends crypto/tls's part of a handshake whose socket was closed.
var errAbandoned = errors.New("transport: TLS handshake abandoned")

// NewHandshakes is for one worker; steps is how many handshakes a turn of its
// loop may advance, 0 for the default of 4.
func NewHandshakes(loop *eventloop.Worker, steps int) *Handshakes {
	if steps <= 0 {
		steps = defaultSteps
	}
	return &Handshakes{loop: loop, limit: steps, mayLinger: maxLingering}
}

// Open counts the sockets whose handshake is not decided, those that have not
// said a word included. The owners bound it, and the time each one takes.
func (h *Handshakes) Open() int { return h.open }

// Waiting counts those that the limit per turn keeps waiting.
func (h *Handshakes) Waiting() int { return h.waiting }

// Lingering counts closed sockets whose last bytes the peer has not taken yet.
func (h *Handshakes) Lingering() int { return len(h.lingering) }

// Close ends the coroutines that are kept for reuse. It is called on the worker,
// when no handshake is open.
func (h *Handshakes) Close() {
	for _, c := range h.idle {
		c.stop()
	}
	h.idle = nil
}

// advance goes on with t's handshake if it can, and if it is its turn.
func (h *Handshakes) advance(t *TLS) error {
	first := t.co == nil
	if !(first && t.flags&tlsClient != 0) && t.fill() == ErrAgain || !h.admit(t) {
		return ErrAgain
	}
	if first {
		h.start(t)
	}
	before := t.records
	t.co.next()
	if first && t.flags&tlsClient != 0 || t.records != before {
		h.spent++
	}
	if t.co.t == nil {
		h.decide(t)
	}
	t.flush()
	switch {
	case t.failed != nil:
		return t.failed
	case t.flags&tlsOpen == 0:
		return ErrAgain
	}
	return nil
}

// start gives t a coroutine and its tls.Conn: a client that never speaks has
// neither.
func (h *Handshakes) start(t *TLS) {
	t.began = eventloop.Monotonic()
	if t.flags&tlsClient != 0 {
		t.conn = tls.Client((*wire)(t), t.cfg)
	} else {
		t.conn = tls.Server((*wire)(t), t.cfg)
	}
	t.cfg = nil
	if last := len(h.idle) - 1; last >= 0 {
		t.co = h.idle[last]
		h.idle[last] = nil
		h.idle = h.idle[:last]
	} else {
		t.co = newCoroutine()
	}
	t.co.t = t
}

// decide takes the outcome. tlsMore has the owner read once: bytes that came
// with the last flight raise no event.
func (h *Handshakes) decide(t *TLS) {
	err := t.co.err
	h.keep(t.co)
	t.co = nil
	t.ended = eventloop.Monotonic()
	h.leave(t)
	if err != nil {
		t.failed = t.newHandshakeError(err)
		t.in.drop(h.loop)
		return
	}
	t.flags |= tlsOpen | tlsMore
}

func (h *Handshakes) keep(c *coroutine) {
	c.err = nil
	if len(h.idle) < maxIdle {
		h.idle = append(h.idle, c)
		return
	}
	c.stop()
}

// abandon ends what t has here.
func (h *Handshakes) abandon(t *TLS) {
	if t.co != nil {
		t.flags |= tlsAbandoned
		t.co.next()
		h.keep(t.co)
		t.co = nil
	}
	h.leave(t)
}

func (h *Handshakes) leave(t *TLS) {
	if t.flags&tlsCounted != 0 {
		h.open--
	}
	if t.flags&tlsQueued != 0 {
		h.waiting--
	}
	t.flags &^= tlsCounted | tlsQueued
}

// admit reports whether t may go on now; if not, it has its place in the queue
// and its owner is called when its turn has come.
func (h *Handshakes) admit(t *TLS) bool {
	if t.flags&tlsGranted != 0 {
		t.flags &^= tlsGranted
		return true
	}
	h.newTurn()
	if h.spent < h.limit && h.waiting == 0 {
		return true
	}
	if t.flags&tlsQueued == 0 {
		t.flags |= tlsQueued
		h.queue = append(h.queue, t)
		h.waiting++
		h.schedule()
	}
	return false
}

func (h *Handshakes) newTurn() {
	if turn := h.loop.Turns(); turn != h.turn {
		h.turn, h.spent = turn, 0
	}
}

func (h *Handshakes) schedule() {
	if !h.scheduled {
		h.scheduled = true
		h.loop.Defer(h)
	}
}

// RunTask lets those go on who have waited longest.
func (h *Handshakes) RunTask() {
	h.scheduled = false
	h.newTurn()
	for h.spent < h.limit && h.head < len(h.queue) {
		t := h.queue[h.head]
		h.queue[h.head] = nil
		h.head++
		if t.flags&tlsQueued == 0 {
			continue
		}
		t.flags = t.flags&^tlsQueued | tlsGranted
		h.waiting--
		t.owner.Ready(eventloop.In)
		t.flags &^= tlsGranted
	}
	if h.head == len(h.queue) {
		h.queue, h.head = h.queue[:0], 0
	} else if h.head > len(h.queue)/2 {
		n := copy(h.queue, h.queue[h.head:])
		clear(h.queue[n:])
		h.queue, h.head = h.queue[:n], 0
	}
	if h.waiting > 0 {
		h.schedule()
	}
}

// coroutine runs one handshake after the other. It switches on the worker's
// thread, in 60 ns; that is why it is made on the worker, which is locked to its
// thread, and used nowhere else.
type coroutine struct {
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	t     *TLS  // whose handshake runs; nil when it is over
	err   error // how it went
}

func newCoroutine() *coroutine {
	c := &coroutine{}
	c.next, c.stop = iter.Pull(c.run)
	return c
}

func (c *coroutine) run(yield func(struct{}) bool) {
	c.yield = yield
	for {
		c.err = c.t.conn.Handshake()
		c.t = nil
		if !yield(struct{}{}) {
			return
		}
	}
}

// park returns when there is something new, or false when nothing will be.
func (c *coroutine) park() bool { return c.yield(struct{}{}) }

// straggler is the owner of a closed TLS's Raw until the last bytes are gone.
type straggler struct {
	t     *TLS
	timer eventloop.Timer
}

// linger leaves t's Raw to itself, for a bounded time.
func (h *Handshakes) linger(t *TLS) {
	s := &straggler{t: t}
	t.owner = nil
	t.raw.SetOwner(s)
	t.raw.SetFirst(false)
	if len(h.lingering) >= h.mayLinger { // they count as nobody's connections any more
		h.lingering[0].end((*Raw).Reset)
	}
	h.lingering = append(h.lingering, s)
	h.loop.SetTimer(&s.timer, s, h.loop.Now()+lingerTime)
}

// Ready sends on. The peer's half-close is no reason to stop; its being gone is.
func (s *straggler) Ready(ev eventloop.Events) {
	if s.t.flush() || ev&(eventloop.Hup|eventloop.Err) != 0 {
		s.end((*Raw).Close)
	}
}

// HandleTimer gives up.
func (s *straggler) HandleTimer(*eventloop.Timer) { s.end((*Raw).Close) }

func (s *straggler) end(how func(*Raw)) {
	t := s.t
	t.h.loop.StopTimer(&s.timer)
	t.h.lingering = slices.DeleteFunc(t.h.lingering, func(x *straggler) bool { return x == s })
	t.out.drop(t.h.loop)
	how(t.raw)
	if len(t.h.lingering) == 0 && t.h.Settled != nil {
		t.h.Settled()
	}
}
