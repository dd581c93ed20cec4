package server

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"belay/internal/admin"
	"belay/internal/admin/adminapi"
	"belay/internal/config"
	"belay/internal/persistence"
)

// desk is a house that serves, with the tables "t", by address or header, and "h", by
// header.
func desk(t *testing.T, change func(*config.Config)) (*Server, *logText) {
	t.Helper()
	s, text := openHouse(t, func(c *config.Config) {
		tabled(t.TempDir(), "h", "t")(c)
		c.Clusters[0].Persistence.Table = &config.TablePersistence{Name: "t", Key: []config.HashOn{{Header: "X"}, {Source: true}}}
		c.Clusters[1].Persistence = &config.Persistence{Table: &config.TablePersistence{Name: "h", Key: []config.HashOn{{Header: "X"}}}}
		if change != nil {
			change(c)
		}
	})
	s.state.Store(int32(serving))
	return s, text
}

func TestEndpointTells(t *testing.T) {
	s, _ := desk(t, nil)
	now := unixNow()
	one := s.clusters[0].Endpoints[0]
	old := one.Key
	old.Generation++
	s.clusters[0].Sessions.Store(entry(1), one.Key, now)
	s.clusters[0].Sessions.Store(entry(2), old, now)
	s.clusters[0].Sessions.Store(entry(3), s.clusters[0].Endpoints[1].Key, now)
	s.clusters[0].Sessions.Store(entry(4), one.Key, now-1801)
	s.tables["t"].Store(entry(1), one.Key, now)
	s.tables["h"].Store(entry(1), one.Key, now) // not a table of this cluster

	e, err := s.Endpoint("a", "one")
	if err != nil || e.Sessions != 3 || e.SessionsWithin != 1800 || e.Uncounted || e.State != adminapi.StateUp || e.Admin != adminapi.AdminEnabled ||
		e.AdminSince != nil || e.Health != "unknown" || e.Share != 1 || !e.Up() {
		t.Errorf("%+v, %v", e, err)
	}
	one.Eject(time.Now().Add(time.Minute), "5 errors in a row")
	if e, err = s.Endpoint("a", "one"); err != nil || e.State != adminapi.StateUnhealthy || e.Ejected == nil || e.Ejections != 1 || e.Why != "5 errors in a row" || e.Up() {
		t.Errorf("ejected: %+v, %v", e, err)
	}
	all := s.Clusters()
	if n := all[0].Endpoints[0].Sessions; n != 3 {
		t.Errorf("in the list it has %d sessions", n)
	}

	untracked, _ := desk(t, func(c *config.Config) { c.Clusters[0].TrackSessions = 0 })
	if e, err := untracked.Endpoint("a", "one"); err != nil || !e.Uncounted {
		t.Errorf("not counted: %+v, %v", e, err)
	}
	if e, err := untracked.Endpoint("b", "one"); err != nil || e.Uncounted {
		t.Errorf("without tokens: %+v, %v", e, err)
	}
}

func TestChangeEndpoint(t *testing.T) {
	s, text := desk(t, nil)
	for _, tt := range []struct {
		x            adminapi.EndpointChange
		admin, state string
	}{
		{adminapi.EndpointChange{Wish: "drain", Deadline: time.Hour}, adminapi.AdminDraining, adminapi.StateDraining},
		{adminapi.EndpointChange{Wish: "drain"}, adminapi.AdminDraining, adminapi.StateDraining},
		{adminapi.EndpointChange{Wish: "disable"}, adminapi.AdminDisabled, adminapi.StateDisabled},
		{adminapi.EndpointChange{Wish: "enable"}, adminapi.AdminEnabled, adminapi.StateUp},
	} {
		tt.x.Cluster, tt.x.ID = "a", "two"
		e, err := s.ChangeEndpoint(tt.x, "uid 7, pid 8")
		if err != nil || e.Admin != tt.admin || e.State != tt.state || e.AdminSince == nil || time.Since(*e.AdminSince) > time.Minute {
			t.Errorf("%+v: %+v, %v", tt.x, e, err)
		}
		if tt.x.Deadline > 0 != (e.Deadline != nil) || e.Deadline != nil && time.Until(*e.Deadline) > tt.x.Deadline {
			t.Errorf("%+v: deadline %v", tt.x, e.Deadline)
		}
		if log := text.String(); !strings.Contains(log, `msg="endpoint `+tt.x.Wish+`" cluster=a endpoint=two`) || !strings.Contains(log, `by="uid 7, pid 8"`) {
			t.Errorf("%+v: log %s", tt.x, log)
		}
	}
	if e, _ := s.Endpoint("a", "one"); e.AdminSince != nil {
		t.Error("another endpoint is changed")
	}
}

