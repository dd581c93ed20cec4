package header

import (
	"bytes"
	"fmt"
	"testing"
)

// Results go here, so that no call is optimised away.
var (
	sink       []byte
	sinkHandle Handle
	sinkMap    *Map
)

// filled returns a map with n dummy fields.
func filled(n int) *Map {
	m := new(Map)
	for i := range n {
		if err := m.AddName(fmt.Sprintf("dummy-key-%d", i), "abcd"); err != nil {
			panic(err)
		}
	}
	return m
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{0, 50, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := filled(n)
			_ = m.SetString(Connection, "keep-alive")
			b.ReportAllocs()
			for b.Loop() {
				sink = m.Get(Connection)
			}
		})
	}
}

func BenchmarkGetName(b *testing.B) {
	for _, n := range []int{1, 5, 10, 50, 500} {
		m := filled(n)
		_ = m.AddName("Connection", "close")
		for _, name := range []string{"connection", fmt.Sprintf("dummy-key-%d", n-1), "dummy-key-x"} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					sink = m.GetName(name)
				}
			})
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, name := range []string{"host", "Content-Length", "x-forwarded-proto", "dummy-key-20"} {
		n := []byte(name)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				sinkHandle = Lookup(n)
			}
		})
	}
}

const browserHead = "Host: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef; theme=dark\r\n" +
	"Upgrade-Insecure-Requests: 1\r\nX-Custom-Tracking: 7f8a9b\r\nCache-Control: max-age=0\r\n"

// offsets of the fields of a well-formed head, as a codec finds them.
func offsets(head []byte) [][4]int {
	var o [][4]int
	for at := 0; at < len(head); {
		end := at + bytes.Index(head[at:], []byte("\r\n"))
		colon := at + bytes.IndexByte(head[at:], ':')
		val := colon + 1
		for val < end && head[val] == ' ' {
			val++
		}
		o = append(o, [4]int{at, colon - at, val, end - val})
		at = end + 2
	}
	return o
}

func load(m *Map, head []byte, o [][4]int) {
	m.Reset(head)
	for _, f := range o {
		if _, err := m.AddField(f[0], f[1], f[2], f[3]); err != nil {
			panic(err)
		}
	}
}

func BenchmarkAddField10(b *testing.B) {
	head := []byte(browserHead)
	o := offsets(head)
	m := new(Map)
	b.ReportAllocs()
	for b.Loop() {
		load(m, head, o)
	}
}

func BenchmarkProxyHead(b *testing.B) {
	head := []byte(browserHead)
	o := offsets(head)
	m := new(Map)
	buf := make([]byte, 0, 4096)
	ip := []byte("192.0.2.17")
	b.ReportAllocs()
	for b.Loop() {
		load(m, head, o)
		m.Remove(Connection)
		_ = m.Append(XForwardedFor, ", ", ip)
		_ = m.SetRef(XForwardedProto, ip)
		_ = m.SetString(XRequestID, "0123456789abcdef0123456789abcdef")
		sink = m.AppendTo(buf)
	}
}

func BenchmarkAppendTo(b *testing.B) {
	head := []byte(browserHead)
	m := new(Map)
	load(m, head, offsets(head))
	buf := make([]byte, 0, 4096)
	for b.Loop() {
		sink = m.AppendTo(buf)
	}
}

func BenchmarkSet(b *testing.B) {
	m := filled(5)
	v := []byte("twenty bytes of data")
	b.Run("copy", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = m.Set(Server, v)
		}
	})
	b.Run("ref", func(b *testing.B) {
		for b.Loop() {
			_ = m.SetRef(Server, v)
		}
	})
	b.Run("int", func(b *testing.B) {
		n := int64(0)
		for b.Loop() {
			n++
			m.SetInt(ContentLength, n)
		}
	})
	b.Run("name", func(b *testing.B) {
		for b.Loop() {
			_ = m.SetName("example-key", "twenty bytes of data")
		}
	})
	b.Run("addremove", func(b *testing.B) {
		for b.Loop() {
			_ = m.AddName("example-kez", "twenty bytes of data")
			m.RemoveName([]byte("example-kez"))
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sinkMap = new(Map)
		}
	})
	b.Run("reset", func(b *testing.B) {
		for b.Loop() {
			m.Reset(nil)
		}
	})
}
