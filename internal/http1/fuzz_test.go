package http1

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"belay/internal/header"
)

// small limits, so that the fuzzer meets them.
func fuzzOptions(flags byte) *Options {
	o := &Options{MaxRequestLine: 64, MaxChunkLine: 24, MaxChunkOverhead: 100, Header: header.Limits{Fields: 8, Bytes: 256, Name: 32}}
	if flags&1 != 0 {
		*o = Options{}
	}
	if flags&2 != 0 {
		o.DefaultHost = "d"
		o.AllowEqualLengths, o.AllowLeadingZeros, o.AllowHostMismatch, o.AllowZeroLength = true, true, true, true
		o.AllowEscapedControl, o.AllowBackslash = true, true
	}
	o.Underscores = Underscores(flags >> 2 % 3)
	return o
}

func seedHeads(f *testing.F) {
	add := func(in string) {
		in = strings.Replace(in, mark, "", 1)
		if len(in) < 2000 {
			f.Add([]byte(in), byte(1))
			f.Add([]byte(in), byte(2))
		}
	}
	for _, table := range [][]requestRow{requestLineRows, lineEndRows, hostRows, lengthRows, codingRows, connectionRows} {
		for _, c := range table {
			add(c.in)
		}
	}
	for _, c := range suiteCases {
		add(c.in)
	}
	add(typical)
}

// describe says all of a request that a caller can see.
func (r *Request) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %q %q %q path %q query %v %q host %q 1.%d %v %d keep %v expect %v upgrade %v", r.Method, r.MethodBytes(), r.RawTarget(), r.Target(),
		r.Path(), r.HasQuery(), r.Query(), r.Host(), r.Minor, r.Framing, r.ContentLength, r.KeepAlive, r.Expect100, r.Upgrade)
	r.ConnectionTokens(func(t []byte) bool { fmt.Fprintf(&b, " (%s)", t); return true })
	for name, value := range r.Header.All() {
		fmt.Fprintf(&b, "\n%q: %q", name, value)
	}
	return b.String()
}

// What came of a head does not depend on the pieces in which it came, and what
// is accepted is accepted again, with the same meaning, when it was serialised.
func FuzzRequest(f *testing.F) {
	seedHeads(f)
	f.Fuzz(func(t *testing.T, in []byte, flags byte) {
		o := fuzzOptions(flags)
		var r Request
		n, err := r.Parse(in, o)
		for _, size := range []int{1, 3} {
			_, r2, err2 := parseInPieces(in, size, o)
			if err2 != err {
				t.Fatalf("whole: %v, pieces of %d: %v", err, size, err2)
			}
			if err == nil && r.describe() != r2.describe() {
				t.Fatalf("whole: %s\npieces of %d: %s", r.describe(), size, r2.describe())
			}
		}
		if err != nil {
			return
		}
		if !bytes.HasSuffix(in[:n], []byte("\r\n\r\n")) {
			t.Fatalf("head ends with %q", in[max(0, n-4):n])
		}
		out := AppendRequestLine(nil, r.MethodBytes(), r.Target())
		out = append(r.Header.AppendTo(out), "\r\n"...)
		var again Request
		big := *o
		big.MaxRequestLine, big.Header = 1<<20, header.Limits{}
		if _, err := again.Parse(out, &big); err != nil {
			t.Fatalf("serialised %q: %v", out, err)
		}
		if again.Method != r.Method || !bytes.Equal(again.Target(), r.Target()) || !bytes.Equal(again.Host(), r.Host()) ||
			again.Framing != r.Framing || again.ContentLength != r.ContentLength {
			t.Fatalf("serialised: %s\nwas: %s", again.describe(), r.describe())
		}
	})
}

// As FuzzRequest, for responses.
func FuzzResponse(f *testing.F) {
	for _, c := range append(responseRows, responseCases...) {
		if len(c.in) < 2000 {
			f.Add([]byte(strings.Replace(c.in, mark, "", 1)), byte(1), byte(c.method))
		}
	}
	f.Add([]byte(typicalResponse), byte(1), byte(GET))
	f.Add([]byte("HTTP/1.0 100 \r\nA: 0\t\r\n\r\n"), byte(1), byte(0))
	f.Fuzz(func(t *testing.T, in []byte, flags, method byte) {
		o := fuzzOptions(flags)
		var r, r2 Response
		n, err := r.Parse(in, Method(method), o)
		var err2 error
		for i := 1; i <= len(in); i++ {
			if _, err2 = r2.Parse(bytes.Clone(in[:i]), Method(method), o); err2 != ErrNeedMore {
				break
			}
		}
		if len(in) > 0 && err != err2 {
			t.Fatalf("whole: %v, byte by byte: %v", err, err2)
		}
		if err != nil {
			return
		}
		a, b := responseText(&r), responseText(&r2)
		if a != b {
			t.Fatalf("whole: %s\nbyte by byte: %s", a, b)
		}
		if !bytes.HasSuffix(in[:n], []byte("\r\n\r\n")) {
			t.Fatalf("head ends with %q", in[max(0, n-4):n])
		}
	})
}

func responseText(r *Response) string {
	return fmt.Sprintf("%d %q 1.%d %v %d keep %v upgrade %v\n%s", r.Status, r.Reason(), r.Minor, r.Framing, r.ContentLength,
		r.KeepAlive, r.Upgrade(), r.Header.AppendTo(nil))
}

// The payload of a chunked body does not depend on the pieces in which it came.
func FuzzChunked(f *testing.F) {
	for _, c := range chunkRows {
		if len(c.in) < 2000 {
			f.Add([]byte(strings.Replace(c.in, mark, "", 1)), byte(1), byte(3))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, flags, size byte) {
		o := fuzzOptions(flags)
		whole := decodeInPieces(t, FrameChunked, -1, in, len(in)+1, o)
		if whole.err != nil { // what was used of the rest has no meaning then
			whole.used = 0
		}
		for _, size := range []int{1, int(size)%16 + 2} {
			d := decodeInPieces(t, FrameChunked, -1, in, size, o)
			if d.err != nil {
				d.used = 0
			}
			if d != whole {
				t.Fatalf("whole: %+v\npieces of %d: %+v", whole, size, d)
			}
		}
	})
}
