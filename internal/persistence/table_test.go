package persistence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

var otherEndpoint = Endpoint{ID: EndpointID("shop", "b")}

func newTable(t testing.TB, size int, expire uint32) *Table {
	t.Helper()
	table, err := NewTable(size, expire)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func keyN(n int) []byte { return fmt.Appendf(nil, "session-%d", n) }

func TestTableLookup(t *testing.T) {
	table := newTable(t, 100, 60)
	key := []byte("k")
	if _, ok := table.Lookup(key, start); ok {
		t.Fatal("an empty table knows a key")
	}
	table.Store(key, testEndpoint, start)
	if v, ok := table.Lookup(key, start+60); !ok || v.Endpoint != testEndpoint || v.FirstSeen != start {
		t.Fatalf("%v %v", v, ok)
	}
	if v, ok := table.Peek(key, start+120); !ok || v.LastSeen != start+60 {
		t.Errorf("the expiry did not slide: %v %v", v, ok)
	}
	if _, ok := table.Lookup(key, start+121); ok || table.Len() != 0 {
		t.Error("an expired entry is there")
	}
	table.Store(key, testEndpoint, start)
	table.Store(key, otherEndpoint, start+5)
	if v, _ := table.Peek(key, start); v.Endpoint != otherEndpoint || v.FirstSeen != start+5 || table.Len() != 1 {
		t.Errorf("after a move: %v, %d entries", v, table.Len())
	}
	if !table.Delete(key) || table.Delete(key) || table.Len() != 0 {
		t.Error("delete")
	}
	table.Store(nil, testEndpoint, start)
	if table.Len() != 0 {
		t.Error("an empty key was stored")
	}
	long := bytes.Repeat([]byte("x"), 3*MaxKey)
	table.Store(long, testEndpoint, start)
	if _, ok := table.Peek(long, start); !ok {
		t.Error("a long key is lost")
	}
	for _, size := range []int{0, -1, MaxTableSize + 1} {
		if _, err := NewTable(size, 0); err == nil {
			t.Errorf("size %d was taken", size)
		}
	}
	want := Stats{Entries: 1, Inserted: 3, Expired: 1, Hits: 1, Misses: 2}
	if got := table.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestTableModel compares a table with a map under random use.
func TestTableModel(t *testing.T) {
	table := newTable(t, 5000, 100)
	model := map[string]Value{}
	rng := rand.New(rand.NewPCG(1, 2))
	now := start
	for step := range 200_000 {
		key := bytes.Repeat(keyN(rng.IntN(2000)), 1+rng.IntN(5))
		if len(key) > 200 {
			key = key[:200]
		}
		old, known := model[string(key)]
		known = known && now-old.LastSeen <= 100
		switch rng.IntN(8) {
		case 0, 1, 2:
			v, ok := table.Lookup(key, now)
			if ok != known || ok && v.Endpoint != old.Endpoint {
				t.Fatalf("step %d: %q: %v %v, want %v %v", step, key, v, ok, old, known)
			}
			if known {
				old.LastSeen = now
				model[string(key)] = old
			}
		case 3, 4, 5:
			e := Endpoint{ID: rng.Uint64()}
			table.Store(key, e, now)
			model[string(key)] = Value{Endpoint: e, LastSeen: now}
		case 6:
			table.Delete(key)
			delete(model, string(key))
		case 7:
			now += uint32(rng.IntN(2))
		}
		if step%50_000 == 0 {
			table.Sweep(now)
		}
	}
	table.Sweep(now)
	for k, v := range model {
		if now-v.LastSeen > 100 {
			delete(model, k)
		}
	}
	n := 0
	for r := range func(yield func(Record) bool) { table.Each(Filter{}, now, yield) } {
		n++
		if v := model[string(r.Key)]; v.Endpoint != r.Endpoint || v.LastSeen != r.LastSeen {
			t.Fatalf("%q: %v, want %v", r.Key, r.Value, v)
		}
	}
	if n != len(model) || n != table.Len() || table.Stats().Evicted != 0 {
		t.Errorf("%d told, %d counted, %d in the model, %d evicted", n, table.Len(), len(model), table.Stats().Evicted)
	}
}

func TestTableEviction(t *testing.T) {
	const size = 10_000
	table := newTable(t, size, 0)
	now := start
	for i := range size {
		table.Store(keyN(i), testEndpoint, now)
	}
	for round := range 10 {
		now++
		for i := range 500 {
			table.Lookup(keyN(i), now)
		}
		for i := range size / 5 {
			table.Store(keyN(size+round*size+i), testEndpoint, now)
		}
	}
	if n := table.Len(); n > size+len(table.shards) || n < size {
		t.Errorf("%d entries, want %d", n, size)
	}
	if s := table.Stats(); int64(s.Inserted) != s.Entries+int64(s.Evicted) || s.Evicted < 19_000 {
		t.Errorf("%+v", s)
	}
	kept := 0
	for i := range 500 {
		if _, ok := table.Peek(keyN(i), now); ok {
			kept++
		}
	}
	if kept < 490 {
		t.Errorf("%d of 500 entries in use were kept", kept)
	}
	small := newTable(t, 3, 10)
	for i := range 3 {
		small.Store(keyN(i), testEndpoint, start)
	}
	small.Store(keyN(3), testEndpoint, start+11)
	if s := small.Stats(); s.Evicted != 0 || s.Expired != 1 || s.Entries != 3 {
		t.Errorf("expired ones first: %+v", s)
	}
}

func TestTableSelect(t *testing.T) {
	table := newTable(t, 10_000, 1000)
	for i := range 3000 {
		e := Endpoint{ID: uint64(1 + i%3), Generation: uint32(i % 2)}
		table.Store(keyN(i), e, start+uint32(i%100))
	}
	now := start + 100
	for _, tt := range []struct {
		name string
		f    Filter
		want int
	}{
		{"all", Filter{}, 3000},
		{"key", Filter{Key: keyN(7)}, 1},
		{"unknown key", Filter{Key: keyN(3000)}, 0},
		{"endpoint", Filter{Endpoint: &Endpoint{ID: 1}}, 500},
		{"endpoint of any generation", Filter{Endpoint: &Endpoint{ID: 1}, Any: true}, 1000},
		{"unused for long", Filter{MinIdle: 91}, 300},
		{"used lately", Filter{MaxIdle: 10}, 300},
		{"key of another endpoint", Filter{Key: keyN(7), Endpoint: &Endpoint{ID: 9}}, 0},
	} {
		if n := table.Count(tt.f, now); n != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, n, tt.want)
		}
		copied := newTable(t, 10_000, 1000)
		table.Each(Filter{}, now, func(r Record) bool { copied.Set(r.Key, r.Value, now); return true })
		if n := copied.Clear(tt.f, now); n != tt.want || copied.Len() != 3000-tt.want {
			t.Errorf("clear %s: %d, want %d; %d left", tt.name, n, tt.want, copied.Len())
		}
	}
	n := 0
	table.Each(Filter{}, now, func(Record) bool { n++; return n < 5 })
	if n != 5 {
		t.Errorf("told %d after the end", n)
	}
	if n := table.Sweep(start + 1050); n != 1500 || table.Len() != 1500 {
		t.Errorf("swept %d, %d left", n, table.Len())
	}
}

