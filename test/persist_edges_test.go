package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"belay/test/harness"
)

// canned adds a server that answers every request with the same bytes.
func (s *shop) canned(id, reply string) {
	s.t.Helper()
	s.members = append(s.members, member{id: id, addr: harness.NewBackend(s.t, harness.Canned(reply)).Addr, weight: 1})
}

// A reply whose head is as large as belay takes one has room for the cookie: a pin
// that is lost where nobody looks is a session that moves.
func TestPersistFullReplyHeads(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("X-Field: value\r\n", 199)
	long := "X-Long: " + strings.Repeat("v", 80000) + "\r\n"
	for name, fields := range map[string]string{"many fields": many, "a long head": long} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 0)
			s.canned("e0", "HTTP/1.1 200 OK\r\n"+fields+"Content-Length: 2\r\n\r\nok")
			s.open()
			b := s.browser()
			a := s.told(b, "none", "minted")
			wantStatus(t, a.Reply, 200)
			one(t, a, "SRV")
			if len(a.Header.Values("X-Field"))+len(a.Header.Get("X-Long"))/80000*199 != 199 {
				t.Error("fields of the server are lost")
			}
			s.told(b, "valid", "kept")
		})
	}
}

// What belay answers itself pins nothing, and neither does what it answers before
// a server is asked.
func TestPersistLocalReplies(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2)
	s.routes = "[[listener.web.route]]\npath = \"/hello\"\nrespond = { status = 200, body = \"x\" }\n" +
		"[[listener.web.route]]\npath = \"/away\"\nredirect = { path = \"/\" }\n" +
		"[[listener.web.route]]\npath = \"/closed\"\ncluster = \"back\"\ndeny = [\"0.0.0.0/0\"]\n" +
		"[[listener.web.route]]\npath = \"/small\"\ncluster = \"back\"\nmax_body = 10\n"
	s.open()
	for path, status := range map[string]int{"/hello": 200, "/away": 308, "/closed": 403, "/small": 413} {
		a, err := s.browser().Do("POST", path, strings.Repeat("x", 11))
		if err != nil {
			t.Fatal(err)
		}
		if a.Status != status || len(a.Header.Values("Set-Cookie")) != 0 {
			t.Errorf("%s: status %d sets %q", path, a.Status, a.Header.Values("Set-Cookie"))
		}
	}
}

// Every kind of final reply begins a session.
func TestPersistKindsOfReplies(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3).open()
	for _, status := range []string{"200 OK", "204 No Content", "301 Moved Permanently", "304 Not Modified", "404 Not Found", "500 Internal Server Error"} {
		for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS"} {
			if status[:3] == "204" || status[:3] == "304" {
				method = "HEAD" // the application would send a body
			}
			b := s.browser()
			a, err := b.Do(method, newPath(), "", "Answer-Status: "+status)
			if err != nil {
				t.Fatalf("%s, %s: %v", method, status, err)
			}
			if len(a.Cookies("SRV")) != 1 || fmt.Sprint(a.Status) != status[:3] {
				t.Fatalf("%s, %s: status %d sets %q", method, status, a.Status, a.Header.Values("Set-Cookie"))
			}
			s.stays(b, a.Backend())
		}
	}
}

// A body that waits for its connection goes with the session when that moves.
func TestPersistRedispatchWithBody(t *testing.T) {
	t.Parallel()
	for _, size := range []int{5, 10_000, 1_000_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 2).open()
			b := s.pinned("e1")
			s.apps["e1"].Stop()
			body := strings.Repeat("0123456789", size/10) + strings.Repeat("x", size%10)
			a, err := b.Do("POST", newPath(), body)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != 200 || a.Backend() != "e0" || !strings.HasSuffix(a.Body, "\r\n\r\n"+body) || len(a.Cookies("SRV")) != 1 {
				t.Errorf("status %d from %q, %d bytes, %d cookies", a.Status, a.Backend(), len(a.Body), len(a.Cookies("SRV")))
			}
		})
	}
}

