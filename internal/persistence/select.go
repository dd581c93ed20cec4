package persistence

// Filter chooses entries of a table; the zero Filter chooses all that are live.
type Filter struct {
	Key      []byte    // exactly this key, if not empty
	Endpoint *Endpoint // on this endpoint, if not nil
	Any      bool      // with Endpoint: of any generation
	MinIdle  uint32    // unused for at least this many seconds
	MaxIdle  uint32    // used within the last so many seconds; 0 is no bound
	Until    uint32    // not used after this second, since 1970; 0 is no bound
}

// Record is a copy of an entry.
type Record struct {
	Key []byte
	Value
}

func (f *Filter) wants(e *entry, now uint32) bool {
	idle := ahead(now, e.last)
	switch {
	case f.Endpoint != nil && (e.id != f.Endpoint.ID || !f.Any && e.generation != f.Endpoint.Generation):
		return false
	case idle < f.MinIdle, f.MaxIdle > 0 && idle > f.MaxIdle, f.Until > 0 && e.last > f.Until:
		return false
	}
	return true
}

// Each calls yield with the live entries that a filter chooses until it returns
// false. No lock is held meanwhile and the record is yield's to keep. An entry
// that is there all the time is told once; one that comes or goes may be missed.
func (t *Table) Each(f Filter, now uint32, yield func(Record) bool) {
	if len(f.Key) > 0 {
		s, key, h := t.locate(f.Key)
		s.Lock()
		i := s.find(key, h)
		if i == none || !t.live(s.at(i), now) || !f.wants(s.at(i), now) {
			s.Unlock()
			return
		}
		r := s.record(i)
		s.Unlock()
		yield(r)
		return
	}
	var batch []Record
	t.walk(func(s *shard, i uint32) {
		if e := s.at(i); t.live(e, now) && f.wants(e, now) {
			batch = append(batch, s.record(i))
		}
	}, func() bool {
		for _, r := range batch {
			if !yield(r) {
				return false
			}
		}
		batch = batch[:0]
		return true
	})
}

func (s *shard) record(i uint32) Record {
	e := s.at(i)
	return Record{Key: append([]byte(nil), s.keyOf(e)...), Value: e.value()}
}

// Count is how many live entries a filter chooses.
func (t *Table) Count(f Filter, now uint32) int {
	if len(f.Key) > 0 {
		n := 0
		t.Each(f, now, func(Record) bool { n++; return true })
		return n
	}
	n := 0
	t.walk(func(s *shard, i uint32) {
		if e := s.at(i); t.live(e, now) && f.wants(e, now) {
			n++
		}
	}, func() bool { return true })
	return n
}

// ByEndpoint counts the live entries of each endpoint, by its id.
func (t *Table) ByEndpoint(now uint32) map[uint64]int {
	counts := make(map[uint64]int)
	t.walk(func(s *shard, i uint32) {
		if e := s.at(i); t.live(e, now) {
			counts[e.id]++
		}
	}, func() bool { return true })
	return counts
}

// Clear drops the entries that a filter chooses and tells how many there were.
func (t *Table) Clear(f Filter, now uint32) int {
	n := 0
	if len(f.Key) > 0 {
		s, key, h := t.locate(f.Key)
		s.Lock()
		defer s.Unlock()
		if i := s.find(key, h); i != none && f.wants(s.at(i), now) {
			s.remove(i)
			t.used.Add(-1)
			n = 1
		}
		return n
	}
	t.walk(func(s *shard, i uint32) {
		if f.wants(s.at(i), now) {
			s.remove(i)
			t.used.Add(-1)
			n++
		}
	}, func() bool { return true })
	return n
}

// Sweep drops the entries that are over and tells how many. The control plane
// calls it from time to time, or Len and the memory would count sessions that
// nobody comes back to.
func (t *Table) Sweep(now uint32) int {
	if t.expire == 0 {
		return 0
	}
	n := 0
	t.walk(func(s *shard, i uint32) {
		if !t.live(s.at(i), now) {
			s.remove(i)
			s.stats.Expired++
			t.used.Add(-1)
			n++
		}
	}, func() bool { return true })
	return n
}

// walk calls visit for each entry, under the lock of its shard, and between,
// without a lock, after each step of some entries; between ends the walk by
// returning false.
func (t *Table) walk(visit func(*shard, uint32), between func() bool) {
	for n := range t.shards {
		s := &t.shards[n]
		for slot, more := uint32(0), true; more; {
			s.Lock()
			end := min(slot+sweepStep, s.next)
			for ; slot < end; slot++ {
				if s.at(slot).length > 0 {
					visit(s, slot)
				}
			}
			more = slot < s.next
			s.Unlock()
			if !between() {
				return
			}
		}
	}
}
