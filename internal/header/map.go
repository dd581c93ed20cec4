package header

import (
	"errors"
	"math"
)

// Limits bound what AddField and AddCopy take from a peer; 0 means none.
// Setters are not bound: what belay adds itself never fails for the size of
// what a client sent.
type Limits struct {
	Fields int // number of fields
	Bytes  int // field lines as on the wire, in bytes: from the name to the CRLF, without blanks behind the value
	Name   int // length of one name, in bytes
}

// Errors of AddField and the setters. The map is unchanged when one is returned.
var (
	ErrTooManyFields = errors.New("too many header fields")
	ErrTooLarge      = errors.New("header fields too large")
	ErrNameTooLong   = errors.New("header field name too long")
	ErrDuplicate     = errors.New("duplicate header field")
	ErrInvalidValue  = errors.New("CR, LF or NUL in a header field value")
	ErrInvalidName   = errors.New("header field name is not a token")
)

const (
	maxDecoded  = 1 << 14   // fields from a peer, so that setters always find room
	maxEntries  = 1<<15 - 1 // half of maxSlots
	maxSlots    = 1 << 16   // of the index, as many as there are hashes of 16 bits
	firstCap    = 32        // entries of the first allocation
	lineExtra   = 4         // ": " and CRLF
	baseArea    = 0
	namesArea   = 1
	ownAreas    = 2 // first area that is a chunk or a reference
	areasCap    = 8
	maxNameLen  = math.MaxUint16
	maxValueLen = math.MaxInt32
	keptEntries = 1 << 9  // Reset gives more than these
	keptSlots   = 1 << 11 // back to the garbage collector
)

// entry is one field, or a tombstone of one. It has no pointers: the garbage
// collector never looks into a head.
type entry struct {
	nameOff  uint32
	valOff   uint32
	valLen   uint32
	nameLen  uint16 // 0 in a tombstone, so that no name matches it
	nameArea uint16
	valArea  uint16
	print    uint16 // of the hash of the name, to pass over other names
	handle   Handle
	flags    uint8
}

const (
	flagMore = 1 << iota // first of several fields of this name; may be stale when they are gone
	flagWire             // name, ": ", value and CRLF lie side by side in one area
	flagRef              // valArea is a slice lent by SetRef, held by this entry alone
)

func (e *entry) dead() bool { return e.nameLen == 0 }

func (e *entry) size() int { return int(e.nameLen) + int(e.valLen) + lineExtra }

// end is the offset behind the CRLF of an entry with flagWire.
func (e *entry) end() uint32 { return e.valOff + e.valLen + 2 }

// Map is an ordered collection of header fields. The zero value is an empty
// map. A Map is not safe for concurrent use and must not be copied; CopyFrom
// makes an independent one. Once warm, it allocates nothing from parsing to
// serialising: Reset keeps its memory for the next message.
type Map struct {
	ents    []entry  // in order, with tombstones
	areas   [][]byte // see the package comment; nil until first used
	index   []uint32 // open addressing: hash<<16 | entry+1; nil until needed
	indexed int      // entries before this one are in index
	scanned int      // entries scanned for names since Reset, while there is no index
	live    int      // fields
	size    int      // bytes on the wire when serialised
	wire    int      // bytes on the wire as parsed
	used    int      // bytes taken of the current chunk
	room    int      // bytes left in it
	total   int      // bytes of all chunks
	wasted  int      // bytes in chunks no entry refers to any more
	limits  Limits
	cur     uint16             // area of the current chunk; 0 is none
	first   [maxHandles]uint16 // entry+1 of the first field with that handle
}

