package header

// An index pays for names that are not registered from indexMin fields on, and
// then for a map in which so many have been looked up that indexScans fields
// were scanned for each field there is: indexing one costs as much.
const (
	indexMin   = 16
	indexScans = 12
)

// GetName returns the value of the first field of that name in any case, as
// Get does.
func (m *Map) GetName(name string) []byte { return m.GetNameBytes(view(name)) }

// GetNameBytes is GetName for bytes; name is not kept.
func (m *Map) GetNameBytes(name []byte) []byte {
	h, x := names.lookup(name)
	if h != 0 {
		return m.Get(h)
	}
	if m.indexed > 0 && m.indexed == len(m.ents) {
		if _, e := m.probe(name, hashAll(x, name)); e != nil {
			return m.value(e)
		}
		return nil
	}
	if i := m.find(name, x); i != 0 {
		return m.value(&m.ents[i-1])
	}
	return nil
}

// HasName reports whether there is a field of that name in any case.
func (m *Map) HasName(name string) bool { return m.GetName(name) != nil }

// ValuesName is Values by name, in any case.
func (m *Map) ValuesName(name []byte, yield func([]byte) bool) {
	h, x := names.lookup(name)
	if h != 0 {
		m.Values(h, yield)
		return
	}
	i := m.find(name, x)
	if i == 0 {
		return
	}
	for i--; i < len(m.ents); i++ {
		if e := &m.ents[i]; m.named(e, name) && !yield(m.value(e)) {
			return
		}
	}
}

func (m *Map) named(e *entry, name []byte) bool {
	return int(e.nameLen) == len(name) && len(name) > 0 && equalFold(m.name(e), name)
}

// find returns the first entry of a name that is not registered, counted from
// one, or 0. x is the hash that lookup returned.
func (m *Map) find(name []byte, x uint64) int {
	if len(name) == 0 {
		return 0 // a tombstone has no name either
	}
	if m.indexed == 0 && (m.live < indexMin || m.scanned < indexScans*m.live) {
		m.scanned += len(m.ents)
		for i := range m.ents {
			e := &m.ents[i]
			if e.print == uint16(x) && int(e.nameLen) == len(name) {
				if own := m.name(e); sameShort(own, name) || equalFold(own, name) {
					return i + 1
				}
			}
		}
		return 0
	}
	if m.indexed < len(m.ents) {
		m.extendIndex()
	}
	slot, _ := m.probe(name, hashAll(x, name))
	return int(m.index[slot] & 0xffff)
}

// probe returns the slot of the name and its first entry, or the free slot in
// which it belongs and nil.
func (m *Map) probe(name []byte, hash uint32) (slot uint32, first *entry) {
	index := m.index
	mask := uint32(len(index) - 1)
	for s := hash & mask; ; s = (s + 1) & mask {
		c := index[s]
		if c == 0 {
			return s, nil
		}
		if c>>16 == hash {
			e := &m.ents[c&0xffff-1]
			if own := m.name(e); sameShort(own, name) || equalFold(own, name) {
				return s, e
			}
		}
	}
}

// extendIndex takes the entries added since the last look-up into the index.
func (m *Map) extendIndex() {
	if 2*len(m.ents) > len(m.index) {
		// A third of the slots is taken now, so that a miss ends soon.
		size := 4 * indexMin
		for size < 3*len(m.ents) && size < maxSlots {
			size *= 2
		}
		m.index = make([]uint32, size)
		m.indexed = 0
	}
	for i := m.indexed; i < len(m.ents); i++ {
		e := &m.ents[i]
		if e.handle != 0 || e.dead() {
			continue
		}
		name := m.name(e)
		a, z := ends(name)
		hash := hashAll(hashEnds(a, z, len(name)), name)
		if slot, e := m.probe(name, hash); e != nil {
			e.flags |= flagMore
		} else {
			m.index[slot] = hash<<16 | uint32(i+1)
		}
	}
	m.indexed = len(m.ents)
}

// unindex empties a slot and closes the gap: an entry further on moves up
// unless its own place lies behind the gap.
func (m *Map) unindex(gap uint32) {
	mask := uint32(len(m.index) - 1)
	for s := (gap + 1) & mask; m.index[s] != 0; s = (s + 1) & mask {
		home := m.index[s] >> 16 & mask
		if (s-home)&mask >= (s-gap)&mask {
			m.index[gap] = m.index[s]
			gap = s
		}
	}
	m.index[gap] = 0
}

