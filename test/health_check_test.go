package test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// Checks take an endpoint out and in, and say why.
func TestHealthCheckHTTP(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = fastChecks
	c.open()
	c.only("p0", "p1", "p2")
	c.patients[1].health.Store(503)
	e := c.becomes("p1", "unhealthy")
	if e.Why != "status 503, want 200-399" || e.Health != "unhealthy" {
		t.Errorf("p1: %+v", e)
	}
	c.d.WaitLine("status 503, want 200-399")
	c.only("p0", "p2")
	if n, _ := c.d.Metric("belay_endpoint_health_checks_total", `endpoint="p1"`, `result="failed"`); n < 2 {
		t.Errorf("%v failed checks counted", n)
	}
	c.patients[1].health.Store(204)
	c.becomes("p1", "healthy")
	c.only("p0", "p1", "p2")
	for _, p := range c.patients {
		p.health.Store(500)
	}
	for _, p := range c.patients {
		c.becomes(p.id, "unhealthy")
	}
	r := harness.Get(t, c.addr, "/none-left", "h")
	wantStatus(t, r, 503)
	if got := c.d.WaitPath("/none-left").Str("reason"); got != "no-endpoint" {
		t.Errorf("reason %q", got)
	}
}

// Degraded endpoints are taken where none is healthy.
func TestHealthCheckDegraded(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = "health_check = { path = \"/health\", interval = \"100ms\", degraded_status = [429], body = \"ok\", fall = 1, rise = 1 }\n"
	c.open()
	c.patients[0].health.Store(429)
	c.becomes("p0", "degraded")
	c.only("p1", "p2")
	c.patients[1].health.Store(429)
	c.patients[2].health.Store(500)
	c.becomes("p1", "degraded")
	c.becomes("p2", "unhealthy")
	c.only("p0", "p1")
}

// TCP and TLS checks ask for no more than a connection and a handshake.
func TestHealthCheckTCPAndTLS(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 2)
	c.cluster = "health_check = { type = \"tcp\", interval = \"100ms\", fall = 1, rise = 1 }\n"
	c.open()
	addr := c.patients[0].Addr
	c.patients[0].Close()
	if e := c.becomes("p0", "unhealthy"); e.Why != "connect: connection refused" {
		t.Errorf("why: %q", e.Why)
	}
	c.only("p1")
	harness.NewBackendAt(t, addr, c.patients[0].serve)
	c.becomes("p0", "healthy")
	c.only("p0", "p1")

	s := newClinic(t, 2)
	s.cluster = "health_check = { type = \"tls\", interval = \"100ms\", fall = 1, timeout = \"500ms\" }\n"
	s.open()
	if e := s.becomes("p0", "unhealthy"); !strings.HasPrefix(e.Why, "TLS: ") {
		t.Errorf("plain server: %q", e.Why)
	}
}

// A child of a hot restart starts with what its parent knows: no request goes to an
// endpoint that was down before its first own check.
func TestHealthOverHotRestart(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 2)
	c.cluster = "health_check = { path = \"/health\", interval = \"1h\", interval_down = \"1h\", interval_first = \"100ms\", fall = 1, rise = 100 }\n"
	c.patients[0].health.Store(500)
	c.open()
	c.becomes("p0", "unhealthy")
	c.patients[0].health.Store(200)
	before := c.patients[0].asked.Load()
	c.d.HotRestart()
	if e := endpointStates(t, c.d, "back")["p0"]; e.State != "unhealthy" || e.Why == "" {
		t.Errorf("after the restart: %+v", e)
	}
	c.only("p1")
	if n := c.patients[0].asked.Load(); n != before {
		t.Errorf("%d requests for p0", n-before)
	}
}

// Errors in a row eject an endpoint for a time, as many as may be.
func TestOutlierConsecutive(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 4)
	c.cluster = "outlier = { consecutive = 3, ejection_time = \"5s\", interval = \"100ms\", max_ejected_percent = 25 }\n"
	c.open()
	c.patients[2].answer.Store(500)
	c.spread(16)
	e := c.becomes("p2", "unhealthy")
	if e.Why != "3 errors in a row" {
		t.Errorf("why: %q", e.Why)
	}
	c.only("p0", "p1", "p3")
	c.patients[3].answer.Store(503) // and this one may not go as well
	c.spread(16)
	harness.Eventually(t, patience, "an ejection to be refused", func() bool {
		n, _ := c.d.Metric("belay_cluster_ejections_refused_total")
		return n > 0
	})
	c.patients[2].answer.Store(200)
	c.patients[3].answer.Store(200)
	c.becomes("p2", "healthy")
	c.only("p0", "p1", "p2", "p3")
}