// Reset forgets all fields and references and keeps as much memory as ordinary
// heads need. Fields added by
// AddField from now on are in base, which is not copied: it must neither change
// nor be reused as long as fields or slices of them are used. Limits stay.
func (m *Map) Reset(base []byte) {
	if len(m.ents) > 0 {
		m.ents = m.ents[:0]
		m.first = [maxHandles]uint16{}
		m.live, m.size = 0, 0
	}
	if m.indexed > 0 {
		clear(m.index)
		m.indexed = 0
	}
	if cap(m.ents) > keptEntries {
		m.ents = nil
	}
	if len(m.index) > keptSlots {
		m.index = nil
	}
	m.wire, m.scanned = 0, 0
	if len(m.areas) > ownAreas {
		m.resetSlab()
	}
	m.Rebase(base)
}

// Rebase tells that the bytes given to Reset now begin base, because the
// buffer has grown or moved; fields stay valid, slices handed out do not.
func (m *Map) Rebase(base []byte) {
	if len(m.areas) == 0 {
		m.start()
	}
	if len(base) > math.MaxInt32 {
		panic("header: head of more than 2 GiB")
	}
	m.areas[baseArea] = base
}

// start readies a zero map.
func (m *Map) start() {
	if !frozen.Load() {
		frozen.Store(true)
	}
	m.areas = append(make([][]byte, 0, areasCap), nil, names.blob)
	m.SetLimits(m.limits)
}

// SetLimits bounds what is added by AddField and AddCopy. Limits survive Reset.
func (m *Map) SetLimits(l Limits) {
	m.limits = Limits{effective(l.Fields, maxDecoded), effective(l.Bytes, math.MaxInt32), effective(l.Name, maxNameLen)}
}

// effective returns the limit with which to compare.
func effective(limit, ceiling int) int {
	if limit <= 0 || limit > ceiling {
		return ceiling
	}
	return limit
}

// Release forgets all fields and gives all memory to the garbage collector.
// The map can be used again. Limits stay.
func (m *Map) Release() { *m = Map{limits: m.limits} }

// AddField adds a field that lies in the bytes given to Reset. The name must
// be a token, the value free of control characters and of blanks around it:
// the codec has looked at every byte. It returns the name's handle, 0 if it is
// not registered. With ErrDuplicate (second field of a name with policy
// Reject), ErrTooManyFields, ErrTooLarge or ErrNameTooLong nothing is added; a
// codec that goes on nevertheless drops the field.
func (m *Map) AddField(nameOff, nameLen, valOff, valLen int) (Handle, error) {
	if len(m.areas) == 0 {
		m.start()
	}
	base := m.areas[baseArea]
	h, x := names.lookup(base[nameOff : nameOff+nameLen])
	end := valOff + valLen
	wire := m.wire + end - nameOff + 2
	if m.live >= m.limits.Fields || uint(nameLen)-1 >= uint(m.limits.Name) || wire > m.limits.Bytes || m.first[h&(maxHandles-1)] != 0 {
		if err := m.admit(h, nameLen, wire); err != nil {
			return h, err
		}
	}
	m.wire = wire
	e := m.push(h)
	e.nameOff, e.nameLen, e.nameArea = uint32(nameOff), uint16(nameLen), baseArea
	e.valOff, e.valLen, e.valArea = uint32(valOff), uint32(valLen), baseArea
	e.print, e.flags = uint16(x), 0
	if valOff == nameOff+nameLen+2 && end+2 <= len(base) && is2(base[valOff-2:], ':', ' ') && is2(base[end:], '\r', '\n') {
		e.flags = flagWire
	}
	m.size += nameLen + valLen + lineExtra
	return h, nil
}

// admit says why a field from a peer cannot be added.
func (m *Map) admit(h Handle, nameLen, wire int) error {
	switch {
	case nameLen == 0:
		return ErrInvalidName
	case nameLen > m.limits.Name:
		return ErrNameTooLong
	case m.live >= m.limits.Fields:
		return ErrTooManyFields
	case wire > m.limits.Bytes:
		return ErrTooLarge
	}
	return m.unique(h)
}

// unique is ErrDuplicate when another field of that name must not be added.
func (m *Map) unique(h Handle) error {
	if m.first[h&(maxHandles-1)] != 0 && h.Policy() == Reject {
		return ErrDuplicate
	}
	return nil
}

