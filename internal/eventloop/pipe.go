package eventloop

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pipe is a kernel buffer through which Splice moves bytes from one socket to
// another without a copy to user space.
type Pipe struct {
	R, W int
	Size int // bytes it holds at most; fewer in small segments
}

// NewPipe makes a pipe that holds at least size bytes. Where the user has used up
// fs.pipe-user-pages-soft the kernel makes small ones and does not let them grow
// (pipe(7)); such a pipe is worse than a copy, and an error here.
func NewPipe(size int) (Pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return Pipe{}, fmt.Errorf("pipe2: %w", err)
	}
	p := Pipe{R: fds[0], W: fds[1]}
	n, err := unix.FcntlInt(uintptr(p.W), unix.F_SETPIPE_SZ, size)
	if err != nil {
		p.Close()
		return Pipe{}, fmt.Errorf("set the size of a pipe to %d: %w", size, err)
	}
	p.Size = n
	return p, nil
}

// Close closes both ends, with what is in the pipe.
func (p Pipe) Close() {
	Close(p.R)
	Close(p.W)
}

// Splice moves up to n bytes from one descriptor to the other, one of which is a
// pipe (splice(2)). 0 bytes without an error is the end of the stream. EAGAIN
// says that the source is empty or the sink is full: with an empty pipe, or one
// that holds something, it is clear which. Both descriptors are non-blocking, so
// it cannot wait, and the raw call will do: told of it, the scheduler would take
// the processor away from a call that is long for it, and watch every 20 µs.
func Splice(from, to, n int) (int, syscall.Errno) {
	for {
		r, _, errno := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch errno {
		case 0:
			return int(r), 0
		case syscall.EINTR:
			continue
		}
		return 0, errno
	}
}
