package server

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/hotrestart"
	"belay/internal/persistence"
)

// tabled is a configuration with tables, counted sessions and generated keys.
func tabled(dir string, tables ...string) func(*config.Config) {
	return func(c *config.Config) {
		sticky(dir)(c)
		for _, name := range tables {
			c.Tables = append(c.Tables, &config.Table{Name: name, Size: 50_000, Expire: time.Hour})
		}
	}
}

// talk has two processes exchange until neither has more to tell.
func talk(a, b *persistenceLink) (messages int) {
	for more := true; more; {
		list, moreA := a.Next()
		b.Take(list)
		back, moreB := b.Next()
		a.Take(back)
		more = moreA || moreB
		messages++
	}
	return messages
}

func entry(i int) []byte { return fmt.Appendf(nil, "session %d", i) }

var (
	endpointX = persistence.Endpoint{ID: 1}
	endpointY = persistence.Endpoint{ID: 2}
)

// What is in the tables of one process gets into those of the same name of the
// other, in pieces that hold nobody up; and so does what either learns later, also
// from a third.
func TestLinkTables(t *testing.T) {
	old, oldText := openHouse(t, tabled(t.TempDir(), "gone", "x", "y"))
	child, childText := openHouse(t, tabled(t.TempDir(), "new", "x", "y"))
	third, _ := openHouse(t, tabled(t.TempDir(), "x"))
	now := unixNow()
	const many = 20_000
	for i := range many {
		old.tables["x"].Store(entry(i), endpointX, now)
		old.clusters[0].Sessions.Store(entry(i), endpointX, now)
	}
	old.tables["gone"].Store(entry(0), endpointX, now)
	old.tables["y"].Store(entry(0), endpointY, now)

	parent, fetch := old.newLink(), child.newLink()
	for more, n := true, 0; more; n++ {
		var list []hotrestart.Blob
		list, more = parent.Next()
		size := 0
		for _, b := range list {
			size += len(b.Data)
		}
		if size > 2*linkPiece || n > 100 {
			t.Fatalf("message %d has %d bytes", n, size)
		}
		fetch.Take(list)
	}
	fetch.settle()
	if x, y, s := child.tables["x"].Len(), child.tables["y"].Len(), child.clusters[0].Sessions.Len(); x != many || y != 1 || s != 1000 || child.tables["new"].Len() != 0 {
		t.Errorf("%d, %d and %d entries", x, y, s)
	}
	if list, more := fetch.Next(); len(list) != 0 || more {
		t.Error("the child tells what it was told")
	}

	old.tables["x"].Store([]byte("old"), endpointX, now)
	child.tables["x"].Store([]byte("child"), endpointY, now)
	child.clusters[0].Sessions.Store([]byte("child"), endpointY, now)
	elder, main := third.newLink(), child.newLink()
	talk(fetch, parent)
	talk(main, elder)
	third.tables["x"].Store([]byte("third"), endpointY, now)
	talk(main, elder)
	talk(fetch, parent)
	for i, s := range []*Server{old, child, third} {
		for _, key := range []string{"old", "child", "third", "session 7"} {
			if _, ok := s.tables["x"].Peek([]byte(key), now); !ok {
				t.Errorf("process %d does not know %q", i, key)
			}
		}
	}
	if _, ok := old.clusters[0].Sessions.Peek([]byte("child"), now); !ok {
		t.Error("the session of the child is not counted")
	}
	talk(fetch, parent)
	for _, l := range []*persistenceLink{fetch, parent} {
		if list, more := l.Next(); len(list) != 0 || more {
			t.Errorf("with nothing new %d pieces are told", len(list))
		}
	}
	if all := oldText.String() + childText.String(); strings.Contains(all, "WARN") {
		t.Error(all)
	}
}

