package shm

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestStateString(t *testing.T) {
	for st, want := range map[State]string{
		0: "none", StateStarting: "starting", StatePrepare: "prepare", StateCommit: "commit", StateProbation: "probation",
		StateServing: "serving", StateDraining: "draining", StateSteppingBack: "stepping-back", StateStopping: "stopping", StateTakingOver: "taking-over", 10: "state 10",
	} {
		if st.String() != want {
			t.Errorf("%d is %q, want %q", uint8(st), st, want)
		}
	}
}

func TestSlotLife(t *testing.T) {
	path := segmentPath(t)
	s, other := openClean(t, path), openClean(t, path)
	slot := join(t, s, nextEpoch(t, s), StateStarting)
	slot.SetState(StateServing)
	slot.Beat()
	slot.Beat()
	list := other.Processes()
	if len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	p := list[0]
	if p.Identity != Self() || p.Epoch != 1 || p.State != StateServing || p.Beats != 2 || p.JoinedUnix == 0 || slot.Beats() != 2 {
		t.Errorf("%+v", p)
	}
	if n := other.Info().Live; n != 1 {
		t.Errorf("%d live", n)
	}
	slot.Leave()
	slot.Leave()
	slot.Beat()
	slot.SetState(StateDraining)
	if list := other.Processes(); len(list) != 0 || slot.Beats() != 0 {
		t.Errorf("after Leave: %+v", list)
	}
	for i := range s.m.slots {
		if r := &s.m.slots[i]; r.owner.Load()|r.epoch.Load()|r.state.Load()|r.beats.Load() != 0 {
			t.Error("something is left in a slot")
		}
	}
}

// A slot that was left and given away is not written by who had it.
func TestSlotOfAnother(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	h := startHelper(t, path, nil)
	slot := join(t, s, 1, StateServing)
	slot.r.owner.Store(0) // as somebody does who takes us for dead
	h.do("join", "2", "2")
	slot.Beat()
	slot.SetState(StateStopping)
	slot.Leave()
	if p := s.Processes(); len(p) != 1 || p[0].PID != h.pid || p[0].Beats != 0 || p[0].State != StatePrepare {
		t.Errorf("%+v", p)
	}
}

// The same slot again, in the same process: the handle that was left is void.
func TestSlotLeftAndJoinedAgain(t *testing.T) {
	s := openClean(t, segmentPath(t))
	old := join(t, s, 1, StateServing)
	old.Leave()
	slot := join(t, s, 2, StateServing)
	old.Beat()
	old.SetState(StateStopping)
	old.Leave()
	if p := s.Processes(); old.r != slot.r || len(p) != 1 || p[0].State != StateServing || p[0].Beats != 0 {
		t.Errorf("%+v", p)
	}
}

func TestProcessesByEpoch(t *testing.T) {
	s := openClean(t, segmentPath(t))
	for _, epoch := range []uint64{7, 3, 5} {
		join(t, s, epoch, StateDraining)
	}
	var got []uint64
	for _, p := range s.Processes() {
		got = append(got, p.Epoch)
	}
	if fmt.Sprint(got) != "[3 5 7]" {
		t.Errorf("%v", got)
	}
	if n := nextEpoch(t, s); n != 8 {
		t.Errorf("the next epoch is %d, and 7 has joined", n)
	}
}

func TestJoinFull(t *testing.T) {
	s := openClean(t, segmentPath(t))
	for i := range slotCount {
		join(t, s, uint64(i+1), StateDraining)
	}
	_, err := s.Join(17, StatePrepare)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%d (epoch 16, draining)", os.Getpid())) || strings.Count(err.Error(), "epoch") != slotCount {
		t.Errorf("%v", err)
	}
}