// push adds an entry at the end and makes it known under its handle. It holds
// what was there before: the caller fills in all the rest and adds its size.
func (m *Map) push(h Handle) *entry {
	if len(m.ents) == cap(m.ents) {
		m.growEntries()
	}
	n := len(m.ents)
	m.ents = m.ents[:n+1]
	m.live++
	if h != 0 {
		if f := &m.first[h&(maxHandles-1)]; *f == 0 {
			*f = uint16(n + 1)
		} else {
			m.ents[*f-1].flags |= flagMore
		}
	}
	e := &m.ents[n]
	e.handle = h
	return e
}

// growEntries makes room for one more entry, from tombstones if half are such.
func (m *Map) growEntries() {
	if n := len(m.ents); n < firstCap || m.live > n/2 {
		ents := make([]entry, n, max(2*n, firstCap))
		copy(ents, m.ents)
		m.ents = ents
		return
	}
	live := m.ents[:0]
	for i := range m.ents {
		if e := m.ents[i]; !e.dead() {
			live = append(live, e)
		}
	}
	m.ents = live
	m.refirst()
	clear(m.index)
	m.indexed = 0
}

// refirst finds the first field of each handle after entries have moved.
func (m *Map) refirst() {
	m.first = [maxHandles]uint16{}
	for i := range m.ents {
		h := m.ents[i].handle
		if f := &m.first[h&(maxHandles-1)]; h != 0 && *f == 0 {
			*f = uint16(i + 1)
		}
	}
}

// drop makes entry i a tombstone. The caller has taken it out of first and index.
func (m *Map) drop(i int) {
	e := &m.ents[i]
	m.live--
	m.size -= e.size()
	m.forgetValue(e)
	if e.nameArea >= ownAreas {
		m.wasted += int(e.nameLen) + lineExtra
	}
	*e = entry{}
	n := len(m.ents)
	for n > 0 && m.ents[n-1].dead() {
		n--
	}
	m.ents = m.ents[:n]
	m.indexed = min(m.indexed, n)
}

func (m *Map) name(e *entry) []byte {
	return m.areas[e.nameArea][e.nameOff : e.nameOff+uint32(e.nameLen)]
}

func (m *Map) value(e *entry) []byte {
	end := e.valOff + e.valLen
	return m.areas[e.valArea][e.valOff:end:end]
}

// Get returns the value of the first field with that handle, or nil if there
// is none; the value of an empty field is empty but not nil. It is valid until
// Reset or Release, and for parsed fields as long as the base; it must not be written.
func (m *Map) Get(h Handle) []byte {
	i := m.first[h&(maxHandles-1)]
	if i == 0 {
		return nil
	}
	e := &m.ents[i-1]
	end := e.valOff + e.valLen
	return m.areas[e.valArea][e.valOff:end:end]
}

// Has reports whether there is a field with that handle.
func (m *Map) Has(h Handle) bool { return m.first[h&(maxHandles-1)] != 0 }

// Count returns the number of fields with that handle.
func (m *Map) Count(h Handle) int {
	n := 0
	m.Values(h, func([]byte) bool { n++; return true })
	return n
}

// Values calls yield with the value of each field with that handle, in order,
// until it returns false. Values are valid as those of Get are. yield may
// remove fields, but not add any.
func (m *Map) Values(h Handle, yield func([]byte) bool) {
	i := int(m.first[h&(maxHandles-1)])
	if i == 0 {
		return
	}
	e := &m.ents[i-1]
	more := e.flags&flagMore != 0
	if !yield(m.value(e)) || !more {
		return
	}
	for ; i < len(m.ents); i++ {
		if e := &m.ents[i]; e.handle == h && !yield(m.value(e)) {
			return
		}
	}
}

// Len returns the number of fields.
func (m *Map) Len() int { return m.live }

// ByteSize returns the number of bytes AppendTo adds: for each field its name
// and value and four.
func (m *Map) ByteSize() int { return m.size }
