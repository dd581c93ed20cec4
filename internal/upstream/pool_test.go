package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/stats"
)

// backend accepts connections and leaves them to the test.
type backend struct {
	net.Listener
	conns chan net.Conn
}

func startBackend(t testing.TB) *backend {
	t.Helper()
	l, err := net.Listen("tcp4", ":0") // every address of 127/8, for the test that moves
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{l, make(chan net.Conn, 4096)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.conns <- conn
		}
	}()
	return b
}

func (b *backend) port() uint16 { return uint16(b.Addr().(*net.TCPAddr).Port) }

// next is the other end of the connection made next.
func (b *backend) next(t testing.TB) net.Conn {
	t.Helper()
	select {
	case conn := <-b.conns:
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		return conn
	case <-time.After(patience):
		t.Fatal("no connection came")
		return nil
	}
}

// wantEnd: the proxy closes.
func wantEnd(t testing.TB, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v; want the end", n, err)
	}
}

// site is the pools of some workers to one endpoint.
type site struct {
	backend *backend
	cluster *cluster.Cluster
	at      []*pooled
	secure  TLSStats // for whom the cluster has TLS
}

// pooled is a worker with its pool.
type pooled struct {
	loop
	pool  *Pool
	pokes int // by this worker
}

// settings is what most tests begin with.
func settings() config.Cluster {
	return config.Cluster{Name: "c", IdleTimeout: time.Minute, MaxPending: 10, PendingTimeout: time.Minute, MaxIdle: 10}
}

// newSite makes the pools of n workers; the endpoint of c may be left out.
func newSite(t testing.TB, n int, c config.Cluster) *site {
	t.Helper()
	s := &site{backend: startBackend(t)}
	if c.Endpoints == nil {
		c.Endpoints = []config.Endpoint{{ID: "e", Host: "127.0.0.1", Port: s.backend.port(), Weight: 1}}
	}
	s.cluster = cluster.New(&c)
	r := stats.NewRegistry()
	st := Stats{
		Connects:       r.Counter("connects_total", "x"),
		ConnectFails:   r.Counter("connect_fails_total", "x"),
		Reused:         r.Counter("reused_total", "x"),
		IdleClosed:     r.Counter("idle_closed_total", "x"),
		Pending:        r.Gauge("pending", "x"),
		PendingRefused: r.Counter("pending_refused_total", "x"),
		Open:           r.Gauge("open", "x"),
		Idle:           r.Gauge("idle", "x"),
	}
	s.secure = NewTLSStats(r, c.Name)
	for range n {
		p := &pooled{loop: startLoop(t)}
		env := &Env{Loop: p.Worker, Shard: r.NewShard(), Poke: func(*cluster.Endpoint) {
			p.pokes++
			for _, other := range s.at {
				if other != p {
					other.Post(other.pool.Shed)
				}
			}
		}}
		p.pool = New(env, s.cluster.Endpoints[0], &c, st, nil)
		s.at = append(s.at, p)
	}
	return s
}

func onePool(t testing.TB, c config.Cluster) (*site, *pooled) {
	s := newSite(t, 1, c)
	return s, s.at[0]
}

// quiet owns a lent connection and wants nothing.
type quiet struct{}

func (quiet) Ready(eventloop.Events) {}

// answer is what a waiting request is given.
type answer struct {
	Waiter
	conn  *Conn
	err   error
	times int
}

func (a *answer) grant(c *Conn, err error) { a.conn, a.err, a.times = c, err, a.times+1 }

// ask acquires on the worker; the result is in the answer when it came at once.
func (p *pooled) ask(a *answer, fresh, careful bool) {
	c, err := p.pool.Acquire(quiet{}, &a.Waiter, a.grant, &Want{Fresh: fresh, Careful: careful})
	if c != nil || err != nil {
		a.grant(c, err)
	}
}

// get lends a connection, waits until it stands, and returns both ends.
func (p *pooled) get(t testing.TB, b *backend) (*Conn, net.Conn) {
	t.Helper()
	c := p.lend(t)
	conn := b.next(t)
	p.until(t, "the connection stands", func() bool { return c.Socket.Handshake() == nil })
	return c, conn
}

