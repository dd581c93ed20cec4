package httpproxy

import (
	"belay/internal/cluster"
	"errors"
	"slices"
	"time"

	"belay/internal/config"
	"belay/internal/header"
	"belay/internal/http1"
	"belay/internal/listener"
	"belay/internal/transport"
	"belay/internal/upstream"
)

// pick chooses an endpoint and asks for a connection to it.
func (s *stream) pick() {
	h, ok := s.hint()
	if !ok {
		return
	}
	s.choose(h)
	if s.ep == nil {
		s.w.shard.Inc(s.cl.shared.Stats.NoEndpoint)
		s.reply(503, reasonNoEndpoint)
		return
	}
	s.epst = &s.cl.shared.endpoints[s.ep.Index]
	s.addressTries = 0
	s.count()
	if !s.has(changed) {
		s.flags |= changed
		s.route.request.apply(&s.req.Header, s)
	}
	s.connect()
}

// choose sets s.ep; nil if nobody takes the request.
func (s *stream) choose(h cluster.Hint) {
	if s.runsOut() && s.otherCluster() {
		h = s.hashHint()
	}
	s.ep = s.cl.picker.Pick(h)
	if s.ep != nil && s.wasFull(s.ep) {
		if e := s.cl.picker.Other(s.full[:s.passed]); e != nil {
			s.ep = e
		}
	}
	if s.passed == 0 {
		s.claim(h.Avoid)
	}
	if s.ep == nil && s.otherCluster() {
		s.ep = s.cl.picker.Pick(s.hashHint())
	}
}

// connect begins a try at s.ep.
func (s *stream) connect() {
	s.attempts++
	s.tries++
	s.connectAt = s.w.loop.Now()
	s.state = streamWaiting
	want := upstream.Want{Fresh: s.has(staleRetried), Careful: !s.req.Method.Idempotent()}
	want.NoWait = s.mayPass()
	if s.atHome() {
		want.NoWait = s.pin.plan.cfg.Full == "policy"
	}
	if s.cl.shared.Config.TLS != nil {
		want.Name = listener.HostName(s.req.Header.Get(header.Host))
	}
	if s.cl.shared.Config.ProxyProtocol != 0 {
		want.Origin = s.c.origin()
	}
	up, err := s.cl.pool(s.ep).Acquire(s, &s.waiter, s.grant, &want)
	if up != nil || err != nil {
		s.granted(up, err)
	}
}

// granted is the pool's answer, at once or after a wait.
func (s *stream) granted(up *upstream.Conn, err error) {
	if err != nil {
		s.noConnection(err)
		return
	}
	s.up = up
	if s.w.access != nil {
		s.where, s.reused = up.Where(), up.Reused()
	}
	up.Socket.SetOwner(s)
	s.state = streamConnecting
	s.handshake()
}

// handshake waits until bytes can flow to the endpoint.
func (s *stream) handshake() {
	err := s.up.Handshake()
	switch {
	case err == nil:
		s.connected = s.w.loop.Now()
		s.upTiming = upNone
		s.state = streamAwait
		if !s.has(bodyDone) { // reading stopped at a full buffer, and its event is gone
			s.resume()
		}
		s.send()
	case errors.Is(err, transport.ErrAgain):
		if s.upTiming != upConnect {
			s.arm(upConnect, s.cl.shared.Config.ConnectTimeout)
		}
	default:
		s.up.Failed()
		if s.nextAddress() {
			return
		}
		reason := reasonConnectFailure
		if upstream.IsTLS(err) {
			reason = reasonTLSFailure
		}
		s.tryFailed(failConnect, reason)
	}
}

// nextAddress tries another address of an endpoint whose name has several.
func (s *stream) nextAddress() bool {
	s.addressTries++
	if s.addressTries >= len(s.ep.Addresses()) {
		return false
	}
	s.up.Close()
	s.up = nil
	s.upTiming = upNone
	s.attempts--
	s.connect()
	return true
}