// What the route does to requests is done once, however many servers are tried; and
// what it writes into the reply is of the server that answers.
func TestPersistRedispatchedRequestIsTheSame(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]string{"down": "", "full": "max_connections = 1\npending_timeout = \"100ms\""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 2)
			s.route = "request_headers = { add = { X-Added = \"1\", X-To = \"%{endpoint}\" } }\nresponse_headers = { add = { X-From = \"%{endpoint}\" } }\npath_rewrite = { prefix = \"/inside\" }\npath_prefix = \"/r\"\n" +
				`retry = { on = ["connect-failure"], attempts = 2, backoff = "1ms" }`
			s.cluster, s.more = keys, oneWorker
			s.open()
			b := s.browser()
			paths := func() string { return strings.Replace(newPath(), "/r", "/r/", 1) }
			for b.MustGet(t, paths()).Backend() != "e1" {
				b.Forget()
			}
			if name == "down" {
				s.apps["e1"].Stop()
			} else {
				go func() { _, _ = b.Send("GET", "/r/held", "", "Answer-Hold: 1") }()
				harness.Eventually(t, patience, "the request at its server", func() bool { return s.apps["e1"].Holding() == 1 })
			}
			path := paths()
			a := b.MustGet(t, path, "Cookie: a=1")
			wantStatus(t, a.Reply, 200)
			for field, want := range map[string]string{"X-Added": "1", "Cookie": "a=1"} {
				if got := strings.Join(harness.Fields(a.Seen, field), "|"); got != want {
					t.Errorf("the server sees %s: %q, want %q", field, got, want)
				}
			}
			if !strings.HasPrefix(a.Seen, "GET /inside/") || strings.Join(a.Header.Values("X-From"), "|") != "e0" {
				t.Errorf("the server sees %.40q, the client X-From %q", a.Seen, a.Header.Values("X-From"))
			}
			if len(harness.Fields(a.Seen, "X-To")) != 1 {
				t.Errorf("X-To %q", harness.Fields(a.Seen, "X-To"))
			}
			one(t, a, "SRV")
		})
	}
}

// A server that starts again within a moment, and so has closed its idle
// connections, keeps its sessions.
func TestPersistServerStartsAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3).open()
	b := s.pinned("e1")
	addr := s.apps["e1"].Addr
	for range 5 {
		s.apps["e1"].Stop()
		s.apps["e1"] = harness.NewAppAt(t, "e1", addr)
		s.stays(b, "e1")
		a, err := b.Do("POST", newPath(), "body")
		if err != nil || a.Status != 200 || a.Backend() != "e1" {
			t.Fatalf("%+v, %v", a, err)
		}
	}
}

// A server ends while a request is on its way to it by a pooled connection: the free
// retry of the dead connection finds nobody, and the session moves all the same.
func TestPersistServerEndsUnderARequest(t *testing.T) {
	t.Parallel()
	for _, route := range []string{"", `retry = { on = ["connect-failure", "reset"], attempts = 2, backoff = "1ms" }`} {
		t.Run(route, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 2)
			s.route, s.more = route, oneWorker
			var dying *harness.Backend
			ready := make(chan struct{})
			dying = harness.NewBackend(t, func(p *harness.Peer) {
				<-ready
				if p.Head() == "" || p.Send(harness.Reply200("x", "X-Backend: dying")) != nil {
					return
				}
				if p.Head() != "" {
					dying.Refuse()
				}
			})
			close(ready)
			s.members = append(s.members, member{id: "dying", addr: dying.Addr, weight: 1})
			s.open()
			b := s.pinned("dying")
			a := s.told(b, "down", "moved")
			wantStatus(t, a.Reply, 200)
			one(t, a, "SRV")
			s.stays(b, a.Backend())
		})
	}
}

// A server's own cookie of the name goes, however it is written, and others stay.
func TestPersistSetCookieSpellings(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2).open()
	b := s.pinned("e1")
	for _, line := range []string{
		"Set-Cookie: SRV=x", "set-cookie: SRV=x; Path=/", "SET-COOKIE:SRV=\"x\"", "Set-Cookie:  SRV = x ; Secure", "Set-Cookie: SRV=; Max-Age=0", "Set-Cookie: SRV=",
	} {
		a := s.visit(b, "Answer-With: "+line, "Answer-With: Set-Cookie: SRVx=1", "Answer-With: Set-Cookie: xSRV=1", "Answer-With: Set-Cookie: srv=1")
		if got := strings.Join(a.Header.Values("Set-Cookie"), "|"); got != "SRVx=1|xSRV=1|srv=1" {
			t.Errorf("%s: %q", line, got)
		}
	}
	s.stays(b, "e1")
}

// The application's cookie is not made longer than browsers keep one: it is better
// that the pin is lost than the application's session.
func TestPersistLongApplicationCookie(t *testing.T) {
	t.Parallel()
	for mode, size := range map[string]int{"prefix": 4050, "envelope": 3500} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 3)
			s.cookie = fmt.Sprintf("name = \"APP\"\nmode = %q", mode)
			s.open()
			for _, n := range []int{100, 2000, 2950, size} {
				own := strings.Repeat("s", n)
				b := s.browser()
				a := s.visit(b, "Answer-With: Set-Cookie: APP="+own)
				v := value(one(t, a, "APP"))
				if len(v) > 4096-len("APP") {
					t.Errorf("%d became %d bytes: a browser drops it", n, len(v))
				}
				for range 3 {
					again := s.visit(b)
					if got := harness.Field(again.Seen, "Cookie"); got != "APP="+own {
						t.Errorf("of %d bytes the server sees %.90q", n, got)
					}
					if again.Backend() != a.Backend() && n < size {
						t.Errorf("of %d bytes: on %s, began on %s", n, again.Backend(), a.Backend())
					}
				}
			}
		})
	}
}

