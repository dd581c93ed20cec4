package http1

import (
	"bytes"
	"strings"
	"testing"
)

// suiteCase is a request of a public test suite: llhttp's sample requests (L),
// h1spec (h1), Http11Probe (P), HAProxy's reg-tests (X). Bodies follow heads.
// With status 0 it is accepted and payload is its body.
type suiteCase struct {
	name    string
	in      string
	status  int
	payload string
}

const chunkedPost = "POST /post_chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

var suiteCases = []suiteCase{
	{name: "L curl get", in: "GET /test HTTP/1.1\r\nUser-Agent: curl/7.18.0 (i486-pc-linux-gnu) libcurl/7.18.0 OpenSSL/0.9.8g zlib/1.2.3.3 libidn/1.1\r\nHost: 0.0.0.0:5000\r\nAccept: */*\r\n\r\n"},
	{name: "L firefox get", in: "GET /favicon.ico HTTP/1.1\r\nHost: 0.0.0.0:5000\r\nUser-Agent: Mozilla/5.0 (X11; U; Linux i686; en-US; rv:1.9) Gecko/2008061015 Firefox/3.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Charset: ISO-8859-1,utf-8;q=0.7,*;q=0.7\r\nKeep-Alive: 300\r\nConnection: keep-alive\r\n\r\n"},
	{name: "L dumbpack", in: "GET /dumbpack HTTP/1.1\r\nHost: a\r\naaaaaaaaaaaaa:++++++++++\r\n\r\n"},
	{name: "L fragment in URL", in: "GET /forums/1/topics/2375?page=1#posts-17408 HTTP/1.1\r\nHost: a\r\n\r\n", status: 400},
	{name: "L get without headers", in: "GET /get_no_headers_no_body/world HTTP/1.1\r\n\r\n", status: 400},
	{name: "L get with length", in: "GET /get_funky_content_length_body_hello HTTP/1.0\r\nHost: a\r\nconTENT-Length: 5\r\n\r\nHELLO", payload: "HELLO"},
	{name: "L post identity body", in: "POST /post_identity_body_world?q=search#hey HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nWorld", status: 400},
	{name: "L chunked body", in: chunkedPost + "1e\r\nall your base are belong to us\r\n0\r\n\r\n", payload: "all your base are belong to us"},
	{name: "L two chunks and a triple zero end", in: chunkedPost + "5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n", payload: "hello world"},
	{name: "L chunked with trailers", in: chunkedPost + "5\r\nhello\r\n6\r\n world\r\n0\r\nVary: *\r\nContent-Type: text/plain\r\n\r\n", payload: "hello world"},
	{name: "L chunk extensions", in: chunkedPost + "5;ilovew3;somuchlove=aretheseparametersfor;another=withvalue\r\nhello\r\n6;blahblah;blah\r\n world\r\n0\r\n\r\n", payload: "hello world"},
	{name: "L chunk extensions quoted", in: chunkedPost + "5;ilovew3=\"I \\\"love\\\"; \\extensions\\\";somuchlove=\"aretheseparametersfor\";blah;foo=bar\r\nhello\r\n0\r\n\r\n", status: 400},
	{name: "L unbalanced quote", in: chunkedPost + "5;ilovew3=\"abc\";somuchlove=\"def; ghi\r\nhello\r\n0\r\n\r\n", status: 400},
	{name: "L spaces in chunk extension", in: chunkedPost + "5;ilovew3 ;whattheluck = aretheseparametersfor\r\nhello\r\n0\r\n\r\n", status: 400},
	{name: "L space after chunk size", in: chunkedPost + "a \r\n0123456789\r\n0\r\n\r\n", status: 400},
	{name: "L chunk size not hex", in: chunkedPost + "G\r\nhello\r\n0\r\n\r\n", status: 400},
	{name: "L quotes in URL", in: "GET /with_\"stupid\"_quotes?foo=\"bar\" HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "L apache bench", in: "GET /test HTTP/1.0\r\nHost: 0.0.0.0:5000\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n"},
	{name: "L query with ?", in: "GET /test.cgi?foo=bar?baz HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "L prefix newline", in: "\r\nGET /test HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "L upgrade", in: "GET /demo HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\nSec-WebSocket-Protocol: sample\r\nUpgrade: WebSocket\r\n" +
		"Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nOrigin: http://example.com\r\n\r\n"},
	{name: "L connect", in: "CONNECT 0-home0.netscape.com:443 HTTP/1.0\r\nUser-agent: Mozilla/1.1N\r\n\r\n", status: 405},
	{name: "L connect with bad characters", in: "CONNECT HOME0.NETSCAPE.COM:443/x HTTP/1.0\r\n\r\n", status: 400},
	{name: "L report", in: "REPORT /test HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "L no http version", in: "GET /\r\n\r\n", status: 400},
	{name: "L m-search", in: "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nST: \"ssdp:all\"\r\n\r\n", status: 400},
	{name: "L line folding", in: "GET / HTTP/1.1\r\nHost: a\r\nLine1:   abc\r\n\tdef\r\n ghi\r\n\r\n", status: 400},
	{name: "L host with scheme and no path", in: "GET http://hypnotoad.org?hail=all HTTP/1.1\r\nHost: hypnotoad.org\r\n\r\n"},
	{name: "L host with port and no path", in: "GET http://hypnotoad.org:1234 HTTP/1.1\r\nHost: hypnotoad.org:1234\r\n\r\n"},
	{name: "L userinfo", in: "GET http://a%12:b!&*$@hypnotoad.org:1234/toto HTTP/1.1\r\nHost: a\r\n\r\n", status: 400},
	{name: "L utf-8 path", in: "GET /\u03b4\u00b6/\u03b4t/pope?q=1 HTTP/1.1\r\nHost: a\r\n\r\n", status: 400},
	{name: "L underscore in host", in: "GET / HTTP/1.1\r\nHost: home_0.netscape.com\r\n\r\n"},
	{name: "L patch", in: "PATCH /file.txt HTTP/1.1\r\nHost: www.example.com\r\nContent-Type: application/example\r\nIf-Match: \"e0023aa4e\"\r\nContent-Length: 10\r\n\r\ncccccccccc", payload: "cccccccccc"},
	{name: "L link", in: "LINK /images/my_dog.jpg HTTP/1.1\r\nHost: example.com\r\nLink: <http://example.com/profiles/joe>; rel=\"tag\"\r\n\r\n"},
	{name: "L purge", in: "PURGE /file.txt HTTP/1.1\r\nHost: www.example.com\r\n\r\n"},
	{name: "L http instead of HTTP", in: "GET / HTP/1.1\r\nHost: a\r\n\r\n", status: 400},
	{name: "L ICE", in: "SOURCE /music/sweet/music ICE/1.0\r\nHost: example.com\r\n\r\n", status: 400},
	{name: "L space before header name", in: "GET / HTTP/1.1\r\n Host: a\r\n\r\n", status: 400},
	{name: "L empty header value", in: "GET / HTTP/1.1\r\nHost: a\r\nContent-Type:\r\n\r\n"},
	{name: "L content-length with spaces", in: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:  42 \r\n\r\n" + strings.Repeat("x", 42), payload: strings.Repeat("x", 42)},
	{name: "L content-length 4 2", in: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4 2\r\n\r\n", status: 400},
	{name: "L transfer-encoding with whitespace obfuscation", in: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", status: 400},
	{name: "L te header with trailing comma", in: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", status: 400},
	{name: "h1 lower-case method is another one", in: "get / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "h1 empty header line", in: "GET / HTTP/1.1\r\nHost: a\r\n:\r\n\r\n", status: 400},
	{name: "P double-dot path stays", in: "GET /a/../b/%2e%2e/c HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "P raw brackets and braces", in: "GET /a[0]{b}|^`?c[]=<> HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "X two slashes", in: "GET //a//b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{name: "X star in the path", in: "GET /* HTTP/1.1\r\nHost: a\r\n\r\n"},
}

func TestSuites(t *testing.T) {
	for _, c := range suiteCases {
		t.Run(c.name, func(t *testing.T) {
			in := []byte(c.in)
			var r Request
			n, err := r.Parse(in, &strict)
			var b Body
			var payload []byte
			if err == nil {
				b.Init(r.Framing, r.ContentLength, &strict)
				p := bytes.Clone(in[n:])
				var size int
				size, _, err = b.Decode(p)
				payload = p[:size]
			}
			if status, reason := statusOf(t, err); status != c.status {
				t.Fatalf("got %d %q, want %d", status, reason, c.status)
			}
			if c.status == 0 && (!b.Done() || string(payload) != c.payload) {
				t.Errorf("body done %v, %q; want %q", b.Done(), payload, c.payload)
			}
			compareWithNetHTTP(t, in)
		})
	}
}
