package persistence

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// MaxKey is the longest key of a table, in bytes: longer than any session id in use.
// What may be longer goes through FoldKey first; Lookup and Store cut what did not, as
// HAProxy cuts each key.
const MaxKey = 256

const digestSize = 16

// FoldKey makes a key of at most MaxKey bytes of a longer one, in place: its beginning,
// which people know it by, and 32 hexadecimal digits of its SHA-256. Two tokens of one
// issuer, which begin alike for longer than that, stay two keys.
func FoldKey(key []byte) []byte {
	if len(key) <= MaxKey {
		return key
	}
	sum := sha256.Sum256(key)
	return hex.AppendEncode(key[:MaxKey-2*digestSize], sum[:digestSize])
}

// MaxTableSize bounds the entries of a table.
const MaxTableSize = 1 << 28

// Counters are for the rates and counts of a key that HAProxy's tables have
// (configuration manual, 11.1 "store"). The table keeps and hands them over.
const Counters = 4

// Value is what a table knows of a key.
type Value struct {
	Endpoint  Endpoint
	FirstSeen uint32 // seconds since 1970
	LastSeen  uint32
	Counts    [Counters]uint32
}

// Table remembers the endpoint of each key. All workers share it.
//
// It is cut into shards by the hash of the key. A shard is guarded by a mutex
// that is held for some tens of nanoseconds on the request path, and for at most
// sweepStep entries by anything else, so that with many more shards than workers
// two seldom meet. What a shard holds has no pointers inside: the garbage
// collector sees a few hundred slices, whatever the number of entries.
type Table struct {
	// News, if not nil, gets a value, if it has room, when Store has put a key on an
	// endpoint where it was not: somebody else may want to hear of it soon. Set before
	// the first use.
	News chan<- struct{}

	size   int64
	expire uint32
	seed   maphash.Seed // drawn per process, so that keys cannot be chosen to collide
	shift  uint         // of the hash, to get the shard
	shards []shard
	used   atomic.Int64 // entries, over all shards
}

// Stats are a table's counts since it was made; Entries is at present.
type Stats struct {
	Entries  int64
	Inserted uint64
	Evicted  uint64 // in time, pushed out because the table was full
	Expired  uint64
	Hits     uint64
	Misses   uint64
}

// fewShards meet seldom for as many workers as belay has, if there are smallShard
// entries for each. Beyond that more of them, up to maxShards, only bound what one
// lock holds, in steps of largeShard entries: a table that is nearly empty, and there
// is one for each cluster with sessions, pays for them.
const (
	smallShard = 64
	fewShards  = 32
	largeShard = 4096
	maxShards  = 256
)

// NewTable makes a table for at most size entries that are dropped when they
// were not used for expire seconds; 0 is never. With n shards, size may be
// exceeded by n-1 entries for a moment while it fills for the first time.
func NewTable(size int, expire uint32) (*Table, error) {
	if size < 1 || size > MaxTableSize {
		return nil, fmt.Errorf("table size %d is not within 1 and %d", size, MaxTableSize)
	}
	bits := uint(0)
	for 1<<bits < fewShards && size>>bits > smallShard || 1<<bits < maxShards && size>>bits > largeShard {
		bits++
	}
	t := &Table{size: int64(size), expire: expire, seed: maphash.MakeSeed(), shift: 64 - bits, shards: make([]shard, 1<<bits)}
	for i := range t.shards {
		t.shards[i].init()
	}
	return t, nil
}

// Size is the most entries that there may be.
func (t *Table) Size() int { return int(t.size) }

// Expire is for how many seconds an unused entry is kept.
func (t *Table) Expire() uint32 { return t.expire }

// locate cuts the key and gives its shard and hash.
func (t *Table) locate(key []byte) (*shard, []byte, uint32) {
	if len(key) > MaxKey {
		key = key[:MaxKey]
	}
	h := maphash.Bytes(t.seed, key)
	return &t.shards[h>>t.shift&uint64(len(t.shards)-1)], key, uint32(h)
}

// live tells whether an entry is in time.
func (t *Table) live(e *entry, now uint32) bool {
	return t.expire == 0 || ahead(now, e.last) <= t.expire
}

// Lookup returns what is known of a key and counts it as used now, which moves
// its expiry on.
func (t *Table) Lookup(key []byte, now uint32) (Value, bool) {
	s, key, h := t.locate(key)
	s.Lock()
	i := s.find(key, h)
	if i == none {
		s.stats.Misses++
		s.Unlock()
		return Value{}, false
	}
	e := s.at(i)
	if !t.live(e, now) {
		s.remove(i)
		s.stats.Expired++
		s.stats.Misses++
		s.Unlock()
		t.used.Add(-1)
		return Value{}, false
	}
	s.stats.Hits++
	e.referenced = true
	if now > e.last {
		e.last = now
		s.touch(i)
	}
	v := e.value()
	s.Unlock()
	return v, true
}

