// Package traffic is load for tests of a proxy, made so that it counts: every
// request has exactly one outcome, every reply is compared with what its
// backend must have said, and what became of idle connections is told apart
// from what became of requests. Its speed is set by a rate, since several run
// on one small machine; it is not a benchmark.
//
// Clients of these kinds run at once against every target:
//
//	keepalive  a small request now and then on one connection
//	fresh      a small request on a connection of its own
//	upload     a body, by length and chunked in turn, whose sum comes back
//	download   a reply with a body of some size
//	slow       a reply that drips for a while, one after the other
//	upgrade    a connection upgraded to an echo, as a WebSocket is
package traffic

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Kinds of clients.
const (
	KeepAlive = "keepalive"
	Fresh     = "fresh"
	Upload    = "upload"
	Download  = "download"
	Slow      = "slow"
	Upgrade   = "upgrade"
)

// Outcomes of a request. All but OK are failures.
const (
	OK          = "ok"
	Refused     = "refused"          // the connection was refused
	Reset       = "reset"            // RST, on a request or on an idle connection
	EOFBefore   = "eof_before_reply" // closed under a request, nothing came
	EOFIn       = "eof_in_reply"     // closed in the middle of a reply or an upgraded connection
	Timeout     = "timeout"
	WrongBody   = "wrong_body" // not what the backend must have said
	Status5xx   = "status_5xx"
	StatusOther = "status_other" // neither 5xx nor the expected status
	Malformed   = "malformed"    // not HTTP, or bytes nobody asked for
	Local       = "local"        // the client's own machine failed, such as no free port
)

// Options say what load is made. A count is of clients per target.
type Options struct {
	Targets    map[string]string // "ip:port" or the path of a Unix socket, by name
	Host       string            // of the requests; "": load.test
	KeepAlive  int
	Fresh      int
	Upload     int
	Download   int
	Slow       int
	Upgrade    int
	Rate       float64       // keepalive and fresh requests a second in all; 0: 200; < 0: no limit
	BodyRate   float64       // upload and download requests a second in all; 0: 20; < 0: no limit
	BodySize   int           // bytes of these bodies; 0: 100 KiB
	SlowFor    time.Duration // how long a slow reply takes; 0: 3s
	UpgradeFor time.Duration // how long an upgraded connection lives; 0: until the end
	Timeout    time.Duration // of a request, beyond SlowFor; 0: 10s
}

const (
	echoEvery   = 100 * time.Millisecond // messages of an upgraded connection
	dripEvery   = 100 * time.Millisecond // pieces of a slow reply
	keepFailure = 50                     // failures told one by one
)

func (o Options) withDefaults() Options {
	set(&o.Host, "load.test")
	set(&o.Rate, 200)
	set(&o.BodyRate, 20)
	set(&o.BodySize, 100<<10)
	set(&o.SlowFor, 3*time.Second)
	set(&o.Timeout, 10*time.Second)
	return o
}

