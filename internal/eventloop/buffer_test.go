package eventloop

import (
	"testing"
	"time"
)

func TestGetClasses(t *testing.T) {
	w := newWorker(t)
	for _, tt := range []struct{ ask, want int }{
		{0, 4 << 10}, {1, 4 << 10}, {4 << 10, 4 << 10}, {4<<10 + 1, 16 << 10}, {16 << 10, 16 << 10},
		{20_000, 64 << 10}, {64 << 10, 64 << 10}, {64<<10 + 1, 64<<10 + 1},
	} {
		p := w.Get(tt.ask)
		if len(p) != tt.want || cap(p) != tt.want {
			t.Errorf("Get(%d) has length %d and capacity %d, want %d", tt.ask, len(p), cap(p), tt.want)
		}
		if in, _ := w.BufferStats(); in != int64(tt.want) {
			t.Errorf("Get(%d): %d bytes in use", tt.ask, in)
		}
		w.Put(p[:1])
		if in, _ := w.BufferStats(); in != 0 {
			t.Errorf("after Put: %d bytes in use", in)
		}
	}
	if _, free := w.BufferStats(); free != 84<<10 {
		t.Errorf("%d bytes free, want one of each class", free)
	}
}

func TestBuffersAreUsedAgainLastFirst(t *testing.T) {
	w := newWorker(t)
	a, b := w.Get(1), w.Get(1)
	w.Put(a)
	w.Put(b)
	if p := w.Get(1); &p[0] != &b[0] {
		t.Error("the last buffer put back is not the next one lent")
	}
	if p := w.Get(1); &p[0] != &a[0] {
		t.Error("the first buffer is lost")
	}
}

func TestFreeBuffersAreCapped(t *testing.T) {
	w, err := New(Options{FreeBufferBytes: 100 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	var lent [][]byte
	for range 10 {
		lent = append(lent, w.Get(16<<10))
	}
	for _, p := range lent {
		w.Put(p)
	}
	if in, free := w.BufferStats(); in != 0 || free != 96<<10 {
		t.Errorf("in use %d, free %d; want 0 and %d", in, free, 96<<10)
	}
}

// TestTrim: after a burst, only what each period needed is kept; when nothing is
// left, no timer is either.
func TestTrim(t *testing.T) {
	w := newWorker(t)
	period := func() {
		w.now += trimPeriod + 2*tickNS
		w.wheel.advance(w.now)
	}
	var lent [][]byte
	for range 10 {
		lent = append(lent, w.Get(1))
	}
	for _, p := range lent {
		w.Put(p)
	}
	for i, want := range []int64{10, 3, 3, 1, 0, 0} {
		need := []int{10, 3, 3, 1, 0, 0}[i]
		lent = lent[:0]
		for range need {
			lent = append(lent, w.Get(1))
		}
		for _, p := range lent {
			w.Put(p)
		}
		period()
		if _, free := w.BufferStats(); free != want*4096 {
			t.Errorf("period %d: %d buffers free, want %d", i, free/4096, want)
		}
	}
	if w.buffers.timer.Armed() || w.wheel.timeout(w.now) != -1 {
		t.Error("a timer runs although nothing is free")
	}
}

// TestTrimWhileIdle: a sleeping worker gives its buffers up too, by a timer.
func TestTrimWhileIdle(t *testing.T) {
	w := newWorker(t)
	w.Put(w.Get(1))
	if got := time.Duration(w.wheel.timeout(w.now)) * time.Millisecond; got < 0 || got > time.Duration(trimPeriod)+10*time.Millisecond {
		t.Errorf("the loop would sleep %v", got)
	}
}

func BenchmarkGetPut(b *testing.B) {
	w := newWorker(b)
	b.ReportAllocs()
	for b.Loop() {
		w.Put(w.Get(16 << 10))
	}
}
