package accesslog

import (
	"os"
	"testing"
	"time"
)

// BenchmarkLine is the formatting alone.
func BenchmarkLine(b *testing.B) {
	p, err := compile("json")
	if err != nil {
		b.Fatal(err)
	}
	w, r, buf := line{json: true}, sample(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		r.Start = r.Start.Add(10 * time.Microsecond)
		buf = p.run(buf[:0], &w, r)
	}
}

func benchmarkAppend(b *testing.B, format string) {
	l, _ := opened(b, Config{Output: os.DevNull, Format: format, QueueSize: 1 << 30, FlushInterval: 100 * time.Millisecond})
	buf, r := l.Buffer(), sample()
	now := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		now += 10_000
		r.Start = r.Start.Add(10 * time.Microsecond)
		buf.Append(r)
		buf.Flush(now)
	}
	_ = l.Close()
}

func BenchmarkAppendJSON(b *testing.B) { benchmarkAppend(b, "json") }

func BenchmarkAppendFormat(b *testing.B) {
	benchmarkAppend(b, `%{client} - - [%{time_clf}] "%{request}" %{status} %{bytes_out} "%{referer}" "%{user_agent}" %{duration}`)
}