func (p *pooled) lend(t testing.TB) *Conn {
	t.Helper()
	var a answer
	p.do(func() { p.ask(&a, false, false) })
	if a.conn == nil {
		t.Fatalf("no connection: %v", a.err)
	}
	return a.conn
}

// counts are the figures of one pool, in a form that a test can spell.
type counts struct {
	connects, fails, reused, idleClosed, refused uint64
	pending, open, idle                          int64
}

// want compares the figures on the worker.
func (p *pooled) want(t testing.TB, want counts) {
	t.Helper()
	p.do(func() {
		s, st := p.pool.env.Shard, &p.pool.st
		got := counts{
			s.Value(st.Connects), s.Value(st.ConnectFails), s.Value(st.Reused), s.Value(st.IdleClosed), s.Value(st.PendingRefused),
			s.GaugeValue(st.Pending), s.GaugeValue(st.Open), s.GaugeValue(st.Idle),
		}
		if got != want {
			t.Errorf("figures %+v\nwant    %+v", got, want)
		}
	})
}

func (p *pooled) idle() int64 { return p.pool.env.Shard.GaugeValue(p.pool.st.Idle) }

// TestReuseLastFirst: the connection released last is the warmest.
func TestReuseLastFirst(t *testing.T) {
	_, p := onePool(t, settings())
	a, b := p.lend(t), p.lend(t)
	if a.Reused() {
		t.Error("a new connection says it was used")
	}
	p.do(func() { a.Release(); b.Release() })
	p.want(t, counts{connects: 2, open: 2, idle: 2})
	for _, want := range []*Conn{b, a} {
		if got := p.lend(t); got != want || !got.Reused() || got.Requests != 2 {
			t.Errorf("got %p for request %d, want %p for its second", got, got.Requests, want)
		}
	}
	p.want(t, counts{connects: 2, reused: 2, open: 2})
}

