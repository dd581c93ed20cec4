package clienthello

import "testing"

func captureOf(b testing.TB, name string) []byte {
	for _, c := range captures {
		if c.name == name {
			return c.bytes(b)
		}
	}
	b.Fatal("no capture", name)
	return nil
}

func benchmark(b *testing.B, in []byte) {
	var h Hello
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		h.Reset()
		if s := Parse(in, &h); s != Done {
			b.Fatal(s)
		}
	}
}

func BenchmarkOpenSSL(b *testing.B) { benchmark(b, captureOf(b, "openssl-default")) }
func BenchmarkCurl(b *testing.B)    { benchmark(b, captureOf(b, "curl-h2")) }
func BenchmarkMLKEM(b *testing.B)   { benchmark(b, captureOf(b, "go-mlkem")) }

// A hello that came in two records has to be joined.
func BenchmarkTwoRecords(b *testing.B) {
	benchmark(b, cut(captureOf(b, "go-mlkem")[5:], 1000))
}

// A hello with ML-KEM comes in two segments.
func BenchmarkTwoSegments(b *testing.B) {
	in := captureOf(b, "go-mlkem")
	var h Hello
	b.ReportAllocs()
	for b.Loop() {
		h.Reset()
		if Parse(in[:1400], &h) != NeedMore || Parse(in, &h) != Done {
			b.Fatal(h.status)
		}
	}
}

// The worst case: 16 KiB byte by byte, in records of three bytes.
func BenchmarkDribble(b *testing.B) {
	in := cut(builder{extensions: ext(21, make([]byte, 6000))}.bytes()[5:], 3)
	var h Hello
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		h.Reset()
		for n := range in {
			if Parse(in[:n], &h) != NeedMore {
				break
			}
		}
	}
}

func BenchmarkJA4(b *testing.B) {
	var h Hello
	Parse(captureOf(b, "curl-h2"), &h)
	buf := make([]byte, 0, MaxJA4)
	b.ReportAllocs()
	for b.Loop() {
		buf = h.AppendJA4(buf[:0])
	}
}

func TestAllocations(t *testing.T) {
	in, split := captureOf(t, "go-mlkem"), cut(captureOf(t, "curl-h2")[5:], 100)
	upper := captureOf(t, "openssl-tls12-alpn")
	var h Hello
	Parse(split, &h)
	for name, b := range map[string][]byte{"one record": in, "name with capitals": upper, "records, second use": split} {
		n := testing.AllocsPerRun(100, func() {
			h.Reset()
			if Parse(b, &h) != Done {
				t.Fatal(h.status)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
