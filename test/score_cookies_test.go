package test

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"belay/test/harness"
)

// cookies are the rows about what the cookie is and does to messages.
func cookies() []scenario {
	return []scenario{
		{"forged", "no value made of the server's name or address aims at it", forged},
		{"two cookies of the name", "the valid one leads, whichever comes first", func(s *stage) {
			s.begin(3)
			b := s.pinnedTo("e1")
			good := pinCookie + "=" + b.Cookie(pinCookie)
			bad := pinCookie + "=tossed-by-a-sibling-domain"
			for _, jar := range [][]string{{bad, good}, {good, bad}, {bad, "other=1", good, bad}} {
				b.Jar = jar
				for range 4 {
					if a := s.ok(b, "/"); a.Backend() != "e1" {
						s.fail("with the cookies %d: on %s", len(jar), a.Backend())
					}
					b.Jar = jar
				}
			}
		}},
		{"many Cookie lines", "the cookie is found in any of them", func(s *stage) {
			s.begin(3)
			b := s.pinnedTo("e1")
			pin := b.Jar[0]
			b.Jar = nil
			for _, lines := range [][]string{
				{"Cookie: a=1", "Cookie: " + pin, "Cookie: b=2"},
				{"Cookie: " + pin, "Cookie: a=1; b=2"},
				{"Cookie: a=1", "X-Between: x", "Cookie: b=2; " + pin},
			} {
				for range 4 {
					a := s.ok(b, "/", lines...)
					b.Jar = nil
					if a.Backend() != "e1" {
						s.fail("lines %d: on %s", len(lines), a.Backend())
					}
					if c := strings.Join(harness.Fields(a.Seen, "Cookie"), "; "); c != "a=1; b=2" {
						s.fail("the server sees the cookies %q", c)
					}
				}
			}
		}},
		{"hidden from the server", "the server sees the other cookies, byte by byte, and not ours", func(s *stage) {
			s.begin(3)
			b := s.pinnedTo("e1")
			pin := b.Jar[0]
			b.Jar = nil
			for line, left := range map[string]string{
				pin:                           "",
				"a=1; " + pin:                 "a=1",
				pin + "; a=\"x y\"":           "a=\"x y\"",
				"a=1;b=2; " + pin + "; c==;":  "a=1;b=2; c==;",
				"xSRV=1; " + pin + "; SRVx=2": "xSRV=1; SRVx=2",
			} {
				a := s.ok(b, "/", "Cookie: "+line)
				if got := strings.Join(harness.Fields(a.Seen, "Cookie"), "|"); got != left {
					s.fail("of %q the server sees %q", strings.ReplaceAll(line, pin, "SRV=…"), got)
				}
			}
		}},
		{"same-name Set-Cookie", "a client gets the proxy's cookie, not the server's of that name", func(s *stage) {
			s.begin(3)
			b := s.browser()
			a := s.ok(b, "/", "Answer-With: Set-Cookie: SRV=of-the-server", "Answer-With: Set-Cookie: app=1")
			got := a.Cookies(pinCookie)
			if len(got) != 1 || value(got[0]) == "of-the-server" || len(a.Cookies("app")) != 1 {
				s.fail("the first reply sets %q", a.Header.Values("Set-Cookie"))
			}
			at := a.Backend()
			a = s.ok(b, "/", "Answer-With: Set-Cookie: SRV=of-the-server; Path=/", "Answer-With: Set-Cookie: app=2")
			if a.Backend() != at || len(a.Cookies(pinCookie)) != 0 || len(a.Cookies("app")) != 1 {
				s.fail("a later reply sets %q", a.Header.Values("Set-Cookie"))
			}
			s.stays(b, at)
		}},
		{"cacheable reply", "with the cookie in it, it is private", func(s *stage) {
			s.begin(3)
			b := s.browser()
			a := s.ok(b, "/", "Answer-With: Cache-Control: public, max-age=60")
			if c := strings.Join(a.Header.Values("Cache-Control"), ", "); !strings.Contains(c, "private") {
				s.fail("Cache-Control: %s", c)
			}
			a = s.ok(b, "/", "Answer-With: Cache-Control: public, max-age=60")
			if c := strings.Join(a.Header.Values("Cache-Control"), ", "); c != "public, max-age=60" {
				s.fail("without a cookie in it: Cache-Control: %s", c)
			}
		}},
		{"103 before the reply", "the final reply has the cookie, the interim one has not", func(s *stage) {
			s.begin(3)
			for range 4 {
				b := s.browser()
				a := s.ok(b, "/", "Answer-Early: 103 Early Hints")
				if len(a.Interim) == 1 && len(a.Interim[0].Header.Values("Set-Cookie")) > 0 {
					s.fail("the 103 has the cookie")
				}
				if n := len(a.Cookies(pinCookie)); n != 1 {
					s.fail("the reply after a 103 has %d cookies", n)
				}
				s.stays(b, a.Backend())
				if a = s.ok(b, "/", "Answer-Early: 103 Early Hints"); len(a.Cookies(pinCookie)) != 0 {
					s.fail("a session that stays gets a cookie after a 103")
				}
			}
		}},
		{"tells no address", "neither the name nor the address of a server is in the cookie", func(s *stage) {
			want := s.begin(2)
			for _, m := range want.servers {
				v := s.pinnedTo(m.id).Cookie(pinCookie)
				for _, f := range forgeries(m) {
					if v == f || len(f) > 4 && strings.Contains(v, f) { // a short name is in a token by chance
						s.fail("the cookie has the server's name")
					}
				}
			}
			if a, b := s.pinnedTo("e0").Cookie(pinCookie), s.pinnedTo("e0").Cookie(pinCookie); a == b {
				s.fail("two sessions of one server have the same cookie")
			}
		}},
	}
}

// forgeries are what proxies put into their cookies, which anyone can make.
func forgeries(m member) []string {
	sum5, sum2 := md5.Sum([]byte(m.addr)), sha256.Sum256([]byte("http://"+m.addr))
	return []string{
		m.id, m.addr, "http://" + m.addr,
		base64.StdEncoding.EncodeToString([]byte(m.addr)), base64.StdEncoding.EncodeToString([]byte("\n" + string(rune(len(m.addr))) + m.addr)),
		hex.EncodeToString(sum5[:]), hex.EncodeToString(sum2[:8]),
	}
}

// forged sends each value as often as would lead a third of the requests to the
// server by chance.
func forged(s *stage) {
	want := s.begin(3)
	for _, f := range forgeries(want.servers[1]) {
		hits := 0
		for range 9 {
			b := s.browser()
			b.Jar = []string{fmt.Sprintf("%s=%s", pinCookie, f)}
			a := s.ok(b, "/")
			if a.Backend() == "e1" {
				hits++
			}
			if a.Backend() == "e1" && len(a.Cookies(pinCookie)) == 0 {
				s.fail("the value %q leads to a server", strings.ReplaceAll(f, want.servers[1].addr, "ADDRESS"))
			}
		}
		if hits == 9 {
			s.fail("the value %q aims at a server", f)
		}
	}
}
