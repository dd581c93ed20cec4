package health

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/stats"
)

func detector(n int, o config.Outlier) (*Detector, []*cluster.Endpoint) {
	cfg := &config.Cluster{Name: "c", Balance: "round_robin", Outlier: &o}
	for i := range n {
		cfg.Endpoints = append(cfg.Endpoints, config.Endpoint{ID: fmt.Sprint("e", i), Host: "192.0.2.1", Port: uint16(i + 1), Weight: 1})
	}
	c := cluster.New(cfg)
	return NewDetector(c, slog.New(slog.DiscardHandler), stats.NewRegistry()), c.Endpoints
}

func outlier() config.Outlier {
	return config.Outlier{
		Consecutive: 5, On: config.Retry5xx, SuccessRateMinimum: 100, SuccessRateHosts: 5,
		Interval: 10 * time.Second, Ejection: 30 * time.Second, MaxEjection: 70 * time.Second, MaxEjected: 10,
	}
}

func results(e *cluster.Endpoint, good, bad int) {
	for range good {
		e.Result(true)
	}
	for range bad {
		e.Result(false)
		e.Forgive() // errors in a row are another test's
	}
}

func TestConsecutiveErrors(t *testing.T) {
	d, e := detector(3, outlier())
	for range 4 {
		e[0].Result(false)
	}
	e[0].Result(true)
	for range 4 {
		e[0].Result(false)
	}
	select {
	case x := <-d.c.Suspects:
		t.Fatalf("%s is suspected after 4 in a row", x.ID)
	default:
	}
	e[0].Result(false)
	d.eject(<-d.c.Suspects, "5 errors in a row")
	if i := e[0].Info(); i.State != cluster.Unhealthy || i.Reason != "5 errors in a row" || time.Until(i.Ejected) > 30*time.Second || time.Until(i.Ejected) < 25*time.Second {
		t.Errorf("ejected: %+v", i)
	}
	if d.ejected[0].Load() != 1 {
		t.Errorf("%d ejections counted", d.ejected[0].Load())
	}
}

// One at least may go, not more than the percentage, and never the last.
func TestMaxEjected(t *testing.T) {
	for _, tt := range []struct {
		endpoints, percent int
		want               string
	}{
		{3, 10, "e0"}, {20, 10, "e0 e1"}, {4, 50, "e0 e1"}, {3, 0, ""}, {1, 50, ""}, {2, 99, "e0"}, {2, 100, "e0 e1"},
	} {
		o := outlier()
		o.MaxEjected = tt.percent
		d, list := detector(tt.endpoints, o)
		for _, e := range list {
			d.eject(e, "test")
			d.eject(e, "again") // is not counted twice
		}
		var out []string
		for _, e := range list {
			if e.State() == cluster.Unhealthy {
				out = append(out, e.ID)
			}
		}
		if got := strings.Join(out, " "); got != tt.want || len(out) < tt.endpoints && d.refused.Load() == 0 {
			t.Errorf("%d%% of %d: %q (%d refused), want %q", tt.percent, tt.endpoints, got, d.refused.Load(), tt.want)
		}
	}
}

// Each ejection in a row is longer, up to the longest; a quiet interval takes one off.
func TestEjectionTimes(t *testing.T) {
	d, e := detector(2, outlier())
	start := time.Now()
	d.now = func() time.Time { return start }
	for _, want := range []time.Duration{30, 60, 70, 70} {
		d.eject(e[0], "test")
		if got := e[0].Info().Ejected.Sub(start); got != want*time.Second {
			t.Errorf("ejected for %s, want %ds", got, want)
		}
		e[0].Return(false)
	}
	for range 3 { // in a part of the first it was out
		d.judge()
	}
	d.eject(e[0], "test")
	if got := e[0].Info().Ejected.Sub(start); got != 60*time.Second {
		t.Errorf("after two quiet intervals: %s", got)
	}
}

// Ejections shorter than the interval become longer too, if they are in a row.
func TestShortEjections(t *testing.T) {
	o := outlier()
	o.Ejection, o.MaxEjection = time.Second, time.Minute
	d, e := detector(2, o)
	start := time.Now()
	d.now = func() time.Time { return start }
	for i := range 3 {
		d.eject(e[0], "test")
		if got, want := e[0].Info().Ejected.Sub(start), time.Duration(i+1)*time.Second; got != want {
			t.Errorf("ejected for %s, want %s", got, want)
		}
		if i == 1 {
			d.judge() // it is out at the end of an interval, and for a part of the next
		}
		e[0].Return(false)
		d.judge()
	}
	for range 5 {
		d.judge()
	}
	if n := e[0].Info().Ejections; n != 0 {
		t.Errorf("%d ejections are remembered", n)
	}
}

