package server

import "testing"

// Garbage of a burst is given back, once, and not while more comes.
func TestTrim(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name                       string
		floor, excess, live, grown uint64
		want                       bool
	}{
		{"after a burst", 0, 64 * mib, 10 * mib, mib, true},
		{"in the middle of it", 0, 64 * mib, 10 * mib, 20 * mib, false},
		{"not worth it", 0, 3 * mib, mib, 0, false},
		{"little beside what is alive", 0, 64 * mib, 200 * mib, 0, false},
		{"what could not be given back before", 62 * mib, 64 * mib, 10 * mib, 0, false},
		{"more than that", 50 * mib, 64 * mib, 10 * mib, 0, true},
	} {
		x := trimmer{floor: tt.floor}
		if got := x.judge(tt.excess, tt.live, tt.grown); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
	x := newTrimmer()
	if excess, live := x.excess(); x.allocs == 0 || live == 0 && excess == 0 {
		t.Errorf("the runtime tells %d allocated, %d alive, %d more held", x.allocs, live, excess)
	}
	x.trim()
}
