package proxyproto

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func addrs(source, dest string) (h Header) {
	h.Command = Proxy
	h.Source, h.Dest = netip.MustParseAddrPort(source), netip.MustParseAddrPort(dest)
	return h
}

func with(h Header, f func(h *Header)) *Header {
	f(&h)
	return &h
}

func TestAppendV1(t *testing.T) {
	four, six := addrs("192.0.2.1:56735", "192.0.2.2:443"), addrs("[2001:db8::1]:1", "[2001:db8::2]:2")
	for _, c := range []struct {
		name string
		h    *Header
		want string
	}{
		{"IPv4", &four, "PROXY TCP4 192.0.2.1 192.0.2.2 56735 443\r\n"},
		{"IPv6", &six, "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"},
		{"mapped", with(addrs("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2"), func(*Header) {}), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"},
		{"mixed", with(addrs("192.0.2.1:1", "[2001:db8::2]:2"), func(*Header) {}), "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n"},
		{"zone", with(addrs("[fe80::1%eth0]:1", "[fe80::2%eth0]:2"), func(*Header) {}), "PROXY TCP6 fe80::1 fe80::2 1 2\r\n"},
		{"no source", with(four, func(h *Header) { h.Source = netip.AddrPort{} }), "PROXY UNKNOWN\r\n"},
		{"datagrams", with(four, func(h *Header) { h.Transport = Datagram }), "PROXY UNKNOWN\r\n"},
		{"nothing", &Header{}, "PROXY UNKNOWN\r\n"},
	} {
		if got := string(AppendV1([]byte("x"), c.h)); got != "x"+c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if s, _ := inPieces(t, []byte(c.want), 0); s != Done {
			t.Errorf("%s: %v", c.name, s)
		}
	}
}

func TestAppendV2(t *testing.T) {
	four := addrs("192.0.2.1:56735", "192.0.2.2:443")
	for _, c := range []struct {
		name string
		h    *Header
		want string
	}{
		{"IPv4", &four, v2(0x21, 0x11, inet4)},
		{"UDP", with(four, func(h *Header) { h.Transport = Datagram }), v2(0x21, 0x12, inet4)},
		{"IPv6", with(addrs("[2001:db8::1]:56735", "[2001:db8::2]:443"), func(*Header) {}), v2(0x21, 0x21, inet6)},
		{"mapped", with(addrs("[::ffff:192.0.2.1]:56735", "192.0.2.2:443"), func(*Header) {}), v2(0x21, 0x11, inet4)},
		{"mixed", with(addrs("[2001:db8::1]:56735", "192.0.2.2:443"), func(*Header) {}), v2(0x21, 0x21, inet6[:16]+mapped[16:])},
		{"UNIX", &Header{Command: Proxy, SourcePath: []byte("/a"), Transport: Datagram}, v2(0x21, 0x32, unix("/a", ""))},
		{"UNIX without name", &Header{Command: Proxy, DestPath: []byte{}}, v2(0x21, 0x31, unix("", ""))},
		{"LOCAL", with(four, func(h *Header) { h.Command, h.Checksum = Local, true }), v2(0x20, 0)},
		{"UNSPEC", &Header{Command: Proxy}, v2(0x21, 0)},
		{"checksum", &Header{Command: Proxy, Checksum: true}, v2(0x21, 0, tlv(TypeCRC32C, crcOfEmpty))},
		{"TLVs", with(four, func(h *Header) {
			h.ALPN, h.Authority, h.UniqueID, h.NetNS = []byte("h2"), []byte("a.example"), []byte{}, []byte("blue")
			h.SSL = SSL{Present: true, Client: ClientSSL | ClientCertConn, Verify: 0x01020304, CommonName: []byte("c"), TLSVersion: []byte("TLSv1.3"),
				Cipher: []byte("x"), SigAlg: []byte("s"), KeyAlg: []byte("k"), Group: []byte("g"), SigScheme: []byte("m"), ClientCert: []byte("d")}
			h.Extra, _ = AppendTLV(nil, 0xea, []byte("e"))
		}), v2(0x21, 0x11, inet4, tlv(TypeALPN, "h2"), tlv(TypeAuthority, "a.example"), tlv(TypeUniqueID, ""),
			tlv(TypeSSL, "\x03\x01\x02\x03\x04"+tlv(subVersion, "TLSv1.3")+tlv(subCommonName, "c")+tlv(subCipher, "x")+tlv(subSigAlg, "s")+
				tlv(subKeyAlg, "k")+tlv(subGroup, "g")+tlv(subSigScheme, "m")+tlv(subClientCert, "d")),
			tlv(TypeNetNS, "blue"), tlv(0xea, "e"))},
	} {
		got, err := AppendV2([]byte("x"), c.h)
		if err != nil || string(got) != "x"+c.want {
			t.Errorf("%s: %v\n%q, want\n%q", c.name, err, got, c.want)
		}
		if s, h := inPieces(t, []byte(c.want), 0); s != Done {
			t.Errorf("%s: %v %q", c.name, s, h.Reason)
		}
	}
}

func TestAppendV2TooLong(t *testing.T) {
	big := make([]byte, 1<<16)
	for name, h := range map[string]*Header{
		"unique id":   {UniqueID: big[:129]},
		"path":        {SourcePath: big[:109]},
		"other path":  {DestPath: big[:109]},
		"value":       {ALPN: big},
		"sum":         {ALPN: big[:40000], Authority: big[:40000]},
		"extra":       {Extra: big},
		"certificate": {SSL: SSL{Present: true, ClientCert: big}},
		"SSL":         {SSL: SSL{Present: true, ClientCert: big[:65530]}},
		"checksum":    {Authority: big[:65535-3-6], Checksum: true},
	} {
		h.Command = Proxy
		if got, err := AppendV2([]byte("x"), h); !errors.Is(err, ErrTooLong) || string(got) != "x" {
			t.Errorf("%s: %v, %d bytes", name, err, len(got))
		}
	}
	fits := Header{Command: Proxy, Authority: big[:65535-3-7], Checksum: true}
	b, err := AppendV2(nil, &fits)
	if err != nil || len(b) != 16+65535 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if s := Parse(b, &Header{MaxSize: 1 << 17}); s != Done {
		t.Error(s)
	}
	if b, err := AppendTLV([]byte("x"), 1, big); !errors.Is(err, ErrTooLong) || string(b) != "x" {
		t.Errorf("AppendTLV: %v", err)
	}
}

// Parse of what the writers write gives what they were given.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint64(1), []byte("\xc0\x00\x02\x01"), []byte("\xc0\x00\x02\x02"), "h2", "a.example", "id", "cn", true)
	f.Add(uint64(2), []byte(inet6[:16]), []byte("\xc0\x00\x02\x02"), "", "", "", "", false)
	f.Add(uint64(3), []byte(mapped[:16]), []byte("x"), "", "", "", "", false)
	f.Fuzz(func(t *testing.T, seed uint64, source, dest []byte, alpn, authority, id, cn string, checksum bool) {
		r := rand.New(rand.NewPCG(seed, 0))
		h := Header{Command: Proxy, Transport: Stream, Checksum: checksum, ALPN: []byte(alpn), Authority: []byte(authority), UniqueID: []byte(id)}
		if a, ok := netip.AddrFromSlice(source); ok {
			h.Source = netip.AddrPortFrom(a.Unmap(), uint16(r.Uint32()))
		}
		if a, ok := netip.AddrFromSlice(dest); ok {
			h.Dest = netip.AddrPortFrom(a.Unmap(), uint16(r.Uint32()))
		}
		if seed%3 == 0 {
			h.SSL = SSL{Present: true, Client: ClientFlags(seed), Verify: r.Uint32(), CommonName: []byte(cn)}
		}
		b, err := AppendV2(nil, &h)
		if err != nil {
			return
		}
		got := Header{MaxSize: 1 << 17}
		if s := Parse(b, &got); s != Done || got.Size != len(b) {
			t.Fatalf("%v %q of %q", s, got.Reason, b)
		}
		if h.Source.IsValid() && h.Dest.IsValid() && (got.Source != h.Source || got.Dest != h.Dest) ||
			string(got.ALPN) != alpn || string(got.Authority) != authority || string(got.UniqueID) != id ||
			got.Checksum != checksum || got.SSL.Present != h.SSL.Present || got.SSL.Verify != h.SSL.Verify || got.SSL.Client != h.SSL.Client ||
			!bytes.Equal(got.SSL.CommonName, h.SSL.CommonName) {
			t.Fatalf("%s\nof %s", got.describe(), h.describe())
		}
		line := AppendV1(nil, &h)
		var v1 Header
		if s := Parse(line, &v1); s != Done || v1.Source != got.Source || v1.Dest != got.Dest || len(line) > MaxV1 {
			t.Fatalf("%v of %q", s, line)
		}
	})
}

