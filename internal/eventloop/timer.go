package eventloop

// Timer is a time at which its handler is called, once. It is embedded by value
// in its owner, must not be copied while armed, and keeps the owner alive until
// it fires or is stopped. The zero Timer is not armed.
type Timer struct {
	next, prev *Timer // ring of the slot
	h          TimerHandler
	at         int64 // ns
	visit      int64 // tick at which the wheel looks at it
	slot       int16 // 1 + index into wheel.slots; 0: not armed
}

// TimerHandler is told that a timer's time has come, on the worker. The timer is
// no longer armed then and may be set anew.
type TimerHandler interface{ HandleTimer(t *Timer) }

// Armed reports whether the timer will fire.
func (t *Timer) Armed() bool { return t.slot != 0 }

// At is the time the timer was last set to, in ns on Now's scale.
func (t *Timer) At() int64 { return t.at }

// SetTimer has h called at the time at (ns on Now's scale): never early, and at
// most a tick of 4 ms and epoll_wait's 1 ms late, unless the turns are longer.
// Moving an armed timer later is one store; that is what the time limits of a
// busy connection do all the time.
func (w *Worker) SetTimer(t *Timer, h TimerHandler, at int64) { w.wheel.set(t, h, at) }

// StopTimer disarms t.
func (w *Worker) StopTimer(t *Timer) { w.wheel.stop(t) }
