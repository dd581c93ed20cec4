package http1

import (
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"belay/internal/header"
)

func TestMethods(t *testing.T) {
	idempotent := map[Method]bool{GET: true, HEAD: true, PUT: true, DELETE: true, OPTIONS: true, TRACE: true}
	for m := Other; m <= CONNECT; m++ {
		if m != Other && methodOf([]byte(m.String())) != m {
			t.Errorf("%v is not itself", m)
		}
		if m.Idempotent() != idempotent[m] {
			t.Errorf("%v idempotent: %v", m, m.Idempotent())
		}
	}
	for _, s := range []string{"", "get", "GEX", "GETS", "PURGE", "POSX", "TRACK", "DELETX", "OPTIONX", "CONNECX", "PROPFIND"} {
		if m := methodOf([]byte(s)); m != Other {
			t.Errorf("%q is %v", s, m)
		}
	}
}

func TestStringsOfEnums(t *testing.T) {
	got := fmt.Sprint(FrameNone, FrameLength, FrameChunked, FrameClose, Framing(9), UnderscoreDrop, UnderscoreReject, UnderscoreAllow, Underscores(9), Method(99))
	if got != "none length chunked close unknown drop reject allow unknown unknown" {
		t.Error(got)
	}
}

// Every error has what a reply and a log need, and one twin for responses.
func TestErrors(t *testing.T) {
	for _, e := range []*Error{ErrTruncated, errTLS, errTooLong, errHeadLarge, errChunkTiny} {
		up, ok := fromUpstream(e).(*Error)
		if e.Status < 400 || e.Reason == "" || e.Error() == "" || !ok || up.Status != 502 || up.Reason != e.Reason {
			t.Errorf("%+v, upstream %+v", e, up)
		}
		if fromUpstream(up) != error(up) {
			t.Errorf("%v is translated twice", up)
		}
	}
	if fromUpstream(ErrNeedMore) != ErrNeedMore {
		t.Error("ErrNeedMore is translated")
	}
}

func TestSkipText(t *testing.T) {
	for c := range 256 {
		for at := range 24 {
			for _, fill := range []byte{'x', 0xff, ' '} {
				b := bytes.Repeat([]byte{fill}, 24)
				b[at] = byte(c)
				want := 24
				if c < 0x20 && c != '\t' || c == 0x7f {
					want = at
				}
				i := skipText(b, 0)
				for i < len(b) && isText(b[i]) {
					i = skipText(b, i+1)
				}
				if i != want {
					t.Fatalf("byte %#x at %d: %d, want %d", c, at, i, want)
				}
			}
		}
	}
}

func TestSkipLetters(t *testing.T) {
	for c := range 256 {
		for at := range 16 {
			b := []byte("Content-Lengthyy")
			b[at] = byte(c)
			i := skipLetters(b, 0)
			letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-'
			if !letter && i != at || letter && i != 16 {
				t.Fatalf("byte %#x at %d: %d", c, at, i)
			}
		}
	}
}

// The address grammar is that of RFC 3986, which netip shares but for zones
// and IPv4-mapped forms written with leading zeros.
func FuzzIPv6(f *testing.F) {
	for _, s := range []string{"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::8", "1:2:3:4:5:6:1.2.3.4", "::1.2.3.4", "1::1.2.3.4",
		":", ":::", "1:::2", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "12345::", "g::", "::1.2.3", "::1.2.3.4.5", "::256.1.1.1", "::01.2.3.4",
		"1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "::1%eth0", "1:", ":1", "::1:", "", "::1.2.3.4:5", "1:2:3:4:5:6:7:1.2.3.4::", "1:2:3:4:5::1.2.3.4", "1:2:3:4:5:6::1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := netip.ParseAddr(s)
		want := err == nil && a.Is6() && a.Zone() == ""
		if got := validIPv6([]byte(s)); got != want {
			t.Fatalf("%q: %v, netip: %v", s, got, err)
		}
	})
}