// Peek is Lookup without any effect.
func (t *Table) Peek(key []byte, now uint32) (Value, bool) {
	s, key, h := t.locate(key)
	s.Lock()
	defer s.Unlock()
	i := s.find(key, h)
	if i == none || !t.live(s.at(i), now) {
		return Value{}, false
	}
	return s.at(i).value(), true
}

// Store notes that the session of a key is on an endpoint; call it when the
// endpoint has answered, not before. An entry that has another endpoint begins
// anew, its counters stay. An empty key is not stored.
func (t *Table) Store(key []byte, e Endpoint, now uint32) {
	if len(key) == 0 {
		return
	}
	s, key, h := t.locate(key)
	s.Lock()
	if i := s.find(key, h); i != none {
		x := s.at(i)
		moved := x.endpoint() != e || !t.live(x, now)
		if moved {
			x.id, x.generation, x.first = e.ID, e.Generation, now
		}
		x.last = max(x.last, now)
		s.touch(i)
		x.referenced, x.imported = true, false
		s.Unlock()
		if moved {
			t.tell()
		}
		return
	}
	t.insertLocked(s, key, h, Value{Endpoint: e, FirstSeen: now, LastSeen: now}, now)
	s.Unlock()
	t.tell()
}

func (t *Table) tell() {
	if t.News == nil {
		return
	}
	select {
	case t.News <- struct{}{}:
	default:
	}
}

// Claim gives the endpoint that a key was stored with if that is less than window
// seconds ago, whatever its use since; else it stores e. Of many callers at once one
// stores.
func (t *Table) Claim(key []byte, e Endpoint, now, window uint32) (Endpoint, bool) {
	if len(key) == 0 {
		return Endpoint{}, false
	}
	s, key, h := t.locate(key)
	s.Lock()
	defer s.Unlock()
	v := Value{Endpoint: e, FirstSeen: now, LastSeen: now}
	i := s.find(key, h)
	if i == none {
		t.insertLocked(s, key, h, v, now)
		return Endpoint{}, false
	}
	x := s.at(i)
	if ahead(now, x.first) < window {
		return x.endpoint(), true
	}
	x.set(v)
	x.imported = false
	s.touch(i)
	return Endpoint{}, false
}

// Set puts an entry in place with a value as it is, over whatever there was.
func (t *Table) Set(key []byte, v Value, now uint32) {
	if len(key) == 0 {
		return
	}
	s, key, h := t.locate(key)
	s.Lock()
	defer s.Unlock()
	if i := s.find(key, h); i != none {
		s.at(i).set(v)
		s.at(i).imported = false
		s.touch(i)
		return
	}
	t.insertLocked(s, key, h, v, now)
}

// insertLocked adds an entry for a key that the shard does not have. If the
// table is full, one of this shard makes room: as keys are spread evenly, that is
// nearly the least recently used of all.
func (t *Table) insertLocked(s *shard, key []byte, h uint32, v Value, now uint32) {
	if t.used.Add(1) > t.size && s.n > 0 {
		i := s.victim(func(e *entry) bool { return t.live(e, now) })
		if t.live(s.at(i), now) {
			s.stats.Evicted++
		} else {
			s.stats.Expired++
		}
		s.remove(i)
		t.used.Add(-1)
	}
	s.insert(key, h, v)
	s.stats.Inserted++
}

// Delete drops a key and tells whether it was there.
func (t *Table) Delete(key []byte) bool {
	s, key, h := t.locate(key)
	s.Lock()
	defer s.Unlock()
	i := s.find(key, h)
	if i == none {
		return false
	}
	s.remove(i)
	t.used.Add(-1)
	return true
}

// Len is the number of entries, expired ones that nobody met included.
func (t *Table) Len() int { return int(t.used.Load()) }

// Stats sums the counts of all shards.
func (t *Table) Stats() Stats {
	sum := Stats{Entries: t.used.Load()}
	for i := range t.shards {
		s := &t.shards[i]
		s.Lock()
		sum.Inserted += s.stats.Inserted
		sum.Evicted += s.stats.Evicted
		sum.Expired += s.stats.Expired
		sum.Hits += s.stats.Hits
		sum.Misses += s.stats.Misses
		s.Unlock()
	}
	return sum
}

// shard is a part of a table. Its fields are guarded by its mutex; the padding
// keeps two of them off one cache line.
type shard struct {
	sync.Mutex
	slots  [][]entry // chunks of chunkSize entries
	n      int       // entries in use
	free   uint32    // first unused slot of a list through entry.key, none if there is none
	next   uint32    // first slot that was never used
	hand   uint32    // of the clock
	index  []uint32  // slot+1 by hash, open addressing with linear probing
	keys   *keyStore // nil until the first key
	stats  Stats
	change uint64   // number of the last change
	marks  []uint64 // by chunk of slots: number of the last change in it
	_      [64]byte
}

// touch numbers a change of a slot, for Export.
func (s *shard) touch(i uint32) {
	s.change++
	s.at(i).change = s.change
	s.marks[i/chunkSize] = s.change
}
