package shm

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Segment is the mapped memory. Its methods may be called by several goroutines;
// after Close they tell of an empty segment.
type Segment struct {
	m    mapping
	fd   int // the file, with a shared flock on it as long as it is mapped
	self Identity

	log, accessLog lock
	patience       time.Duration // constant; shorter in tests

	// Whoever touches m is counted, and the last one unmaps it: a log line that
	// is written while the process ends must not fault.
	users  atomic.Int64 // one is Close's
	closed atomic.Bool
	unmap  sync.Once

	mu    sync.Mutex
	slots []*Slot // what Close must leave; guarded by mu
}

// Repair is something that Open found wrong and put right.
type Repair struct {
	What string // one line for the log
}

// Info is what there is to tell about the segment.
type Info struct {
	Version   int
	Size      int    // bytes
	NextEpoch uint64 // nobody has reserved it
	Live      int    // living processes
	Log       LockInfo
	AccessLog LockInfo
}

// LockInfo counts what a lock has seen since the segment was made.
type LockInfo struct {
	Takeovers uint64 // it was taken from a dead owner
	GaveUp    uint64 // somebody went on without it, because a living owner kept it too long
}

// maxEpoch is more than there can be. A file that claims half of it is damaged;
// so one that is taken for good has epochs left.
const maxEpoch = 1 << 53

// Open makes the segment file, or attaches the one there is. What is wrong with
// it is repaired if nobody alive uses it, and an error that names the users
// otherwise; what dead processes left behind is cleared. The directory must
// exist. Root acts for the owner of the directory, so that an operator's command
// does not take the service's files away.
func Open(path string) (*Segment, []Repair, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("hot-restart segment %s: %w", path, err)
	}
	defer f.unlock()
	s, err := f.segment()
	if err != nil {
		return nil, nil, fmt.Errorf("hot-restart segment %s: %w", path, err)
	}
	return s, append(f.repairs, s.m.bury(s.self, f.alone)...), nil
}

// Attach maps a segment that is there and good, to look at it: it makes and repairs
// nothing. Methods that change the segment may be called all the same.
func Attach(path string) (*Segment, error) {
	f, err := lookAt(path)
	if err != nil {
		return nil, fmt.Errorf("hot-restart segment %s: %w", path, err)
	}
	s, err := f.segment()
	if err != nil {
		return nil, fmt.Errorf("hot-restart segment %s: %w", path, err)
	}
	return s, nil
}

// segment maps the file, which is closed if that fails.
func (f *file) segment() (*Segment, error) {
	s := &Segment{fd: f.fd, self: Self(), patience: patience}
	var err error
	if s.m, err = newMapping(f.fd); err != nil {
		f.close()
		return nil, err
	}
	s.users.Store(1)
	s.log.s, s.log.r = s, &s.m.log
	s.accessLog.s, s.accessLog.r = s, &s.m.accessLog
	return s, nil
}

// Close leaves the slots joined through s and unmaps the segment, which stays
// for others. A lock that is held stays valid until its Unlock.
func (s *Segment) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Swap(true) {
		return nil
	}
	for _, l := range s.slots {
		l.vacate()
	}
	s.slots = nil
	return s.leave()
}

// keep remembers a slot that Close must leave; the caller has entered.
func (s *Segment) keep(l *Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		l.vacate()
		return
	}
	s.slots = append(s.slots, l)
}

// enter keeps the memory mapped until leave; false if it is not mapped any more.
func (s *Segment) enter() bool {
	s.users.Add(1)
	if s.closed.Load() {
		_ = s.leave()
		return false
	}
	return true
}

func (s *Segment) leave() (err error) {
	if s.users.Add(-1) == 0 {
		s.unmap.Do(func() {
			err = s.m.unmap()
			// Unlocked by name: a child between fork and exec has the descriptor, too.
			_ = unix.Flock(s.fd, unix.LOCK_UN)
			_ = unix.Close(s.fd)
		})
	}
	return err
}

// NextEpoch reserves a number that no generation has had or will have.
func (s *Segment) NextEpoch() (uint64, error) {
	if !s.enter() {
		return 0, errClosed
	}
	defer s.leave()
	for {
		n := s.m.nextEpoch.Load()
		if n == 0 || n >= maxEpoch {
			return 0, fmt.Errorf("next epoch: %d is out of range", n)
		}
		if s.m.nextEpoch.CompareAndSwap(n, n+1) {
			return n, nil
		}
	}
}

// raiseEpoch makes the next epoch at least n.
func (m *layout) raiseEpoch(n uint64) {
	for {
		old := m.nextEpoch.Load()
		if old >= n || m.nextEpoch.CompareAndSwap(old, n) {
			return
		}
	}
}

// Info tells about the segment.
func (s *Segment) Info() Info {
	if !s.enter() {
		return Info{Version: Version, Size: segmentSize}
	}
	defer s.leave()
	of := func(r *lockRecord) LockInfo {
		return LockInfo{Takeovers: r.takeovers.Load(), GaveUp: r.gaveUp.Load()}
	}
	return Info{
		Version: Version, Size: segmentSize, NextEpoch: s.m.nextEpoch.Load(), Live: len(s.Processes()),
		Log: of(&s.m.log), AccessLog: of(&s.m.accessLog),
	}
}
