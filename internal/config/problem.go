package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File string // as it was named to Load or Parse, conf.d files joined to it
	Line int    // from 1; 0 if the whole file is meant
	Path string // such as listener.web.route[2].path_regex; "" if the file is not TOML
	Msg  string
}

// String is the line belayd check prints: "file:line: path: message".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Msg)
	return b.String()
}

// Problems are all things that are wrong, by file in the order of reading, then
// by line. The error of Load and Parse is a *Problems.
type Problems []Problem

// Error is one line for each problem, without a newline at the end.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// source is one file.
type source struct {
	name  string
	order int
	data  string
	lines map[string]int // by path; made for the first problem, see line
}

// line finds the line of a path or, for a key that is missing, of the nearest
// table around it.
func (s *source) line(p *path) int {
	if s.lines == nil {
		s.lines = scan(s.data)
	}
	for ; p != nil; p = p.up {
		if n, ok := s.lines[p.String()]; ok {
			return n
		}
	}
	return 1
}

// path names a value. It is a list from leaf to root, so that values without a
// problem cost no string.
type path struct {
	up      *path
	key     string
	index   int
	element bool // index counts, not key
	src     *source
}

func (p *path) child(key string) *path {
	return &path{up: p, key: key, src: p.src}
}

func (p *path) at(i int) *path {
	return &path{up: p, index: i, element: true, src: p.src}
}

// String writes keys as TOML would: listener.web.route[2]."odd key".
func (p *path) String() string {
	var b []byte
	return string(p.append(b))
}

func (p *path) append(b []byte) []byte {
	if p.up == nil {
		return b
	}
	b = p.up.append(b)
	if p.element {
		return fmt.Appendf(b, "[%d]", p.index)
	}
	return appendKey(b, p.key)
}

// appendKey is also how the scanner builds its paths.
func appendKey(b []byte, key string) []byte {
	if len(b) > 0 {
		b = append(b, '.')
	}
	for i := range len(key) {
		if !isBareKey(key[i]) {
			return fmt.Appendf(b, "%q", key)
		}
	}
	if key == "" {
		return append(b, `""`...)
	}
	return append(b, key...)
}

func isBareKey(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// collector gathers problems.
type collector struct {
	found []found
	seen  map[string]bool // file order and path of each
}

type found struct {
	Problem
	order int
}

func (c *collector) add(at *path, format string, args ...any) {
	c.mark(at)
	p := Problem{File: at.src.name, Line: at.src.line(at), Path: at.String(), Msg: fmt.Sprintf(format, args...)}
	c.found = append(c.found, found{p, at.src.order})
}

// mark has c.has be true for a path.
func (c *collector) mark(at *path) {
	if c.seen == nil {
		c.seen = make(map[string]bool)
	}
	c.seen[seenKey(at)] = true
}

// addFile reports a problem of a whole file or, with a line, of its syntax.
func (c *collector) addFile(src *source, line int, msg string) {
	c.found = append(c.found, found{Problem{File: src.name, Line: line, Msg: msg}, src.order})
}

// has tells whether a path has a problem of its own, or an element of the array
// there. A value that could not be decoded looks unset; it must not be called
// missing as well.
func (c *collector) has(at *path) bool {
	return len(c.seen) > 0 && c.seen[seenKey(at)]
}

func seenKey(at *path) string {
	return fmt.Sprint(at.src.order, at)
}

// err is a *Problems, sorted, or nil.
func (c *collector) err() error {
	if len(c.found) == 0 {
		return nil
	}
	slices.SortStableFunc(c.found, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path))
	})
	ps := make(Problems, len(c.found))
	for i, f := range c.found {
		ps[i] = f.Problem
	}
	return &ps
}

// hint is `; did you mean "x"?` for the nearest of the names, or "" if none is near.
func hint(name string, names []string) string {
	best, bestDistance := "", len(name)/3+2
	for _, n := range names {
		if d := distance(name, n, bestDistance); d < bestDistance {
			best, bestDistance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the Levenshtein distance of a and b in bytes, or limit if it is
// at least that.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal, least := row[0], i+1
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
			least = min(least, row[j+1])
		}
		if least >= limit {
			return limit
		}
	}
	return min(row[len(b)], limit)
}
