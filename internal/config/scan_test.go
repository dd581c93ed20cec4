package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// Each line of the document names, behind "#", the paths that begin there.
const scanDoc = `a = 1 # a
"b c".d = "x" # "b c" "b c".d
'e' = { f = 1, g.h = [ 1, { i = 2 } ] } # e e.f e.g e.g.h e.g.h[0] e.g.h[1] e.g.h[1].i
j = """ # j
k = 1
[k]
\""" """""
l = ''' # l
m = 1 \''''
n = [ # n
  "]", # n[0]
  [ '}', 2 ], # n[1] n[1][0] n[1][1]
  { o = "#", # n[2] n[2].o
    p = 1979-05-27 07:32:00 }, # n[2].p
]
[q.r] # q q.r
s = true # q.r.s
[[t]] # t t[0]
u = 1 # t[0].u
[t.v] # t[0].v
w = 1 # t[0].v.w
[[t.x]] # t[0].x t[0].x[0]
[[t.x]] # t[0].x[1]
y = 1 # t[0].x[1].y
[[t]] # t[1]
[[t.x]] # t[1].x t[1].x[0]
y = 1 # t[1].x[0].y
"" = 1 # t[1].x[0].""
"\u0041\"" = 1 # t[1].x[0]."A\""
`

func TestScan(t *testing.T) {
	for _, doc := range []string{scanDoc, "\ufeff" + scanDoc, strings.ReplaceAll(scanDoc, "\n", "\r\n")} {
		if _, err := toml.Decode(doc, new(any)); err != nil {
			t.Fatal(err)
		}
		want := make(map[string]int)
		n := 0
		for line := range strings.Lines(doc) {
			n++
			if _, paths, ok := strings.Cut(line, " # "); ok {
				for _, p := range strings.Fields(strings.ReplaceAll(paths, `"b c"`, `"b_c"`)) {
					want[strings.ReplaceAll(p, "b_c", "b c")] = n
				}
			}
		}
		got := scan(doc)
		for _, p := range slices.Sorted(maps.Keys(want)) {
			if got[p] != want[p] {
				t.Errorf("%s: line %d, want %d", p, got[p], want[p])
			}
			delete(got, p)
		}
		if len(got) > 0 {
			t.Errorf("further paths: %v", got)
		}
	}
}

// A path that is not there has the line of what is around it.
func TestLineOfWhatIsMissing(t *testing.T) {
	src := &source{data: "\n[a]\nb = 1\n[[c]]\nd = [[1],\n[2]]\n"}
	at := &path{src: src}
	for _, tt := range []struct {
		at   *path
		want int
	}{
		{at.child("x"), 1}, {at.child("a").child("x"), 2}, {at.child("a").child("b").child("x"), 3}, {at.child("a").at(0), 2},
		{at.child("c").at(0).child("x"), 4}, {at.child("c").at(1), 4}, {at.child("c").at(0).child("d").at(1), 6}, {at.child("c").at(0).child("d").at(1).at(0), 6},
	} {
		if got := src.line(tt.at); got != tt.want {
			t.Errorf("%s: line %d, want %d", tt.at, got, tt.want)
		}
	}
}

// What the TOML library takes, the scanner must know by the same paths; what it
// refuses must do no harm.
func FuzzScan(f *testing.F) {
	f.Add(scanDoc)
	f.Add("a = [[[{b = {}}]]]\n[[c]]\n[c.d]\n[[c]]")
	f.Fuzz(func(t *testing.T, doc string) {
		lines := scan(doc)
		last := strings.Count(doc, "\n") + 1
		for p, n := range lines {
			if n < 1 || n > last {
				t.Errorf("%s: line %d of %d", p, n, last)
			}
		}
		var top map[string]any
		if _, err := toml.Decode(doc, &top); err == nil {
			known(t, lines, nil, top)
		}
	})
}

// known fails the test unless every path in v has a line.
func known(t *testing.T, lines map[string]int, path []byte, v any) {
	t.Helper()
	if _, ok := lines[string(path)]; !ok && path != nil {
		t.Errorf("no line for %s", path)
	}
	path = slices.Clip(path)
	switch v := v.(type) {
	case map[string]any:
		for k, v := range v {
			known(t, lines, appendKey(path, k), v)
		}
	case []map[string]any:
		for i, v := range v {
			known(t, lines, append(path, "["+strconv.Itoa(i)+"]"...), v)
		}
	case []any:
		for i, v := range v {
			known(t, lines, append(path, "["+strconv.Itoa(i)+"]"...), v)
		}
	}
}
