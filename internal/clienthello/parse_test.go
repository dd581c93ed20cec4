package clienthello

import (
	"bytes"
	"strings"
	"testing"
)

var malformedRows = []struct {
	name, reason string
	in           []byte
}{
	{"ServerHello", "not-a-client-hello", message(2, make([]byte, 40))},
	{"HelloRequest", "not-a-client-hello", message(0, nil)},
	{"empty record", "empty-record", []byte("\x16\x03\x01\x00\x00")},
	{"empty record in between", "empty-record", []byte("\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x00")},
	{"record of 16385", "record-overflow", []byte("\x16\x03\x01\x40\x01")},
	{"alert in between", "record-between", []byte("\x16\x03\x01\x00\x02\x01\x00\x15\x03\x01\x00\x02\x01\x00")},
	{"application data in between", "record-between", []byte("\x16\x03\x01\x00\x05\x01\x00\x01\x00\x00\x17\x03\x03\x00\x01x")},
	{"SSL 2 version in between", "record-between", []byte("\x16\x03\x01\x00\x01\x01\x16\x02\x00\x00\x01\x00")},
	{"empty message", "truncated", message(clientHello, nil)},
	{"only a version", "truncated", message(clientHello, []byte{3, 3})},
	{"no session", "truncated", message(clientHello, builder{}.body()[:34])},
	{"session cut", "truncated", message(clientHello, append(builder{}.body()[:34], 5, 1))},
	{"no suites", "truncated", message(clientHello, builder{}.body()[:35])},
	{"suites cut", "truncated", message(clientHello, builder{}.body()[:39])},
	{"no compression", "truncated", message(clientHello, builder{}.body()[:41])},
	{"compression cut", "truncated", message(clientHello, builder{}.body()[:42])},
	{"half a length of extensions", "truncated", builder{noBlock: true, tail: []byte{0}}.bytes()},
	{"extensions longer than the message", "truncated", builder{noBlock: true, tail: []byte{0, 1}}.bytes()},
	{"behind the extensions", "trailing-bytes", builder{tail: []byte{0}}.bytes()},
	{"session of 33", "bad-session-id", builder{session: make([]byte, 33)}.bytes()},
	{"no cipher suites", "bad-cipher-suites", builder{ciphers: []byte{}}.bytes()},
	{"odd cipher suites", "bad-cipher-suites", builder{ciphers: []byte{1, 2, 3}}.bytes()},
	{"no compression methods", "bad-compression-methods", builder{compression: []byte{}}.bytes()},
	{"extension cut in its type", "truncated", builder{extensions: []byte{0}}.bytes()},
	{"extension cut in its length", "truncated", builder{extensions: []byte{0, 0, 0}}.bytes()},
	{"extension cut in its data", "truncated", builder{extensions: []byte{0, 99, 0, 2, 1}}.bytes()},
	{"extension twice", "duplicate-extension", builder{extensions: join(ext(23, nil), ext(23, nil))}.bytes()},
	{"extension of a high type twice", "duplicate-extension", builder{extensions: join(ext(0xff01, []byte{0}), ext(999, nil), ext(0xff01, []byte{0}))}.bytes()},
	{"GREASE extension twice", "duplicate-extension", builder{extensions: join(ext(0x0a0a, nil), ext(0x0a0a, nil))}.bytes()},
	{"server_name twice", "duplicate-extension", builder{extensions: join(name("a.example"), name("b.example"))}.bytes()},
	{"129 extensions", "too-many-extensions", builder{extensions: manyExtensions(129)}.bytes()},
	{"pre_shared_key not last", "pre-shared-key-not-last", builder{extensions: join(ext(extPreSharedKey, nil), ext(23, nil))}.bytes()},
	{"server_name empty", "bad-server-name", builder{extensions: ext(extServerName, nil)}.bytes()},
	{"server_name with empty list", "bad-server-name", builder{extensions: ext(extServerName, v16(nil))}.bytes()},
	{"server_name with empty name", "bad-server-name", builder{extensions: name("")}.bytes()},
	{"server_name with two names", "bad-server-name", builder{extensions: ext(extServerName, v16([]byte("\x00\x00\x01a\x00\x00\x01b")))}.bytes()},
	{"server_name cut", "bad-server-name", builder{extensions: ext(extServerName, v16([]byte("\x00\x00\x02a")))}.bytes()},
	{"server_name with only a type", "bad-server-name", builder{extensions: ext(extServerName, v16([]byte("\x00")))}.bytes()},
	{"server_name with more behind", "bad-server-name", builder{extensions: ext(extServerName, append(v16([]byte("\x00\x00\x01a")), 0))}.bytes()},
	{"server_name without list", "bad-server-name", builder{extensions: ext(extServerName, []byte("a"))}.bytes()},
	{"ALPN empty", "bad-alpn", builder{extensions: ext(extALPN, nil)}.bytes()},
	{"ALPN with empty list", "bad-alpn", builder{extensions: ext(extALPN, v16(nil))}.bytes()},
	{"ALPN with empty name", "bad-alpn", builder{extensions: ext(extALPN, v16([]byte("\x02h2\x00")))}.bytes()},
	{"ALPN cut", "bad-alpn", builder{extensions: ext(extALPN, v16([]byte("\x03h2")))}.bytes()},
	{"ALPN with more behind", "bad-alpn", builder{extensions: ext(extALPN, append(v16([]byte("\x02h2")), 0))}.bytes()},
	{"early_data with something in it", "bad-early-data", builder{extensions: ext(extEarlyData, []byte{0})}.bytes()},
	{"groups empty", "bad-supported-groups", builder{extensions: ext(extSupportedGroups, v16(nil))}.bytes()},
	{"groups odd", "bad-supported-groups", builder{extensions: ext(extSupportedGroups, v16([]byte{1, 2, 3}))}.bytes()},
	{"algorithms empty", "bad-signature-algorithms", builder{extensions: ext(extSignatureAlgs, v16(nil))}.bytes()},
	{"algorithms with more behind", "bad-signature-algorithms", builder{extensions: ext(extSignatureAlgs, []byte{0, 2, 4, 3, 0})}.bytes()},
	{"versions empty", "bad-supported-versions", builder{extensions: ext(extSupportedVersions, v8(nil))}.bytes()},
	{"versions odd", "bad-supported-versions", builder{extensions: ext(extSupportedVersions, v8([]byte{3}))}.bytes()},
	{"versions with 16-bit length", "bad-supported-versions", builder{extensions: ext(extSupportedVersions, v16([]byte{3, 4}))}.bytes()},
}

