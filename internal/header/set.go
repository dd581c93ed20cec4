package header

import "math/bits"

// setValue makes the bytes at off in an area the value of e.
func (m *Map) setValue(e *entry, area uint16, off uint32, n int) {
	m.forgetValue(e)
	m.size += n - int(e.valLen)
	e.flags &^= flagWire
	e.valArea, e.valOff, e.valLen = area, off, uint32(n)
}

// copyValue makes a copy of v the value of e.
func (m *Map) copyValue(e *entry, v []byte) {
	if len(v) == 0 {
		m.setValue(e, namesArea, 0, 0)
		return
	}
	copy(m.reserve(len(v)), v)
	m.setValue(e, m.cur, m.take(len(v)), len(v))
}

// sole returns the only entry with a handle: the first one there is, the
// further ones removed, or a new one with an empty value.
func (m *Map) sole(h Handle) (*entry, error) {
	i := m.first[h&(maxHandles-1)]
	if i == 0 {
		return m.pushNamed(h)
	}
	e := &m.ents[i-1]
	if e.flags&flagMore != 0 {
		m.dropMore(int(i-1), h)
	}
	return e, nil
}

// pushNamed adds an entry with the registered name and an empty value.
func (m *Map) pushNamed(h Handle) (*entry, error) {
	if len(m.areas) == 0 {
		m.start()
	}
	if h == 0 || int(h) >= names.count {
		return nil, ErrInvalidName
	}
	if m.live >= maxEntries {
		return nil, ErrTooManyFields
	}
	k := &names.keys[h&(maxHandles-1)]
	e := m.push(h)
	// One by one: a literal is put together in narrow stores and copied in wide
	// loads, which wait for them.
	e.nameOff, e.nameLen, e.nameArea = k.off, uint16(k.length), namesArea
	e.valOff, e.valLen, e.valArea = 0, 0, namesArea
	e.print, e.flags = 0, 0
	m.size += int(k.length) + lineExtra
	return e, nil
}

// dropMore removes the fields with a handle behind the first one.
func (m *Map) dropMore(first int, h Handle) {
	m.ents[first].flags &^= flagMore
	for j := len(m.ents) - 1; j > first; j-- {
		if j < len(m.ents) && m.ents[j].handle == h {
			m.drop(j)
		}
	}
}

// settable says why v cannot be a value.
func settable(v []byte) error {
	if len(v) > maxValueLen {
		return ErrTooLarge
	}
	if !validValue(v) {
		return ErrInvalidValue
	}
	return nil
}

// Set makes v the only value of a field, at the place of the first one there
// is, in its case of letters; otherwise at the end. v is copied.
func (m *Map) Set(h Handle, v []byte) error {
	if err := settable(v); err != nil {
		return err
	}
	e, err := m.sole(h)
	if err == nil {
		m.copyValue(e, v)
	}
	return err
}

// SetString is Set for a string.
func (m *Map) SetString(h Handle, v string) error { return m.Set(h, view(v)) }

// SetRef is Set without copying: v must stay as it is until Reset or Release.
func (m *Map) SetRef(h Handle, v []byte) error {
	if err := settable(v); err != nil {
		return err
	}
	e, err := m.sole(h)
	switch {
	case err != nil:
		return err
	case len(v) == 0:
		m.setValue(e, namesArea, 0, 0)
	case e.flags&flagRef != 0:
		m.areas[e.valArea] = v
		m.size += len(v) - int(e.valLen)
		e.valLen = uint32(len(v))
	default:
		m.setValue(e, m.lend(v), 0, len(v))
		e.flags |= flagRef
	}
	return nil
}

// SetInt is Set for a decimal number. It panics on a handle that is not
// registered, and on more fields than a peer can send.
func (m *Map) SetInt(h Handle, n int64) {
	e, err := m.sole(h)
	if err != nil {
		panic("header: set integer: " + err.Error())
	}
	digits := putInt(m.reserve(20), n)
	m.setValue(e, m.cur, m.take(digits), digits)
}

// putInt writes n at the beginning of b, which has room for 20 bytes, and
// returns the number of its characters.
func putInt(b []byte, n int64) int {
	u, end := uint64(n), 0
	if n < 0 {
		u = -u
		b[0] = '-'
		end = 1
	}
	digits := (bits.Len64(u|1)*1233)>>12 + 1 // of 2^k, perhaps one too many
	if u < tens[digits-1] {
		digits--
	}
	digits = max(digits, 1)
	end += digits
	for i := end - 1; ; i-- {
		b[i] = byte('0' + u%10)
		if u /= 10; u == 0 {
			return end
		}
	}
}

// Append adds delim and v to the value of the first field with that handle;
// without such a field it sets v. Further fields stay as they are.
func (m *Map) Append(h Handle, delim string, v []byte) error {
	i := m.first[h&(maxHandles-1)]
	if i == 0 {
		return m.Set(h, v)
	}
	if err := settable(v); err != nil {
		return err
	}
	if !validValue(view(delim)) {
		return ErrInvalidValue
	}
	e := &m.ents[i-1]
	old := m.value(e)
	add := len(delim) + len(v)
	n := len(old) + add
	if n > maxValueLen {
		return ErrTooLarge
	}
	if add == 0 {
		return nil
	}
	// At the end of the chunk the old value grows in place.
	if e.valArea == m.cur && m.cur != 0 && int(e.valOff+e.valLen) == m.used && add <= m.room {
		b := m.reserve(add)
		copy(b[copy(b, delim):], v)
		m.take(add)
		m.size += add
		e.valLen += uint32(add)
		e.flags &^= flagWire
		return nil
	}
	b := m.reserve(n)
	k := copy(b, old)
	k += copy(b[k:], delim)
	copy(b[k:], v)
	m.setValue(e, m.cur, m.take(n), n)
	return nil
}

// Remove removes all fields with that handle.
func (m *Map) Remove(h Handle) {
	f := &m.first[h&(maxHandles-1)]
	if *f == 0 {
		return
	}
	i := int(*f - 1)
	*f = 0
	if m.ents[i].flags&flagMore != 0 {
		m.dropMore(i, h)
	}
	m.drop(i)
}

// tens are the powers of ten.
var tens = [20]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19}
