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
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/stats"
)

// Options are what the checkers of a process share.
type Options struct {
	Log   *slog.Logger
	Slots chan struct{} // its capacity bounds the checks that run at a time
}

// DefaultSlots is how many checks run at a time.
const DefaultSlots = 64

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
		wait := x.cfg.IntervalFirst
		if e.State() != cluster.Disabled && len(e.Addresses()) > 0 {
			select {
			case <-ctx.Done():
				return
			case x.o.Slots <- struct{}{}:
			}
			found, why := x.check(ctx, e)
			<-x.o.Slots
			if ctx.Err() != nil { // it says nothing of the endpoint
				return
			}
			wait = x.tell(e, &turn, found, why)
		}
		timer.Reset(jitter(wait, x.cfg.Jitter))
	}
}

// tell enters a result and says when to check again.
func (x *Checker) tell(e *cluster.Endpoint, turn *series, found cluster.Health, why string) time.Duration {
	if found == cluster.HealthBad {
		x.bad[e.Index].Add(1)
	} else {
		x.good[e.Index].Add(1)
	}
	now := e.Info().Health
	next, counting := turn.judge(now, found)
	if next != now || found == cluster.HealthBad {
		e.SetHealth(next, why)
	}
	switch {
	case counting:
		return x.cfg.IntervalFirst
	case next == cluster.HealthBad:
		return x.cfg.IntervalDown
	}
	return x.cfg.Interval
}

// series counts the results in a row that speak against what is held of an endpoint.
type series struct {
	cfg *config.HealthCheck
	n   int
}

// judge says what to hold of an endpoint after one more result, and whether a change
// is being counted up. The first result of all decides alone.
func (s *series) judge(now, found cluster.Health) (next cluster.Health, counting bool) {
	limit := s.cfg.Rise
	switch {
	case now == cluster.HealthUnknown:
		s.n = 0
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

// words says what is wrong in terms of who runs the endpoint.
func words(err error, limit time.Duration) string {
	var op *net.OpError
	var sys *os.SyscallError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer in %s", limit)
	case errors.As(err, &sys):
		return sys.Err.Error()
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}
