package proxyproto

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// describe says all of a header that a caller can see.
func (h *Header) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "size %d reason %q version %d %v %v %v %v %v %q %q\n", h.Size, h.Reason, h.Version, h.Command, h.Family, h.Transport,
		h.Source, h.Dest, h.SourcePath, h.DestPath)
	fmt.Fprintf(&b, "alpn %q authority %q id %q netns %q checksum %v ssl %+v", h.ALPN, h.Authority, h.UniqueID, h.NetNS, h.Checksum, h.SSL)
	for t, v := range h.TLVs() {
		fmt.Fprintf(&b, "\n%#x %q", t, v)
	}
	return b.String()
}

// inPieces checks that in gives the same in whatever pieces it comes, from a
// buffer that moves, and returns what it gives.
func inPieces(t testing.TB, in []byte, limit int) (Status, *Header) {
	t.Helper()
	h := &Header{MaxSize: limit}
	status := Parse(in, h)
	want := h.describe()
	check := func(how string, got Status, g *Header) {
		t.Helper()
		if d := g.describe(); got != status || d != want {
			t.Fatalf("%q %s: %v\n%s\nat once: %v\n%s", in, how, got, d, status, want)
		}
	}
	one := &Header{MaxSize: limit}
	last := NeedMore
	for n := 0; n <= len(in) && last == NeedMore; n++ {
		last = Parse(bytes.Clone(in[:n]), one)
	}
	check("byte by byte", last, one)
	again := &Header{MaxSize: limit}
	for n := range in {
		again.Reset()
		Parse(in[:n], again)
		check(fmt.Sprintf("split at %d", n), Parse(bytes.Clone(in), again), again)
	}
	return status, h
}

