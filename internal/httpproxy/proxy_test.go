package httpproxy

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/listener"
	"belay/internal/stats"
	"belay/internal/transport"
	"belay/internal/upstream"
)

// patience bounds every wait; only a failing test uses it up.
const patience = 10 * time.Second

// proxy is one worker with one listener, before one endpoint.
type proxy struct {
	loop  *eventloop.Worker
	w     *Worker
	shard *stats.Shard
	plan  *Plan
	acc   *listener.Acceptor
	addr  string
	tls   upstream.TLSStats // for a test that gives the cluster TLS
}

var hosts atomic.Uint32

// free is an address of 127/8 that no other test uses.
func free() netip.AddrPort {
	pid, n := os.Getpid(), hosts.Add(1)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 77, byte(pid >> 8), byte(1 + pid%250)}), uint16(20000+n))
}

// startProxy runs a proxy before backend. Its paths under /own it answers itself;
// tables are added to the configuration of its listener.
func startProxy(t *testing.T, backend http.HandlerFunc, tables string) *proxy {
	t.Helper()
	return proxyBefore(t, httptest.NewServer(backend), tables)
}

// proxyBefore is startProxy before a server that runs.
func proxyBefore(t *testing.T, server *httptest.Server, tables string) *proxy {
	t.Helper()
	t.Cleanup(server.Close)
	cfg, err := config.Parse("test.toml", fmt.Appendf(nil, `
[listener.web]
address = %q
[[listener.web.route]]
path_prefix = "/own"
respond = { status = 200, body = "own" }
[[listener.web.route]]
path_prefix = "/back"
cluster = "back"
[cluster.back]
endpoints = [{ id = "a", address = %q }]
%s`, free(), server.Listener.Addr(), tables))
	if err != nil {
		t.Fatal(err)
	}
	registry := stats.NewRegistry()
	clusters := []*Cluster{NewCluster(cluster.New(cfg.Clusters[0]), 0, registry)}
	p := &proxy{addr: cfg.Listeners[0].Address.String()}
	if p.plan, err = NewPlan(cfg.Listeners[0], map[string]int{"back": 0}, registry); err != nil {
		t.Fatal(err)
	}
	l, err := listener.Open(cfg.Listeners[0], 1, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if err := l.Listen(); err != nil {
		t.Fatal(err)
	}
	if p.loop, err = eventloop.New(eventloop.Options{}); err != nil {
		t.Fatal(err)
	}
	p.tls = upstream.NewTLSStats(registry, "back")
	p.shard = registry.NewShard()
	p.w = NewWorker(&upstream.Env{Loop: p.loop, Shard: p.shard, Poke: func(*cluster.Endpoint) {}}, slog.New(slog.DiscardHandler), nil, clusters, nil)
	door := listener.NewDoor(p.loop, p.shard, transport.NewHandshakes(p.loop, 0), &listener.DoorLimits{}, slog.New(slog.DiscardHandler), nil)
	deliver := func(c listener.Client) { p.w.Serve(p.acc, p.plan, c) }
	p.acc = listener.NewAcceptor(l, l.For(0, 1), p.loop, p.shard, p.plan.Stats.Accept, &listener.Limit{Max: 1000}, slog.New(slog.DiscardHandler),
		func(fd int, peer netip.AddrPort) { door.Serve(p.acc, nil, fd, peer, deliver) })
	p.run(t)
	return p
}

// run starts the loop and has it end with the test, when no connection is left.
func (p *proxy) run(t *testing.T) {
	ended := make(chan error, 1)
	go func() { ended <- p.loop.Run() }()
	t.Cleanup(func() {
		p.do(func() {
			p.acc.Stop()
			p.w.Abort()
			if n := p.shard.GaugeValue(p.plan.Stats.Active); n != 0 || p.w.Connections() != 0 {
				t.Errorf("left behind: %d connections, gauge %d", p.w.Connections(), n)
			}
		})
		p.loop.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	p.do(func() {
		if err := p.acc.Start(); err != nil {
			t.Error(err)
		}
	})
}

// do calls f on the worker and waits for it.
func (p *proxy) do(f func()) {
	done := make(chan struct{})
	p.loop.Post(func() {
		defer close(done)
		f()
	})
	<-done
}

// until asks on the worker, turn by turn, until the answer is yes.
func (p *proxy) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end, yes := time.Now().Add(patience), false; ; runtime.Gosched() {
		if p.do(func() { yes = cond() }); yes {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// silentClosed is how many silent connections the drain has closed.
func (p *proxy) silentClosed() (n uint64) {
	p.do(func() { n = p.shard.Value(p.plan.Stats.DrainClosed) })
	return n
}

// client is one connection to a proxy.
type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (p *proxy) dial(t *testing.T) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * patience))
	return &client{Conn: conn, t: t, r: bufio.NewReader(conn)}
}

func (c *client) send(request string) {
	c.t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		c.t.Fatal(err)
	}
}

// reply is the next reply with its body.
func (c *client) reply(method string) (*http.Response, string) {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return r, string(body)
}

// ask asks for a path and wants the reply to announce the end, or not to; the
// announced end must come.
func (c *client) ask(path string, last bool) {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
	r, _ := c.reply("GET")
	if r.Close != last {
		c.t.Errorf("%s: announces the end: %t, want %t", path, r.Close, last)
	}
	if last {
		c.ended()
	}
}

// ended waits for the end of the connection.
func (c *client) ended() {
	c.t.Helper()
	if b, err := io.ReadAll(c.r); len(b) > 0 || err != nil {
		c.t.Errorf("read %q, %v; want the end", b, err)
	}
}

// plain answers with a short text.
func plain(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "plain") }

func request(method, path, proto string, fields ...string) string {
	return method + " " + path + " " + proto + "\r\nHost: a\r\n" + strings.Join(append(fields, "", ""), "\r\n")
}
