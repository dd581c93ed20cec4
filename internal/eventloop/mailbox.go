package eventloop

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// mailbox takes functions from other goroutines.
//
// Whether the worker must be woken is decided by two flags that each side writes
// before it reads the other's: Post sets full, then looks at asleep; the worker
// sets asleep, then looks at full, and only then sleeps. So one of them sees the
// other, and a Post to a worker that is up costs no system call.
type mailbox struct {
	wakefd int         // eventfd; closed under mu, after closed is set
	full   atomic.Bool // something is posted
	asleep atomic.Bool // the worker is, or is about to be, in an epoll_wait that sleeps

	mu     sync.Mutex
	posted []func() // guarded by mu
	closed bool     // guarded by mu

	spare []func() // the worker's: takes posted's place
}

// post reports whether the worker will run f.
func (b *mailbox) post(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.posted = append(b.posted, f)
	b.full.Store(true)
	if b.asleep.CompareAndSwap(true, false) {
		b.wake()
	}
	return true
}

// wake ends the worker's sleep. It is called with mu held, which keeps wakefd
// from being closed, and its number from being another file, meanwhile.
func (b *mailbox) wake() {
	one := [8]byte{1}
	for {
		if _, err := unix.Write(b.wakefd, one[:]); err != unix.EINTR {
			return // EAGAIN: 2^64-2 wakes that nobody saw, so one is pending anyway
		}
	}
}

// sleep announces that the worker is about to sleep; false means that it must
// not, because something is posted.
func (b *mailbox) sleep() bool {
	b.asleep.Store(true)
	if b.full.Load() {
		b.asleep.Store(false)
		return false
	}
	return true
}

// run calls what is posted. The worker does not wait for the lock: it would be
// parked for longer than a turn takes, and full keeps it from sleeping until
// the next turn finds the lock free.
func (b *mailbox) run() {
	if !b.full.Load() || !b.mu.TryLock() {
		return
	}
	todo := b.posted
	b.posted = b.spare
	b.full.Store(false)
	b.mu.Unlock()
	b.spare = call(todo)
}

// close refuses further posts, runs those it had accepted, and closes wakefd.
func (b *mailbox) close() {
	b.mu.Lock()
	b.closed = true
	todo := b.posted
	b.posted = nil
	unix.Close(b.wakefd)
	b.mu.Unlock()
	call(todo)
}

// call runs the functions in order and returns the emptied slice.
func call(todo []func()) []func() {
	for i, f := range todo {
		todo[i] = nil
		f()
	}
	return todo[:0]
}
