package header

const (
	firstChunk = 1 << 10
	maxChunk   = 1 << 14 // larger values get a chunk of their own, which Reset drops
	keptAreas  = 1 << 7
	maxAreas   = 1 << 10 // references and chunks before dead ones are swept
)

// resetSlab drops references and all chunks but the current one, which is the
// largest of the ordinary ones.
func (m *Map) resetSlab() {
	var keep []byte
	if m.cur != 0 && len(m.areas[m.cur]) <= maxChunk {
		keep = m.areas[m.cur]
	}
	if len(m.areas) > ownAreas+1 || keep == nil {
		clear(m.areas[ownAreas:])
		m.areas = m.areas[:ownAreas]
		if cap(m.areas) > keptAreas {
			m.areas = append(make([][]byte, 0, areasCap), m.areas...)
		}
		m.cur = 0
		if keep != nil {
			m.areas = append(m.areas, keep)
			m.cur = ownAreas
		}
	}
	m.used, m.wasted = 0, 0
	m.room, m.total = len(keep), len(keep)
}

// reserve returns n unused bytes at the end of the current chunk; take makes
// them used. It may renumber areas, never move bytes.
func (m *Map) reserve(n int) []byte {
	if n > m.room {
		m.growSlab(n)
	}
	return m.areas[m.cur][m.used : m.used+n]
}

// take marks the next n reserved bytes as used and returns their offset.
func (m *Map) take(n int) uint32 {
	off := m.used
	m.used += n
	m.room -= n
	return uint32(off)
}

// growSlab makes a new chunk of at least n bytes the current one.
func (m *Map) growSlab(n int) {
	if len(m.areas) == 0 {
		m.start()
	}
	if m.crowded() || m.total >= maxChunk && m.wasted > m.total/2 {
		m.sweep(n)
		return
	}
	size := firstChunk
	for size < maxChunk && (size < n || size <= m.total) {
		size *= 2
	}
	m.wasted += m.room
	m.addChunk(max(size, n))
}

func (m *Map) addChunk(size int) {
	m.cur = uint16(len(m.areas))
	m.areas = append(m.areas, make([]byte, size))
	m.used, m.room = 0, size
	m.total += size
}

// sweep moves what entries still refer to into one new chunk with n bytes to
// spare. Old chunks are left as they are, to the slices that were handed out.
func (m *Map) sweep(n int) {
	old := m.areas
	m.areas = append(make([][]byte, 0, areasCap), old[baseArea], old[namesArea])
	m.total, m.wasted = 0, 0
	m.addChunk(max(m.size+n, maxChunk))
	move := func(area *uint16, off *uint32, n uint32) {
		b := old[*area][*off : *off+n]
		*area, *off = m.cur, m.take(copy(m.reserve(len(b)), b))
	}
	for i := range m.ents {
		e := &m.ents[i]
		if e.nameArea >= ownAreas && e.flags&flagWire != 0 {
			gap := e.valOff - e.nameOff
			move(&e.nameArea, &e.nameOff, e.end()-e.nameOff)
			e.valArea, e.valOff = e.nameArea, e.nameOff+gap
			continue
		}
		if e.nameArea >= ownAreas {
			move(&e.nameArea, &e.nameOff, uint32(e.nameLen))
		}
		switch {
		case e.flags&flagRef != 0:
			m.areas = append(m.areas, old[e.valArea])
			e.valArea = uint16(len(m.areas) - 1)
		case e.valArea >= ownAreas:
			move(&e.valArea, &e.valOff, e.valLen)
		}
	}
}

// lend makes v an area of its own and returns its number.
func (m *Map) lend(v []byte) uint16 {
	if m.crowded() {
		m.sweep(0)
	}
	m.areas = append(m.areas, v)
	return uint16(len(m.areas) - 1)
}

// crowded reports whether most areas are dead; it keeps their number in 16 bits.
func (m *Map) crowded() bool { return len(m.areas) >= maxAreas && len(m.areas) > 2*m.live }

// forgetValue accounts for the value of e, which is about to be replaced or removed.
func (m *Map) forgetValue(e *entry) {
	switch {
	case e.flags&flagRef != 0:
		m.areas[e.valArea] = nil
		if n := len(m.areas) - 1; int(e.valArea) == n {
			m.areas = m.areas[:n]
		}
		e.flags &^= flagRef
	case e.valArea >= ownAreas:
		m.wasted += int(e.valLen)
	}
}
