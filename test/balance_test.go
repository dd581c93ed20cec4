package test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"belay/test/harness"

	"github.com/miekg/dns"
)

const (
	patience  = 10 * time.Second
	oneWorker = "[server]\nworkers = 1\n"
)

// spread does n requests on one connection and counts the backends that answered.
func spread(t *testing.T, addr string, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	c := harness.Dial(t, addr)
	for range n {
		r := c.Do("GET", "/", "a")
		wantStatus(t, r, 200)
		got[r.Header.Get("X-Backend")]++
	}
	return got
}

// round_robin is smooth weighted: exact over a cycle, and no endpoint gets its
// share in one piece.
func TestRoundRobinIsSmoothAndWeighted(t *testing.T) {
	t.Parallel()
	s := &site{more: oneWorker, endpoints: []string{
		harness.NewEcho(t, "a").Addr + "*5", harness.NewEcho(t, "b").Addr + "*1", harness.NewEcho(t, "c").Addr + "*1", harness.NewEcho(t, "none").Addr + "*0",
	}}
	serve(t, s)
	if got := spread(t, s.addr, 70); got["a"] != 50 || got["b"] != 10 || got["c"] != 10 {
		t.Errorf("spread %v", got)
	}
	c := harness.Dial(t, s.addr)
	var order strings.Builder
	for range 14 {
		order.WriteString(c.Do("GET", "/", "a").Header.Get("X-Backend"))
	}
	if strings.Contains(order.String(), "aaaaa") {
		t.Errorf("order %s is not smooth", &order)
	}
}

// random follows the weights.
func TestRandomSpread(t *testing.T) {
	t.Parallel()
	s := &site{cluster: `balance = "random"`, endpoints: []string{
		harness.NewEcho(t, "a").Addr + "*3", harness.NewEcho(t, "b").Addr,
	}}
	serve(t, s)
	if got := spread(t, s.addr, 1000); got["a"] < 650 || got["a"] > 850 {
		t.Errorf("spread %v, want about 750 to 250", got)
	}
}

// least_request sends fewer requests to an endpoint that is slow.
func TestLeastRequestAvoidsTheSlow(t *testing.T) {
	t.Parallel()
	slow := harness.NewBackend(t, func(p *harness.Peer) {
		for p.Head() != "" {
			time.Sleep(30 * time.Millisecond) // what makes it slow
			if p.Send(harness.Reply200("", "X-Backend: slow")) != nil {
				return
			}
		}
	})
	s := &site{cluster: `balance = "least_request"`, more: oneWorker, endpoints: []string{slow.Addr, harness.NewEcho(t, "fast").Addr}}
	serve(t, s)
	var mu sync.Mutex
	total := map[string]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got := spread(t, s.addr, 50)
			mu.Lock()
			defer mu.Unlock()
			for k, v := range got {
				total[k] += v
			}
		})
	}
	wg.Wait()
	if total["slow"]*3 > total["fast"] {
		t.Errorf("spread %v", total)
	}
}

// Weighted clusters per route.
func TestWeightedClusters(t *testing.T) {
	t.Parallel()
	addr := harness.Addr(t)
	harness.Start(t, fmt.Sprintf(`
[listener.web]
address = %q
[[listener.web.route]]
clusters = [{ cluster = "old", weight = 9 }, { cluster = "new", weight = 1 }, { cluster = "off", weight = 0 }]
[cluster.old]
%s
[cluster.new]
%s
[cluster.off]
%s
`, addr, endpoints(harness.NewEcho(t, "old").Addr), endpoints(harness.NewEcho(t, "new").Addr), endpoints(harness.NewEcho(t, "off").Addr)))
	got := spread(t, addr, 1000)
	if got["new"] < 50 || got["new"] > 160 || got["off"] != 0 {
		t.Errorf("spread %v, want about 900 to 100", got)
	}
}

// Unix sockets on both sides; the listener's file has its mode, a stale file
// is replaced and the file goes when belay stops.
func TestUnixSockets(t *testing.T) {
	t.Parallel()
	dir := harness.TempDir(t)
	b := harness.NewBackendAt(t, dir+"/back.sock", harness.Echo("unix"))
	path := dir + "/front.sock"
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = stale.Close()
	s := &site{addr: "unix:" + path, listener: `unix_mode = "0600"`, endpoints: []string{b.Addr}}
	d := serve(t, s)
	r := harness.Get(t, path, "/", "a")
	if r.Header.Get("X-Backend") != "unix" {
		t.Errorf("reply %+v", r)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", st, err)
	}
	d.Stop()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket file is still there")
	}
}