// What Parse takes gives the same in pieces, and again when it was written anew.
func FuzzParse(f *testing.F) {
	for _, c := range acceptedRows {
		f.Add([]byte(c.in), uint16(5))
	}
	for _, c := range refusedRows {
		f.Add([]byte(c.in), uint16(20))
	}
	f.Fuzz(func(t *testing.T, in []byte, split uint16) {
		var h, pieces Header
		status := Parse(in, &h)
		Parse(in[:min(int(split), len(in))], &pieces)
		if got := Parse(bytes.Clone(in), &pieces); got != status || pieces.describe() != h.describe() {
			t.Fatalf("in pieces %v\n%s\nat once %v\n%s", got, pieces.describe(), status, h.describe())
		}
		if status != Done {
			return
		}
		if h.Size > len(in) || h.Version == 1 && h.Size > MaxV1 {
			t.Fatalf("size %d", h.Size)
		}
		b, err := AppendV2(nil, &h)
		if err != nil {
			t.Fatal(err)
		}
		var again Header
		again.MaxSize = 1 << 17
		if s := Parse(b, &again); s != Done {
			t.Fatalf("%v %q of %q", s, again.Reason, b)
		}
		if again.Source != h.Source || again.Dest != h.Dest || string(again.SourcePath) != string(h.SourcePath) || again.Checksum != h.Checksum ||
			string(again.DestPath) != string(h.DestPath) || again.SSL.Verify != h.SSL.Verify || string(again.Authority) != string(h.Authority) {
			t.Fatalf("%s\nof %s", again.describe(), h.describe())
		}
	})
}

// Addresses are those that netip takes.
func FuzzAddr(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "::", "1::", "::1", "1:2:3:4:5:6:7:8", "::ffff:192.0.2.1", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5::1.2.3.4", "1.2.3", "1:::2", "::1.2.3.4.5"} {
		f.Add(s)
	}
	for _, c := range refusedRows {
		for s := range strings.FieldsSeq(c.in) {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := netip.ParseAddr(s)
		if want.Zone() != "" {
			return
		}
		for _, family := range []Family{IPv4, IPv6} {
			got, ok := parseAddr([]byte(s), family)
			taken := err == nil && want.Is4() == (family == IPv4)
			if ok != taken || ok && got != want.Unmap() {
				t.Errorf("%q as %v: %v %v, netip %v %v", s, family, got, ok, want, err)
			}
		}
	})
}