// The last endpoint that has an address stays in, whatever else there is.
func TestLastUsable(t *testing.T) {
	o := outlier()
	o.MaxEjected = 99
	for _, tt := range []struct {
		name string
		edit func(other *cluster.Endpoint)
		out  bool
	}{
		{"beside a healthy one", func(*cluster.Endpoint) {}, true},
		{"beside a degraded one", func(e *cluster.Endpoint) { e.SetHealth(cluster.HealthDegraded, "") }, true},
		{"beside one whose checks fail", func(e *cluster.Endpoint) { e.SetHealth(cluster.HealthBad, "") }, false},
		{"beside one that drains", func(e *cluster.Endpoint) { e.SetAdmin(cluster.Drain, time.Time{}) }, false},
		{"beside one that is disabled", func(e *cluster.Endpoint) { e.SetAdmin(cluster.Disable, time.Time{}) }, false},
		{"beside one for pinned sessions", func(e *cluster.Endpoint) { e.Weight = 0 }, false},
	} {
		d, list := detector(2, o)
		tt.edit(list[1])
		d.eject(list[0], "test")
		if got := list[0].State() == cluster.Unhealthy; got != tt.out {
			t.Errorf("%s: ejected %t", tt.name, got)
		}
	}
	c := cluster.New(&config.Cluster{Name: "c", Outlier: &o, Endpoints: []config.Endpoint{
		{ID: "e0", Host: "192.0.2.1", Port: 1, Weight: 1}, {ID: "e1", Host: "not.resolved.test", Port: 1, Weight: 1},
	}})
	NewDetector(c, slog.New(slog.DiscardHandler), stats.NewRegistry()).eject(c.Endpoints[0], "test")
	if c.Endpoints[0].State() == cluster.Unhealthy {
		t.Error("ejected beside one without an address")
	}
}

// Who looks for the reason why an endpoint stays in finds it, but not a line for each error.
func TestRefusalsAreTold(t *testing.T) {
	o := outlier()
	o.MaxEjected = 0
	d, e := detector(2, o)
	var log bytes.Buffer
	now := time.Now()
	d.log, d.now = slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now }
	for range 100 {
		d.eject(e[0], "5 errors in a row")
	}
	if n := strings.Count(log.String(), "5 errors in a row"); n != 1 || d.refused.Load() != 100 {
		t.Errorf("%d lines of %d refusals:\n%s", n, d.refused.Load(), &log)
	}
	now = now.Add(time.Minute)
	d.eject(e[0], "5 errors in a row")
	if n := strings.Count(log.String(), "endpoint=e0"); n != 2 {
		t.Errorf("a minute later: %d lines\n%s", n, &log)
	}
}

// A detector at work ejects who is suspected and who fails too often, and ends.
func TestDetectorRuns(t *testing.T) {
	o := outlier()
	o.Interval, o.FailurePercent, o.MaxEjected = time.Millisecond, 50, 50
	d, e := detector(4, o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	for range 5 {
		e[0].Result(false)
	}
	until(t, "errors in a row to eject e0", func() bool { return e[0].State() == cluster.Unhealthy })
	until(t, "failures to eject e1", func() bool { results(e[1], 1000, 2000); return e[1].State() == cluster.Unhealthy })
	if a, b := e[0].Info().Reason, e[1].Info().Reason; a != "5 errors in a row" || !strings.HasSuffix(b, "% of its requests fail") {
		t.Errorf("reasons %q and %q", a, b)
	}
	cancel()
	<-done
}

func TestRates(t *testing.T) {
	for _, tt := range []struct {
		name    string
		edit    func(*config.Outlier)
		good    []int
		bad     []int
		ejected string
	}{
		{"success rate", func(o *config.Outlier) { o.SuccessRate = 1.9 }, []int{100, 100, 100, 100, 60}, []int{1, 0, 1, 0, 60}, "e4"},
		{"all alike", func(o *config.Outlier) { o.SuccessRate = 1.9 }, []int{60, 60, 60, 60, 60}, []int{60, 60, 60, 60, 60}, ""},
		{"too few endpoints with enough requests", func(o *config.Outlier) { o.SuccessRate = 1.9 }, []int{100, 100, 100, 50, 60}, []int{0, 0, 0, 0, 60}, ""},
		{"failures", func(o *config.Outlier) { o.FailurePercent = 40 }, []int{100, 55}, []int{0, 45}, "e1"},
		{"failures of too few requests", func(o *config.Outlier) { o.FailurePercent = 40 }, []int{100, 10}, []int{0, 80}, ""},
	} {
		o := outlier()
		tt.edit(&o)
		d, list := detector(len(tt.good), o)
		for i, e := range list {
			results(e, tt.good[i], tt.bad[i])
		}
		d.judge()
		var out []string
		for _, e := range list {
			if e.State() == cluster.Unhealthy {
				out = append(out, e.ID)
			}
		}
		if got := strings.Join(out, " "); got != tt.ejected {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.ejected)
		}
		for _, e := range list {
			e.Return(true)
		}
		d.judge()
		for _, e := range list {
			if e.State() == cluster.Unhealthy {
				t.Errorf("%s: %s is ejected for what it did an interval ago", tt.name, e.ID)
			}
		}
	}
}
