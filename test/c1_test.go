package test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"belay/test/harness"
)

// c1 is one row of the research table C1 (HTTP/1.1 inputs) as bytes on the
// wire and the answer. Every answer but 200 closes the connection. Status 0:
// closed, with or without an answer, but never with the client's bytes.
type c1 struct {
	row    string
	send   string
	status int
}

const (
	get  = "GET / HTTP/1.1\r\nHost: a\r\n"
	post = "POST / HTTP/1.1\r\nHost: a\r\n"
	chkd = post + "Transfer-Encoding: chunked\r\n\r\n"
)

var c1RequestLine = []c1{
	{"1 double space", "GET  /  HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"2 tab separators", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"3 no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"4 no version", "GET / \r\nHost: a\r\n\r\n", 400},
	{"5 HTTP/0.9", "GET /\r\n", 400},
	{"6 HTTP/1", "GET / HTTP/1\r\nHost: a\r\n\r\n", 400},
	{"7 HTTP/01.01", "GET / HTTP/01.01\r\nHost: a\r\n\r\n", 400},
	{"8 lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
	{"9 space in version", "GET / HTTP/ 1.1\r\nHost: a\r\n\r\n", 400},
	{"10 HTTP/1.32", "GET / HTTP/1.32\r\nHost: a\r\n\r\n", 505},
	{"11 HTTP/9.9", "GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505},
	{"12 HTTP/1.2 is 1.1", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 200},
	{"13 method not a token", "G=\"x / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"14 NUL in method", "G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"15 100 KB method", strings.Repeat("A", 100000) + " / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"16 NUL in target", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"17 raw non-ASCII", "GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"18 space in target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"19 fragment", "GET /a#frag HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"20 target without slash", "GET admin HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"21 GET *", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"22 OPTIONS */x", "OPTIONS */x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"23 CONNECT without port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"23 CONNECT with path", "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"24 absolute form against Host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"25 https on plaintext", "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"26 bad scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"27 escaped NUL", "GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"27 escaped CRLF", "GET /a%0d%0ab HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"28 backslash", "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"29 8000 octets", "GET /" + strings.Repeat("a", 7980) + " HTTP/1.1\r\nHost: a\r\n\r\n", 200},
	{"29 beyond the limit", "GET /" + strings.Repeat("a", 20000) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414},
	{"30 leading CRLF", "\r\n" + get + "\r\n", 200},
	{"30 garbage before method", "\x01\x02" + get + "\r\n", 400},
	{"31 space after start line", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
	{"32 LF as separator", "GET /\nHTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"33 h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
	{"34 TLS record", "\x16\x03\x01\x00\x05hello\r\n", 0},
}

var c1Fields = []c1{
	{"35 bare LF after request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
	{"36 bare LF after field", "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 400},
	{"37 bare CR as line end", "GET / HTTP/1.1\rHost: a\r\r", 400},
	{"38 CRLF CR X", "GET / HTTP/1.1\r\nHost: a\r\n\rX: 1\r\n\r\n", 400},
	{"39 leading space on first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
	{"40 obs-fold", get + "X: 1\r\n 2\r\n\r\n", 400},
	{"41 obs-fold on Transfer-Encoding", post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400},
	{"42 name split over lines", post + "Transfer-\r\nEncoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"43 space before colon", post + "Content-Length : 3\r\n\r\nabc", 400},
	{"44 tab after name", post + "Content-Length\t: 3\r\n\r\nabc", 400},
	{"45 no colon", get + "X\r\n\r\n", 400},
	{"46 empty name", get + ": x\r\n\r\n", 400},
	{"47 name not a token", get + "X(y): 1\r\n\r\n", 400},
	{"48 high byte in name", get + "X\xa0: 1\r\n\r\n", 400},
	{"49 NUL in value", get + "X: a\x00b\r\n\r\n", 400},
	{"50 bare CR in value", get + "X: a\rb\r\n\r\n", 400},
	{"51 control in value", get + "X: a\x01b\r\n\r\n", 400},
	{"52 high byte on a framing field", post + "Content-Length: 3\xa0\r\n\r\nabc", 400},
	{"53 VT is not trimmed", post + "Content-Length: \x0b3\r\n\r\nabc", 400},
	{"54 100 KB value", get + "X: " + strings.Repeat("a", 100000) + "\r\n\r\n", 431},
	{"55 10 000 fields", get + strings.Repeat("X: 1\r\n", 10000) + "\r\n", 431},
	{"58 no Host", "GET / HTTP/1.1\r\n\r\n", 400},
	{"59 two Hosts", get + "Host: a\r\n\r\n", 400},
	{"60 empty authority", "GET http:/// HTTP/1.1\r\nHost:\r\n\r\n", 400},
	{"61 userinfo", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
	{"62 path in Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
	{"63 list in Host", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
	{"64 bad port", "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", 400},
	{"64 double colon", "GET / HTTP/1.1\r\nHost: a::80\r\n\r\n", 400},
	{"65 1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 400},
}

var c1Length = []c1{
	{"66 +5", post + "Content-Length: +5\r\n\r\nabcde", 400},
	{"67 -1", post + "Content-Length: -1\r\n\r\n", 400},
	{"68 0x5", post + "Content-Length: 0x5\r\n\r\nabcde", 400},
	{"70 1_0", post + "Content-Length: 1_0\r\n\r\n", 400},
	{"71 1 0", post + "Content-Length: 1 0\r\n\r\n", 400},
	{"72 5.0", post + "Content-Length: 5.0\r\n\r\nabcde", 400},
	{"73 empty", post + "Content-Length:\r\n\r\n", 400},
	{"74 over 2^63", post + "Content-Length: 9223372036854775808\r\n\r\n", 400},
	{"75 1Z", post + "Content-Length: 1Z\r\n\r\na", 400},
	{"77 leading zeros", post + "Content-Length: 005\r\n\r\nabcde", 400},
	{"78 two different", post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400},
	{"79 two equal", post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", 400},
	{"79 list", post + "Content-Length: 5, 5\r\n\r\nabcde", 400},
	{"80 empty then valid", post + "Content-Length:\r\nContent-Length: 5\r\n\r\nabcde", 400},
	{"84 length and chunked", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"85 chunked on 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"86 chunked, gzip", post + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400},
	{"87 gzip", post + "Transfer-Encoding: gzip\r\n\r\n", 501},
	{"88 identity", post + "Transfer-Encoding: identity\r\n\r\n", 400},
	{"89 xchunked", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
	{"90 chunked, chunked", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400},
	{"90 two fields", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"91 ,chunked", post + "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", 400},
	{"92 parameter", post + "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", 400},
	{"93 quoted", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400},
	{"94 VT before", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400},
	{"95 empty", post + "Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400},
	{"96 any case", post + "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", 200},
	{"97 gzip, chunked", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
	{"98 nominated framing field", post + "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"125 unknown expectation", post + "Expect: 200-ok\r\nContent-Length: 0\r\n\r\n", 417},
	{"131 TRACE with body", "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 400},
	{"131 TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405},
}

var c1Chunks = []c1{
	{"100 0x5", chkd + "0x5\r\nabcde\r\n0\r\n\r\n", 400},
	{"101 +5", chkd + "+5\r\nabcde\r\n0\r\n\r\n", 400},
	{"102 space before", chkd + " 5\r\nabcde\r\n0\r\n\r\n", 400},
	{"103 space after", chkd + "5 \r\nabcde\r\n0\r\n\r\n", 400},
	{"104 1_0", chkd + "1_0\r\nabcde\r\n0\r\n\r\n", 400},
	{"105 5Z", chkd + "5Z\r\nabcde\r\n0\r\n\r\n", 400},
	{"106 empty size", chkd + "\r\nabcde\r\n0\r\n\r\n", 400},
	{"107 overflow", chkd + "10000000000000005\r\nabcde\r\n0\r\n\r\n", 400},
	{"108 long extension", chkd + "5;" + strings.Repeat("a", 70000) + "\r\nabcde\r\n0\r\n\r\n", 400},
	{"109 bare LF after size", chkd + "5\nabcde\r\n0\r\n\r\n", 400},
	{"110 CR X", chkd + "5\rXabcde\r\n0\r\n\r\n", 400},
	{"111 empty extension", chkd + "5;\r\nabcde\r\n0\r\n\r\n", 400},
	{"113 NUL in extension", chkd + "5;a=\x00\r\nabcde\r\n0\r\n\r\n", 400},
	{"114 bad token", chkd + "5;a(=1\r\nabcde\r\n0\r\n\r\n", 400},
	{"115 unbalanced quote", chkd + "5;a=\"b\r\nabcde\r\n0\r\n\r\n", 400},
	{"115 valid extension", chkd + "5;a=\"b\"\r\nabcde\r\n0\r\n\r\n", 200},
	{"116 data longer than size", chkd + "5\r\nabcdefg\r\n0\r\n\r\n", 400},
	{"117 LF after data", chkd + "5\r\nabcde\n0\r\n\r\n", 400},
	{"117 XX after data", chkd + "5\r\nabcdeXX0\r\n\r\n", 400},
	{"119 bad trailer", chkd + "0\r\nX y: 1\r\n\r\n", 400},
	{"120 trailer flood", chkd + "0\r\n" + strings.Repeat("X: 1\r\n", 10000) + "\r\n", 431},
}

// Every row of C1, representative ones over the socket: ambiguity means an
// error and close, and no backend sees it.
func TestC1RowsOverTheSocket(t *testing.T) {
	t.Parallel()
	echo := harness.NewEcho(t, "a")
	s := &site{endpoints: []string{echo.Addr}}
	serve(t, s)
	for _, table := range [][]c1{c1RequestLine, c1Fields, c1Length} {
		for _, row := range table {
			t.Run(row.row, func(t *testing.T) {
				before := echo.Heads()
				checkC1(t, s.addr, row)
				if row.status != 200 && echo.Heads() != before {
					t.Error("the backend was asked")
				}
			})
		}
	}
	for _, row := range c1Chunks {
		t.Run(row.row, func(t *testing.T) { checkC1(t, s.addr, row) })
	}
}

// checkC1 sends a row and compares the answer.
func checkC1(t *testing.T, addr string, row c1) {
	t.Helper()
	c := harness.Dial(t, addr)
	_, _ = io.WriteString(c.Conn, row.send) // belay may close before it has taken all
	if row.status == 200 {
		wantStatus(t, c.Reply("GET"), 200)
		_ = c.Close()
		return
	}
	data, _ := c.Rest()
	if row.status == 0 {
		wantNot(t, data, "hello", "HTTP/1.1 200")
		return
	}
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(data)), nil)
	if err != nil {
		t.Fatalf("no reply: %v: %.200q", err, data)
	}
	_ = r.Body.Close()
	if r.StatusCode != row.status || !r.Close {
		t.Errorf("status %d, close %v; want %d and close", r.StatusCode, r.Close, row.status)
	}
}

// Row 56: a name with an underscore is dropped, never mapped. Row 99 and 128
// are in TestHopByHopFieldsAreRemoved.
func TestC1UnderscoreNamesAreDropped(t *testing.T) {
	t.Parallel()
	addr, _ := front(t)
	r := harness.Get(t, addr, "/", "a", "Content_Length: 3", "X_Y: 1", "X-Z: 1")
	wantStatus(t, r, 200)
	wantNot(t, r.Body, "Content_Length", "X_Y")
	want(t, r.Body, "X-Z: 1")
}

// Rows 81, 119, 123: a body on GET is framed and consumed; forbidden trailers
// are dropped; an invalid request behind a valid one is answered second.
func TestC1BytesNeverShift(t *testing.T) {
	t.Parallel()
	addr, _ := front(t)

	c := harness.Dial(t, addr)
	c.Send("GET /one HTTP/1.1\r\nHost: a\r\nContent-Length: 24\r\n\r\nGET /smuggled HTTP/1.1\r\n" + get + "\r\n")
	want(t, c.Reply("GET").Body, "GET /one", "GET /smuggled HTTP/1.1")
	want(t, c.Reply("GET").Body, "GET / HTTP/1.1")

	c = harness.Dial(t, addr)
	c.Send(chkd + "3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: evil\r\nX-Sum: 1\r\n\r\n")
	body := c.Reply("POST").Body
	wantNot(t, body, "Content-Length: 9", "evil")

	c = harness.Dial(t, addr)
	c.Send(get + "\r\nGET  / HTTP/1.1\r\n\r\n")
	wantStatus(t, c.Reply("GET"), 200)
	r := c.Reply("GET")
	wantStatus(t, r, 400)
	c.ExpectClose()
}

// Where a row gives two answers the stricter is the default and a switch loosens it.
func TestC1SwitchesLoosen(t *testing.T) {
	t.Parallel()
	s := &site{
		tables: `[listener.web.http1]
default_host = "fallback"
allow_equal_lengths = true
allow_leading_zeros = true
allow_host_mismatch = true
underscores = "allow"
escaped_control = "allow"
backslash = "allow"`,
		endpoints: []string{harness.NewEcho(t, "a").Addr},
	}
	serve(t, s)
	tests := []struct{ row, send, want string }{
		{"24", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", "Host: b\r\n"},
		{"27", "GET /a%0ab HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a%0ab HTTP/1.1"},
		{"28", "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a\\b HTTP/1.1"},
		{"56", get + "X_Y: 1\r\n\r\n", "X_Y: 1"},
		{"65", "GET / HTTP/1.0\r\n\r\n", "Host: fallback"},
		{"77", post + "Content-Length: 003\r\n\r\nabc", "Content-Length: 3\r\n"},
		{"79", post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "\r\n\r\nabc"},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			c := harness.Dial(t, s.addr)
			r := c.Send(tt.send).Reply("GET")
			wantStatus(t, r, 200)
			want(t, r.Body, tt.want)
			if n := strings.Count(r.Body, "Content-Length"); n > 1 {
				t.Errorf("%d Content-Length fields sent on", n)
			}
		})
	}
}