func TestJoinTakesTheSlotOfADeadProcess(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	h := startHelper(t, path, nil)
	h.do("join", "1", "5")
	h.do("beat")
	for i := range slotCount - 1 {
		join(t, s, uint64(i+2), StateDraining)
	}
	h.kill()
	if n := len(s.Processes()); n != slotCount-1 {
		t.Errorf("%d processes, one of them dead", n)
	}
	slot := join(t, s, 17, StatePrepare)
	if slot.Beats() != 0 || len(s.Processes()) != slotCount {
		t.Errorf("%+v", s.Processes())
	}
}

// A slot in the middle of being filled is nobody's, and is free when who fills it dies.
func TestJoinWhereAProcessDiedJoining(t *testing.T) {
	s := openClean(t, segmentPath(t))
	dead := Identity{os.Getpid(), Self().Start - 1}
	for i := range s.m.slots {
		s.m.slots[i].owner.Store(Self().word() | flag)
	}
	if len(s.Processes()) != 0 {
		t.Error("a slot that is being filled counts as a process")
	}
	if _, err := s.Join(1, StateStarting); err == nil {
		t.Error("a slot that somebody alive fills was taken")
	}
	s.m.slots[3].owner.Store(dead.word() | flag)
	join(t, s, 1, StateStarting)
}

func TestJoinEpochOutOfRange(t *testing.T) {
	s := openClean(t, segmentPath(t))
	for _, epoch := range []uint64{0, maxEpoch, 1<<64 - 1} {
		if _, err := s.Join(epoch, StateStarting); err == nil {
			t.Errorf("epoch %d joined", epoch)
		}
	}
}

func TestDeadSlotIsReported(t *testing.T) {
	path := segmentPath(t)
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprintf("alone %v", alone), func(t *testing.T) {
			h := startHelper(t, path, nil)
			h.do("join", "4", strconv.Itoa(int(StateServing)))
			if !alone {
				startHelper(t, path, nil)
			}
			h.kill()
			s, repairs := open(t, path)
			wantRepair(t, repairs, fmt.Sprintf("process %d (epoch 4, serving) has ended", h.pid), "slot 0")
			if len(s.Processes()) != 0 || s.m.slots[0].owner.Load() != 0 {
				t.Error("the slot is not clear")
			}
			openClean(t, path)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLivingSlotsAreLeftAlone(t *testing.T) {
	path := segmentPath(t)
	h := startHelper(t, path, nil)
	h.do("join", "4", "5")
	h.do("init", "5")
	h.do("lock", "log")
	h.stop()
	s := openClean(t, path)
	if p := s.Processes(); len(p) != 1 || p[0].PID != h.pid {
		t.Errorf("%+v", p)
	}
	if o, ok := s.Initializing(); !ok || o.PID != h.pid || o.Epoch != 5 {
		t.Errorf("%+v %v", o, ok)
	}
	if identity(s.m.log.owner.Load()).PID != h.pid {
		t.Error("the lock is freed")
	}
}

func TestInitializing(t *testing.T) {
	path := segmentPath(t)
	s := openClean(t, path)
	h := startHelper(t, path, nil)
	if o, ok := s.Initializing(); ok {
		t.Errorf("%+v", o)
	}
	if a := h.do("init", "2"); a != fmt.Sprintf("true %d 2", h.pid) {
		t.Error(a)
	}
	ok, owner := s.BeginInit(Self(), 3)
	if ok || owner.PID != h.pid || owner.Epoch != 2 || owner.Since.IsZero() {
		t.Errorf("%v %+v", ok, owner)
	}
	s.EndInit(Self())
	if _, ok := s.Initializing(); !ok {
		t.Error("the flag was taken from its owner")
	}
	h.kill()
	if o, ok := s.Initializing(); ok {
		t.Errorf("a dead owner: %+v", o)
	}
	if ok, owner := s.BeginInit(Self(), 3); !ok || owner.Identity != Self() || owner.Epoch != 3 {
		t.Errorf("%v %+v", ok, owner)
	}
	if ok, owner := s.BeginInit(Self(), 4); ok || owner.Epoch != 3 {
		t.Errorf("a second time: %v %+v", ok, owner)
	}
	s.EndInit(Self())
	if o, ok := s.Initializing(); ok {
		t.Errorf("%+v", o)
	}
}

func TestDeadInitializingIsReported(t *testing.T) {
	path := segmentPath(t)
	startHelper(t, path, nil)
	h := startHelper(t, path, nil)
	h.do("init", "9")
	h.kill()
	s, repairs := open(t, path)
	wantRepair(t, repairs, "initializing", fmt.Sprintf("process %d", h.pid), "epoch 9")
	if _, ok := s.Initializing(); ok {
		t.Error("the flag is set")
	}
}

func TestSegmentAfterClose(t *testing.T) {
	path := segmentPath(t)
	s, other := openClean(t, path), openClean(t, path)
	slot := join(t, s, 1, StateServing)
	lock := s.LogLock()
	lock.Lock()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if p := other.Processes(); len(p) != 0 {
		t.Errorf("a slot is left: %+v", p)
	}
	if other.m.log.owner.Load() == 0 {
		t.Error("the lock was freed under its owner")
	}
	lock.Unlock()
	if other.m.log.owner.Load() != 0 {
		t.Error("the lock is not free")
	}
	slot.Beat()
	slot.SetState(StateStopping)
	slot.Leave()
	s.EndInit(Self())
	lockOnce(lock)
	if ok, _ := s.BeginInit(Self(), 1); ok {
		t.Error("BeginInit")
	}
	if _, ok := s.Initializing(); ok || len(s.Processes()) != 0 || s.Info().Live != 0 || s.Close() != nil {
		t.Error("not empty")
	}
	if _, err := s.NextEpoch(); err == nil {
		t.Error("NextEpoch")
	}
	if _, err := s.Join(2, StateServing); err == nil {
		t.Error("Join")
	}
}

// Nobody may touch the memory once it is unmapped: that is no race the detector
// would see, but a fault.
func TestCloseDuringUse(t *testing.T) {
	path := segmentPath(t)
	for range 50 {
		s, _, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		slot := join(t, s, 1, StateServing)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for !s.closed.Load() {
					slot.Beat()
					lockOnce(s.LogLock())
					s.Info()
				}
			})
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	}
	checkClosed(t, path)
}

