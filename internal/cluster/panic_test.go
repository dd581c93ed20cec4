package cluster

import (
	"testing"
	"time"
)

// In panic health is not asked for, so a session stays where it is: else each of its
// requests would go to another endpoint.
func TestPanicKeepsSessions(t *testing.T) {
	c := even("round_robin", 3)
	c.Config.PanicThreshold = 50
	for _, e := range c.Endpoints {
		e.SetHealth(HealthBad, "x")
	}
	p := c.NewPicker(0, 1)
	pinned := p.Pick(Hint{})
	if pinned == nil || !pinned.AdmitsPinned() {
		t.Fatal("a panicking cluster does not admit a session to the endpoint that it gives new ones")
	}
	for range 3 {
		if e := p.Pick(Hint{Pinned: pinned}); e != pinned {
			t.Fatalf("moved to %s", e.ID)
		}
	}
	pinned.SetAdmin(Disable, time.Time{})
	if pinned.AdmitsPinned() {
		t.Error("a disabled endpoint is admitted")
	}
}

// A backup that is up takes the requests however few that makes of all endpoints.
func TestPanicAsksBackupsFirst(t *testing.T) {
	c := even("round_robin", 4)
	c.Config.PanicThreshold = 50
	c.Endpoints[3].Priority = 1
	for _, e := range c.Endpoints[:3] {
		e.SetHealth(HealthBad, "x")
	}
	p := c.NewPicker(0, 1)
	for range 4 {
		if e := p.Pick(Hint{}); e != c.Endpoints[3] {
			t.Fatalf("%s, which is down, is taken before a backup that is up", e.ID)
		}
	}
}
