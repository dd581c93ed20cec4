package test

import (
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// The sessions of an ejected endpoint move, the log says why, and they stay where
// they went; the ejection outlives a hot restart and is over at its time.
func TestOutlierSessions(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = "outlier = { consecutive = 2, ejection_time = \"6s\", interval = \"60s\" }\n[cluster.back.persistence.cookie]\nname = \"SRV\"\n"
	c.open()
	b := c.sessionOn("p1")
	c.patients[1].answer.Store(500)
	for range 2 {
		if got := c.visit(b, "/"); got != "p1" {
			t.Fatalf("before the ejection: %s", got)
		}
	}
	want(t, c.d.WaitLine("endpoint ejected"), "endpoint=p1", "2 errors in a row", "times=1", "until=")
	began := time.Now()
	home := c.visit(b, "/moved")
	if home == "p1" {
		t.Error("an ejected endpoint has its session yet")
	}
	if r := c.d.WaitPath("/moved"); r.Str("persistence") != "down" || r.Str("persistence_outcome") != "moved" {
		t.Errorf("the log says %s, %s", r.Str("persistence"), r.Str("persistence_outcome"))
	}
	if n, _ := c.d.Metric("belay_endpoint_ejections_total", `endpoint="p1"`); n != 1 {
		t.Errorf("%v ejections", n)
	}
	c.patients[1].answer.Store(200)
	c.d.HotRestart()
	c.only("p0", "p2")
	if e := endpointStates(t, c.d, "back")["p1"]; e.State != "unhealthy" || e.Why != "2 errors in a row" {
		t.Errorf("after a hot restart: %+v", e)
	}
	c.becomes("p1", "healthy")
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("an ejection for 6s took %s", took)
	}
	if got := c.visit(b, "/"); got != home {
		t.Errorf("a session that moved to %s is on %s", home, got)
	}
	c.only("p0", "p1", "p2")
}

// One endpoint fails far more often than the others, though never many times in a row.
func TestOutlierRates(t *testing.T) {
	t.Parallel()
	for kind, tt := range map[string]struct{ keys, why string }{
		"success rate":    {"success_rate = 1.5, success_rate_minimum = 20, success_rate_endpoints = 4", "succeed"},
		"failure percent": {"failure_percent = 30, success_rate_minimum = 20", "fail"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, 4)
			c.cluster = "outlier = { consecutive = 0, " + tt.keys + ", interval = \"1s\", ejection_time = \"1h\", max_ejection_time = \"1h\", max_ejected_percent = 100 }\n"
			c.open()
			bad := c.patients[3]
			end := make(chan struct{})
			done := make(chan struct{})
			t.Cleanup(func() { close(end); <-done })
			go func() { // every second reply is an error
				defer close(done)
				for turn := int64(0); ; turn++ {
					select {
					case <-end:
						return
					case <-time.After(time.Millisecond):
						bad.answer.Store(200 + 300*(turn%2))
					}
				}
			}()
			harness.Eventually(t, patience, "p3 to be ejected", func() bool {
				c.spread(200)
				return c.d.CountLines("endpoint ejected") > 0
			})
			want(t, c.d.WaitLine("endpoint ejected"), "endpoint=p3", "requests "+tt.why)
			c.only("p0", "p1", "p2")
		})
	}
}

// Who is ejected again is ejected for longer.
func TestOutlierGrows(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 2)
	c.cluster = "outlier = { consecutive = 1, ejection_time = \"1s\", interval = \"60s\" }\n"
	c.open()
	c.patients[0].answer.Store(500)
	var took []time.Duration
	for range 3 {
		before := c.d.CountLines("endpoint ejected")
		harness.Eventually(t, patience, "an ejection", func() bool {
			c.spread(2)
			return c.d.CountLines("endpoint ejected") > before
		})
		began := time.Now()
		harness.Eventually(t, patience, "the return", func() bool { return c.d.CountLines("endpoint is healthy") > before })
		took = append(took, time.Since(began))
	}
	for i, d := range took {
		if least := time.Duration(i+1)*time.Second - 100*time.Millisecond; d < least {
			t.Errorf("ejection %d took %s, want at least %s", i+1, d, least)
		}
	}
	want(t, c.d.WaitLine("times=3"), "endpoint ejected")
}

// A session that began on a backup stays there when the primaries return.
func TestPrioritySessions(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = fastChecks + "[cluster.back.persistence.cookie]\nname = \"SRV\"\n"
	c.extra = []string{"", "", ", priority = 1"}
	c.open()
	primary := c.sessionOn("p0")
	for _, p := range c.patients[:2] {
		p.health.Store(500)
	}
	c.becomes("p0", "unhealthy")
	c.becomes("p1", "unhealthy")
	fresh := c.sessionOn("p2")
	if got := c.visit(primary, "/moved"); got != "p2" {
		t.Errorf("a session of p0 went to %s", got)
	}
	for _, p := range c.patients[:2] {
		p.health.Store(200)
	}
	c.becomes("p0", "healthy")
	c.becomes("p1", "healthy")
	c.only("p0", "p1")
	for _, b := range []*harness.Browser{fresh, primary} {
		for range 3 {
			if got := c.visit(b, "/"); got != "p2" {
				t.Errorf("a session of the backup was sent to %s", got)
			}
		}
	}
	c.do("endpoint", "drain", "back", "p2")
	if got := c.visit(fresh, "/"); got != "p2" {
		t.Errorf("a session of a backup that drains was sent to %s", got)
	}
}

// The share of an endpoint in its slow start grows, a hot restart does not begin it
// anew, and at the end it has all of its part.
func TestSlowStartGrows(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 2)
	c.cluster = fastChecks + "slow_start = \"6s\"\n"
	c.open()
	c.patients[0].health.Store(500)
	c.becomes("p0", "unhealthy")
	c.patients[0].health.Store(200)
	c.d.WaitLine("endpoint is healthy")
	began := time.Now()
	share := func() float64 { return endpointStates(t, c.d, "back")["p0"].Share }
	first := share()
	harness.Eventually(t, patience, "the share to grow", func() bool { return share() > first+0.05 })
	if early := c.spread(40)["p0"]; early > 18 && time.Since(began) < 3*time.Second {
		t.Errorf("%d of 40 for an endpoint at the begin of its slow start", early)
	}
	if x := share(); x < 0.9 {
		c.d.HotRestart()
		if y := share(); y < x {
			t.Errorf("the share was %v, and is %v after a hot restart", x, y)
		}
	}
	harness.Eventually(t, patience, "the slow start to end", func() bool { return share() == 1 })
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("a slow start of 6s took %s", took)
	}
	if late := c.spread(40)["p0"]; late < 18 || late > 22 {
		t.Errorf("%d of 40 after the slow start", late)
	}
}

// Endpoints whose checks the configuration does not ask for any more are up.
func TestHealthCheckTakenOut(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 2)
	c.cluster = fastChecks
	c.open()
	c.patients[0].health.Store(500)
	c.becomes("p0", "unhealthy")
	rewrite(t, c.d, strings.TrimSpace(fastChecks), "")
	c.d.HotRestart()
	c.only("p0", "p1")
	if e := endpointStates(t, c.d, "back")["p0"]; e.Health != "unknown" || e.Why != "" {
		t.Errorf("an endpoint without checks: %+v", e)
	}
}
