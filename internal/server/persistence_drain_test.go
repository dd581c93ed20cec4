package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/persistence"
	"belay/internal/stats"
)

// drainHouse has a cluster whose first endpoint drains since a minute ago. Sessions
// have been counted since the start, two hours ago.
func drainHouse(t *testing.T, change func(*config.Config)) (*Server, *logText, *cluster.Endpoint) {
	t.Helper()
	s, text := house(t, func(c *config.Config) {
		tabled(t.TempDir(), "x")(c)
		if change != nil {
			change(c)
		}
	})
	s.started = s.started.Add(-2 * time.Hour)
	if err := s.openPersistence(); err != nil {
		t.Fatal(err)
	}
	s.registry.Gauge("belay_endpoint_active_requests", "Requests and TCP connections under way.",
		stats.Label{Name: "cluster", Value: "a"}, stats.Label{Name: "endpoint", Value: "one"})
	s.service.main.Store(true)
	e := s.clusters[0].Endpoints[0]
	e.SetAdmin(cluster.Drain, time.Time{})
	return s, text, e
}

// A drain ends when no session is left on the endpoint, and when that is known.
func TestEndDrains(t *testing.T) {
	noTokens := func(c *config.Config) {
		c.Clusters[0].Persistence = &config.Persistence{Table: &config.TablePersistence{Name: "x"}}
	}
	for _, tt := range []struct {
		name   string
		change func(*config.Config)
		do     func(*Server, *cluster.Endpoint)
		after  time.Duration // since the drain began
		want   cluster.State
	}{
		{"no session", nil, nil, 0, cluster.Disabled},
		{"a session here", nil, func(s *Server, e *cluster.Endpoint) { s.clusters[0].Sessions.Store(entry(1), e.Key, unixNow()) }, 0, cluster.Draining},
		{"that is over", nil, func(s *Server, e *cluster.Endpoint) { s.clusters[0].Sessions.Store(entry(1), e.Key, unixNow()) }, 31 * time.Minute, cluster.Disabled},
		{"of an older generation", nil, func(s *Server, e *cluster.Endpoint) {
			k := e.Key
			k.Generation = 7
			s.clusters[0].Sessions.Store(entry(1), k, unixNow())
		}, 0, cluster.Draining},
		{"a session elsewhere", nil, func(s *Server, e *cluster.Endpoint) {
			s.clusters[0].Sessions.Store(entry(1), e.Cluster.Endpoints[1].Key, unixNow())
		}, 0, cluster.Disabled},
		{"counted too shortly", nil, func(s *Server, _ *cluster.Endpoint) {
			s.tracked["a"] = tracked{Since: time.Now().Add(-29 * time.Minute), Expire: 1800}
		}, 0, cluster.Draining},
		{"forgotten ones", nil, func(s *Server, e *cluster.Endpoint) {
			for i := range 2000 {
				s.clusters[0].Sessions.Store(entry(i), e.Cluster.Endpoints[1].Key, unixNow())
			}
		}, 29 * time.Minute, cluster.Draining},
		{"forgotten ones, late", nil, func(s *Server, e *cluster.Endpoint) {
			for i := range 2000 {
				s.clusters[0].Sessions.Store(entry(i), e.Cluster.Endpoints[1].Key, unixNow())
			}
		}, 31 * time.Minute, cluster.Disabled},
		{"not counted", func(c *config.Config) { c.Clusters[0].TrackSessions = 0 }, nil, 24 * time.Hour, cluster.Draining},
		{"good for ever", func(c *config.Config) {
			c.Clusters[0].Persistence.Cookie = &config.CookiePersistence{}
		}, nil, 24 * time.Hour, cluster.Draining},
		{"not main", nil, func(s *Server, _ *cluster.Endpoint) { s.service.main.Store(false) }, 0, cluster.Draining},
		{"an entry", noTokens, func(s *Server, e *cluster.Endpoint) { s.tables["x"].Store(entry(1), e.Key, unixNow()) }, 0, cluster.Draining},
		{"an entry that is over", noTokens, func(s *Server, e *cluster.Endpoint) { s.tables["x"].Store(entry(1), e.Key, unixNow()) }, 61 * time.Minute, cluster.Disabled},
		{"no entry", noTokens, nil, 0, cluster.Disabled},
		{"no persistence", func(c *config.Config) { c.Clusters[0].Persistence = nil }, nil, 0, cluster.Disabled},
		{"a request elsewhere in the chain", nil, func(s *Server, _ *cluster.Endpoint) {
			s.Apply(7, []stats.Delta{{Family: "belay_endpoint_active_requests", Kind: stats.KindGauge, Value: 1,
				Labels: []stats.Label{{Name: "cluster", Value: "a"}, {Name: "endpoint", Value: "one"}}}})
		}, 0, cluster.Draining},
		{"enabled again", nil, func(_ *Server, e *cluster.Endpoint) { e.SetAdmin(cluster.Enable, time.Time{}) }, 0, cluster.Healthy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, text, e := drainHouse(t, tt.change)
			s.registry.NewShard() // nothing is registered any more
			if tt.do != nil {
				tt.do(s, e)
			}
			s.endDrains(time.Now().Add(tt.after))
			if e.State() != tt.want {
				t.Errorf("it is %v, want %v", e.State(), tt.want)
			}
			if over := strings.Contains(text.String(), "drain is over"); over != (tt.want == cluster.Disabled) {
				t.Error(text)
			}
		})
	}
}

