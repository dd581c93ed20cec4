package shm

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Version is the version of the layout. It goes up with every change that a
// process of the version before would misread.
const Version = 1

// The file, in 64-bit words of the machine's byte order. The first three stay
// where they are in all versions: so every version can tell that a segment is of
// another one, and goes on with its epochs.
//
//	   0  magic            "belayshm"
//	   8  version
//	  16  next epoch       the first that nobody has reserved; 1 at the beginning
//	 -- the rest is of this version --
//	  24  size             of the file
//	  32  padding to 64
//	  64  INITIALIZING     owner word, epoch, since (Unix ns); padding to 128
//	 128  log lock         owner word, turn, takeovers, gave up; padding to 192
//	 192  access-log lock  the same; to 256
//	 256  slot 0           owner word, epoch, state, beats, joined (Unix s); padding to 320
//	 320  slot 1 ... 15    the same; to 1280
//	1280  padding to 4096
//
// Each part has cache lines of its own, so that a heartbeat slows no lock down.
//
// An owner word is a whole identity, so that taking something and signing it is
// one compare-and-swap; 0 is nobody:
//
//	63                                     23 22              1   0
//	+----------------------------------------+-----------------+------+
//	| start time, clock ticks since the boot |   process id    | flag |
//	+----------------------------------------+-----------------+------+
//
// 41 bits of ticks are 697 years, and Linux has no process id above 22 bits
// (PID_MAX_LIMIT). The flag of a lock means that somebody sleeps until it is
// free; that of a slot or INITIALIZING, that the words after it are being
// written and mean nothing yet.
type layout struct {
	magic     atomic.Uint64
	version   atomic.Uint64
	nextEpoch atomic.Uint64
	size      atomic.Uint64
	_         [32]byte

	init      initRecord
	log       lockRecord
	accessLog lockRecord
	slots     [slotCount]slotRecord
	_         [segmentSize - 1280]byte
}

type initRecord struct {
	owner atomic.Uint64
	epoch atomic.Uint64
	since atomic.Int64
	_     [40]byte
}

type lockRecord struct {
	owner     atomic.Uint64
	turn      atomic.Uint64 // how often it was freed: tells one hold of a process from its next
	takeovers atomic.Uint64 // how often it was taken from a dead owner
	gaveUp    atomic.Uint64 // how often somebody went on without it
	_         [32]byte
}

type slotRecord struct {
	owner  atomic.Uint64
	epoch  atomic.Uint64
	state  atomic.Uint64
	beats  atomic.Uint64
	joined atomic.Int64
	_      [24]byte
}

const (
	magic       = 0x6d687379616c6562 // "belayshm", first letter at the lowest address
	slotCount   = 16
	segmentSize = 4096 // one page, or a part of a larger one
	frozenSize  = 24   // the words all versions have
)

// flag is the lowest bit of an owner word.
const flag = 1

// The array lengths are negative, and this does not compile, if the drawing is wrong.
type (
	_ [segmentSize - unsafe.Sizeof(layout{})]byte
	_ [unsafe.Sizeof(layout{}) - segmentSize]byte
	_ [unsafe.Offsetof(layout{}.slots) - 256]byte
	_ [256 - unsafe.Offsetof(layout{}.slots)]byte
)

// mapping is the memory of an open file; unmap ends it.
type mapping struct {
	*layout
	bytes []byte
}

// newMapping maps a file whose size has been checked: an access beyond the end
// of a file is SIGBUS, not an error.
func newMapping(fd int) (mapping, error) {
	b, err := unix.Mmap(fd, 0, segmentSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return mapping{}, fmt.Errorf("mmap: %w", err)
	}
	return mapping{layout: (*layout)(unsafe.Pointer(unsafe.SliceData(b))), bytes: b}, nil
}

func (m *mapping) unmap() error { return unix.Munmap(m.bytes) }

// blank is the content of a new file.
func blank(nextEpoch uint64) []byte {
	m := new(layout)
	m.magic.Store(magic)
	m.version.Store(Version)
	m.nextEpoch.Store(nextEpoch)
	m.size.Store(segmentSize)
	return unsafe.Slice((*byte)(unsafe.Pointer(m)), segmentSize)
}

// futex(2) knows words of 32 bits: it gets the low half of an owner word, which
// has the flag, the process id and the first bits of the start time. Both of
// belay's machines (amd64, arm64) have the low half first.
//
// The operations are not the private ones: these find sleepers of this process only.
const (
	futexWait = 0
	futexWake = 1
)

// sleep waits until the word is woken, at most d. It returns at once if the word
// has not the value any more, and for no reason now and then.
func sleep(word *atomic.Uint64, value uint64, d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(uint32(value)), uintptr(unsafe.Pointer(&t)), 0, 0)
}

// wake ends the sleep of one.
func wake(word *atomic.Uint64) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, 1, 0, 0, 0)
}