// v2 makes a header of version 2 out of its bytes 13 and 14 and what follows.
func v2(command, family byte, rest ...string) string {
	body := strings.Join(rest, "")
	return signature2 + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

func tlv(t Type, value string) string {
	return string([]byte{byte(t), byte(len(value) >> 8), byte(len(value))}) + value
}

const (
	inet4 = "\xc0\x00\x02\x01\xc0\x00\x02\x02\xdd\x9f\x01\xbb" // 192.0.2.1:56735, 192.0.2.2:443
	inet6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\xdd\x9f\x01\xbb"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x02\xdd\x9f\x01\xbb"
)

// crcOfEmpty was computed by a program of its own, bit by bit, which gives
// 0xe3069283 for "123456789" as it must.
const crcOfEmpty = "\x3e\xc9\x89\x4e"

func unix(source, dest string) string {
	return source + strings.Repeat("\x00", pathSize-len(source)) + dest + strings.Repeat("\x00", pathSize-len(dest))
}

type acceptedRow struct {
	name, in     string
	family       Family
	transport    Transport
	source, dest string
	check        func(h *Header) bool
}

var acceptedRows = []acceptedRow{
	{"v1 TCP4", "PROXY TCP4 192.0.2.1 192.0.2.2 56735 443\r\n", IPv4, Stream, "192.0.2.1:56735", "192.0.2.2:443", nil},
	{"v1 TCP4 at its longest", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", IPv4, Stream, "255.255.255.255:65535", "255.255.255.255:65535", nil},
	{"v1 port 0", "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", IPv4, Stream, "0.0.0.0:0", "0.0.0.0:0", nil},
	{"v1 TCP6", "PROXY TCP6 2001:db8::1 2001:DB8:0:0::2 56735 443\r\n", IPv6, Stream, "[2001:db8::1]:56735", "[2001:db8::2]:443", nil},
	{"v1 TCP6 at its longest", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", IPv6, Stream,
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", nil},
	{"v1 TCP6 with mapped address", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n", IPv6, Stream, "192.0.2.1:1", "192.0.2.2:2", nil},
	{"v1 TCP6 mixed", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n", IPv6, Stream, "192.0.2.1:1", "[2001:db8::2]:2", nil},
	{"v1 TCP6 any", "PROXY TCP6 :: ::1 1 2\r\n", IPv6, Stream, "[::]:1", "[::1]:2", nil},
	{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", Unspec, NoTransport, "", "", func(h *Header) bool { return h.Command == Proxy && h.Version == 1 }},
	{"v1 UNKNOWN with anything", "PROXY UNKNOWN  x y\r\n", Unspec, NoTransport, "", "", nil},
	{"v1 UNKNOWN of 107", "PROXY UNKNOWN " + strings.Repeat("x", 91) + "\r\n", Unspec, NoTransport, "", "", nil},
	{"v2 TCP4", v2(0x21, 0x11, inet4), IPv4, Stream, "192.0.2.1:56735", "192.0.2.2:443", func(h *Header) bool { return h.Version == 2 && h.Command == Proxy }},
	{"v2 UDP4", v2(0x21, 0x12, inet4), IPv4, Datagram, "192.0.2.1:56735", "192.0.2.2:443", nil},
	{"v2 TCP6", v2(0x21, 0x21, inet6), IPv6, Stream, "[2001:db8::1]:56735", "[2001:db8::2]:443", nil},
	{"v2 UDP6", v2(0x21, 0x22, inet6), IPv6, Datagram, "[2001:db8::1]:56735", "[2001:db8::2]:443", nil},
	{"v2 TCP6 with mapped addresses", v2(0x21, 0x21, mapped), IPv6, Stream, "192.0.2.1:56735", "192.0.2.2:443", nil},
	{"v2 UNIX stream", v2(0x21, 0x31, unix("/run/a", "/run/b")), Unix, Stream, "", "", func(h *Header) bool {
		return string(h.SourcePath) == "/run/a" && string(h.DestPath) == "/run/b"
	}},
	{"v2 UNIX datagram, abstract and unnamed", v2(0x21, 0x32, unix("\x00a\x00b", "")), Unix, Datagram, "", "", func(h *Header) bool {
		return string(h.SourcePath) == "\x00a\x00b" && h.DestPath != nil && len(h.DestPath) == 0
	}},
	{"v2 UNIX at its longest, and rubbish in the padding", v2(0x21, 0x31, strings.Repeat("p", 108), "q\x00r", strings.Repeat("\x00", 105)), Unix, Stream, "", "", func(h *Header) bool {
		return len(h.SourcePath) == 108 && string(h.DestPath) == "q"
	}},
	{"v2 LOCAL", v2(0x20, 0x00), Unspec, NoTransport, "", "", func(h *Header) bool { return h.Command == Local }},
	{"v2 LOCAL with a block that is discarded", v2(0x20, 0x11, "abc"), Unspec, NoTransport, "", "", func(h *Header) bool { return h.Size == 19 }},
	{"v2 LOCAL of a family that there is not", v2(0x20, 0x4f), Unspec, NoTransport, "", "", nil},
	{"v2 UNSPEC", v2(0x21, 0x00), Unspec, NoTransport, "", "", nil},
	{"v2 UNSPEC with TLV", v2(0x21, 0x00, tlv(TypeAuthority, "a.example")), Unspec, NoTransport, "", "", func(h *Header) bool { return string(h.Authority) == "a.example" }},
	{"v2 INET without transport", v2(0x21, 0x10, inet4, tlv(TypeALPN, "h2")), Unspec, NoTransport, "", "", func(h *Header) bool { return string(h.ALPN) == "h2" }},
	{"v2 transport without family", v2(0x21, 0x01), Unspec, NoTransport, "", "", nil},
	{"v2 all TLVs", v2(0x21, 0x11, inet4, tlv(TypeALPN, "h2"), tlv(TypeNoop, "xx"), tlv(TypeAuthority, "a.example"), tlv(TypeNoop, ""),
		tlv(TypeUniqueID, strings.Repeat("i", 128)), tlv(TypeNetNS, "blue"), tlv(0xea, "\x01vpce-1"), tlv(0xea, "again"), tlv(0xff, ""),
		tlv(TypeSSL, "\x07\x00\x00\x00\x00"+tlv(subVersion, "TLSv1.3")+tlv(subCommonName, "client")+tlv(subCipher, "c")+tlv(subSigAlg, "s")+
			tlv(subKeyAlg, "k")+tlv(subGroup, "g")+tlv(subSigScheme, "m")+tlv(subClientCert, "DER")+tlv(0x2f, "new"))),
		IPv4, Stream, "192.0.2.1:56735", "192.0.2.2:443", func(h *Header) bool {
			s := &h.SSL
			n := 0
			for t := range h.TLVs() {
				if t == 0xea {
					n++
				}
			}
			return n == 2 && string(h.ALPN) == "h2" && string(h.Authority) == "a.example" && len(h.UniqueID) == 128 && string(h.NetNS) == "blue" &&
				s.Present && s.Client == ClientSSL|ClientCertConn|ClientCertSession && s.Verified() && string(s.TLSVersion) == "TLSv1.3" &&
				string(s.CommonName) == "client" && string(s.Cipher) == "c" && string(s.SigAlg) == "s" && string(s.KeyAlg) == "k" &&
				string(s.Group) == "g" && string(s.SigScheme) == "m" && string(s.ClientCert) == "DER"
		}},
	{"v2 empty values", v2(0x21, 0x11, inet4, tlv(TypeALPN, ""), tlv(TypeSSL, "\x01\x00\x00\x00\x01")), IPv4, Stream, "192.0.2.1:56735", "192.0.2.2:443", func(h *Header) bool {
		return h.ALPN != nil && h.SSL.Present && !h.SSL.Verified() && h.SSL.CommonName == nil
	}},
	{"v2 checksum", v2(0x21, 0x00, tlv(TypeCRC32C, crcOfEmpty)), Unspec, NoTransport, "", "", func(h *Header) bool { return h.Checksum }},
}

func TestAccepted(t *testing.T) {
	for _, c := range acceptedRows {
		t.Run(c.name, func(t *testing.T) {
			for _, tail := range []string{"", "GET / HTTP/1.1\r\n"} {
				status, h := inPieces(t, []byte(c.in+tail), 0)
				if status != Done || h.Size != len(c.in) {
					t.Fatalf("%v %q, size %d, want %d", status, h.Reason, h.Size, len(c.in))
				}
				if h.Family != c.family || h.Transport != c.transport {
					t.Errorf("%v %v, want %v %v", h.Family, h.Transport, c.family, c.transport)
				}
				var source, dest netip.AddrPort
				if c.source != "" {
					source, dest = netip.MustParseAddrPort(c.source), netip.MustParseAddrPort(c.dest)
				}
				if h.Source != source || h.Dest != dest {
					t.Errorf("%v to %v, want %v to %v", h.Source, h.Dest, source, dest)
				}
				if c.check != nil && !c.check(h) {
					t.Errorf("not as wanted: %s", h.describe())
				}
			}
		})
	}
}

var refusedRows = []struct {
	name, in, reason string
}{
	{"v1 no space", "PROXYTCP4 192.0.2.1 192.0.2.2 1 2\r\n", "v1-bad-family"},
	{"v1 two spaces", "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "v1-bad-family"},
	{"v1 TAB", "PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n", "v1-bad-byte"},
	{"v1 nothing", "PROXY\r\n", "v1-bad-family"},
	{"v1 only a space", "PROXY \r\n", "v1-bad-family"},
	{"v1 lower case", "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", "v1-bad-family"},
	{"v1 TCP5", "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", "v1-bad-family"},
	{"v1 UDP4", "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "v1-bad-family"},
	{"v1 TCP44", "PROXY TCP44 192.0.2.1 192.0.2.2 1 2\r\n", "v1-bad-family"},
	{"v1 only family", "PROXY TCP4\r\n", "v1-bad-family"},
	{"v1 UNKNOWNX", "PROXY UNKNOWNX\r\n", "v1-bad-family"},
	{"v1 no addresses", "PROXY TCP4 \r\n", "v1-missing-field"},
	{"v1 one address", "PROXY TCP4 192.0.2.1\r\n", "v1-missing-field"},
	{"v1 no ports", "PROXY TCP4 192.0.2.1 192.0.2.2\r\n", "v1-missing-field"},
	{"v1 one port", "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "v1-missing-field"},
	{"v1 two spaces within", "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", "v1-bad-address"},
	{"v1 space at the end", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", "v1-bad-port"},
	{"v1 five fields", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", "v1-bad-port"},
	{"v1 empty port", "PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", "v1-bad-port"},
	{"v1 port 65536", "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", "v1-bad-port"},
	{"v1 port of six digits", "PROXY TCP4 192.0.2.1 192.0.2.2 1 100000\r\n", "v1-bad-port"},
	{"v1 port 01", "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "v1-bad-port"},
	{"v1 port 00", "PROXY TCP4 192.0.2.1 192.0.2.2 00 2\r\n", "v1-bad-port"},
	{"v1 port +1", "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", "v1-bad-port"},
	{"v1 port -1", "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", "v1-bad-port"},
	{"v1 port 0x1", "PROXY TCP4 192.0.2.1 192.0.2.2 0x1 2\r\n", "v1-bad-port"},
	{"v1 IPv6 in TCP4", "PROXY TCP4 ::1 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 IPv4 in TCP6", "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", "v1-bad-address"},
	{"v1 mapped in TCP4", "PROXY TCP4 ::ffff:192.0.2.1 192.0.2.2 1 2\r\n", "v1-bad-address"},
	{"v1 leading zero", "PROXY TCP4 192.0.02.1 192.0.2.2 1 2\r\n", "v1-bad-address"},
	{"v1 three octets", "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", "v1-bad-address"},
	{"v1 five octets", "PROXY TCP4 192.0.2.1.1 192.0.2.2 1 2\r\n", "v1-bad-address"},
	{"v1 octet 256", "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", "v1-bad-address"},
	{"v1 empty octet", "PROXY TCP4 192..2.1 192.0.2.2 1 2\r\n", "v1-bad-address"},
	{"v1 hexadecimal octet", "PROXY TCP4 0xc0.0.2.1 192.0.2.2 1 2\r\n", "v1-bad-address"},
	{"v1 name", "PROXY TCP4 localhost 192.0.2.2 1 2\r\n", "v1-bad-address"},
	{"v1 zone", "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 brackets", "PROXY TCP6 [::1] ::2 1 2\r\n", "v1-bad-address"},
	{"v1 two gaps", "PROXY TCP6 1::2::3 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 three colons", "PROXY TCP6 1:::3 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 nine groups", "PROXY TCP6 1:2:3:4:5:6:7:8:9 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 seven groups", "PROXY TCP6 1:2:3:4:5:6:7 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 group of five", "PROXY TCP6 ::12345 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 gap of nothing", "PROXY TCP6 1:2:3:4::5:6:7:8 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 leading colon", "PROXY TCP6 :1:2:3:4:5:6:7:8 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 trailing colon", "PROXY TCP6 1:2:3:4:5:6:7: ::2 1 2\r\n", "v1-bad-address"},
	{"v1 IPv4 in the middle", "PROXY TCP6 ::192.0.2.1:1 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 IPv4 too late", "PROXY TCP6 1:2:3:4:5:6:7:192.0.2.1 ::2 1 2\r\n", "v1-bad-address"},
	{"v1 bare LF", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "v1-bare-lf"},
	{"v1 bare CR", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rG", "v1-bare-cr"},
	{"v1 CR within UNKNOWN", "PROXY UNKNOWN a\rb\r\n", "v1-bare-cr"},
	{"v1 CR CR LF", "PROXY UNKNOWN\r\r\n", "v1-bare-cr"},
	{"v1 NUL", "PROXY UNKNOWN a\x00b\r\n", "v1-bad-byte"},
	{"v1 not ASCII", "PROXY UNKNOWN \xe4\r\n", "v1-bad-byte"},
	{"v1 of 108", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", "v1-too-long"},
	{"v1 without end", "PROXY " + strings.Repeat("x", 200), "v1-too-long"},
	{"v2 version 1", v2(0x11, 0x11, inet4), "v2-bad-version"},
	{"v2 version 3", v2(0x31, 0x11, inet4), "v2-bad-version"},
	{"v2 command 2", v2(0x22, 0x11, inet4), "v2-bad-command"},
	{"v2 command 15", v2(0x2f, 0x11, inet4), "v2-bad-command"},
	{"v2 family 4", v2(0x21, 0x41, inet4), "v2-bad-family"},
	{"v2 transport 3", v2(0x21, 0x13, inet4), "v2-bad-family"},
	{"v2 no IPv4 addresses", v2(0x21, 0x11), "v2-short-addresses"},
	{"v2 IPv4 short", v2(0x21, 0x11, inet4[:11]), "v2-short-addresses"},
	{"v2 IPv6 short", v2(0x21, 0x21, inet6[:35]), "v2-short-addresses"},
	{"v2 IPv6 with the block of IPv4", v2(0x21, 0x21, inet4), "v2-short-addresses"},
	{"v2 UNIX short", v2(0x21, 0x31, unix("a", "b")[:215]), "v2-short-addresses"},
	{"v2 INET without transport short", v2(0x21, 0x10, inet4[:4]), "v2-short-addresses"},
	{"v2 too long", v2(0x21, 0x11, inet4, strings.Repeat("\x04\x00\x00", 1400)), "v2-too-long"},
	{"v2 LOCAL too long", v2(0x20, 0x00, strings.Repeat("x", 5000)), "v2-too-long"},
	{"v2 one byte behind addresses", v2(0x21, 0x11, inet4, "\x04"), "v2-bad-tlv"},
	{"v2 two bytes behind addresses", v2(0x21, 0x11, inet4, "\x04\x00"), "v2-bad-tlv"},
	{"v2 TLV beyond the header", v2(0x21, 0x11, inet4, "\x02\x00\x05abcd"), "v2-bad-tlv"},
	{"v2 ALPN twice", v2(0x21, 0x11, inet4, tlv(TypeALPN, "h2"), tlv(TypeALPN, "h2")), "v2-duplicate-tlv"},
	{"v2 empty authority twice", v2(0x21, 0x11, inet4, tlv(TypeAuthority, ""), tlv(TypeAuthority, "")), "v2-duplicate-tlv"},
	{"v2 unique id twice", v2(0x21, 0x11, inet4, tlv(TypeUniqueID, "a"), tlv(TypeUniqueID, "b")), "v2-duplicate-tlv"},
	{"v2 unique id of 129", v2(0x21, 0x11, inet4, tlv(TypeUniqueID, strings.Repeat("i", 129))), "v2-unique-id-too-long"},
	{"v2 netns twice", v2(0x21, 0x11, inet4, tlv(TypeNetNS, "a"), tlv(TypeNetNS, "b")), "v2-duplicate-tlv"},
	{"v2 SSL twice", v2(0x21, 0x11, inet4, tlv(TypeSSL, "\x00\x00\x00\x00\x00"), tlv(TypeSSL, "\x00\x00\x00\x00\x00")), "v2-duplicate-tlv"},
	{"v2 SSL empty", v2(0x21, 0x11, inet4, tlv(TypeSSL, "")), "v2-bad-ssl"},
	{"v2 SSL of four bytes", v2(0x21, 0x11, inet4, tlv(TypeSSL, "\x01\x00\x00\x00")), "v2-bad-ssl"},
	{"v2 SSL with half a TLV", v2(0x21, 0x11, inet4, tlv(TypeSSL, "\x01\x00\x00\x00\x00\x22")), "v2-bad-ssl"},
	{"v2 SSL with a TLV beyond it", v2(0x21, 0x11, inet4, tlv(TypeSSL, "\x01\x00\x00\x00\x00\x22\x00\x02c"), tlv(TypeNoop, "xxxx")), "v2-bad-ssl"},
	{"v2 SSL with two common names", v2(0x21, 0x11, inet4, tlv(TypeSSL, "\x01\x00\x00\x00\x00"+tlv(subCommonName, "a")+tlv(subCommonName, "b"))), "v2-duplicate-tlv"},
	{"v2 checksum of three bytes", v2(0x21, 0x11, inet4, tlv(TypeCRC32C, "abc")), "v2-bad-checksum"},
	{"v2 wrong checksum", v2(0x21, 0x11, inet4, tlv(TypeCRC32C, "abcd")), "v2-bad-checksum"},
	{"v2 checksum of zeros", v2(0x21, 0x11, inet4, tlv(TypeCRC32C, "\x00\x00\x00\x00")), "v2-bad-checksum"},
}

func TestRefused(t *testing.T) {
	for _, c := range refusedRows {
		t.Run(c.name, func(t *testing.T) {
			status, h := inPieces(t, []byte(c.in), 0)
			if status != Malformed || h.Reason != c.reason {
				t.Errorf("%v %q, want %q", status, h.Reason, c.reason)
			}
		})
	}
}
