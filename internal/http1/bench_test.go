package http1

import (
	"testing"

	"belay/internal/header"
)

// typical is a request of eight fields as a browser sends it.
const typical = "GET /static/app/main.js?v=20240811 HTTP/1.1\r\n" +
	"Host: www.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Connection: keep-alive\r\n" +
	"Referer: https://www.example.com/\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef\r\n" +
	"\r\n"

// small is what load generators send.
const small = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"

const typicalResponse = "HTTP/1.1 200 OK\r\n" +
	"Server: nginx\r\n" +
	"Date: Mon, 12 Aug 2024 10:00:00 GMT\r\n" +
	"Content-Type: text/html; charset=utf-8\r\n" +
	"Content-Length: 101\r\n" +
	"Connection: keep-alive\r\n" +
	"ETag: \"66b9d6a0-65\"\r\n" +
	"Accept-Ranges: bytes\r\n" +
	"\r\n"

// shipped are limits as the configuration has them by default.
var shipped = Options{MaxRequestLine: 8192, MaxChunkLine: 4096, Header: header.Limits{Fields: 100, Bytes: 60 << 10, Name: 256}}

func benchmarkRequest(b *testing.B, head string) {
	buf := []byte(head)
	var r Request
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if _, err := r.Parse(buf, &shipped); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRequest(b *testing.B)      { benchmarkRequest(b, typical) }
func BenchmarkRequestSmall(b *testing.B) { benchmarkRequest(b, small) }

func BenchmarkResponse(b *testing.B) {
	buf := []byte(typicalResponse)
	var r Response
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if _, err := r.Parse(buf, GET, &shipped); err != nil {
			b.Fatal(err)
		}
	}
}

// The cost of a head that comes in two pieces.
func BenchmarkRequestSplit(b *testing.B) {
	buf := []byte(typical)
	var r Request
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if _, err := r.Parse(buf[:100], &shipped); err != ErrNeedMore {
			b.Fatal(err)
		}
		if _, err := r.Parse(buf, &shipped); err != nil {
			b.Fatal(err)
		}
	}
}

// 64 KiB in chunks of 4 KiB, moved together in place.
func BenchmarkChunked(b *testing.B) {
	var wire []byte
	for range 16 {
		wire = append(AppendChunkHeader(wire, 4096), make([]byte, 4096)...)
		wire = append(wire, "\r\n"...)
	}
	wire = append(wire, "0\r\n\r\n"...)
	buf := make([]byte, len(wire))
	var body Body
	b.SetBytes(16 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, wire)
		body.Init(FrameChunked, -1, &shipped)
		if n, _, err := body.Decode(buf); n != 16*4096 || err != nil {
			b.Fatal(n, err)
		}
	}
}

// The smallest chunked body.
func BenchmarkChunkedSmall(b *testing.B) {
	wire := []byte("b\r\nhello world\r\n0\r\n\r\n")
	buf := make([]byte, len(wire))
	var body Body
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, wire)
		body.Init(FrameChunked, -1, &shipped)
		if n, _, err := body.Decode(buf); n != 11 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkStatusLine(b *testing.B) {
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendStatusLine(buf[:0], 1, 200)
	}
}
