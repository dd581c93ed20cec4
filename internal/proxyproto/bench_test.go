package proxyproto

import (
	"net/netip"
	"testing"
)

const benchV1 = "PROXY TCP6 2001:db8::1 2001:db8::2 56735 443\r\n"

var benchHeader = Header{
	Command: Proxy, Source: netip.MustParseAddrPort("192.0.2.1:56735"), Dest: netip.MustParseAddrPort("192.0.2.2:443"),
	ALPN: []byte("h2"), Authority: []byte("www.example.com"), UniqueID: []byte("0123456789abcdef"), Checksum: true,
	SSL: SSL{Present: true, Client: ClientSSL | ClientCertConn, TLSVersion: []byte("TLSv1.3"), CommonName: []byte("client"), Cipher: []byte("TLS_AES_128_GCM_SHA256")},
}

func benchmarkParse(b *testing.B, in []byte) {
	var h Header
	b.ReportAllocs()
	for b.Loop() {
		h.Reset()
		if s := Parse(in, &h); s != Done {
			b.Fatal(s)
		}
	}
}

func BenchmarkParseV1(b *testing.B) { benchmarkParse(b, []byte(benchV1)) }
func BenchmarkParseV2(b *testing.B) { benchmarkParse(b, []byte(v2(0x21, 0x11, inet4))) }

func BenchmarkParseV2TLVs(b *testing.B) {
	in, _ := AppendV2(nil, &benchHeader)
	benchmarkParse(b, in)
}

func BenchmarkAppendV1(b *testing.B) {
	buf := make([]byte, 0, MaxV1)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendV1(buf[:0], &benchHeader)
	}
}

func BenchmarkAppendV2TLVs(b *testing.B) {
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = AppendV2(buf[:0], &benchHeader)
	}
}

func TestAllocations(t *testing.T) {
	full, _ := AppendV2(nil, &benchHeader)
	line := []byte(benchV1)
	buf := make([]byte, 0, 512)
	var h Header
	for name, f := range map[string]func(){
		"v1":       func() { h.Reset(); Parse(line, &h) },
		"v2":       func() { h.Reset(); Parse(full, &h) },
		"write v1": func() { buf = AppendV1(buf[:0], &benchHeader) },
		"write v2": func() { buf, _ = AppendV2(buf[:0], &benchHeader) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
