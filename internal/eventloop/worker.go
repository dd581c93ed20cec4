// Package eventloop is the ground the data path stands on: workers that each run
// an epoll loop on a thread of their own, with timers, buffers and a mailbox, and
// the thin non-blocking socket calls they use.
//
// One turn, in order: epoll_wait → clock → events of the registrations marked
// first → the other events → timers → mailbox → deferred tasks → turn-end hooks.
package eventloop

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options are a Worker's settings; zero values mean the defaults.
type Options struct {
	ID              int
	MaxEvents       int   // events taken in one turn; default 256
	FreeBufferBytes int64 // free buffers kept at most; default 16 MiB
}

// Events are epoll's (epoll_ctl(2)).
type Events uint32

// What a Handler can be told.
const (
	In    Events = unix.EPOLLIN
	Out   Events = unix.EPOLLOUT
	RdHup Events = unix.EPOLLRDHUP
	Hup   Events = unix.EPOLLHUP
	Err   Events = unix.EPOLLERR
)

// Mode is how a descriptor is registered.
type Mode uint32

const (
	// Edge reports both directions, once per change: connections.
	Edge Mode = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | 1<<31
	// Level reports as long as there is something to read: listen sockets.
	Level Mode = unix.EPOLLIN
)

// Handler is told of the events of a registered descriptor.
type Handler interface{ HandleEvents(ev Events) }

// Task is something that goes on in the next turn.
type Task interface{ RunTask() }

// Token names one registration; the zero Token names none.
type Token struct{ slot, gen uint32 }

// slot is the place of a registration. Its number and generation travel through
// the kernel, so an event of a closed descriptor never reaches the next user of
// the slot.
type slot struct {
	h     Handler
	fd    int32
	gen   uint32
	next  uint32 // free list
	first bool
}

// Worker is one event loop. All methods but Post, Stop, ID and Turns are for the
// worker's own thread, or for the time before Run.
type Worker struct {
	id     int
	epfd   int
	wakefd int
	events []unix.EpollEvent
	now    int64
	turns  atomic.Uint64

	slots []slot // slot 0 is unused
	free  uint32

	wheel   wheel
	buffers buffers
	tasks   []Task
	running []Task
	hooks   []func()

	box  mailbox
	stop bool
}

// mailbox takes functions from other goroutines.
type mailbox struct {
	mu     sync.Mutex
	posted []func()    // guarded by mu
	closed bool        // guarded by mu
	spare  []func()    // the worker's
	full   atomic.Bool // something is posted: looked at without mu
	asleep atomic.Bool // the worker may be in a blocking epoll_wait
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
	w := &Worker{id: o.ID, epfd: epfd, wakefd: wakefd, events: make([]unix.EpollEvent, o.MaxEvents), slots: make([]slot, 1, 64), now: Monotonic()}
	w.wheel.start(w.now)
	w.buffers.limit = o.FreeBufferBytes
	if _, err := w.Add(wakefd, waker{w}, Level); err != nil {
		unix.Close(epfd)
		unix.Close(wakefd)
		return nil, err
	}
	return w, nil
}

// waker empties the eventfd.
type waker struct{ w *Worker }

func (k waker) HandleEvents(Events) {
	var b [8]byte
	Read(k.w.wakefd, b[:])
}

// ID is the number given in Options.
func (w *Worker) ID() int { return w.id }

// Now is the monotonic time in ns at which the current turn began.
func (w *Worker) Now() int64 { return w.now }

// Turns counts the turns; any goroutine may ask.
func (w *Worker) Turns() uint64 { return w.turns.Load() }

// Add registers fd.
func (w *Worker) Add(fd int, h Handler, m Mode) (Token, error) {
	i := w.free
	if i != 0 {
		w.free = w.slots[i].next
	} else {
		i = uint32(len(w.slots))
		w.slots = append(w.slots, slot{gen: 1})
	}
	s := &w.slots[i]
	s.h, s.fd, s.first = h, int32(fd), false
	ev := unix.EpollEvent{Events: uint32(m), Fd: int32(i), Pad: int32(s.gen)}
	if err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		w.release(i)
		return Token{}, fmt.Errorf("epoll_ctl add: %w", err)
	}
	return Token{i, s.gen}, nil
}

func (w *Worker) release(i uint32) {
	s := &w.slots[i]
	s.h = nil
	s.gen++
	s.next = w.free
	w.free = i
}

func (w *Worker) live(t Token) bool {
	return t.slot != 0 && int(t.slot) < len(w.slots) && w.slots[t.slot].gen == t.gen && w.slots[t.slot].h != nil
}

// Remove ends a registration in the kernel too. It must come before the close of
// a descriptor of which a duplicate may live on: the registration belongs to the
// open file, not to the descriptor (epoll(7)).
func (w *Worker) Remove(t Token) error {
	if !w.live(t) {
		return nil
	}
	fd := int(w.slots[t.slot].fd)
	w.release(t.slot)
	if err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("epoll_ctl del: %w", err)
	}
	return nil
}

