package transport

import (
	"fmt"
	"io"
	"syscall"

	"belay/internal/eventloop"
)

// Raw is a Socket without a layer of its own: its bytes are those on the wire.
//
// The descriptor is registered edge-triggered once, for both directions, and
// Raw remembers what the last event and the last call said, so that a proxy may
// stop and resume at any time without touching the registration, and a read
// that is known to be dry costs no system call: recv returning less than asked
// means that the queue was empty, and whatever comes later raises an event.
type Raw struct {
	loop  *eventloop.Worker
	owner Owner
	token eventloop.Token
	fd    int32
	flags rawFlags
	// failed is the error that ended connect(2), which the kernel tells once.
	failed uint16
}

type rawFlags uint8

const (
	rawReadable   rawFlags = 1 << iota // a read may find something
	rawWritable                        // a write may be taken
	rawHup                             // the peer's end was announced: read on until EOF, short reads prove nothing
	rawConnecting                      // connect(2) is under way
	rawConnected                       // the event that ends connect(2) came
)

// Accept makes a Raw of an accepted, non-blocking descriptor, which it owns
// from now on, also when it returns an error.
func Accept(loop *eventloop.Worker, fd int, o Owner) (*Raw, error) {
	r := &Raw{loop: loop, owner: o, fd: int32(fd), flags: rawWritable}
	return r, r.register()
}

// Dial starts to connect to a. Handshake tells how it went; an error here means
// that there is no socket.
func Dial(loop *eventloop.Worker, a eventloop.Address, o Owner) (*Raw, error) {
	fd, inProgress, err := eventloop.Connect(a)
	if err != nil {
		return nil, err
	}
	r := &Raw{loop: loop, owner: o, fd: int32(fd), flags: rawWritable}
	if inProgress {
		r.flags = rawConnecting
	}
	return r, r.register()
}

func (r *Raw) register() error {
	t, err := r.loop.Add(int(r.fd), r, eventloop.Edge)
	if err != nil {
		eventloop.Close(int(r.fd))
		r.fd = -1
		return fmt.Errorf("register descriptor: %w", err)
	}
	r.token = t
	return nil
}

// HandleEvents is the loop's entry.
func (r *Raw) HandleEvents(ev eventloop.Events) {
	if ev&(eventloop.In|eventloop.RdHup|eventloop.Hup|eventloop.Err) != 0 {
		r.flags |= rawReadable
	}
	if ev&(eventloop.RdHup|eventloop.Hup|eventloop.Err) != 0 {
		r.flags |= rawHup
	}
	if ev&(eventloop.Out|eventloop.Hup|eventloop.Err) != 0 {
		r.flags |= rawWritable | rawConnected
	}
	r.owner.Ready(ev)
}

// Handshake waits for connect(2); the event that ends it is Out, or Err with the
// reason in SO_ERROR (connect(2), EINPROGRESS).
func (r *Raw) Handshake() error {
	switch {
	case r.flags&rawConnecting == 0:
		return nil
	case r.failed != 0:
		return syscall.Errno(r.failed)
	case r.flags&rawConnected == 0:
		return ErrAgain
	}
	if errno := eventloop.SocketError(int(r.fd)); errno != 0 {
		r.failed = uint16(errno)
		return errno
	}
	r.flags &^= rawConnecting
	return nil
}

// Read is recv(2) without waiting.
func (r *Raw) Read(p []byte) (int, error) {
	if r.flags&rawReadable == 0 {
		return 0, ErrAgain
	}
	n, errno := eventloop.Recv(int(r.fd), p)
	switch {
	case errno == syscall.EAGAIN:
		r.flags &^= rawReadable
		return 0, ErrAgain
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	if n < len(p) && r.flags&rawHup == 0 {
		r.flags &^= rawReadable
	}
	return n, nil
}

// Write is send(2), or sendmsg(2) for two pieces, without waiting.
func (r *Raw) Write(a, b []byte) (int, error) {
	if r.flags&rawWritable == 0 {
		return 0, nil
	}
	var n int
	var errno syscall.Errno
	if len(b) == 0 {
		n, errno = eventloop.Send(int(r.fd), a)
	} else {
		n, errno = eventloop.Sendv(int(r.fd), a, b)
	}
	switch {
	case errno == syscall.EAGAIN:
		r.flags &^= rawWritable
		return 0, nil
	case errno != 0:
		r.flags |= rawReadable | rawHup // what the peer said before it closed may be there
		return 0, errno
	}
	if n < len(a)+len(b) {
		r.flags &^= rawWritable
	}
	return n, nil
}

// Readable reports whether a read may find something.
func (r *Raw) Readable() bool { return r.flags&rawReadable != 0 }

// Alive peeks: an idle connection has neither data nor an end to tell. A peek
// that finds nothing is as good as a read that does.
func (r *Raw) Alive() bool {
	if r.flags&rawHup != 0 {
		return false
	}
	if _, _, errno := eventloop.Peek(int(r.fd)); errno != syscall.EAGAIN {
		return false
	}
	r.flags &^= rawReadable
	return true
}

// Unsent is what the kernel keeps for the peer.
func (r *Raw) Unsent() int { return eventloop.Unsent(int(r.fd)) }

// CloseWrite is shutdown(SHUT_WR).
func (r *Raw) CloseWrite() error { return eventloop.ShutdownWrite(int(r.fd)) }

// Close closes the descriptor. Nothing else holds a duplicate, so closing it
// also ends the registration.
func (r *Raw) Close() {
	if r.fd < 0 {
		return
	}
	r.loop.Forget(r.token)
	eventloop.Close(int(r.fd))
	r.fd = -1
	r.flags = 0
}

// Reset closes with RST (SO_LINGER with a time of zero, socket(7)).
func (r *Raw) Reset() {
	if r.fd >= 0 {
		eventloop.SetLinger0(int(r.fd))
	}
	r.Close()
}

// SetOwner moves the events.
func (r *Raw) SetOwner(o Owner) { r.owner = o }

// SetFirst is the loop's SetFirst.
func (r *Raw) SetFirst(first bool) { r.loop.SetFirst(r.token, first) }

// Descriptor is the socket itself.
func (r *Raw) Descriptor() int { return int(r.fd) }
