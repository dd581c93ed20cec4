package persistence

import "fmt"

// Records reads a chunk of Export. The records are the caller's to keep.
func Records(chunk []byte) ([]Record, error) {
	if len(chunk) == 0 {
		return nil, nil
	}
	if chunk[0] != chunkVersion {
		return nil, fmt.Errorf("table chunk of unknown version %d", chunk[0])
	}
	var list []Record
	for rest := chunk[1:]; len(rest) > 0; {
		key, v, after, ok := cutEntry(rest)
		if !ok {
			return nil, errChunk
		}
		list = append(list, Record{Key: append([]byte(nil), key...), Value: v})
		rest = after
	}
	return list, nil
}

// Adopt takes in an entry of another machine and reports whether the table's changed;
// have is the table's afterwards. The entry that was used last wins. Of two that were
// used within one second the one that was placed later wins, and after that an order
// of endpoints without meaning: unlike Import, where two processes follow their own
// user, any number of machines come to the same answer, whatever hears of which first.
// The counters of an entry are each machine's own.
func (t *Table) Adopt(key []byte, v Value, now uint32) (have Value, changed bool) {
	if len(key) == 0 || t.expire > 0 && ahead(now, v.LastSeen) > t.expire {
		return v, false
	}
	s, key, h := t.locate(key)
	s.Lock()
	defer s.Unlock()
	i := s.find(key, h)
	if i == none {
		t.insertLocked(s, key, h, v, now)
		s.at(s.find(key, h)).imported = true
		return v, true
	}
	e := s.at(i)
	have = e.value()
	if !v.after(&have) {
		return have, false
	}
	v.Counts = have.Counts
	e.set(v)
	e.imported = true
	s.touch(i)
	return v, true
}

// after is the order of Adopt.
func (v *Value) after(o *Value) bool {
	switch {
	case v.LastSeen != o.LastSeen:
		return v.LastSeen > o.LastSeen
	case v.FirstSeen != o.FirstSeen:
		return v.FirstSeen > o.FirstSeen
	case v.Endpoint.ID != o.Endpoint.ID:
		return v.Endpoint.ID > o.Endpoint.ID
	}
	return v.Endpoint.Generation > o.Endpoint.Generation
}
