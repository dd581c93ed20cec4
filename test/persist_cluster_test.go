package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// When the cluster of a session has no server left, weight 0 and all of them ended as
// at the end of a blue-green deployment, redispatch moves the session to the other
// cluster; strict refuses it.
func TestPersistWeightedClusterGone(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"redispatch", "strict", "detour"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			addr := harness.Addr(t)
			blue, green := harness.NewApp(t, "blue"), harness.NewApp(t, "green")
			config := func(weights string) string {
				text := fmt.Sprintf("[listener.web]\naddress = %q\n[[listener.web.route]]\nclusters = [%s]\n", addr, weights)
				for _, a := range []*harness.App{blue, green} {
					text += fmt.Sprintf("[cluster.%s]\nendpoints = [{ id = \"a\", address = %q }]\n[cluster.%s.persistence]\npolicy = %q\n[cluster.%s.persistence.cookie]\nname = \"SRV\"\n",
						a.Name, a.Addr, a.Name, policy, a.Name)
				}
				return text + fmt.Sprintf("[persistence]\ndirectory = %q\n", "DIR") + calmRestart
			}
			dir := harness.TempDir(t)
			first := strings.ReplaceAll(config("{ cluster = \"blue\", weight = 1 }, { cluster = \"green\", weight = 0 }"), "DIR", dir)
			second := strings.ReplaceAll(config("{ cluster = \"blue\", weight = 0 }, { cluster = \"green\", weight = 1 }"), "DIR", dir)
			d := harness.Start(t, first)
			b := &harness.Browser{Addr: addr}
			if at := b.MustGet(t, "/").Backend(); at != "blue" {
				t.Fatalf("the session begins on %q", at)
			}
			rewrite(t, d, first, second)
			d.HotRestart()
			if at := b.MustGet(t, "/").Backend(); at != "blue" {
				t.Fatalf("at weight 0 the session is on %q", at)
			}
			blue.Stop()
			a := b.MustGet(t, "/gone")
			r := d.WaitPath("/gone")
			switch policy {
			case "redispatch":
				if a.Backend() != "green" || len(a.Cookies("SRV")) != 1 {
					t.Errorf("status %d from %q with %d cookies: %v", a.Status, a.Backend(), len(a.Cookies("SRV")), r)
				}
				if a := b.MustGet(t, "/"); a.Backend() != "green" || len(a.Cookies("SRV")) != 0 {
					t.Errorf("then on %q with %d cookies", a.Backend(), len(a.Cookies("SRV")))
				}
			case "detour":
				if a.Backend() != "green" || len(a.Cookies("SRV")) != 0 {
					t.Errorf("status %d from %q with %d cookies: %v", a.Status, a.Backend(), len(a.Cookies("SRV")), r)
				}
			case "strict":
				if a.Status != 503 || a.Backend() != "" {
					t.Errorf("status %d from %q: %v", a.Status, a.Backend(), r)
				}
			}
		})
	}
}

