package transport

import (
	"io"
	"syscall"

	"belay/internal/eventloop"
)

// Splicer is a Socket whose bytes need not pass through user space. Only a Socket
// with a Descriptor can be one, and only at times: it is asked for by
// CanSplice, each time anew.
type Splicer interface {
	Socket

	// SpliceIn is Read into a pipe that is empty, at most n bytes.
	SpliceIn(p eventloop.Pipe, n int) (int, error)

	// SpliceOut is Write of n bytes that are in the pipe.
	SpliceOut(p eventloop.Pipe, n int) (int, error)
}

// CanSplice is the socket as a Splicer, nil if its bytes are not those on the wire.
func CanSplice(s Socket) Splicer {
	if s.Descriptor() < 0 {
		return nil
	}
	x, _ := s.(Splicer)
	return x
}

// SpliceIn is Read by splice(2). A short result says nothing about what is left:
// a pipe may be full of small segments.
func (r *Raw) SpliceIn(p eventloop.Pipe, n int) (int, error) {
	if r.flags&rawReadable == 0 {
		return 0, ErrAgain
	}
	n, errno := eventloop.Splice(int(r.fd), p.W, n)
	switch {
	case errno == syscall.EAGAIN:
		r.flags &^= rawReadable
		return 0, ErrAgain
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// SpliceOut is Write by splice(2). Fewer than n bytes without an error mean that
// the socket is full.
func (r *Raw) SpliceOut(p eventloop.Pipe, n int) (int, error) {
	done := 0
	for done < n && r.flags&rawWritable != 0 {
		k, errno := eventloop.Splice(p.R, int(r.fd), n-done)
		switch {
		case errno == syscall.EAGAIN:
			r.flags &^= rawWritable
		case errno != 0:
			r.flags |= rawReadable | rawHup // what the peer said before it closed may be there
			return done, errno
		case k == 0: // n bytes were there
			return done, syscall.EIO
		}
		done += k
	}
	return done, nil
}
