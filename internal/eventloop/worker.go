package eventloop

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options are a Worker's settings; zero values mean the defaults.
type Options struct {
	ID              int   // what Worker.ID tells
	MaxEvents       int   // events taken in one turn; default 256
	FreeBufferBytes int64 // bytes of free buffers kept at most; default 16 MiB
}

// Task is something that goes on in the next turn.
type Task interface{ RunTask() }

// Worker is one event loop. Post, Stop, ID and Turns are for any goroutine; all
// else is for the worker's own thread, that is for what the loop calls, or for
// the time before Run.
type Worker struct {
	id     int
	epfd   int
	events []unix.EpollEvent
	slots  table
	now    int64
	stop   bool
	wheel  wheel

	tasks   []Task // deferred in this turn
	running []Task // deferred in earlier turns
	hooks   []func()

	buffers buffers
	box     mailbox
	turns   atomic.Uint64
}

// New makes a worker that does not run yet.
func New(o Options) (*Worker, error) {
	if o.MaxEvents <= 0 {
		o.MaxEvents = 256
	}
	if o.FreeBufferBytes <= 0 {
		o.FreeBufferBytes = 16 << 20
	}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &Worker{id: o.ID, epfd: epfd, events: make([]unix.EpollEvent, o.MaxEvents), now: Monotonic()}
	w.box.wakefd = wakefd
	w.wheel.start(w.now)
	w.buffers.start(w, o.FreeBufferBytes)
	// Edge-triggered, every write is an event, so nobody need read the counter.
	if _, err := w.Add(wakefd, waker{}, unix.EPOLLIN|unix.EPOLLET); err != nil {
		unix.Close(epfd)
		unix.Close(wakefd)
		return nil, err
	}
	return w, nil
}

// waker is the handler of the mailbox's eventfd: to be awake is all it is for.
type waker struct{}

func (waker) HandleEvents(Events) {}

// ID is the number given in Options.
func (w *Worker) ID() int { return w.id }

// Now is the time in ns, on Monotonic's scale, at which the current turn began.
func (w *Worker) Now() int64 { return w.now }

// Turns counts the turns begun, for a watchdog: a worker that has work but whose
// count stands still is stuck.
func (w *Worker) Turns() uint64 { return w.turns.Load() }

// Post has the worker run f, after what was posted before. It is the only way in
// from another goroutine; false means that the worker has ended and f will not
// run.
func (w *Worker) Post(f func()) bool { return w.box.post(f) }

// Stop ends the loop with the turn in which the worker sees it; what is posted
// until then is run.
func (w *Worker) Stop() { w.Post(func() { w.stop = true }) }

// Defer runs t once, in the next turn, which then does not wait for events.
func (w *Worker) Defer(t Task) { w.tasks = append(w.tasks, t) }

// AtTurnEnd has f called at the end of every turn, and a last time when the worker
// ends, in the order of registration.
func (w *Worker) AtTurnEnd(f func()) { w.hooks = append(w.hooks, f) }

// Run is the loop. It keeps its thread for itself and returns after Stop, or with
// the error that made epoll unusable; the worker has ended then. It is called
// once. A panic in a handler passes through: the state of its connection is
// unknown, and nothing is run after it.
func (w *Worker) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for !w.stop {
		n, err := w.wait()
		if err != nil {
			w.end()
			return err
		}
		w.turn(n)
	}
	w.end()
	return nil
}

// turn works off the n events fetched and all that is due beside them.
func (w *Worker) turn(n int) {
	w.now = Monotonic()
	w.turns.Add(1)
	w.running, w.tasks = w.tasks, w.running
	w.slots.deliver(w.events[:n])
	w.wheel.advance(w.now)
	w.box.run()
	for i, t := range w.running {
		w.running[i] = nil
		t.RunTask()
	}
	w.running = w.running[:0]
	for _, f := range w.hooks {
		f()
	}
}

// end refuses further posts and runs what was accepted since the last turn.
func (w *Worker) end() {
	w.box.close()
	for _, f := range w.hooks {
		f()
	}
	unix.Close(w.epfd)
	w.epfd = -1
}

// wait fetches events. It asks without waiting first: under load there is
// something, and then the raw call is all it takes (20 against 25 µs a request
// in the prototype). Only the call that may sleep goes through the scheduler.
func (w *Worker) wait() (int, error) {
	n, errno := w.poll()
	if n == 0 && errno == 0 && len(w.tasks) == 0 {
		timeout := w.wheel.timeout(Monotonic())
		if timeout == 0 || !w.box.sleep() {
			return 0, nil
		}
		n, errno = w.block(timeout)
		w.box.asleep.Store(false)
	}
	if errno != 0 && errno != syscall.EINTR {
		return 0, fmt.Errorf("epoll_pwait: %w", errno)
	}
	return n, nil
}

// poll is epoll_pwait with timeout 0; arm64 has no epoll_wait.
func (w *Worker) poll() (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epfd), uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// block is epoll_pwait that sleeps up to timeout ms, -1 without end.
func (w *Worker) block(timeout int) (int, syscall.Errno) {
	n, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epfd), uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
