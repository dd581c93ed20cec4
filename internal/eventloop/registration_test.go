package eventloop

import (
	"testing"

	"golang.org/x/sys/unix"
)

type eventFunc func(Events)

func (f eventFunc) HandleEvents(ev Events) { f(ev) }

// pair is two connected stream sockets, non-blocking, closed with the test.
func pair(t testing.TB) (int, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return fds[0], fds[1]
}

func send(t testing.TB, fd int, s string) {
	t.Helper()
	if n, errno := Send(fd, []byte(s)); n != len(s) || errno != 0 {
		t.Fatalf("sent %d of %d: %v", n, len(s), errno)
	}
}

func add(t testing.TB, w *Worker, fd int, m Mode, f func(Events)) Token {
	t.Helper()
	k, err := w.Add(fd, eventFunc(f), m)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestModes(t *testing.T) {
	for _, tt := range []struct {
		name string
		mode Mode
		want []Events // turn by turn, nothing being read
	}{
		{"edge tells once", Edge, []Events{In | Out, 0, 0}},
		{"level tells again", Level, []Events{In, In, In}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorker(t)
			a, b := pair(t)
			send(t, b, "x")
			var got Events
			add(t, w, a, tt.mode, func(ev Events) { got |= ev })
			for i, want := range tt.want {
				got = 0
				w.step(t)
				if got != want {
					t.Errorf("turn %d: events %#x, want %#x", i, got, want)
				}
			}
		})
	}
}

func TestEdgeTellsEnd(t *testing.T) {
	w := newWorker(t)
	a, b := pair(t)
	var got Events
	add(t, w, a, Edge, func(ev Events) { got = ev })
	w.step(t)
	if err := ShutdownWrite(b); err != nil {
		t.Fatal(err)
	}
	w.step(t)
	if got&RdHup == 0 || got&Hup != 0 {
		t.Errorf("half-closed: events %#x", got)
	}
	c, _ := pair(t)
	if err := unix.Dup3(c, b, unix.O_CLOEXEC); err != nil { // closes b, keeps its number
		t.Fatal(err)
	}
	w.step(t)
	if got&Hup == 0 {
		t.Errorf("closed: events %#x", got)
	}
}

// TestStaleEventOfReusedDescriptor: within one batch, a handler closes another
// descriptor that has an event too; its number and its slot are taken again at
// once. The old event must not reach the newcomer.
func TestStaleEventOfReusedDescriptor(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(w *Worker, k Token)
	}{
		{"forgotten", func(w *Worker, k Token) { w.Forget(k) }},
		{"removed", func(w *Worker, k Token) { w.Remove(k) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorker(t)
			type side struct {
				fd    int
				token Token
			}
			var sides [2]side
			calls, stale := 0, 0
			replace := func(victim *side) {
				old, number := victim.token, victim.fd
				tt.end(w, old)
				unix.Close(number)
				fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
				if fds[0] != number {
					t.Fatalf("descriptor %d is not %d again", fds[0], number)
				}
				k := add(t, w, fds[0], Level, func(Events) { stale++ })
				if k.slot != old.slot || k == old {
					t.Fatalf("token %v after %v: want the slot again and another generation", k, old)
				}
			}
			for i := range sides {
				fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
				if err != nil {
					t.Fatal(err)
				}
				sides[i].fd = fds[0]
				t.Cleanup(func() { unix.Close(fds[1]) })
				send(t, fds[1], "x")
				sides[i].token = add(t, w, fds[0], Level, func(Events) {
					calls++
					replace(&sides[1-i])
					Recv(sides[i].fd, make([]byte, 1))
				})
			}
			w.step(t)
			w.step(t)
			if calls != 1 || stale != 0 {
				t.Errorf("%d handlers of the batch called, %d stale events delivered; want 1 and 0", calls, stale)
			}
			for _, s := range sides {
				if w.slots.live(s.token) != nil {
					unix.Close(s.fd)
				}
			}
		})
	}
}

func TestSetFirst(t *testing.T) {
	w := newWorker(t)
	const n = 8
	var order []int
	var tokens [n]Token
	for i := range n {
		a, b := pair(t)
		tokens[i] = add(t, w, a, Level, func(Events) { order = append(order, i) })
		send(t, b, "x")
	}
	for _, first := range []int{5, n - 1} {
		w.SetFirst(tokens[first], true)
		w.SetFirst(tokens[first], true)
	}
	w.step(t)
	if len(order) != n || order[0]+order[1] != 5+n-1 {
		t.Errorf("order %v, want 5 and %d before the others, each once", order, n-1)
	}
	w.SetFirst(tokens[5], false)
	w.Forget(tokens[n-1])
	if w.slots.firsts != 0 {
		t.Errorf("%d registrations are still counted as first", w.slots.firsts)
	}
}

