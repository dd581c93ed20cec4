package test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"belay/test/harness"
)

// tokenLength is how long every token is.
const tokenLength = 87

// What is no token of ours is served, pinned anew, and told apart in the log.
func TestPersistHostileCookies(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3).open()
	token := s.pinned("e1").Cookie("SRV")
	if len(token) != tokenLength {
		t.Fatalf("a token of %d characters: %q", len(token), token)
	}
	hostile := map[string]string{
		"empty": "", "a word": "e1", "an address": s.members[1].addr, "too short": token[:tokenLength-1], "too long": token + "A",
		"oversized": strings.Repeat("A", 5000), "of another alphabet": strings.Repeat("+", tokenLength), "with a tab": "a\tb",
		"8 bit": strings.Repeat("\xff", tokenLength), "zeros": strings.Repeat("A", tokenLength), "padded": token + "==",
		"doubled": token + token, "in other case": token[:2] + strings.ToUpper(token[2:]), "turned around": token[:2] + token[45:] + token[2:45],
		"prefixed": token + "~x", "enveloped": token + ".eA", "escaped": "%" + token[1:],
	}
	for name, cookie := range hostile {
		b := s.browser()
		b.Jar = []string{"SRV=" + cookie}
		a := s.told(b, "invalid", "minted")
		wantStatus(t, a.Reply, 200)
		if line := one(t, a, "SRV"); len(value(line)) != tokenLength {
			t.Errorf("%s: %s", name, line)
		}
		s.stays(b, a.Backend())
	}
	s.counts("belay_persistence_requests_total", "found", map[string]float64{"invalid": float64(len(hostile))})
	s.counts("belay_persistence_outcomes_total", "outcome", map[string]float64{"minted": s.minted(), "refused": 0})
}

// minted is how many requests the log says were given a session.
func (s *shop) minted() (n float64) {
	for _, r := range s.d.Records() {
		if r.Str("persistence_outcome") == "minted" {
			n++
		}
	}
	return n
}

// A token with one character changed, wherever it is, leads nowhere.
func TestPersistForgedTokens(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3).open()
	token := s.pinned("e1").Cookie("SRV")
	nc, err := net.Dial("tcp", s.bind)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	r := bufio.NewReader(nc)
	sent := 0
	for i := range token {
		for _, other := range []byte("Aw_8") {
			if other == token[i] {
				continue
			}
			forged := token[:i] + string(other) + token[i+1:]
			a, err := harness.Exchange(nc, r, harness.Request("GET", "/forged", "a", "Cookie: SRV="+forged))
			if err != nil {
				t.Fatal(err)
			}
			if one(t, a, "SRV"); a.Status != 200 {
				t.Errorf("character %d: status %d", i, a.Status)
			}
			sent++
		}
	}
	harness.Eventually(t, patience, "the log of all", func() bool {
		n := 0
		for _, r := range s.d.Records() {
			if v := r.Str("persistence"); r.Str("path") == "/forged" && r.Str("persistence_outcome") == "minted" && (v == "invalid" || v == "unknown-key") {
				n++
			}
		}
		return n == sent
	})
}

// A token is good for its cluster only, though another has a server of that name.
func TestPersistTokenOfAnotherCluster(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2)
	s.routes = "[[listener.web.route]]\npath_prefix = \"/other\"\ncluster = \"other\"\n"
	s.more = fmt.Sprintf("[cluster.other]\nendpoints = [{ id = \"e0\", address = %q }, { id = \"e1\", address = %q }]\n[cluster.other.persistence.cookie]\nname = \"SRV\"\npath = \"/other\"\n",
		s.members[0].addr, s.members[1].addr)
	s.open()
	b := s.pinned("e1")
	a := b.MustGet(t, "/other/x")
	s.says("/other/x", "invalid", "minted")
	one(t, a, "SRV")
}