// export runs a round and imports it.
func export(t *testing.T, from, to *Table, c *Cursor, limit int, now uint32) (entries int) {
	t.Helper()
	for {
		chunk, done := from.Export(nil, c, limit, now)
		if len(chunk) > max(limit, MinChunk) || !done && len(chunk) < 2 {
			t.Fatalf("a chunk of %d bytes, limit %d", len(chunk), limit)
		}
		n, err := to.Import(chunk, now)
		if err != nil {
			t.Fatal(err)
		}
		entries += n
		if done {
			return entries
		}
	}
}

func TestTableHandover(t *testing.T) {
	for _, limit := range []int{0, 1000, 60_000, 1 << 30} {
		old, next := newTable(t, 10_000, 100), newTable(t, 20_000, 100)
		v := Value{Endpoint: testEndpoint, FirstSeen: start - 9, LastSeen: start, Counts: [Counters]uint32{1, 2, 3, 4}}
		for i := range 5000 {
			old.Set(keyN(i), v, start)
		}
		var c Cursor
		if n := export(t, old, next, &c, limit, start); n != 5000 {
			t.Fatalf("limit %d: %d of 5000 came over", limit, n)
		}
		if got, ok := next.Peek(keyN(77), start); !ok || got != v {
			t.Fatalf("limit %d: %+v", limit, got)
		}
		if n := export(t, old, next, &c, limit, start); n != 0 {
			t.Errorf("limit %d: %d came twice", limit, n)
		}
		old.Store(keyN(0), otherEndpoint, start) // moved within the second
		old.Lookup(keyN(1), start+50)            // used later
		old.Store([]byte("new"), otherEndpoint, start+1)
		next.Store(keyN(2), otherEndpoint, start+9) // the new process knows better
		old.Lookup(keyN(2), start+8)
		old.Store(keyN(3), otherEndpoint, start) // a move
		next.Store(keyN(3), testEndpoint, start) // and, in the same second, a use
		if n := export(t, old, next, &c, limit, start+9); n != 4 {
			t.Errorf("limit %d: %d changes, want 4", limit, n)
		}
		for key, want := range map[string]Endpoint{"session-0": otherEndpoint, "new": otherEndpoint, "session-2": otherEndpoint, "session-3": otherEndpoint} {
			if got, ok := next.Peek([]byte(key), start+9); !ok || got.Endpoint != want {
				t.Errorf("limit %d: %s is on %v", limit, key, got.Endpoint)
			}
		}
		if got, ok := next.Peek(keyN(1), start+150); !ok || got.LastSeen != start+50 {
			t.Errorf("limit %d: the later use is lost", limit)
		}
	}
}

