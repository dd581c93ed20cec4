package header

import (
	"iter"
	"slices"
)

// AppendTo appends "Name: value" and CRLF for each field, in order and in the
// case in which it came; it does not append the empty line behind a head. A
// run of neighbouring fields that are as they were parsed or added is copied
// in one piece.
func (m *Map) AppendTo(dst []byte) []byte {
	p := len(dst)
	dst = slices.Grow(dst, m.size)[:p+m.size]
	var area uint16
	var from, to uint32 // the run
	for i := range m.ents {
		e := &m.ents[i]
		if e.dead() {
			continue
		}
		if e.flags&flagWire != 0 && e.nameOff == to && e.nameArea == area {
			to = e.end()
			continue
		}
		if to > from {
			p += copy(dst[p:], m.areas[area][from:to])
			from, to = 0, 0
		}
		if e.flags&flagWire != 0 {
			area, from, to = e.nameArea, e.nameOff, e.end()
			continue
		}
		p += copy(dst[p:], m.name(e))
		dst[p], dst[p+1] = ':', ' '
		p += 2
		p += copy(dst[p:], m.value(e))
		dst[p], dst[p+1] = '\r', '\n'
		p += 2
	}
	if to > from {
		copy(dst[p:], m.areas[area][from:to])
	}
	return dst
}

// AppendJoined appends the values of all fields with that handle, joined as its
// policy says: with ", " (List) or "; " (Crumbs). For names that are not joined
// (Reject, Separate) it appends the first value only.
func (m *Map) AppendJoined(dst []byte, h Handle) []byte {
	policy, delim := h.Policy(), ""
	m.Values(h, func(v []byte) bool {
		dst = append(append(dst, delim...), v...)
		delim = ", "
		if policy == Crumbs {
			delim = "; "
		}
		return policy == List || policy == Crumbs
	})
	return dst
}

// Each calls f with each field in order until it returns false; h is 0 for
// names that are not registered. Slices are valid as those of Get are. f may
// remove fields and set those that are there, but not add any.
func (m *Map) Each(f func(h Handle, name, value []byte) bool) {
	for i := 0; i < len(m.ents); i++ {
		e := &m.ents[i]
		if !e.dead() && !f(e.handle, m.name(e), m.value(e)) {
			return
		}
	}
}

// All is Each as an iterator, without the handle. The compiler inlines a loop
// over it, which makes it the faster of the two.
func (m *Map) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := 0; i < len(m.ents); i++ {
			if e := &m.ents[i]; !e.dead() && !yield(m.name(e), m.value(e)) {
				return
			}
		}
	}
}

// CopyFrom makes m equal to src and independent of it, of its base and of what
// was lent to it. Limits of m stay. Slices m handed out before are void.
func (m *Map) CopyFrom(src *Map) {
	if m == src {
		return
	}
	m.Reset(nil)
	if src.live == 0 {
		return
	}
	b := src.AppendTo(m.reserve(src.size)[:0])
	off := m.take(len(b))
	if cap(m.ents) < src.live {
		m.ents = make([]entry, 0, max(firstCap, src.live))
	}
	if src.live == len(src.ents) {
		m.ents = append(m.ents, src.ents...)
		m.first = src.first
	} else {
		for i := range src.ents {
			if e := &src.ents[i]; !e.dead() {
				m.ents = append(m.ents, *e)
			}
		}
		m.refirst()
	}
	for i := range m.ents {
		e := &m.ents[i]
		e.nameArea, e.nameOff = m.cur, off
		e.valArea, e.valOff = m.cur, off+uint32(e.nameLen)+2
		e.flags = e.flags&flagMore | flagWire
		off = e.end()
	}
	m.live, m.size, m.wire = src.live, src.size, src.wire
}