// A piece that cannot be read is said, with its owner, and the rest is taken.
func TestLinkRubbish(t *testing.T) {
	s, text := openHouse(t, tabled(t.TempDir(), "x"))
	other, _ := openHouse(t, tabled(t.TempDir(), "x"))
	before := s.keyring.Load()
	other.tables["x"].Store(entry(1), endpointX, unixNow())
	good, _ := other.newLink().Next()
	s.newLink().Take(append([]hotrestart.Blob{
		{Owner: stateTable + "x", Version: stateTableVer + 1, Data: []byte("?")},
		{Owner: stateTable + "x", Version: stateTableVer, Data: []byte("?")},
		{Owner: stateKeys, Version: stateKeysVersion, Data: []byte("?")},
		{Owner: stateKeys, Version: stateKeysVersion + 1, Data: before.Export()},
		{Owner: stateEndpoints, Version: cluster.EndpointsVersion, Data: []byte("?")},
		{Owner: stateCleared, Version: stateClearedVer + 1, Data: []byte("[]")},
		{Owner: stateCleared, Version: stateClearedVer, Data: []byte("?")},
	}, good...))
	if n := strings.Count(text.String(), "is not taken"); n != 7 {
		t.Errorf("%d of 7 are told of:\n%s", n, text)
	}
	s.newLink().Take([]hotrestart.Blob{{Owner: "of a later version"}, {Owner: stateTable + "unknown"}}) // no fault of anybody
	if n := strings.Count(text.String(), "is not taken"); n != 7 {
		t.Error(text)
	}
	if s.tables["x"].Len() != 1 || s.keyring.Load() != before {
		t.Error("the rest is not taken, or rubbish was")
	}
}

// Keys and the operator's wishes go from the main process to the others, each time
// they change, and never the other way.
func TestLinkOrders(t *testing.T) {
	dir := t.TempDir()
	main, _ := openHouse(t, tabled(dir))
	elder, _ := openHouse(t, tabled(t.TempDir()))
	main.service.main.Store(true)
	own := elder.keyring.Load()
	a, b := main.newLink(), elder.newLink()
	b.Take(nil)
	if list, _ := b.Next(); len(list) != 0 {
		t.Errorf("the elder gives orders: %v", list)
	}
	same := func() bool { return bytes.Equal(main.keyring.Load().Text(), elder.keyring.Load().Text()) }
	talk(a, b)
	if elder.keyring.Load() == own || !same() {
		t.Error("the elder has other keys")
	}
	now := time.Now().Add(25 * time.Hour)
	main.turnKeys(now)
	main.turnKeys(now.Add(2 * time.Hour))
	main.clusters[0].Endpoints[1].SetAdmin(cluster.Drain, now)
	talk(a, b)
	if !same() || states(elder.keyring) != "0 old, 1 mint" {
		t.Errorf("the elder has %s", states(elder.keyring))
	}
	if i := elder.clusters[0].Endpoints[1].Info(); i.State != cluster.Draining || !i.Deadline.Equal(now) {
		t.Errorf("the endpoint %+v", i)
	}
	main.clusters[0].Endpoints[1].SetAdmin(cluster.Enable, time.Time{})
	talk(a, b)
	if i := elder.clusters[0].Endpoints[1].Info(); i.State != cluster.Healthy {
		t.Errorf("the endpoint %+v", i)
	}
	if list, _ := a.Next(); len(list) != 0 {
		t.Errorf("nothing is new, and yet told: %v", list)
	}
	elder.keys.shared = "/a/keyring" // everybody reads it
	main.keyring.Swap(persistence.NewRing(1))
	talk(a, b)
	if same() {
		t.Error("a keyring from a file has been replaced")
	}
}