// How long sessions have been counted passes on, if the next process forgets none
// that this one counts.
func TestTrackedSince(t *testing.T) {
	long := func(idle time.Duration) func(*config.Config) {
		return func(c *config.Config) { c.Clusters[0].Persistence.Cookie.MaxIdle = idle }
	}
	old, _, _ := drainHouse(t, nil)
	child := func(idle time.Duration) *Server {
		t.Helper()
		s, _ := house(t, func(c *config.Config) { tabled(t.TempDir())(c); long(idle)(c) })
		s.takeState(old.persistenceState())
		if err := s.openPersistence(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	same := func(s *Server) bool { return s.tracked["a"].Since.Equal(old.tracked["a"].Since) }
	if !same(child(30*time.Minute)) || !same(child(time.Minute)) {
		t.Error("the child counts anew")
	}
	if s := child(time.Hour); !s.tracked["a"].Since.Equal(s.started) {
		t.Error("the child takes sessions that the parent forgot, and does not know it")
	}
	for i := range 2000 {
		old.clusters[0].Sessions.Store(entry(i), endpointX, unixNow())
	}
	if s := child(30 * time.Minute); s.tracked["a"].Since.Before(s.started.Add(-time.Minute)) {
		t.Error("the parent forgot sessions, and the child does not know it")
	}
}

// Time has its effect: keys, deadlines, and entries that are over. A table is swept
// as often as its expiry asks for.
func TestHousekeeper(t *testing.T) {
	s, _, e := drainHouse(t, nil)
	s.registry.NewShard()
	now := time.Now()
	s.clusters[0].Sessions.Store(entry(1), e.Key, uint32(now.Unix()))
	s.tables["x"].Store(entry(1), endpointX, uint32(now.Unix()))
	e.SetAdmin(cluster.Drain, now.Add(-time.Second))
	var h housekeeper
	h.round(s, now)
	if e.State() != cluster.Disabled {
		t.Errorf("after its deadline the endpoint is %v", e.State())
	}
	h.round(s, now.Add(25*time.Hour))
	if n, m := s.tables["x"].Len(), s.clusters[0].Sessions.Len(); n != 0 || m != 0 {
		t.Errorf("%d and %d entries are left", n, m)
	}
	if states(s.keyring) != "0 mint, 1 accept" {
		t.Error(states(s.keyring))
	}
	table, err := persistence.NewTable(10, 80)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		swept bool
	}{{0, false}, {9 * time.Second, false}, {11 * time.Second, true}, {12 * time.Second, false}, {22 * time.Second, true}} {
		table.Store(entry(1), endpointX, 1)
		h.sweep(table, now.Add(step.after))
		if swept := table.Len() == 0; swept != step.swept {
			t.Errorf("after %v: swept %v", step.after, swept)
		}
	}
}

// Every change of an endpoint's state is told, counted and shown.
func TestEndpointChanges(t *testing.T) {
	s, text := house(t, func(c *config.Config) { c.Clusters[0].Outlier = &config.Outlier{} })
	if err := s.openPersistence(); err != nil {
		t.Fatal(err)
	}
	s.registry.NewShard()
	e := s.clusters[0].Endpoints[0]
	until := time.Date(2036, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, step := range []struct {
		do    func()
		state float64
		want  []string
	}{
		{func() { e.SetHealth(cluster.HealthBad, "status 500") }, 3, []string{"level=WARN", "endpoint is down", "status 500", "from=healthy to=unhealthy"}},
		{func() { e.SetHealth(cluster.HealthDegraded, "") }, 1, []string{"level=INFO", "endpoint is degraded"}},
		{func() { e.SetHealth(cluster.HealthGood, "") }, 0, []string{"level=INFO", "endpoint is healthy", "from=degraded"}},
		{func() { e.Eject(until, "5 errors in a row") }, 3, []string{"level=WARN", "endpoint ejected", "5 errors in a row", "until=2036-01-02T03:04:05Z", "times=1"}},
		{func() { e.Return(true) }, 0, []string{"endpoint is healthy"}},
		{func() { e.SetAdmin(cluster.Drain, until) }, 2, []string{"level=INFO", "endpoint drains", "deadline=2036-01-02T03:04:05Z"}},
		{func() { e.EndDrain() }, 4, []string{"endpoint disabled: its drain is over"}},
		{func() { e.SetAdmin(cluster.Disable, time.Time{}) }, 4, nil},
		{func() { e.SetAdmin(cluster.Drain, time.Time{}) }, 2, []string{"endpoint drains"}},
		{func() { e.SetAdmin(cluster.Disable, time.Time{}) }, 4, []string{`msg="endpoint disabled"`}},
	} {
		before := text.String()
		step.do()
		line := strings.TrimPrefix(text.String(), before)
		if (line == "") != (step.want == nil) {
			t.Errorf("step %d: %q", i, line)
		}
		for _, w := range append(step.want, "") {
			if !strings.Contains(line, w) {
				t.Errorf("step %d: %q, want %q", i, line, w)
			}
		}
		if line != "" && !strings.Contains(line, "cluster=a endpoint=one") {
			t.Errorf("step %d: %q", i, line)
		}
		snap := s.Snapshot()
		of := []stats.Label{{Name: "cluster", Value: "a"}, {Name: "endpoint", Value: "one"}}
		if v, ok := snap.Value("belay_endpoint_state", of...); !ok || v != step.state {
			t.Errorf("step %d: state %v", i, v)
		}
	}
	snap := s.Snapshot()
	if n := snap.Sum("belay_endpoint_state_changes_total"); n != 9 {
		t.Errorf("%v changes", n)
	}
	s.drainUntil.Store(1)
	before := text.String()
	e.SetAdmin(cluster.Enable, time.Time{})
	if text.String() != before {
		t.Error("a process that drains tells it, too")
	}
}

func TestPersistenceMetrics(t *testing.T) {
	s, _, _ := drainHouse(t, nil)
	s.registerPersistence()
	s.registry.NewShard()
	x := s.tables["x"]
	now := unixNow()
	for i := range 3 {
		x.Store(entry(i), endpointX, now)
		s.clusters[0].Sessions.Store(entry(i), endpointX, now)
	}
	x.Lookup(entry(0), now)
	x.Lookup(entry(9), now)
	x.Lookup(entry(1), now+10_000)
	snap := s.Snapshot()
	var got []string
	for _, name := range []string{
		"belay_table_entries", "belay_table_size", "belay_table_inserted_total", "belay_table_evicted_total", "belay_table_expired_total",
		"belay_table_hits_total", "belay_table_misses_total", "belay_cluster_tracked_sessions", "belay_cluster_tracked_sessions_evicted_total",
		"belay_persistence_keys", "belay_persistence_key_save_errors_total",
	} {
		got = append(got, fmt.Sprint(snap.Sum(name)))
	}
	if want := "2 50000 3 0 1 1 2 3 0 1 0"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %v", got, want)
	}
}
