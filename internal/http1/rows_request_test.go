package http1

import (
	"strings"
	"testing"

	"belay/internal/header"
)

var requestLineRows = []requestRow{
	{n: 1, name: "two spaces before target", in: "GET  §/  HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 1, name: "two spaces before version", in: "GET /  §HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-version"},
	{n: 2, name: "tab separators", in: "GET\t§/\tHTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-method"},
	{n: 2, name: "tab before version", in: "GET /\t§HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 3, name: "no target", in: "GET HTTP/1.1\r§\nHost: a\r\n\r\n", status: 400},
	{n: 4, name: "no version but a space", in: "GET / \r§\nHost: a\r\n\r\n", status: 400, reason: "bad-version"},
	{n: 5, name: "HTTP/0.9 without version", in: "GET /\r§\n", status: 400, reason: "bad-version"},
	{n: 5, name: "HTTP/0.9 named", in: "GET / HTTP/0.9\r\n§", status: 400, reason: "bad-version"},
	{n: 6, name: "HTTP/1", in: "GET / HTTP/1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-version"},
	{n: 6, name: "HTTP/1.", in: "GET / HTTP/1.\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-version"},
	{n: 7, name: "HTTP/01.01", in: "GET / HTTP/01.01\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-version"},
	{n: 7, name: "HTTP/1.01", in: "GET / HTTP/1.01\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-version"},
	{n: 8, name: "http/1.1", in: "GET / h§ttp/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-version"},
	{n: 9, name: "space in version", in: "GET / HTTP/ §1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-version"},
	{n: 10, name: "HTTP/1.32", in: "GET / HTTP/1.32\r\n§Host: a\r\n\r\n", status: 505, reason: "version-not-supported"},
	{n: 10, name: "HTTP/4294967295.255", in: "GET / HTTP/4294967295.255\r\n§Host: a\r\n\r\n", status: 505},
	{n: 10, name: "version without end", in: "GET / HTTP/1." + strings.Repeat("1", 30) + "§", status: 400},
	{n: 11, name: "HTTP/9.9", in: "GET / HTTP/9.9\r\n§Host: a\r\n\r\n", status: 505},
	{n: 12, name: "HTTP/1.2 is 1.1", in: "GET / HTTP/1.2\r\nHost: a\r\n\r\n", check: func(t *testing.T, r *Request) {
		if r.Minor != 1 || !r.KeepAlive {
			t.Errorf("minor %d, keep-alive %v", r.Minor, r.KeepAlive)
		}
	}},
	{n: 13, name: "quote in method", in: "G=\"§x / HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-method"},
	{n: 14, name: "NUL in method", in: "GE\x00§T / HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-method"},
	{n: 15, name: "method of 100 KB", in: strings.Repeat("A", 65) + "§" + strings.Repeat("A", 100000) + " / HTTP/1.1\r\n", status: 400, reason: "bad-method"},
	{n: 16, name: "NUL in target", in: "GET /\x00§ HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 17, name: "raw non-ASCII in target", in: "GET /\xc3§\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 17, name: "overlong UTF-8 in target", in: "GET /\xc0§\xaf HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 17, name: "DEL in target", in: "GET /\x7f§ HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 18, name: "space in target", in: "GET /a b§ HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-version"},
	{n: 19, name: "fragment", in: "GET /a#§b HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 19, name: "fragment behind the authority", in: "GET http://a#§b HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 20, name: "target !", in: "GET ! HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 20, name: "target without slash", in: "GET admin HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 20, name: "authority-form with GET", in: "GET a:80 HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 20, name: "query only", in: "GET ?x HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 21, name: "GET *", in: "GET * HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 21, name: "OPTIONS * is asterisk-form", in: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", check: wantTarget("*", "a")},
	{n: 22, name: "OPTIONS */x", in: "OPTIONS */x HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 23, name: "CONNECT without port", in: "CONNECT a HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 23, name: "CONNECT with a path", in: "CONNECT /x HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 23, name: "CONNECT with a URI", in: "CONNECT http://a:80/ HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 23, name: "CONNECT with an address without port", in: "CONNECT [::1] HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 23, name: "CONNECT is refused", in: "CONNECT a:443 HTTP/1.1\r\n§Host: a:443\r\n\r\n", status: 405, reason: "connect-refused"},
	{n: 24, name: "absolute-form against Host", in: "GET http://b/x HTTP/1.1\r\nHost: a\r\n§\r\n", status: 400, reason: "host-mismatch"},
	{n: 24, name: "absolute-form against Host, AllowHostMismatch", in: "GET http://b/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
		opt: opts(func(o *Options) { o.AllowHostMismatch = true }), check: wantTarget("/x?y", "b")},
	{n: 24, name: "absolute-form as Host", in: "GET hTTp://A:80/x HTTP/1.1\r\nHost: a:80\r\n\r\n", check: wantTarget("/x", "a:80")},
	{n: 24, name: "absolute-form without path", in: "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", check: wantTarget("/", "a")},
	{n: 24, name: "absolute-form with query but no path", in: "GET http://a?b=/c HTTP/1.1\r\nHost: a\r\n\r\n", check: wantTarget("/?b=/c", "a")},
	{n: 24, name: "OPTIONS in absolute-form without path", in: "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", check: wantTarget("*", "a")},
	{n: 25, name: "https on plaintext", in: "GET https://a/ HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-scheme"},
	{n: 26, name: "scheme ftp", in: "GET ftp://a/ HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-scheme"},
	{n: 26, name: "no scheme", in: "GET ://a/ HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-scheme"},
	{n: 26, name: "one slash", in: "GET http:/a/ HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 27, name: "escaped NUL in path", in: "GET /a%00 HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "escaped-control"},
	{n: 27, name: "escaped CRLF in path", in: "GET /a%0d%0Ab HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "escaped-control"},
	{n: 27, name: "escaped LF in an absolute path", in: "GET http://a/%0a HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "escaped-control"},
	{n: 27, name: "escaped control, AllowEscapedControl", in: "GET /a%0d%00 HTTP/1.1\r\nHost: a\r\n\r\n",
		opt: opts(func(o *Options) { o.AllowEscapedControl = true }), check: wantTarget("/a%0d%00", "a")},
	{n: 27, name: "escaped control in query is data", in: "GET /a?%0a HTTP/1.1\r\nHost: a\r\n\r\n", check: wantTarget("/a?%0a", "a")},
	{n: 27, name: "half an escape", in: "GET /a%4 HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 27, name: "escape cut off by query", in: "GET /a%4?1 HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-target"},
	{n: 28, name: "backslash in path", in: "GET /a\\..\\b HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "backslash"},
	{n: 28, name: "backslash, AllowBackslash", in: "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n",
		opt: opts(func(o *Options) { o.AllowBackslash = true }), check: wantTarget("/a\\b", "a")},
	{n: 28, name: "backslash in authority, AllowBackslash", in: "GET http://a\\b/ HTTP/1.1\r\n§Host: a\r\n\r\n",
		opt: opts(func(o *Options) { o.AllowBackslash = true }), status: 400, reason: "bad-host"},
	{n: 29, name: "target of 8000 bytes", in: "GET /" + strings.Repeat("a", 7999) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
	{n: 29, name: "target beyond the limit", in: "GET /" + strings.Repeat("a", 8000) + "§ HTTP/1.1\r\nHost: a\r\n\r\n", status: 414, reason: "target-too-long"},
	{n: 30, name: "one leading CRLF", in: "\r\n" + get + "\r\n", check: wantTarget("/", "a")},
	{n: 30, name: "two leading CRLF", in: "\r\n\r§\n" + get + "\r\n", status: 400, reason: "bad-request-line"},
	{n: 30, name: "leading LF", in: "\n§" + get + "\r\n", status: 400, reason: "bare-lf"},
	{n: 30, name: "leading CR", in: "\rG§ET / HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bare-cr"},
	{n: 30, name: "leading space", in: " §" + get + "\r\n", status: 400, reason: "bad-method"},
	{n: 30, name: "garbage before method", in: "\x01§\x02" + get + "\r\n", status: 400, reason: "bad-method"},
	{n: 31, name: "space after start line", in: "GET / HTTP/1.1 §\r\nHost: a\r\n\r\n", status: 400, reason: "bad-version"},
	{n: 32, name: "LF as separator", in: "GET /\n§HTTP/1.1\r\nHost: a\r\n\r\n", status: 400, reason: "bare-lf"},
	// With protocol h2 the listener tells the preface itself; until then it is version 2.0 here.
	{n: 33, name: "h2 preface", in: "PRI * HTTP/2.0\r\n§\r\nSM\r\n\r\n", status: 505, reason: "version-not-supported"},
	// httpproxy answers and closes; none of the record's bytes are in an answer.
	{n: 34, name: "TLS record", in: "\x16§\x03\x01\x00\xee\x01\x00\x00\xea", status: 400, reason: "tls-on-plain-port"},
}

var lineEndRows = []requestRow{
	{n: 35, name: "bare LF after request line", in: "GET / HTTP/1.1\n§Host: a\r\n\r\n", status: 400, reason: "bare-lf"},
	{n: 36, name: "bare LF after field", in: "GET / HTTP/1.1\r\nHost: a\n§X: 1\r\n\r\n", status: 400, reason: "bare-lf"},
	{n: 36, name: "bare LF as empty line", in: get + "\n§", status: 400, reason: "bare-lf"},
	{n: 36, name: "LF CR LF", in: "GET / HTTP/1.1\r\nHost: a\n§\r\n", status: 400, reason: "bare-lf"},
	{n: 37, name: "bare CR after request line", in: "GET / HTTP/1.1\rH§ost: a\r\r", status: 400, reason: "bare-cr"},
	{n: 37, name: "bare CR after field", in: "GET / HTTP/1.1\r\nHost: a\rX§: 1\r\r", status: 400, reason: "bare-cr"},
	{n: 38, name: "CRLF CR X", in: get + "\rX§: 1\r\n\r\n", status: 400, reason: "bare-cr"},
	{n: 39, name: "space before first field", in: "GET / HTTP/1.1\r\n §Host: a\r\n\r\n", status: 400, reason: "obs-fold"},
	{n: 39, name: "tab before first field", in: "GET / HTTP/1.1\r\n\t§Host: a\r\n\r\n", status: 400, reason: "obs-fold"},
	{n: 40, name: "obs-fold", in: get + "X: 1\r\n §2\r\n\r\n", status: 400, reason: "obs-fold"},
	{n: 40, name: "obs-fold with tab", in: get + "X: 1\r\n\t§2\r\n\r\n", status: 400, reason: "obs-fold"},
	{n: 40, name: "obs-fold of blanks only", in: get + "X: 1\r\n §\r\n\r\n", status: 400, reason: "obs-fold"},
	{n: 41, name: "obs-fold on Transfer-Encoding", in: post + "Transfer-Encoding:\r\n§ chunked\r\n\r\n0\r\n\r\n", status: 400},
	{n: 41, name: "obs-fold behind Transfer-Encoding", in: post + "Transfer-Encoding: chunked\r\n §x\r\n\r\n0\r\n\r\n", status: 400, reason: "obs-fold"},
	{n: 41, name: "obs-fold on Content-Length", in: post + "Content-Length: 1\r\n §0\r\n\r\n", status: 400, reason: "obs-fold"},
	{n: 41, name: "obs-fold on Host", in: "GET / HTTP/1.1\r\nHost: a\r\n\t§b\r\n\r\n", status: 400, reason: "obs-fold"},
	{n: 42, name: "name split over lines", in: post + "Transfer-\r§\nEncoding: chunked\r\n\r\n0\r\n\r\n", status: 400, reason: "bad-field-name"},
	{n: 43, name: "space before colon", in: post + "Content-Length §: 3\r\n\r\nabc", status: 400, reason: "bad-field-name"},
	{n: 44, name: "tab before colon", in: post + "Content-Length\t§: 3\r\n\r\nabc", status: 400, reason: "bad-field-name"},
	{n: 44, name: "tab in name", in: post + "Content\t§Length: 3\r\n\r\nabc", status: 400, reason: "bad-field-name"},
	{n: 45, name: "no colon", in: get + "X\r§\n\r\n", status: 400, reason: "bad-field-name"},
	{n: 46, name: "empty name", in: get + ":§ x\r\n\r\n", status: 400, reason: "bad-field-name"},
	{n: 46, name: "colon only", in: get + ":§\r\n\r\n", status: 400, reason: "bad-field-name"},
	{n: 47, name: "parenthesis in name", in: get + "X(§y): 1\r\n\r\n", status: 400, reason: "bad-field-name"},
	{n: 47, name: "slash in name", in: get + "X/§y: 1\r\n\r\n", status: 400, reason: "bad-field-name"},
	{n: 47, name: "NUL in name", in: get + "X\x00§y: 1\r\n\r\n", status: 400, reason: "bad-field-name"},
	{n: 48, name: "high byte in name", in: get + "X\xc3§\xa4: 1\r\n\r\n", status: 400, reason: "bad-field-name"},
	{n: 48, name: "0x85 before colon", in: post + "Content-Length\x85§: 3\r\n\r\nabc", status: 400, reason: "bad-field-name"},
	{n: 48, name: "0xA0 before colon", in: post + "Content-Length\xa0§: 3\r\n\r\nabc", status: 400, reason: "bad-field-name"},
	{n: 48, name: "0xAD before colon", in: post + "Content-Length\xad§: 3\r\n\r\nabc", status: 400, reason: "bad-field-name"},
	{n: 49, name: "NUL in value", in: get + "X: a\x00§b\r\n\r\n", status: 400, reason: "bad-field-value"},
	{n: 50, name: "bare CR in value", in: get + "X: a\rb§\r\n\r\n", status: 400, reason: "bare-cr"},
	{n: 50, name: "two CR at the end of a value", in: get + "X: a\r\r§\n\r\n", status: 400, reason: "bare-cr"},
	{n: 51, name: "0x01 in value", in: get + "X: a\x01§b\r\n\r\n", status: 400, reason: "bad-field-value"},
	{n: 51, name: "0x0E in value", in: get + "X: abcdefghijkl\x0e§b\r\n\r\n", status: 400, reason: "bad-field-value"},
	{n: 51, name: "0x1F in value", in: get + "X: \x1f§\r\n\r\n", status: 400, reason: "bad-field-value"},
	{n: 51, name: "DEL in value", in: get + "X: \xff\x7f§\r\n\r\n", status: 400, reason: "bad-field-value"},
	{n: 51, name: "tab and high bytes in value", in: get + "X: a\tb\xff~\r\n\r\n", check: wantField("x", "a\tb\xff~")},
	{n: 52, name: "0x85 and 0xA0 around a value", in: get + "X: \x85a\xa0\r\n\r\n", check: wantField("x", "\x85a\xa0")},
	{n: 52, name: "0xA0 behind Content-Length", in: post + "Content-Length: 3\xa0\r\n§\r\nabc", status: 400, reason: "bad-content-length"},
	{n: 52, name: "0xFF before Content-Length", in: post + "Content-Length: \xff3\r\n§\r\nabc", status: 400, reason: "bad-content-length"},
	{n: 52, name: "0x85 before chunked", in: post + "Transfer-Encoding: \x85chunked\r\n§\r\n", status: 400, reason: "bad-transfer-encoding"},
	{n: 53, name: "blanks are trimmed", in: get + "X:\t \ta \t\r\n\r\n", check: wantField("x", "a")},
	{n: 53, name: "VT is not trimmed", in: post + "Content-Length: \x0b§3\r\n\r\nabc", status: 400, reason: "bad-field-value"},
	{n: 53, name: "FF is not trimmed", in: post + "Content-Length: 3\x0c§\r\n\r\nabc", status: 400, reason: "bad-field-value"},
	{n: 54, name: "name of 100 KB", in: get + strings.Repeat("n", 257) + "§" + strings.Repeat("n", 100000) + ": 1\r\n\r\n", status: 431, reason: "field-name-too-long"},
	{n: 54, name: "value of 100 KB", in: get + "X: " + strings.Repeat("v", 60<<10) + "§" + strings.Repeat("v", 40000) + "\r\n\r\n", status: 431, reason: "head-too-large"},
	{n: 54, name: "100 KB of blanks", in: get + "X:" + strings.Repeat(" ", 60<<10) + "§" + strings.Repeat(" ", 40000) + "1\r\n\r\n", status: 431, reason: "head-too-large"},
	{n: 55, name: "10 000 fields", in: get + strings.Repeat("X: 1\r\n", 100) + "§" + strings.Repeat("X: 1\r\n", 9900) + "\r\n", status: 431, reason: "too-many-fields"},
	{n: 55, name: "10 000 fields that are dropped", in: get + strings.Repeat("a_b:1\r\n", 100) + "§" + strings.Repeat("a_b:1\r\n", 9900) + "\r\n", status: 431, reason: "too-many-fields"},
	{n: 56, name: "Content_Length is dropped", in: post + "Content_Length: 3\r\nX: 1\r\n\r\n", check: func(t *testing.T, r *Request) {
		wantNoField("content_length")(t, r)
		wantField("x", "1")(t, r)
		wantFraming(FrameNone)(t, r)
	}},
	{n: 56, name: "Transfer_Encoding is dropped", in: post + "Transfer_Encoding: chunked\r\n\r\n", check: wantFraming(FrameNone)},
	{n: 56, name: "Content_Length, UnderscoreReject", in: post + "Content_Length: 3\r\n§\r\n", status: 400, reason: "underscore",
		opt: opts(func(o *Options) { o.Underscores = UnderscoreReject })},
	{n: 56, name: "Content_Length, UnderscoreAllow", in: post + "Content_Length: 3\r\n\r\n",
		opt: opts(func(o *Options) { o.Underscores = UnderscoreAllow }), check: func(t *testing.T, r *Request) {
			wantField("content_length", "3")(t, r)
			wantFraming(FrameNone)(t, r)
		}},
	// The time limit and its 408 are httpproxy's; a head that comes slowly is only not complete here.
	{n: 57, name: "head without end is no error of its own", in: get + "X: 1\r\n\r\n", check: func(t *testing.T, _ *Request) {
		if _, _, err := parseInPieces([]byte(get+"X: 1\r\n"), 1, &strict); err != ErrNeedMore {
			t.Errorf("half a head: %v", err)
		}
	}},
}

var hostRows = []requestRow{
	{n: 58, name: "no Host", in: "GET / HTTP/1.1\r\nX: 1\r\n\r\n§", status: 400, reason: "missing-host"},
	{n: 58, name: "no Host with absolute-form", in: "GET http://a/ HTTP/1.1\r\n\r\n§", status: 400, reason: "missing-host"},
	{n: 59, name: "two Hosts", in: get + "Host: b\r\n§\r\n", status: 400, reason: "duplicate-field"},
	{n: 59, name: "two equal Hosts", in: get + "host: a\r\n§\r\n", status: 400, reason: "duplicate-field"},
	{n: 60, name: "empty Host with an authority", in: "GET http://a/ HTTP/1.1\r\nHost:\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 60, name: "empty Host", in: "GET / HTTP/1.1\r\nHost: \r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 60, name: "empty authority", in: "GET http:///x HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-host"},
	{n: 61, name: "userinfo in Host", in: "GET / HTTP/1.1\r\nHost: u@a\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 61, name: "userinfo in target", in: "GET http://u:p@a/ HTTP/1.1\r\n§Host: a\r\n\r\n", status: 400, reason: "bad-host"},
	{n: 62, name: "path in Host", in: "GET / HTTP/1.1\r\nHost: a/b\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 63, name: "list in Host", in: "GET / HTTP/1.1\r\nHost: a, b\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 63, name: "list without blank in Host", in: "GET / HTTP/1.1\r\nHost: a,b\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 64, name: "port x", in: "GET / HTTP/1.1\r\nHost: a:x\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 64, name: "two colons", in: "GET / HTTP/1.1\r\nHost: a::80\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 64, name: "two ports", in: "GET / HTTP/1.1\r\nHost: a:80:80\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 64, name: "port 80.", in: "GET / HTTP/1.1\r\nHost: a:80.\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 64, name: "empty port", in: "GET / HTTP/1.1\r\nHost: a:\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 64, name: "port 0", in: "GET / HTTP/1.1\r\nHost: a:0\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 64, name: "port 65536", in: "GET / HTTP/1.1\r\nHost: a:65536\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 64, name: "port without host", in: "GET / HTTP/1.1\r\nHost: :80\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 64, name: "IPv6 with port", in: "GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n", check: wantTarget("/", "[2001:db8::1]:8080")},
	{n: 64, name: "IPv6 without end", in: "GET / HTTP/1.1\r\nHost: [::1\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 64, name: "IPv6 with zone", in: "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n§\r\n", status: 400, reason: "bad-host"},
	{n: 65, name: "HTTP/1.0 without Host", in: "GET / HTTP/1.0\r\n\r\n§", status: 400, reason: "missing-host"},
	{n: 65, name: "HTTP/1.0 without Host, DefaultHost", in: "GET /x HTTP/1.0\r\n\r\n",
		opt: opts(func(o *Options) { o.DefaultHost = "fallback.example" }), check: wantTarget("/x", "fallback.example")},
	{n: 65, name: "HTTP/1.1 without Host, DefaultHost", in: "GET /x HTTP/1.1\r\n\r\n", status: 400, reason: "missing-host",
		opt: opts(func(o *Options) { o.DefaultHost = "fallback.example" })},
	{n: 65, name: "HTTP/1.0 in absolute-form without Host", in: "GET http://b:81/x HTTP/1.0\r\n\r\n", check: wantTarget("/x", "b:81")},
}

func lengthRow(n int, name, value, reason string) requestRow {
	return requestRow{n: n, name: name, in: post + "Content-Length: " + value + "\r\n§\r\nabcdefgh", status: 400, reason: reason}
}

var (
	equalLengths = opts(func(o *Options) { o.AllowEqualLengths = true })
	leadingZeros = opts(func(o *Options) { o.AllowLeadingZeros = true })
)

var lengthRows = []requestRow{
	lengthRow(66, "+5", "+5", "bad-content-length"),
	lengthRow(67, "-1", "-1", "bad-content-length"),
	lengthRow(67, "-0", "-0", "bad-content-length"),
	lengthRow(68, "0x5", "0x5", "bad-content-length"),
	lengthRow(69, "0o5", "0o5", "bad-content-length"),
	lengthRow(70, "1_0", "1_0", "bad-content-length"),
	lengthRow(71, "1 0", "1 0", "bad-content-length"),
	lengthRow(72, "5.0", "5.0", "bad-content-length"),
	lengthRow(72, "5e0", "5e0", "bad-content-length"),
	lengthRow(73, "empty", "", "bad-content-length"),
	lengthRow(74, "2^63", "9223372036854775808", "bad-content-length"),
	lengthRow(74, "2^64 and 5", "18446744073709551621", "bad-content-length"),
	lengthRow(74, "100 digits", strings.Repeat("1", 100), "bad-content-length"),
	{n: 74, name: "2^63-1", in: post + "Content-Length: 9223372036854775807\r\n\r\n", check: wantLength(1<<63 - 1)},
	lengthRow(75, "1Z", "1Z", "bad-content-length"),
	lengthRow(76, "abc", "abc", "bad-content-length"),
	lengthRow(77, "leading zeros", "005", "bad-content-length"),
	{n: 77, name: "leading zeros, AllowLeadingZeros", in: post + "Content-Length: 005\r\n\r\n", opt: leadingZeros, check: wantLength(5)},
	{n: 77, name: "0 is no leading zero", in: post + "Content-Length: 0\r\n\r\n", check: wantLength(0)},
	{n: 78, name: "two different", in: post + "Content-Length: 5\r\nContent-Length: 6\r\n§\r\n", status: 400, reason: "duplicate-content-length"},
	{n: 78, name: "two different, AllowEqualLengths", in: post + "Content-Length: 5\r\nContent-Length: 6\r\n§\r\n", opt: equalLengths, status: 400, reason: "duplicate-content-length"},
	{n: 78, name: "list of different, AllowEqualLengths", in: post + "Content-Length: 5,6\r\n§\r\n", opt: equalLengths, status: 400, reason: "duplicate-content-length"},
	{n: 79, name: "two equal", in: post + "Content-Length: 5\r\nContent-Length: 5\r\n§\r\n", status: 400, reason: "duplicate-content-length"},
	lengthRow(79, "list of equal", "5, 5", "duplicate-content-length"),
	{n: 79, name: "two equal, AllowEqualLengths", in: post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", opt: equalLengths, check: wantLength(5)},
	{n: 79, name: "list of equal, AllowEqualLengths", in: post + "Content-Length: 5, 5\r\n\r\n", opt: equalLengths, check: wantLength(5)},
	{n: 80, name: "empty then valid", in: post + "Content-Length:\r\n§Content-Length: 5\r\n\r\n", status: 400, reason: "bad-content-length"},
	{n: 80, name: "empty in a list, AllowEqualLengths", in: post + "Content-Length: 5,\r\n§\r\n", opt: equalLengths, status: 400, reason: "bad-content-length"},
	{n: 81, name: "length on GET", in: get + "Content-Length: 5\r\n\r\n", check: wantLength(5)},
	{n: 81, name: "length on HEAD", in: "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", check: wantLength(5)},
	{n: 81, name: "length on OPTIONS", in: "OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", check: wantLength(5)},
	{n: 82, name: "CR behind length", in: post + "Content-Length: 5\r\r§\n\r\n", status: 400, reason: "bare-cr"},
}

func codingRow(n int, name, value string, status int, reason string) requestRow {
	return requestRow{n: n, name: name, in: post + "Transfer-Encoding: " + value + "\r\n§\r\n0\r\n\r\n", status: status, reason: reason}
}

const badCoding, otherCoding = "bad-transfer-encoding", "unsupported-transfer-coding"

var codingRows = []requestRow{
	{n: 84, name: "length, then chunked", in: post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n§\r\n", status: 400, reason: "length-and-chunked"},
	{n: 84, name: "chunked, then length", in: post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n§\r\n", status: 400, reason: "length-and-chunked"},
	{n: 85, name: "chunked in HTTP/1.0", in: "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n§\r\n", status: 400, reason: "transfer-encoding-in-1.0"},
	codingRow(86, "chunked, gzip", "chunked, gzip", 400, badCoding),
	codingRow(87, "gzip", "gzip", 501, otherCoding),
	codingRow(88, "identity", "identity", 400, badCoding),
	codingRow(88, "identity, chunked", "identity, chunked", 400, badCoding),
	codingRow(89, "xchunked", "xchunked", 501, otherCoding),
	codingRow(89, "chunk", "chunk", 501, otherCoding),
	codingRow(89, "chunkedchunked", "chunkedchunked", 501, otherCoding),
	codingRow(90, "chunked, chunked", "chunked, chunked", 400, badCoding),
	{n: 90, name: "two fields", in: post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n§\r\n", status: 400, reason: "duplicate-transfer-encoding"},
	{n: 90, name: "chunked, then identity", in: post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n§\r\n", status: 400, reason: "duplicate-transfer-encoding"},
	codingRow(91, "comma before", ",chunked", 400, badCoding),
	codingRow(91, "comma behind", "chunked,", 400, badCoding),
	codingRow(92, "parameter", "chunked;a=b", 400, badCoding),
	codingRow(93, "quoted", `"chunked"`, 400, badCoding),
	{n: 94, name: "VT before", in: post + "Transfer-Encoding: \x0b§chunked\r\n\r\n", status: 400, reason: "bad-field-value"},
	{n: 94, name: "FF before", in: post + "Transfer-Encoding: \x0c§chunked\r\n\r\n", status: 400, reason: "bad-field-value"},
	{n: 94, name: "NUL behind", in: post + "Transfer-Encoding: chunked\x00§\r\n\r\n", status: 400, reason: "bad-field-value"},
	{n: 94, name: "CR before", in: post + "Transfer-Encoding: \rc§hunked\r\n\r\n", status: 400, reason: "bare-cr"},
	codingRow(95, "empty", "", 400, badCoding),
	{n: 96, name: "any case", in: post + "transfer-ENCODING: Chunked\r\n\r\n", check: wantFraming(FrameChunked)},
	codingRow(97, "gzip, chunked", "gzip, chunked", 501, otherCoding),
	{n: 98, name: "Transfer-Encoding nominated", in: post + "Connection: transfer-encoding\r\n§Transfer-Encoding: chunked\r\n\r\n", status: 400, reason: "framing-nominated"},
	{n: 98, name: "Content-Length nominated", in: post + "Content-Length: 3\r\nConnection: close, Content-Length\r\n§\r\nabc", status: 400, reason: "framing-nominated"},
	{n: 98, name: "Host nominated", in: get + "Connection: Host\r\n§\r\n", status: 400, reason: "framing-nominated"},
	// That only "trailers" is forwarded is httpproxy's part: the field comes through as it is.
	{n: 99, name: "TE is left to httpproxy", in: get + "TE: gzip\r\nConnection: TE\r\n\r\n", check: wantField("te", "gzip")},
}

var connectionRows = []requestRow{
	// That nothing behind it is read is httpproxy's part: it is told that this is the last request.
	{n: 122, name: "close", in: get + "Connection: close\r\n\r\nGET /x HTTP/1.1\r\n", check: wantFlags(false, false, false)},
	{n: 122, name: "close among others", in: get + "Connection: foo ,\tClose\r\nConnection: keep-alive\r\n\r\n", check: wantFlags(false, false, false)},
	{n: 122, name: "HTTP/1.0 closes", in: "GET / HTTP/1.0\r\nHost: a\r\n\r\n", check: wantFlags(false, false, false)},
	{n: 122, name: "HTTP/1.0 with keep-alive", in: "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", check: wantFlags(true, false, false)},
	{n: 122, name: "HTTP/1.0 with keep-alive and close", in: "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive, close\r\n\r\n", check: wantFlags(false, false, false)},
	// Answering in order is httpproxy's part; the codec leaves what is behind a head alone.
	{n: 123, name: "invalid request behind a valid one", in: get + "\r\nGET  / HTTP/1.1\r\n\r\n", check: func(t *testing.T, _ *Request) {
		in := []byte(get + "\r\nGET  / HTTP/1.1\r\n\r\n")
		var r Request
		n, err := r.Parse(in, &strict)
		if err != nil || n != len(get)+2 {
			t.Fatalf("first: %d, %v", n, err)
		}
		r.Reset()
		if _, err = r.Parse(in[n:], &strict); err != errTarget {
			t.Errorf("second: %v", err)
		}
	}},
	// The cap is httpproxy's; the codec reads one head a call, however many are there.
	{n: 124, name: "pipeline", in: get + "\r\n" + get + "\r\n" + get + "\r\n", check: func(t *testing.T, _ *Request) {
		in := []byte(strings.Repeat(get+"\r\n", 3))
		var r Request
		for i := range 3 {
			r.Reset()
			n, err := r.Parse(in, &strict)
			if err != nil || n != len(get)+2 {
				t.Fatalf("request %d: %d, %v", i, n, err)
			}
			in = in[n:]
		}
	}},
	{n: 125, name: "100-continue", in: post + "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n", check: wantFlags(true, true, false)},
	{n: 125, name: "100-continue with chunks", in: post + "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", check: wantFlags(true, true, false)},
	{n: 125, name: "100-continue without body", in: post + "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n", check: wantFlags(true, false, false)},
	{n: 125, name: "100-continue in HTTP/1.0", in: "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", check: wantFlags(false, false, false)},
	{n: 125, name: "unknown expectation", in: post + "Expect: 200-ok\r\n§\r\n", status: 417, reason: "unknown-expectation"},
	// Draining or closing is httpproxy's part; what is not plainly 100-continue is refused.
	{n: 126, name: "100-continue behind another", in: post + "Expect: y 100-continue\r\n§\r\n", status: 417, reason: "unknown-expectation"},
	{n: 126, name: "100-continue in a list", in: post + "Expect: 100-continue, x\r\n§\r\n", status: 417, reason: "unknown-expectation"},
	{n: 126, name: "empty expectation", in: post + "Expect:\r\n§\r\n", status: 417, reason: "unknown-expectation"},
	{n: 127, name: "upgrade", in: get + "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", check: wantFlags(true, false, true)},
	{n: 127, name: "upgrade without the token in Connection", in: get + "Upgrade: websocket\r\n\r\n", check: wantFlags(true, false, false)},
	{n: 127, name: "upgrade without Upgrade", in: get + "Connection: upgrade\r\n\r\n", check: wantFlags(true, false, false)},
	{n: 127, name: "upgrade in HTTP/1.0", in: "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", check: wantFlags(false, false, false)},
	{n: 127, name: "upgrade of POST", in: post + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", check: wantFlags(true, false, false)},
	{n: 127, name: "upgrade with a body", in: get + "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n", check: wantFlags(true, false, false)},
	// Stripping the field is httpproxy's part: it does so unless this is an upgrade.
	{n: 128, name: "h2c", in: get + "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", check: wantFlags(true, false, false)},
	{n: 128, name: "h2c among others", in: get + "Connection: upgrade\r\nUpgrade: websocket, H2C\r\n\r\n", check: wantFlags(true, false, false)},
	{n: 131, name: "TRACE", in: "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", status: 405, reason: "trace-refused"},
	{n: 131, name: "TRACE with length", in: "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", status: 400, reason: "trace-body"},
	{n: 131, name: "TRACE with chunks", in: "TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", status: 400, reason: "trace-body"},
}

// Row 98 and hop-by-hop fields: the names are given in the order they came.
func TestRequestConnectionTokens(t *testing.T) {
	in := get + "Connection: keep-alive, X-A ,, x b,\"q\"\r\nX-A: 1\r\nConnection: TE\r\nconnection:\r\n\r\n"
	var r Request
	if _, err := r.Parse([]byte(in), &strict); err != nil {
		t.Fatal(err)
	}
	var got []string
	r.ConnectionTokens(func(name []byte) bool {
		got = append(got, string(name))
		r.Header.RemoveName(name)
		return true
	})
	if s := strings.Join(got, "|"); s != "keep-alive|X-A|TE" {
		t.Errorf("tokens %s", s)
	}
	if r.Header.HasName("x-a") || !r.Header.Has(header.Connection) {
		t.Error("removing in yield went wrong")
	}
	got = nil
	r.ConnectionTokens(func(name []byte) bool { got = append(got, string(name)); return false })
	if len(got) != 1 {
		t.Errorf("tokens after false: %q", got)
	}
}