// A failure that outlier.on does not have is no success: errors before and after it
// are in a row.
func TestOutlierOtherFailures(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 2)
	c.cluster = "outlier = { consecutive = 3, on = [\"5xx\"], ejection_time = \"1h\", max_ejection_time = \"2h\", max_ejected_percent = 50 }\n"
	c.open()
	k := harness.Dial(c.t, c.addr) // one client, hence one worker: p0 has every second request
	for _, status := range []int64{500, 500, 0, 500} {
		c.patients[0].answer.Store(status)
		for range 2 {
			k.Do("GET", "/", "h")
		}
	}
	c.becomes("p0", "unhealthy")
}

// An endpoint that refuses connections is ejected, and its requests are retried.
func TestOutlierConnect(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = "outlier = { consecutive = 2, on = [\"connect-failure\"], ejection_time = \"1h\", max_ejection_time = \"2h\" }\n"
	c.open()
	c.patients[0].answer.Store(500) // is no error here
	c.patients[1].Close()
	harness.Eventually(t, patience, "p1 to be ejected", func() bool {
		c.spread(3)
		return endpointStates(t, c.d, "back")["p1"].State == "unhealthy"
	})
	c.only("p0", "p2")
}

// With fewer endpoints up than the threshold, all take requests again.
func TestPanicThreshold(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 4)
	c.cluster = fastChecks + "panic_threshold = 50\n"
	c.open()
	c.patients[0].health.Store(500)
	c.becomes("p0", "unhealthy")
	c.patients[1].health.Store(500)
	c.becomes("p1", "unhealthy")
	c.only("p2", "p3")
	c.do("endpoint", "disable", "back", "p3")
	c.patients[2].health.Store(500)
	c.becomes("p2", "unhealthy")
	c.only("p0", "p1", "p2")
}

// Backups take requests when all that are preferred are down.
func TestPriority(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 4)
	c.cluster = fastChecks
	c.extra = []string{"", ", priority = 1", ", priority = 2", ""}
	c.open()
	c.only("p0", "p3")
	c.patients[0].health.Store(500)
	c.becomes("p0", "unhealthy")
	c.only("p3")
	c.patients[3].health.Store(500)
	c.becomes("p3", "unhealthy")
	c.only("p1")
	c.patients[1].health.Store(500)
	c.becomes("p1", "unhealthy")
	c.only("p2")
	c.patients[3].health.Store(200)
	c.becomes("p3", "healthy")
	c.only("p3")
}

// An endpoint that comes up gets its part little by little.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 2)
	c.cluster = fastChecks + "slow_start = \"1h\"\n"
	c.open()
	c.patients[0].health.Store(500)
	c.becomes("p0", "unhealthy")
	c.patients[0].health.Store(200)
	if e := c.becomes("p0", "healthy"); e.Share < 0.1 || e.Share > 0.2 {
		t.Errorf("share %v", e.Share)
	}
	if got := c.spread(110); got["p0"] < 8 || got["p0"] > 12 {
		t.Errorf("%v, want a tenth of the other's for p0", got)
	}
}

// max_requests and an endpoint's own max_connections.
func TestOverflow(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = "max_requests = 2\n"
	c.extra = []string{", max_connections = 1", ", max_connections = 1", ", max_connections = 1"}
	c.open()
	for range 2 {
		harness.Dial(t, c.addr).Send(harness.Request("GET", "/held", "h"))
	}
	held := func() (n, most int64) {
		for _, p := range c.patients {
			n, most = n+p.held.Load(), max(most, p.held.Load())
		}
		return n, most
	}
	harness.Eventually(t, patience, "two requests under way", func() bool { n, _ := held(); return n == 2 })
	if _, most := held(); most != 1 {
		t.Errorf("one endpoint has %d requests, another none", most)
	}
	r := harness.Get(t, c.addr, "/too-much", "h")
	wantStatus(t, r, 503)
	if got := c.d.WaitPath("/too-much").Str("reason"); got != "overflow" {
		t.Errorf("reason %q", got)
	}
	if n, _ := c.d.Metric("belay_cluster_overflow_total", `cluster="back"`); n != 1 {
		t.Errorf("overflow_total %v", n)
	}
	for _, p := range c.patients {
		close(p.gate)
	}
	harness.Eventually(t, patience, "room again", func() bool {
		return harness.Get(t, c.addr, "/", "h").Status == 200
	})
}

// A check sees what is behind a port of its own, and a silent server in its time.
func TestHealthCheckPortAndTimeout(t *testing.T) {
	t.Parallel()
	silent := harness.NewBackend(t, harness.Silent)
	_, port, _ := net.SplitHostPort(silent.Addr)
	c := newClinic(t, 1)
	c.cluster = fmt.Sprintf("health_check = { port = %s, interval = \"100ms\", timeout = \"200ms\" }\n", port)
	began := time.Now()
	c.open()
	if e := c.becomes("p0", "unhealthy"); e.Why != "no answer in 200ms" {
		t.Errorf("why: %q after %s", e.Why, time.Since(began))
	}
}