// TestOnlyWhoServesChanges: a process that drains would keep to itself what it is
// told, and says so instead.
func TestOnlyWhoServesChanges(t *testing.T) {
	s, _ := desk(t, nil)
	key := []byte("k")
	s.tables["t"].Store(key, endpointX, unixNow())
	s.state.Store(int32(draining))
	for what, change := range map[string]func() error{
		"endpoint": func() error {
			_, err := s.ChangeEndpoint(adminapi.EndpointChange{Cluster: "a", ID: "one", Wish: "disable"}, "")
			return err
		},
		"set": func() error {
			_, err := s.SetTable(adminapi.TableEntry{Key: "new", Cluster: "a", Endpoint: "one"}, "t", "")
			return err
		},
		"clear": func() error { _, err := s.ClearTable(adminapi.TableQuery{Name: "t", All: true}, ""); return err },
	} {
		if err := change(); err == nil || err.Error() != "the process is draining" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if e, _ := s.Endpoint("a", "one"); e.Admin != adminapi.AdminEnabled || s.tables["t"].Len() != 1 {
		t.Errorf("%+v, %d entries", e, s.tables["t"].Len())
	}
}

func TestSourceErrors(t *testing.T) {
	s, _ := desk(t, nil)
	missing, invalid := new(admin.NotFoundError), new(admin.InvalidError)
	for _, tt := range []struct {
		name string
		do   func() error
		want string
		kind any
	}{
		{"cluster", func() error { _, err := s.Endpoint("x", "one"); return err }, `there is no cluster "x": there is a, b`, missing},
		{"endpoint", func() error { _, err := s.Endpoint("a", "on"); return err }, `there is no endpoint "on" in cluster a, did you mean "one"?`, missing},
		{
			"change", func() error {
				_, err := s.ChangeEndpoint(adminapi.EndpointChange{Cluster: "a", ID: "x", Wish: "drain"}, "")
				return err
			}, `there is no endpoint "x" in cluster a: there is one, two`, missing,
		},
		{
			"wish", func() error {
				_, err := s.ChangeEndpoint(adminapi.EndpointChange{Cluster: "a", ID: "one", Wish: "x"}, "")
				return err
			}, `"x" is no wish`, invalid,
		},
		{"table", func() error { return s.TableEntries(adminapi.TableQuery{Name: "x"}, nil) }, `there is no table "x": there is h, t`, missing},
		{"endpoint of entries", func() error { return s.TableEntries(adminapi.TableQuery{Name: "t", Cluster: "a", Endpoint: "x"}, nil) }, `there is no endpoint "x"`, missing},
		{"key", func() error { return s.TableEntries(adminapi.TableQuery{Name: "t", Key: `a\n`}, nil) }, `is written \x5c`, invalid},
		{"key of digits", func() error { return s.TableEntries(adminapi.TableQuery{Name: "t", Key: `a\xzz`}, nil) }, `\xzz is not \xNN`, invalid},
		{
			"set", func() error {
				_, err := s.SetTable(adminapi.TableEntry{Key: "k", Cluster: "a", Endpoint: "x"}, "t", "")
				return err
			}, `there is no endpoint "x"`, missing,
		},
	} {
		if err := tt.do(); err == nil || !strings.Contains(err.Error(), tt.want) || !errors.As(err, tt.kind) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

// keysOf are the keys that a query chooses, sorted.
func keysOf(t *testing.T, s *Server, q adminapi.TableQuery) string {
	t.Helper()
	var keys []string
	if err := s.TableEntries(q, func(e adminapi.TableEntry) bool { keys = append(keys, e.Key); return true }); err != nil {
		t.Error(err)
	}
	slices.Sort(keys)
	return strings.Join(keys, " ")
}

func TestTableEntries(t *testing.T) {
	s, text := desk(t, nil)
	now := unixNow()
	table, one, two := s.tables["t"], s.clusters[0].Endpoints[0], s.clusters[0].Endpoints[1]
	put := func(key string, e persistence.Endpoint, idle uint32) {
		table.Set([]byte(key), persistence.Value{Endpoint: e, FirstSeen: now - 1000, LastSeen: now - idle}, now)
	}
	old := one.Key
	old.Generation++
	put("a", one.Key, 600)
	put("b", two.Key, 10)
	put("c", old, 10)
	put("gone", persistence.Endpoint{ID: 0xabc, Generation: 3}, 900)
	for _, tt := range []struct {
		q    adminapi.TableQuery
		want string
	}{
		{adminapi.TableQuery{}, "a b c gone"},
		{adminapi.TableQuery{Key: "b"}, "b"},
		{adminapi.TableQuery{Cluster: "a", Endpoint: "one"}, "a c"},
		{adminapi.TableQuery{IdleOver: 10 * time.Minute}, "a gone"},
		{adminapi.TableQuery{IdleUnder: 5 * time.Minute}, "b c"},
		{adminapi.TableQuery{IdleOver: 5 * time.Minute, IdleUnder: 14 * time.Minute}, "a"},
		{adminapi.TableQuery{IdleOver: 1}, "a b c gone"}, // not 0, which is no bound
		{adminapi.TableQuery{Cluster: "a", Endpoint: "one", IdleOver: 5 * time.Minute}, "a"},
	} {
		tt.q.Name = "t"
		if got := keysOf(t, s, tt.q); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.q, got, tt.want)
		}
	}
	for key, want := range map[string]adminapi.TableEntry{
		"a":    {Key: "a", Cluster: "a", Endpoint: "one"},
		"gone": {Key: "gone", Unknown: "0000000000000abc/3"},
	} {
		err := s.TableEntries(adminapi.TableQuery{Name: "t", Key: key}, func(e adminapi.TableEntry) bool {
			if e.AgeSecond < 1000 || e.AgeSecond > 1060 || e.Idle < 600 || e.Idle > 960 {
				t.Errorf("%s: %+v", key, e)
			}
			if e.AgeSecond, e.Idle = 0, 0; e != want {
				t.Errorf("%s: %+v", key, e)
			}
			return true
		})
		if err != nil {
			t.Error(err)
		}
	}

	if n, err := s.ClearTable(adminapi.TableQuery{Name: "t", Cluster: "a", Endpoint: "one", IdleOver: 5 * time.Minute}, "uid 7"); n != 1 || err != nil || keysOf(t, s, adminapi.TableQuery{Name: "t"}) != "b c gone" {
		t.Errorf("cleared %d, %v", n, err)
	}
	x, err := s.SetTable(adminapi.TableEntry{Key: `c\x20d`, Cluster: "b", Endpoint: "one"}, "t", "uid 7")
	if v, ok := table.Peek([]byte("c d"), now); err != nil || !ok || v.Endpoint != s.clusters[1].Endpoints[0].Key || x.Key != `c\x20d` {
		t.Errorf("set %+v %+v, %v", x, v, err)
	}
	if log := text.String(); !strings.Contains(log, `msg="table entries dropped" table=t entries=1`) || !strings.Contains(log, `msg="table entry set" table=t`) || strings.Count(log, `by="uid 7"`) != 2 {
		t.Error(log)
	}
	stats := s.Tables()
	if len(stats) != 2 || stats[1].Name != "t" || stats[1].Entries != 4 || stats[1].Size != 50_000 || stats[1].Expire != 3600 || stats[1].Inserted != 5 || !slices.Equal(stats[1].Clusters, []string{"a"}) {
		t.Errorf("%+v", stats)
	}
}

// TestClearedElsewhere: the generations beside this one drop what is cleared here, or
// they would tell of it again.
func TestClearedElsewhere(t *testing.T) {
	main, _ := desk(t, nil)
	elder, _ := desk(t, nil)
	for _, s := range []*Server{main, elder} {
		s.tables["t"].Store([]byte("k"), endpointX, unixNow())
	}
	link, back := main.newLink(), elder.newLink()
	if n, err := main.ClearTable(adminapi.TableQuery{Name: "t", Key: "k"}, ""); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	talk(link, back)
	if a, b := main.tables["t"].Len(), elder.tables["t"].Len(); a != 0 || b != 0 {
		t.Errorf("%d and %d entries are left", a, b)
	}
}

// TestSetAfterClear: an entry that is set in the second of a clearing outlives that
// clearing where it is heard of later.
func TestSetAfterClear(t *testing.T) {
	main, _ := desk(t, nil)
	next, _ := desk(t, nil)
	entry := adminapi.TableEntry{Key: "k", Cluster: "a", Endpoint: "two"}
	if _, err := main.ClearTable(adminapi.TableQuery{Name: "t", Key: "k"}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := main.SetTable(entry, "t", ""); err != nil {
		t.Fatal(err)
	}
	main.tables["t"].Each(persistence.Filter{}, unixNow(), func(r persistence.Record) bool {
		next.tables["t"].Set(r.Key, r.Value, unixNow())
		return true
	})
	talk(main.newLink(), next.newLink())
	if a, b := main.tables["t"].Len(), next.tables["t"].Len(); a != 1 || b != 1 {
		t.Errorf("%d and %d entries", a, b)
	}
}

// TestTableKeys: what is shown can be given back, whatever the bytes.
func TestTableKeys(t *testing.T) {
	s, _ := desk(t, nil)
	source := func(text string) string {
		return string(persistence.AppendSource(nil, netip.MustParseAddr(text)))
	}
	for _, tt := range []struct{ key, inT, inH string }{
		{"plain", "plain", "plain"},
		{"a b", `a\x20b`, `a\x20b`},
		{`a\b`, `a\x5cb`, `a\x5cb`},
		{"\x00\xff\n", `\x00\xff\x0a`, `\x00\xff\x0a`},
		{"é", `\xc3\xa9`, `\xc3\xa9`},
		{source("192.0.2.7"), "192.0.2.7", `\x04\xc0\x00\x02\x07`},
		{source("2001:db8::1"), "2001:db8::/64", `\x06\x20\x01\x0d\xb8` + strings.Repeat(`\x00`, 12)},
		{"192.0.2.7", `\x3192.0.2.7`, "192.0.2.7"},
		{"2001:db8::/64", `\x32001:db8::/64`, "2001:db8::/64"},
		{"2001:db8::/48", "2001:db8::/48", "2001:db8::/48"},
		{"\x04abc", `\x04abc`, `\x04abc`},
	} {
		for table, want := range map[string]string{"t": tt.inT, "h": tt.inH} {
			text := keyText([]byte(tt.key), table == "t")
			back, err := s.tableKey(table, text)
			if text != strings.ReplaceAll(want, " ", "") || err != nil || string(back) != tt.key {
				t.Errorf("%q in %s: %s, want %s; back %q, %v", tt.key, table, text, want, back, err)
			}
		}
	}
	for text, want := range map[string]string{"2001:db8::1:2:3:4": source("2001:db8::"), "::ffff:192.0.2.7": source("192.0.2.7")} {
		if back, err := s.tableKey("t", text); err != nil || string(back) != want {
			t.Errorf("%s: %q, %v", text, back, err)
		}
	}
}

func FuzzTableKey(f *testing.F) {
	for _, seed := range []string{"plain", `\`, "\x04\xc0\x00\x02\x07", "192.0.2.7", "fe80::1%eth0", "::/64"} {
		f.Add([]byte(seed))
	}
	s := &Server{cfg: &config.Config{}}
	f.Fuzz(func(t *testing.T, key []byte) {
		if len(key) == 0 || len(key) > persistence.MaxKey {
			return
		}
		if back, err := s.tableKey("x", keyText(key, false)); err != nil || !bytes.Equal(back, key) {
			t.Errorf("%q, %v", back, err)
		}
		text := keyText(key, true)
		if _, is := sourceOf(key); isSource(text) != is {
			t.Errorf("%q is shown as %s", key, text)
		}
	})
}
