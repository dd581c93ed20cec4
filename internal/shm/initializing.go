package shm

import "time"

// Owner is who holds the INITIALIZING flag: there is one hot restart at a time.
type Owner struct {
	Identity
	Epoch uint64    // of the child
	Since time.Time // when it was set
}

// BeginInit sets the flag for a process that has the segment open, for the child
// with the epoch. If ok is false somebody alive, perhaps the owner itself, has it
// already. A dead owner's flag counts as not set. Current is who has it now.
func (s *Segment) BeginInit(owner Identity, epoch uint64) (ok bool, current Owner) {
	if !s.enter() {
		return false, Owner{}
	}
	defer s.leave()
	r := &s.m.init
	for {
		w := r.owner.Load()
		if w != 0 && identity(w).Alive() {
			return false, r.read(w)
		}
		if !r.owner.CompareAndSwap(w, owner.word()|flag) {
			continue
		}
		now := time.Now()
		r.epoch.Store(epoch)
		r.since.Store(now.UnixNano())
		r.owner.Store(owner.word())
		return true, Owner{Identity: owner, Epoch: epoch, Since: now}
	}
}

// EndInit takes the flag back. It does nothing if another has it.
func (s *Segment) EndInit(owner Identity) {
	if !s.enter() {
		return
	}
	defer s.leave()
	s.m.init.clear(owner.word(), owner.word())
}

// clear frees the flag if it has the owner word seen; by is who does it.
func (r *initRecord) clear(seen, by uint64) bool {
	if seen == 0 || !r.owner.CompareAndSwap(seen, by|flag) {
		return false
	}
	r.epoch.Store(0)
	r.since.Store(0)
	r.owner.Store(0)
	return true
}

// Initializing tells who has the flag; ok is false if nobody alive has it.
func (s *Segment) Initializing() (o Owner, ok bool) {
	if !s.enter() {
		return Owner{}, false
	}
	defer s.leave()
	w := s.m.init.owner.Load()
	if w == 0 || !identity(w).Alive() {
		return Owner{}, false
	}
	return s.m.init.read(w), true
}

// read is the flag of the owner w. If it is just being set or cleared only the
// identity is known.
func (r *initRecord) read(w uint64) Owner {
	o := Owner{Identity: identity(w), Epoch: r.epoch.Load(), Since: time.Unix(0, r.since.Load())}
	if w&flag != 0 || r.owner.Load() != w {
		return Owner{Identity: o.Identity}
	}
	return o
}