// Forget ends a registration whose descriptor the caller closes right after,
// which without a duplicate ends it in the kernel.
func (w *Worker) Forget(t Token) {
	if w.live(t) {
		w.release(t.slot)
	}
}

// SetHandler moves a registration to another handler.
func (w *Worker) SetHandler(t Token, h Handler) {
	if w.live(t) {
		w.slots[t.slot].h = h
	}
}

// SetFirst has a registration's events delivered before those of others.
func (w *Worker) SetFirst(t Token, first bool) {
	if w.live(t) {
		w.slots[t.slot].first = first
	}
}

// Defer runs t once in the next turn.
func (w *Worker) Defer(t Task) { w.tasks = append(w.tasks, t) }

// AtTurnEnd has f called at the end of every turn.
func (w *Worker) AtTurnEnd(f func()) { w.hooks = append(w.hooks, f) }

// Post has the worker run f. It is the only way in from another goroutine; false
// means that the worker has ended and f will not run.
func (w *Worker) Post(f func()) bool {
	b := &w.box
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	b.posted = append(b.posted, f)
	b.mu.Unlock()
	b.full.Store(true)
	if b.asleep.Load() {
		w.wake()
	}
	return true
}

func (w *Worker) wake() {
	one := [8]byte{1}
	unix.Write(w.wakefd, one[:])
}

// Stop ends the loop after what was posted before has run.
func (w *Worker) Stop() { w.Post(func() { w.stop = true }) }

// Run is the loop. It keeps its thread for itself and returns after Stop.
func (w *Worker) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer w.close()
	for !w.stop {
		n, err := w.wait()
		if err != nil {
			return err
		}
		w.now = Monotonic()
		w.turns.Add(1)
		w.deliver(w.events[:n])
		w.wheel.advance(w.now)
		w.runPosted()
		w.runTasks()
		for _, f := range w.hooks {
			f()
		}
		w.buffers.trim(w.now)
	}
	return nil
}

// wait polls without blocking first: under load there is something, and the
// cheap raw call gets it. Only the call that may sleep goes through the
// scheduler; a raw call that sleeps would stop the garbage collector.
func (w *Worker) wait() (int, error) {
	n, errno := w.epollRaw()
	if errno != 0 && errno != syscall.EINTR {
		return 0, fmt.Errorf("epoll_pwait: %w", errno)
	}
	if n > 0 || len(w.tasks) > 0 {
		return max(n, 0), nil
	}
	timeout := w.wheel.timeout(Monotonic())
	if timeout == 0 {
		return 0, nil
	}
	w.box.asleep.Store(true)
	if w.box.full.Load() {
		w.box.asleep.Store(false)
		return 0, nil
	}
	r, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epfd), uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), uintptr(timeout), 0, 0)
	w.box.asleep.Store(false)
	if errno != 0 {
		if errno == syscall.EINTR {
			return 0, nil
		}
		return 0, fmt.Errorf("epoll_pwait: %w", errno)
	}
	return int(r), nil
}

func (w *Worker) epollRaw() (int, syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epfd), uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// deliver calls the handlers; those marked first before the others, so that the
// end of an idle connection is known before somebody wants to use it.
func (w *Worker) deliver(events []unix.EpollEvent) {
	any := false
	for i := range events {
		e := &events[i]
		if s := &w.slots[e.Fd]; s.first && s.gen == uint32(e.Pad) && s.h != nil {
			any = true
			ev := e.Events
			e.Events = 0
			s.h.HandleEvents(Events(ev))
		}
	}
	_ = any
	for i := range events {
		e := &events[i]
		if e.Events == 0 {
			continue
		}
		if s := &w.slots[e.Fd]; s.gen == uint32(e.Pad) && s.h != nil {
			s.h.HandleEvents(Events(e.Events))
		}
	}
}

func (w *Worker) runPosted() {
	b := &w.box
	if !b.full.Load() {
		return
	}
	b.mu.Lock()
	todo := b.posted
	b.posted = b.spare[:0]
	b.full.Store(false)
	b.mu.Unlock()
	for i, f := range todo {
		todo[i] = nil
		f()
	}
	b.spare = todo[:0]
}

func (w *Worker) runTasks() {
	if len(w.tasks) == 0 {
		return
	}
	w.tasks, w.running = w.running[:0], w.tasks
	for i, t := range w.running {
		w.running[i] = nil
		t.RunTask()
	}
}

// close runs what was posted meanwhile and refuses the rest.
func (w *Worker) close() {
	w.box.mu.Lock()
	w.box.closed = true
	w.box.mu.Unlock()
	w.runPosted()
	unix.Close(w.epfd)
	unix.Close(w.wakefd)
}
