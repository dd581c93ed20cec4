package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"belay/test/harness"
)

// A cookie is good for max_idle since it was last set and for max_age since the
// session began. It is set anew when more than a tenth of the idle time is used up,
// which does not move the age. One shop plays all of it, since it takes its time.
func TestPersistIdleAndAge(t *testing.T) {
	t.Parallel()
	idle, aged, both := newShop(t, 3), newShop(t, 3), newShop(t, 3)
	idle.cookie = "max_idle = \"4s\"\nmax_age = \"0s\""
	aged.cookie = "max_idle = \"0s\"\nmax_age = \"4s\""
	both.cookie = "max_idle = \"3s\"\nmax_age = \"4s\"\nkeep_over_end = true"
	for _, s := range []*shop{idle, aged, both} {
		s.keys += "\nskew = \"0s\""
		s.open()
	}
	left, used, old, busy := idle.pinned("e1"), idle.pinned("e2"), aged.pinned("e1"), both.browser()
	began := time.Now()
	first := used.Cookie("SRV")
	var wg sync.WaitGroup
	wg.Go(func() { refreshed(idle, used, "e2", began) })
	wg.Go(func() { ends(idle, left, "idle", began) })
	wg.Go(func() { ends(aged, old, "aged", began) })
	wg.Go(func() { ages(both, busy) })
	wg.Wait()
	if used.Cookie("SRV") == first {
		t.Error("the cookie was never set anew")
	}
}

// refreshed uses a session, beyond its idle time in all, and wants it kept, with a
// new cookie every second or so and not with each reply.
func refreshed(s *shop, b *harness.Browser, id string, began time.Time) {
	cookies, requests := 0, 0
	for time.Since(began) < 7*time.Second {
		a, err := b.Get(newPath())
		if err != nil || a.Backend() != id {
			s.t.Errorf("after %v: %+v %v", time.Since(began), a, err)
			return
		}
		requests++
		cookies += len(a.Cookies("SRV"))
		time.Sleep(100 * time.Millisecond) // a pace, not a wait
	}
	// At most one each second: more than a tenth of 4 s, in whole seconds.
	if cookies < 3 || cookies > 8 {
		s.t.Errorf("%d cookies in %d replies within 7 s", cookies, requests)
	}
}

// ends waits until a session is over and wants the reason told. What it is asked
// with does not keep it alive, since the browser keeps no cookie meanwhile.
func ends(s *shop, b *harness.Browser, reason string, began time.Time) {
	time.Sleep(time.Until(began.Add(3 * time.Second))) // nearly the limit
	path := newPath()
	for a, err := b.Send("GET", path, ""); ; a, err = b.Send("GET", path, "") {
		at := time.Since(began)
		if err != nil {
			s.t.Error(err)
			return
		}
		r := s.d.WaitPath(path)
		if found := r.Str("persistence"); found == reason {
			if at < 3900*time.Millisecond || len(a.Cookies("SRV")) != 1 || r.Str("persistence_outcome") != "minted" {
				s.t.Errorf("%s after %v with %d cookies: %v", found, at, len(a.Cookies("SRV")), r)
			}
			return
		}
		if at > 7*time.Second {
			s.t.Errorf("after %v: %v, want %s", at, r, reason)
			return
		}
		time.Sleep(100 * time.Millisecond) // between two looks
		path = newPath()
	}
}

// ages uses a session all the time and wants it to end all the same, and the browser
// to be told at each refresh how long it may keep the cookie.
func ages(s *shop, b *harness.Browser) {
	began := time.Now()
	refreshes := 0
	for time.Since(began) < 8*time.Second {
		path := newPath()
		a, err := b.Get(path)
		if err != nil {
			s.t.Error(err)
			return
		}
		at := time.Since(began)
		r := s.d.WaitPath(path)
		age := 0
		if c := a.Cookies("SRV"); len(c) == 1 {
			_, _ = fmt.Sscanf(c[0][strings.LastIndex(c[0], "=")+1:], "%d", &age)
		}
		switch found, done := r.Str("persistence"), r.Str("persistence_outcome"); {
		case found == "aged":
			if at < 3900*time.Millisecond || done != "minted" || age != 3 {
				s.t.Errorf("aged after %v, Max-Age %d: %v", at, age, r)
			}
			if refreshes == 0 {
				s.t.Error("it was never refreshed before")
			}
			return
		case done == "refreshed":
			refreshes++
			if left := 4*time.Second - at; age < 1 || age > 3 || time.Duration(age)*time.Second > left+1500*time.Millisecond { // whole seconds
				s.t.Errorf("refreshed after %v with Max-Age %d", at, age)
			}
		}
		time.Sleep(100 * time.Millisecond) // a pace, not a wait
	}
	s.t.Error("a session that is used does not end")
}
