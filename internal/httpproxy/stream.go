package httpproxy

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"belay/internal/cluster"
	"belay/internal/eventloop"
	"belay/internal/http1"
	"belay/internal/upstream"
)

// stream is one exchange: a request, the tries to have it answered, the reply.
// Streams are pooled per worker; one belongs to its conn from the first byte of
// a head to the last byte of the reply.
//
//	head ─> local reply ────────────────────────────────────────────> done
//	  └──> waiting ─> connecting ─> await ─final head─> replying ───> done
//	          ^  └───────┴──────────┤                      └─101─> tunnel
//	          └──── backoff <─retry─┘
//
// done: everything was given to conn; the exchange ends when conn has flushed.
type stream struct {
	w     *Worker
	c     *conn
	state streamState
	route *routePlan // nil before and without a match
	cl    *clusterWorker
	ep    *cluster.Endpoint
	epst  *endpointStats
	up    *upstream.Conn // lent; nil unless connecting, await, replying, tunnel

	pin    pin
	req    http1.Request
	body   http1.Body
	resp   http1.Response
	rbody  http1.Body
	waiter upstream.Waiter
	grant  func(*upstream.Conn, error) // s.granted, made once

	// The request in conn.in: the head begins at head; body payload that is
	// kept is in[bodyBeg:bodyEnd], of which bodySent was given to the endpoint.
	head, bodyBeg, bodySent, bodyEnd int32

	upOut  []byte // waits for the endpoint's socket: upOut[upOutR:]
	upOutR int32
	upIn   []byte // a reply head of which only part has come
	upInN  int32

	timer    eventloop.Timer // the endpoint's side
	whole    eventloop.Timer // the whole request
	upTiming upTiming

	client  netip.Addr // after trusted proxies
	pathBuf []byte     // rewritten target; reused
	idBuf   [36]byte

	start                     int64 // loop times, ns; 0: not reached
	connectAt, connected      int64
	sentAt, firstByte         int64
	bytesIn, bytesOut         int64
	headsOut                  int64  // of bytesOut, what was heads
	where                     string // address of the last try, and whether its connection was used before: for the log
	reused                    bool
	reason                    string
	status                    int
	attempts                  int // tries that count for the retry policy
	tries                     int // all of them
	addressTries              int
	interims                  int
	passed                    int // endpoints passed over because they had no room: full[:passed]
	full                      [maxPassed]*cluster.Endpoint
	flags                     streamFlags
	deferred                  bool // RunTask is due; outlives the exchange, as the task does
	tunnelUpEOF, tunnelCliEOF bool
}

type streamState uint8

const (
	streamHead streamState = iota
	streamWaiting
	streamConnecting
	streamBackoff
	streamAwait
	streamReplying
	streamTunnel
	streamDone
)

// streamFlags are facts about an exchange; clear resets them together.
type streamFlags uint32

const (
	keepAlive    streamFlags = 1 << iota // the client's connection stays
	bodyDone                             // the request body has come to its end
	reqSent                              // all of the request was given to the endpoint's socket
	replayable                           // head and whole body so far are still in conn.in
	headSent                             // the head of this try was given to the socket or upOut
	sentAny                              // the socket took a byte of this try
	gotReply                             // the endpoint sent a byte of a reply on this try
	replyStarted                         // a final head was given to conn
	interimSent                          // a 1xx was given to conn
	chunkedOut                           // the reply is framed as chunks for the client
	chunkedUp                            // the request is framed as chunks for the endpoint
	lastChunkUp                          // and its end was written
	staleRetried                         // the free retry of a dead pooled connection was used
	upgrade                              // the client asked to upgrade and may
	counted                              // in clusterWorker.active and the picker
	retrying                             // in clusterWorker.retries, from the first retry to the end
	surplus                              // the endpoint sent more than its reply
	began                                // the head was complete and valid
	unreachable                          // the last try ended without a connection
	admitted                             // in Cluster.Active
	changed                              // request_headers of the route were applied
)

func (s *stream) has(f streamFlags) bool { return s.flags&f != 0 }

// upTiming says what the endpoint's side timer is for.
type upTiming uint8

const (
	upNone upTiming = iota
	upConnect
	upFirstByte
	upBody
	upWrite
	upBackoff
)

// begin starts the exchange: the head is complete, in conn.in[head:r].
func (s *stream) begin() {
	c, p := s.c, s.c.plan
	w := s.w
	w.shard.Inc(p.Stats.Requests)
	limit := p.Listener.Limits.RequestsPerConnection
	if s.req.KeepAlive && (limit == 0 || int(c.requests) < limit) {
		s.flags |= keepAlive
	}
	s.flags |= replayable | began
	s.body.Init(s.req.Framing, s.req.ContentLength, &p.options)
	s.bodyBeg, s.bodySent, s.bodyEnd = c.r, c.r, c.r
	if s.body.Done() {
		s.flags |= bodyDone
	}
	s.dispatch()
}

// arm sets the endpoint's side timer; a time of zero means no limit.
func (s *stream) arm(t upTiming, d time.Duration) {
	if d <= 0 {
		s.upTiming = upNone
		return
	}
	s.upTiming = t
	s.w.loop.SetTimer(&s.timer, s, s.w.loop.Now()+int64(d))
}

