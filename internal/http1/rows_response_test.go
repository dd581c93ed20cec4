package http1

import (
	"errors"
	"strings"
	"testing"

	"belay/internal/header"
)

// responseRow is a response head: refused, always with 502, for a reason; or
// accepted with reason "" and framed so.
type responseRow struct {
	n       int
	name    string
	in      string
	method  Method // of the request; Other stands for GET
	reason  string
	framing Framing
	length  int64
	keep    bool
	opt     *Options
}

const (
	ok200  = "HTTP/1.1 200 OK\r\n"
	noBody = "HTTP/1.1 204 No Content\r\n"
)

var zeroLength = opts(func(o *Options) { o.AllowZeroLength = true })

var responseRows = []responseRow{
	{n: 83, name: "length on 204", in: noBody + "Content-Length: 3\r\n\r\nabc", reason: "framing-without-body"},
	{n: 83, name: "length 0 on 204", in: noBody + "Content-Length: 0\r\n\r\n", reason: "framing-without-body"},
	{n: 83, name: "length 0 on 204, AllowZeroLength", in: noBody + "Content-Length: 0\r\n\r\n", framing: FrameNone, length: -1, keep: true, opt: zeroLength},
	{n: 83, name: "length on 204, AllowZeroLength", in: noBody + "Content-Length: 1\r\n\r\n", reason: "framing-without-body", opt: zeroLength},
	{n: 83, name: "chunked on 204", in: noBody + "Transfer-Encoding: chunked\r\n\r\n", reason: "framing-without-body"},
	{n: 83, name: "length on 100", in: "HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nabc", reason: "framing-without-body"},
	{n: 83, name: "length on 101", in: "HTTP/1.1 101 X\r\nContent-Length: 3\r\n\r\nabc", reason: "framing-without-body"},
	// That bytes behind the end mean no reuse is httpproxy's part: Decode leaves them.
	{n: 129, name: "data behind a response", in: ok200 + "Content-Length: 3\r\n\r\nabcSURPLUS", framing: FrameLength, length: 3, keep: true},
	// A short body is told by Body.EOF, a flood of 1xx by counting Interim, both in httpproxy.
	{n: 129, name: "interim", in: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", framing: FrameNone, length: -1, keep: true},
	{n: 129, name: "two lengths", in: ok200 + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", reason: "duplicate-content-length"},
	{n: 129, name: "two lengths, AllowEqualLengths", in: ok200 + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", framing: FrameLength, length: 3, keep: true, opt: equalLengths},
	{n: 129, name: "unknown Transfer-Encoding", in: ok200 + "Transfer-Encoding: gzip, chunked\r\n\r\n", reason: "unsupported-transfer-coding"},
	{n: 129, name: "length and chunked", in: ok200 + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", reason: "length-and-chunked"},
	{n: 129, name: "chunked in HTTP/1.0", in: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", reason: "transfer-encoding-in-1.0"},
	{n: 129, name: "malformed length", in: ok200 + "Content-Length: 3x\r\n\r\n", reason: "bad-content-length"},
	{n: 129, name: "HEAD with length has no body", in: ok200 + "Content-Length: 3\r\n\r\n", method: HEAD, framing: FrameNone, length: 3, keep: true},
	{n: 129, name: "HEAD with chunked has no body", in: ok200 + "Transfer-Encoding: chunked\r\n\r\n", method: HEAD, framing: FrameNone, length: -1, keep: true},
	{n: 129, name: "HEAD without framing keeps the connection", in: ok200 + "\r\n", method: HEAD, framing: FrameNone, length: -1, keep: true},
	{n: 129, name: "304 with length has no body", in: "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", framing: FrameNone, length: 3, keep: true},
	{n: 130, name: "bare LF after status line", in: "HTTP/1.1 200 OK\n§Content-Length: 0\r\n\r\n", reason: "bare-lf"},
	{n: 130, name: "bare LF after field", in: ok200 + "X: 1\n§\r\n", reason: "bare-lf"},
	{n: 130, name: "bare CR after status line", in: "HTTP/1.1 200 OK\rX§: 1\r\n\r\n", reason: "bare-cr"},
	{n: 130, name: "obs-fold", in: ok200 + "X: 1\r\n §2\r\n\r\n", reason: "obs-fold"},
	{n: 130, name: "blank before colon", in: ok200 + "Content-Length §: 3\r\n\r\n", reason: "bad-field-name"},
	{n: 130, name: "control in value", in: ok200 + "X: \x00§\r\n\r\n", reason: "bad-field-value"},
}

// More of responses than C1 has rows for.
var responseCases = []responseRow{
	{name: "chunked", in: ok200 + "Transfer-Encoding: chunked\r\n\r\n", framing: FrameChunked, length: -1, keep: true},
	{name: "no framing", in: ok200 + "\r\n", framing: FrameClose, length: -1},
	{name: "no framing, keep-alive", in: ok200 + "Connection: keep-alive\r\n\r\n", framing: FrameClose, length: -1},
	{name: "close", in: ok200 + "Connection: close\r\nContent-Length: 0\r\n\r\n", framing: FrameLength},
	{name: "HTTP/1.0", in: "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", framing: FrameLength, length: 1},
	{name: "HTTP/1.0 keep-alive", in: "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", framing: FrameLength, length: 1, keep: true},
	{name: "HTTP/1.2", in: "HTTP/1.2 200 OK\r\nContent-Length: 1\r\n\r\n", framing: FrameLength, length: 1, keep: true},
	{name: "204", in: noBody + "\r\n", framing: FrameNone, length: -1, keep: true},
	{name: "empty reason", in: "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n", framing: FrameLength, length: 1, keep: true},
	{name: "reason with tab and high bytes", in: "HTTP/1.1 200 a\tb\xff, long enough\r\nContent-Length: 1\r\n\r\n", framing: FrameLength, length: 1, keep: true},
	{name: "underscore in name", in: ok200 + "X_Y: 1\r\nContent-Length: 1\r\n\r\n", framing: FrameLength, length: 1, keep: true},
	{name: "no space behind status", in: "HTTP/1.1 200\r§\nContent-Length: 1\r\n\r\n", reason: "bad-status-line"},
	{name: "leading CRLF", in: "\r§\n" + ok200 + "\r\n", reason: "bad-status-line"},
	{name: "HTTP/2.0", in: "HTTP/2§.0 200 OK\r\n\r\n", reason: "bad-status-line"},
	{name: "HTTP/1.10", in: "HTTP/1.10§ 200 OK\r\n\r\n", reason: "bad-status-line"},
	{name: "lower case", in: "h§ttp/1.1 200 OK\r\n\r\n", reason: "bad-status-line"},
	{name: "ICY", in: "I§CY 200 OK\r\n\r\n", reason: "bad-status-line"},
	{name: "status 99", in: "HTTP/1.1 09§9 X\r\n\r\n", reason: "bad-status-line"},
	{name: "status 600", in: "HTTP/1.1 6§00 X\r\n\r\n", reason: "bad-status-line"},
	{name: "status 2000", in: "HTTP/1.1 2000§ X\r\n\r\n", reason: "bad-status-line"},
	{name: "status 2x0", in: "HTTP/1.1 2x§0 X\r\n\r\n", reason: "bad-status-line"},
	{name: "two spaces", in: "HTTP/1.1  §200 OK\r\n\r\n", reason: "bad-status-line"},
	{name: "control in reason", in: "HTTP/1.1 200 O\x01§K\r\n\r\n", reason: "bad-status-line"},
	{name: "endless reason", in: "HTTP/1.1 200 " + strings.Repeat("x", 8000) + "§", reason: "status-line-too-long"},
	{name: "two Content-Type", in: ok200 + "Content-Type: a\r\nContent-Type: b\r\n§\r\n", reason: "duplicate-field"},
	{name: "too many fields", in: ok200 + strings.Repeat("X: 1\r\n", 101) + "§\r\n", reason: "too-many-fields"},
	{name: "framing nominated", in: ok200 + "Connection: content-length\r\n§Content-Length: 1\r\n\r\n", reason: "framing-nominated"},
}

func testResponseRow(t *testing.T, c responseRow) {
	o := c.opt
	if o == nil {
		o = &strict
	}
	before, after, marked := strings.Cut(c.in, mark)
	in := []byte(before + after)
	var r Response
	_, err := r.Parse(in, c.method, o)
	status, reason := statusOf(t, err)
	if reason != c.reason || reason != "" && status != 502 {
		t.Fatalf("got %d %q, want 502 %q", status, reason, c.reason)
	}
	var r2 Response
	for n := 1; ; n++ {
		_, err2 := r2.Parse(moved(in[:n]), c.method, o)
		if err2 == ErrNeedMore && n < len(in) {
			continue
		}
		if !errors.Is(err2, err) || err == nil && err2 != nil {
			t.Fatalf("byte by byte: got %v, want %v", err2, err)
		}
		if marked && n > len(before) {
			t.Errorf("error after %d bytes, want it after %d", n, len(before))
		}
		break
	}
	if err != nil {
		return
	}
	for _, r := range []*Response{&r, &r2} {
		if r.Framing != c.framing || r.ContentLength != c.length || r.KeepAlive != c.keep {
			t.Errorf("framing %v, length %d, keep-alive %v; want %v, %d, %v", r.Framing, r.ContentLength, r.KeepAlive, c.framing, c.length, c.keep)
		}
	}
}

func TestRowsOfResponses(t *testing.T) {
	for _, c := range responseRows {
		t.Run(rowName(c.n, c.name), func(t *testing.T) { testResponseRow(t, c) })
	}
	for _, c := range responseCases {
		t.Run(c.name, func(t *testing.T) { testResponseRow(t, c) })
	}
}

func TestResponseFacts(t *testing.T) {
	var r Response
	in := []byte("HTTP/1.1 101 Switching  Protocols\r\nConnection: Upgrade, x-hop\r\nUpgrade: websocket\r\nX-Hop: 1\r\n\r\n\x81\x00")
	n, err := r.Parse(in, GET, &strict)
	if err != nil || n != len(in)-2 {
		t.Fatalf("%d, %v", n, err)
	}
	if r.Status != 101 || r.Minor != 1 || string(r.Reason()) != "Switching  Protocols" || !r.Upgrade() || r.Interim() {
		t.Errorf("status %d, minor %d, reason %q, upgrade %v, interim %v", r.Status, r.Minor, r.Reason(), r.Upgrade(), r.Interim())
	}
	var tokens []string
	r.ConnectionTokens(func(b []byte) bool { tokens = append(tokens, string(b)); return true })
	if strings.Join(tokens, ",") != "Upgrade,x-hop" {
		t.Errorf("tokens %q", tokens)
	}
	r.Rebase([]byte(strings.ToUpper(string(in)))) // the buffer moves
	if string(r.Reason()) != "SWITCHING  PROTOCOLS" || string(r.Header.Get(header.Upgrade)) != "WEBSOCKET" {
		t.Errorf("after Rebase: %q, %q", r.Reason(), r.Header.Get(header.Upgrade))
	}
	for head, want := range map[string][2]bool{
		"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n":                       {false, false},
		"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n":      {false, false},
		"HTTP/1.1 100 Continue\r\n\r\n":                                      {false, true},
		"HTTP/1.1 200 X\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n":      {false, false},
		"HTTP/1.0 101 X\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n":      {false, false},
		"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: foo, bar\r\n\r\n": {true, false},
	} {
		r.Reset()
		if _, err := r.Parse([]byte(head), GET, &strict); err != nil {
			t.Fatal(err)
		}
		if r.Upgrade() != want[0] || r.Interim() != want[1] {
			t.Errorf("%q: upgrade %v, interim %v", head, r.Upgrade(), r.Interim())
		}
	}
}