// TestReleaseCloses: what makes a returned connection not worth keeping.
func TestReleaseCloses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*config.Cluster)
		before func(t *testing.T, p *pooled, c *Conn, conn net.Conn)
		closed bool
	}{
		{name: "healthy"},
		{name: "no pooling", change: func(c *config.Cluster) { c.IdleTimeout = 0 }, closed: true},
		{name: "no idle ones", change: func(c *config.Cluster) { c.MaxIdle = 0 }, closed: true},
		{name: "last request", change: func(c *config.Cluster) { c.MaxRequestsPerConnection = 1 }, closed: true},
		{name: "not last request", change: func(c *config.Cluster) { c.MaxRequestsPerConnection = 2 }},
		{name: "data nobody asked for", closed: true, before: func(t *testing.T, p *pooled, c *Conn, conn net.Conn) {
			conn.Write([]byte("x"))
			p.until(t, "data", c.Socket.Readable)
		}},
		{name: "ended", closed: true, before: func(t *testing.T, p *pooled, c *Conn, conn net.Conn) {
			conn.Close()
			p.until(t, "the end", c.Socket.Readable)
		}},
		{name: "read to the last byte of a full buffer", before: func(t *testing.T, p *pooled, c *Conn, conn net.Conn) {
			conn.Write([]byte("xyz"))
			p.until(t, "data", c.Socket.Readable)
			p.do(func() {
				if n, err := c.Socket.Read(make([]byte, 3)); n != 3 || err != nil || !c.Socket.Readable() {
					t.Errorf("Read = %d, %v", n, err)
				}
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := settings()
			if tt.change != nil {
				tt.change(&set)
			}
			s, p := onePool(t, set)
			c, conn := p.get(t, s.backend)
			if tt.before != nil {
				tt.before(t, p, c, conn)
			}
			p.do(c.Release)
			if tt.closed {
				p.want(t, counts{connects: 1})
			} else {
				p.want(t, counts{connects: 1, open: 1, idle: 1})
			}
		})
	}
}

func TestMaxRequestsPerConnection(t *testing.T) {
	set := settings()
	set.MaxRequestsPerConnection = 2
	s, p := onePool(t, set)
	c, conn := p.get(t, s.backend)
	p.do(c.Release)
	if again := p.lend(t); again != c {
		t.Fatal("the connection was not used again")
	}
	p.do(c.Release)
	wantEnd(t, conn)
	p.want(t, counts{connects: 1, reused: 1})
}

func TestMaxIdle(t *testing.T) {
	set := settings()
	set.MaxIdle = 2
	s, p := onePool(t, set)
	var lent []*Conn
	for range 4 {
		lent = append(lent, p.lend(t))
	}
	p.do(func() {
		for _, c := range lent {
			c.Release()
		}
	})
	p.want(t, counts{connects: 4, open: 2, idle: 2})
	p.do(p.pool.CloseIdle)
	p.want(t, counts{connects: 4})
	if n := s.cluster.Endpoints[0].Open.Load(); n != 0 {
		t.Errorf("the endpoint has %d connections open", n)
	}
}

// TestIdleTimeout: each goes in its own time, the oldest first.
func TestIdleTimeout(t *testing.T) {
	set := settings()
	set.IdleTimeout = 20 * time.Millisecond
	s, p := onePool(t, set)
	a, conn := p.get(t, s.backend)
	b, _ := p.get(t, s.backend)
	var released, ended int64
	p.do(func() { a.Release(); released = p.Now() })
	wantEnd(t, conn)
	p.do(func() {
		if ended = p.Now(); ended-released < int64(set.IdleTimeout) {
			t.Errorf("closed after %v", time.Duration(ended-released))
		}
		b.Release()
	})
	p.until(t, "none is idle", func() bool { return p.idle() == 0 })
	p.want(t, counts{connects: 2})
}

// TestIdleEnds: the endpoint's close, and data nobody asked for, end an idle
// connection at once.
func TestIdleEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(net.Conn)
	}{
		{"closed", func(c net.Conn) { c.Close() }},
		{"reset", func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }},
		{"half closed", func(c net.Conn) { c.(*net.TCPConn).CloseWrite() }},
		{"data", func(c net.Conn) { c.Write([]byte("HTTP/1.1 408")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, p := onePool(t, settings())
			other, _ := p.get(t, s.backend)
			c, conn := p.get(t, s.backend)
			p.do(func() { c.Release(); other.Release() })
			tt.end(conn)
			p.until(t, "one is gone", func() bool { return p.idle() == 1 })
			p.want(t, counts{connects: 2, idleClosed: 1, open: 1, idle: 1})
			if got := p.lend(t); got != other {
				t.Error("the wrong connection is gone")
			}
		})
	}
}

type eventFunc func()

func (f eventFunc) HandleEvents(eventloop.Events) { f() }

