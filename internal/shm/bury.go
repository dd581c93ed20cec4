package shm

import (
	"fmt"
	"time"
)

// bury clears what dead processes left behind. If the caller is alone, whoever is
// named in the segment is dead, be there a process with such an id: a living one
// would hold the file's flock.
func (m *layout) bury(self Identity, alone bool) []Repair {
	var list []Repair
	dead := func(w uint64) bool { return w != 0 && (alone || !identity(w).Alive()) }
	for i := range m.slots {
		r := &m.slots[i]
		w := r.owner.Load()
		if !dead(w) {
			continue
		}
		p, whole := r.read()
		if !r.owner.CompareAndSwap(w, self.word()|flag) {
			continue // another found it
		}
		if whole && p.Epoch < maxEpoch/2 {
			m.raiseEpoch(p.Epoch + 1)
		}
		r.empty()
		list = append(list, buried("slot %d is cleared: process %d (epoch %d, %v) has ended and did not leave", i, identity(w).PID, p.Epoch, p.State))
	}
	if w := m.init.owner.Load(); dead(w) {
		o := m.init.read(w)
		if m.init.clear(w, self.word()) {
			list = append(list, buried("the initializing flag is cleared: process %d, which had set it for epoch %d at %s, has ended",
				o.PID, o.Epoch, o.Since.UTC().Format(time.RFC3339)))
		}
	}
	for _, l := range []struct {
		name string
		r    *lockRecord
	}{{"log", &m.log}, {"access-log", &m.accessLog}} {
		w := l.r.owner.Load()
		if w == 0 || !dead(w) || !l.r.owner.CompareAndSwap(w, 0) {
			continue
		}
		l.r.takeovers.Add(1)
		wake(&l.r.owner)
		list = append(list, buried("the %s lock is freed: process %d, which held it, has ended", l.name, identity(w).PID))
	}
	return list
}

func buried(format string, args ...any) Repair {
	return Repair{What: fmt.Sprintf(format, args...)}
}
