package persistence

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A chunk of a table, as a successor process takes it. Integers are big endian:
//
//	1   version, 1
//	    for each entry:
//	2   length of the key, 1 to MaxKey
//	n   key
//	8   endpoint id
//	4   generation
//	4   first seen
//	4   last seen
//	16  counters
//
// Each chunk stands for itself; chunks may come twice and in any order.
const (
	chunkVersion = 1
	fixedSize    = 8 + 3*4 + Counters*4
)

// MinChunk is the least room that Export needs for progress.
const MinChunk = 1 + 2 + MaxKey + fixedSize

// sweepStep is how many slots are looked at under one hold of a shard's lock.
const sweepStep = 64

// Cursor is how far a successor has been told of a table. The zero Cursor is at
// the beginning. After a round (Export returned done) it goes on with what
// changed since the round began to pass each shard.
type Cursor struct {
	shard int
	slot  uint32
	since []uint64 // by shard: changes up to this number were told in earlier rounds
	seen  []uint64 // by shard: number of the last change when this round reached it
}

// CursorNow is a cursor that has told of all that is there: for a successor, or a
// predecessor, from which the table has just been taken.
func (t *Table) CursorNow() Cursor {
	c := Cursor{since: make([]uint64, len(t.shards)), seen: make([]uint64, len(t.shards))}
	for i := range t.shards {
		s := &t.shards[i]
		s.Lock()
		c.since[i] = s.change
		s.Unlock()
	}
	return c
}

// Export appends a chunk of at most limit bytes to dst: entries that the cursor
// has not told of, or whose use it has not. done says that the round is over;
// export again for what happened since, best when the last user of the table has
// gone. With nothing to tell, nothing is appended. Deletions are not told.
func (t *Table) Export(dst []byte, c *Cursor, limit int, now uint32) (_ []byte, done bool) {
	if c.since == nil {
		c.since = make([]uint64, len(t.shards))
		c.seen = make([]uint64, len(t.shards))
	}
	limit = max(limit, MinChunk)
	start := len(dst)
	for c.shard < len(t.shards) {
		s := &t.shards[c.shard]
		s.Lock()
		if c.slot == 0 {
			c.seen[c.shard] = s.change
		}
		c.skip(s)
		end := min(c.slot+sweepStep, s.next)
		full := false
		for ; c.slot < end; c.slot++ {
			e := s.at(c.slot)
			if e.length == 0 || e.change <= c.since[c.shard] || !t.live(e, now) {
				continue
			}
			if len(dst) == start {
				dst = append(dst, chunkVersion)
			}
			if len(dst)-start+2+int(e.length)+fixedSize > limit {
				full = true
				break
			}
			dst = appendEntry(dst, s.keyOf(e), e)
		}
		over := !full && c.slot >= s.next
		s.Unlock()
		if full {
			return dst, false
		}
		if over {
			c.since[c.shard] = c.seen[c.shard]
			c.shard, c.slot = c.shard+1, 0
		}
	}
	c.shard = 0
	return dst, true
}

// skip passes over the slots of a shard in which nothing has changed.
func (c *Cursor) skip(s *shard) {
	since := c.since[c.shard]
	if s.change <= since {
		c.slot = s.next
	}
	for c.slot%chunkSize == 0 && c.slot < s.next && s.marks[c.slot/chunkSize] <= since {
		c.slot += chunkSize
	}
}

func appendEntry(dst, key []byte, e *entry) []byte {
	dst = binary.BigEndian.AppendUint16(dst, e.length)
	dst = append(dst, key...)
	dst = binary.BigEndian.AppendUint64(dst, e.id)
	for _, v := range [...]uint32{e.generation, e.first, e.last} {
		dst = binary.BigEndian.AppendUint32(dst, v)
	}
	for _, v := range e.counts {
		dst = binary.BigEndian.AppendUint32(dst, v)
	}
	return dst
}

var errChunk = errors.New("table chunk is cut or damaged")

// Import takes a chunk in and tells how many entries it changed. An entry that
// this table used later than the chunk's stays: the last writer wins, and of two
// that name different endpoints the one that moved the session last. Expired
// entries are left out. A damaged chunk changes nothing.
func (t *Table) Import(chunk []byte, now uint32) (int, error) {
	if len(chunk) == 0 {
		return 0, nil
	}
	if chunk[0] != chunkVersion {
		return 0, fmt.Errorf("table chunk of unknown version %d", chunk[0])
	}
	for rest := chunk[1:]; len(rest) > 0; {
		_, _, after, ok := cutEntry(rest)
		if !ok {
			return 0, errChunk
		}
		rest = after
	}
	changed := 0
	for rest := chunk[1:]; len(rest) > 0; {
		key, v, after, _ := cutEntry(rest)
		rest = after
		if t.expire > 0 && ahead(now, v.LastSeen) > t.expire {
			continue
		}
		if t.merge(key, v, now) {
			changed++
		}
	}
	return changed, nil
}

// merge takes in an entry of another process if it is the newer one.
func (t *Table) merge(key []byte, v Value, now uint32) bool {
	s, key, h := t.locate(key)
	s.Lock()
	defer s.Unlock()
	i := s.find(key, h)
	if i == none {
		t.insertLocked(s, key, h, v, now)
		s.at(s.find(key, h)).imported = true
		return true
	}
	e := s.at(i)
	if e.endpoint() != v.Endpoint && e.first != v.FirstSeen && t.live(e, now) { // a move counts, not a use
		if e.first > v.FirstSeen {
			return false
		}
		v.LastSeen = max(v.LastSeen, e.last)
		e.set(v)
		s.touch(i)
		return true
	}
	// Within one second the order is unknown: what this process wrote itself
	// stays, what came from the other one follows it.
	if e.last > v.LastSeen || e.last == v.LastSeen && (!e.imported || e.value() == v) {
		return false
	}
	e.set(v)
	s.touch(i)
	return true
}

// cutEntry takes one entry off a chunk.
func cutEntry(b []byte) (key []byte, v Value, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, v, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if n < 1 || n > MaxKey || len(b) < 2+n+fixedSize {
		return nil, v, nil, false
	}
	key, b = b[2:2+n], b[2+n:]
	v.Endpoint.ID = binary.BigEndian.Uint64(b)
	v.Endpoint.Generation = binary.BigEndian.Uint32(b[8:])
	v.FirstSeen = binary.BigEndian.Uint32(b[12:])
	v.LastSeen = binary.BigEndian.Uint32(b[16:])
	for i := range v.Counts {
		v.Counts[i] = binary.BigEndian.Uint32(b[20+4*i:])
	}
	return key, v, b[fixedSize:], true
}