// checkClosed tells that this process has nothing of a path open or mapped.
func checkClosed(t *testing.T, path string) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(maps), path); n > 0 {
		t.Errorf("%d mappings are left", n)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + f.Name()); strings.HasPrefix(to, path) {
			t.Errorf("descriptor %s is left: %s", f.Name(), to)
		}
	}
}

func TestNextEpochOutOfRange(t *testing.T) {
	s := openClean(t, segmentPath(t))
	s.m.nextEpoch.Store(maxEpoch)
	if n, err := s.NextEpoch(); err == nil {
		t.Errorf("%d", n)
	}
}

func TestTwoBaseIDs(t *testing.T) {
	a, b := openClean(t, segmentPath(t)), openClean(t, segmentPath(t))
	join(t, a, nextEpoch(t, a), StateServing)
	a.LogLock().Lock()
	defer a.LogLock().Unlock()
	if n := nextEpoch(t, b); n != 1 || len(b.Processes()) != 0 || b.m.log.owner.Load() != 0 {
		t.Error("they share something")
	}
	if ok, _ := a.BeginInit(Self(), 2); !ok {
		t.Error("BeginInit")
	}
	if ok, _ := b.BeginInit(Self(), 2); !ok {
		t.Error("BeginInit of the other")
	}
}

func TestNoDescriptorGoesToChildren(t *testing.T) {
	s := openClean(t, segmentPath(t))
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(s.fd), syscall.F_GETFD, 0)
	if errno != 0 || flags&syscall.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, errno)
	}
}