// noConnection is a pool that has none to give.
func (s *stream) noConnection(err error) {
	switch {
	case errors.Is(err, upstream.ErrPendingFull), errors.Is(err, upstream.ErrPendingTimeout):
		switch {
		case !s.atHome() && s.mayPass():
			s.pass()
		case !s.atHome():
			s.dropUpstream()
			s.reply(503, err.Error())
		case s.losePin(cluster.FoundOverloaded):
			s.full[0], s.passed = s.ep, 1
			s.redispatch()
		}
	default:
		s.tryFailed(failConnect, err.Error())
	}
}

// atHome reports whether the try is at the endpoint of the request's session.
func (s *stream) atHome() bool { return s.holds() && s.ep == s.pin.ep }

// maxPassed bounds how many endpoints without room a request passes over before it
// waits for one.
const maxPassed = 3

// mayPass reports whether a request that belongs nowhere may look for an endpoint with
// room before it waits for the one that was chosen. What is hashed belongs somewhere.
func (s *stream) mayPass() bool {
	return s.passed < min(maxPassed, len(s.cl.shared.Endpoints)-1) && s.ep.MaxConnections() > 0 && s.pin.hashed < hashKnown
}

// wasFull reports whether the request found no room at an endpoint.
func (s *stream) wasFull(e *cluster.Endpoint) bool { return slices.Contains(s.full[:s.passed], e) }

// pass goes on to the next endpoint.
func (s *stream) pass() {
	s.dropUpstream()
	s.full[s.passed] = s.ep
	s.passed++
	s.attempts--
	s.tries--
	s.pick()
}

// send serialises the head, with what there is of the body behind it.
func (s *stream) send() {
	b := http1.AppendRequestLine(s.w.wbuf[:0], s.req.MethodBytes(), s.target())
	b = s.req.Header.AppendTo(b)
	b = append(b, "\r\n"...)
	s.flags |= headSent
	s.flags &^= sentAny | gotReply | lastChunkUp | reqSent
	if !s.has(chunkedUp) {
		p := s.c.in[s.bodySent:s.bodyEnd]
		head := len(b)
		b = append(b, p...)
		n, err := s.up.Socket.Write(b, nil)
		if err != nil {
			s.sendFailed()
			return
		}
		if n > 0 {
			s.flags |= sentAny
		}
		if n < head {
			s.keepUp(b[n:head])
			n = head
		}
		s.bodySent += int32(n - head)
		s.sent(true)
		return
	}
	switch {
	case !s.writeUp(b):
	case len(s.upOut) > int(s.upOutR):
		s.sent(true)
	default:
		s.sendBody()
	}
}

// failure is the kind of a failed try; retry.on decides by it.
type failure uint8

const (
	failConnect   failure = iota // not a byte was sent
	failReset                    // the endpoint ended the connection before a reply byte
	failFirstByte                // no reply in time
	failWrite                    // the endpoint took no more of the request
	failReply                    // the reply was broken, or began and did not end
	fail5xx                      // a 5xx or a listed status
)

// tryFailed ends a try and begins another, or answers.
func (s *stream) tryFailed(f failure, reason string) {
	if s.has(replyStarted) {
		s.replyBroken(reason)
		return
	}
	s.w.shard.Inc(s.epst.Failures)
	s.flags &^= unreachable
	if f == failConnect {
		s.flags |= unreachable
		s.unclaim()
	}
	stale := s.up != nil && s.up.Reused() && f == failReset && s.mayRepeatStale()
	if !stale && s.counts(f) { // what is not counted is no success either
		s.ep.Result(false)
	}
	s.endTry()
	switch {
	case stale:
		s.flags |= staleRetried
		s.w.shard.Inc(s.cl.shared.Stats.StaleRetries)
		s.rewind()
		s.count()
		s.attempts--
		s.connect()
	case s.mayRedispatch(f):
		if s.losePin(cluster.FoundDown) {
			s.redispatch()
		}
	case s.mayRetry(f):
		s.retry()
	case f == failConnect && s.atHome(): // the policy is "strict"
		s.pin.found = cluster.FoundDown
		s.refuseSession()
	default:
		s.reply(failStatus(f), reason)
	}
}

// endTry drops the connection of a failed try; the books of the endpoint close.
func (s *stream) endTry() {
	s.dropUpstream()
	s.resp.Reset()
	s.interims = 0
}

