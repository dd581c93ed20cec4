package http1

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"belay/internal/header"
)

// The tests in rows*_test.go are the inputs of the research table C1, named by
// their row. A row that says "4c" (400 and close) is an *Error of status 400
// here; closing is what httpproxy does with every *Error. Rows about what a
// proxy does over several messages test what the codec gives for it.

// mark stands in an input behind the byte with which the error must be known.
const mark = "§"

const (
	get  = "GET / HTTP/1.1\r\nHost: a\r\n"
	post = "POST / HTTP/1.1\r\nHost: a\r\n"
)

// requestRow is a request head: refused with status and reason, or accepted
// with status 0 and then looked at by check. opt, if not nil, loosens the rules.
type requestRow struct {
	n      int
	name   string
	in     string
	status int
	reason string
	opt    *Options
	check  func(t *testing.T, r *Request)
}

// strict are the options of the rows: all rules, and limits for the floods.
var strict = Options{MaxRequestLine: 8000, MaxChunkLine: 4096, Header: header.Limits{Fields: 100, Bytes: 60 << 10, Name: 256}}

func rowName(n int, name string) string { return fmt.Sprintf("row %03d %s", n, name) }

// opts returns strict changed by f.
func opts(f func(o *Options)) *Options {
	o := strict
	f(&o)
	return &o
}

// statusOf returns the status and reason of an *Error, 0 for nil.
func statusOf(t *testing.T, err error) (int, string) {
	t.Helper()
	if err == nil {
		return 0, ""
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, not an *Error", err)
	}
	return e.Status, e.Reason
}

func testRequestRow(t *testing.T, c requestRow) {
	o := c.opt
	if o == nil {
		o = &strict
	}
	before, after, marked := strings.Cut(c.in, mark)
	in := []byte(before + after)
	var r Request
	_, err := r.Parse(in, o)
	status, reason := statusOf(t, err)
	if status != c.status || c.reason != "" && reason != c.reason {
		t.Fatalf("got %d %q, want %d %q", status, reason, c.status, c.reason)
	}
	n, r2, oneByOne := parseInPieces(in, 1, o)
	if !errors.Is(oneByOne, err) || err == nil && oneByOne != nil {
		t.Fatalf("byte by byte: got %v, want %v", oneByOne, err)
	}
	if marked && n > len(before) {
		t.Errorf("error after %d bytes, want it after %d", n, len(before))
	}
	if c.check != nil {
		c.check(t, &r)
		c.check(t, r2)
	}
}

// moved returns b in another place; long ones not every time, for speed.
func moved(b []byte) []byte {
	if len(b) > 1000 && len(b)%100 != 0 {
		return b
	}
	return bytes.Clone(b)
}

// parseInPieces feeds in piece by piece from a buffer that moves each time,
// and returns how many bytes were fed before the result.
func parseInPieces(in []byte, size int, o *Options) (int, *Request, error) {
	r := new(Request)
	for n := 0; ; {
		n = min(n+size, len(in))
		_, err := r.Parse(moved(in[:n]), o)
		if err != ErrNeedMore || n == len(in) {
			return n, r, err
		}
	}
}

func TestRowsOfRequests(t *testing.T) {
	for _, table := range [][]requestRow{requestLineRows, lineEndRows, hostRows, lengthRows, codingRows, connectionRows} {
		for _, c := range table {
			t.Run(rowName(c.n, c.name), func(t *testing.T) { testRequestRow(t, c) })
		}
	}
}

// Every row from 1 to 131 has a case.
func TestRowsAreComplete(t *testing.T) {
	seen := map[int]bool{}
	for _, table := range [][]requestRow{requestLineRows, lineEndRows, hostRows, lengthRows, codingRows, connectionRows} {
		for _, c := range table {
			seen[c.n] = true
		}
	}
	for _, c := range chunkRows {
		seen[c.n] = true
	}
	for _, c := range responseRows {
		seen[c.n] = true
	}
	for n := 1; n <= 131; n++ {
		if !seen[n] {
			t.Errorf("row %d has no case", n)
		}
	}
}

// want* are checks of accepted heads.

func wantTarget(target, host string) func(*testing.T, *Request) {
	return func(t *testing.T, r *Request) {
		t.Helper()
		if string(r.Target()) != target || string(r.Host()) != host || string(r.Header.Get(header.Host)) != host {
			t.Errorf("target %q, host %q, field %q; want %q, %q", r.Target(), r.Host(), r.Header.Get(header.Host), target, host)
		}
	}
}

func wantLength(n int64) func(*testing.T, *Request) {
	return func(t *testing.T, r *Request) {
		t.Helper()
		v := fmt.Sprint(n)
		if r.Framing != FrameLength || r.ContentLength != n || string(r.Header.Get(header.ContentLength)) != v || r.Header.Count(header.ContentLength) != 1 {
			t.Errorf("framing %v, length %d, %d fields, first %q; want %d in one", r.Framing, r.ContentLength,
				r.Header.Count(header.ContentLength), r.Header.Get(header.ContentLength), n)
		}
	}
}

func wantField(name, value string) func(*testing.T, *Request) {
	return func(t *testing.T, r *Request) {
		t.Helper()
		if v := r.Header.GetName(name); v == nil || string(v) != value {
			t.Errorf("%s is %q, want %q", name, v, value)
		}
	}
}

func wantNoField(name string) func(*testing.T, *Request) {
	return func(t *testing.T, r *Request) {
		t.Helper()
		if r.Header.HasName(name) {
			t.Errorf("field %s is there", name)
		}
	}
}

func wantFraming(f Framing) func(*testing.T, *Request) {
	return func(t *testing.T, r *Request) {
		t.Helper()
		if r.Framing != f {
			t.Errorf("framing %v, want %v", r.Framing, f)
		}
	}
}

func wantFlags(keepAlive, expect, upgrade bool) func(*testing.T, *Request) {
	return func(t *testing.T, r *Request) {
		t.Helper()
		if r.KeepAlive != keepAlive || r.Expect100 != expect || r.Upgrade != upgrade {
			t.Errorf("keep-alive %v, expect %v, upgrade %v; want %v, %v, %v", r.KeepAlive, r.Expect100, r.Upgrade, keepAlive, expect, upgrade)
		}
	}
}
