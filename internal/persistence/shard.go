package persistence

// entry is one slot of a shard: 64 bytes without pointers.
type entry struct {
	id         uint64
	change     uint64 // number of its last change in the shard
	hash       uint32
	generation uint32
	first      uint32
	last       uint32
	key        uint32 // block of the key in its class; of a free slot, the next free one
	length     uint16 // of the key; 0 is a free slot
	referenced bool   // used since the clock's hand last passed
	imported   bool   // as another process left it
	counts     [Counters]uint32
}

// none is no slot.
const none = ^uint32(0)

// chunkSize is how many entries are made at a time: small, so that a worker that
// stores a key never waits for a large allocation or copy.
const chunkSize = 64

func (e *entry) endpoint() Endpoint { return Endpoint{ID: e.id, Generation: e.generation} }

func (e *entry) value() Value {
	return Value{Endpoint: e.endpoint(), FirstSeen: e.first, LastSeen: e.last, Counts: e.counts}
}

func (e *entry) set(v Value) {
	e.id, e.generation = v.Endpoint.ID, v.Endpoint.Generation
	e.first, e.last, e.counts = v.FirstSeen, v.LastSeen, v.Counts
}

func (s *shard) init() {
	s.free = none
	s.index = make([]uint32, 16)
}

func (s *shard) at(i uint32) *entry { return &s.slots[i/chunkSize][i%chunkSize] }

func (s *shard) keyOf(e *entry) []byte { return s.keys.get(e.key, int(e.length)) }

// find is the slot of a key, or none.
func (s *shard) find(key []byte, h uint32) uint32 {
	mask := uint32(len(s.index) - 1)
	for p := h & mask; s.index[p] != 0; p = (p + 1) & mask {
		i := s.index[p] - 1
		if e := s.at(i); e.hash == h && string(s.keyOf(e)) == string(key) {
			return i
		}
	}
	return none
}

// insert adds a key that is not there.
func (s *shard) insert(key []byte, h uint32, v Value) {
	if (s.n+1)*4 > len(s.index)*3 {
		s.grow()
	}
	i := s.free
	if i != none {
		s.free = s.at(i).key
	} else {
		i = s.next
		s.next++
		if int(i/chunkSize) == len(s.slots) {
			s.slots = append(s.slots, make([]entry, chunkSize))
			s.marks = append(s.marks, 0)
		}
	}
	if s.keys == nil {
		s.keys = new(keyStore)
	}
	e := s.at(i)
	*e = entry{hash: h, key: s.keys.put(key), length: uint16(len(key))}
	e.set(v)
	s.touch(i)
	s.n++
	s.point(i, h)
}

// point enters a slot into the index.
func (s *shard) point(i, h uint32) {
	mask := uint32(len(s.index) - 1)
	p := h & mask
	for s.index[p] != 0 {
		p = (p + 1) & mask
	}
	s.index[p] = i + 1
}

// grow doubles the index.
func (s *shard) grow() {
	old := s.index
	s.index = make([]uint32, 2*len(old))
	for _, v := range old {
		if v != 0 {
			s.point(v-1, s.at(v-1).hash)
		}
	}
}

// remove frees a slot and closes the gap in the index.
func (s *shard) remove(i uint32) {
	e := s.at(i)
	mask := uint32(len(s.index) - 1)
	gap := e.hash & mask
	for s.index[gap] != i+1 {
		gap = (gap + 1) & mask
	}
	for p := (gap + 1) & mask; s.index[p] != 0; p = (p + 1) & mask {
		home := s.at(s.index[p]-1).hash & mask
		if (p-home)&mask >= (p-gap)&mask { // home is not behind the gap
			s.index[gap] = s.index[p]
			gap = p
		}
	}
	s.index[gap] = 0
	s.keys.drop(e.key, int(e.length))
	*e = entry{key: s.free}
	s.free = i
	s.n--
}

// clockSteps bounds how far the hand moves for one victim.
const clockSteps = 32

// victim chooses the entry that makes room: the CLOCK approximation of least
// recently used. An entry that is not live goes at once, one that was used since
// the hand last passed gets another round. The shard is not empty.
func (s *shard) victim(live func(*entry) bool) uint32 {
	oldest := none
	for steps := 0; steps < clockSteps || oldest == none; steps++ {
		if s.hand >= s.next {
			s.hand = 0
		}
		i := s.hand
		s.hand++
		e := s.at(i)
		switch {
		case e.length == 0:
			continue
		case !live(e) || !e.referenced:
			return i
		}
		e.referenced = false
		if oldest == none || e.last < s.at(oldest).last {
			oldest = i
		}
	}
	return oldest
}

// keyStore keeps keys in blocks of a few sizes, so that they need no pointer and
// their room is used again.
type keyStore struct {
	classes [len(classSizes)]class
}

// classSizes are the sizes of blocks: keys of 1 to MaxKey bytes, a quarter of a
// block lost at most beyond the small ones.
var classSizes = [...]int{8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256}

type class struct {
	chunks [][]byte // of keyBlocks blocks
	next   uint32
	free   []uint32 // stack
}

const keyBlocks = 32

// classOf is the class of a key's length.
func classOf(n int) int {
	for c, size := range classSizes {
		if n <= size {
			return c
		}
	}
	panic("persistence: a key is longer than MaxKey")
}

func (k *keyStore) block(i uint32, n int) []byte {
	c := classOf(n)
	size := classSizes[c]
	at := int(i%keyBlocks) * size
	return k.classes[c].chunks[i/keyBlocks][at : at+n]
}

// get is a key's bytes, good while the shard is locked.
func (k *keyStore) get(i uint32, n int) []byte { return k.block(i, n) }

func (k *keyStore) put(key []byte) uint32 {
	at := classOf(len(key))
	c := &k.classes[at]
	var i uint32
	if n := len(c.free); n > 0 {
		i = c.free[n-1]
		c.free = c.free[:n-1]
	} else {
		i = c.next
		c.next++
		if int(i/keyBlocks) == len(c.chunks) {
			c.chunks = append(c.chunks, make([]byte, keyBlocks*classSizes[at]))
		}
	}
	copy(k.block(i, len(key)), key)
	return i
}

func (k *keyStore) drop(i uint32, n int) {
	c := &k.classes[classOf(n)]
	c.free = append(c.free, i)
}
