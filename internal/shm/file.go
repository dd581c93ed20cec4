package shm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Opening a segment, under the exclusive flock of PATH.lock:
//
//	1. look      is there a file, of our kind, owner and mode?
//	2. open      and try the exclusive flock: got it, nobody alive uses it
//	3. check     size, magic, version, next epoch
//	4. repair    if something is wrong and nobody uses it: a new file, complete
//	             before it has the name
//	5. share     the shared flock, which is kept as long as the file is mapped
//
// The lock file is one of its own, because the segment may be replaced, and
// because nobody else can open it: a flock on the directory could be held, and so
// belay stopped, by everybody who may list it.

// file is the segment file, open and good.
type file struct {
	fd      int
	guard   *guard
	alone   bool // nobody else uses it
	repairs []Repair
}

// unlock lets other processes open the segment.
func (f *file) unlock() { f.guard.release() }

func (f *file) close() { _ = unix.Close(f.fd) }

func openFile(path string) (*file, error) {
	uid, err := owner(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	g, err := takeGuard(path+".lock", uid, guardTime)
	if err != nil {
		return nil, err
	}
	f := &file{fd: -1, guard: g}
	if err := f.attach(path, uid); err != nil {
		f.unlock()
		return nil, err
	}
	return f, nil
}

// lookAt opens a file that must be good, for somebody who comes and goes. It takes
// no guard: while a process uses the file nobody replaces it.
func lookAt(path string) (*file, error) {
	uid, err := owner(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	f := &file{}
	if f.fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(f.fd, &st); err == nil {
		var wrong []string
		if _, wrong, err = content(f.fd, st.Size); err == nil {
			if faults := append(attributes(&st, uid), wrong...); len(faults) > 0 {
				err = errors.New(strings.Join(faults, "; "))
			} else {
				err = f.share()
			}
		}
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// owner is the user whose files the segment and its lock are to be.
func owner(dir string) (int, error) {
	uid := os.Geteuid()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if uid == 0 {
		uid = int(st.Uid)
	}
	return uid, nil
}

// attach opens what is at the path, or what it puts there.
func (f *file) attach(path string, uid int) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err == unix.ENOENT {
		return f.make(path, uid, 1)
	}
	if err != nil {
		return fmt.Errorf("lstat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return f.replaceOther(path, uid, &st)
	}
	faults := attributes(&st, uid)
	f.fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EACCES) && faults != nil {
		return f.replaceClosed(path, uid, &st, faults)
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := f.check(path, uid, &st, faults); err != nil {
		f.close()
		return err
	}
	return nil
}

// check looks into the open file, and replaces it if it must and can.
func (f *file) check(path string, uid int, st *unix.Stat_t, faults []string) error {
	alone, err := tryFlock(f.fd, unix.LOCK_EX)
	if err != nil {
		return err
	}
	next, wrong, err := content(f.fd, st.Size)
	if err != nil {
		return err
	}
	if faults = append(faults, wrong...); len(faults) == 0 {
		f.alone = alone
		return f.share()
	}
	if !alone {
		return fmt.Errorf("%s; not repaired, because it is in use by %s", strings.Join(faults, "; "), users(f.fd, st, wrong == nil))
	}
	f.close()
	return f.remake(path, uid, next, faults)
}

// attributes are the faults that need no look inside.
func attributes(st *unix.Stat_t, uid int) (faults []string) {
	if int(st.Uid) != uid {
		faults = append(faults, fmt.Sprintf("the owner is user %d, want %d", st.Uid, uid))
	}
	if mode := st.Mode & 0o7777; mode != 0o600 {
		faults = append(faults, fmt.Sprintf("the mode is %04o, want 0600", mode))
	}
	return faults
}

// content are the faults inside the file. Next is the first epoch that nobody
// has reserved, 0 if that cannot be read.
func content(fd int, size int64) (next uint64, faults []string, err error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if size != segmentSize {
		fault("the size is %d bytes, want %d", size, segmentSize)
	}
	var head [frozenSize + 8]byte
	n, err := unix.Pread(fd, head[:], 0)
	if err != nil {
		return 0, nil, fmt.Errorf("read: %w", err)
	}
	word := func(i int) uint64 { return binary.NativeEndian.Uint64(head[8*i:]) }
	if n < frozenSize {
		fault("it has no header")
		return 0, faults, nil
	}
	if word(0) != magic {
		fault("the magic is %#x, want %#x", word(0), uint64(magic))
	}
	if word(1) != Version {
		fault("the version is %d, want %d", word(1), Version)
	}
	if word(0) == magic && word(1) == Version && word(3) != segmentSize {
		fault("it says that its size is %d bytes, want %d", word(3), segmentSize)
	}
	next = word(2)
	if next == 0 || next >= maxEpoch/2 {
		fault("the next epoch is %d, which is out of range", next)
		next = 0
	}
	if word(0) != magic && (word(1) != Version || word(3) != segmentSize) {
		next = 0 // nothing says that this was a segment
	}
	return next, faults, nil
}

// replaceOther makes the segment where something is that is no file. Nobody uses
// it as a segment.
func (f *file) replaceOther(path string, uid int, st *unix.Stat_t) error {
	fault := fmt.Sprintf("it is a %s, no regular file", kind(st))
	flags := 0
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		flags = unix.AT_REMOVEDIR
	}
	if err := unix.Unlinkat(unix.AT_FDCWD, path, flags); err != nil {
		return fmt.Errorf("%s; not repaired, because it cannot be removed: %w", fault, err)
	}
	return f.remake(path, uid, 0, []string{fault})
}

// replaceClosed replaces a file that may not be opened. Only /proc/locks can
// tell then whether somebody uses it.
func (f *file) replaceClosed(path string, uid int, st *unix.Stat_t, faults []string) error {
	why := strings.Join(faults, "; ")
	pids, err := flockers(st)
	switch {
	case err != nil:
		return fmt.Errorf("%s; not repaired, because it cannot be told who uses it: %w", why, err)
	case len(pids) > 0:
		return fmt.Errorf("%s; not repaired, because it is in use by %s", why, name(pids))
	}
	return f.remake(path, uid, 0, faults)
}

// remake makes the file anew and tells what was wrong with the old one.
func (f *file) remake(path string, uid int, next uint64, faults []string) error {
	epochs := fmt.Sprintf("epochs go on at %d", next)
	if next == 0 {
		next, epochs = 1, "its next epoch cannot be read: epochs begin at 1 again"
	}
	if err := f.make(path, uid, next); err != nil {
		return fmt.Errorf("%s; not repaired: %w", strings.Join(faults, "; "), err)
	}
	f.repairs = append(f.repairs, Repair{What: fmt.Sprintf("made anew, nobody used it: %s; %s", strings.Join(faults, "; "), epochs)})
	return nil
}

// make puts a new file at the path, in place of one that may be there.
func (f *file) make(path string, uid int, next uint64) (err error) {
	temporary := path + ".new" // only the holder of the guard makes one
	if err := unix.Unlink(temporary); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s: %w", temporary, err)
	}
	f.fd, err = unix.Open(temporary, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("make %s: %w", temporary, err)
	}
	defer func() {
		if err != nil {
			f.close()
			_ = unix.Unlink(temporary)
		}
	}()
	if err := claim(f.fd, uid); err != nil {
		return err
	}
	// Written, not extended: on a full tmpfs this fails, a store into a hole would
	// be SIGBUS.
	if n, err := unix.Pwrite(f.fd, blank(next), 0); err != nil {
		return fmt.Errorf("write: %w", err)
	} else if n != segmentSize {
		return fmt.Errorf("write: %d of %d bytes", n, segmentSize)
	}
	f.alone = true
	if err := f.share(); err != nil {
		return err
	}
	if err := unix.Rename(temporary, path); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	return nil
}

// claim gives a new file its owner and mode, whatever the umask is.
func claim(fd, uid int) error {
	if uid != os.Geteuid() {
		if err := unix.Fchown(fd, uid, -1); err != nil {
			return fmt.Errorf("give to user %d: %w", uid, err)
		}
	}
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return nil
}

// share says to the kernel that the file is in use. From exclusive to shared is
// no single step for the kernel, but the guard keeps others away.
func (f *file) share() error {
	ok, err := tryFlock(f.fd, unix.LOCK_SH)
	if err == nil && !ok {
		err = errors.New("a foreign program holds an exclusive flock on it")
	}
	return err
}

// tryFlock takes a flock if nobody has one against it.
func tryFlock(fd, how int) (bool, error) {
	switch err := unix.Flock(fd, how|unix.LOCK_NB); err {
	case nil:
		return true, nil
	case unix.EWOULDBLOCK:
		return false, nil
	default:
		return false, fmt.Errorf("flock: %w", err)
	}
}

func kind(st *unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFIFO:
		return "named pipe"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}