func TestTableHandoverUnderLoad(t *testing.T) {
	const each = 10_000
	old, next := newTable(t, 8*each, 0), newTable(t, 8*each, 0)
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range each {
				old.Store(keyN(w*each+i), testEndpoint, start)
				old.Lookup(keyN(i), start+1)
			}
		})
	}
	var c Cursor
	for range 5 {
		export(t, old, next, &c, 4096, start)
	}
	wg.Wait()
	export(t, old, next, &c, 4096, start+1)
	for i := range 2 * each {
		if _, ok := next.Peek(keyN(i), start); !ok {
			t.Fatalf("key %d is lost", i)
		}
	}
}

func TestTableConcurrent(t *testing.T) {
	table := newTable(t, 1000, 50)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			for i := range 20_000 {
				key, now := keyN(rng.IntN(3000)), start+uint32(i/100)
				if v, ok := table.Lookup(key, now); ok && v.Endpoint.ID != uint64(len(key)) {
					t.Errorf("%q is on %v", key, v.Endpoint)
					return
				}
				table.Store(key, Endpoint{ID: uint64(len(key))}, now)
			}
		})
	}
	for i := range uint32(20) {
		table.Sweep(start + i*10)
		table.Clear(Filter{MinIdle: 40}, start+i*10)
	}
	wg.Wait()
	n := 0
	for i := range table.shards {
		n += table.shards[i].n
	}
	if n != table.Len() || n > 1000+len(table.shards) {
		t.Errorf("%d entries, %d counted", n, table.Len())
	}
}

func TestImportDamaged(t *testing.T) {
	old := newTable(t, 10, 0)
	old.Store([]byte("key"), testEndpoint, start)
	good, _ := old.Export(nil, &Cursor{}, 1000, start)
	bad := [][]byte{{2}, {1, 0}, {1, 0, 0}, append(slices.Clone(good), 0), append(slices.Clone(good), 255, 255)}
	for i := 2; i < len(good); i++ {
		bad = append(bad, good[:i])
	}
	next := newTable(t, 10, 0)
	for _, chunk := range bad {
		if _, err := next.Import(chunk, start); err == nil || next.Len() != 0 {
			t.Errorf("%v: %v, %d entries", chunk, err, next.Len())
		}
	}
}

func FuzzImport(f *testing.F) {
	old := newTable(f, 10, 0)
	old.Store([]byte("key"), testEndpoint, start)
	good, _ := old.Export(nil, &Cursor{}, 1000, start)
	f.Add(good)
	f.Fuzz(func(t *testing.T, chunk []byte) {
		table := newTable(t, 8, 60)
		if _, err := table.Import(chunk, start); err != nil && table.Len() != 0 {
			t.Fatal("a damaged chunk changed the table")
		}
	})
}

func TestTableMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a million entries")
	}
	for _, length := range []int{16, 32, 36} {
		const n = 1_000_000
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		table := newTable(t, n, 3600)
		key := make([]byte, length)
		for i := range n {
			copy(key, fmt.Appendf(key[:0], "%0*d", length, i))
			table.Store(key, testEndpoint, start)
		}
		per := float64(heap()-before)/float64(table.Len()) - float64(length)
		t.Logf("keys of %d bytes: %d entries, %.1f bytes each beyond the key", length, table.Len(), per)
		if per > 100 {
			t.Errorf("keys of %d bytes: %.1f bytes each, want at most 100", length, per)
		}
		runtime.KeepAlive(table)
	}
}

func TestTableAllocates(t *testing.T) {
	table := newTable(t, 1000, 60)
	key := keyN(1)
	table.Store(key, testEndpoint, start)
	if n := testing.AllocsPerRun(1000, func() {
		table.Lookup(key, start)
		table.Store(key, testEndpoint, start)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkTable has one to four goroutines look keys up in a table of 100 000
// entries, one request in ten stores; "hot" has all of them use one key.
func BenchmarkTable(b *testing.B) {
	const n = 100_000
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = keyN(i)
	}
	for _, spread := range []string{"spread", "hot"} {
		for _, workers := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("%s/%d", spread, workers), func(b *testing.B) {
				table := newTable(b, 2*n, 3600)
				for _, k := range keys {
					table.Store(k, testEndpoint, start)
				}
				count := b.N/workers + 1
				b.ResetTimer()
				defer cpu(b)()
				var wg sync.WaitGroup
				for w := range workers {
					wg.Go(func() {
						at := w * 7919
						for i := range count {
							k := keys[0]
							if spread == "spread" {
								at = (at + 7919) % n
								k = keys[at]
							}
							table.Lookup(k, start+uint32(i>>20))
							if i%10 == 0 {
								table.Store(k, testEndpoint, start)
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// Of those who claim a key in a window all get the endpoint of the first.
func TestTableClaim(t *testing.T) {
	table, err := NewTable(100, 60)
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("192.0.2.1")
	for _, tt := range []struct {
		name string
		mine Endpoint
		now  uint32
		want Endpoint // zero: ours was stored
	}{
		{"OK first", testEndpoint, start, Endpoint{}},
		{"OK second", otherEndpoint, start, testEndpoint},
		{"OK late, but in the window", otherEndpoint, start + 1, testEndpoint},
		{"over, though used", otherEndpoint, start + 2, Endpoint{}},
		{"OK of the second window", testEndpoint, start + 3, otherEndpoint},
	} {
		if got, ok := table.Claim(key, tt.mine, tt.now, 2); got != tt.want || ok != (tt.want != Endpoint{}) {
			t.Errorf("%s: %v %v, want %v", tt.name, got, ok, tt.want)
		}
	}
	if _, ok := table.Claim(nil, testEndpoint, start, 2); ok || table.Len() != 1 {
		t.Errorf("an empty key was claimed")
	}
	var wg sync.WaitGroup
	var stored atomic.Int32
	for i := range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, ok := table.Claim([]byte("race"), Endpoint{ID: uint64(i + 1)}, start, 2); !ok {
				stored.Add(1)
			}
		}()
	}
	wg.Wait()
	if stored.Load() != 1 {
		t.Errorf("%d of 50 stored theirs", stored.Load())
	}
}

// TestFoldKey: other machines and versions have to make the same keys of long ones.
func TestFoldKey(t *testing.T) {
	whole := bytes.Repeat([]byte("x"), MaxKey)
	if got := FoldKey(bytes.Clone(whole)); !bytes.Equal(got, whole) {
		t.Errorf("%d bytes: %s", MaxKey, got)
	}
	long := append(whole, 'y')
	sum := sha256.Sum256(long)
	want := append(bytes.Repeat([]byte("x"), MaxKey-32), hex.EncodeToString(sum[:16])...)
	if got := FoldKey(long); !bytes.Equal(got, want) {
		t.Errorf("%d bytes: %s, want %s", MaxKey+1, got, want)
	}
}