// With several modes the first that leads to a server wins, in the order cookie,
// header, table, and the reply tells what the client did not bring.
func TestPersistSeveralModes(t *testing.T) {
	t.Parallel()
	s := newShop(t, 4)
	s.modes = "[cluster.back.persistence.cookie]\nname = \"SRV\"\n[cluster.back.persistence.header]\nname = \"X-Pin\"\n" +
		"[cluster.back.persistence.table]\nname = \"users\"\nkey = [{ header = \"X-User\" }]\n"
	s.more = "[table.users]\n"
	s.open()
	type session struct{ cookie, header, user, at string }
	var list []session
	for i := range 8 {
		b := s.browser()
		x := session{user: fmt.Sprintf("X-User: user%d", i)}
		a := s.visit(b, x.user)
		x.cookie, x.header, x.at = "Cookie: SRV="+value(one(t, a, "SRV")), "X-Pin: "+pinHeader(a), a.Backend()
		list = append(list, x)
	}
	for i, x := range list {
		y, z := list[(i+1)%len(list)], list[(i+3)%len(list)]
		for _, tt := range []struct {
			headers []string
			at      string
		}{
			{[]string{x.cookie, y.header, "X-User: new"}, x.at}, // where that user is then
			{[]string{y.header, "X-User: new"}, y.at},
			{[]string{"Cookie: SRV=bad", "X-Pin: bad", z.user}, z.at},
			{[]string{"Cookie: SRV=bad", y.header}, y.at},
		} {
			if a := s.visit(s.browser(), tt.headers...); a.Backend() != tt.at {
				t.Errorf("on %s, want %s", a.Backend(), tt.at)
			}
		}
		if a := s.visit(s.browser(), x.header); a.Backend() != x.at || len(a.Cookies("SRV")) != 1 || pinHeader(a) != "" {
			t.Errorf("by its header: on %s, %d cookies, X-Pin %q", a.Backend(), len(a.Cookies("SRV")), pinHeader(a))
		}
		if a := s.visit(s.browser(), x.cookie); a.Backend() != x.at || len(a.Cookies("SRV")) != 0 || len(pinHeader(a)) != tokenLength {
			t.Errorf("by its cookie: on %s, %d cookies, X-Pin %q", a.Backend(), len(a.Cookies("SRV")), pinHeader(a))
		}
	}
}

// A request that has waited for its full server as long as it may is treated by
// the policy.
func TestPersistQueueTimesOut(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"redispatch", "strict", "detour"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 2)
			s.policy = fmt.Sprintf("policy = %q", policy)
			s.cluster, s.more = "max_connections = 1\npending_timeout = \"200ms\"", oneWorker
			s.open()
			b := s.pinned("e1")
			held := make(chan *harness.Answer, 1)
			go func() {
				a, _ := b.Send("GET", "/held", "", "Answer-Hold: 1")
				held <- a
			}()
			harness.Eventually(t, patience, "the request at its server", func() bool { return s.apps["e1"].Holding() == 1 })
			switch policy {
			case "redispatch":
				one(t, s.told(b, "overloaded", "moved"), "SRV")
			case "strict":
				s.refused(b, "overloaded", http.StatusServiceUnavailable, "5")
			case "detour":
				if a := s.told(b, "overloaded", "detoured"); a.Backend() != "e0" || len(a.Header.Values("Set-Cookie")) != 0 {
					t.Errorf("on %s, sets %q", a.Backend(), a.Header.Values("Set-Cookie"))
				}
			}
			s.apps["e1"].Release()
			if a := <-held; a == nil || a.Backend() != "e1" {
				t.Errorf("the held request: %+v", a)
			}
		})
	}
}

// Ours is found, and taken out, among any number of cookies.
func TestPersistAmongManyCookies(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3).open()
	b := s.pinned("e1")
	pin := b.Jar[0]
	many := strings.TrimSuffix(strings.Repeat("a=1; ", 2500), "; ")
	b.Jar = nil
	for _, lines := range [][]string{
		{"Cookie: " + many + "; " + pin + "; " + many},
		{"Cookie: " + many, "Cookie: " + many + "; " + pin},
		{"Cookie: " + pin + "; " + many + "; " + many},
	} {
		a := s.told(b, "valid", "kept", lines...)
		if got := strings.Join(harness.Fields(a.Seen, "Cookie"), "; "); a.Backend() != "e1" || got != many+"; "+many {
			t.Errorf("on %s, which sees %d bytes of cookies, want %d", a.Backend(), len(got), 2*len(many)+2)
		}
	}
}
