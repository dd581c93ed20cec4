package test

import (
	"fmt"
	"sync"
	"time"

	"belay/test/harness"
)

// outages are the rows in which a session's server cannot take it, or should not.
func outages() []scenario {
	return []scenario{
		{"pinned down", "the next request is served elsewhere, and the session is pinned there", func(s *stage) {
			want := s.begin(3, checked)
			b := s.pinnedTo("e1")
			other := s.pinnedTo("e0")
			s.apps["e1"].Stop()
			s.proxy.waitState(s, want.servers[1].id, false)
			s.moves(b, "e1")
			s.stays(other, "e0")
		}},
		{"on a backup", "a session stays on the backup when the others are up again", func(s *stage) {
			want := s.begin(2, checked, func(w *setup) { w.servers[1].backup = true })
			b := s.pinnedTo("e0")
			s.apps["e0"].Stop()
			s.proxy.waitState(s, "e0", false)
			s.moves(b, "e0")
			s.apps["e0"] = harness.NewAppAt(s, "e0", want.servers[0].addr)
			s.proxy.waitState(s, "e0", true)
			s.stays(b, "e1")
			for range 6 {
				if _, at := s.pinned(); at != "e0" {
					s.fail("a new session is on the backup")
				}
			}
		}},
		{"unreachable, not marked", "the request is tried again elsewhere, and the session is pinned there", func(s *stage) {
			s.begin(3)
			b := s.pinnedTo("e1")
			s.apps["e1"].Stop()
			s.moves(b, "e1")
		}},
		{"draining", "the server keeps the sessions it has and gets no new one", func(s *stage) {
			s.begin(3)
			b := s.pinnedTo("e1")
			s.proxy.drain(s, "e1")
			for range 12 {
				if _, at := s.pinned(); at == "e1" {
					s.fail("a new session is sent to a server that drains")
				}
			}
			s.stays(b, "e1")
		}},
		{"weight 0", "the server keeps the sessions it has and gets no new one", func(s *stage) {
			want := s.begin(3)
			b := s.pinnedTo("e1")
			want.servers[1].weight = 0
			s.proxy.reload(s, want)
			for range 12 {
				if _, at := s.pinned(); at == "e1" {
					s.fail("a new session is sent to a server of weight 0")
				}
			}
			s.stays(b, "e1")
		}},
		{"saturated", "a session's request waits for its full server and stays there", saturated},
		{"saturated, queue full", "a session's request that cannot even wait is served elsewhere", queueFull},
		{"short outage", "meanwhile the session is served elsewhere, and then again by its own server", func(s *stage) {
			want := s.begin(3, func(w *setup) { w.detour = true })
			b := s.pinnedTo("e1")
			s.apps["e1"].Stop()
			for range 3 {
				if a := s.ok(b, "/meanwhile"); a.Backend() == "e1" || len(a.Cookies(pinCookie)) > 0 {
					s.fail("during the outage: server %s, cookies %q", a.Backend(), a.Cookies(pinCookie))
				}
			}
			s.apps["e1"] = harness.NewAppAt(s, "e1", want.servers[1].addr)
			harness.Eventually(s, patience, "the session is back", func() bool { return s.ok(b, "/back").Backend() == "e1" })
			s.stays(b, "e1")
		}},
		{"retried first request", "a reply that took several tries has one cookie, of the server that answered", func(s *stage) {
			s.begin(3)
			s.apps["e0"].Stop()
			s.apps["e2"].Stop()
			for range 6 {
				b, at := s.pinned()
				s.stays(b, at)
			}
		}},
		{"502 made by the proxy", "a reply that no server sent pins nothing", func(s *stage) {
			s.begin(2)
			for _, how := range []string{"Answer-Garbage: 1", "Answer-Nothing: 1"} {
				a := s.get(s.browser(), "/", how)
				if a.Backend() != "" || a.Status < 500 {
					s.fail("%s: status %d", how, a.Status)
				}
				if got := a.Cookies(pinCookie); len(got) > 0 {
					s.fail("%s: status %d with a cookie", how, a.Status)
				}
			}
		}},
		{"parallel first requests", "six requests of a new browser at a time begin one session", parallelFirst},
	}
}

func checked(w *setup) { w.check = true }

// held has a browser's request wait in a server.
func held(s *stage, b *harness.Browser, at string) (answered func() *harness.Answer) {
	s.Helper()
	type outcome struct {
		a   *harness.Answer
		err error
	}
	done := make(chan outcome, 1)
	app := s.apps[at]
	before := app.Holding()
	go func() {
		a, err := b.Send("GET", "/held", "", "Answer-Hold: 1")
		done <- outcome{a, err}
	}()
	harness.Eventually(s, patience, "a request is held by "+at, func() bool { return app.Holding() > before })
	return func() *harness.Answer {
		s.Helper()
		o := <-done
		if o.err != nil {
			s.fail("a request that was held: %v", o.err)
		}
		return o.a
	}
}

func saturated(s *stage) {
	s.begin(3, func(w *setup) { w.limit = 1 })
	b := s.pinnedTo("e1")
	first := held(s, b, "e1")
	type outcome struct {
		a   *harness.Answer
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		a, err := b.Send("GET", "/waits", "")
		done <- outcome{a, err}
	}()
	select {
	case o := <-done:
		s.fail("the request did not wait: %+v %v", o.a, o.err)
	case <-time.After(300 * time.Millisecond): // long enough to go elsewhere
	}
	s.apps["e1"].Release()
	first()
	o := <-done
	if o.err != nil || o.a.Backend() != "e1" || len(o.a.Cookies(pinCookie)) > 0 {
		s.fail("the request that waited: %+v %v", o.a, o.err)
	}
}

// queueFull has one request in the server, as many as may wait, and one more. How
// many may wait is for each of belay's workers.
func queueFull(s *stage) {
	s.begin(3, func(w *setup) { w.limit, w.queue = 1, 1 })
	b := s.pinnedTo("e1")
	first := held(s, b, "e1")
	const most = 20
	answers := make(chan *harness.Answer, most)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.apps["e1"].Release()
	for range most {
		wg.Go(func() {
			if a, err := b.Send("GET", "/one-too-many", ""); err == nil {
				answers <- a
			}
		})
		select {
		case a := <-answers:
			if a.Status != 200 || a.Backend() == "e1" {
				s.fail("status %d from %q", a.Status, a.Backend())
			}
			s.apps["e1"].Release()
			first()
			return
		case <-time.After(50 * time.Millisecond): // it waits; one more
		}
	}
	s.fail("%d requests, and nothing but waiting", most)
}

// parallelFirst plays ten browsers, since one may have luck.
func parallelFirst(s *stage) {
	s.begin(4, func(w *setup) { w.window = true })
	for i := range 10 {
		b := s.browser()
		b.Source = fmt.Sprintf("127.9.%d.1", i+1)
		var mu sync.Mutex
		places := map[string]int{}
		six := []*harness.Browser{b, b, b, b, b, b}
		err := together(six, func(b *harness.Browser) error {
			a, err := b.Send("GET", "/asset", "")
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			places[a.Backend()]++
			return nil
		})
		if err != nil {
			s.fail("%v", err)
		}
		if len(places) != 1 {
			s.fail("the first six requests of a browser went to several servers")
		}
	}
}