// TestFirstIsSeenBeforeUse: the end of an idle connection is delivered before
// the event that would have it used, though epoll reports them the other way.
func TestFirstIsSeenBeforeUse(t *testing.T) {
	w := newWorker(t)
	client, peer := pair(t)
	idle, endpoint := pair(t)
	gone, usedDead := false, false
	add(t, w, client, Edge, func(Events) { usedDead = !gone })
	k := add(t, w, idle, Edge, func(ev Events) { gone = ev&RdHup != 0 })
	w.SetFirst(k, true)
	w.step(t)
	send(t, peer, "GET")
	ShutdownWrite(endpoint)
	w.step(t)
	if usedDead || !gone {
		t.Errorf("end seen: %t, dead connection used: %t", gone, usedDead)
	}
}

func TestHandlersChange(t *testing.T) {
	w := newWorker(t)
	a, b := pair(t)
	var got string
	k := add(t, w, a, Level, func(Events) { got += "a" })
	send(t, b, "x")
	w.step(t)
	w.SetHandler(k, eventFunc(func(Events) { got += "b" }))
	w.step(t)
	if err := w.Remove(k); err != nil {
		t.Fatal(err)
	}
	w.step(t)
	if got != "ab" {
		t.Errorf("called %q, want ab", got)
	}
	if err := w.Remove(k); err != nil {
		t.Errorf("second Remove: %v", err)
	}
	w.Forget(k)
	w.SetFirst(k, true)
	w.SetHandler(k, nil)
	w.Forget(Token{})
	if w.Remove(Token{slot: 1 << 30}) != nil {
		t.Error("a token of nobody is not ignored")
	}
}

// TestRemoveBesideDuplicate: with a duplicate alive, close alone would leave the
// registration in the kernel.
func TestRemoveBesideDuplicate(t *testing.T) {
	w := newWorker(t)
	a, b := pair(t)
	dup, err := unix.Dup(a)
	if err != nil {
		t.Fatal(err)
	}
	k := add(t, w, dup, Level, func(Events) { t.Error("event after Remove") })
	if err := w.Remove(k); err != nil {
		t.Fatal(err)
	}
	unix.Close(dup)
	send(t, b, "x")
	w.step(t)
	if n, _ := w.poll(); n != 0 {
		t.Errorf("%d events of a removed registration", n)
	}
}

func TestAddFails(t *testing.T) {
	w := newWorker(t)
	k, err := w.Add(-1, eventFunc(nil), Edge)
	if err == nil || k != (Token{}) {
		t.Errorf("Add(-1) = %v, %v", k, err)
	}
	if got := w.slots.take(0, eventFunc(nil)); got.slot != 2 {
		t.Errorf("the slot of a failed Add is lost: next is %d", got.slot)
	}
}

// TestTableGrows: slots keep their place over pages, and are used again.
func TestTableGrows(t *testing.T) {
	var tab table
	seen := map[Token]bool{}
	var all []Token
	first := tab.take(1, eventFunc(nil))
	s := tab.live(first)
	for i := range 3 * pageSize {
		k := tab.take(i, eventFunc(nil))
		if seen[k] || k.slot == 0 {
			t.Fatalf("token %v twice", k)
		}
		seen[k] = true
		all = append(all, k)
	}
	if tab.live(first) != s {
		t.Error("a slot moved")
	}
	used := tab.used
	for _, k := range all {
		tab.release(k.slot)
	}
	for i := range all {
		if k := tab.take(i, eventFunc(nil)); seen[k] {
			t.Fatalf("token %v given out again", k)
		}
	}
	if tab.used != used {
		t.Errorf("%d slots used, want %d again", tab.used, used)
	}
}

func TestAddForgetAllocs(t *testing.T) {
	w := newWorker(t)
	a, _ := pair(t)
	h := eventFunc(func(Events) {})
	if n := testing.AllocsPerRun(100, func() {
		k, err := w.Add(a, h, Edge)
		if err != nil {
			t.Fatal(err)
		}
		w.Remove(k)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAddRemove(b *testing.B) {
	w := newWorker(b)
	x, _ := pair(b)
	h := eventFunc(func(Events) {})
	b.ReportAllocs()
	for b.Loop() {
		k, _ := w.Add(x, h, Edge)
		w.Remove(k)
	}
}

// BenchmarkDeliver is a batch of 64 events with a quarter of them first.
func BenchmarkDeliver(b *testing.B) {
	w := newWorker(b)
	h := eventFunc(func(Events) {})
	batch := make([]unix.EpollEvent, 64)
	for i := range batch {
		k := w.slots.take(i, h)
		w.SetFirst(k, i%4 == 0)
		batch[i] = unix.EpollEvent{Fd: int32(k.slot), Pad: int32(k.gen)}
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range batch {
			batch[i].Events = unix.EPOLLIN
		}
		w.slots.deliver(batch)
	}
}