// HandleTimer acts on whichever of the two timers fired.
func (s *stream) HandleTimer(t *eventloop.Timer) {
	if t == &s.whole {
		s.requestTimeout()
		return
	}
	what := s.upTiming
	s.upTiming = upNone
	switch what {
	case upConnect:
		s.w.shard.Inc(s.cl.shared.Stats.ConnectTimeouts)
		s.up.Failed()
		s.tryFailed(failConnect, reasonConnectTimeout)
	case upFirstByte:
		s.w.shard.Inc(s.cl.shared.Stats.FirstByteTimeouts)
		s.tryFailed(failFirstByte, reasonFirstByteTimeout)
	case upBody:
		s.replyBroken(reasonUpstreamBodyTimeout)
	case upWrite:
		s.tryFailed(failWrite, reasonUpstreamWriteTimeout)
	case upBackoff:
		s.pick()
	}
}

// requestTimeout ends an exchange that took longer than the whole may.
func (s *stream) requestTimeout() {
	if s.state == streamDone {
		return
	}
	s.w.shard.Inc(s.c.plan.Stats.RequestTimeouts)
	if s.has(replyStarted) {
		s.replyBroken(reasonRequestTimeout)
		return
	}
	s.dropUpstream()
	s.resp.Reset()
	s.reply(504, reasonRequestTimeout)
}

// done is called when the whole reply was given to conn; the exchange ends now
// or when conn has flushed.
func (s *stream) done() {
	s.state = streamDone
	s.upTiming = upNone
	if !s.c.pending() {
		s.end()
	}
}

// end ends the exchange: the last byte of the reply is with the kernel.
func (s *stream) end() {
	c, keep := s.c, s.has(keepAlive) && s.has(bodyDone)
	asked := s.has(began) && s.has(bodyDone) && !s.req.KeepAlive
	s.account()
	s.free()
	c.next(keep, asked)
}

// free returns the stream. Nothing of it may be used afterwards.
func (s *stream) free() {
	s.dropUpstream()
	s.w.freeStream(s)
}

// aborted ends the exchange without a reply or in the middle of one: the
// client's connection is lost or about to be closed.
func (s *stream) aborted(reason string) {
	if s.state == streamHead && s.route == nil && s.status == 0 {
		s.free()
		return
	}
	if s.reason == "" {
		s.reason = reason
	}
	if s.status == 0 {
		s.status = statusClientClosed
	}
	if s.state == streamTunnel { // nothing else would tell the endpoint that it has not the whole
		s.up.Reset()
	}
	s.account()
	s.free()
}

// statusClientClosed is nginx's 499: the client left before there was a status.
const statusClientClosed = 499

// dropUpstream gives up the try that is under way.
func (s *stream) dropUpstream() {
	s.waiter.Cancel()
	if s.up != nil {
		s.up.Close()
		s.up = nil
	}
	s.upTiming = upNone
	s.dropUpOut()
	s.dropUpIn()
	s.uncount()
}

func (s *stream) dropUpOut() {
	if s.upOut != nil {
		s.w.loop.Put(s.upOut[:cap(s.upOut)])
		s.upOut, s.upOutR = nil, 0
	}
}

func (s *stream) dropUpIn() {
	if s.upIn != nil {
		s.w.loop.Put(s.upIn)
		s.upIn, s.upInN = nil, 0
	}
}

// count and uncount keep the books of requests under way per endpoint.
func (s *stream) count() {
	s.flags |= counted
	s.cl.active++
	s.cl.picker.Begin(s.ep)
	s.w.shard.GaugeAdd(s.epst.Active, 1)
}

func (s *stream) uncount() {
	if !s.has(counted) {
		return
	}
	s.cl.active--
	s.cl.picker.End(s.ep)
	s.w.shard.GaugeAdd(s.epst.Active, -1)
	s.flags &^= counted
}

// clear makes the stream ready for its next exchange; buffers it owns and the
// maps' memory stay.
func (s *stream) clear() {
	if s.whole.Armed() {
		s.w.loop.StopTimer(&s.whole)
	}
	if s.cl != nil {
		s.leaveCluster()
	}
	s.pin.reset()
	s.req.Reset()
	s.resp.Reset()
	s.c, s.route, s.cl, s.ep, s.epst = nil, nil, nil, nil, nil
	s.state, s.flags = streamHead, 0
	s.head, s.bodyBeg, s.bodySent, s.bodyEnd = 0, 0, 0, 0
	s.client = netip.Addr{}
	s.start, s.connectAt, s.connected, s.sentAt, s.firstByte = 0, 0, 0, 0, 0
	s.bytesIn, s.bytesOut, s.headsOut = 0, 0, 0
	s.reason, s.status = "", 0
	s.where, s.reused = "", false
	s.attempts, s.tries, s.addressTries, s.interims, s.passed = 0, 0, 0, 0, 0
	s.tunnelUpEOF, s.tunnelCliEOF = false, false
}

// jitter is a random time in [0, d).
func (s *stream) jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(rand.New(s.w.rng).Int64N(int64(d)))
}
