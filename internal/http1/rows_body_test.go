package http1

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// chunkRow is a chunked body: refused with status and reason, or decoded to
// payload with rest behind it.
type chunkRow struct {
	n       int
	name    string
	in      string
	status  int
	reason  string
	payload string
	rest    string
	trailer string // as AppendTo writes it
	opt     *Options
}

var chunkRows = []chunkRow{
	{n: 100, name: "0x5", in: "0x§5\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 101, name: "+5", in: "+§5\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 101, name: "-1", in: "-§1\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 102, name: "space before size", in: " §5\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 103, name: "space after size", in: "5 §\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 103, name: "tab after size", in: "5\t§\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 104, name: "1_0", in: "1_§0\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 105, name: "5Z", in: "5Z§\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 106, name: "empty size", in: "\r§\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 106, name: "extension without size", in: ";§a\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 107, name: "17 digits", in: "00000000000000005§\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 107, name: "over 2^63", in: "8000000000000000§\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 107, name: "over 2^64", in: "10000000000000005§\r\n", status: 400, reason: "bad-chunk-size"},
	{n: 107, name: "16 digits", in: "000000000000000A\r\n0123456789\r\n0\r\n\r\n", payload: "0123456789"},
	{n: 108, name: "extension of 64 KB", in: "5;" + strings.Repeat("a", 4096) + "§" + strings.Repeat("a", 60000) + "\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "chunk-line-too-long"},
	{n: 108, name: "line of exactly the limit", in: "5;" + strings.Repeat("a", 4094) + "\r\nabcde\r\n0\r\n\r\n", payload: "abcde"},
	{n: 109, name: "bare LF after size", in: "5\n§abcde\r\n0\r\n\r\n", status: 400, reason: "bare-lf"},
	{n: 109, name: "bare LF after last size", in: "0\n§\r\n", status: 400, reason: "bare-lf"},
	{n: 110, name: "CR X after size", in: "5\rX§abcde\r\n0\r\n\r\n", status: 400, reason: "bare-cr"},
	{n: 110, name: "CR X after last size", in: "0\rX§\n\r\n", status: 400, reason: "bare-cr"},
	{n: 111, name: "semicolon only", in: "5;\r§\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-extension"},
	{n: 112, name: "semicolon and bare LF", in: "5;\n§abcde\r\n0\r\n\r\n", status: 400, reason: "bare-lf"},
	{n: 113, name: "NUL in extension", in: "5;a\x00§\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-extension"},
	{n: 113, name: "NUL in quoted value", in: "5;a=\"\x00§\"\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-extension"},
	{n: 113, name: "CR in extension", in: "5;a\rb§\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bare-cr"},
	{n: 113, name: "CR in quoted value", in: "5;a=\"\r§\"\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-extension"},
	{n: 114, name: "bad byte in name", in: "5;a(§\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-extension"},
	{n: 114, name: "no name", in: "5;=§b\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-extension"},
	{n: 114, name: "no value", in: "5;a=\r§\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-extension"},
	{n: 114, name: "blank before name", in: "5; §a\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-extension"},
	{n: 115, name: "quote without end", in: "5;a=\"b\r§\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-extension"},
	{n: 115, name: "bytes behind the quote", in: "5;a=\"b\"c§\r\nabcde\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-extension"},
	{n: 115, name: "valid extensions are dropped", in: "5;a;b=c;d=\"e\\\"\\\\\t;\xff\"\r\nabcde\r\n0;x=\"y\"\r\n\r\n", payload: "abcde"},
	{n: 116, name: "data longer than size", in: "3\r\nabcd§e\r\n0\r\n\r\n", status: 400, reason: "bad-chunk-end", payload: "abc"},
	{n: 116, name: "data shorter than size", in: "3\r\na\r\n0§\r\n\r\n", status: 400, reason: "bad-chunk-end", payload: "a\r\n"},
	{n: 117, name: "LF instead of CRLF after data", in: "3\r\nabc\n§0\r\n\r\n", status: 400, reason: "bad-chunk-end", payload: "abc"},
	{n: 117, name: "XX instead of CRLF after data", in: "3\r\nabcX§X0\r\n\r\n", status: 400, reason: "bad-chunk-end", payload: "abc"},
	{n: 117, name: "CR X instead of CRLF after data", in: "3\r\nabc\rX§0\r\n\r\n", status: 400, reason: "bad-chunk-end", payload: "abc"},
	// Closing the upstream connection is httpproxy's part, told by EOF: see TestBodyEOF.
	{n: 118, name: "bytes behind the last chunk stay", in: "3\r\nabc\r\n0\r\n\r\nGET /", payload: "abc", rest: "GET /"},
	{n: 119, name: "forbidden trailers are dropped", in: "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nHost: c\r\nAuthorization: x\r\n" +
		"Content-Type: x\r\nConnection: x\r\nX-Sum: 1\r\nMax-Forwards: 1\r\nSet-Cookie: a=b\r\nx_y: 1\r\nX-Sum:2\r\n\r\n!", trailer: "X-Sum: 1\r\nX-Sum: 2\r\n", rest: "!"},
	{n: 119, name: "blank in trailer name", in: "0\r\nX y§: 1\r\n\r\n", status: 400, reason: "bad-field-name"},
	{n: 119, name: "bare LF behind trailer", in: "0\r\nX: 1\n§\r\n", status: 400, reason: "bare-lf"},
	{n: 119, name: "obs-fold in trailer", in: "0\r\nX: 1\r\n §2\r\n\r\n", status: 400, reason: "obs-fold"},
	{n: 119, name: "control in trailer", in: "0\r\nX: \x01§\r\n\r\n", status: 400, reason: "bad-field-value"},
	{n: 119, name: "bare LF as end", in: "0\r\n\n§", status: 400, reason: "bare-lf"},
	{n: 119, name: "CR X as end", in: "0\r\n\rX§", status: 400, reason: "bare-cr"},
	{n: 119, name: "CR X behind a trailer", in: "0\r\nX: 1\r\n\rX§", status: 400, reason: "bare-cr"},
	{n: 120, name: "trailer flood", in: "0\r\n" + strings.Repeat("X: 1\r\n", 101) + "§" + strings.Repeat("X: 1\r\n", 9899) + "\r\n", status: 431, reason: "too-many-fields"},
	{n: 120, name: "flood of dropped trailers", in: "0\r\n" + strings.Repeat("Host: 1\r\n", 101) + "§" + strings.Repeat("Host: 1\r\n", 9899) + "\r\n", status: 431, reason: "too-many-fields"},
	{n: 120, name: "large trailer", in: "0\r\nX: " + strings.Repeat("v", 60<<10) + "§" + strings.Repeat("v", 40000) + "\r\n\r\n", status: 431, reason: "head-too-large"},
	{n: 120, name: "large trailer without limits", in: "0\r\nX: " + strings.Repeat("v", 64<<10) + "§" + strings.Repeat("v", 40000) + "\r\n\r\n", status: 431, reason: "head-too-large", opt: new(Options)},
	{n: 121, name: "one-byte chunks", in: strings.Repeat("1\r\nx\r\n", 65537) + "0\r\n\r\n", status: 400, reason: "chunk-overhead", payload: strings.Repeat("x", 65536)},
	{n: 121, name: "two-byte chunks", in: strings.Repeat("2\r\nxx\r\n", 70000) + "0\r\n\r\n", payload: strings.Repeat("xx", 70000)},
	{n: 121, name: "extensions around one byte", in: strings.Repeat("1;"+strings.Repeat("e", 1000)+"\r\nx\r\n", 66) + "0\r\n\r\n", status: 400, reason: "chunk-overhead", payload: strings.Repeat("x", 65)},
	{n: 121, name: "one-byte chunks, MaxChunkOverhead -1", in: strings.Repeat("1\r\nx\r\n", 65537) + "0\r\n\r\n", payload: strings.Repeat("x", 65537),
		opt: opts(func(o *Options) { o.MaxChunkOverhead = -1 })},
	{n: 121, name: "one-byte chunks, MaxChunkOverhead 10", in: strings.Repeat("1\r\nx\r\n", 10) + "1\r\n§x\r\n", status: 400, reason: "chunk-overhead", payload: strings.Repeat("x", 10),
		opt: opts(func(o *Options) { o.MaxChunkOverhead = 10 })},
}

// decoded is what came of a body.
type decoded struct {
	payload string
	used    int
	trailer string
	err     error
	done    bool
}

// decodeInPieces decodes in, which is not changed, given size bytes at a time.
func decodeInPieces(t testing.TB, f Framing, length int64, in []byte, size int, o *Options) (d decoded) {
	var b Body
	b.Init(f, length, o)
	var payload []byte
	for d.used < len(in) && !b.Done() {
		p := bytes.Clone(in[d.used:min(d.used+size, len(in))])
		n, used, err := b.Decode(p)
		if n > used || used > len(p) || err == nil && !b.Done() && used != len(p) {
			t.Fatalf("payload %d, used %d of %d, done %v", n, used, len(p), b.Done())
		}
		if !bytes.Equal(p[used:], in[d.used:][used:len(p)]) {
			t.Fatal("bytes behind the body were changed")
		}
		payload = append(payload, p[:n]...)
		d.used += used
		if err != nil {
			d.err = err
			if _, _, again := b.Decode(p); again != err {
				t.Fatalf("error is not final: %v, then %v", err, again)
			}
			break
		}
	}
	d.payload, d.done = string(payload), b.Done()
	if m := b.Trailer(); m != nil {
		d.trailer = string(m.AppendTo(nil))
	}
	return d
}

func TestRowsOfChunks(t *testing.T) {
	for _, c := range chunkRows {
		t.Run(rowName(c.n, c.name), func(t *testing.T) {
			o := c.opt
			if o == nil {
				o = &strict
			}
			before, after, marked := strings.Cut(c.in, mark)
			in := []byte(before + after)
			for _, size := range []int{len(in), 1, 7} {
				d := decodeInPieces(t, FrameChunked, -1, in, size, o)
				status, reason := statusOf(t, d.err)
				if status != c.status || reason != c.reason {
					t.Fatalf("pieces of %d: got %d %q, want %d %q", size, status, reason, c.status, c.reason)
				}
				if d.payload != c.payload || d.trailer != c.trailer {
					t.Errorf("pieces of %d: payload %.50q, trailer %q; want %.50q, %q", size, d.payload, d.trailer, c.payload, c.trailer)
				}
				if c.status == 0 && (!d.done || string(in[d.used:]) != c.rest) {
					t.Errorf("pieces of %d: done %v, rest %q; want %q", size, d.done, in[d.used:], c.rest)
				}
				if marked && size == 1 && d.used > len(before) {
					t.Errorf("error after %d bytes, want it after %d", d.used, len(before))
				}
			}
		})
	}
}

// Row 118 and short bodies in general: the end of the connection is an end of
// the body only where there is no other framing.
func TestBodyEOF(t *testing.T) {
	tests := []struct {
		name   string
		f      Framing
		length int64
		in     string
		want   error
	}{
		{"no body", FrameNone, -1, "", nil},
		{"empty", FrameLength, 0, "", nil},
		{"whole", FrameLength, 3, "abc", nil},
		{"short", FrameLength, 3, "ab", ErrTruncated},
		{"until close", FrameClose, -1, "ab", nil},
		{"chunked", FrameChunked, -1, "1\r\na\r\n0\r\n\r\n", nil},
		{"row 118 no last chunk", FrameChunked, -1, "1\r\na\r\n", ErrTruncated},
		{"row 118 last chunk without end", FrameChunked, -1, "1\r\na\r\n0\r\n", ErrTruncated},
		{"row 118 in chunk", FrameChunked, -1, "5\r\na", ErrTruncated},
		{"row 118 in trailer", FrameChunked, -1, "0\r\nX: 1\r\n", ErrTruncated},
		{"malformed", FrameChunked, -1, "Z", errChunkSize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b Body
			b.Init(tt.f, tt.length, &strict)
			b.Decode([]byte(tt.in))
			if err := b.EOF(); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if b.Done() != (tt.want == nil) {
				t.Errorf("done %v", b.Done())
			}
		})
	}
}