// IPv6, and [::] for both families with IPv4 clients shown as IPv4.
func TestBothFamilies(t *testing.T) {
	t.Parallel()
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 on this machine")
	} else {
		_ = l.Close()
	}
	back := harness.NewBackendAt(t, harness.AddrOn(t, "::1"), harness.Echo("six"))
	s := &site{addr: harness.AddrOn(t, "::"), endpoints: []string{back.Addr}}
	d := serve(t, s)
	port := harness.Port(t, s.addr)
	r := harness.Get(t, fmt.Sprintf("127.0.0.1:%d", port), "/four", "a")
	want(t, r.Body, "X-Forwarded-For: 127.0.0.1\r\n")
	if rec := d.WaitPath("/four"); rec.Str("client") != "127.0.0.1" {
		t.Errorf("record %v", rec)
	}
	want(t, harness.Get(t, fmt.Sprintf("[::1]:%d", port), "/six", "a").Body, "X-Forwarded-For: ::1\r\n")
}

// Names are resolved in the background with their TTL, and the last good
// answer is kept when the name server fails.
func TestNamesAreResolved(t *testing.T) {
	t.Parallel()
	server := harness.NewDNS(t)
	one := harness.NewEcho(t, "one")
	_, port, _ := net.SplitHostPort(one.Addr)
	other := harness.Loopback().As4()
	other[1] ^= 64
	second := netip.AddrFrom4(other).String()
	harness.NewBackendAt(t, net.JoinHostPort(second, port), harness.Echo("two"))
	server.Set("back.example", harness.Loopback().String())
	s := &site{
		endpoints: []string{"back.example:" + port},
		more:      fmt.Sprintf("[server]\nworkers = 2\ndns_servers = [%q]\ndns_min_ttl = \"100ms\"\ndns_timeout = \"500ms\"\n", server.Addr),
	}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	name := func() string { return c.Do("GET", "/", "a").Header.Get("X-Backend") }
	if got := name(); got != "one" {
		t.Fatalf("first answer leads to %q", got)
	}
	server.Set("back.example", second)
	harness.Eventually(t, patience, "the new address is used", func() bool { return name() == "two" })

	server.Fail(dns.RcodeServerFailure)
	asked := server.Queries()
	harness.Eventually(t, patience, "questions after the failure", func() bool { return server.Queries() >= asked+6 })
	if got := name(); got != "two" {
		t.Errorf("after failure %q", got)
	}
	if n := d.CountLines("back.example"); n > 4 {
		t.Errorf("a failing name fills the log: %d lines", n)
	}
	server.Fail(0)
	server.Set("back.example", harness.Loopback().String())
	harness.Eventually(t, patience, "recovery", func() bool { return name() == "one" })
}

// A name that never resolved: belay starts all the same and answers 503 at once.
func TestNameThatDoesNotResolve(t *testing.T) {
	t.Parallel()
	server := harness.NewDNS(t)
	s := &site{
		endpoints: []string{"missing.example:80"},
		more:      fmt.Sprintf("[server]\nworkers = 1\ndns_servers = [%q]\ndns_min_ttl = \"100ms\"\n", server.Addr),
	}
	d := serve(t, s)
	start := time.Now()
	wantStatus(t, harness.Get(t, s.addr, "/", "a"), 503)
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("503 took %v", took)
	}
	if r := d.WaitPath("/"); r.Str("reason") == "" {
		t.Errorf("record %v", r)
	}
}

// /etc/hosts is honoured: localhost needs no name server.
func TestNamesOfTheHostsFile(t *testing.T) {
	t.Parallel()
	addr := harness.AddrOn(t, "127.0.0.1")
	harness.NewBackendAt(t, addr, harness.Echo("local"))
	s := &site{
		endpoints: []string{fmt.Sprintf("localhost:%d", harness.Port(t, addr))},
		more:      fmt.Sprintf("[server]\nworkers = 1\ndns_servers = [%q]\n", harness.Refusing(t)),
	}
	serve(t, s)
	// localhost may be ::1 as well, where nobody listens.
	c := harness.Dial(t, s.addr)
	harness.Eventually(t, patience, "localhost answers", func() bool { return c.Do("GET", "/", "a").Header.Get("X-Backend") == "local" })
}

// No endpoint that can take a request: 503 at once.
func TestNoEndpoint(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr + "*0"}}
	d := serve(t, s)
	wantStatus(t, harness.Get(t, s.addr, "/", "a"), 503)
	want(t, d.WaitPath("/").Str("reason"), "endpoint")
}
