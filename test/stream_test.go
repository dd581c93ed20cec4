package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"belay/test/harness"
)

const (
	gib  = 1 << 30
	room = 24 << 20 // what the daemon may grow by while it streams: buffers, a heap of 4 MiB and its collector
)

// generator is a backend that sends and takes bodies of any size: GET /n is
// answered with n bytes, anything else with the count of bytes it took. sent
// counts what the kernel has taken from it.
func generator(t *testing.T, sent *atomic.Int64) *harness.Backend {
	chunk := []byte(strings.Repeat("0123456789abcdef", 4096))
	return harness.NewBackend(t, func(p *harness.Peer) {
		for {
			head := p.Head()
			if head == "" {
				return
			}
			if !strings.HasPrefix(head, "GET ") {
				n, _ := strconv.ParseInt(harness.Field(head, "Content-Length"), 10, 64)
				got, err := io.CopyN(io.Discard, p.R, n)
				if err != nil {
					return
				}
				if p.Send(harness.Reply200(strconv.FormatInt(got, 10))) != nil {
					return
				}
				continue
			}
			n, _ := strconv.ParseInt(strings.Fields(head)[1][1:], 10, 64)
			if p.Send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)) != nil {
				return
			}
			for n > 0 {
				m, err := p.Write(chunk[:min(n, int64(len(chunk)))])
				sent.Add(int64(m))
				if err != nil {
					return
				}
				n -= int64(m)
			}
		}
	})
}

// 1 GiB passes in either direction while the daemon's memory stays where it was.
func TestStreamsAGibibyteInBoundedMemory(t *testing.T) {
	var sent atomic.Int64
	s := &site{endpoints: []string{generator(t, &sent).Addr}}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	c.Do("GET", "/1000", "a")
	base, _ := harness.RSS(t, d.PID())

	_ = c.SetDeadline(time.Now().Add(time.Minute))
	start := time.Now()
	c.Send(harness.Request("GET", "/"+strconv.Itoa(gib), "a"))
	for c.ReadLine() != "\r\n" {
	}
	if n, err := c.Discard(gib); err != nil {
		t.Fatalf("download ended after %d bytes: %v", n, err)
	}
	down := time.Since(start)

	start = time.Now()
	c.Send(harness.Request("POST", "/", "a", "Content-Length: "+strconv.Itoa(gib)))
	chunk := []byte(strings.Repeat("x", 1<<16))
	for range gib / len(chunk) {
		if _, err := c.Write(chunk); err != nil {
			t.Fatalf("upload: %v", err)
		}
	}
	if r := c.Reply("POST"); r.Body != strconv.Itoa(gib) {
		t.Errorf("the backend took %s bytes", r.Body)
	}
	up := time.Since(start)

	_, peak := harness.RSS(t, d.PID())
	t.Logf("1 GiB down in %v, up in %v; RSS %d KiB before, %d KiB at most", down.Round(time.Millisecond), up.Round(time.Millisecond), base>>10, peak>>10)
	if peak > base+room {
		t.Errorf("RSS grew from %d to %d MiB", base>>20, peak>>20)
	}
}

// Readers at a byte a second hold no more than any other: the backend is
// stopped when the buffers are full, and the daemon does not grow.
func TestSlowReadersHoldNoMore(t *testing.T) {
	var sent atomic.Int64
	s := &site{endpoints: []string{generator(t, &sent).Addr}}
	d := serve(t, s)
	harness.Dial(t, s.addr).Do("GET", "/1000", "a")
	base, _ := harness.RSS(t, d.PID())
	const readers = 20
	var conns []*harness.Conn
	for range readers {
		c := harness.Dial(t, s.addr).Send(harness.Request("GET", "/"+strconv.Itoa(gib), "a"))
		conns = append(conns, c)
	}
	var before int64
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 3 {
		<-tick.C
		before = sent.Load()
		for _, c := range conns {
			c.ReadN(1)
		}
	}
	<-tick.C
	if after := sent.Load(); after-before > readers*(1<<20) {
		t.Errorf("the backend went on sending: %d MiB in a second", (after-before)>>20)
	}
	_, peak := harness.RSS(t, d.PID())
	t.Logf("%d slow readers: RSS %d KiB before, %d KiB at most; %d KiB left the backend (kernel buffers hold them)", readers, base>>10, peak>>10, sent.Load()>>10)
	if peak > base+room {
		t.Errorf("RSS grew from %d to %d MiB", base>>20, peak>>20)
	}
	wantStatus(t, harness.Get(t, s.addr, "/10", "a"), 200)
}

// A backend that does not read stops its client: the upload is not swallowed.
func TestSlowBackendStopsTheUpload(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	b := harness.NewBackend(t, func(p *harness.Peer) { p.Head(); <-hold })
	s := &site{endpoints: []string{b.Addr}}
	d := serve(t, s)
	wait, _ := harness.RSS(t, d.PID())
	c := harness.Dial(t, s.addr).Send(harness.Request("POST", "/", "a", "Content-Length: "+strconv.Itoa(gib)))
	chunk := []byte(strings.Repeat("x", 1<<16))
	total := 0
	for {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := c.Write(chunk)
		total += n
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
				t.Fatalf("upload: %v", err)
			}
			break
		}
		if total > 256<<20 {
			t.Fatal("256 MiB were taken for a backend that reads nothing")
		}
	}
	if now, _ := harness.RSS(t, d.PID()); now > wait+room {
		t.Errorf("RSS grew from %d to %d MiB", wait>>20, now>>20)
	}
}

// Chunked bodies without a length stream both ways at once.
func TestStreamsBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t, func(p *harness.Peer) {
		head := p.Head()
		if head == "" {
			return
		}
		_ = p.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		buf := make([]byte, 4096)
		for {
			n, err := p.R.Read(buf)
			if err != nil {
				return
			}
			if p.Send(fmt.Sprintf("%x\r\n%s\r\n", n, buf[:n])) != nil {
				return
			}
			if strings.HasSuffix(string(buf[:n]), "0\r\n\r\n") {
				_ = p.Send("0\r\n\r\n")
				return
			}
		}
	})
	s := &site{endpoints: []string{b.Addr}}
	serve(t, s)
	c := harness.Dial(t, s.addr).Send(chkd)
	for c.ReadLine() != "\r\n" {
	}
	for i := range 20 {
		word := fmt.Sprintf("ping-%02d", i)
		c.Send(fmt.Sprintf("%x\r\n%s\r\n", len(word), word))
		for !strings.Contains(c.ReadLine(), word) { // the backend sends what it reads: framing and all
		}
	}
	c.Send("0\r\n\r\n")
	if data, _ := c.Rest(); !strings.HasSuffix(data, "0\r\n\r\n") && !strings.Contains(data, "\r\n0\r\n\r\n") {
		t.Errorf("the reply does not end: %q", data)
	}
}