// A server that drains keeps its sessions over a hot restart, gets no new ones, and
// loses them at the deadline, for a reason that the log tells.
func TestPersistDrainOverHotRestart(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3).open()
	b := s.pinned("e1")
	if out, err := belayctl(t, s.d, "endpoint", "drain", "back", "e1"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	fresh := func() {
		t.Helper()
		for range 9 {
			if at := s.visit(s.browser()).Backend(); at == "e1" {
				t.Fatal("a new session on a server that drains")
			}
		}
	}
	fresh()
	s.stays(b, "e1")
	s.restart()
	fresh()
	s.stays(b, "e1")
	s.told(b, "valid", "kept")
	if out, err := belayctl(t, s.d, "endpoint", "drain", "back", "e1", "--deadline", "1s"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	began := time.Now()
	harness.Eventually(t, patience, "the deadline", func() bool { return len(s.visit(b).Cookies("SRV")) == 1 })
	if took := time.Since(began); took < 700*time.Millisecond {
		t.Errorf("the session moved %v after a deadline of 1s was set", took)
	}
	r := s.d.WaitRecord("the move", func(r harness.Record) bool { return r.Str("persistence_outcome") == "moved" })
	if r.Str("persistence") != "drained" {
		t.Errorf("record %v", r)
	}
	if out, err := belayctl(t, s.d, "endpoint", "enable", "back", "e1"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.pinned("e1")
}

// A table's policy is that of a cookie: a session of a server that is away is moved
// and stays there, refused, or served elsewhere until it is back.
func TestPersistTablePolicies(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"redispatch", "strict", "detour", "track off"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 2)
			table := "[cluster.back.persistence.table]\nname = \"users\"\nkey = [{ header = \"X-User\" }]\n"
			if policy == "track off" {
				table += "track = false\n"
			} else {
				s.policy = fmt.Sprintf("policy = %q", policy)
			}
			s.modes, s.more = table, "[table.users]\n"
			s.open()
			header := ""
			for i := range 9 {
				h := fmt.Sprintf("X-User: user%d", i)
				if s.visit(s.browser(), h).Backend() == "e1" {
					header = h
				}
			}
			addr := s.apps["e1"].Addr
			s.apps["e1"].Stop()
			if policy == "strict" {
				if a := s.told(s.browser(), "down", "refused", header); a.Status != 503 || a.Header.Get("Retry-After") != "5" {
					t.Errorf("status %d, Retry-After %q", a.Status, a.Header.Get("Retry-After"))
				}
			} else {
				done := map[string]string{"redispatch": "moved", "detour": "detoured", "track off": "moved"}[policy]
				if a := s.told(s.browser(), "down", done, header); a.Backend() != "e0" {
					t.Errorf("on %q", a.Backend())
				}
			}
			s.apps["e1"] = harness.NewAppAt(t, "e1", addr)
			home := map[string]string{"redispatch": "e0", "strict": "e1", "detour": "e1", "track off": "e1"}[policy]
			for range 4 {
				if a := s.told(s.browser(), "valid", "kept", header); a.Backend() != home {
					t.Errorf("then on %q, want %s", a.Backend(), home)
				}
			}
		})
	}
}

// A table has as many entries as it may and forgets the least recently used; what
// is not used for the time of expire is forgotten, and use puts that off.
func TestPersistTableLimits(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.modes = "[cluster.back.persistence.table]\nname = \"users\"\nkey = [{ header = \"X-User\" }]\n"
	s.more = "[table.users]\nsize = 64\nexpire = \"2s\"\n"
	s.open()
	used, left := "X-User: used", "X-User: left"
	s.visit(s.browser(), used)
	s.visit(s.browser(), left)
	began := time.Now()
	for time.Since(began) < 5*time.Second {
		s.told(s.browser(), "valid", "kept", used)
		time.Sleep(400 * time.Millisecond) // within expire
	}
	s.told(s.browser(), "none", "minted", left)
	for i := range 500 {
		s.visit(s.browser(), fmt.Sprintf("X-User: many%d", i))
	}
	s.told(s.browser(), "none", "minted", used)
	s.told(s.browser(), "valid", "kept", "X-User: many499")
}

// A TCP listener keeps a source on its server.
func TestPersistTCP(t *testing.T) {
	t.Parallel()
	addr := harness.Addr(t)
	var list []string
	for i := range 4 {
		list = append(list, fmt.Sprintf("{ id = \"e%d\", address = %q }", i, harness.NewApp(t, fmt.Sprintf("e%d", i)).Addr))
	}
	d := harness.Start(t, fmt.Sprintf("[listener.db]\naddress = %q\nprotocol = \"tcp\"\ncluster = \"back\"\n[cluster.back]\nendpoints = [%s]\n"+
		"[cluster.back.persistence.table]\nname = \"sources\"\nkey = [{ source = true }]\n[table.sources]\n", addr, strings.Join(list, ", "))+calmRestart)
	home := map[string]string{}
	places := map[string]bool{}
	for round := range 4 {
		if round == 2 {
			d.HotRestart()
		}
		for i := range 8 {
			b := &harness.Browser{Addr: addr, Source: fmt.Sprintf("127.6.%d.1", i+1)}
			at := b.MustGet(t, "/").Backend()
			if home[b.Source] == "" {
				home[b.Source], places[at] = at, true
			}
			if home[b.Source] != at {
				t.Errorf("round %d: source %s is on %s, began on %s", round, b.Source, at, home[b.Source])
			}
		}
	}
	if len(places) != 4 {
		t.Errorf("eight sources on %v", places)
	}
}
