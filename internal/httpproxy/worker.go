// Package httpproxy carries HTTP requests from a client's connection to an
// endpoint and the replies back.
//
// One request, in file order: conn.go reads a head → stream.go begins the
// exchange → request.go routes it and prepares what is sent on → connect.go
// gets a connection → body.go sends head and body → response.go reads the reply
// → reply.go answers where belay itself does → tunnel.go takes over after an
// upgrade → stream.go ends the exchange → conn.go waits for the next head.
//
// Everything a worker owns is used on that worker only, so nothing here locks.
package httpproxy

import (
	crand "crypto/rand"
	"log/slog"
	"math/rand/v2"
	"time"

	"belay/internal/accesslog"
	"belay/internal/cluster"
	"belay/internal/eventloop"
	"belay/internal/listener"
	"belay/internal/persistence"
	"belay/internal/stats"
	"belay/internal/upstream"
)

const (
	headBuffer   = 4 << 10  // first buffer for a head
	bodyBuffer   = 64 << 10 // most a direction holds: the high watermark
	readBuffer   = 64 << 10 // shared by all reads from endpoints of a worker
	writeBuffer  = 192 << 10
	suffixRoom   = 16       // room behind payload for chunk ends
	copyLimit    = 16 << 10 // bodies up to this are copied behind their head, larger ones gathered
	readsPerTurn = 4        // reads of one upstream connection before others get their turn
)

// Worker is httpproxy's share of one event loop.
type Worker struct {
	loop     *eventloop.Worker
	shard    *stats.Shard
	log      *slog.Logger
	access   *accesslog.Buffer // nil: no access log
	clusters []*clusterWorker  // by Cluster.Index

	text []byte // expanded templates; reused
	rbuf []byte // reads from endpoints
	wbuf []byte // heads and framed pieces on their way out

	streams []*stream // free
	conns   []*conn   // open, in no order; conn.index is the place
	nextID  uint64
	rng     *rand.ChaCha8
	epoch   time.Time // wall clock at loop time epochNow
	epochNS int64

	token      *persistence.Token     // the last one opened or made
	token2     []byte                 // its text, while w.text is in use; reused
	candidates persistence.Candidates // of the cookie that is looked for
	clock      uint32                 // see unix
	clockAt    int64

	record  accesslog.Record // reused
	dateBuf []byte
	dateSec int64

	fading
}

// clusterWorker is one worker's share of a cluster.
type clusterWorker struct {
	shared  *Cluster
	env     *upstream.Env
	picker  *cluster.Picker
	pools   []*upstream.Pool // by Endpoint.Index; nil until used
	tls     *upstream.TLS    // nil: plain
	active  int              // exchanges with this cluster
	retries int              // of them, retries
}

// NewWorker makes a worker's share. It must be called before the loop runs. tls is
// as clusters, nil where there is none.
func NewWorker(env *upstream.Env, log *slog.Logger, access *accesslog.Buffer, clusters []*Cluster, tls []*upstream.TLS) *Worker {
	loop, shard := env.Loop, env.Shard
	var seed [32]byte
	crand.Read(seed[:])
	w := &Worker{
		loop: loop, shard: shard, log: log, access: access,
		rbuf:    make([]byte, readBuffer+suffixRoom),
		wbuf:    make([]byte, 0, writeBuffer),
		rng:     rand.NewChaCha8(seed),
		epoch:   time.Now(),
		epochNS: eventloop.Monotonic(),
		nextID:  uint64(loop.ID()) << 48,
		token:   persistence.NewToken(),
		token2:  make([]byte, 0, persistence.TokenSize),
	}
	for i, c := range clusters {
		x := newClusterWorker(c, env, loop.ID(), w.rng.Uint64())
		if tls != nil {
			x.tls = tls[i]
		}
		w.clusters = append(w.clusters, x)
	}
	if access != nil {
		loop.AtTurnEnd(func() { access.Flush(loop.Now()) })
	}
	return w
}

// Shed is the answer to another worker's poke (upstream.Env.Poke).
func (w *Worker) Shed(c, endpoint int) {
	if p := w.clusters[c].pools[endpoint]; p != nil {
		p.Shed()
	}
}

// Serve takes over a connection of the acceptor's listener.
func (w *Worker) Serve(a *listener.Acceptor, p *Plan, client listener.Client) {
	w.nextID++
	c := &conn{w: w, acc: a, plan: p, peer: client.Peer, sock: client.Socket, id: w.nextID, index: int32(len(w.conns))}
	if client.TLS != nil || client.Via.IsValid() || client.Dest.IsValid() {
		c.came = newArrival(p, &client)
	}
	if client.Head != nil {
		c.in, c.n = client.Head[:cap(client.Head)], int32(len(client.Head))
	}
	c.sock.SetOwner(c)
	w.conns = append(w.conns, c)
	w.shard.GaugeAdd(p.Stats.Active, 1)
	c.await(p.firstRequest)
	if c.n > 0 || c.sock.Readable() { // no event will tell of what has come already
		c.deferNext()
	}
}

// Abort ends every connection at once.
func (w *Worker) Abort() {
	for len(w.conns) > 0 {
		w.conns[len(w.conns)-1].abort(reasonStopped)
	}
}

// Connections is how many clients are connected.
func (w *Worker) Connections() int { return len(w.conns) }

// wall is the wall clock time of a loop time.
func (w *Worker) wall(ns int64) time.Time { return w.epoch.Add(time.Duration(ns - w.epochNS)) }

func (w *Worker) newStream(c *conn) *stream {
	var s *stream
	if n := len(w.streams); n > 0 {
		s = w.streams[n-1]
		w.streams = w.streams[:n-1]
	} else {
		s = &stream{w: w}
		s.grant = s.granted
	}
	s.c = c
	return s
}

func (w *Worker) freeStream(s *stream) {
	s.clear()
	if len(w.streams) < maxFreeStreams {
		w.streams = append(w.streams, s)
	}
}

// maxFreeStreams bounds what a burst leaves behind.
const maxFreeStreams = 1024
