package clienthello

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// describe says all of a hello that a caller can see.
func (h *Hello) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plain %v reason %q version %#x max %#x random %x session %x\nciphers %x versions %x groups %x algorithms %x\n",
		h.Plain, h.Reason, h.Version, h.MaxVersion(), h.Random, h.SessionID, []byte(h.Ciphers), []byte(h.Versions), []byte(h.Groups), []byte(h.SigAlgs))
	fmt.Fprintf(&b, "name %v %q %q ticket %v resumes %v psk %v early %v ech %v", h.Name, h.ServerName, h.RawName, h.Ticket, h.Resumes, h.PSK, h.EarlyData, h.ECH)
	for p := range h.ALPN.All() {
		fmt.Fprintf(&b, " (%s)", p)
	}
	for t, data := range h.Extensions.All() {
		fmt.Fprintf(&b, "\n%d %x", t, data)
	}
	return b.String()
}

// inPieces checks that in gives the same in whatever pieces it comes, from a
// buffer that moves, and returns what it gives.
func inPieces(t testing.TB, in []byte, limit int) (Status, *Hello) {
	t.Helper()
	h := &Hello{MaxSize: limit}
	status := Parse(in, h)
	want := h.describe()
	check := func(how string, got Status, g *Hello) {
		t.Helper()
		if d := g.describe(); got != status || d != want {
			t.Fatalf("%s: %v\n%s\nat once: %v\n%s", how, got, d, status, want)
		}
	}
	one := &Hello{MaxSize: limit}
	last := NeedMore
	var whole []byte
	for n := 0; n <= len(in); n++ {
		whole = bytes.Clone(in[:n])
		if last = Parse(whole, one); last != NeedMore {
			break
		}
	}
	check("byte by byte", last, one)
	again := &Hello{MaxSize: limit}
	for n := range in {
		again.Reset()
		Parse(in[:n], again)
		check(fmt.Sprintf("split at %d", n), Parse(bytes.Clone(in), again), again)
	}
	return status, h
}

func TestCaptures(t *testing.T) {
	updateCaptures(t)
	for _, c := range captures {
		t.Run(c.name, func(t *testing.T) {
			status, h := inPieces(t, c.bytes(t), 0)
			if status != Done {
				t.Fatalf("%v %s", status, h.Reason)
			}
			if string(h.ServerName) != c.sni || h.Name != c.state {
				t.Errorf("name %q %v, want %q %v", h.ServerName, h.Name, c.sni, c.state)
			}
			var alpn []string
			for p := range h.ALPN.All() {
				alpn = append(alpn, string(p))
				if !h.ALPN.Has(string(p)) {
					t.Errorf("Has(%q) is false", p)
				}
			}
			if c.alpn != nil && !slices.Equal(alpn, c.alpn) {
				t.Errorf("ALPN %q, want %q", alpn, c.alpn)
			}
			if h.MaxVersion() != c.max || c.group != 0 && !h.Groups.Has(c.group) {
				t.Errorf("version %#x, groups %x", h.MaxVersion(), []byte(h.Groups))
			}
			if c.want != nil && !c.want(h) {
				t.Errorf("not as wanted: %s", h.describe())
			}
		})
	}
}

// Every way to cut a hello into records gives the same.
func TestRecordsOfAnySize(t *testing.T) {
	in := captures[0].bytes(t)
	var want Hello
	Parse(in, &want)
	for size := 1; size < len(in); size++ {
		var h Hello
		status := Parse(cut(in[5:], size), &h)
		if status != Done || h.describe() != want.describe() {
			t.Fatalf("records of %d bytes: %v %s", size, status, h.describe())
		}
	}
	inPieces(t, cut(in[5:], 1), 0)
	inPieces(t, cut(in[5:], 7), 0)
}

// cut puts content into records of size bytes.
func cut(content []byte, size int) []byte {
	var b []byte
	for part := range slices.Chunk(content, size) {
		b = append(b, 22, 3, 1, byte(len(part)>>8), byte(len(part)))
		b = append(b, part...)
	}
	return b
}

func TestResetKeepsOnlyTheLimit(t *testing.T) {
	h := Hello{MaxSize: 5000}
	if s := Parse(cut(captures[0].bytes(t)[5:], 9), &h); s != Done {
		t.Fatal(s)
	}
	h.Reset()
	if s := Parse([]byte("GET / HTTP/1.1\r\n"), &h); s != NotTLS || h.Plain != PlainHTTP || h.ServerName != nil || h.MaxSize != 5000 {
		t.Errorf("%v %s", s, h.describe())
	}
}

