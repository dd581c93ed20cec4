package ratelog

import "testing"

func TestLines(t *testing.T) {
	var l Lines[string]
	for i, step := range []struct {
		kind string
		at   int64
		held int
		ok   bool
	}{
		{"a", 0, 0, true},
		{"a", 1, 0, false},
		{"b", 1, 0, true}, // another kind is not held back
		{"a", int64(Every) - 1, 0, false},
		{"a", int64(Every), 2, true},
		{"a", int64(Every) + 1, 0, false},
		{"a", 2 * int64(Every), 1, true},
	} {
		if held, ok := l.Now(step.kind, step.at); held != step.held || ok != step.ok {
			t.Errorf("step %d: %d, %t", i, held, ok)
		}
	}
}
