package shm

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// never is a patience that no test waits for.
const never = time.Hour

func total(t *testing.T, path string) uint64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint64(b)
}

// waits is true when somebody sleeps until the lock is free.
func waits(r *lockRecord) func() bool {
	return func() bool { return r.owner.Load()&flag != 0 }
}

// locked takes the lock in a goroutine; the channel tells when it has it.
func locked(l sync.Locker) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		l.Lock()
		close(done)
	}()
	return done
}

func TestLockUncontended(t *testing.T) {
	s := openClean(t, segmentPath(t))
	for range 3 {
		s.LogLock().Lock()
		if w := s.m.log.owner.Load(); w != Self().word() {
			t.Errorf("the owner is %+v", identity(w))
		}
		s.LogLock().Unlock()
		if w := s.m.log.owner.Load(); w != 0 {
			t.Errorf("the owner is %+v", identity(w))
		}
	}
	if i := s.Info(); i.Log != (LockInfo{}) || i.AccessLog != (LockInfo{}) {
		t.Errorf("%+v", i)
	}
}

func TestLocksAreTwo(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	s.log.s.patience = never
	h := startHelper(t, path, nil)
	h.do("lock", "log")
	s.AccessLogLock().Lock()
	defer s.AccessLogLock().Unlock()
	if identity(s.m.log.owner.Load()).PID != h.pid || identity(s.m.accessLog.owner.Load()) != Self() {
		t.Error("wrong owners")
	}
}

func TestUnlockOfWhatIsNotHeld(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	h := startHelper(t, path, nil)
	if a := h.ask("unlock", "log"); !strings.Contains(a, "panic: shm: unlock") {
		t.Errorf("free: %s", a)
	}
	s.LogLock().Lock()
	if a := h.ask("unlock", "log"); !strings.Contains(a, "panic: shm: unlock") {
		t.Errorf("held by another process: %s", a)
	}
	if s.m.log.owner.Load() != Self().word() {
		t.Error("it was freed")
	}
	s.LogLock().Unlock()
	h.do("lock", "log") // the panics did no harm
	h.do("unlock", "log")
	if a := h.ask("unlock", "log"); !strings.Contains(a, "panic") {
		t.Errorf("twice: %s", a)
	}
}

func TestLockWaitsForTheOtherProcess(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	s.patience = never
	h := startHelper(t, path, nil)
	h.do("lock", "log")
	done := locked(s.LogLock())
	eventually(t, "somebody waits", waits(&s.m.log))
	select {
	case <-done:
		t.Error("two have the lock")
	default:
	}
	h.do("unlock", "log")
	<-done
	s.LogLock().Unlock()
	if i := s.Info().Log; i != (LockInfo{}) {
		t.Errorf("%+v", i)
	}
}

// A sleeper is woken by Unlock of another process, and does not only look now
// and then.
func TestUnlockWakes(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	h := startHelper(t, path, nil)
	h.do("lock", "log")
	w := s.m.log.owner.Or(flag) | flag
	done := make(chan struct{})
	go func() {
		for s.m.log.owner.Load() == w {
			sleep(&s.m.log.owner, w, never)
		}
		close(done)
	}()
	eventually(t, "it sleeps", func() bool { return threadInFutex(s) })
	h.do("unlock", "log")
	<-done
}

// threadInFutex reports whether a thread of this process sleeps on the log lock.
func threadInFutex(s *Segment) bool {
	tasks, _ := filepath.Glob("/proc/self/task/*/syscall")
	want := fmt.Sprintf("%d %p 0x0 ", syscall.SYS_FUTEX, &s.m.log.owner)
	for _, f := range tasks {
		if text, _ := os.ReadFile(f); strings.HasPrefix(string(text), want) {
			return true
		}
	}
	return false
}

