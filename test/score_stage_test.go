package test

import (
	"fmt"
	"strings"
	"sync"

	"belay/test/harness"
)

// pinCookie is the cookie that the proxies keep sessions with.
const pinCookie = "SRV"

// begin starts applications e0, e1 … and the proxy before them.
func (s *stage) begin(n int, edit ...func(*setup)) setup {
	s.Helper()
	var want setup
	for i := range n {
		want.servers = append(want.servers, s.member(fmt.Sprintf("e%d", i)))
	}
	for _, e := range edit {
		e(&want)
	}
	s.proxy.begin(s, want)
	return want
}

// member starts an application with a name.
func (s *stage) member(id string) member {
	s.Helper()
	a := harness.NewApp(s, id)
	s.apps[id] = a
	return member{id: id, addr: a.Addr, weight: 1}
}

// browser is a client that comes for the first time.
func (s *stage) browser() *harness.Browser { return &harness.Browser{Addr: s.proxy.addr()} }

// get is a request that has to be answered.
func (s *stage) get(b *harness.Browser, target string, headers ...string) *harness.Answer {
	s.Helper()
	a, err := b.Get(target, headers...)
	if err != nil {
		s.fail("a request got no answer: %v", err)
	}
	return a
}

// ok is get of a request that a server has to answer.
func (s *stage) ok(b *harness.Browser, target string, headers ...string) *harness.Answer {
	s.Helper()
	a := s.get(b, target, headers...)
	if a.Status != 200 || a.Backend() == "" {
		s.fail("a request got status %d", a.Status)
	}
	return a
}

// pinned is a browser with a session, and where that is.
func (s *stage) pinned() (*harness.Browser, string) {
	s.Helper()
	b := s.browser()
	a := s.ok(b, "/first")
	if n := len(a.Cookies(pinCookie)); n != 1 {
		s.fail("the first reply has %d cookies %s", n, pinCookie)
	}
	return b, a.Backend()
}

// pinnedTo is a browser with a session on a server.
func (s *stage) pinnedTo(id string) *harness.Browser {
	s.Helper()
	for range 40 {
		if b, at := s.pinned(); at == id {
			return b
		}
	}
	s.fail("40 sessions, and none on %s", id)
	return nil
}

// pinnedOne is one browser on each server.
func (s *stage) pinnedOne(want setup) map[string]*harness.Browser {
	s.Helper()
	all := map[string]*harness.Browser{}
	for _, m := range want.servers {
		all[m.id] = s.pinnedTo(m.id)
	}
	return all
}

// stays wants a session's requests on its server, and no cookie for what did not
// change.
func (s *stage) stays(b *harness.Browser, at string) {
	s.Helper()
	for range 4 {
		a := s.ok(b, "/again")
		if a.Backend() != at {
			s.fail("a session of %s was sent to %s", at, a.Backend())
		}
		if got := a.Cookies(pinCookie); len(got) > 0 {
			s.fail("a session that stays gets a cookie again")
		}
	}
}

// moves wants a session on another server with one new cookie, which leads there.
func (s *stage) moves(b *harness.Browser, from string) {
	s.Helper()
	a := s.ok(b, "/moved")
	if a.Backend() == from {
		s.fail("a session is still on %s", from)
	}
	if n := len(a.Cookies(pinCookie)); n != 1 {
		s.fail("a session that moves gets %d cookies", n)
	}
	s.stays(b, a.Backend())
}

// together does something for browsers at a time and returns an error of one.
func together(list []*harness.Browser, do func(*harness.Browser) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(list))
	for _, b := range list {
		wg.Go(func() { errs <- do(b) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// value is the cookie's value in a Set-Cookie line.
func value(line string) string {
	_, v, _ := strings.Cut(line, "=")
	v, _, _ = strings.Cut(v, ";")
	return v
}
