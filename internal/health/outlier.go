package health

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/ratelog"
	"belay/internal/stats"
)

// Detector takes endpoints out whose replies are errors, as Envoy's outlier detection
// does: by errors in a row, by the share of successes against the others', by a share
// of failures.
type Detector struct {
	c       *cluster.Cluster
	cfg     *config.Outlier
	log     *slog.Logger
	last    []look // by Endpoint.Index
	ejected []*atomic.Uint64
	refused *atomic.Uint64
	said    time.Time // when the log was told of a refusal
	now     func() time.Time
}

// look is how an endpoint was at the last judgement.
type look struct {
	good, bad uint64
	ejected   bool // then, or at some time since
}

// NewDetector makes the detector of a cluster that has an outlier table, and registers
// its counters.
func NewDetector(c *cluster.Cluster, log *slog.Logger, r *stats.Registry) *Detector {
	d := &Detector{c: c, cfg: c.Config.Outlier, log: log, last: make([]look, len(c.Endpoints)), now: time.Now}
	l := stats.Label{Name: "cluster", Value: c.Config.Name}
	for _, e := range c.Endpoints {
		d.ejected = append(d.ejected, r.Atomic("belay_endpoint_ejections_total", "Times that an endpoint was taken out for its replies.", l, stats.Label{Name: "endpoint", Value: e.ID}))
	}
	d.refused = r.Atomic("belay_cluster_ejections_refused_total", "Endpoints that were not taken out because max_ejected_percent were already.", l)
	return d
}

// Run judges until ctx ends.
func (d *Detector) Run(ctx context.Context) {
	ticker := time.NewTicker(d.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-d.c.Suspects:
			d.eject(e, fmt.Sprintf("%d errors in a row", d.cfg.Consecutive))
		case <-ticker.C:
			d.judge()
		}
	}
}

// eject takes an endpoint out unless so many are out already. The one that is refused
// is judged again after as many more errors.
func (d *Detector) eject(e *cluster.Endpoint, reason string) {
	info := e.Info()
	if !info.Ejected.IsZero() {
		return
	}
	out, usable := 0, 0
	for _, x := range d.c.Endpoints {
		switch {
		case !x.Info().Ejected.IsZero():
			out++
		case x != e && x.State() <= cluster.Degraded && x.Weight > 0 && len(x.Addresses()) > 0:
			usable++
		}
	}
	allowed := max(1, len(d.c.Endpoints)*d.cfg.MaxEjected/100)
	if d.cfg.MaxEjected == 0 {
		allowed = 0
	}
	if out >= allowed || usable == 0 && d.cfg.MaxEjected < 100 {
		d.refuse(e, reason)
		return
	}
	d.ejected[e.Index].Add(1)
	d.last[e.Index].ejected = true
	length := min(d.cfg.Ejection*time.Duration(info.Ejections+1), d.cfg.MaxEjection)
	e.Eject(d.now().Add(length), reason)
	if d.cfg.Ejection*time.Duration(info.Ejections) >= d.cfg.MaxEjection {
		e.Forget() // it cannot get longer, so it need not take longer to be forgiven
	}
}

// refuse leaves an endpoint in, and tells the log now and then.
func (d *Detector) refuse(e *cluster.Endpoint, reason string) {
	d.refused.Add(1)
	e.Forgive()
	if now := d.now(); now.Sub(d.said) >= ratelog.Every {
		d.said = now
		d.log.Warn("endpoint not ejected: max_ejected_percent are, or it is the last", "cluster", d.c.Config.Name, "endpoint", e.ID, "reason", reason)
	}
}

// judge looks at what the endpoints did since the last time. Those that were not
// ejected in all of it are forgiven one ejection.
func (d *Detector) judge() {
	var judged []*cluster.Endpoint
	var rates []float64
	for i, e := range d.c.Endpoints {
		info, before := e.Info(), d.last[i]
		out := !info.Ejected.IsZero()
		if !out && !before.ejected && info.Ejections > 0 {
			e.Forget()
		}
		good, bad := e.Tally()
		g, b := good-before.good, bad-before.bad
		d.last[i] = look{good, bad, out}
		if n := g + b; n >= uint64(d.cfg.SuccessRateMinimum) && !out {
			judged = append(judged, e)
			rates = append(rates, float64(g)/float64(n))
		}
	}
	floor := math.Inf(-1)
	if d.cfg.SuccessRate > 0 && len(judged) >= d.cfg.SuccessRateHosts {
		mean, deviation := spread(rates)
		floor = mean - d.cfg.SuccessRate*deviation
	}
	for i, e := range judged {
		switch failed := 100 * (1 - rates[i]); {
		case rates[i] < floor:
			d.eject(e, fmt.Sprintf("%.1f%% of its requests succeed, the others' floor is %.1f%%", 100*rates[i], 100*floor))
		case d.cfg.FailurePercent > 0 && failed >= float64(d.cfg.FailurePercent):
			d.eject(e, fmt.Sprintf("%.1f%% of its requests fail", failed))
		}
	}
}

// spread is the mean and the standard deviation.
func spread(list []float64) (mean, deviation float64) {
	for _, x := range list {
		mean += x
	}
	mean /= float64(len(list))
	for _, x := range list {
		deviation += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(deviation / float64(len(list)))
}
