package tcpproxy

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
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

// proxy is one worker with one listener, before one endpoint on a Unix socket, so
// that a connect is done at once.
type proxy struct {
	loop  *eventloop.Worker
	w     *Worker
	serve func(fd int)
	shard *stats.Shard
	plan  *Plan
	acc   *listener.Acceptor
	path  string
	tls   upstream.TLSStats // for a test that gives the cluster TLS
}

func startProxy(t testing.TB, endpoint string, pipes int) *proxy {
	t.Helper()
	dir := t.TempDir()
	p := &proxy{path: dir + "/front.sock"}
	cfg, err := config.Parse("test.toml", fmt.Appendf(nil, `
[listener.db]
address = "unix:%s"
protocol = "tcp"
cluster = "back"
[cluster.back]
endpoints = [{ id = "a", address = %q }]
`, p.path, endpoint))
	if err != nil {
		t.Fatal(err)
	}
	r := stats.NewRegistry()
	clusters := []*Cluster{NewCluster(cluster.New(cfg.Clusters[0]), 0, r)}
	if p.plan, err = NewPlan(cfg.Listeners[0], map[string]int{"back": 0}, r); err != nil {
		t.Fatal(err)
	}
	st := NewStats(r)
	p.tls = upstream.NewTLSStats(r, "back")
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
	p.shard = r.NewShard()
	log := slog.New(slog.DiscardHandler)
	p.w = NewWorker(&upstream.Env{Loop: p.loop, Shard: p.shard, Poke: func(*cluster.Endpoint) {}}, Options{Log: log, Clusters: clusters, Pipes: pipes, PipeSize: 64 << 10, Stats: st})
	door := listener.NewDoor(p.loop, p.shard, transport.NewHandshakes(p.loop, 0), &listener.DoorLimits{}, slog.New(slog.DiscardHandler), nil)
	deliver := func(c listener.Client) { p.w.Serve(p.acc, p.plan, c) }
	p.serve = func(fd int) { door.Serve(p.acc, nil, fd, netip.AddrPort{}, deliver) }
	p.acc = listener.NewAcceptor(l, l.For(0, 1), p.loop, p.shard, p.plan.Stats.Accept, &listener.Limit{Max: 10000}, log,
		func(fd int, peer netip.AddrPort) { door.Serve(p.acc, nil, fd, peer, deliver) })
	p.run(t, st)
	return p
}

