package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"

	"belay/internal/config"
)

const (
	allocRequest = "GET /some/path?x=1 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: test/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\n\r\n"
	allocReply   = "HTTP/1.1 200 OK\r\nServer: test\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
)

// exchange is one proxied request over a running server, without allocating.
type exchange struct {
	client  net.Conn
	message []byte
	buf     []byte
}

// startForExchange runs a whole server between a client's and a backend's
// connection. Access log lines go to a file if log is set; tables are added to the
// configuration.
func startForExchange(tb testing.TB, log, tables string) *exchange {
	tb.Helper()
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { backend.Close() })
	go func() {
		for {
			c, err := backend.Accept()
			if err != nil {
				return
			}
			go answer(c)
		}
	}()
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr := front.Addr().String()
	front.Close()
	cfg, err := config.Parse("test.toml", fmt.Appendf(nil, `
[server]
workers = 1
[admin]
socket = "none"
[access_log]
output = %q
[listener.web]
address = %q
[[listener.web.route]]
hosts = ["*.example.com"]
path_prefix = "/some"
cluster = "back"
request_headers = { set = { X-Static = "yes" } }
[cluster.back]
balance = "least_request"
endpoints = [{ id = "a", address = %q }]
%s
`, log, addr, backend.Addr(), tables))
	if err != nil {
		tb.Fatal(err)
	}
	s := newServer(cfg, "test", nil)
	err = s.build()
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.start(ctx); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.stop(nil); cancel(); s.end() })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return &exchange{client: c, message: []byte(allocRequest), buf: make([]byte, 4096)}
}

// answer replies to every head it reads.
func answer(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 4096)
	reply := []byte(allocReply)
	n := 0
	for {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		if n += m; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			n = 0
			if _, err := c.Write(reply); err != nil {
				return
			}
		}
	}
}

// keep has the requests that follow bring the cookie that the first reply sets.
func (x *exchange) keep(tb testing.TB) {
	x.once(tb)
	_, cookie, ok := bytes.Cut(x.buf, []byte("Set-Cookie: "))
	cookie, _, _ = bytes.Cut(cookie, []byte(";"))
	if !ok {
		tb.Fatalf("no cookie in %q", x.buf)
	}
	x.message = bytes.Replace(x.message, []byte("Cookie: a=b"), append([]byte("Cookie: a=b; "), cookie...), 1)
}

func (x *exchange) once(tb testing.TB) {
	if _, err := x.client.Write(x.message); err != nil {
		tb.Fatal(err)
	}
	for n := 0; ; {
		m, err := x.client.Read(x.buf[n:])
		if err != nil && err != io.EOF {
			tb.Fatal(err)
		}
		if n += m; bytes.HasSuffix(x.buf[:n], []byte("\r\n\r\nhello")) {
			return
		}
	}
}

// TestNoAllocationPerRequest counts what the whole process allocates, clients
// and backend included, over many requests in steady state.
func TestNoAllocationPerRequest(t *testing.T) {
	for _, tt := range []struct{ log, tables string }{{"none", ""}, {t.TempDir() + "/access.log", ""}, {"none", persistentTables}, {t.TempDir() + "/access.log", persistentTables}} {
		log := tt.log
		x := startForExchange(t, log, tt.tables)
		if tt.tables != "" {
			x.keep(t)
		}
		const n = 5000
		for range n {
			x.once(t)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range n {
			x.once(t)
		}
		runtime.ReadMemStats(&after)
		if per := float64(after.Mallocs-before.Mallocs) / n; per > 0.02 {
			t.Errorf("access log %s: %.3f allocations per request", log, per)
		}
	}
}

func BenchmarkProxiedRequest(b *testing.B) {
	for name, tables := range map[string]string{"plain": "", "cookie": persistentTables} {
		b.Run(name, func(b *testing.B) {
			x := startForExchange(b, "none", tables)
			if tables != "" {
				x.keep(b)
			}
			for range 1000 {
				x.once(b)
			}
			b.ReportAllocs()
			for b.Loop() {
				x.once(b)
			}
		})
	}
}

// persistentTables have the session in a cookie and watch the endpoint's replies.
const persistentTables = `
[cluster.back.persistence.cookie]
name = "belay"
[cluster.back.outlier]
failure_percent = 50
`
