package config

import (
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// scan maps every path in a TOML document to its line. The document is one the
// TOML library has taken; anything else gives some answer, but no panic.
//
// It knows as much of TOML as positions need: comments, table headers, arrays
// of tables, dotted and quoted keys, inline tables, arrays, and the four kinds
// of strings. Values that are not strings end at a delimiter.
func scan(data string) map[string]int {
	s := &scanner{data: strings.TrimPrefix(data, "\ufeff"), line: 1, lines: make(map[string]int), elements: make(map[string]int)}
	var table []byte
	for s.skip(true); s.pos < len(s.data); s.skip(true) {
		start := s.pos
		if s.data[s.pos] == '[' {
			table = s.header()
		} else {
			s.pair(table)
		}
		if s.pos == start {
			s.next()
		}
	}
	return s.lines
}

type scanner struct {
	data     string
	pos      int
	line     int
	lines    map[string]int
	elements map[string]int // array of tables: how many so far
}

// next takes one byte and counts lines.
func (s *scanner) next() {
	if s.data[s.pos] == '\n' {
		s.line++
	}
	s.pos++
}

// peek is the byte at the position, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// skip passes blanks and comments, with newlines also those.
func (s *scanner) skip(newlines bool) {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n' && newlines:
			s.next()
		case c == '#':
			for s.pos < len(s.data) && s.data[s.pos] != '\n' {
				s.pos++
			}
		default:
			return
		}
	}
}

// record keeps the first line of a path.
func (s *scanner) record(path []byte, line int) {
	if _, ok := s.lines[string(path)]; !ok {
		s.lines[string(path)] = line
	}
}

// header reads [a.b] or [[a.b]] and returns the path of the table. A part that
// is an array of tables stands for its last element.
func (s *scanner) header() []byte {
	line := s.line
	s.pos++
	array := s.peek() == '['
	if array {
		s.pos++
	}
	keys := s.keys()
	var path []byte
	for i, k := range keys {
		path = appendKey(path, k)
		s.record(path, line)
		n := s.elements[string(path)]
		if array && i == len(keys)-1 {
			n++
			s.elements[string(path)] = n
		}
		if n > 0 {
			path = appendIndex(path, n-1)
			s.record(path, line)
		}
	}
	for s.peek() == ']' {
		s.pos++
	}
	return path
}

// pair reads key = value below a table.
func (s *scanner) pair(table []byte) {
	line := s.line
	path := append([]byte(nil), table...)
	for _, k := range s.keys() {
		path = appendKey(path, k)
		s.record(path, line)
	}
	s.skip(false)
	if s.peek() == '=' {
		s.pos++
		s.value(path)
	}
}

// keys reads a dotted key.
func (s *scanner) keys() []string {
	var keys []string
	for {
		s.skip(false)
		keys = append(keys, s.key())
		s.skip(false)
		if s.peek() != '.' {
			return keys
		}
		s.pos++
	}
}

func (s *scanner) key() string {
	start := s.pos
	if c := s.peek(); c == '"' || c == '\'' {
		s.str()
		text := s.data[start:s.pos]
		if strings.Contains(text, `\`) && c == '"' {
			return unescape(text)
		}
		return strings.Trim(text, text[:1])
	}
	for s.pos < len(s.data) && isBareKey(s.data[s.pos]) {
		s.pos++
	}
	return s.data[start:s.pos]
}

// unescape reads a quoted key with an escape, which is rare: the library does.
func unescape(key string) string {
	var m map[string]any
	if _, err := toml.Decode(key+" = 0", &m); err == nil {
		for k := range m {
			return k
		}
	}
	return key
}

// value reads a value and records what lies inside.
func (s *scanner) value(path []byte) {
	s.skip(true)
	switch s.peek() {
	case '"', '\'':
		s.str()
	case '[':
		s.pos++
		for i := 0; ; i++ {
			s.skip(true)
			if c := s.peek(); c == ']' || c == 0 {
				break
			}
			element := appendIndex(append([]byte(nil), path...), i)
			s.record(element, s.line)
			s.value(element)
			s.skip(true)
			if s.peek() != ',' {
				break
			}
			s.pos++
		}
		s.close(']')
	case '{':
		s.pos++
		for {
			s.skip(true)
			if c := s.peek(); c == '}' || c == 0 {
				break
			}
			s.pair(path)
			s.skip(true)
			if s.peek() != ',' {
				break
			}
			s.pos++
		}
		s.close('}')
	default:
		for s.pos < len(s.data) && !strings.ContainsRune(",]}#\n", rune(s.data[s.pos])) {
			s.pos++
		}
	}
}

func (s *scanner) close(c byte) {
	if s.peek() == c {
		s.pos++
	}
}

// str passes a string, of which """ and ”' reach over lines.
func (s *scanner) str() {
	quote := s.data[s.pos]
	end := s.data[s.pos : s.pos+1]
	if triple := strings.Repeat(end, 3); strings.HasPrefix(s.data[s.pos:], triple) {
		end = triple
	}
	s.pos += len(end)
	for s.pos < len(s.data) {
		switch {
		case s.data[s.pos] == '\\' && quote == '"' && s.pos+1 < len(s.data):
			s.next()
			s.next()
		case strings.HasPrefix(s.data[s.pos:], end):
			s.pos += len(end)
			// Up to two quotes may stand before the closing three.
			for len(end) == 3 && s.peek() == quote {
				s.pos++
			}
			return
		default:
			s.next()
		}
	}
}

func appendIndex(b []byte, i int) []byte {
	b = append(b, '[')
	b = strconv.AppendInt(b, int64(i), 10)
	return append(b, ']')
}