// What is behind the hello does not matter: 0-RTT, or a client that is ahead.
func TestBytesBehind(t *testing.T) {
	for _, tail := range []string{"\x17\x03\x03\x00\x01x", "garbage"} {
		var h Hello
		if s := Parse(append(captures[0].bytes(t), tail...), &h); s != Done {
			t.Errorf("with %q behind: %v", tail, s)
		}
	}
}

func TestPlain(t *testing.T) {
	for _, c := range []struct {
		in    string
		want  Status
		plain Plain
	}{
		{"", NeedMore, 0},
		{"G", NeedMore, 0},
		{"GET", NeedMore, 0},
		{"GET ", NotTLS, PlainHTTP},
		{"GET / HTTP/1.1\r\n\r\n", NotTLS, PlainHTTP},
		{"P", NeedMore, 0},
		{"PATCH /x HTTP/1.1", NotTLS, PlainHTTP},
		{"PROPFIND / HTTP/1.1", NotTLS, PlainHTTP},
		{"PRI * HTTP/2.0\r", NeedMore, 0},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NotTLS, PlainHTTP},
		{"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", NotTLS, PlainOther},
		{"get / HTTP/1.1", NotTLS, PlainOther},
		{"GETT / HTTP/1.1", NotTLS, PlainOther},
		{"EHLO x\r\n", NotTLS, PlainOther},
		{"SSH-2.0-x\r\n", NotTLS, PlainOther},
		{"\x00\x00\x00\x08\x04\xd2\x16\x2f", NotTLS, PlainOther}, // PostgreSQL's SSLRequest
		{"\x80\x2e", NeedMore, 0},
		{"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10", NotTLS, PlainSSL2},
		{"\x80\x2e\x02", NotTLS, PlainOther},
		{"\xff\xfb\x1f", NotTLS, PlainOther}, // telnet
		{"\x15\x03\x01\x00\x02\x01\x00", NotTLS, PlainOther},
		{"\x17\x03\x03\x00\x01x", NotTLS, PlainOther},
		{"\x16", NeedMore, 0},
		{"\x16\x03", NeedMore, 0},
		{"\x16\xfe\xff\x00\x00", NotTLS, PlainOther}, // DTLS
		{"\x16\x02\x00", NotTLS, PlainOther},
	} {
		status, h := inPieces(t, []byte(c.in), 0)
		if status != c.want || h.Plain != c.plain {
			t.Errorf("%q: %v %v, want %v %v", c.in, status, h.Plain, c.want, c.plain)
		}
	}
}

func TestMaxSize(t *testing.T) {
	in := captures[0].bytes(t)
	for _, c := range []struct {
		name  string
		in    []byte
		limit int
		want  Status
	}{
		{"exact", in, len(in), Done},
		{"one less", in, len(in) - 1, TooBig},
		{"one less, only the start", in[:9], len(in) - 1, TooBig},
		{"before the header of the message", in[:8], len(in) - 1, NeedMore},
		{"two records", cut(in[5:], len(in)-6), len(in) + 5, Done},
		{"two records, one less", cut(in[5:], len(in)-6), len(in) + 4, TooBig},
		{"records of one byte", cut(in[5:], 1), 6 * (len(in) - 5), Done},
		{"records of one byte, one less", cut(in[5:], 1), 6*(len(in)-5) - 1, TooBig},
		{"shipped limit", message(clientHello, make([]byte, DefaultMaxSize-9)), 0, Malformed},
		{"beyond shipped limit", message(clientHello, make([]byte, DefaultMaxSize-8)), 0, TooBig},
		{"length of 16 MiB", []byte("\x16\x03\x01\x40\x00\x01\xff\xff\xff"), 0, TooBig},
		{"raised limit", message(clientHello, make([]byte, DefaultMaxSize-8)), 64 << 10, Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := Hello{MaxSize: c.limit}
			if s := Parse(c.in, &h); s != c.want {
				t.Errorf("at once: %v %q, want %v", s, h.Reason, c.want)
			}
			if len(c.in) < 10000 {
				inPieces(t, c.in, c.limit)
			}
		})
	}
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		NeedMore.String(): "need-more", Done.String(): "done", NotTLS.String(): "not-tls", Malformed.String(): "malformed",
		TooBig.String(): "too-big", Status(99).String(): "unknown",
		NameAbsent.String(): "absent", NameValid.String(): "valid", NameAddress.String(): "address", NameInvalid.String(): "invalid",
		NameState(99).String(): "unknown", PlainHTTP.String(): "http", PlainOther.String(): "other", PlainSSL2.String(): "sslv2", Plain(99).String(): "unknown",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
