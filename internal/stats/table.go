package stats

import (
	"hash/maphash"
	"slices"
	"strings"
)

// labelStore keeps the labels of all series, in chunks so that growing moves
// nothing. A place in it is the number of the chunk and the index within.
type labelStore struct {
	chunks [][]Label
	last   uint32 // place of the labels kept last
	n      int    // how many they were
	hash   uint64 // of their values
	seed   maphash.Seed
}

// chunkLabels is the size of a chunk, a power of two.
const chunkLabels = 1 << 10

// at are the n labels at a place, not to be changed.
func (s *labelStore) at(place uint32, n int) []Label {
	if n == 0 {
		return nil
	}
	return s.chunks[place/chunkLabels][place%chunkLabels:][:n:n]
}

// keep copies labels and tells their place and their hash. Those of the call
// before, which an object's series have in common, are not copied again.
func (s *labelStore) keep(l []Label) (place uint32, hash uint64) {
	if slices.Equal(l, s.at(s.last, s.n)) {
		return s.last, s.hash
	}
	if len(l) > chunkLabels {
		panic("stats: too many labels")
	}
	tail := len(s.chunks) - 1
	if tail < 0 || len(s.chunks[tail])+len(l) > chunkLabels {
		s.chunks = append(s.chunks, make([]Label, 0, chunkLabels))
		tail++
	}
	s.last, s.n = uint32(tail*chunkLabels+len(s.chunks[tail])), len(l)
	for _, x := range l {
		x.Value = strings.ToValidUTF8(x.Value, "\uFFFD")
		s.chunks[tail] = append(s.chunks[tail], x)
	}
	s.hash = s.hashOf(s.at(s.last, s.n))
	return s.last, s.hash
}

func (s *labelStore) hashOf(l []Label) (h uint64) {
	for _, x := range l {
		h = h*golden ^ maphash.String(s.seed, x.Value)
	}
	return h
}

// golden spreads the bits of a hash (2^64 divided by the golden ratio).
const golden = 0x9e3779b97f4a7c15

// table finds series by family and labels: open addressing, at most half full.
type table struct {
	entries []entry // a power of two of them
	used    int
}

// entry has the upper half of a hash and where the series is; free if place is 0.
type entry struct {
	hash  uint32
	place uint32 // 1 + index in family.series
}

// find calls same with the candidates for a hash until it says true.
func (t *table) find(hash uint64, same func(i int) bool) int {
	mask := len(t.entries) - 1
	for k := int(hash>>32) & mask; mask > 0; k = (k + 1) & mask {
		e := t.entries[k]
		if e.place == 0 {
			break
		}
		if e.hash == uint32(hash>>32) && same(int(e.place-1)) {
			return int(e.place - 1)
		}
	}
	return -1
}

func (t *table) insert(hash uint64, i int) {
	if 2*(t.used+1) > len(t.entries) {
		old := t.entries
		t.entries = make([]entry, max(64, 2*len(old)))
		for _, e := range old {
			if e.place != 0 {
				t.put(e)
			}
		}
	}
	t.put(entry{uint32(hash >> 32), uint32(i) + 1})
	t.used++
}

func (t *table) put(e entry) {
	mask := len(t.entries) - 1
	k := int(e.hash) & mask
	for t.entries[k].place != 0 {
		k = (k + 1) & mask
	}
	t.entries[k] = e
}