func manyExtensions(n int) []byte {
	var b []byte
	for i := range n {
		b = append(b, ext(uint16(1000+i), nil)...)
	}
	return b
}

func TestMalformed(t *testing.T) {
	for _, c := range malformedRows {
		t.Run(c.name, func(t *testing.T) {
			status, h := inPieces(t, c.in, 0)
			if status != Malformed || h.Reason != c.reason {
				t.Errorf("%v %q, want %q", status, h.Reason, c.reason)
			}
		})
	}
}

// A capture with one byte cut away or one put in is refused or is another
// hello, but nothing breaks.
func TestDamagedCaptures(t *testing.T) {
	in := captures[1].bytes(t)
	for i := range in {
		for _, b := range [][]byte{append(bytes.Clone(in[:i]), in[i+1:]...), append(append(bytes.Clone(in[:i]), 0), in[i:]...)} {
			var h Hello
			if Parse(b, &h) == Done {
				h.AppendJA4(nil)
			}
		}
	}
}

func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		want func(h *Hello) bool
	}{
		{"no extensions", builder{noBlock: true, version: 0x0301}.bytes(), func(h *Hello) bool {
			return h.Version == 0x0301 && h.MaxVersion() == 0x0301 && h.Name == NameAbsent && h.Ciphers.Len() == 2 && h.Ciphers.At(1) == 0xc02f
		}},
		{"empty block", builder{}.bytes(), func(h *Hello) bool { return len(h.Extensions) == 0 }},
		{"session of 32", builder{session: make([]byte, 32)}.bytes(), func(h *Hello) bool { return len(h.SessionID) == 32 }},
		{"128 extensions", builder{extensions: manyExtensions(128)}.bytes(), nil},
		{"name of another type", builder{extensions: ext(extServerName, v16([]byte("\x07\x00\x01a\x00\x00\x01B")))}.bytes(), func(h *Hello) bool {
			return string(h.ServerName) == "b" && string(h.RawName) == "B"
		}},
		{"only a name of another type", builder{extensions: ext(extServerName, v16([]byte("\x07\x00\x01a")))}.bytes(), func(h *Hello) bool {
			return h.Name == NameAbsent
		}},
		{"GREASE version is not the highest", builder{extensions: ext(extSupportedVersions, v8(numbers(0xfafa, 0x0304, 0x0303)))}.bytes(), func(h *Hello) bool {
			return h.MaxVersion() == 0x0304 && h.Versions.Has(0xfafa)
		}},
		{"only GREASE versions", builder{extensions: ext(extSupportedVersions, v8(numbers(0x1a1a)))}.bytes(), func(h *Hello) bool { return h.MaxVersion() == 0 }},
		{"empty ticket", builder{extensions: ext(extSessionTicket, nil)}.bytes(), func(h *Hello) bool { return h.Ticket && !h.Resumes }},
		{"ticket", builder{extensions: ext(extSessionTicket, []byte("t"))}.bytes(), func(h *Hello) bool { return h.Ticket && h.Resumes }},
		{"early data with PSK", builder{extensions: join(ext(extEarlyData, nil), ext(extPreSharedKey, []byte("p")))}.bytes(), func(h *Hello) bool {
			return h.EarlyData && h.PSK && !h.Ticket
		}},
		{"ECH", builder{extensions: join(name("outer.example"), ext(extECH, []byte{0}))}.bytes(), func(h *Hello) bool { return h.ECH }},
		{"behind the message in its record", cut(append(builder{}.bytes()[5:], "more"...), maxRecord), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, h := inPieces(t, c.in, 0)
			if status != Done || c.want != nil && !c.want(h) {
				t.Errorf("%v\n%s", status, h.describe())
			}
		})
	}
}