func TestAuthorities(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "a.b-c_d~1": true, "A.": true, "1.2.3.4": true, "1.2.3.4:65535": true, "[::1]": true, "[::1]:1": true, "a:00080": true,
		"": false, ":1": false, "[]": false, "[::1": false, "[::1]x": false, "[::1]:": false, "[a]": false, "a b": false, "a%20b": false, "a\x80": false,
		"[1.2.3.4]": false, "::1": false, "a:+1": false, "a:000080": false, "a;b": false, "*": false,
	} {
		if validAuthority([]byte(s)) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

func TestTargetParts(t *testing.T) {
	tests := []struct{ line, target, path, query string }{
		{"GET /", "/", "/", "-"},
		{"GET /a?", "/a?", "/a", ""},
		{"GET /a?b?c", "/a?b?c", "/a", "b?c"},
		{"GET http://h/a?b", "/a?b", "/a", "b"},
		{"GET http://h?b", "/?b", "/", "b"},
		{"GET http://h?", "/?", "/", ""},
		{"GET http://h", "/", "/", "-"},
		{"OPTIONS http://h?b", "/?b", "/", "b"},
		{"OPTIONS *", "*", "", "-"},
		{"OPTIONS http://h", "*", "", "-"},
	}
	for _, tt := range tests {
		var r Request
		buf := []byte("\r\n" + tt.line + " HTTP/1.1\r\nHost: h\r\n\r\n")
		if _, err := r.Parse(buf, &strict); err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		r.Rebase(bytes.Clone(buf))
		clear(buf)
		query := "-"
		if r.HasQuery() {
			query = string(r.Query())
		}
		if string(r.Target()) != tt.target || string(r.Path()) != tt.path || query != tt.query || string(r.RawTarget()) != strings.Fields(tt.line)[1] {
			t.Errorf("%s: target %q, path %q, query %q, raw %q", tt.line, r.Target(), r.Path(), query, r.RawTarget())
		}
	}
}

// Host keeps the authority when the field is rewritten.
func TestHostIsIndependentOfTheField(t *testing.T) {
	for _, head := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"} {
		var r Request
		o := Options{DefaultHost: "a"}
		if _, err := r.Parse([]byte(head), &o); err != nil {
			t.Fatal(err)
		}
		if err := r.Header.SetString(header.Host, "backend"); err != nil {
			t.Fatal(err)
		}
		if string(r.Host()) != "a" {
			t.Errorf("host %q", r.Host())
		}
	}
}

// A default host that is no field value is refused, not sent.
func TestBadDefaultHost(t *testing.T) {
	var r Request
	if _, err := r.Parse([]byte("GET / HTTP/1.0\r\n\r\n"), &Options{DefaultHost: "a\r\nb: c"}); err != errHost {
		t.Error(err)
	}
}

