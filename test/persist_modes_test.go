package test

import (
	"fmt"
	"strings"
	"testing"

	"belay/test/harness"
)

// pinHeader is what an API client keeps of a reply and sends with its next request.
func pinHeader(a *harness.Answer) string { return a.Header.Get("X-Pin") }

// A token in a header, both ways: for clients without cookies.
func TestPersistHeader(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.modes = "[cluster.back.persistence.header]\nname = \"X-Pin\"\n"
	s.open()
	for range 4 {
		a := s.told(s.browser(), "none", "minted")
		token := pinHeader(a)
		if len(token) != tokenLength || len(a.Header.Values("Set-Cookie")) != 0 {
			t.Fatalf("X-Pin %q, cookies %q", token, a.Header.Values("Set-Cookie"))
		}
		for range 4 {
			again := s.told(s.browser(), "valid", "kept", "X-Pin: "+token)
			if again.Backend() != a.Backend() || pinHeader(again) != "" {
				t.Errorf("on %s, began on %s, told %q", again.Backend(), a.Backend(), pinHeader(again))
			}
			if harness.Field(again.Seen, "X-Pin") != "" {
				t.Error("the server sees it")
			}
		}
	}
	a := s.told(s.browser(), "invalid", "minted", "X-Pin: e1")
	if len(pinHeader(a)) != tokenLength {
		t.Errorf("X-Pin %q", pinHeader(a))
	}
	// What a server says under that name does not reach the client.
	if a := s.visit(s.browser(), "Answer-With: X-Pin: of-the-server"); len(a.Header.Values("X-Pin")) != 1 || len(pinHeader(a)) != tokenLength {
		t.Errorf("X-Pin %q", a.Header.Values("X-Pin"))
	}
	// It moves when its server is gone, and says so in the header.
	token := pinHeader(a)
	at := a.Backend()
	s.apps[at].Stop()
	a = s.told(s.browser(), "down", "moved", "X-Pin: "+token)
	if a.Backend() == at || len(pinHeader(a)) != tokenLength {
		t.Errorf("on %s, X-Pin %q", a.Backend(), pinHeader(a))
	}
}

// hide_from_upstream = false lets the server see the header.
func TestPersistHeaderShown(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2)
	s.modes = "[cluster.back.persistence.header]\nname = \"X-Pin\"\nhide_from_upstream = false\n"
	s.open()
	token := pinHeader(s.visit(s.browser()))
	if a := s.visit(s.browser(), "X-Pin: "+token); harness.Field(a.Seen, "X-Pin") != token {
		t.Errorf("seen %q", harness.Field(a.Seen, "X-Pin"))
	}
}

// The server's own session header is wrapped on its way out and unwrapped on its
// way in; a reply without, or with two, is left alone.
func TestPersistHeaderEnvelope(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.modes = "[cluster.back.persistence.header]\nname = \"X-Session\"\nmode = \"envelope\"\n"
	s.open()
	const own = `id="a b"; c=~.1`
	if a := s.told(s.browser(), "none", "none"); a.Header.Get("X-Session") != "" {
		t.Errorf("a reply without a session has %q", a.Header.Get("X-Session"))
	}
	for range 4 {
		a := s.visit(s.browser(), "Answer-With: X-Session: "+own)
		wrapped := a.Header.Get("X-Session")
		if !strings.HasPrefix(wrapped[min(tokenLength, len(wrapped)):], ".") || strings.Contains(wrapped, "id=") {
			t.Fatalf("X-Session %q", wrapped)
		}
		for range 4 {
			again := s.told(s.browser(), "valid", "kept", "X-Session: "+wrapped)
			if again.Backend() != a.Backend() || harness.Field(again.Seen, "X-Session") != own {
				t.Errorf("on %s, began on %s, which sees %q", again.Backend(), a.Backend(), harness.Field(again.Seen, "X-Session"))
			}
		}
	}
	if a := s.visit(s.browser(), "Answer-With: X-Session: a", "Answer-With: X-Session: b"); strings.Join(a.Header.Values("X-Session"), "|") != "a|b" {
		t.Errorf("of two: %q", a.Header.Values("X-Session"))
	}
	// What is no envelope is the server's own, and arrives as it is.
	if a := s.told(s.browser(), "none", "none", "X-Session: plain"); harness.Field(a.Seen, "X-Session") != "plain" {
		t.Errorf("seen %q", harness.Field(a.Seen, "X-Session"))
	}
}

