package persistence

import (
	"bytes"
)

// Bounds of what is looked at in a request. A browser sends the cookie of the
// longest path first (RFC 6265 section 5.4), so a few of one name are normal.
const (
	MaxCandidates = 4
	// MaxValue is the longest value taken for a token.
	MaxValue = 128
	// MaxAppValue is the longest value taken for an application's cookie; browsers
	// keep 4096 bytes of name and value (RFC 6265bis section 5.7).
	MaxAppValue = 4096
)

// Candidates are the values of the cookies of one name, as sent. They point into
// the scanned lines and are good as long as these.
type Candidates struct {
	Values [MaxCandidates][]byte
	N      int // how many values there are
	Seen   int // how many cookies had the name, the empty, the long and the many included

	next int
}

// Reset forgets all candidates.
func (c *Candidates) Reset() { *c = Candidates{} }

// Scan adds the cookies of a name from one Cookie line (RFC 6265 section 4.2.1;
// names are compared with their case). A request may have several lines: HTTP/2
// splits them (RFC 9113 section 8.2.3). Empty values and those longer than
// maxValue are counted and left out, as is what comes after MaxCandidates.
func (c *Candidates) Scan(line []byte, name string, maxValue int) {
	for len(line) > 0 {
		pair := line
		if i := bytes.IndexByte(line, ';'); i >= 0 {
			pair, line = line[:i], line[i+1:]
		} else {
			line = nil
		}
		value, ok := valueOf(pair, name)
		if !ok {
			continue
		}
		c.Seen++
		if len(value) == 0 || len(value) > maxValue || c.N == MaxCandidates {
			continue
		}
		c.Values[c.N] = value
		c.N++
	}
}

// valueOf is the value of a pair if it has the name, without the blanks around
// it and without one pair of quotes.
func valueOf(pair []byte, name string) ([]byte, bool) {
	for len(pair) > 0 && blank(pair[0]) {
		pair = pair[1:]
	}
	if len(pair) < len(name) || string(pair[:len(name)]) != name {
		return nil, false
	}
	pair = pair[len(name):]
	for len(pair) > 0 && blank(pair[0]) {
		pair = pair[1:]
	}
	if len(pair) == 0 || pair[0] != '=' {
		return nil, false
	}
	pair = trim(pair[1:])
	if n := len(pair); n >= 2 && pair[0] == '"' && pair[n-1] == '"' {
		pair = pair[1 : n-1]
	}
	return pair, true
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// trim cuts the blanks off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// Remove appends a Cookie line to dst without the cookies of a name and tells
// how many it left out. What stays, stays byte by byte; a cookie goes with the
// ";" and the blanks that part it from its neighbour, like HAProxy's "indirect".
// If nothing is appended though a cookie was removed, the line has to go. dst may
// be line[:0]: the line is then changed in place.
func Remove(dst, line []byte, name string) ([]byte, int) {
	removed, kept := 0, false
	for rest := line; rest != nil; {
		pair := rest
		if i := bytes.IndexByte(rest, ';'); i >= 0 {
			pair, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		if _, ours := valueOf(pair, name); ours {
			removed++
			continue
		}
		switch {
		case kept:
			dst = append(dst, ';')
		case removed > 0: // it is the first now, so the blanks before it go
			for len(pair) > 0 && blank(pair[0]) {
				pair = pair[1:]
			}
			if len(pair) == 0 {
				continue
			}
		}
		kept = true
		dst = append(dst, pair...)
	}
	return dst, removed
}
