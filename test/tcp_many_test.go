package test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"belay/test/harness"
)

// Connections go to clusters by weight.
func TestTCPClusters(t *testing.T) {
	t.Parallel()
	named := func(name string) string {
		return tcpServer(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, name); _, _ = io.Copy(io.Discard, c) })
	}
	addr := harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf(`
[listener.db]
address = %q
protocol = "tcp"
clusters = [{ cluster = "a", weight = 3 }, { cluster = "b" }]
[cluster.a]
%s
[cluster.b]
%s
`, addr, endpoints(named("a")), endpoints(named("b"))))
	count := make(map[string]int)
	for range 200 {
		c := dialTCP(t, addr)
		b := make([]byte, 1)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		count[string(b)]++
		_ = c.Close()
	}
	if count["a"] < 110 || count["b"] < 20 {
		t.Errorf("shares: %v", count)
	}
	if n, _ := d.Metric("belay_cluster_requests_total"); n != 200 {
		t.Errorf("%v connections counted", n)
	}
}

// A thousand connections at once, and nothing is left of them.
func TestTCPThousandConnections(t *testing.T) {
	t.Parallel()
	s := &tcpSite{endpoints: []string{tcpServer(t, echoTCP), tcpServer(t, echoTCP)}, cluster: `balance = "least_request"`}
	d := serveTCP(t, s)
	before := harness.OpenFiles(t, d.PID())
	block := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	var conns []*net.TCPConn
	for range 1000 {
		conns = append(conns, dialTCP(t, s.addr))
	}
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			exchangeAll(t, c, block[:len(block)-i])
			_ = c.CloseWrite()
			if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
				t.Errorf("at the end: %d bytes, %v", n, err)
			}
		})
	}
	wg.Wait()
	harness.Eventually(t, patience, "the connections to be gone", func() bool {
		n, _ := d.Metric("belay_listener_connections")
		return n == 0
	})
	pipes, _ := d.Metric("belay_splice_pipes")
	if now := harness.OpenFiles(t, d.PID()) - 2*int(pipes); now > before+2 {
		t.Errorf("%d descriptors before, %d after, beside %v pipes", before, now, pipes)
	}
	if n, _ := d.Metric("belay_tcp_ended_total", `reason="finished"`); n != 1000 {
		t.Errorf("%v of 1000 finished", n)
	}
}

func exchangeAll(t *testing.T, c *net.TCPConn, block []byte) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.Write(block)
	}()
	b := make([]byte, len(block))
	if _, err := io.ReadFull(c, b); err != nil || !bytes.Equal(b, block) {
		t.Errorf("not what was sent: %v", err)
	}
	<-done
}