// The first valid cookie of the first four leads, wherever it stands: a cookie that
// a sibling domain has tossed, with a longer path and so in front, does not end a
// session. Those that cannot be tokens by their length are not among the four.
func TestPersistSeveralCookiesOfTheName(t *testing.T) {
	t.Parallel()
	s := newShop(t, 4).open()
	good := "SRV=" + s.pinned("e2").Cookie("SRV")
	other := "SRV=" + s.pinned("e3").Cookie("SRV")
	bad := "SRV=" + strings.Repeat("B", tokenLength)
	long, empty := "SRV="+strings.Repeat("C", 300), "SRV="
	for _, tt := range []struct {
		name string
		jar  []string
		kept string // server; "": a new session
	}{
		{"tossed in front", []string{bad, good}, "e2"},
		{"behind", []string{good, bad}, "e2"},
		{"fourth", []string{bad, "x=1", bad, bad, good}, "e2"},
		{"fifth", []string{bad, bad, bad, bad, good}, ""},
		{"behind four that are too long", []string{long, long, long, long, good}, "e2"},
		{"behind four that are empty", []string{empty, empty, empty, empty, good}, "e2"},
		{"two valid ones", []string{good, other}, "e2"},
		{"two valid ones, the other way", []string{other, good}, "e3"},
		{"quoted", []string{strings.Replace(good, "=", `="`, 1) + `"`}, "e2"},
		{"with blanks", []string{" " + strings.Replace(good, "=", " = ", 1) + " "}, "e2"},
		{"name in another case", []string{strings.ToLower(good[:3]) + good[3:]}, ""},
		{"name at the end of another", []string{"X" + good}, ""},
	} {
		for _, separate := range []bool{false, true} {
			cookie := []string{"Cookie: " + strings.Join(tt.jar, "; ")}
			if separate {
				cookie = nil
				for _, c := range tt.jar {
					cookie = append(cookie, "Cookie: "+c)
				}
			}
			a := s.visit(s.browser(), cookie...)
			switch got := a.Cookies("SRV"); {
			case tt.kept != "" && (a.Backend() != tt.kept || len(got) != 0):
				t.Errorf("%s: on %s with %q, want it on %s", tt.name, a.Backend(), got, tt.kept)
			case tt.kept == "" && len(got) != 1:
				t.Errorf("%s: %d cookies, want a new session", tt.name, len(got))
			}
		}
	}
}

// Behind a token whose server is gone the next one is looked at.
func TestPersistCookieBehindAnUnknownServer(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3).open()
	gone, good := s.pinned("e1").Cookie("SRV"), s.pinned("e2").Cookie("SRV")
	s.drop("e1")
	s.restart()
	b := s.browser()
	b.Jar = []string{"SRV=" + gone, "SRV=" + good}
	for range 4 {
		if a := s.told(b, "valid", "kept"); a.Backend() != "e2" {
			t.Errorf("on %s", a.Backend())
		}
	}
}

// hide_from_upstream takes the cookie and nothing else from the request, off
// leaves all as it came.
func TestPersistHideFromUpstream(t *testing.T) {
	t.Parallel()
	hidden, shown := newShop(t, 2).open(), newShop(t, 2)
	shown.cookie = "hide_from_upstream = false"
	shown.open()
	for _, tt := range []struct{ sent, seen string }{
		{"PIN", ""},
		{"a=1; PIN", "a=1"},
		{"PIN; a=1", "a=1"},
		{"a=1; PIN; b=2", "a=1; b=2"},
		{"a=1;PIN;b=2", "a=1;b=2"},
		{"a=\"x, y\"; PIN; b==;c", "a=\"x, y\"; b==;c"},
		{"xSRV=1; PIN; SRVx=2; srv=3", "xSRV=1; SRVx=2; srv=3"},
		{"PIN; SRV=bad; a=1; SRV=", "a=1"},
		{"a=1;;  ;b=2; PIN", "a=1;;  ;b=2"},
	} {
		for _, s := range []*shop{hidden, shown} {
			pin := "SRV=" + s.pinned("e1").Cookie("SRV")
			sent := strings.ReplaceAll(tt.sent, "PIN", pin)
			a := s.visit(s.browser(), "Cookie: "+sent)
			want := tt.seen
			if s == shown {
				want = sent
			}
			if got := strings.Join(harness.Fields(a.Seen, "Cookie"), "|"); got != want || a.Backend() != "e1" {
				t.Errorf("sent %q, seen %q by %s, want %q", tt.sent, strings.ReplaceAll(got, pin, "PIN"), a.Backend(), tt.seen)
			}
		}
	}
	// What is no cookie of ours is not touched, in several lines neither.
	a := hidden.visit(hidden.browser(), "Cookie: a=1;b=2", "Cookie:  c=3 ;", "cookie: SRVx=1")
	if got := strings.Join(harness.Fields(a.Seen, "Cookie"), "|"); got != "a=1;b=2|c=3 ;|SRVx=1" {
		t.Errorf("lines without our cookie are changed: %q", got)
	}
}