// redispatch has the request of a lost session try elsewhere, which is no retry of
// the route's policy.
func (s *stream) redispatch() {
	s.dropUpstream()
	s.w.shard.Inc(s.cl.shared.Stats.Redispatches)
	s.attempts--
	s.flags &^= staleRetried // the next endpoint's connections are others
	s.again(0)
}

// retryOn is what a failure is called in retry.on and outlier.on.
func (f failure) retryOn() config.RetryOn {
	switch f {
	case failConnect:
		return config.RetryConnectFailure
	case failReset, failReply:
		return config.RetryReset
	case failFirstByte, failWrite:
		return config.RetryFirstByte
	}
	return config.Retry5xx
}

// counts reports whether a failure is an error in the eyes of outlier detection.
func (s *stream) counts(f failure) bool {
	o := s.cl.shared.Config.Outlier
	return o != nil && o.On&f.retryOn() != 0
}

// isError reports whether a reply's status is one.
func (s *stream) isError(status int) bool { return status >= 500 && s.counts(fail5xx) }

func failStatus(f failure) int {
	switch f {
	case failConnect:
		return 503
	case failFirstByte, failWrite:
		return 504
	}
	return 502
}

// mayRepeatStale: a pooled connection that the endpoint closed before it saw the
// request may be replaced once, if not one byte was written, or if repeating is
// harmless and possible.
func (s *stream) mayRepeatStale() bool {
	if s.has(staleRetried) || s.has(gotReply) || s.has(interimSent) {
		return false
	}
	return !s.has(sentAny) || s.canResend()
}

// canResend: the method is idempotent (RFC 9110 9.2.2), head and body are still
// whole in the buffer.
func (s *stream) canResend() bool { return s.req.Method.Idempotent() && s.has(replayable) }

// mayRetry asks the route's policy and the cluster's budget.
func (s *stream) mayRetry(f failure) bool {
	r := &s.route.cfg.Retry
	if s.attempts > r.Attempts || s.has(interimSent) || !s.has(replayable) {
		return false
	}
	var on config.RetryOn
	switch f {
	case failConnect:
		on = config.RetryConnectFailure
	case failReset:
		on = config.RetryReset
	case failFirstByte:
		on = config.RetryFirstByte
	case fail5xx:
		on = config.Retry5xx | config.RetryStatus
	}
	if r.On&on == 0 || s.has(sentAny) && !s.req.Method.Idempotent() {
		return false
	}
	budget := max(r.BudgetMin, int(r.Budget*float64(s.cl.active+1)))
	if s.cl.retries >= budget && !s.has(retrying) {
		s.w.shard.Inc(s.cl.shared.Stats.RetriesOverBudget)
		return false
	}
	return true
}

// retry begins another try by the route's policy; the exchange keeps its place
// in the budget until it ends.
func (s *stream) retry() {
	s.w.shard.Inc(s.cl.shared.Stats.Retries)
	if !s.has(retrying) {
		s.flags |= retrying
		s.cl.retries++
	}
	s.again(s.backoff())
}

// retryStatus reports whether the policy wants a reply with this status retried.
func (s *stream) retryStatus(status int) bool {
	r := &s.route.cfg.Retry
	wanted := r.On&config.Retry5xx != 0 && status >= 500 || r.On&config.RetryStatus != 0 && s.route.statuses[status]
	return wanted && s.mayRetry(fail5xx)
}

// backoff is the time before the next try: doubled each time, full jitter.
func (s *stream) backoff() time.Duration {
	r := &s.route.cfg.Retry
	d := r.Backoff << min(max(s.attempts-1, 0), 16)
	if d <= 0 || d > r.BackoffMax {
		d = r.BackoffMax
	}
	return s.jitter(d)
}

// rewind makes the request ready for another try.
func (s *stream) rewind() {
	s.bodySent = s.bodyBeg
	s.firstByte = 0
	s.flags &^= headSent | sentAny | reqSent | lastChunkUp | gotReply | surplus
	s.state = streamBackoff
}

// again begins another try after d, at another endpoint if there is one.
func (s *stream) again(d time.Duration) {
	s.rewind()
	if d > 0 {
		s.upTiming = upBackoff
		s.w.loop.SetTimer(&s.timer, s, s.w.loop.Now()+int64(d))
		return
	}
	s.pick()
}