// SetName makes value the only one of the field of that name, as Set does. A
// field that is already there keeps its case, a new one has that of name.
func (m *Map) SetName(name, value string) error {
	n, v := view(name), view(value)
	var i int
	h, x := names.lookup(n)
	if h != 0 {
		i = int(m.first[h&(maxHandles-1)])
	} else {
		i = m.find(n, x)
	}
	if i == 0 {
		return m.add(n, v, h, x)
	}
	i--
	if err := settable(v); err != nil {
		return err
	}
	if h == 0 {
		m.dropNamed(i, n)
	} else if m.ents[i].flags&flagMore != 0 {
		m.dropMore(i, h)
	}
	m.copyValue(&m.ents[i], v)
	return nil
}

// AddName adds a field at the end; both strings are copied. A second field of
// a name with policy Reject is ErrDuplicate.
func (m *Map) AddName(name, value string) error {
	return m.AddNameBytes(view(name), view(value))
}

// AddNameBytes is AddName for bytes.
func (m *Map) AddNameBytes(name, value []byte) error {
	h, x := names.lookup(name)
	return m.add(name, value, h, x)
}

// AddCopy adds a field from a peer whose bytes will not stay, such as a
// trailer: it copies name and value and is bound by the limits, as AddField is.
func (m *Map) AddCopy(name, value []byte) (Handle, error) {
	if len(m.areas) == 0 {
		m.start()
	}
	h, x := names.lookup(name)
	wire := m.wire + len(name) + len(value) + lineExtra
	err := m.admit(h, len(name), wire)
	if err == nil {
		err = m.add(name, value, h, x)
	}
	if err == nil {
		m.wire = wire
	}
	return h, err
}

func (m *Map) add(name, value []byte, h Handle, x uint64) error {
	switch {
	case len(name) > maxNameLen:
		return ErrNameTooLong
	case h == 0 && !validName(name):
		return ErrInvalidName
	case m.live >= maxEntries:
		return ErrTooManyFields
	}
	if err := settable(value); err != nil {
		return err
	}
	if err := m.unique(h); err != nil {
		return err
	}
	// The line is written as it will be sent, so that AppendTo copies it whole.
	n := len(name) + len(value) + lineExtra
	b := m.reserve(n)
	k := copy(b, name)
	b[k], b[k+1] = ':', ' '
	k += 2
	k += copy(b[k:], value)
	b[k], b[k+1] = '\r', '\n'
	off := m.take(n)
	e := m.push(h)
	e.nameOff, e.nameLen, e.nameArea = off, uint16(len(name)), m.cur
	e.valOff, e.valLen, e.valArea = off+uint32(len(name))+2, uint32(len(value)), m.cur
	e.print, e.flags = uint16(x), flagWire
	m.size += n
	return nil
}

// dropNamed removes the fields of a name that is not registered behind the
// first one and returns how many.
func (m *Map) dropNamed(first int, name []byte) int {
	e := &m.ents[first]
	if m.indexed > first && e.flags&flagMore == 0 {
		return 0
	}
	e.flags &^= flagMore
	n, print := 0, e.print
	for j := len(m.ents) - 1; j > first; j-- {
		if j < len(m.ents) && m.ents[j].print == print && m.named(&m.ents[j], name) {
			m.drop(j)
			n++
		}
	}
	return n
}

// RemoveName removes all fields of that name, in any case, and returns how
// many there were.
func (m *Map) RemoveName(name []byte) int {
	h, x := names.lookup(name)
	if h != 0 {
		n := m.live
		m.Remove(h)
		return n - m.live
	}
	i := m.find(name, x) - 1
	if i < 0 {
		return 0
	}
	if m.indexed > 0 {
		slot, _ := m.probe(name, hashAll(x, name))
		m.unindex(slot)
	}
	n := m.dropNamed(i, name)
	m.drop(i)
	return n + 1
}

// RemovePrefix removes all fields whose name begins with prefix, in any case,
// and returns how many there were.
func (m *Map) RemovePrefix(prefix string) int {
	p := view(prefix)
	before := m.live
	for i := len(m.ents) - 1; i >= 0; i-- {
		e := &m.ents[i]
		if e.dead() || int(e.nameLen) < len(p) {
			continue
		}
		name := m.name(e)[:len(p)]
		if len(name) > 0 && (name[0]^p[0])&^0x20 != 0 || !equalFold(name, p) {
			continue
		}
		if e.handle != 0 {
			m.first[e.handle&(maxHandles-1)] = 0
		} else if m.indexed > 0 {
			clear(m.index)
			m.indexed = 0
		}
		m.drop(i)
		i = min(i, len(m.ents))
	}
	return before - m.live
}
