package shm

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// guard is the lock file, flocked: its holder alone may look at, make and replace
// the segment file.
type guard struct{ fd int }

const (
	guardTime = 5 * time.Second // for somebody else's check, or for one that was stopped in it
	guardPoll = 2 * time.Millisecond
)

// takeGuard waits for the lock file. flock(2) knows no deadline, so it is tried
// again and again: it is held for less than a millisecond.
func takeGuard(path string, uid int, limit time.Duration) (*guard, error) {
	for end := time.Now().Add(limit); ; {
		g, st, err := openGuard(path, uid)
		if err != nil {
			return nil, fmt.Errorf("lock file %s: %w", path, err)
		}
		ok, err := tryFlock(g.fd, unix.LOCK_EX)
		switch {
		case err != nil:
			g.release()
			return nil, fmt.Errorf("lock file %s: %w", path, err)
		case ok && g.is(path):
			return g, nil
		case !ok && time.Now().After(end):
			g.release()
			pids, _ := flockers(&st)
			return nil, fmt.Errorf("lock file %s: held for more than %v by %s", path, limit, name(pids))
		}
		g.release()
		if !ok {
			time.Sleep(guardPoll)
		}
	}
}

// openGuard opens the lock file, and makes it one of ours.
func openGuard(path string, uid int) (*guard, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, st, fmt.Errorf("open: %w", err)
	}
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("it is no regular file")
	}
	if err == nil && attributes(&st, uid) != nil {
		err = claim(fd, uid)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, st, err
	}
	return &guard{fd}, st, nil
}

// is reports whether the lock file still has the path: one that was removed
// meanwhile excludes nobody.
func (g *guard) is(path string) bool {
	var here, there unix.Stat_t
	return unix.Fstat(g.fd, &here) == nil && unix.Lstat(path, &there) == nil && here.Dev == there.Dev && here.Ino == there.Ino
}

// release unlocks by name: a child between fork and exec has the descriptor, too.
func (g *guard) release() {
	_ = unix.Flock(g.fd, unix.LOCK_UN)
	_ = unix.Close(g.fd)
}
