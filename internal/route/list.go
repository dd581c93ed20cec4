package route

import "belay/internal/config"

// list is the routes of one host in file order.
type list struct {
	entries []*entry

	// What index makes of a list with many exact paths; indices of entries.
	byPath map[string][]int32
	others []int32 // without an exact path
}

// indexFrom is the number of exact paths from which hashing a path is quicker
// than comparing it.
const indexFrom = 8

func (l *list) add(e *entry) { l.entries = append(l.entries, e) }

// index is called when all is added.
func (l *list) index() {
	exact := 0
	for _, e := range l.entries {
		if e.kind == exactPath {
			exact++
		}
	}
	if exact < indexFrom {
		return
	}
	l.byPath = make(map[string][]int32, exact)
	for i, e := range l.entries {
		if e.kind == exactPath {
			l.byPath[e.path] = append(l.byPath[e.path], int32(i))
		} else {
			l.others = append(l.others, int32(i))
		}
	}
}

// first returns the first route that takes the request, nil if none does. A nil
// list is an empty one.
func (l *list) first(in *Input) *config.Route {
	if l == nil {
		return nil
	}
	if l.byPath == nil {
		for _, e := range l.entries {
			if e.takes(in) {
				return e.route
			}
		}
		return nil
	}
	return l.merged(l.byPath[string(in.Path)], l.others, in)
}

// merged goes through two ascending sequences of indices as if they were one.
func (l *list) merged(a, b []int32, in *Input) *config.Route {
	for len(a)+len(b) > 0 {
		if len(a) == 0 || len(b) > 0 && b[0] < a[0] {
			a, b = b, a
		}
		if e := l.entries[a[0]]; e.takes(in) {
			return e.route
		}
		a = a[1:]
	}
	return nil
}