// A message used again has nothing of the one before, also after errors.
func TestReuse(t *testing.T) {
	inputs := []string{typical, "GET  /", "GET http://b?q HTTP/1.0\r\n\r\n", get + "X", "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		post + "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", "GET /%00 HTTP/1.1\r\n", small, get + "Connection: upgrade\r\nUpgrade: x\r\n\r\n", post + "Transfer-Encoding: chunked\r\n\r\n"}
	var used Request
	for i := range inputs {
		for j := range inputs {
			for _, in := range []string{inputs[i], inputs[j]} {
				var fresh Request
				used.Reset()
				_, err := used.Parse([]byte(in), &strict)
				_, want := fresh.Parse([]byte(in), &strict)
				if err != want || err == nil && used.describe() != fresh.describe() {
					t.Fatalf("%q: %v, %s\nfresh: %v, %s", in, err, used.describe(), want, fresh.describe())
				}
			}
		}
	}
}

// After an error, wherever it came, a caller can log what there is.
func TestPartsAfterAnError(t *testing.T) {
	in := []byte("\r\nGET http://b?q HTTP/1.1\r\nHost: \x00")
	var r Request
	for n := range len(in) + 1 {
		r.Reset()
		_, err := r.Parse(in[:n], &strict)
		r.describe()
		if n == len(in) && (err != errFieldValue || string(r.MethodBytes()) != "GET" || string(r.Target()) != "/?q") {
			t.Errorf("%v: %s", err, r.describe())
		}
	}
	for _, table := range [][]requestRow{requestLineRows, lineEndRows, hostRows, lengthRows, codingRows, connectionRows} {
		for _, c := range table {
			r.Reset()
			r.Parse([]byte(strings.Replace(c.in, mark, "", 1)), &strict)
			r.describe()
		}
	}
}

func TestEncode(t *testing.T) {
	if s := string(AppendRequestLine([]byte("x"), []byte("GET"), []byte("/a?b"))); s != "xGET /a?b HTTP/1.1\r\n" {
		t.Errorf("%q", s)
	}
	for status, want := range map[int]string{200: "HTTP/1.1 200 OK\r\n", 299: "HTTP/1.1 299 \r\n", 502: "HTTP/1.1 502 Bad Gateway\r\n", 599: "HTTP/1.1 599 \r\n"} {
		if s := string(AppendStatusLine(nil, 1, status)); s != want {
			t.Errorf("%q", s)
		}
	}
	if s := string(AppendStatusLine(nil, 0, 404)); s != "HTTP/1.0 404 Not Found\r\n" {
		t.Errorf("%q", s)
	}
	for n, want := range map[int]string{0: "0\r\n", 1: "1\r\n", 255: "ff\r\n", 65536: "10000\r\n"} {
		if s := string(AppendChunkHeader(nil, n)); s != want {
			t.Errorf("%q", s)
		}
	}
}

// Phrases are those of net/http, but where RFC 9110 changed the names.
func TestStatusText(t *testing.T) {
	changed := map[int]string{203: "Non-Authoritative Information", 413: "Content Too Large", 414: "URI Too Long",
		416: "Range Not Satisfiable", 422: "Unprocessable Content", 418: ""}
	for code := range 1000 {
		want, ok := changed[code]
		if !ok {
			want = http.StatusText(code)
		}
		if got := StatusText(code); got != want {
			t.Errorf("%d: %q, want %q", code, got, want)
		}
	}
}

// Heads, bodies and errors allocate nothing once a message was used before.
func TestAllocations(t *testing.T) {
	head, reply := []byte(typical), []byte(typicalResponse)
	post := []byte(post + "Content-Length: 5, 5\r\nConnection: a, b\r\nExpect: 100-continue\r\n\r\n")
	absolute := []byte("GET http://b?x HTTP/1.1\r\nHost: a\r\n\r\n")
	chunks := []byte("5;a=b\r\nabcde\r\n10\r\n0123456789abcdef\r\n0\r\nX: 1\r\nX-Y: 2\r\n\r\n")
	badHead, badReply := []byte("GET / HTTP/1.1\n"), []byte("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")
	loose := Options{AllowEqualLengths: true, AllowHostMismatch: true}
	var req Request
	var resp Response
	var body Body
	buf := make([]byte, 0, 4096)
	tokens := 0
	parse := func(b []byte) {
		req.Reset()
		req.Parse(b, &loose)
	}
	for name, f := range map[string]func(){
		"request":  func() { parse(head) },
		"split":    func() { req.Reset(); req.Parse(head[:99], &loose); req.Parse(head, &loose) },
		"post":     func() { parse(post) },
		"absolute": func() { parse(absolute) },
		"error":    func() { parse(badHead) },
		"tokens": func() {
			parse(post)
			req.ConnectionTokens(func([]byte) bool { tokens++; return true })
		},
		"response":     func() { resp.Reset(); resp.Parse(reply, GET, &shipped) },
		"bad response": func() { resp.Reset(); resp.Parse(badReply, GET, &shipped) },
		"chunks": func() {
			b := append(buf[:0], chunks...)
			body.Init(FrameChunked, -1, &shipped)
			body.Decode(b)
			body.Trailer()
		},
		"encode": func() {
			b := AppendStatusLine(AppendRequestLine(buf[:0], head[:3], head[4:5]), 1, 200)
			AppendChunkHeader(AppendStatusLine(b, 0, 200), 1<<20)
		},
	} {
		f()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Blanks around a value are none of it (RFC 9110 section 5.5), wherever in the head and
// in the buffer it ends.
func TestBlanksAroundValues(t *testing.T) {
	for n := range 20 {
		for _, before := range []string{"", " ", "\t", "  ", " \t"} {
			for _, after := range []string{"", " ", "\t", "\t ", " \t"} {
				value := strings.Repeat("v", n+1)
				in := "GET / HTTP/1.1\r\nHost: a\r\nX:" + before + value + after + "\r\n\r\n"
				var r Request
				if _, err := r.Parse([]byte(in), &Options{}); err != nil {
					t.Errorf("%q: %v", in, err)
				} else if got := string(r.Header.GetName("X")); got != value {
					t.Errorf("%q: the value is %q", in, got)
				}
			}
		}
	}
}
