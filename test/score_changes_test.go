package test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"belay/test/harness"
)

// changes are the rows in which the configuration or the process is another one.
func changes() []scenario {
	return []scenario{
		{"removed", "the sessions of a server that is gone are pinned elsewhere, the others stay", func(s *stage) {
			want := s.begin(3)
			all := s.pinnedOne(want)
			want.servers = slices.Delete(slices.Clone(want.servers), 1, 2)
			s.proxy.reload(s, want)
			s.moves(all["e1"], "e1")
			s.stays(all["e0"], "e0")
			s.stays(all["e2"], "e2")
		}},
		{"same server, new address", "its sessions follow it", func(s *stage) {
			want := s.begin(3)
			b := s.pinnedTo("e1")
			s.apps["e1"].Stop()
			want.servers = slices.Clone(want.servers)
			want.servers[1] = s.member("e1")
			s.proxy.reload(s, want)
			s.stays(b, "e1")
		}},
		{"other server, old address", "it does not inherit the sessions", func(s *stage) {
			want := s.begin(3)
			addr := want.servers[1].addr
			var list []*harness.Browser
			for range 6 {
				list = append(list, s.pinnedTo("e1"))
			}
			s.apps["e1"].Stop()
			s.apps["e9"] = harness.NewAppAt(s, "e9", addr)
			want.servers = slices.Clone(want.servers)
			want.servers[1] = member{id: "e9", addr: addr, weight: 1}
			s.proxy.reload(s, want)
			anew(s, list, "e9")
		}},
		{"other server, same name", "with a new generation it does not inherit the sessions", func(s *stage) {
			want := s.begin(3)
			var list []*harness.Browser
			for range 6 {
				list = append(list, s.pinnedTo("e1"))
			}
			want.servers = slices.Clone(want.servers)
			want.servers[1].generation = 1
			s.proxy.reload(s, want)
			anew(s, list, "e1")
		}},
		{"servers reordered", "every session stays", func(s *stage) {
			want := s.begin(4)
			all := s.pinnedOne(want)
			want.servers = slices.Clone(want.servers)
			slices.Reverse(want.servers)
			want.servers[0], want.servers[1] = want.servers[1], want.servers[0]
			s.proxy.reload(s, want)
			for id, b := range all {
				s.stays(b, id)
			}
		}},
		{"servers added", "every session stays, and the new one gets sessions", func(s *stage) {
			want := s.begin(3)
			all := s.pinnedOne(want)
			want.servers = append([]member{s.member("new")}, want.servers...)
			s.proxy.reload(s, want)
			for id, b := range all {
				s.stays(b, id)
			}
			s.pinnedTo("new")
		}},
		{"kill -9 and a start", "every session stays", func(s *stage) {
			want := s.begin(3)
			all := s.pinnedOne(want)
			s.proxy.crash(s)
			for id, b := range all {
				s.stays(b, id)
			}
		}},
		{"reloads under load", "no session moves and no request fails", reloads},
		{"two machines", "a session that began on one is kept by the other", func(s *stage) {
			want := s.begin(3)
			other := s.proxy.twin(s, want)
			for id, b := range s.pinnedOne(want) {
				b.Addr = other
				s.stays(b, id)
			}
		}},
	}
}

// anew wants sessions to begin again, anywhere: with a cookie each, and not all
// on the server that came.
func anew(s *stage, list []*harness.Browser, came string) {
	s.Helper()
	there := 0
	for _, b := range list {
		a := s.ok(b, "/anew")
		if len(a.Cookies(pinCookie)) != 1 {
			s.fail("a session of the server that went is taken for one of %s", a.Backend())
		}
		if a.Backend() == came {
			there++
		}
		s.stays(b, a.Backend())
	}
	if there == len(list) {
		s.fail("all sessions of the server that went are on %s", came)
	}
}

// reloads replaces the process some times while sessions are used.
func reloads(s *stage) {
	want := s.begin(3)
	const sessions, times = 60, 4
	var list []*harness.Browser
	for range sessions {
		b, _ := s.pinned()
		list = append(list, b)
	}
	var stop atomic.Bool
	defer stop.Store(true)
	var requests atomic.Int64
	done := make(chan struct{})
	var failure error
	go func() {
		defer close(done)
		failure = together(list, func(b *harness.Browser) error {
			for !stop.Load() {
				a, err := b.Get("/under-load")
				switch {
				case err != nil:
					return fmt.Errorf("a request failed: %w", err)
				case a.Status != 200:
					return fmt.Errorf("a request got status %d", a.Status)
				case len(b.Moved) != 1:
					return fmt.Errorf("a session moved")
				}
				requests.Add(1)
				time.Sleep(20 * time.Millisecond) // a pace, not a wait
			}
			return nil
		})
	}()
	for range times {
		before := requests.Load()
		harness.Eventually(s, patience, "every session is used", func() bool { return requests.Load() >= before+sessions || closed(done) })
		s.proxy.reload(s, want)
	}
	stop.Store(true)
	<-done
	if failure != nil {
		s.fail("%v", failure)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