// trigger calls f by an event, and so from within a batch.
func (p *pooled) trigger(t testing.TB, f func()) (pull func()) {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	pulled := false
	p.do(func() {
		if _, err := p.Add(fd, eventFunc(func() {
			if pulled {
				f()
			}
		}), eventloop.Edge); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { p.do(func() { eventloop.Close(fd) }) })
	return func() {
		pulled = true
		unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// TestEndIsSeenBeforeUse: when one batch has a request and then the end of the
// idle connection it would take, the request gets another.
func TestEndIsSeenBeforeUse(t *testing.T) {
	s, p := onePool(t, settings())
	c, conn := p.get(t, s.backend)
	p.do(c.Release)
	var a answer
	pull := p.trigger(t, func() { p.ask(&a, false, false) })
	p.do(func() {
		pull()
		conn.Close()
		for {
			if _, ended, _ := eventloop.Peek(c.Socket.Descriptor()); ended {
				return
			}
		}
	})
	p.until(t, "an answer", func() bool { return a.times > 0 })
	if a.conn == nil || a.conn == c {
		t.Errorf("the request got %v, %v", a.conn, a.err)
	}
	p.want(t, counts{connects: 2, idleClosed: 1, open: 1})
}

// TestStaleEventEndsNothing: data was read, and the exchange done, by another
// handler of the batch that has the event of that data.
func TestStaleEventEndsNothing(t *testing.T) {
	s, p := onePool(t, settings())
	c, conn := p.get(t, s.backend)
	buf := make([]byte, 16)
	pull := p.trigger(t, func() {
		c.Socket.(interface{ HandleEvents(eventloop.Events) }).HandleEvents(eventloop.In)
		if n, err := c.Socket.Read(buf); n != 3 || err != nil {
			t.Errorf("Read = %d, %v", n, err)
		}
		c.Release()
	})
	p.do(func() {
		pull()
		conn.Write([]byte("end"))
		for {
			if data, _, _ := eventloop.Peek(c.Socket.Descriptor()); data {
				return
			}
		}
	})
	p.until(t, "the release", func() bool { return c.state != connLent })
	p.want(t, counts{connects: 1, open: 1, idle: 1})
}

// TestCareful: an end that no event has told yet is found by asking; without
// care the connection is taken as it is.
func TestCareful(t *testing.T) {
	for _, careful := range []bool{false, true} {
		s, p := onePool(t, settings())
		c, conn := p.get(t, s.backend)
		p.do(c.Release)
		p.do(func() {
			conn.Close()
			for {
				if _, ended, _ := eventloop.Peek(c.Socket.Descriptor()); ended {
					break
				}
			}
			var a answer
			p.ask(&a, false, careful)
			if (a.conn == c) == careful {
				t.Errorf("careful %t: got the dead connection: %t", careful, a.conn == c)
			}
		})
	}
}

// TestReleaseToWaiting: a released connection goes to who waits longest.
func TestReleaseToWaiting(t *testing.T) {
	set := settings()
	set.MaxConnections = 1
	_, p := onePool(t, set)
	c := p.lend(t)
	var a, b answer
	p.do(func() {
		p.ask(&a, false, false)
		p.ask(&b, false, false)
		if !a.Waiting() || !b.Waiting() {
			t.Error("the requests do not wait")
		}
	})
	p.want(t, counts{connects: 1, pending: 2, open: 1})
	p.do(func() {
		c.Release()
		if a.conn != c || a.Waiting() || b.times != 0 || c.Requests != 2 {
			t.Error("the first in the queue did not get the connection")
		}
		c.Close()
		if b.conn == nil || b.conn == c || b.conn.Reused() {
			t.Error("the second in the queue did not get a new connection")
		}
	})
	p.want(t, counts{connects: 2, reused: 1, open: 1})
	p.do(b.conn.Reset)
	p.want(t, counts{connects: 2, reused: 1})
}

func TestPendingFull(t *testing.T) {
	set := settings()
	set.MaxConnections, set.MaxPending = 1, 1
	_, p := onePool(t, set)
	p.lend(t)
	var a, b answer
	p.do(func() {
		p.ask(&a, false, false)
		p.ask(&b, false, false)
		if !a.Waiting() || !errors.Is(b.err, ErrPendingFull) {
			t.Errorf("waiting %t, %v", a.Waiting(), b.err)
		}
	})
	p.want(t, counts{connects: 1, pending: 1, refused: 1, open: 1})
}

func TestPendingTimeout(t *testing.T) {
	set := settings()
	set.MaxConnections, set.PendingTimeout = 1, 20*time.Millisecond
	_, p := onePool(t, set)
	c := p.lend(t)
	var a, b answer
	var begun, took int64
	p.do(func() {
		begun = p.Now()
		p.ask(&a, false, false)
		p.ask(&b, false, false)
	})
	p.until(t, "both are refused", func() bool {
		took = p.Now() - begun
		return errors.Is(a.err, ErrPendingTimeout) && errors.Is(b.err, ErrPendingTimeout)
	})
	if took < int64(set.PendingTimeout) {
		t.Errorf("refused after %v", time.Duration(took))
	}
	p.do(c.Release)
	p.want(t, counts{connects: 1, refused: 2, open: 1, idle: 1})
	if a.times != 1 || b.times != 1 {
		t.Errorf("granted %d and %d times", a.times, b.times)
	}
}

func TestCancel(t *testing.T) {
	set := settings()
	set.MaxConnections = 1
	s, p := onePool(t, set)
	c := p.lend(t)
	var list [3]answer
	p.do(func() {
		for i := range list {
			p.ask(&list[i], false, false)
		}
		list[1].Cancel()
		list[1].Cancel()
		list[0].Cancel()
		c.Release()
		if list[0].times != 0 || list[1].times != 0 || list[2].conn != c {
			t.Error("the connection did not go to the one that still waits")
		}
		list[2].Cancel() // it waits no more
		c.Release()
	})
	p.want(t, counts{connects: 1, reused: 1, open: 1, idle: 1})
	if n := s.cluster.Endpoints[0].Waiting.Load(); n != 0 {
		t.Errorf("%d requests wait for the endpoint", n)
	}
}

// TestFreshMakesRoom: at the limit, an idle connection gives way to the new one
// that was asked for.
func TestFreshMakesRoom(t *testing.T) {
	set := settings()
	set.MaxConnections = 1
	s, p := onePool(t, set)
	c, conn := p.get(t, s.backend)
	p.do(c.Release)
	var a answer
	p.do(func() { p.ask(&a, true, false) })
	if a.conn == nil || a.conn == c {
		t.Fatalf("got %v, %v", a.conn, a.err)
	}
	wantEnd(t, conn)
	p.want(t, counts{connects: 2, open: 1})
}

// TestNoConnection: the endpoint is unknown, or refuses at once; the place under
// the limit is given back.
func TestNoConnection(t *testing.T) {
	for _, tt := range []struct {
		name     string
		endpoint config.Endpoint
		want     error
		figures  counts
	}{
		{"never resolved", config.Endpoint{Host: "nowhere.test", Port: 80}, ErrNoAddress, counts{}},
		{"no such socket", config.Endpoint{Unix: "/nowhere/socket"}, ErrConnect, counts{connects: 2, fails: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := settings()
			set.MaxConnections = 1
			set.Endpoints = []config.Endpoint{tt.endpoint}
			s, p := onePool(t, set)
			for range 2 {
				var a answer
				p.do(func() { p.ask(&a, false, false) })
				if a.conn != nil || !errors.Is(a.err, tt.want) {
					t.Errorf("got %v, %v; want %v", a.conn, a.err, tt.want)
				}
			}
			p.want(t, tt.figures)
			if n := s.cluster.Endpoints[0].Open.Load(); n != 0 {
				t.Errorf("%d places are lost", n)
			}
		})
	}
}

func TestFailedAndClosed(t *testing.T) {
	_, p := onePool(t, settings())
	c := p.lend(t)
	p.do(func() {
		c.Failed()
		c.Close()
		c.Close()
		c.Reset()
	})
	p.want(t, counts{connects: 1, fails: 1})
}

func TestWhere(t *testing.T) {
	c := &Conn{Address: eventloop.Address{Unix: "/run/a"}}
	for _, call := range []string{"first", "second"} { // the second answers from what the first kept
		if got := c.Where(); got != "unix:/run/a" {
			t.Errorf("%s Where is %q", call, got)
		}
	}
}

// TestAddressChange: connections to where the endpoint was are not used again,
// whether they idle or are lent when it moves.
func TestAddressChange(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	write := func(ip string) {
		if err := os.WriteFile(hosts+".new", []byte(ip+" moving.test\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(hosts+".new", hosts); err != nil {
			t.Fatal(err)
		}
	}
	write("127.0.0.1")
	set := settings()
	probe := startBackend(t)
	set.Endpoints = []config.Endpoint{{ID: "e", Host: "moving.test", Port: probe.port(), Weight: 1}}
	s, p := onePool(t, set)
	e := s.cluster.Endpoints[0]
	r := cluster.NewResolver(cluster.ResolverOptions{Hosts: hosts, MinTTL: time.Millisecond, InitialWait: patience})
	s.cluster.Watch(r)
	r.Start(t.Context())
	r.WaitInitial(context.Background())

	kept, _ := p.get(t, probe)
	idle, idleEnd := p.get(t, probe)
	p.do(idle.Release)
	old := kept.Where()
	write("127.0.0.22")
	p.until(t, "the endpoint moves", func() bool { return e.Addresses()[0] != idle.Address })
	c := p.lend(t)
	if c == idle || c.Where() == old {
		t.Errorf("got a connection to %s", c.Where())
	}
	wantEnd(t, idleEnd)
	p.do(kept.Release)
	p.want(t, counts{connects: 3, idleClosed: 1, open: 1})
}

// TestLimitOverWorkers: the limit counts over all workers, and what one of them
// does not need goes to the one that waits.
func TestLimitOverWorkers(t *testing.T) {
	for _, tt := range []struct {
		name string
		free func(t *testing.T, p *pooled, c *Conn)
		when string // the connection of the first worker becomes free: before or after the second asks
	}{
		{"idle before", func(t *testing.T, p *pooled, c *Conn) { c.Release() }, "before"},
		{"released after", func(t *testing.T, p *pooled, c *Conn) { c.Release() }, "after"},
		{"closed after", func(t *testing.T, p *pooled, c *Conn) { c.Close() }, "after"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := settings()
			set.MaxConnections = 1
			s := newSite(t, 2, set)
			first, second := s.at[0], s.at[1]
			c := first.lend(t)
			if tt.when == "before" {
				first.do(func() { tt.free(t, first, c) })
			}
			var a answer
			second.do(func() {
				second.ask(&a, false, false)
				if !a.Waiting() || second.pokes != 1 {
					t.Errorf("waiting %t, %d pokes", a.Waiting(), second.pokes)
				}
			})
			if tt.when == "after" {
				first.do(func() { tt.free(t, first, c) })
			}
			second.until(t, "a connection", func() bool { return a.conn != nil })
			first.want(t, counts{connects: 1})
			second.want(t, counts{connects: 1, open: 1})
			if n := s.cluster.Endpoints[0].Open.Load(); n != 1 {
				t.Errorf("%d open", n)
			}
		})
	}
}

// TestShedOnlyWhatIsNeeded: one waiting request costs one idle connection, the
// oldest; none costs none.
func TestShedOnlyWhatIsNeeded(t *testing.T) {
	set := settings()
	set.MaxConnections = 3
	s := newSite(t, 2, set)
	first, second := s.at[0], s.at[1]
	lent := []*Conn{first.lend(t), first.lend(t), first.lend(t)}
	first.do(func() {
		for _, c := range lent {
			c.Release()
		}
		first.pool.Shed()
	})
	first.want(t, counts{connects: 3, open: 3, idle: 3})
	var a answer
	second.do(func() { second.ask(&a, false, false) })
	second.until(t, "a connection", func() bool { return a.conn != nil })
	first.want(t, counts{connects: 3, open: 2, idle: 2})
	first.do(func() {
		if !slices.Equal(first.pool.idle, lent[1:]) {
			t.Error("not the oldest was closed")
		}
	})
}

// client is one of many that ask again and again.
type client struct {
	answer
	p     *pooled
	left  int
	limit int64
	fail  func(string, ...any)
	over  *atomic.Int64
}

// step asks for a connection; RunTask, a turn later, gives it back.
func (c *client) step() {
	if c.left == 0 {
		c.over.Add(1)
		return
	}
	c.left--
	conn, err := c.p.pool.Acquire(quiet{}, &c.Waiter, c.granted, &Want{Fresh: c.left%7 == 0})
	if conn != nil || err != nil {
		c.granted(conn, err)
	}
}

func (c *client) granted(conn *Conn, err error) {
	if err != nil {
		c.fail("request: %v", err)
		c.over.Add(1)
		return
	}
	if n := conn.pool.Endpoint.Open.Load(); n > c.limit {
		c.fail("%d connections, the limit is %d", n, c.limit)
	}
	c.conn = conn
	c.p.Defer(c)
}

func (c *client) RunTask() {
	if c.left%5 == 0 {
		c.conn.Close()
	} else {
		c.conn.Release()
	}
	c.step()
}

// TestLimitUnderLoad: three workers quarrel about two connections. Nobody is
// forgotten in a queue, and nothing is counted wrong at the end.
func TestLimitUnderLoad(t *testing.T) {
	set := settings()
	set.MaxConnections, set.MaxPending = 2, 1000
	s := newSite(t, 3, set)
	go func() {
		for {
			select {
			case conn := <-s.backend.conns:
				go func() {
					io.Copy(io.Discard, conn)
					conn.Close()
				}()
			case <-t.Context().Done():
				return
			}
		}
	}()
	const clients, requests = 4, 100
	var over atomic.Int64
	for _, p := range s.at {
		p.do(func() {
			for range clients {
				c := &client{p: p, left: requests, limit: 2, fail: t.Errorf, over: &over}
				c.step()
			}
		})
	}
	s.at[0].until(t, "all are served", func() bool { return over.Load() == clients*int64(len(s.at)) })
	var open, idle int64
	for _, p := range s.at {
		p.do(func() {
			open += p.pool.env.Shard.GaugeValue(p.pool.st.Open)
			idle += p.idle()
		})
	}
	e := s.cluster.Endpoints[0]
	if open != e.Open.Load() || idle != open || e.Waiting.Load() != 0 {
		t.Errorf("open %d, of the endpoint %d; idle %d; waiting %d", open, e.Open.Load(), idle, e.Waiting.Load())
	}
}

// TestGrantAmidTake: closing an idle connection that turned out dead lets a request
// in that waited, and that one may take what is idle, too.
func TestGrantAmidTake(t *testing.T) {
	set := settings()
	set.MaxConnections = 3
	s, p := onePool(t, set)
	var lent []*Conn
	var ends []net.Conn
	for range 3 {
		c, conn := p.get(t, s.backend)
		lent, ends = append(lent, c), append(ends, conn)
	}
	p.do(func() {
		for _, c := range lent {
			c.Release()
		}
		open := &s.cluster.Endpoints[0].Open
		open.Add(1) // of another worker, which is quicker to take the room that is made here
		var first, second, third answer
		took := 0
		grant := func(c *Conn, err error) {
			first.grant(c, err)
			for len(p.pool.idle) > 0 {
				p.ask(&second, false, false)
				took++
			}
		}
		if c, err := p.pool.Acquire(quiet{}, &first.Waiter, grant, &Want{Fresh: true}); c != nil || err != nil || !first.Waiting() || len(p.pool.idle) != 2 {
			t.Fatalf("%v, %v, %d idle", c, err, len(p.pool.idle))
		}
		for _, conn := range ends {
			conn.Close()
		}
		for { // the end of the one that is asked first
			if _, ended, _ := eventloop.Peek(lent[2].Socket.Descriptor()); ended {
				break
			}
		}
		p.ask(&third, false, true)
		if first.conn == nil || took != 1 || !third.Waiting() && third.conn == nil {
			t.Errorf("granted %v, %d taken amid it, at last %v", first.conn, took, third.conn)
		}
		open.Add(-1)
		third.Cancel()
	})
}

// TestReuseAllocs: a request that finds an idle connection costs no allocation.
func TestReuseAllocs(t *testing.T) {
	s, p := onePool(t, settings())
	c, _ := p.get(t, s.backend)
	var a answer
	p.do(func() {
		grant := a.grant
		c.Release()
		if n := testing.AllocsPerRun(100, func() {
			c, _ := p.pool.Acquire(quiet{}, &a.Waiter, grant, &Want{})
			c.Release()
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkReuse(b *testing.B) {
	s, p := onePool(b, settings())
	c, _ := p.get(b, s.backend)
	var a answer
	b.ReportAllocs()
	p.do(func() {
		c.Release()
		for b.Loop() {
			c, _ := p.pool.Acquire(quiet{}, &a.Waiter, nil, &Want{})
			c.Release()
		}
	})
}
