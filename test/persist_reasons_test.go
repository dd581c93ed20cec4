package test

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"belay/test/harness"
)

// The log says of each request what was found and what was done, and the counters
// have the same: every reason that a session may break for.
func TestPersistReasons(t *testing.T) {
	t.Parallel()
	s := newShop(t, 7)
	s.policy = "full = \"policy\"" // of e5
	s.cluster = "max_connections = 1"
	s.more = oneWorker
	s.open()
	sessions := map[string]*harness.Browser{}
	for _, m := range s.members {
		sessions[m.id] = s.pinned(m.id)
	}
	s.drop("e0")
	s.edit("e1").generation = 1
	s.edit("e2").weight, s.edit("e5").weight = 0, 0 // who has no session does not meet these two
	s.restart()
	s.apps["e2"].Stop()
	wish(t, s.d, "back", "e3", "disable")
	wish(t, s.d, "back", "e4", "drain")
	held := make(chan error, 1)
	go func() {
		_, err := sessions["e5"].Send("GET", "/held", "", "Answer-Hold: 1")
		held <- err
	}()
	harness.Eventually(t, patience, "a request at e5", func() bool { return s.apps["e5"].Holding() == 1 })
	foreign := "QA" + strings.Repeat("A", tokenLength-2) // the form of a token, of a key that is not ours, or of none
	for _, tt := range []struct {
		b           *harness.Browser
		found, done string
	}{
		{s.browser(), "none", "minted"},
		{s.withCookie("garbage"), "invalid", "minted"},
		{sessions["e0"], "unknown", "minted"},
		{sessions["e1"], "generation", "minted"},
		{sessions["e2"], "down", "moved"},
		{sessions["e3"], "drained", "moved"},
		{sessions["e4"], "valid", "kept"},
		{sessions["e5"], "overloaded", "moved"},
		{sessions["e6"], "valid", "kept"},
	} {
		a := s.told(tt.b, tt.found, tt.done)
		wantStatus(t, a.Reply, 200)
		if n := len(a.Cookies("SRV")); (n == 1) != (tt.done != "kept") {
			t.Errorf("%s, %s: %d cookies", tt.found, tt.done, n)
		}
	}
	s.visit(s.withCookie(foreign))
	s.apps["e5"].Release()
	if err := <-held; err != nil {
		t.Error(err)
	}
	s.says("/held", "valid", "kept")
	found, done := map[string]float64{}, map[string]float64{}
	for _, r := range s.d.Records() {
		found[r.Str("persistence")]++
		done[r.Str("persistence_outcome")]++
	}
	s.counts("belay_persistence_requests_total", "found", found)
	s.counts("belay_persistence_outcomes_total", "outcome", done)
}

// A format of the access log has both fields.
func TestPersistLogFormat(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2)
	log := harness.TempDir(t) + "/log"
	s.more = fmt.Sprintf("[access_log]\noutput = %q\nflush_interval = \"5ms\"\nformat = \"%%{path} %%{persistence} %%{persistence_outcome}\"\n", log)
	s.open()
	b := s.browser()
	b.MustGet(t, "/a")
	b.MustGet(t, "/b")
	harness.Eventually(t, patience, "two lines", func() bool {
		data, _ := os.ReadFile(log)
		got := lines(string(data)) // of two workers, in any order
		slices.Sort(got)
		return slices.Equal(got, []string{"/a none minted", "/b valid kept"})
	})
}

// Requests of a connection that are under way together, and bring no session, share
// one: the second cannot know the cookie of the first.
func TestPersistPipelinedFirstRequests(t *testing.T) {
	t.Parallel()
	s := newShop(t, 4)
	s.tables = "[listener.web.limits]\npipeline = 6\n"
	s.open()
	for range 5 {
		c := harness.Dial(t, s.bind)
		const n = 6
		c.Send(strings.Repeat(harness.Request("GET", "/first", "a"), n))
		places, cookies := map[string]int{}, 0
		for range n {
			r := c.Reply("GET")
			places[r.Header.Get("X-Backend")]++
			cookies += len(r.Header.Values("Set-Cookie"))
		}
		if len(places) != 1 || cookies != n {
			t.Errorf("on %v, %d cookies", places, cookies)
		}
	}
	// One after the other, a client that keeps no cookie is balanced like any.
	places := map[string]int{}
	c := harness.Dial(t, s.bind)
	for range 8 {
		places[c.Do("GET", "/", "a").Header.Get("X-Backend")]++
	}
	if len(places) != 4 {
		t.Errorf("eight requests one after the other went to %v", places)
	}
}

// first_request_window has the connections of one source share their first choice,
// for so long, and each source its own.
func TestPersistFirstRequestWindow(t *testing.T) {
	t.Parallel()
	s := newShop(t, 4)
	s.policy = "first_request_window = \"2s\""
	s.open()
	all := map[string]bool{}
	for i := range 8 {
		b := s.browser()
		b.Source = fmt.Sprintf("127.8.%d.1", i+1)
		places := make([]string, 8)
		var wg sync.WaitGroup
		for j := range places {
			wg.Go(func() {
				if a, err := b.Send("GET", "/asset", ""); err == nil && len(a.Cookies("SRV")) == 1 {
					places[j] = a.Backend()
				}
			})
		}
		wg.Wait()
		slices.Sort(places)
		if places = slices.Compact(places); len(places) != 1 || places[0] == "" {
			t.Errorf("a source's first requests went to %q", places)
		}
		all[places[0]] = true
	}
	if len(all) < 2 {
		t.Errorf("eight sources share %v", all)
	}
	// When the window is over, it chooses again.
	b := s.browser()
	b.Source = "127.8.99.1"
	first := s.visit(b).Backend()
	b.Forget()
	began := time.Now()
	harness.Eventually(t, patience, "another choice", func() bool {
		a := s.visit(b)
		b.Forget()
		return a.Backend() != first
	})
	if took := time.Since(began); took < time.Second { // in whole seconds
		t.Errorf("the window of 2s was over after %v", took)
	}
}

// A connection that has many sessions one after the other, as another proxy's, keeps
// them apart.
func TestPersistManySessionsOnOneConnection(t *testing.T) {
	t.Parallel()
	s := newShop(t, 4).open()
	nc, err := harness.TryDial("", s.bind)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	r := bufio.NewReader(nc)
	tokens := map[string]string{}
	for range 24 {
		a, err := harness.Exchange(nc, r, harness.Request("GET", "/", "a"))
		if err != nil {
			t.Fatal(err)
		}
		tokens[value(one(t, a, "SRV"))] = a.Backend()
	}
	if len(tokens) != 24 {
		t.Fatalf("%d tokens of 24 sessions", len(tokens))
	}
	for range 3 {
		for token, at := range tokens {
			a, err := harness.Exchange(nc, r, harness.Request("GET", "/", "a", "Cookie: SRV="+token))
			if err != nil || a.Backend() != at || len(a.Header.Values("Set-Cookie")) != 0 {
				t.Fatalf("a session of %s: %+v, %v", at, a, err)
			}
		}
	}
}
