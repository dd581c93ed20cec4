package server

import (
	"runtime/debug"
	"testing"
)

// Garbage of a burst is given back, once, and not while more comes.
func TestTrim(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // nobody else collects
	x := newTrimmer()
	x.worthwhile() // takes the figures of now
	var garbage [][]byte
	for range 64 {
		garbage = append(garbage, make([]byte, 1<<20))
	}
	if x.worthwhile() {
		t.Error("in the middle of a burst")
	}
	garbage = nil
	if !x.worthwhile() {
		t.Error("not after it")
	}
	x.trim()
	if x.worthwhile() {
		t.Error("again, for nothing")
	}
	_ = garbage
}