func TestLockContention(t *testing.T) {
	path := segmentPath(t)
	counter := filepath.Join(filepath.Dir(path), "counter")
	s := openClean(t, path)
	s.patience = never
	const helpers, goroutines, n = 3, 3, 500
	var list []*helper
	for range helpers {
		h := startHelper(t, path, nil)
		h.send("count", counter, strconv.Itoa(n))
		list = append(list, h)
	}
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			if err := count(s.LogLock(), counter, n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, h := range list {
		if a := h.answer(); a != "ok " {
			t.Error(a)
		}
	}
	if got := total(t, counter); got != (helpers+goroutines)*n {
		t.Errorf("counted %d, want %d", got, (helpers+goroutines)*n)
	}
	if i := s.Info().Log; i != (LockInfo{}) || s.m.log.owner.Load() != 0 {
		t.Errorf("%+v", i)
	}
}

// The same through two segments of one process: the word alone must do it.
func TestLockContentionOfTwoSegments(t *testing.T) {
	path := segmentPath(t)
	counter := filepath.Join(filepath.Dir(path), "counter")
	var wg sync.WaitGroup
	for range 3 {
		s := openClean(t, path)
		s.patience = never
		wg.Go(func() {
			if err := count(s.LogLock(), counter, 500); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := total(t, counter); got != 1500 {
		t.Errorf("counted %d", got)
	}
}

func TestLockOfADeadOwner(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	s.patience = never
	for i, waiting := range []bool{true, false} {
		h := startHelper(t, path, nil)
		h.do("lock", "access")
		var done <-chan struct{}
		if waiting {
			done = locked(s.AccessLogLock())
			eventually(t, "somebody waits", waits(&s.m.accessLog))
			h.kill()
		} else {
			h.kill()
			done = locked(s.AccessLogLock())
		}
		<-done
		if identity(s.m.accessLog.owner.Load()) != Self() {
			t.Error("not taken over")
		}
		s.AccessLogLock().Unlock()
		if got := s.Info(); got.AccessLog != (LockInfo{Takeovers: uint64(i + 1)}) || got.Log != (LockInfo{}) {
			t.Errorf("%+v", got)
		}
	}
}

// Of many who see that the owner is dead, one takes over.
func TestDeadOwnerAndManyWaiters(t *testing.T) {
	path := segmentPath(t)
	counter := filepath.Join(filepath.Dir(path), "counter")
	var list []*Segment
	for range 8 {
		s := openClean(t, path)
		s.patience = never
		list = append(list, s)
	}
	const rounds = 20
	for i := range uint64(rounds) {
		dead := Identity{PID: os.Getpid(), Start: i + 1}
		list[0].m.log.owner.Store(dead.word())
		var wg sync.WaitGroup
		for _, s := range list {
			wg.Go(func() {
				if err := count(s.LogLock(), counter, 5); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if n := total(t, counter); n != rounds*8*5 || list[0].Info().Log != (LockInfo{Takeovers: rounds}) {
		t.Errorf("counted %d, %+v", n, list[0].Info().Log)
	}
}

// Killed while it counts, a helper holds the lock or does not; the others get on.
func TestLockSurvivesKilledProcesses(t *testing.T) {
	path := segmentPath(t)
	counter := filepath.Join(filepath.Dir(path), "counter")
	s := openClean(t, path)
	s.patience = never
	for range 10 {
		h := startHelper(t, path, nil)
		h.send("count", counter, "1000000000")
		eventually(t, "it counts", func() bool {
			_, err := os.Stat(counter)
			return err == nil
		})
		if err := count(s.LogLock(), counter, 20); err != nil {
			t.Fatal(err)
		}
		h.kill()
		if err := count(s.LogLock(), counter, 20); err != nil {
			t.Fatal(err)
		}
	}
	if i := s.Info().Log; i.GaveUp != 0 {
		t.Errorf("%+v", i)
	}
}

func TestDeadLockOwnerIsReported(t *testing.T) {
	path := segmentPath(t)
	startHelper(t, path, nil)
	h := startHelper(t, path, nil)
	h.do("lock", "access")
	h.kill()
	s, repairs := open(t, path)
	wantRepair(t, repairs, "access-log lock", fmt.Sprintf("process %d", h.pid))
	if i := s.Info(); i.AccessLog.Takeovers != 1 || s.m.accessLog.owner.Load() != 0 {
		t.Errorf("%+v", i)
	}
}

func TestLockOfAStoppedOwner(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	h := startHelper(t, path, nil)
	h.do("lock", "log")
	h.stop()
	owner := s.m.log.owner.Load() &^ flag
	kept := func() {
		t.Helper()
		if got := s.m.log.owner.Load() &^ flag; got != owner {
			t.Errorf("the stopped owner's lock belongs to %+v", identity(got))
		}
	}

	s.patience = tick / 2
	s.LogLock().Lock()
	kept()
	s.LogLock().Unlock()
	kept()
	s.patience = never // the same hold is not waited for again
	lockOnce(s.LogLock())
	kept()
	if i := s.Info().Log; i != (LockInfo{GaveUp: 2}) {
		t.Errorf("%+v", i)
	}

	h.signal(syscall.SIGCONT)
	h.do("unlock", "log")
	s.LogLock().Lock()
	if s.m.log.owner.Load() != Self().word() {
		t.Error("not ours")
	}
	s.LogLock().Unlock()

	h.do("lock", "log") // a new hold of the same process is waited for
	h.stop()
	done := locked(s.LogLock())
	eventually(t, "somebody waits", waits(&s.m.log))
	h.signal(syscall.SIGCONT)
	h.do("unlock", "log")
	<-done
	s.LogLock().Unlock()
	if i := s.Info().Log; i != (LockInfo{GaveUp: 2}) {
		t.Errorf("%+v", i)
	}
}

// Given up on first, the owner dies: its lock is taken over all the same.
func TestLockOfAStoppedOwnerThatDies(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	h := startHelper(t, path, nil)
	h.do("lock", "log")
	h.stop()
	s.patience = tick / 2
	s.LogLock().Lock()
	h.kill()
	s.LogLock().Unlock()
	s.patience = never
	s.LogLock().Lock()
	defer s.LogLock().Unlock()
	if i := s.Info().Log; i != (LockInfo{Takeovers: 1, GaveUp: 1}) || s.m.log.owner.Load()&^flag != Self().word() {
		t.Errorf("%+v", i)
	}
}

// While one goroutine is inside without the lock, another process gets and has
// it: the end of the first must not end that.
func TestUnlockAfterGivingUp(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	a, b := startHelper(t, path, nil), startHelper(t, path, nil)
	a.do("lock", "log")
	s.patience = tick / 2
	s.LogLock().Lock() // without
	a.do("unlock", "log")
	b.do("lock", "log")
	s.LogLock().Unlock()
	if got := identity(s.m.log.owner.Load()); got.PID != b.pid {
		t.Errorf("the lock of %d belongs to %+v", b.pid, got)
	}
}

// A word that somebody overwrote is not freed.
func TestUnlockOfAnOverwrittenWord(t *testing.T) {
	s := openClean(t, segmentPath(t))
	s.LogLock().Lock()
	s.m.log.owner.Store(4711)
	s.LogLock().Unlock()
	if w := s.m.log.owner.Load(); w != 4711 {
		t.Errorf("%#x", w)
	}
	s.patience = never // nor does the owner 2355 with start time 0 live, so it is taken
	if !identity(4711).Alive() {
		lockOnce(s.LogLock())
	}
}
