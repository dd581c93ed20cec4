package test

import (
	"fmt"
	"strings"
	"testing"

	"belay/test/harness"
)

// An endpoint that fails its checks gives its keys away, all others stay, and all
// return with it; a hot restart changes nothing.
func TestAffinityHealth(t *testing.T) {
	t.Parallel()
	for _, balance := range []string{"ring_hash", "maglev"} {
		t.Run(balance, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, 4)
			c.cluster = fmt.Sprintf("balance = %q\nhash = { on = [{ header = \"X-User\" }] }\n", balance) + fastChecks
			c.open()
			const users = 120
			before := c.homes(users)
			c.patients[1].health.Store(500)
			c.becomes("p1", "unhealthy")
			during := c.homes(users)
			heirs := map[string]bool{}
			for i, got := range during {
				if before[i] == "p1" {
					heirs[got] = true
				}
				if before[i] == "p1" && got == "p1" || before[i] != "p1" && got != before[i] {
					t.Errorf("u%d went from %s to %s when p1 was down", i, before[i], got)
				}
			}
			if len(heirs) < 2 {
				t.Errorf("all keys of p1 went to %v", heirs)
			}
			c.d.HotRestart()
			if got := c.homes(users); strings.Join(got, "") != strings.Join(during, "") {
				t.Error("not the same after a hot restart with an endpoint that is down")
			}
			c.patients[1].health.Store(200)
			c.becomes("p1", "healthy")
			if got := c.homes(users); strings.Join(got, "") != strings.Join(before, "") {
				t.Error("not as it was when p1 is back")
			}
		})
	}
}

// A server that refuses connections is not asked for what hashes to it, where a retry
// is allowed, and one that is added takes only its part.
func TestAffinityAdded(t *testing.T) {
	t.Parallel()
	for _, balance := range []string{"ring_hash", "maglev"} {
		t.Run(balance, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, 4)
			c.cluster = fmt.Sprintf("balance = %q\nhash = { on = [{ header = \"X-User\" }] }\n", balance)
			c.open()
			const users = 300
			before := c.homes(users)
			p := newWard(t, "p4")
			rewrite(t, c.d, "endpoints = [", fmt.Sprintf("endpoints = [{ id = \"p4\", address = %q }, ", p.Addr))
			c.d.HotRestart()
			taken, excess := 0, 0
			for i, got := range c.homes(users) {
				switch {
				case got == "p4":
					taken++
				case got != before[i]:
					excess++
				}
			}
			if taken < users/10 || taken > users*3/10 {
				t.Errorf("the fifth endpoint took %d of %d keys", taken, users)
			}
			if limit := users / 50; excess > limit { // Maglev may move a few
				t.Errorf("%d of %d keys moved between endpoints that were there", excess, users)
			}
		})
	}
}

// Weights are shares of the keys.
func TestAffinityWeights(t *testing.T) {
	t.Parallel()
	for _, balance := range []string{"ring_hash", "maglev"} {
		t.Run(balance, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, 3)
			c.cluster = fmt.Sprintf("balance = %q\nhash = { on = [{ header = \"X-User\" }] }\n", balance)
			c.extra = []string{", weight = 3", ", weight = 1", ", weight = 0"}
			c.open()
			n := map[string]int{}
			for _, home := range c.homes(1000) {
				n[home]++
			}
			if n["p0"] < 680 || n["p0"] > 820 || n["p2"] != 0 {
				t.Errorf("weights 3, 1 and 0: %v", n)
			}
		})
	}
}

// By default the source is hashed: of HTTP clients too, whatever their ports.
func TestAffinitySource(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = "balance = \"ring_hash\"\n"
	c.open()
	seen := map[string]bool{}
	for i := range 12 {
		b := &harness.Browser{Addr: c.addr, Source: fmt.Sprintf("127.6.15.%d", i+1)}
		home := c.visit(b, "/")
		seen[home] = true
		for range 3 {
			if got := c.visit(b, "/"); got != home {
				t.Errorf("%s went from %s to %s", b.Source, home, got)
			}
		}
	}
	if len(seen) < 2 {
		t.Errorf("all clients are on %v", seen)
	}
}

// A session that has its place keeps it whatever the hash says.
func TestAffinityAndSession(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 4)
	c.cluster = "balance = \"maglev\"\nhash = { on = [{ header = \"X-User\" }] }\n[cluster.back.persistence.cookie]\nname = \"SRV\"\n"
	c.open()
	b := &harness.Browser{Addr: c.addr}
	homes := map[string]bool{}
	for i, home := range c.homes(12) {
		homes[home] = true
		if got := b.MustGet(t, "/", fmt.Sprint("X-User: u", i)).Backend(); got != b.Moved[0] {
			t.Errorf("a session of %s was sent to %s, where u%d belongs (%s)", b.Moved[0], got, i, home)
		}
	}
	if len(homes) < 2 {
		t.Errorf("all users are on %v", homes)
	}
	first := (&harness.Browser{Addr: c.addr}).MustGet(t, "/", "X-User: u0").Backend()
	if b.Moved[0] != first {
		t.Errorf("the session of u0 began on %s, its hash says %s", b.Moved[0], first)
	}
}
