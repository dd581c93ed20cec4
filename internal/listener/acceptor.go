package listener

import (
	"log/slog"
	"net/netip"
	"syscall"
	"time"

	"belay/internal/eventloop"
	"belay/internal/stats"
)

// acceptsPerTurn bounds what one listen socket may take before connections that
// are already open get their turn.
const acceptsPerTurn = 64

// throttleTime is how long accepting rests when a limit is reached; the end of
// a connection on the same worker ends the rest early.
const throttleTime = 20 * time.Millisecond

// recoveryTime is how long accepting must then stay free for the trouble to be
// over, so that a listener at its limit does not fill the log.
const recoveryTime = time.Second

// Acceptor accepts on one worker's share of a listener's sockets.
//
//	stopped ──Start──> polling ──limit, EMFILE──> throttled ──timer, Resume──> polling
//	                      └───────────Stop──────────────┴────> stopped
type Acceptor struct {
	Listener *Listener
	loop     *eventloop.Worker
	shard    *stats.Shard
	st       Stats
	limit    *Limit
	log      *slog.Logger
	// serve takes over an accepted descriptor.
	serve func(fd int, peer netip.AddrPort)

	socks []acceptSocket
	state acceptState
	timer eventloop.Timer
}

type acceptState uint8

const (
	acceptStopped acceptState = iota
	acceptPolling
	acceptThrottled
)

// acceptSocket is one polled listen socket.
type acceptSocket struct {
	a     *Acceptor
	fd    int
	token eventloop.Token
}

// NewAcceptor makes a stopped Acceptor for the sockets fds. serve owns each
// descriptor it is given and calls Done when the connection has ended.
func NewAcceptor(l *Listener, fds []int, loop *eventloop.Worker, shard *stats.Shard, st Stats, limit *Limit, log *slog.Logger, serve func(int, netip.AddrPort)) *Acceptor {
	a := &Acceptor{Listener: l, loop: loop, shard: shard, st: st, limit: limit, log: log, serve: serve}
	for _, fd := range fds {
		a.socks = append(a.socks, acceptSocket{a: a, fd: fd})
	}
	return a
}

// Start begins to accept, or goes on after Stop. What is queued is reported at
// once. On error it is tried again and again: the caller says it once, the end of
// the trouble is logged here.
func (a *Acceptor) Start() error {
	if a.state != acceptStopped {
		return nil
	}
	err := a.poll()
	if err != nil {
		a.rest()
		a.Listener.paused.Store(true)
	}
	return err
}

// rest is throttleTime without accepting.
func (a *Acceptor) rest() {
	a.state = acceptThrottled
	a.loop.SetTimer(&a.timer, a, a.loop.Now()+int64(throttleTime))
}

// Renew takes the sockets out of the loop and puts them in again, by which the
// kernel reports what is queued: for the process that takes accepting over, after
// the one that gives it has stopped. A stopped or throttled Acceptor stays so.
// On error accepting goes on after a rest.
func (a *Acceptor) Renew() error {
	if a.state != acceptPolling {
		return nil
	}
	a.unpoll()
	err := a.poll()
	if err != nil {
		a.rest()
	}
	return err
}

func (a *Acceptor) poll() error {
	for i := range a.socks {
		s := &a.socks[i]
		t, err := a.loop.Add(s.fd, s, eventloop.Level)
		if err != nil {
			a.unpoll()
			return err
		}
		s.token = t
	}
	a.state = acceptPolling
	return nil
}

// Stop takes the sockets out of the loop and then accepts what was already
// queued, so that closing the sockets afterwards resets nobody and another
// process that polls them misses nothing. At a limit the rest stays queued. The
// Acceptor may be started again.
func (a *Acceptor) Stop() {
	if a.state == acceptStopped {
		return
	}
	a.unpoll()
	a.loop.StopTimer(&a.timer)
	a.state = acceptStopped
	a.Listener.paused.Store(false)
	for i := range a.socks {
		for a.acceptOne(a.socks[i].fd) {
		}
	}
}