func set[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Counts are what was counted for the clients of one kind at one target, or a sum.
type Counts struct {
	Requests    int64            // begun; those under way have no outcome yet
	Outcomes    map[string]int64 // requests by outcome
	Status      map[int]int64    // replies by status, counted when the head was there
	Connections int64            // established
	IdleClosed  int64            // closed by the server between two requests without a word
	Announced   int64            // closed after a reply with Connection: close
	Messages    int64            // echoed on upgraded connections
	Sent        int64            // bytes on all connections
	Received    int64
}

func (c *Counts) add(o *Counts) {
	c.Requests += o.Requests
	c.Connections += o.Connections
	c.IdleClosed += o.IdleClosed
	c.Announced += o.Announced
	c.Messages += o.Messages
	c.Sent += o.Sent
	c.Received += o.Received
	sum(&c.Outcomes, o.Outcomes)
	sum(&c.Status, o.Status)
}

func sum[K comparable](to *map[K]int64, from map[K]int64) {
	if *to == nil {
		*to = map[K]int64{}
	}
	for k, n := range from {
		(*to)[k] += n
	}
}

// Failed counts the requests that failed.
func (c *Counts) Failed() int64 {
	n := int64(0)
	for what, count := range c.Outcomes {
		if what != OK {
			n += count
		}
	}
	return n
}

// Replies counts the replies of all statuses.
func (c *Counts) Replies() int64 {
	n := int64(0)
	for _, count := range c.Status {
		n += count
	}
	return n
}

// Failure is one failed request.
type Failure struct {
	At      time.Time // of the failure
	After   time.Duration
	Target  string
	Kind    string
	Outcome string
	Detail  string
	Local   string // address of the client, "" if it had no connection
	Earlier int    // requests answered on the same connection before
}

// Stall is the longest of something, and when it began.
type Stall struct {
	For time.Duration
	At  time.Time
}

func (s *Stall) note(from, to time.Time) {
	if d := to.Sub(from); d > s.For {
		*s = Stall{d, from}
	}
}

// Result is what has been counted so far.
type Result struct {
	For      time.Duration                 // since the start
	Counts   map[string]map[string]*Counts // by target and kind
	Failures []Failure                     // the first of them
	Latency  Stall                         // longest keepalive or fresh request that was answered, with its dial
	Gap      Stall                         // longest time without an answer to any such request
	Echo     Stall                         // longest round trip of a message on an upgraded connection
	Spread   [32]int64                     // of Latency: how many requests by the number of binary digits of their µs
}

// Quantile is a time that a share q of the keepalive and fresh requests did not
// exceed, to a factor of two.
func (r *Result) Quantile(q float64) time.Duration {
	all := int64(0)
	for _, n := range r.Spread {
		all += n
	}
	left := int64(q * float64(all))
	for digits, n := range r.Spread {
		if left -= n; left <= 0 && n > 0 {
			return min(r.Latency.For, time.Microsecond<<digits)
		}
	}
	return r.Latency.For
}

// Total sums the counts of a target, "" for all, and of some kinds, none for all.
func (r *Result) Total(target string, kinds ...string) *Counts {
	total := &Counts{Outcomes: map[string]int64{}, Status: map[int]int64{}}
	for t, byKind := range r.Counts {
		if target != "" && t != target {
			continue
		}
		for k, c := range byKind {
			if len(kinds) == 0 || slices.Contains(kinds, k) {
				total.add(c)
			}
		}
	}
	return total
}

// Failed counts the requests that failed.
func (r *Result) Failed() int64 { return r.Total("").Failed() }

// Requests counts the requests that were begun.
func (r *Result) Requests() int64 { return r.Total("").Requests }

// String is a table of everything, for a log.
func (r *Result) String() string {
	var b strings.Builder
	all := r.Total("")
	fmt.Fprintf(&b, "%d requests in %.1f s, %d failed, %d connections, %d announced closed, %d idle ones closed\n",
		all.Requests, r.For.Seconds(), all.Failed(), all.Connections, all.Announced, all.IdleClosed)
	fmt.Fprintf(&b, "latency: half below %v, 99 %% below %v, longest %v; longest gap %v, longest echo %v\n",
		r.Quantile(0.5), r.Quantile(0.99), r.Latency.For, r.Gap.For, r.Echo.For)
	for _, t := range slices.Sorted(maps.Keys(r.Counts)) {
		for _, k := range slices.Sorted(maps.Keys(r.Counts[t])) {
			c := r.Counts[t][k]
			fmt.Fprintf(&b, "%s %s: %d requests, outcomes %v, status %v, %d connections, %d announced, %d idle closed\n",
				t, k, c.Requests, c.Outcomes, c.Status, c.Connections, c.Announced, c.IdleClosed)
		}
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "%s %s %s %s after %v, request %d of %s: %s\n",
			f.At.Format("15:04:05.000"), f.Target, f.Kind, f.Outcome, f.After.Round(time.Microsecond), f.Earlier+1, f.Local, f.Detail)
	}
	return b.String()
}
