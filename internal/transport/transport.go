// Package transport has the two ends of a proxied connection as the proxies see
// them: a Socket that reads and writes without blocking and tells its owner when
// trying again makes sense. What lies between the Socket's bytes and the wire is
// the Socket's own affair.
package transport

import (
	"errors"

	"belay/internal/eventloop"
)

// ErrAgain says that nothing can be read or written now; the owner's Ready is
// called when that changes.
var ErrAgain = errors.New("transport: try again")

// Owner is told of a Socket's events, always on the Socket's worker.
type Owner interface {
	// Ready says that the socket changed: In, RdHup, Hup or Err mean Read has
	// something new to say, Out means Write takes bytes again. The owner may
	// close the socket inside the call.
	Ready(ev eventloop.Events)
}

// Socket is one connection. It belongs to one worker and is used only there.
// Nobody but its holder closes it.
type Socket interface {
	// Handshake brings the socket to where bytes flow: the TCP connect of a
	// dialled socket, later TLS. It returns nil when done, ErrAgain while it
	// needs an event, any other error once and for all.
	Handshake() error

	// Read returns what is there, at most len(p) bytes. ErrAgain: nothing now.
	// io.EOF: the peer finished; writing may still work. Any other error is
	// final. n > 0 and an error are never returned together.
	Read(p []byte) (n int, err error)

	// Write takes as much of a, then of b, as fits, in one segment where it
	// can; b may be nil. n < len(a)+len(b) without an error means the socket is
	// full and Out will follow. An error is final.
	Write(a, b []byte) (n int, err error)

	// Readable reports whether Read may have something: false means a Read
	// would return ErrAgain without asking the kernel.
	Readable() bool

	// Alive asks the kernel whether the idle connection is still usable: open
	// in both directions and with nothing to read. It costs a system call.
	Alive() bool

	// Unsent is how many bytes on the wire, of what Write took, the peer has not
	// got yet: a Reset now would drop them. It costs a system call.
	Unsent() int

	// CloseWrite ends our direction after what Write took.
	CloseWrite() error

	// Close ends the connection and the registration. The socket must not be
	// used again.
	Close()

	// Reset is Close with RST: the peer sees an error, not an end.
	Reset()

	// SetOwner moves the socket's events to another owner.
	SetOwner(o Owner)

	// SetFirst has events of this socket delivered before others of a turn.
	SetFirst(first bool)

	// Descriptor is the file descriptor if the bytes on it are the bytes of
	// Read and Write (splice, hand-over), else -1. The socket keeps it.
	Descriptor() int
}
