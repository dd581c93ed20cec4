package traffic

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Backend answers what clients ask. It is what they compare with, so it counts
// as well: in a clean run it has seen each request once.
type Backend struct {
	server *http.Server
	addrs  []string
	wg     sync.WaitGroup

	requests    atomic.Int64
	connections atomic.Int64
}

// Seen is what a backend has counted.
type Seen struct {
	Requests    int64
	Connections int64 // accepted
}

// StartBackend listens on addresses, "ip:port" or paths of Unix sockets.
func StartBackend(addrs ...string) (*Backend, error) {
	b := &Backend{}
	b.server = &http.Server{
		Handler: http.HandlerFunc(b.serve),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				b.connections.Add(1)
			}
		},
	}
	for _, addr := range addrs {
		network := "tcp"
		if strings.Contains(addr, "/") {
			network = "unix"
			_ = os.Remove(addr)
		}
		ln, err := net.Listen(network, addr)
		if err != nil {
			b.Close()
			return nil, fmt.Errorf("backend: %w", err)
		}
		b.addrs = append(b.addrs, ln.Addr().String())
		b.wg.Go(func() { _ = b.server.Serve(ln) })
	}
	return b, nil
}

// Close ends all connections and listeners; upgraded connections live on until
// their clients leave.
func (b *Backend) Close() {
	_ = b.server.Close()
	b.wg.Wait()
}

// Seen is what has been counted so far.
func (b *Backend) Seen() Seen { return Seen{b.requests.Load(), b.connections.Load()} }

func (b *Backend) serve(w http.ResponseWriter, r *http.Request) {
	b.requests.Add(1)
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch path[0] {
	case "up":
		sum := crc32.NewIEEE()
		n, err := io.Copy(sum, r.Body)
		if err == nil {
			_, _ = fmt.Fprintf(w, "%s %d %08x %s\n", r.Method, n, sum.Sum32(), r.RequestURI)
		}
	case "down":
		start, size := number(path, 1), number(path, 2)
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = w.Write(pattern(start, size))
	case "slow":
		drip(w, number(path, 1))
	case "upgrade":
		echo(w)
	default:
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			_, _ = fmt.Fprintf(w, "%s %d %s\n", r.Method, n, r.RequestURI)
		}
	}
}

func number(path []string, i int) int {
	if i >= len(path) {
		return 0
	}
	n, _ := strconv.Atoi(path[i])
	return max(n, 0)
}

// drip sends pieces one by one.
func drip(w http.ResponseWriter, pieces int) {
	out := http.NewResponseController(w)
	tick := time.NewTicker(dripEvery)
	defer tick.Stop()
	for i := range pieces {
		if _, err := io.WriteString(w, piece(i)); err != nil || out.Flush() != nil {
			return
		}
		<-tick.C
	}
}

func piece(i int) string { return fmt.Sprintf("piece %d\n", i) }

// echo sends lines back until one of them says bye.
func echo(w http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n")
	for err == nil {
		var line string
		if line, err = rw.ReadString('\n'); err == nil {
			_, err = io.WriteString(conn, line)
		}
		if line == bye {
			return
		}
	}
}

// patternSize is the period of the bytes bodies are made of: a prime, so that
// it fits into no buffer.
const patternSize = 65521

// patternBytes is two periods, so that one write is one slice.
var patternBytes = sync.OnceValue(func() []byte {
	b := make([]byte, 0, 2*patternSize)
	x := uint32(2463534242)
	for range patternSize {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b = append(b, byte(x))
	}
	return append(b, b...)
})

// pattern is size bytes that depend on where they start.
func pattern(start, size int) []byte {
	from := patternBytes()[start%patternSize:]
	return bytes.Repeat(from[:patternSize], size/patternSize+1)[:size]
}

// chunks cuts b into parts of at most n bytes.
func chunks(b []byte, n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			part := b[:min(n, len(b))]
			if !yield(part) {
				return
			}
			b = b[len(part):]
		}
	}
}