// The application's own cookie carries the token, as a prefix or in an envelope: the
// client has one cookie, the server sees its value as it made it.
func TestPersistApplicationCookie(t *testing.T) {
	t.Parallel()
	for mode, mark := range map[string]string{"prefix": "~", "envelope": "."} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 3)
			s.cookie = fmt.Sprintf("name = \"JSESSIONID\"\nmode = %q", mode)
			s.open()
			a := s.told(s.browser(), "none", "none")
			if len(a.Header.Values("Set-Cookie")) != 0 {
				t.Errorf("before the application has a session: %q", a.Header.Values("Set-Cookie"))
			}
			for range 4 {
				b := s.browser()
				b.Jar = []string{"theme=dark"}
				a := s.told(b, "none", "minted", "Answer-With: Set-Cookie: JSESSIONID=0123~AB.cd; Path=/app; HttpOnly", "Answer-With: Set-Cookie: other=1")
				line := one(t, a, "JSESSIONID")
				v := value(line)
				if len(v) <= tokenLength || v[tokenLength:tokenLength+1] != mark || !strings.HasSuffix(line, "; Path=/app; HttpOnly") || one(t, a, "other") != "other=1" {
					t.Fatalf("set %q", a.Header.Values("Set-Cookie"))
				}
				for range 4 {
					again := s.told(b, "valid", "kept")
					if got := harness.Field(again.Seen, "Cookie"); again.Backend() != a.Backend() || got != "theme=dark; JSESSIONID=0123~AB.cd; other=1" {
						t.Errorf("on %s, began on %s, which sees %q", again.Backend(), a.Backend(), got)
					}
				}
				// The application changes its session: the token comes along.
				a2 := s.visit(b, "Answer-With: Set-Cookie: JSESSIONID=new")
				if v := value(one(t, a2, "JSESSIONID")); len(v) <= tokenLength {
					t.Errorf("the new session is %q", v)
				}
				if a3 := s.visit(b); a3.Backend() != a.Backend() || !strings.Contains(harness.Field(a3.Seen, "Cookie"), "JSESSIONID=new") {
					t.Errorf("then on %s, which sees %q", a3.Backend(), harness.Field(a3.Seen, "Cookie"))
				}
				// And ends it.
				if line := one(t, s.visit(b, "Answer-With: Set-Cookie: JSESSIONID=; Max-Age=0"), "JSESSIONID"); line != "JSESSIONID=; Max-Age=0" {
					t.Errorf("the end is %q", line)
				}
			}
			// A session from before persistence was switched on.
			b := s.browser()
			b.Jar = []string{"JSESSIONID=plain"}
			if a := s.visit(b); harness.Field(a.Seen, "Cookie") != "JSESSIONID=plain" {
				t.Errorf("seen %q", harness.Field(a.Seen, "Cookie"))
			}
		})
	}
}

// A stick table keyed by parts of the request, and one that learns the
// application's cookie.
func TestPersistTable(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{
		"header": `key = [{ header = "X-User" }]`,
		"cookie": `key = [{ cookie = "uid" }]`,
		"query":  `key = [{ query = "sid" }]`,
		"either": `key = [{ header = "X-Missing" }, { cookie = "uid" }]`,
		"source": `key = [{ source = true }]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 3)
			s.modes = "[cluster.back.persistence.table]\nname = \"users\"\n" + table
			s.more = "[table.users]\nsize = 1000\nexpire = \"10m\"\n"
			s.open()
			places := map[string]int{}
			for user := range 9 {
				b := s.browser()
				b.Source = fmt.Sprintf("127.7.%d.1", user+1)
				ask := func() *harness.Answer {
					return b.MustGet(t, fmt.Sprintf("%s?x=1&sid=user%d", newPath(), user), fmt.Sprintf("X-User: user%d", user), fmt.Sprintf("Cookie: uid=user%d", user))
				}
				first := ask()
				places[first.Backend()]++
				for range 4 {
					if a := ask(); a.Backend() != first.Backend() || len(a.Header.Values("Set-Cookie")) != 0 {
						t.Errorf("on %s, began on %s, sets %q", a.Backend(), first.Backend(), a.Header.Values("Set-Cookie"))
					}
				}
			}
			if len(places) != 3 {
				t.Errorf("all on %v", places)
			}
		})
	}
}

// learn: the table has what the server calls the session, from the reply that
// begins it.
func TestPersistTableLearns(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.modes = "[cluster.back.persistence.table]\nname = \"apps\"\nkey = [{ cookie = \"APP\" }]\nlearn = { cookie = \"APP\" }\n"
	s.more = "[table.apps]\n"
	s.open()
	for user := range 9 {
		b := s.browser()
		a := s.visit(b, fmt.Sprintf("Answer-With: Set-Cookie: APP=user%d; Path=/", user))
		if line := one(t, a, "APP"); line != fmt.Sprintf("APP=user%d; Path=/", user) {
			t.Errorf("set %q", line)
		}
		for range 4 {
			if again := s.told(b, "valid", "kept"); again.Backend() != a.Backend() {
				t.Errorf("on %s, began on %s", again.Backend(), a.Backend())
			}
		}
	}
	// A key that no server gave out is no session, whoever brings it.
	b := s.browser()
	b.Jar = []string{"APP=made-up"}
	places := map[string]bool{}
	for range 12 {
		places[s.visit(b).Backend()] = true
	}
	if len(places) != 3 {
		t.Errorf("a made-up session is on %v", places)
	}
}

// debug_header tells a client what the log tells, and nobody else is told.
func TestPersistDebugHeader(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2)
	s.policy = "debug_header = \"X-Persistence\""
	s.open()
	b := s.browser()
	a := s.visit(b)
	if got := a.Header.Values("X-Persistence"); len(got) != 1 || !containsAny(got[0], "none; minted; endpoint="+a.Backend()) {
		t.Errorf("first: %q", got)
	}
	at := a.Backend()
	a = s.visit(b, "Answer-With: X-Persistence: of the server")
	if got := a.Header.Values("X-Persistence"); len(got) != 1 || got[0] != "valid; kept; endpoint="+at {
		t.Errorf("then: %q", got)
	}
	s.apps[at].Stop()
	a = s.visit(b)
	if got := a.Header.Values("X-Persistence"); len(got) != 1 || got[0] != "down; moved; endpoint="+a.Backend() {
		t.Errorf("moved: %q", got)
	}
	if n := len(harness.Fields(a.Seen, "X-Persistence")); n != 0 {
		t.Error("the server is told")
	}
}
