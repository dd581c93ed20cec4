package header

import (
	"errors"
	"math/rand/v2"
)

const (
	// maxHandles bounds the registered names; the array in each Map has this
	// many elements of two bytes.
	maxHandles = 128
	slotBits   = 11
)

// nameTable finds the handle of a name by a hash of its length and its ends,
// multiplied by a number that was searched for until no two names shared a slot.
type nameTable struct {
	mul   uint64
	slot  [1 << slotBits]Handle
	keys  [maxHandles]nameKey
	text  [maxHandles]string
	blob  []byte // "Name: Name: …", area 1 of every Map
	count int
}

// nameKey lets a look-up compare names of up to 24 bytes by three words,
// without a loop and without a look at the blob. It fills a cache line.
type nameKey struct {
	a, z, mid             uint64 // first and last bytes; in names of 17 bytes and more, those from the ninth on
	caseA, caseZ, caseMid uint64 // the bit of case where those are letters
	length                uint32
	off                   uint32 // into blob
	policy                Policy
	next                  Handle // another name in the same slot; 0 throughout when the hash is perfect
	_                     [6]byte
}

type field struct {
	name   string
	policy Policy
}

// newNameTable returns a table of fields, whose handles are their indices; the first is not used.
func newNameTable(fields []field) (t nameTable) {
	for h := 1; h < len(fields); h++ {
		t.set(Handle(h), fields[h].name, fields[h].policy)
	}
	t.rehash()
	return t
}

// add gives a new name the next handle.
func (t *nameTable) add(name string, p Policy) (Handle, error) {
	switch {
	case t.count >= maxHandles:
		return 0, errors.New("too many names")
	case !validName(view(name)) || len(name) > 255:
		return 0, ErrInvalidName
	}
	h := Handle(t.count)
	x := t.set(h, name, p)
	if s := &t.slot[x*t.mul>>(64-slotBits)]; *s == 0 {
		*s = h
	} else {
		t.rehash()
	}
	return h, nil
}

// set stores a name under the next handle and returns its hash.
func (t *nameTable) set(h Handle, name string, p Policy) (hash uint64) {
	b := view(name)
	k := &t.keys[h]
	*k = nameKey{off: uint32(len(t.blob)), length: uint32(len(b)), policy: p}
	k.a, k.z = ends(b)
	k.caseA, k.caseZ = letters(k.a), letters(k.z)
	if len(b) > 16 {
		k.mid = load64(b[8:])
		k.caseMid = letters(k.mid)
	}
	t.text[h] = name
	t.blob = append(append(t.blob, name...), ": "...)
	t.count = int(h) + 1
	return hashEnds(k.a, k.z, len(b))
}

// rehash looks for a multiplier that gives every name a slot of its own. Some
// 50 tries do for 127 names. Two names with equal length, first and last eight
// bytes have no such multiplier; then the best one found is taken and those
// names share a slot.
func (t *nameTable) rehash() {
	hashes := make([]uint64, t.count)
	for h := 1; h < t.count; h++ {
		hashes[h] = hashEnds(t.keys[h].a, t.keys[h].z, int(t.keys[h].length))
	}
	least := t.count
	for try := 0; try < 2000 && least > 0; try++ {
		mul := rand.Uint64() | 1
		if n := clashes(hashes[1:], mul); n < least {
			t.mul, least = mul, n
		}
	}
	clear(t.slot[:])
	for h := t.count - 1; h > 0; h-- {
		s := &t.slot[hashes[h]*t.mul>>(64-slotBits)]
		t.keys[h].next, *s = *s, Handle(h)
	}
}

func clashes(hashes []uint64, mul uint64) int {
	var taken [1 << slotBits]bool
	n := 0
	for _, x := range hashes {
		s := x * mul >> (64 - slotBits)
		if taken[s] {
			n++
		}
		taken[s] = true
	}
	return n
}

// lookup returns the handle of name, or 0, and a hash of its length and ends.
func (t *nameTable) lookup(name []byte) (Handle, uint64) {
	n := len(name)
	var a, z uint64
	if n >= 8 {
		a, z = load64(name), load64(name[n-8:])
	} else {
		a, z = shortEnds(name)
	}
	x := hashEnds(a, z, n)
	h := t.slot[x*t.mul>>(64-slotBits)]
	if h == 0 {
		return 0, x
	}
	k := &t.keys[h&(maxHandles-1)]
	if (a^k.a)&^k.caseA|(z^k.z)&^k.caseZ|uint64(uint32(n)^k.length) == 0 &&
		(n <= 16 || n <= 24 && (load64(name[8:])^k.mid)&^k.caseMid == 0) {
		return h, x
	}
	return t.lookupLong(name, h, a, z), x
}

// lookupLong is lookup from the first name of a slot on.
func (t *nameTable) lookupLong(name []byte, h Handle, a, z uint64) Handle {
	for h != 0 {
		k := &t.keys[h&(maxHandles-1)]
		if int(k.length) == len(name) && (a^k.a)&^k.caseA|(z^k.z)&^k.caseZ == 0 &&
			(len(name) <= 16 || equalFold(name, view(t.text[h&(maxHandles-1)]))) {
			return h
		}
		h = k.next
	}
	return 0
}
