package test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// At most two reads and two writes for a small request on kept connections.
func TestSystemCallsPerRequest(t *testing.T) {
	harness.Need(t, "strace")
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}, more: oneWorker + "[access_log]\n"}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	for range 20 {
		c.ExpectOpen("/", "a")
	}
	const calls = "read,readv,recvfrom,recvmsg,recvmmsg,write,writev,sendto,sendmsg,sendmmsg,splice"
	trace := harness.TempDir(t) + "/trace"
	cmd := exec.Command("strace", "-f", "-p", strconv.Itoa(d.PID()), "-e", "trace="+calls, "-o", trace)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(stderr)
	line, err := in.ReadString('\n')
	if err != nil || !strings.Contains(line, "attached") {
		_ = cmd.Wait()
		t.Skipf("strace cannot attach here: %q", line)
	}
	go func() { _, _ = io.Copy(io.Discard, in) }()
	const n = 200
	for range n {
		c.ExpectOpen("/", "a")
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait()

	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var reads, writes int
	for line := range strings.Lines(string(data)) {
		name := regexp.MustCompile(`^\d+ +(\w+)\(`).FindStringSubmatch(line)
		switch {
		case name == nil: // "resumed", signals
		case strings.HasPrefix(name[1], "re"):
			reads++
		default:
			writes++
		}
	}
	t.Logf("%.2f reads and %.2f writes a request", float64(reads)/n, float64(writes)/n)
	if reads < 2*n || writes < 2*n {
		t.Errorf("%d reads and %d writes for %d requests: not everything was seen", reads, writes, n)
	}
	if reads > 2*n+5 || writes > 2*n+5 {
		t.Errorf("%d reads and %d writes for %d requests, want at most two of each", reads, writes, n)
	}
}

// Start to ready with 1000 clusters of 10 endpoints and 10 000 hosts. The mark
// is 300 ms on a quiet machine; the bound here is for a busy one.
func TestStartWithAThousandClusters(t *testing.T) {
	var b strings.Builder
	addr := harness.Addr(t)
	fmt.Fprintf(&b, "[listener.web]\naddress = %q\n", addr)
	for c := range 1000 {
		b.WriteString("[[listener.web.route]]\nhosts = [")
		for h := range 10 {
			fmt.Fprintf(&b, "\"h%d.c%d.example.com\", ", h, c)
		}
		fmt.Fprintf(&b, "]\ncluster = \"c%d\"\n", c)
	}
	echo := harness.NewEcho(t, "a")
	for c := range 1000 {
		fmt.Fprintf(&b, "[cluster.c%d]\nendpoints = [\n", c)
		for e := range 10 {
			a := fmt.Sprintf("10.%d.%d.%d:80", c>>8, c&255, e)
			if c == 999 {
				a = echo.Addr
			}
			fmt.Fprintf(&b, "  { id = \"e%d\", address = %q },\n", e, a)
		}
		b.WriteString("]\n")
	}
	best := time.Hour
	for range 3 {
		d := harness.Start(t, b.String())
		best = min(best, d.ReadyIn)
		wantStatus(t, harness.Get(t, addr, "/", "h7.c999.example.com"), 200)
		d.Stop()
	}
	t.Logf("ready in %v", best.Round(time.Millisecond))
	if best > time.Second {
		t.Errorf("ready in %v, the mark is 300ms", best)
	}
}

// An idle keep-alive connection is cheap. The mark of 600 bytes is measured by
// make bench; this guards against keeping a buffer.
func TestIdleConnectionsHoldNoBuffers(t *testing.T) {
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}}
	d := serve(t, s)
	const n = 3000
	touch := func(conn io.Writer, c *harness.Conn) {
		c.ExpectOpen("/", "a")
	}
	for _, c := range crowd(t, s.addr, 500) { // the heap has its size before the count begins
		touch(c, harness.Wrap(t, c))
	}
	before, _ := harness.RSS(t, d.PID())
	for _, c := range crowd(t, s.addr, n) {
		touch(c, harness.Wrap(t, c))
	}
	after, _ := harness.RSS(t, d.PID())
	each := (after - before) / n
	t.Logf("%d bytes of RSS a connection", each)
	if each > 2048 {
		t.Errorf("%d bytes of RSS an idle connection", each)
	}
}
