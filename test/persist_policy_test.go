package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// servedBy is a request that a server has to answer.
func (s *shop) servedBy(b *harness.Browser, id string) {
	s.t.Helper()
	if a := s.visit(b); a.Backend() != id {
		s.t.Errorf("on %s, want %s", a.Backend(), id)
	}
}

// refused wants the answer of policy "strict".
func (s *shop) refused(b *harness.Browser, found string, status int, retryAfter string) {
	s.t.Helper()
	path := newPath()
	jar := b.Cookie("SRV")
	a := b.MustGet(s.t, path)
	if a.Status != status || a.Header.Get("Retry-After") != retryAfter || a.Backend() != "" || len(a.Header.Values("Set-Cookie")) != 0 {
		s.t.Errorf("status %d from %q, Retry-After %q, cookies %q; want %d and %q", a.Status, a.Backend(), a.Header.Get("Retry-After"), a.Header.Values("Set-Cookie"), status, retryAfter)
	}
	s.says(path, found, "refused")
	if b.Cookie("SRV") != jar {
		s.t.Error("the browser's cookie has changed")
	}
}

// redispatch, the default: a server that refuses connections loses the session to
// another one, once, though the route retries nothing.
func TestPersistRedispatch(t *testing.T) {
	t.Parallel()
	for _, route := range []string{"", `retry = { on = ["connect-failure"], attempts = 2, backoff = "1ms" }`} {
		t.Run(route, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 2)
			s.route = route
			s.open()
			b := s.pinned("e1")
			addr := s.apps["e1"].Addr
			s.apps["e1"].Stop()
			a := s.told(b, "down", "moved")
			wantStatus(t, a.Reply, 200)
			one(t, a, "SRV")
			s.stays(b, "e0")
			s.apps["e1"] = harness.NewAppAt(t, "e1", addr)
			s.stays(b, "e0") // it does not go back
			s.counts("belay_persistence_requests_total", "found", map[string]float64{"down": 1})
			s.counts("belay_persistence_outcomes_total", "outcome", map[string]float64{"moved": 1})
		})
	}
}

// The server that a session is moved to may be away as well: the route's retries
// find the one that is there.
func TestPersistRedispatchMeetsAnotherDeadServer(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"redispatch", "detour"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 4)
			s.policy = fmt.Sprintf("policy = %q", policy)
			s.route = `retry = { on = ["connect-failure"], attempts = 3, backoff = "1ms" }`
			s.open()
			var list []*harness.Browser
			for range 8 {
				list = append(list, s.pinned("e1"))
			}
			for _, id := range []string{"e0", "e1", "e2"} {
				s.apps[id].Stop()
			}
			for _, b := range list {
				a := s.visit(b)
				if cookies := len(a.Cookies("SRV")); a.Backend() != "e3" || (cookies == 1) != (policy == "redispatch") {
					t.Errorf("on %s with %d cookies", a.Backend(), cookies)
				}
			}
		})
	}
}

// strict refuses what its server cannot take, with the status and the Retry-After
// that are configured, and the session is there when the server is.
func TestPersistStrict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		keys   string
		status int
		after  string
	}{
		{"", 503, "5"},
		{"strict_status = 421\nretry_after = \"17s\"", 421, "17"},
		{"strict_status = 500\nretry_after = \"0s\"", 500, ""},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 2)
			s.policy = "policy = \"strict\"\n" + tt.keys
			s.route = `retry = { on = ["connect-failure"], attempts = 1, backoff = "1ms" }`
			s.open()
			b := s.pinned("e1")
			addr := s.apps["e1"].Addr
			s.apps["e1"].Stop()
			s.refused(b, "down", tt.status, tt.after)
			s.refused(b, "down", tt.status, tt.after)
			// Who has no session is served.
			s.servedBy(s.browser(), "e0")
			s.apps["e1"] = harness.NewAppAt(t, "e1", addr)
			s.stays(b, "e1")
			s.counts("belay_persistence_outcomes_total", "outcome", map[string]float64{"refused": 2, "moved": 0})
		})
	}
}

// detour serves elsewhere while the server is away, without a cookie, and returns
// within the grace time.
func TestPersistDetour(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.policy = "policy = \"detour\"\ngrace = \"1m\""
	s.open()
	b := s.pinned("e1")
	jar := b.Cookie("SRV")
	for range 2 {
		addr := s.apps["e1"].Addr
		s.apps["e1"].Stop()
		for range 5 {
			a := s.told(b, "down", "detoured")
			wantStatus(t, a.Reply, 200)
			if a.Backend() == "e1" || len(a.Header.Values("Set-Cookie")) != 0 {
				t.Errorf("during the outage: %s sets %q", a.Backend(), a.Header.Values("Set-Cookie"))
			}
		}
		s.apps["e1"] = harness.NewAppAt(t, "e1", addr)
		s.stays(b, "e1")
	}
	if b.Cookie("SRV") != jar {
		t.Error("the cookie has changed")
	}
}