// preserve leaves the server's own cookie of the name and sets none; off, the
// server's goes.
func TestPersistPreserve(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.cookie = "preserve = true"
	s.open()
	b := s.pinned("e1")
	a := s.visit(b, "Answer-With: Set-Cookie: SRV=mine; Path=/x", "Answer-With: Set-Cookie: app=1")
	if line := one(t, a, "SRV"); line != "SRV=mine; Path=/x" || len(a.Cookies("app")) != 1 {
		t.Errorf("set: %q", a.Header.Values("Set-Cookie"))
	}
	if line := one(t, s.visit(s.browser(), "Answer-With: Set-Cookie: SRV=; Max-Age=0"), "SRV"); line != "SRV=; Max-Age=0" {
		t.Errorf("set: %q", line)
	}
	// The application ends the session: the next request is like the first.
	b = s.pinned("e1")
	s.visit(b, "Answer-With: Set-Cookie: SRV=gone; Max-Age=0")
	if b.Cookie("SRV") != "" {
		t.Fatal("the browser still has the cookie")
	}
	one(t, s.told(b, "none", "minted"), "SRV")
}

// post_only gives a session to who sends a POST, and keeps it for all methods.
func TestPersistPostOnly(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.cookie = "post_only = true"
	s.open()
	b := s.browser()
	for range 3 {
		if a := s.visit(b); len(a.Cookies("SRV")) != 0 {
			t.Errorf("a GET sets %q", a.Cookies("SRV"))
		}
	}
	a, err := b.Do("POST", "/login", "user=x")
	if err != nil {
		t.Fatal(err)
	}
	one(t, a, "SRV")
	s.says("/login", "none", "minted")
	s.stays(b, a.Backend())
}

// no_cache makes a cacheable reply with the cookie private and leaves all others as
// they are.
func TestPersistNoCache(t *testing.T) {
	t.Parallel()
	on, off := newShop(t, 2).open(), newShop(t, 2)
	off.cookie = "no_cache = false"
	off.open()
	for _, tt := range []struct{ sent, got string }{
		{"public, max-age=60", "max-age=60, private"},
		{"max-age=60, s-maxage=600", "max-age=60, private"},
		{"no-store", "no-store"},
		{"private, max-age=5", "private, max-age=5"},
		{"", "private"},
	} {
		var headers []string
		if tt.sent != "" {
			headers = []string{"Answer-With: Cache-Control: " + tt.sent}
		}
		for s, want := range map[*shop]string{on: tt.got, off: tt.sent} {
			b := s.browser()
			for _, w := range []string{want, tt.sent} { // the second reply has no cookie
				a := s.visit(b, headers...)
				if got := strings.Join(a.Header.Values("Cache-Control"), ", "); got != w {
					t.Errorf("no_cache is %v: %q became %q, want %q (%d cookies)", s == on, tt.sent, got, w, len(a.Cookies("SRV")))
				}
			}
		}
	}
}
