package persistence

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Rounds that skip what has not changed miss nothing of what has.
func TestTableHandoverRounds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	old, next := newTable(t, 20_000, 0), newTable(t, 20_000, 0)
	var c Cursor
	now := uint32(start)
	for round := range 200 {
		now++
		for range random.IntN(30) {
			key := keyN(random.IntN(10_000))
			switch random.IntN(3) {
			case 0:
				old.Lookup(key, now)
			default:
				old.Store(key, Endpoint{ID: uint64(round)}, now)
			}
		}
		if limit := random.IntN(3000); round%7 == 0 {
			old.Export(nil, &c, limit, now) // what this tells is lost
			c = Cursor{}
		} else {
			chunk, _ := old.Export(nil, &c, limit, now) // not always to the end of the round
			if _, err := next.Import(chunk, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		export(t, old, next, &c, 1<<20, now)
	}
	if old.Len() != next.Len() {
		t.Errorf("%d entries of %d", next.Len(), old.Len())
	}
	old.Each(Filter{}, now, func(r Record) bool {
		if v, ok := next.Peek(r.Key, now); !ok || v != r.Value {
			t.Errorf("%s: %+v, want %+v", r.Key, v, r.Value)
		}
		return !t.Failed()
	})
}

// A cursor of now tells of nothing that is there, and of all that follows.
func TestCursorNow(t *testing.T) {
	old, next := newTable(t, 10_000, 0), newTable(t, 10_000, 0)
	for i := range 5000 {
		old.Store(keyN(i), testEndpoint, start)
	}
	c := old.CursorNow()
	if n := export(t, old, next, &c, 1<<20, start); n != 0 {
		t.Errorf("%d old entries are told", n)
	}
	old.Store(keyN(1), otherEndpoint, start)
	old.Store(keyN(6000), otherEndpoint, start)
	if n := export(t, old, next, &c, 1<<20, start); n != 2 {
		t.Errorf("%d of 2 changes are told", n)
	}
}

// BenchmarkHandover passes a million entries in chunks of 256 KiB, and then looks for
// changes where there are none, and where one entry in a thousand has changed.
func BenchmarkHandover(b *testing.B) {
	const entries = 1 << 20
	old := newTable(b, entries, 0)
	for i := range entries {
		old.Store(keyN(i), testEndpoint, start)
	}
	pass := func(next *Table, c *Cursor, now uint32) {
		for buf, done := []byte(nil), false; !done; {
			buf, done = old.Export(buf[:0], c, 256<<10, now)
			if next == nil {
				continue
			}
			if _, err := next.Import(buf, now); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			pass(newTable(b, entries, 0), &Cursor{}, start)
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/entries/float64(time.Nanosecond), "ns/entry")
	})
	c := old.CursorNow()
	b.Run("none", func(b *testing.B) {
		for b.Loop() {
			pass(nil, &c, start)
		}
	})
	b.Run("few", func(b *testing.B) {
		now := uint32(start)
		for b.Loop() {
			b.StopTimer()
			now++
			for i := range entries / 1000 {
				old.Lookup(keyN(i*997), now)
			}
			b.StartTimer()
			pass(nil, &c, now)
		}
	})
}

// Of two processes that disagree the one that moved the session last is right, whoever
// has used the entry since.
func TestImportLastMoveWins(t *testing.T) {
	here, there := Endpoint{ID: 1}, Endpoint{ID: 2}
	for _, used := range []uint32{10, 11} {
		a, b := newTable(t, 10, 60), newTable(t, 10, 60)
		a.Store([]byte("k"), here, 5)
		b.Store([]byte("k"), here, 5)
		b.Store([]byte("k"), there, 10)
		if used == 10 {
			a.Store([]byte("k"), here, used)
		} else {
			a.Lookup([]byte("k"), used)
		}
		var toA, toB Cursor
		fromB, _ := b.Export(nil, &toA, 1<<16, used)
		fromA, _ := a.Export(nil, &toB, 1<<16, used)
		if _, err := a.Import(fromB, used); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Import(fromA, used); err != nil {
			t.Fatal(err)
		}
		for name, x := range map[string]*Table{"a": a, "b": b} {
			if v, ok := x.Peek([]byte("k"), used); !ok || v.Endpoint != there || x == a && v.LastSeen != used {
				t.Errorf("used at %d: %s has %+v", used, name, v)
			}
		}
	}
}