// When the grace time is over, the session moves for good.
func TestPersistDetourGraceEnds(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2)
	s.policy = "policy = \"detour\"\ngrace = \"1s\""
	s.open()
	b := s.pinned("e1")
	addr := s.apps["e1"].Addr
	s.apps["e1"].Stop()
	began := time.Now()
	harness.Eventually(t, patience, "the session to move", func() bool {
		return len(s.visit(b).Cookies("SRV")) == 1
	})
	if took := time.Since(began); took < time.Second {
		t.Errorf("it moved after %v, grace is 1s", took)
	}
	s.stays(b, "e0")
	s.apps["e1"] = harness.NewAppAt(t, "e1", addr)
	s.stays(b, "e0")
}

// A server that is gone, or another one of its name: by default the session begins
// again, and with unknown = "strict" the request is refused.
func TestPersistUnknownServer(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprint("strict ", strict), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 3)
			if strict {
				s.policy = "unknown = \"strict\"\nstrict_status = 410\nretry_after = \"2s\""
			}
			s.open()
			gone, replaced, kept := s.pinned("e0"), s.pinned("e1"), s.pinned("e2")
			s.drop("e0")
			s.edit("e1").generation = 3
			s.restart()
			s.stays(kept, "e2")
			for found, b := range map[string]*harness.Browser{"unknown": gone, "generation": replaced} {
				if strict {
					s.refused(b, found, 410, "2")
					continue
				}
				a := s.told(b, found, "minted")
				one(t, a, "SRV")
				s.stays(b, a.Backend())
			}
			s.counts("belay_persistence_requests_total", "found", map[string]float64{"unknown": 1, "generation": 1})
		})
	}
}

// Weight 0 takes no new session and keeps those that are there.
func TestPersistWeightZero(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3).open()
	b := s.pinned("e1")
	s.edit("e1").weight = 0
	s.restart()
	for range 20 {
		if at := s.visit(s.browser()).Backend(); at == "e1" {
			t.Fatal("a new session")
		}
	}
	s.stays(b, "e1")
	s.told(b, "valid", "kept")
}

// A session binds cluster and server: it stays when the weights of the route's
// clusters change, also at 0.
func TestPersistWeightedClusters(t *testing.T) {
	t.Parallel()
	addr := harness.Addr(t)
	config := func(blue, green int) string {
		var b strings.Builder
		fmt.Fprintf(&b, "[listener.web]\naddress = %q\n[[listener.web.route]]\nclusters = [{ cluster = \"blue\", weight = %d }, { cluster = \"green\", weight = %d }]\n", addr, blue, green)
		return b.String()
	}
	clusters := ""
	for _, name := range []string{"blue", "green"} {
		clusters += fmt.Sprintf("[cluster.%s]\nendpoints = [{ id = \"a\", address = %q }, { id = \"b\", address = %q }]\n[cluster.%s.persistence.cookie]\nname = \"SRV\"\n",
			name, harness.NewApp(t, name+"-a").Addr, harness.NewApp(t, name+"-b").Addr, name)
	}
	clusters += fmt.Sprintf("[persistence]\ndirectory = %q\n", harness.TempDir(t)) + calmRestart
	d := harness.Start(t, config(1, 1)+clusters)
	visitors := map[string]*harness.Browser{}
	for range 200 {
		b := &harness.Browser{Addr: addr}
		visitors[b.MustGet(t, "/").Backend()] = b
		if len(visitors) == 4 {
			break
		}
	}
	if len(visitors) != 4 {
		t.Fatalf("sessions on %d of 4 servers", len(visitors))
	}
	was := [2]int{1, 1}
	for _, weights := range [][2]int{{1, 0}, {0, 1}, {1, 0}} {
		rewrite(t, d, config(was[0], was[1]), config(weights[0], weights[1]))
		was = weights
		d.HotRestart()
		for at, b := range visitors {
			for range 3 {
				a := b.MustGet(t, "/")
				if a.Backend() != at || len(a.Header.Values("Set-Cookie")) != 0 {
					t.Fatalf("weights %v: a session of %s is on %s, sets %q", weights, at, a.Backend(), a.Header.Values("Set-Cookie"))
				}
			}
		}
		for range 10 {
			at := (&harness.Browser{Addr: addr}).MustGet(t, "/").Backend()
			if strings.HasPrefix(at, "blue") != (weights[0] == 1) {
				t.Fatalf("weights %v: a new session on %s", weights, at)
			}
		}
	}
}

