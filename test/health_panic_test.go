package test

import "testing"

// In panic health is not asked for, of sessions neither: they stay, and none goes to
// an endpoint that the operator drains.
func TestPanicSessions(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = fastChecks + "panic_threshold = 70\n[cluster.back.persistence.cookie]\nname = \"SRV\"\n"
	c.open()
	b, drained := c.sessionOn("p0"), c.sessionOn("p2")
	c.patients[0].health.Store(500)
	c.becomes("p0", "unhealthy") // 2 of 3 are up: fewer than 70 %
	c.only("p0", "p1", "p2")
	for range 4 {
		if got := c.visit(b, "/kept"); got != "p0" {
			t.Fatalf("in panic a session of p0 is on %s", got)
		}
	}
	if r := c.d.WaitPath("/kept"); r.Str("persistence") != "valid" || r.Str("persistence_outcome") != "kept" {
		t.Errorf("the log says %s, %s", r.Str("persistence"), r.Str("persistence_outcome"))
	}
	c.do("endpoint", "drain", "back", "p2") // 1 of 2
	c.only("p0", "p1")
	if got := c.visit(drained, "/"); got != "p2" {
		t.Errorf("in panic a session of an endpoint that drains is on %s", got)
	}
	c.patients[0].health.Store(200)
	c.becomes("p0", "healthy")
	if got := c.visit(b, "/"); got != "p0" {
		t.Errorf("after the panic a session of p0 is on %s", got)
	}
	c.do("endpoint", "disable", "back", "p0")
	if got := c.visit(b, "/"); got != "p1" {
		t.Errorf("a session of an endpoint that is disabled is on %s", got)
	}
}

// Within panic_threshold a backup that is up is still better than primaries that are
// known to be down.
func TestPanicThresholdWithBackup(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = fastChecks + "panic_threshold = 50\n"
	c.extra = []string{"", "", ", priority = 1"}
	c.open()
	for _, p := range c.patients[:2] {
		p.health.Store(500)
		p.answer.Store(500)
	}
	c.becomes("p0", "unhealthy")
	c.becomes("p1", "unhealthy")
	c.only("p2")
}
