package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"belay/test/harness"
)

const hotRestart = "[hot_restart]\nprobation = \"200ms\"\nheartbeat = \"500ms\"\ncall_time = \"2s\"\n"

// clients load the daemon until their context ends; any reply that is not what
// it should be, and any connection that ends without its reply, fails the test.
type clients struct {
	t    *testing.T
	addr string
	good atomic.Int64
	bad  atomic.Int64
	wg   sync.WaitGroup
	stop context.CancelFunc
	ctx  context.Context
}

func startClients(t *testing.T, addr string, keepAlive, fresh int) *clients {
	c := &clients{t: t, addr: addr}
	c.ctx, c.stop = context.WithCancel(context.Background())
	for range keepAlive {
		c.wg.Go(func() { c.run(false) })
	}
	for range fresh {
		c.wg.Go(func() { c.run(true) })
	}
	t.Cleanup(func() { c.stop(); c.wg.Wait() })
	return c
}

// end stops the clients and returns how many requests were answered.
func (c *clients) end() int64 {
	c.t.Helper()
	c.stop()
	c.wg.Wait()
	if n := c.bad.Load(); n > 0 {
		c.t.Errorf("%d of %d requests failed", n, n+c.good.Load())
	}
	return c.good.Load()
}

func (c *clients) run(fresh bool) {
	for i := 0; c.ctx.Err() == nil; {
		conn, err := net.DialTimeout("tcp", c.addr, patience)
		if err != nil {
			c.fail(i, err)
			return
		}
		r := bufio.NewReader(conn)
		for open := true; open && c.ctx.Err() == nil; i++ {
			open, err = c.exchange(conn, r, i, fresh)
			if err != nil {
				c.fail(i, err)
				break
			}
			c.good.Add(1)
			time.Sleep(time.Millisecond) // a pace that leaves the daemon some of two CPUs
		}
		_ = conn.Close()
	}
}

func (c *clients) fail(i int, err error) {
	if c.bad.Add(1) <= 5 {
		c.t.Errorf("request %d of a client: %v", i, err)
	}
}

// exchange is one request with a body, up or down, of a size that varies.
func (c *clients) exchange(conn net.Conn, r *bufio.Reader, i int, fresh bool) (open bool, err error) {
	_ = conn.SetDeadline(time.Now().Add(patience))
	body := strings.Repeat("x", i%40*997)
	head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n", len(body))
	if fresh {
		head += "Connection: close\r\n"
	}
	if _, err = io.WriteString(conn, head+"\r\n"+body); err != nil {
		return false, fmt.Errorf("send: %w", err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return false, fmt.Errorf("head: %w", err)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, fmt.Errorf("body: %w", err)
	}
	if resp.StatusCode != http.StatusOK || !strings.HasSuffix(string(got), "\r\n\r\n"+body) {
		return false, fmt.Errorf("status %d, %d bytes for %d", resp.StatusCode, len(got), len(body))
	}
	return !resp.Close, nil
}

// Ten restarts under load, with the number of workers going up and down: nobody
// is refused or cut, and the counts of all generations add up to what the
// clients counted.
func TestHotRestartUnderLoad(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr, harness.NewEcho(t, "b").Addr}, tables: "", more: hotRestart + "[server]\nworkers = 2\n"}
	d := serve(t, s)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.Hooks())
		}
	})
	c := startClients(t, s.addr, 8, 2)
	text, err := os.ReadFile(d.Config)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		workers := []int{4, 1, 3, 2}[i%4]
		harness.WriteFile(t, d.Dir, "belay.toml", strings.Replace(string(text), "workers = 2", fmt.Sprintf("workers = %d", workers), 1))
		g := d.HotRestart()
		if g.Epoch != i+2 {
			t.Errorf("restart %d made epoch %d\n%s", i, g.Epoch, g.Output)
		}
		if _, body := d.Admin("/status"); !strings.Contains(body, fmt.Sprintf(`"pid":%d`, g.PID)) && !strings.Contains(body, fmt.Sprintf(`"pid": %d`, g.PID)) {
			t.Errorf("after restart %d another process answers: %s", i, body)
		}
	}
	good := c.end()
	harness.Eventually(t, patience, "the counts of all generations", func() bool {
		n, _ := d.Metric("belay_listener_requests_total")
		return int64(n) >= good
	})
	if n, _ := d.Metric("belay_listener_requests_total"); int64(n) != good {
		time.Sleep(time.Second) // is it more only while something passes from process to process?
		later, _ := d.Metric("belay_listener_requests_total")
		t.Errorf("%v requests counted, %v a second later, the clients had %d answers", n, later, good)
	}
	t.Logf("%d requests, 10 restarts", good)
}
