// Package tcpproxy passes TCP connections on to endpoints, byte by byte.
//
// One connection, in file order: worker.go takes it over → connect.go finds an
// endpoint that answers → relay.go moves bytes both ways, in bulk through the
// pipes of pipes.go → conn.go ends it → account.go enters it into the books.
//
// Everything a worker owns is used on that worker only, so nothing here locks.
package tcpproxy

import (
	crand "crypto/rand"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"time"

	"belay/internal/accesslog"
	"belay/internal/cluster"
	"belay/internal/eventloop"
	"belay/internal/listener"
	"belay/internal/stats"
	"belay/internal/upstream"
)

// readBuffer is shared by all reads of a worker; what a sink does not take of it
// is all that a direction holds: the high watermark.
const readBuffer = 64 << 10

// maxFreeConns bounds what a burst leaves behind.
const maxFreeConns = 1024

// Worker is tcpproxy's share of one event loop.
type Worker struct {
	loop     *eventloop.Worker
	shard    *stats.Shard
	log      *slog.Logger
	access   *accesslog.Buffer // nil: no access log
	clusters []*clusterWorker  // by Cluster.Index; nil where no listener leads
	pipes    pipes

	buf []byte // reads

	conns   []*conn // open, in no order; conn.index is the place
	free    []*conn
	nextID  uint64
	rng     rand.PCG
	epoch   time.Time // wall clock at loop time epochNow
	epochNS int64

	clock   uint32 // see unix
	clockAt int64

	record accesslog.Record // reused

	draining bool
	empty    []func() // to be called, once, when draining and no connection is left
}

// clusterWorker is one worker's share of a cluster.
type clusterWorker struct {
	shared *Cluster
	env    *upstream.Env
	picker *cluster.Picker
	pools  []*upstream.Pool // by Endpoint.Index; nil until used
	tls    *upstream.TLS    // nil: plain
}

// Options are what a Worker shares with others of its process.
type Options struct {
	Log      *slog.Logger
	Access   *accesslog.Buffer // nil: no access log
	Clusters []*Cluster
	TLS      []*upstream.TLS // as Clusters; nil where there is none
	Pipes    int             // this worker's share; 0: nothing is spliced
	PipeSize int
	Stats    Stats
}

// NewWorker makes a worker's share. It must be called before the loop runs.
func NewWorker(env *upstream.Env, o Options) *Worker {
	loop, shard := env.Loop, env.Shard
	var seed [16]byte
	crand.Read(seed[:])
	w := &Worker{
		loop: loop, shard: shard, log: o.Log, access: o.Access,
		buf:     make([]byte, readBuffer),
		epoch:   time.Now(),
		epochNS: eventloop.Monotonic(),
		nextID:  uint64(loop.ID())<<48 | 1<<47,
	}
	w.rng.Seed(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:]))
	w.pipes = pipes{loop: loop, shard: shard, st: o.Stats, limit: o.Pipes, size: o.PipeSize}
	for i, c := range o.Clusters {
		if c == nil {
			w.clusters = append(w.clusters, nil)
			continue
		}
		x := &clusterWorker{shared: c, env: env, picker: c.NewPicker(loop.ID(), w.rng.Uint64()), pools: make([]*upstream.Pool, len(c.Endpoints))}
		if o.TLS != nil {
			x.tls = o.TLS[i]
		}
		w.clusters = append(w.clusters, x)
	}
	if w.access != nil {
		loop.AtTurnEnd(func() { w.access.Flush(loop.Now()) })
	}
	return w
}

// pool is the worker's pool for an endpoint, made when first needed. No TCP
// connection is used twice: the pool keeps to the endpoint's limits.
func (x *clusterWorker) pool(e *cluster.Endpoint) *upstream.Pool {
	p := x.pools[e.Index]
	if p == nil {
		p = upstream.New(x.env, e, x.shared.Config, x.shared.endpoints[e.Index].pool, x.tls)
		x.pools[e.Index] = p
	}
	return p
}

// Shed is the answer to a poke from elsewhere (upstream.Env.Poke).
func (w *Worker) Shed(c, endpoint int) {
	if x := w.clusters[c]; x != nil && x.pools[endpoint] != nil {
		x.pools[endpoint].Shed()
	}
}

// Serve takes over a connection of the acceptor's listener.
func (w *Worker) Serve(a *listener.Acceptor, p *Plan, client listener.Client) {
	c := w.newConn()
	w.nextID++
	c.acc, c.plan, c.peer, c.client = a, p, client.Peer, client.Socket
	c.via, c.dest, c.tls, c.said, c.head = client.Via, client.Dest, client.TLS, client.Log, client.Head
	c.id, c.start, c.index = w.nextID, w.loop.Now(), int32(len(w.conns))
	c.client.SetOwner(c)
	w.conns = append(w.conns, c)
	w.shard.GaugeAdd(p.Stats.Active, 1)
	if fd := c.client.Descriptor(); fd >= 0 {
		eventloop.SetNoDelay(fd) // a Unix socket has none
	}
	c.begin(client.Chain)
}

func (w *Worker) newConn() *conn {
	if n := len(w.free); n > 0 {
		c := w.free[n-1]
		w.free[n-1] = nil
		w.free = w.free[:n-1]
		return c
	}
	c := &conn{w: w}
	c.far.c = c
	c.grant = c.granted
	return c
}

// freeConn keeps a closed connection's struct, cleared, for the next one.
func (w *Worker) freeConn(c *conn) {
	if len(w.free) >= maxFreeConns {
		return
	}
	*c = conn{w: w, far: c.far, grant: c.grant}
	w.free = append(w.free, c)
}

// Abort ends every connection at once.
func (w *Worker) Abort() {
	for len(w.conns) > 0 {
		w.conns[len(w.conns)-1].end(endStopped, true)
	}
}

// Connections is how many clients are connected.
func (w *Worker) Connections() int { return len(w.conns) }

// Drain has empty called, once, on the worker, when no connection is left, at
// once if there is none. Nothing in a byte stream can announce an end, so the
// connections live on until they end by themselves or by Abort.
func (w *Worker) Drain(empty func()) {
	w.draining = true
	if empty != nil {
		w.empty = append(w.empty, empty)
	}
	w.checkEmpty()
}

// DrainOver is Drain: there is nothing to spread over a time.
func (w *Worker) DrainOver(_ time.Duration, _ bool, empty func()) { w.Drain(empty) }

// Announce does nothing, as Drain does nothing to a connection.
func (w *Worker) Announce(bool, time.Duration, bool) {}

// checkEmpty tells once that no connection is left.
func (w *Worker) checkEmpty() {
	if !w.draining || len(w.conns) > 0 {
		return
	}
	todo := w.empty
	w.empty = nil
	for _, f := range todo {
		f()
	}
}

// wall is the wall clock time of a loop time.
func (w *Worker) wall(ns int64) time.Time { return w.epoch.Add(time.Duration(ns - w.epochNS)) }
