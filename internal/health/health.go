// Package health finds out which endpoints of a cluster can be used: a Checker asks
// them, a Detector judges them by their replies. Both are control plane: ordinary
// goroutines that tell their findings to package cluster, whose views the workers
// choose from.
package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/ratelog"
	"belay/internal/stats"
)

// Options are what the checkers of a process share.
type Options struct {
	Log   *slog.Logger
	Slots chan struct{} // its capacity bounds the checks that begin at a time
}

// DefaultSlots is how many checks begin at a time.
const DefaultSlots = 64

// slotTime is how long a check keeps its slot at most. What takes longer waits for a
// silent endpoint: that costs next to nothing and must not hold up the other checks.
const slotTime = 250 * time.Millisecond

// idle is how long it takes at most to see that an endpoint is to be checked again.
const idle = time.Second

// TLS makes the configuration of a handshake with an address of a cluster; name is
// what to verify where the cluster does not say.
type TLS func(address, name string) (*tls.Config, error)

// Checker asks the endpoints of one cluster, each on its own schedule.
type Checker struct {
	c    *cluster.Cluster
	cfg  *config.HealthCheck
	o    Options
	tls  TLS // nil: the cluster is plain
	good []*atomic.Uint64
	bad  []*atomic.Uint64
	own  ratelog.Lines[string] // checks that belay could not make, by what it lacks
}

// NewChecker makes the checker of a cluster that has a health_check, and registers its
// counters. A nil TLS is for a plain cluster.
func NewChecker(c *cluster.Cluster, t TLS, o Options, r *stats.Registry) *Checker {
	x := &Checker{c: c, cfg: c.Config.HealthCheck, o: o, tls: t}
	for _, e := range c.Endpoints {
		count := func(result string) *atomic.Uint64 {
			return r.Atomic("belay_endpoint_health_checks_total", "Active health checks by result.",
				stats.Label{Name: "cluster", Value: c.Config.Name}, stats.Label{Name: "endpoint", Value: e.ID}, stats.Label{Name: "result", Value: result})
		}
		x.good = append(x.good, count("passed"))
		x.bad = append(x.bad, count("failed"))
	}
	return x
}

// Run checks until ctx ends.
func (x *Checker) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, e := range x.c.Endpoints {
		all.Add(1)
		go func() {
			defer all.Done()
			x.watch(ctx, e)
		}()
	}
	all.Wait()
}

// watch checks one endpoint again and again, the first time at once.
func (x *Checker) watch(ctx context.Context, e *cluster.Endpoint) {
	turn := series{cfg: x.cfg}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait := min(idle, x.cfg.IntervalFirst)
		if e.State() == cluster.Disabled {
			turn.again = true
		} else if len(e.Addresses()) > 0 {
			free, ok := x.slot(ctx)
			if !ok {
				return
			}
			found, why := x.check(ctx, e)
			free()
			if ctx.Err() != nil { // it says nothing of the endpoint
				return
			}
			wait = x.tell(e, &turn, found, why)
		}
		timer.Reset(jitter(wait, x.cfg.Jitter))
	}
}

// slot waits for one; false: ctx ended. free gives it back.
func (x *Checker) slot(ctx context.Context) (free func(), ok bool) {
	select {
	case <-ctx.Done():
		return nil, false
	case x.o.Slots <- struct{}{}:
	}
	once := sync.OnceFunc(func() { <-x.o.Slots })
	timer := time.AfterFunc(slotTime, once)
	return func() {
		timer.Stop()
		once()
	}, true
}

// tell enters a result and says when to check again.
func (x *Checker) tell(e *cluster.Endpoint, turn *series, found cluster.Health, why string) time.Duration {
	soon := min(x.cfg.IntervalFirst, x.cfg.Interval)
	switch found {
	case cluster.HealthUnknown:
		if held, ok := x.own.Now(why, time.Now().UnixNano()); ok {
			x.o.Log.Warn("an endpoint could not be checked, for want of something here", "cluster", x.c.Config.Name, "endpoint", e.ID, "reason", why, "unlogged", held)
		}
		return soon
	case cluster.HealthBad:
		x.bad[e.Index].Add(1)
	default:
		x.good[e.Index].Add(1)
	}
	info := e.Info()
	now := info.Health
	next, counting := turn.judge(now, found)
	if next != now || found == cluster.HealthBad || !counting && info.Why != "" {
		e.SetHealth(next, why)
	}
	switch {
	case counting:
		return soon
	case next == cluster.HealthBad:
		return x.cfg.IntervalDown
	}
	return x.cfg.Interval
}

// series counts the results in a row that speak against what is held of an endpoint.
type series struct {
	cfg   *config.HealthCheck
	n     int
	again bool // the endpoint was disabled: what is held of it is of another time
}

// judge says what to hold of an endpoint after one more result, and whether a change
// is being counted up. The first result of all decides alone, and so does the first
// after the endpoint was disabled.
func (s *series) judge(now, found cluster.Health) (next cluster.Health, counting bool) {
	limit := s.cfg.Rise
	switch {
	case now == cluster.HealthUnknown, s.again:
		s.n, s.again = 0, false
		return found, false
	case (now == cluster.HealthBad) == (found == cluster.HealthBad):
		s.n = 0
		return found, false // healthy and degraded change at once
	case found == cluster.HealthBad:
		limit = s.cfg.Fall
	}
	if s.n++; s.n >= limit {
		s.n = 0
		return found, false
	}
	return now, true
}

// jitter spreads a time by a share to either side, so that checks of many machines
// and endpoints do not come together.
func jitter(d time.Duration, share float64) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*share*float64(d))
}

// maxWords bounds what an endpoint's reply can bring into logs and the admin API.
const maxWords = 200

// words says what is wrong in terms of who runs the endpoint.
func words(err error, limit time.Duration) string {
	var op *net.OpError
	var sys *os.SyscallError
	says := strings.TrimPrefix(err.Error(), "net/http: HTTP/1.x transport connection broken: ")
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer in %s", limit)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the endpoint closed the connection"
	case errors.As(err, &sys):
		return sys.Err.Error()
	case errors.As(err, &op):
		says = op.Err.Error()
	}
	if len(says) > maxWords {
		return strings.ToValidUTF8(says[:maxWords], "") + "…"
	}
	return says
}