// Body bytes behind a body of a known length are the next message's.
func TestBodyLengthLeavesTheRest(t *testing.T) {
	for _, size := range []int{1, 3, 100} {
		d := decodeInPieces(t, FrameLength, 5, []byte("abcdeGET /"), size, &strict)
		if d.payload != "abcde" || d.used != 5 || !d.done || d.err != nil {
			t.Errorf("pieces of %d: %+v", size, d)
		}
	}
}

// A Body is used again and again; trailers of one body are not those of the next.
func TestBodyReuse(t *testing.T) {
	var b Body
	for i := range 3 {
		b.Init(FrameChunked, -1, &strict)
		if b.Trailer() != nil {
			t.Fatal("trailer before the body")
		}
		in := []byte("3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
		if n, used, err := b.Decode(in); n != 3 || used != len(in) || err != nil || !b.Done() {
			t.Fatalf("body %d: %d, %d, %v", i, n, used, err)
		}
		if m := b.Trailer(); m == nil || m.Len() != 1 || string(m.GetName("x-sum")) != "1" {
			t.Fatalf("body %d: trailer %v", i, m)
		}
		b.Init(FrameChunked, -1, &strict)
		if _, _, err := b.Decode([]byte("0\r\n\r\n")); err != nil || !b.Done() || b.Trailer() != nil {
			t.Fatalf("without trailer: %v, %v", err, b.Trailer())
		}
	}
	b.Init(FrameChunked, -1, &strict)
	if _, _, err := b.Decode([]byte("0\r\nX: " + strings.Repeat("v", 10000) + "\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if b.Init(FrameNone, -1, &strict); b.t != nil || !b.Done() {
		t.Error("a large trailer buffer is kept")
	}
}
