package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"belay/internal/header"
)

// The differences to net/http that are meant:
//
//   - we refuse far more: only requests that we accept are compared;
//   - one empty line before the request line is skipped here, an error there;
//   - net/http adds Cache-Control to Pragma: no-cache, and takes Host,
//     Transfer-Encoding and Trailer out of the fields;
//   - net/http refuses a Trailer field that announces a framing field;
//   - forbidden trailers are dropped here, and those with a "_" by default.
var differential = Options{Underscores: UnderscoreAllow, AllowEscapedControl: true, AllowBackslash: true}

// compareWithNetHTTP checks that net/http understands in as we do, if we accept it.
func compareWithNetHTTP(t *testing.T, in []byte) {
	var r Request
	n, err := r.Parse(in, &differential)
	if err != nil {
		return
	}
	br := bufio.NewReader(bytes.NewReader(bytes.TrimPrefix(in, []byte("\r\n"))))
	req, err := http.ReadRequest(br)
	if err != nil {
		if r.Header.Has(header.Trailer) && strings.Contains(err.Error(), "bad trailer key") {
			return
		}
		t.Fatalf("net/http refuses %q: %v", in, err)
	}
	if req.Method != string(r.MethodBytes()) || req.RequestURI != string(r.RawTarget()) || !strings.EqualFold(req.Host, string(r.Host())) {
		t.Fatalf("net/http: %q %q %q\nhere: %s", req.Method, req.RequestURI, req.Host, r.describe())
	}
	if min(req.ProtoMinor, 1) != r.Minor || req.Close == r.KeepAlive {
		t.Fatalf("net/http: minor %d, close %v\nhere: %s", req.ProtoMinor, req.Close, r.describe())
	}
	want := int64(-1)
	if r.Framing != FrameChunked {
		want = max(r.ContentLength, 0)
	}
	if req.ContentLength != want {
		t.Fatalf("net/http: length %d\nhere: %s", req.ContentLength, r.describe())
	}
	compareFields(t, req.Header, &r.Header)
	compareBody(t, req, br, &r, in[n:])
}

// fieldsOf returns the fields of m as net/http has them.
func fieldsOf(m *header.Map) http.Header {
	h := http.Header{}
	for name, value := range m.All() {
		h.Add(string(name), string(value))
	}
	return h
}

func compareFields(t *testing.T, theirs http.Header, m *header.Map) {
	t.Helper()
	ours := fieldsOf(m)
	for _, name := range []string{"Host", "Transfer-Encoding", "Trailer"} {
		ours.Del(name)
	}
	if ours.Get("Pragma") == "no-cache" && ours.Get("Cache-Control") == "" {
		theirs.Del("Cache-Control")
		ours.Del("Cache-Control")
	}
	if len(ours) != len(theirs) {
		t.Fatalf("net/http: %v\nhere: %v", theirs, ours)
	}
	for name, values := range ours {
		if !slices.Equal(values, theirs[name]) {
			t.Fatalf("%s: net/http has %q, here is %q", name, theirs[name], values)
		}
	}
}

// compareBody checks payload, trailers and where the next message begins.
func compareBody(t *testing.T, req *http.Request, br *bufio.Reader, r *Request, in []byte) {
	var b Body
	b.Init(r.Framing, r.ContentLength, &differential)
	p := bytes.Clone(in)
	n, used, err := b.Decode(p)
	if err != nil {
		return
	}
	payload, theirErr := io.ReadAll(req.Body)
	if !b.Done() {
		if !errors.Is(theirErr, io.ErrUnexpectedEOF) {
			t.Fatalf("body has not ended here; net/http: %q, %v", payload, theirErr)
		}
		return
	}
	if theirErr != nil || !bytes.Equal(payload, p[:n]) {
		t.Fatalf("net/http: %q, %v; here %q", payload, theirErr, p[:n])
	}
	if rest, _ := io.ReadAll(br); !bytes.Equal(rest, in[used:]) {
		t.Fatalf("next message begins with %q for net/http, here with %q", rest, in[used:])
	}
	if m := b.Trailer(); m != nil {
		for name, values := range fieldsOf(m) {
			if !slices.Equal(values, req.Trailer[name]) {
				t.Fatalf("trailer %s: net/http has %q, here is %q", name, req.Trailer[name], values)
			}
		}
	}
}

// Whatever we accept, net/http understands alike.
func FuzzDifferential(f *testing.F) {
	seedHeads(f)
	for _, c := range chunkRows {
		if len(c.in) < 2000 {
			f.Add([]byte(post+"Transfer-Encoding: chunked\r\n\r\n"+strings.Replace(c.in, mark, "", 1)), byte(0))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, _ byte) { compareWithNetHTTP(t, in) })
}