// run starts the loop and has it end with the test; nothing may be left behind.
func (p *proxy) run(t testing.TB, st Stats) {
	ended := make(chan error, 1)
	go func() { ended <- p.loop.Run() }()
	t.Cleanup(func() {
		p.do(func() {
			p.acc.Stop()
			p.w.Abort()
			inUse, _ := p.loop.BufferStats()
			open, free := p.shard.GaugeValue(st.Open), len(p.w.pipes.free)
			if n := p.shard.GaugeValue(p.plan.Stats.Active); n != 0 || p.w.Connections() != 0 || inUse != 0 || int(open) != free || p.w.pipes.open != free {
				t.Errorf("left behind: %d connections, gauge %d, %d bytes of buffers, %d pipes of which %d are free", p.w.Connections(), n, inUse, open, free)
			}
			for _, x := range p.w.pipes.free {
				x.Close()
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

func (p *proxy) do(f func()) {
	done := make(chan struct{})
	p.loop.Post(func() { defer close(done); f() })
	<-done
}

// backend serves each connection by f.
func backend(t testing.TB, f func(*net.UnixConn)) string {
	t.Helper()
	path := t.TempDir() + "/back.sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if f == nil {
		return "unix:" + path // connections stay in the queue
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { f(c.(*net.UnixConn)); _ = c.Close() }()
		}
	}()
	return "unix:" + path
}

func echo(c *net.UnixConn) { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }

// TestRelayUnix: many connections with all sizes, ends in every order, spliced and
// copied, with fewer pipes than connections.
func TestRelayUnix(t *testing.T) {
	for _, pipes := range []int{0, 2} {
		t.Run(fmt.Sprintf("pipes=%d", pipes), func(t *testing.T) {
			p := startProxy(t, backend(t, echo), pipes)
			var wg sync.WaitGroup
			for i := range 40 {
				wg.Go(func() { roundTrip(t, p.path, i*100_000+1, i%4 == 3) })
			}
			wg.Wait()
		})
	}
}

// roundTrip sends n bytes and expects them back; or leaves in the middle.
func roundTrip(t *testing.T, path string, n int, leave bool) {
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	sent := bytes.Repeat([]byte("0123456789"), n/10+1)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.UnixConn).CloseWrite()
	}()
	if leave {
		_, _ = io.CopyN(io.Discard, c, int64(n/2))
		return
	}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d: %v", len(got), len(sent), err)
	}
}

// pair is a socket for Serve and its other end.
func pair(t testing.TB, dir string) func() (ours int, peer int) {
	l, err := net.Listen("unix", dir+"/pair.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	raw, err := l.(*net.UnixListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	at := eventloop.Address{Unix: dir + "/pair.sock"}
	var ours int
	accept := func(fd uintptr) { ours, _, _ = eventloop.Accept(int(fd)) }
	return func() (int, int) {
		peer, _, err := eventloop.Connect(at)
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(accept)
		return ours, peer
	}
}

// TestAllocs: no message costs an allocation; a connection costs its two sockets
// and the pool's struct.
func TestAllocs(t *testing.T) {
	p := startProxy(t, backend(t, nil), 4)
	sockets := pair(t, t.TempDir())
	p.do(func() {
		ours, peer := sockets()
		p.serve(ours)
		c := p.w.conns[len(p.w.conns)-1]
		msg := []byte("a message")
		if n := testing.AllocsPerRun(1000, func() {
			eventloop.Send(peer, msg)
			c.client.(*transport.Raw).HandleEvents(eventloop.In)
		}); n != 0 {
			t.Errorf("%v allocations for a message", n)
		}
		if c.state != connRelay || c.in.bytes < int64(len(msg)) {
			t.Errorf("state %d, %d bytes", c.state, c.in.bytes)
		}
		c.end(endFinished, false)
		eventloop.Close(peer)
		n := testing.AllocsPerRun(200, func() {
			ours, peer := sockets()
			p.serve(ours)
			p.w.conns[len(p.w.conns)-1].end(endFinished, false)
			eventloop.Close(peer)
		})
		base := testing.AllocsPerRun(200, func() {
			ours, peer := sockets()
			eventloop.Close(ours)
			eventloop.Close(peer)
		})
		t.Logf("%v allocations for a connection, beside %v of the test", n-base, base)
		if n-base > 8 {
			t.Errorf("%v allocations for a connection", n-base)
		}
	})
}

// TestPipes: the limit holds, a pipe with bytes in it is never lent again, what is
// unused is closed after a while.
func TestPipes(t *testing.T) {
	p := startProxy(t, backend(t, nil), 2)
	p.do(func() {
		x := &p.w.pipes
		var a, b, c direction
		if !x.lend(&a) || !x.lend(&b) || x.lend(&c) || x.open != 2 {
			t.Fatalf("%d pipes open", x.open)
		}
		if n := p.shard.Value(x.st.Refused); n != 1 {
			t.Errorf("%d refused", n)
		}
		before := openFiles(t)
		a.piped = 1
		x.giveBack(&a)
		x.giveBack(&b)
		if x.open != 1 || len(x.free) != 1 || openFiles(t) != before-2 {
			t.Errorf("%d pipes open, %d free", x.open, len(x.free))
		}
		x.HandleTimer(&x.timer)
		x.HandleTimer(&x.timer)
		if x.open != 0 || openFiles(t) != before-4 {
			t.Errorf("%d pipes open after two periods", x.open)
		}
	})
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
