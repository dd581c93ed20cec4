package test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// Mixed traffic for a while: ordinary requests, uploads, clients that vanish,
// bad requests, backends that fail, logs reopened, statistics read. Nothing
// good fails and nothing grows. make soak runs it for BELAY_SOAK; make test
// for a few seconds.
func TestSoak(t *testing.T) {
	span := 4 * time.Second
	if s := os.Getenv("BELAY_SOAK"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("BELAY_SOAK: %v", err)
		}
		span = d
	}
	var served atomic.Int64
	flaky := harness.NewBackend(t, func(p *harness.Peer) {
		for {
			head := p.Head()
			if head == "" {
				return
			}
			switch served.Add(1) % 7 {
			case 0:
				return
			case 1:
				p.Reset()
				return
			}
			body, err := p.Body(head)
			if err != nil || p.Send(harness.Reply200(head+body)) != nil {
				return
			}
		}
	})
	s := &site{
		routes:    "[[listener.web.route]]\npath_prefix = \"/flaky\"\ncluster = \"flaky\"\nretry = { on = [\"reset\", \"connect-failure\"], attempts = 2 }\n",
		endpoints: []string{harness.NewEcho(t, "a").Addr, harness.NewEcho(t, "b").Addr, harness.NewEcho(t, "c").Addr},
		more:      "[cluster.flaky]\n" + endpoints(flaky.Addr) + "\n",
		tables:    "[listener.web.timeouts]\nhead = \"1s\"\nbody = \"1s\"\n",
	}
	d := serve(t, s)
	mixed(t, d, s.addr, min(span/4, 30*time.Second)) // until it has its working size
	settle(t, d)
	before, _ := harness.RSS(t, d.PID())
	files := harness.OpenFiles(t, d.PID())
	mixed(t, d, s.addr, span)
	settle(t, d)
	after, _ := harness.RSS(t, d.PID())
	t.Logf("RSS %d KiB, then %d KiB; descriptors %d, then %d", before>>10, after>>10, files, harness.OpenFiles(t, d.PID()))
	if after > before+before/4+8<<20 {
		t.Errorf("RSS grew from %d to %d KiB", before>>10, after>>10)
	}
	if n := harness.OpenFiles(t, d.PID()); n > files+16 {
		t.Errorf("descriptors grew from %d to %d", files, n)
	}
	d.Stop()
}

// settle waits until every client connection is closed.
func settle(t *testing.T, d *harness.Daemon) {
	t.Helper()
	harness.Eventually(t, patience, "no open connections", func() bool {
		n, ok := d.Metric("belay_listener_connections")
		return ok && n == 0
	})
}

// mixed runs all kinds of traffic for a span.
func mixed(t *testing.T, d *harness.Daemon, addr string, span time.Duration) {
	t.Helper()
	end := time.Now().Add(span)
	var good atomic.Int64
	var wg sync.WaitGroup
	work := func(f func(i int) error) {
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				if err := f(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	for range 4 {
		work(func(i int) error { good.Add(1); return exchange(client, "http://"+addr+"/", i%50*1000) })
	}
	work(func(int) error { // may fail, but is answered
		resp, err := client.Get("http://" + addr + "/flaky")
		if err != nil {
			return fmt.Errorf("flaky: %w", err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.Body.Close()
	})
	messages := []string{"BAD\r\n\r\n", get + "\r\n", post + "Content-Length: 1000\r\n\r\nabc", chkd + "5\r\nab", "GET / HT", get + "Host: b\r\n\r\n"}
	work(func(i int) error {
		c, err := harness.TryDial("", addr)
		if err != nil {
			return fmt.Errorf("vanishing client: %w", err)
		}
		_, _ = io.WriteString(c, messages[i%len(messages)])
		return c.Close()
	})
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	work(func(int) error {
		<-tick.C
		d.Signal(syscall.SIGUSR1)
		d.Admin("/metrics")
		return nil
	})
	wg.Wait()
	t.Logf("%d good requests", good.Load())
}

// exchange sends a body of a size and compares what comes back.
func exchange(client *http.Client, url string, size int) error {
	body := bytes.Repeat([]byte{'a' + byte(rand.IntN(26))}, size)
	resp, err := client.Post(url, "text/plain", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("exchange: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("exchange: %w", err)
	}
	if resp.StatusCode != http.StatusOK || !strings.HasSuffix(string(got), "\r\n\r\n"+string(body)) {
		return fmt.Errorf("exchange of %d bytes: status %d, %d bytes", size, resp.StatusCode, len(got))
	}
	return nil
}