func (a *Acceptor) unpoll() {
	var none eventloop.Token
	for i := range a.socks {
		if s := &a.socks[i]; s.token != none {
			a.loop.Remove(s.token)
			s.token = none
		}
	}
}

// HandleEvents accepts what is queued, up to a turn's share; the registration
// is level-triggered, so the rest is reported again.
func (s *acceptSocket) HandleEvents(eventloop.Events) {
	for range acceptsPerTurn {
		if s.a.state != acceptPolling || !s.a.acceptOne(s.fd) {
			return
		}
	}
}

// acceptOne takes one connection off the queue and reports whether to go on.
func (a *Acceptor) acceptOne(fd int) bool {
	if !a.limit.enter() {
		a.throttle("connection limit reached", "limit", a.limit.Max)
		return false
	}
	if m := a.Listener.Config.MaxConnections; m > 0 && a.Listener.active.Load() >= int64(m) {
		a.limit.Leave()
		a.throttle("connection limit of the listener reached", "limit", m)
		return false
	}
	nfd, peer, errno := eventloop.Accept(fd)
	if errno != 0 {
		a.limit.Leave()
		return a.failed(errno)
	}
	if p := a.Listener.probe.Load(); p != nil && a.Listener.met(p, nfd, peer) {
		a.limit.Leave()
		eventloop.Close(nfd)
		return true
	}
	a.shard.Inc(a.st.Accepted)
	a.Listener.active.Add(1)
	if !a.Listener.Gate.mayProxy(peer) && a.admit(peer) != Admitted {
		eventloop.Close(nfd)
		a.quit(peer, false)
		return true
	}
	a.serve(nfd, peer)
	return true
}

// failed sorts the errors of accept4(2): those of one connection are skipped,
// those of a resource pause accepting.
func (a *Acceptor) failed(errno syscall.Errno) bool {
	switch errno {
	case syscall.EAGAIN:
		return false
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		a.throttle("no descriptor or memory for a new connection", "error", errno)
		return false
	case syscall.ECONNABORTED, syscall.EINTR, syscall.EPROTO, syscall.EPERM:
		a.shard.Inc(a.st.Failed)
		return true
	}
	a.shard.Inc(a.st.Failed)
	a.throttle("accept failed", "error", errno)
	return false
}

// throttle stops polling for a while; the queue of the kernel holds what comes.
// It is logged once until accepting has been free again.
func (a *Acceptor) throttle(msg string, args ...any) {
	if a.state != acceptPolling {
		return
	}
	a.unpoll()
	a.shard.Inc(a.st.Throttled)
	a.rest()
	if a.Listener.paused.CompareAndSwap(false, true) {
		a.log.Warn("accepting is throttled: "+msg, append([]any{"listener", a.Listener.Config.Name}, args...)...)
	}
}

// HandleTimer ends a rest, or, when accepting has then been free for a while,
// says that the trouble is over.
func (a *Acceptor) HandleTimer(*eventloop.Timer) {
	if a.state == acceptThrottled {
		a.resume()
		return
	}
	if a.Listener.paused.CompareAndSwap(true, false) {
		a.log.Info("accepting again", "listener", a.Listener.Config.Name)
	}
}

func (a *Acceptor) resume() {
	wait := recoveryTime
	if err := a.poll(); err != nil {
		wait = throttleTime
	}
	a.loop.SetTimer(&a.timer, a, a.loop.Now()+int64(wait))
}

// admit asks whether a client may come in, and counts who may not.
func (a *Acceptor) admit(peer netip.AddrPort) Rejection {
	why := a.Listener.admit(peer)
	if why != Admitted {
		a.shard.Inc(a.st.Rejected[why])
	}
	return why
}

// Done gives back the place of a connection that serve was given.
func (a *Acceptor) Done(peer netip.AddrPort) { a.quit(peer, true) }

// quit is Done for a connection whose client may not have been admitted.
func (a *Acceptor) quit(peer netip.AddrPort, admitted bool) {
	if admitted {
		a.Listener.leave(peer)
	}
	a.Listener.active.Add(-1)
	a.limit.Leave()
	if a.state == acceptThrottled {
		a.resume()
	}
}
