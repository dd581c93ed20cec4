package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestFrame(t *testing.T) {
	old, now := twoSamples()
	l := between(&old, &now)
	golden(t, "top", strings.Join(frame(&l, 0, ""), "\n")+"\n")
	first := between(&now, &now)
	golden(t, "top-first", strings.Join(frame(&first, 0, "belayctl: cannot reach"), "\n")+"\n")
}

func TestFrameFitsTheScreen(t *testing.T) {
	old, now := twoSamples()
	l := between(&old, &now)
	for i := range 50 {
		e := l.Endpoints[0]
		e.ID = fmt.Sprint("more", i)
		e.RequestRate = float64(i)
		l.Endpoints = append(l.Endpoints, e)
	}
	for height := 1; height < 80; height++ {
		lines := frame(&l, height, "")
		if len(lines) > height {
			t.Fatalf("%d lines on a screen of %d", len(lines), height)
		}
	}
	lines := frame(&l, 20, "")
	if len(lines) != 20 || lines[19] != "… 45 more endpoints" || !strings.HasPrefix(lines[11], "app/a ") || !strings.HasPrefix(lines[12], "app/more49 ") {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
}

func TestShare(t *testing.T) {
	for _, tt := range []struct {
		lines      int
		want, gets []int
	}{
		{30, []int{1, 2, 3}, []int{1, 2, 3}},
		{30, []int{1, 2, 100}, []int{1, 2, 27}},
		{30, []int{100, 100, 100}, []int{10, 10, 10}},
		{30, []int{100, 4, 100}, []int{13, 4, 13}},
		{0, []int{5, 0, 5}, []int{1, 0, 1}},
		{-9, []int{5, 5, 5}, []int{1, 1, 1}},
	} {
		if got := share(tt.lines, tt.want); !slices.Equal(got, tt.gets) {
			t.Errorf("%d lines for %v: %v, want %v", tt.lines, tt.want, got, tt.gets)
		}
	}
}