func TestExtensionsGet(t *testing.T) {
	var h Hello
	Parse(builder{extensions: join(ext(5, []byte("x")), name("a"))}.bytes(), &h)
	if d, ok := h.Extensions.Get(5); !ok || string(d) != "x" {
		t.Errorf("%q %v", d, ok)
	}
	if d, ok := h.Extensions.Get(6); ok {
		t.Errorf("%q", d)
	}
	if h.ALPN.First() != nil || h.ALPN.Has("h2") {
		t.Error("ALPN out of nothing")
	}
}

func TestHostNames(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := label + "." + label + "." + label + "." + strings.Repeat("a", 61)
	for _, c := range []struct {
		in, want string
		state    NameState
	}{
		{"example.com", "example.com", NameValid},
		{"EXAMPLE.Com", "example.com", NameValid},
		{"localhost", "localhost", NameValid},
		{"_dmarc.a-b.example", "_dmarc.a-b.example", NameValid},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", NameValid},
		{"1.2.3.4.example", "1.2.3.4.example", NameValid},
		{"1.2.3.a4", "1.2.3.a4", NameValid},
		{label + ".example", label + ".example", NameValid},
		{long, long, NameValid},
		{strings.ToUpper(long), long, NameValid},
		{long + "a", "", NameInvalid},
		{label + "a.example", "", NameInvalid},
		{"example.com.", "", NameInvalid},
		{".", "", NameInvalid},
		{".example", "", NameInvalid},
		{"a..example", "", NameInvalid},
		{"*.example", "", NameInvalid},
		{"a b.example", "", NameInvalid},
		{"a\x00.example", "", NameInvalid},
		{"a/../b", "", NameInvalid},
		{"b\xfccher.example", "", NameInvalid},
		{"bücher.example", "", NameInvalid},
		{"example.com:443", "", NameInvalid},
		{"192.0.2.1", "", NameAddress},
		{"::1", "", NameAddress},
		{"[::1]", "", NameAddress},
		{"2001:DB8::1", "", NameAddress},
		{"::ffff:192.0.2.1", "", NameAddress},
		{"fe80::1%eth0", "", NameAddress},
		{"192.0.2", "", NameInvalid},
		{"192.0.2.256", "", NameInvalid},
		{"192.0.2.1.", "", NameInvalid},
		{"a.1", "", NameInvalid},
		{"1", "", NameInvalid},
		{strings.Repeat(":", 100), "", NameInvalid},
	} {
		status, h := inPieces(t, builder{extensions: name(c.in)}.bytes(), 0)
		if status != Done || string(h.ServerName) != c.want || h.Name != c.state || string(h.RawName) != c.in {
			t.Errorf("%q: %v %q %v, want %q %v", c.in, status, h.ServerName, h.Name, c.want, c.state)
		}
	}
}
