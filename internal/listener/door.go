package listener

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"belay/internal/accesslog"
	"belay/internal/eventloop"
	"belay/internal/ratelog"
	"belay/internal/stats"
	"belay/internal/transport"
)

// Door is a worker's waiting room: connections that are accepted and whose
// protocol has not begun. They are few and short-lived, and what they may cost is
// bounded in number, per source and in time.
//
//	accepted ──no gate──────────────────────────────────────────> served
//	   └─> proxy header ─> starttls ─> hello ─> chain ─> handshake ─> served
//	            └──────────────┴─────────┴────────┴─────────┴─> refused
type Door struct {
	loop       *eventloop.Worker
	shard      *stats.Shard
	handshakes *transport.Handshakes
	limits     *DoorLimits
	log        *slog.Logger
	access     *accesslog.Buffer // nil: none
	epoch      time.Time         // wall clock at loop time epochNS
	epochNS    int64

	oldest, newest *entrant
	waiting        int
	free           *entrant // by next
	freed          int
	scratch        [4 << 10]byte    // what is read to be dropped
	record         accesslog.Record // reused, as its TLS
	hello          accesslog.TLS

	quiet []func() // to be called when nothing waits or lingers
}

// DoorLimits bound the waiting connections of all workers.
type DoorLimits struct {
	HelloBytes int // of a ClientHello
	// WantDest fills Client.Dest in, for clusters that are told; set before the first
	// connection.
	WantDest bool
	max      int64
	open     atomic.Int64
	sources  *sources
	counts   doorStats
	said     ratelog.Lines[saidKey]
}

type doorStats struct {
	Open stats.Gauge
}

// NewDoorLimits makes them: most connections at once, most of one source (0: no
// limit), and the largest ClientHello in bytes.
func NewDoorLimits(most, perSource, helloBytes int, r *stats.Registry) *DoorLimits {
	l := &DoorLimits{max: int64(most), HelloBytes: helloBytes}
	if perSource > 0 {
		l.sources = newSources(perSource)
	}
	l.counts.Open = r.Gauge("belay_handshakes_open", "Connections that were accepted and whose protocol has not begun: PROXY header, STARTTLS, TLS handshake.")
	return l
}

// NewDoor makes a worker's door. It must be called before the loop runs.
func NewDoor(loop *eventloop.Worker, shard *stats.Shard, h *transport.Handshakes, l *DoorLimits, log *slog.Logger, access *accesslog.Buffer) *Door {
	d := &Door{loop: loop, shard: shard, handshakes: h, limits: l, log: log, access: access, epoch: time.Now(), epochNS: eventloop.Monotonic()}
	h.Settled = d.checkQuiet
	if access != nil {
		loop.AtTurnEnd(func() { access.Flush(loop.Now()) })
	}
	return d
}

// Serve takes over an accepted descriptor of the acceptor's listener and gives it
// to deliver when its protocol begins; a is told of every other end.
func (d *Door) Serve(a *Acceptor, g *Gate, fd int, peer netip.AddrPort, deliver func(Client)) {
	if g == nil {
		d.plain(a, fd, peer, deliver)
		return
	}
	e := d.obtain()
	raw, err := transport.Accept(d.loop, fd, e)
	if err != nil {
		d.dropped(a, peer, err)
		d.recycle(e)
		return
	}
	e.acc, e.gate, e.raw, e.deliver = a, g, raw, deliver
	e.peer, e.start = peer, d.loop.Now()
	e.admitted = !g.mayProxy(peer)
	if d.limits.WantDest || g.ports {
		e.dest, _ = eventloop.LocalAddr(fd) // without it a chain with a port is not met
	}
	_ = eventloop.SetNoDelay(fd) // a Unix socket has none
	d.append(e)
	d.loop.SetTimer(&e.timer, e, d.loop.Now()+int64(g.Config.Timeouts.Handshake))
	if d.limits.open.Load() > d.limits.max {
		first := d.oldest
		if first.refuse(failedShed, nil); first == e {
			return
		}
	}
	if e.admitted {
		e.afterProxy()
	}
}

// plain is a listener without a gate.
func (d *Door) plain(a *Acceptor, fd int, peer netip.AddrPort, deliver func(Client)) {
	raw, err := transport.Accept(d.loop, fd, nil)
	if err != nil {
		d.dropped(a, peer, err)
		return
	}
	c := Client{Socket: raw, Peer: peer}
	if d.limits.WantDest {
		c.Dest, _ = eventloop.LocalAddr(fd) // unknown, then
	}
	deliver(c)
}

func (d *Door) dropped(a *Acceptor, peer netip.AddrPort, err error) {
	d.log.Warn("connection dropped", "listener", a.Listener.Config.Name, "error", err)
	a.quit(peer, !a.Listener.Gate.mayProxy(peer))
}

// Waiting is how many connections wait.
func (d *Door) Waiting() int { return d.waiting }

// Abort ends every connection that waits.
func (d *Door) Abort() {
	for d.oldest != nil {
		d.oldest.end(true)
	}
}

// Hasten leaves the connections that wait no more than limit.
func (d *Door) Hasten(limit time.Duration) {
	at := d.loop.Now() + int64(limit)
	for e := d.oldest; e != nil; e = e.next {
		if e.timer.At() > at {
			d.loop.SetTimer(&e.timer, e, at)
		}
	}
}

// Quiet reports whether no connection waits at the door and no closed one still
// has bytes for its peer. If not, f is called once when that is so.
func (d *Door) Quiet(f func()) bool {
	if d.isQuiet() {
		return true
	}
	d.quiet = append(d.quiet, f)
	return false
}

func (d *Door) isQuiet() bool { return d.waiting == 0 && d.handshakes.Lingering() == 0 }

func (d *Door) checkQuiet() {
	if len(d.quiet) == 0 || !d.isQuiet() {
		return
	}
	todo := d.quiet
	d.quiet = nil
	for _, f := range todo {
		f()
	}
}

// append makes e the newest.
func (d *Door) append(e *entrant) {
	e.prev, e.next = d.newest, nil
	if d.newest != nil {
		d.newest.next = e
	} else {
		d.oldest = e
	}
	d.newest = e
	d.waiting++
	d.limits.open.Add(1)
	d.shard.GaugeAdd(d.limits.counts.Open, 1)
}

func (d *Door) remove(e *entrant) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		d.oldest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		d.newest = e.prev
	}
	e.prev, e.next = nil, nil
	d.waiting--
	d.limits.open.Add(-1)
	d.shard.GaugeAdd(d.limits.counts.Open, -1)
}

// maxFreeEntrants bounds what a burst leaves behind.
const maxFreeEntrants = 256

func (d *Door) obtain() *entrant {
	e := d.free
	if e == nil {
		return &entrant{d: d}
	}
	d.free, e.next = e.next, nil
	d.freed--
	return e
}

func (d *Door) recycle(e *entrant) {
	if e.gate = nil; d.freed >= maxFreeEntrants { // who still holds it sees that it is over
		return
	}
	hello := e.hello
	if hello != nil {
		hello.Reset()
	}
	*e = entrant{d: d, hello: hello, next: d.free}
	d.free = e
	d.freed++
}

func (d *Door) wall(ns int64) time.Time { return d.epoch.Add(time.Duration(ns - d.epochNS)) }