// A failed reply pins nothing: neither what belay makes itself nor what comes before
// a retry, and a session that a server's 5xx ends is not ended by it.
func TestPersistFailuresDoNotPin(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2)
	s.cluster = `first_byte_timeout = "300ms"`
	s.open()
	for how, status := range map[string]int{"Answer-Garbage: 1": 502, "Answer-Nothing: 1": 502, "Answer-Hold: 1": 504} {
		path := newPath()
		a := s.browser().MustGet(t, path, how)
		if a.Status != status || len(a.Header.Values("Set-Cookie")) != 0 {
			t.Errorf("%s: status %d sets %q", how, a.Status, a.Header.Values("Set-Cookie"))
		}
		s.says(path, "none", "none")
	}
	// An error of the server's own is a reply of its own: it has the session.
	a := s.browser().MustGet(t, newPath(), "Answer-Status: 500 Internal Server Error")
	one(t, a, "SRV")
	b := s.pinned("e1")
	for how, status := range map[string]int{"Answer-Garbage: 1": 502, "Answer-Nothing: 1": 502} {
		if a := b.MustGet(t, newPath(), how); a.Status != status || len(a.Header.Values("Set-Cookie")) != 0 {
			t.Errorf("%s: status %d sets %q", how, a.Status, a.Header.Values("Set-Cookie"))
		}
		s.servedBy(b, "e1")
	}
}

// Retries stay on the pinned server but for the last, and the reply has one cookie
// at most.
func TestPersistRetries(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.route = `retry = { on = ["5xx"], attempts = 2, backoff = "1ms", budget = 1.0, budget_min = 20 }`
	s.open()
	b := s.pinned("e1")
	before := s.apps["e1"].Heads()
	path := newPath()
	a := b.MustGet(t, path, "Answer-Status: 503 Service Unavailable")
	if n := len(a.Cookies("SRV")); a.Status != 503 || n > 1 {
		t.Errorf("status %d with %d cookies", a.Status, n)
	}
	if n := s.apps["e1"].Heads() - before; n != 2 {
		t.Errorf("%d of 3 tries went to the pinned server, want 2", n)
	}
	// A first request that is tried three times has one cookie.
	a = s.browser().MustGet(t, newPath(), "Answer-Status: 503 Service Unavailable")
	one(t, a, "SRV")
	if r := s.d.WaitPath(path); r.Int("attempts") != 3 {
		t.Errorf("record %v", r)
	}
}

// An interim reply neither shows nor loses the cookie, and 101 has it.
func TestPersistInterimReplies(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3).open()
	for _, early := range []string{"103 Early Hints", "102 Processing", "150 Unknown"} {
		b := s.browser()
		a := s.visit(b, "Answer-Early: "+early)
		one(t, a, "SRV")
		if len(a.Interim) != 1 || len(a.Interim[0].Header.Values("Set-Cookie")) != 0 {
			t.Errorf("%s: interim replies %+v", early, a.Interim)
		}
		s.stays(b, a.Backend(), "Answer-Early: "+early)
	}
	a, err := harness.Ask(s.bind, harness.Request("GET", newPath(), "a", "Connection: Upgrade", "Upgrade: chat", "Answer-Status: 101 Switching Protocols", "Answer-With: Connection: Upgrade", "Answer-With: Upgrade: chat"))
	if err != nil {
		t.Fatal(err)
	}
	if one(t, a, "SRV"); a.Status != 101 {
		t.Errorf("status %d", a.Status)
	}
}

// full = "policy" does not wait for a connection: the session moves, or is refused,
// at once. "queue", the default, waits.
func TestPersistFullServer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, policy string }{
		{"redispatch", "full = \"policy\""}, {"strict", "full = \"policy\"\npolicy = \"strict\""}, {"detour", "full = \"policy\"\npolicy = \"detour\""}, {"queue", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 2)
			s.policy, s.cluster, s.more = tt.policy, "max_connections = 1", oneWorker
			s.open()
			b := s.pinned("e1")
			done := make(chan *harness.Answer, 1)
			go func() {
				a, _ := b.Send("GET", "/held", "", "Answer-Hold: 1")
				done <- a
			}()
			app := s.apps["e1"]
			harness.Eventually(t, patience, "the request at its server", func() bool { return app.Holding() == 1 })
			began := time.Now()
			defer func() {
				if took := time.Since(began); took > 4*time.Second { // pending_timeout is 5s
					t.Errorf("it waited: %v", took)
				}
			}()
			switch tt.name {
			case "redispatch":
				one(t, s.told(b, "overloaded", "moved"), "SRV")
				s.stays(b, "e0")
			case "strict":
				s.refused(b, "overloaded", 503, "5")
			case "detour":
				if a := s.told(b, "overloaded", "detoured"); a.Backend() != "e0" || len(a.Header.Values("Set-Cookie")) != 0 {
					t.Errorf("%s sets %q", a.Backend(), a.Header.Values("Set-Cookie"))
				}
			case "queue":
				waiting := make(chan *harness.Answer, 1)
				go func() {
					a, _ := b.Send("GET", "/waits", "")
					waiting <- a
				}()
				select {
				case a := <-waiting:
					t.Errorf("it did not wait: %+v", a)
				case <-time.After(200 * time.Millisecond): // long enough to go elsewhere
				}
				app.Release()
				if a := <-waiting; a == nil || a.Backend() != "e1" || len(a.Header.Values("Set-Cookie")) != 0 {
					t.Errorf("%+v", a)
				}
				s.says("/waits", "valid", "kept")
			}
			app.Release()
			if a := <-done; a == nil || a.Backend() != "e1" {
				t.Errorf("the held request: %+v", a)
			}
		})
	}
}
