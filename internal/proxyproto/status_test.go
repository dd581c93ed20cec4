package proxyproto

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestNotProxy(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Status
	}{
		{"", NeedMore},
		{"P", NeedMore},
		{"PROX", NeedMore},
		{"PROXY", NeedMore},
		{"\r\n\r\n", NeedMore},
		{signature2, NeedMore},
		{signature2 + "\x21\x11\x00", NeedMore},
		{v2(0x21, 0x11, inet4)[:27], NeedMore},
		{"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r", NeedMore},
		{"PUT / HTTP/1.1\r\n", NotProxy},
		{"proxy ", NotProxy},
		{" PROXY", NotProxy},
		{"GET / HTTP/1.1\r\n", NotProxy},
		{"\x16\x03\x01", NotProxy},
		{"\r\nGET", NotProxy},
		{"\r\n\r\n\x00\r\nQUIT\r", NotProxy},
	} {
		if status, h := inPieces(t, []byte(c.in), 0); status != c.want {
			t.Errorf("%q: %v %q, want %v", c.in, status, h.Reason, c.want)
		}
	}
}

func TestMaxSize(t *testing.T) {
	in := []byte(v2(0x21, 0x11, inet4, tlv(TypeNoop, "0123456789")))
	if s, _ := inPieces(t, in, len(in)); s != Done {
		t.Errorf("exact: %v", s)
	}
	if s, h := inPieces(t, in, len(in)-1); s != Malformed || h.Reason != "v2-too-long" {
		t.Errorf("one less: %v", s)
	}
	// Known from the length alone.
	if s, h := inPieces(t, in[:16], len(in)-1); s != Malformed {
		t.Errorf("only the start: %v %q", s, h.Reason)
	}
	h := Header{MaxSize: 77, Authority: []byte("x")}
	if h.Reset(); h.MaxSize != 77 || h.Authority != nil {
		t.Error("Reset keeps the limit and nothing else")
	}
}

// A flipped bit anywhere is noticed, be it by the checksum.
func TestChecksumGuardsEverything(t *testing.T) {
	h := Header{Command: Proxy, Source: netip.MustParseAddrPort("192.0.2.1:1"), Dest: netip.MustParseAddrPort("192.0.2.2:2"),
		Authority: []byte("a.example"), Checksum: true}
	in, err := AppendV2(nil, &h)
	if err != nil {
		t.Fatal(err)
	}
	if s, h := inPieces(t, in, 0); s != Done || !h.Checksum {
		t.Fatalf("%v %s", s, h.describe())
	}
	for i := range in {
		for bit := range 8 {
			b := bytes.Clone(in)
			b[i] ^= 1 << bit
			var got Header
			// LOCAL has its block discarded, and what no longer is a checksum checks nothing.
			if Parse(b, &got) == Done && got.Command == Proxy && got.Checksum {
				t.Errorf("bit %d of byte %d: %s", bit, i, got.describe())
			}
		}
	}
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		NeedMore.String(): "need-more", Done.String(): "done", NotProxy.String(): "not-proxy", Malformed.String(): "malformed",
		Local.String(): "LOCAL", Proxy.String(): "PROXY", IPv4.String(): "ipv4", IPv6.String(): "ipv6", Unix.String(): "unix",
		Unspec.String(): "unspec", NoTransport.String(): "unspec", Stream.String(): "stream", Datagram.String(): "datagram",
		Status(9).String() + Command(9).String() + Family(9).String() + Transport(9).String(): "unknownunknownunknownunknown",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
