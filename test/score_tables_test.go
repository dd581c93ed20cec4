package test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"belay/test/harness"
)

// tables are the rows in which the proxy remembers the sessions itself.
func tables() []scenario {
	return []scenario{
		{"table, by a header", "a client's requests are on one server, with no cookie", func(s *stage) {
			s.begin(3, byUser)
			tableStays(s, s.users(12))
		}},
		{"table, servers reordered", "every session stays", func(s *stage) {
			want := s.begin(4, byUser)
			list := s.users(24)
			want.servers = slices.Clone(want.servers)
			slices.Reverse(want.servers)
			s.proxy.reload(s, want)
			tableStays(s, list)
		}},
		{"table, server removed", "its sessions begin anew, the others stay", func(s *stage) {
			want := s.begin(3, byUser)
			list := s.users(24)
			want.servers = slices.Delete(slices.Clone(want.servers), 1, 2)
			s.proxy.reload(s, want)
			others := slices.DeleteFunc(slices.Clone(list), func(k *stay) bool { return k.at == "e1" })
			if len(others) == len(list) {
				s.fail("no session was on e1")
			}
			tableStays(s, others)
		}},
		{"table, reloads under load", "no session moves and no request fails", tableReloads},
		{"table, learned while the old process drains", "the process that came knows it too", learnedWhileDraining},
	}
}

func byUser(w *setup) { w.table = "X-User" }

// users begins sessions of that many users.
func (s *stage) users(n int) (list []*stay) {
	s.Helper()
	v := &visitor{addr: s.proxy.addr(), fresh: true}
	for i := range n {
		k := tableSession(int64(i))
		if err := v.begin(k); err != nil {
			s.fail("%v", err)
		}
		list = append(list, k)
	}
	return list
}

func tableStays(s *stage, list []*stay) {
	s.Helper()
	v := &visitor{addr: s.proxy.addr(), fresh: true}
	lost := 0
	for range 3 {
		for _, k := range list {
			if err := v.again(k); err != nil {
				s.Log(err)
				lost++
			}
		}
	}
	if lost > 0 {
		s.fail("sessions of the table are sent elsewhere")
	}
}

// tableReloads is reloads with a table.
func tableReloads(s *stage) {
	want := s.begin(3, byUser)
	const clients, each, times = 6, 20, 4
	list := s.users(clients * each)
	var stop atomic.Bool
	defer stop.Store(true)
	var requests atomic.Int64
	errs := make(chan error, clients)
	for i := range clients {
		go func() {
			v := &visitor{addr: s.proxy.addr(), fresh: true}
			for !stop.Load() {
				for _, k := range list[i*each:][:each] {
					if err := v.again(k); err != nil {
						errs <- err
						return
					}
					requests.Add(1)
				}
				time.Sleep(time.Millisecond) // a pace, not a wait
			}
			errs <- nil
		}()
	}
	used := func() {
		goal := requests.Load() + 2*int64(len(list))
		harness.Eventually(s, patience, "every session is used", func() bool { return requests.Load() >= goal || len(errs) > 0 })
	}
	for range times {
		used()
		s.proxy.reload(s, want)
	}
	used()
	stop.Store(true)
	for range clients {
		if err := <-errs; err != nil {
			s.Log(err)
			s.fail("a session that is used before the table has come moves")
		}
	}
}

// learnedWhileDraining has users log in whose reply comes when another process has
// taken over.
func learnedWhileDraining(s *stage) {
	want := s.begin(3, func(w *setup) { w.table = "APP" })
	const logins = 12
	type outcome struct {
		b   *harness.Browser
		a   *harness.Answer
		err error
	}
	answers := make(chan outcome, logins)
	for i := range logins {
		go func() {
			b := s.browser()
			a, err := b.Get(newPath(), "Answer-Hold: 1", fmt.Sprintf("Answer-With: Set-Cookie: APP=user%d", i))
			answers <- outcome{b, a, err}
		}()
	}
	holding := func() (n int) {
		for _, a := range s.apps {
			n += a.Holding()
		}
		return n
	}
	harness.Eventually(s, patience, "the logins at their servers", func() bool { return holding() == logins })
	s.proxy.reload(s, want)
	for _, a := range s.apps {
		a.Release()
	}
	var list []outcome
	for range logins {
		o := <-answers
		if o.err != nil || o.a.Status != 200 {
			s.fail("a login failed: %v", o.err)
		}
		list = append(list, o)
	}
	time.Sleep(100 * time.Millisecond) // what a redirect takes on a network
	lost := 0
	for _, o := range list {
		for range 3 {
			if a := s.ok(o.b, newPath()); a.Backend() != o.a.Backend() {
				lost++
			}
		}
	}
	if lost > 0 {
		s.fail("sessions learned by the old process are sent elsewhere")
	}
}
