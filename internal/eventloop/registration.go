package eventloop

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Events are what epoll_wait(2) reports of a descriptor.
type Events uint32

// What a Handler can be told. Hup and Err come whether asked for or not.
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
	// Edge reports both directions, each once per change: connections. What is
	// there already at Add is reported too.
	Edge Mode = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
	// Level reports as long as there is something to take: listen sockets.
	Level Mode = unix.EPOLLIN
)

// Handler is told of the events of a registered descriptor, on the worker.
type Handler interface{ HandleEvents(ev Events) }

// Token names one registration of one worker; the zero Token names none. A Token
// whose registration has ended is harmless: every method ignores it.
type Token struct{ slot, gen uint32 }

// slot is the place of one registration. Its number and generation travel
// through the kernel as the event's data, so an event that was fetched before
// its descriptor was closed never reaches the next user of slot or descriptor.
type slot struct {
	h     Handler // nil: free
	fd    int32
	gen   uint32
	next  uint32 // of the free ones; 0: none
	first bool
}

// page is the unit in which the table grows: growing moves no slot and leaves
// no garbage.
const (
	pageBits = 8
	pageSize = 1 << pageBits
)

// table holds the slots of a worker. Slot 0 is never given out.
type table struct {
	pages  []*[pageSize]slot
	used   uint32 // slots ever given out, slot 0 included
	free   uint32
	firsts int // live slots marked first
}

func (t *table) at(i uint32) *slot { return &t.pages[i>>pageBits][i&(pageSize-1)] }

// live is the slot that the token names, or nil.
func (t *table) live(k Token) *slot {
	if k.slot == 0 || k.slot >= t.used {
		return nil
	}
	if s := t.at(k.slot); s.gen == k.gen && s.h != nil {
		return s
	}
	return nil
}

func (t *table) take(fd int, h Handler) Token {
	i := t.free
	if i == 0 {
		i = max(t.used, 1)
		if int(i>>pageBits) == len(t.pages) {
			t.pages = append(t.pages, new([pageSize]slot))
		}
		t.used = i + 1
	}
	s := t.at(i)
	t.free = s.next
	s.h, s.fd, s.next = h, int32(fd), 0
	return Token{i, s.gen}
}

func (t *table) release(i uint32) {
	s := t.at(i)
	if s.first {
		t.firsts--
	}
	*s = slot{gen: s.gen + 1, next: t.free}
	t.free = i
}

// Add registers the non-blocking descriptor fd, which stays the caller's. The
// registration ends with Remove or Forget.
func (w *Worker) Add(fd int, h Handler, m Mode) (Token, error) {
	k := w.slots.take(fd, h)
	ev := unix.EpollEvent{Events: uint32(m), Fd: int32(k.slot), Pad: int32(k.gen)}
	if err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		w.slots.release(k.slot)
		return Token{}, fmt.Errorf("register descriptor %d: epoll_ctl: %w", fd, err)
	}
	return k, nil
}

// Remove ends a registration in the kernel too. It must come before the close of
// a descriptor of which a duplicate may live on, in another process for example:
// the registration belongs to the open file, not to the descriptor (epoll(7)).
func (w *Worker) Remove(t Token) error {
	s := w.slots.live(t)
	if s == nil {
		return nil
	}
	fd := int(s.fd)
	w.slots.release(t.slot)
	if err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("unregister descriptor %d: epoll_ctl: %w", fd, err)
	}
	return nil
}

// Forget ends a registration without a system call. The caller closes the
// descriptor right after and knows that there is no duplicate, so that the close
// ends the registration in the kernel.
func (w *Worker) Forget(t Token) {
	if w.slots.live(t) != nil {
		w.slots.release(t.slot)
	}
}

// SetHandler has later events delivered to h, those of this turn included.
func (w *Worker) SetHandler(t Token, h Handler) {
	if s := w.slots.live(t); s != nil {
		s.h = h
	}
}

// SetFirst has the events of a registration delivered before those of all others
// of the same turn: the end of an idle pooled connection is then known before a
// request of that turn takes it.
func (w *Worker) SetFirst(t Token, first bool) {
	s := w.slots.live(t)
	if s == nil || s.first == first {
		return
	}
	s.first = first
	if first {
		w.slots.firsts++
	} else {
		w.slots.firsts--
	}
}

// deliver calls the handlers for a batch of events. Any handler may end any
// registration and begin new ones; each event is therefore matched with its slot
// only when its turn comes.
func (t *table) deliver(events []unix.EpollEvent) {
	if t.firsts > 0 {
		for i := range events {
			e := &events[i]
			if s := t.target(e); s != nil && s.first {
				ev := Events(e.Events)
				e.Events = 0
				s.h.HandleEvents(ev)
			}
		}
	}
	for i := range events {
		e := &events[i]
		if e.Events == 0 {
			continue
		}
		if s := t.target(e); s != nil {
			s.h.HandleEvents(Events(e.Events))
		}
	}
}

// target is the slot an event is for; nil if its registration has ended.
func (t *table) target(e *unix.EpollEvent) *slot {
	if s := t.at(uint32(e.Fd)); s.gen == uint32(e.Pad) && s.h != nil {
		return s
	}
	return nil
}