// What the operator drops is gone in every generation: also what another has told
// just before it hears of that, and what a later one is told by an elder. Entries that
// were made since stay.
func TestLinkClear(t *testing.T) {
	main, _ := openHouse(t, tabled(t.TempDir(), "x"))
	elder, _ := openHouse(t, tabled(t.TempDir(), "x"))
	then := unixNow() - 10
	for i := range 10 {
		for _, s := range []*Server{main, elder} {
			s.tables["x"].Store(entry(i), []persistence.Endpoint{endpointX, endpointY}[i%2], then)
		}
	}
	left := func(s *Server) string {
		var list []string
		s.tables["x"].Each(persistence.Filter{}, unixNow(), func(r persistence.Record) bool {
			list = append(list, strings.TrimPrefix(string(r.Key), "session "))
			return true
		})
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	want := func(what, list string, all ...*Server) {
		t.Helper()
		for i, s := range all {
			if got := left(s); got != list {
				t.Errorf("%s: process %d has %q, want %q", what, i, got, list)
			}
		}
	}
	a, b := main.newLink(), elder.newLink()
	talk(a, b)
	ask, _ := a.Next()
	b.Take(ask)
	elder.tables["x"].Store(entry(1), endpointY, then+1)
	reply, _ := b.Next() // on its way while the operator acts
	if n := main.clearTable("x", persistence.Filter{Endpoint: &endpointY}); n != 5 {
		t.Errorf("%d dropped", n)
	}
	a.Take(reply)
	want("a reply that was on its way", "0 2 4 6 8", main)
	talk(a, b)
	want("by endpoint", "0 2 4 6 8", main, elder)
	main.clearTable("x", persistence.Filter{Key: entry(4)})
	main.clearTable("x", persistence.Filter{Key: entry(4)})
	talk(a, b)
	want("by key", "0 2 6 8", main, elder)
	main.tables["x"].Store(entry(8), endpointX, then+5)
	elder.tables["x"].Store(entry(0), endpointX, then+5)
	talk(a, b)
	main.clearTable("x", persistence.Filter{MinIdle: 7})
	elder.tables["x"].Store(entry(6), endpointX, unixNow()+1) // used since
	talk(a, b)
	want("by age", "0 6 8", main, elder)

	next, _ := openHouse(t, tabled(t.TempDir(), "x"))
	late, _ := openHouse(t, tabled(t.TempDir(), "x")) // an elder that nobody told
	late.tables["x"].Store(entry(3), endpointY, then)
	parent, fetch := main.newLink(), next.newLink()
	talk(fetch, parent)
	talk(next.newLink(), late.newLink())
	want("in a chain", "0 6 8", next, late)
	if n := len(next.clearings.list); n != 3 {
		t.Errorf("%d clearings are kept", n)
	}
	for i := range 2 * maxClearings {
		main.clearTable("x", persistence.Filter{Key: entry(i)})
	}
	if n := len(main.clearings.list); n != maxClearings {
		t.Errorf("%d clearings are kept", n)
	}
	if main.clearTable("unknown", persistence.Filter{}) != 0 {
		t.Error("a table that is not there has entries")
	}
}

// What a process passes on, its child starts with: keys, and all that is known of
// endpoints; at its release it learns what has changed.
func TestPersistenceState(t *testing.T) {
	parent, _ := openHouse(t, tabled(t.TempDir(), "x"))
	e := parent.clusters[0].Endpoints
	e[0].SetAdmin(cluster.Drain, time.Time{})
	child, text := house(t, tabled(t.TempDir(), "x"))
	child.takeState(parent.persistenceState())
	if err := child.openPersistence(); err != nil {
		t.Fatal(err)
	}
	c := child.clusters[0].Endpoints
	if !bytes.Equal(child.keyring.Load().Text(), parent.keyring.Load().Text()) || c[0].State() != cluster.Draining {
		t.Errorf("keys %s, endpoint %v", child.keyring.Load(), c[0].State())
	}
	parent.keyring.Swap(persistence.NewRing(5))
	e[0].SetAdmin(cluster.Enable, time.Time{})
	e[1].SetAdmin(cluster.Disable, time.Time{})
	child.LateState(parent.persistenceState())
	if !bytes.Equal(child.keyring.Load().Text(), parent.keyring.Load().Text()) || c[0].State() != cluster.Healthy || c[1].State() != cluster.Disabled {
		t.Errorf("late: keys %s, endpoints %v, %v", child.keyring.Load(), c[0].State(), c[1].State())
	}
	if strings.Contains(text.String(), "WARN") {
		t.Error(text)
	}
}
