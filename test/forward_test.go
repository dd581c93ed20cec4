package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"belay/test/harness"
)

// Hop-by-hop fields are removed in both directions; TE only as "trailers";
// h2c is stripped (C1 rows 99 and 128).
func TestHopByHopFieldsAreRemoved(t *testing.T) {
	t.Parallel()
	addr, _ := front(t)
	r := harness.Get(t, addr, "/", "a",
		"Connection: keep-alive, X-Drop, TE", "X-Drop: 1", "Keep-Alive: timeout=9", "Proxy-Connection: keep-alive",
		"TE: gzip, trailers", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "X-Kept: 1")
	wantStatus(t, r, 200)
	wantNot(t, r.Body, "X-Drop", "Keep-Alive", "Proxy-Connection", "gzip", "h2c", "HTTP2-Settings")
	want(t, r.Body, "X-Kept: 1")

	b := harness.NewBackend(t, harness.Canned(harness.Reply200("x",
		"Connection: X-Secret, keep-alive", "X-Secret: 1", "Keep-Alive: timeout=5", "Proxy-Connection: x", "X-Kept: 1")))
	s := &site{endpoints: []string{b.Addr}}
	serve(t, s)
	r = harness.Get(t, s.addr, "/", "a")
	for _, name := range []string{"X-Secret", "Keep-Alive", "Proxy-Connection"} {
		if r.Header.Get(name) != "" {
			t.Errorf("%s came through", name)
		}
	}
	if r.Header.Get("X-Kept") != "1" {
		t.Error("X-Kept is gone")
	}
}

// Fields keep their order and the case that the client wrote.
func TestFieldsKeepOrderAndCase(t *testing.T) {
	t.Parallel()
	addr, _ := front(t)
	r := harness.Get(t, addr, "/p?q=1", "Example.COM", "x-LoWer: 1", "ACCEPT: */*", "X-Two: a", "X-Two: b")
	want(t, r.Body, "GET /p?q=1 HTTP/1.1\r\n", "Host: Example.COM\r\n", "x-LoWer: 1\r\nACCEPT: */*\r\nX-Two: a\r\nX-Two: b\r\n")
}

// X-Forwarded-* and X-Request-Id: what a stranger sends is replaced, what a
// trusted proxy sends is kept and added to.
func TestForwardedFields(t *testing.T) {
	t.Parallel()
	s := &site{
		listener:  `trusted_proxies = ["127.0.0.8/32", "10.0.0.0/8"]`,
		endpoints: []string{harness.NewEcho(t, "a").Addr},
	}
	d := serve(t, s)
	sent := []string{"X-Forwarded-For: 1.2.3.4, 10.1.1.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: outer", "X-Request-Id: given-1"}

	head := harness.DialFrom(t, "127.0.0.9", s.addr).Do("GET", "/stranger", "shop", sent...).Body
	for name, value := range map[string]string{"X-Forwarded-For": "127.0.0.9", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "shop"} {
		if got := harness.Field(head, name); got != value {
			t.Errorf("from a stranger %s is %q, want %q", name, got, value)
		}
	}
	id := harness.Field(head, "X-Request-Id")
	if id == "given-1" || len(id) < 16 {
		t.Errorf("from a stranger X-Request-Id is %q", id)
	}
	rec := d.WaitPath("/stranger")
	if rec.Str("client") != "127.0.0.9" || rec.Str("request_id") != id {
		t.Errorf("record %v", rec)
	}

	head = harness.DialFrom(t, "127.0.0.8", s.addr).Do("GET", "/trusted", "shop", sent...).Body
	for name, value := range map[string]string{
		"X-Forwarded-For": "1.2.3.4, 10.1.1.1, 127.0.0.8", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "outer", "X-Request-Id": "given-1",
	} {
		if got := harness.Field(head, name); got != value {
			t.Errorf("from a trusted proxy %s is %q, want %q", name, got, value)
		}
	}
	if rec := d.WaitPath("/trusted"); rec.Str("client") != "1.2.3.4" {
		t.Errorf("the trusted client address is not in the record: %v", rec)
	}
}

// x_forwarded = false and request_id = "off" add nothing.
func TestForwardedFieldsOff(t *testing.T) {
	t.Parallel()
	s := &site{listener: "x_forwarded = false\nrequest_id = \"off\"", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	wantNot(t, harness.Get(t, s.addr, "/", "a").Body, "X-Forwarded", "X-Request")
}

// Host kept or rewritten.
func TestHostKeptOrRewritten(t *testing.T) {
	t.Parallel()
	echo := harness.NewEcho(t, "a")
	s := &site{
		routes: `[[listener.web.route]]
path_prefix = "/new"
cluster = "back"
host_rewrite = "inner.example:81"
`,
		endpoints: []string{echo.Addr},
	}
	serve(t, s)
	want(t, harness.Get(t, s.addr, "/old", "outer.example:8080").Body, "Host: outer.example:8080\r\n")
	head := harness.Get(t, s.addr, "/new", "outer.example").Body
	want(t, head, "Host: inner.example:81\r\n", "X-Forwarded-Host: outer.example\r\n")
	if strings.Count(strings.ToLower(head), "\r\nhost:") != 1 {
		t.Errorf("not one Host:\n%s", head)
	}
	c := harness.Dial(t, s.addr)
	want(t, c.Do("GET", "http://abs.example/x?y", "abs.example").Body, "GET /x?y HTTP/1.1\r\n", "Host: abs.example\r\n")
}

// Header set/add/remove per route, in both directions.
func TestHeaderOperations(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t, func(p *harness.Peer) {
		for head := p.Head(); head != ""; head = p.Head() {
			_ = p.Send(harness.Reply200(head, "Server: inner", "X-Old: 1", "Set-Cookie: a=1"))
		}
	})
	s := &site{
		route: `name = "shop"
request_headers = { remove = ["X-Gone"], set = { "X-Client" = "%{client_ip}", "X-Over" = "new" }, add = { "X-More" = "%{listener}/%{route}/%{cluster}/%{endpoint} 100%%" } }
response_headers = { remove = ["X-Old"], set = { "Server" = "outer" }, add = { "Set-Cookie" = "b=2" } }`,
		endpoints: []string{b.Addr},
	}
	serve(t, s)
	r := harness.DialFrom(t, "127.0.0.5", s.addr).Do("GET", "/", "a", "X-Gone: 1", "X-Over: old", "X-Over: older", "X-More: mine")
	wantStatus(t, r, 200)
	wantNot(t, r.Body, "X-Gone", "old")
	want(t, r.Body, "X-Client: 127.0.0.5\r\n", "X-Over: new\r\n", "X-More: mine\r\n", "X-More: web/shop/back/e0 100%\r\n")
	if got := r.Header["Server"]; len(got) != 1 || got[0] != "outer" {
		t.Errorf("Server %q", got)
	}
	if r.Header.Get("X-Old") != "" {
		t.Error("X-Old is there")
	}
	if got := r.Header["Set-Cookie"]; fmt.Sprint(got) != "[a=1 b=2]" {
		t.Errorf("Set-Cookie %q", got)
	}
}

// Path rewrite by prefix and by regular expression; the query stays.
func TestPathRewrite(t *testing.T) {
	t.Parallel()
	s := &site{
		routes: `[[listener.web.route]]
path_prefix = "/api"
path_rewrite = { prefix = "/v2" }
cluster = "back"
[[listener.web.route]]
path_prefix = "/strip"
path_rewrite = { prefix = "/" }
cluster = "back"
[[listener.web.route]]
path_regex = "/user/[0-9]+"
path_rewrite = { regex = "^/user/([0-9]+)$", replace = "/u/$1/home" }
cluster = "back"
`,
		endpoints: []string{harness.NewEcho(t, "a").Addr},
	}
	serve(t, s)
	for from, to := range map[string]string{
		"/api": "/v2", "/api/x?a=b": "/v2/x?a=b", "/apix": "/apix", "/strip/x": "/x", "/strip": "/",
		"/user/42?q": "/u/42/home?q", "/user/x": "/user/x",
	} {
		line, _, _ := strings.Cut(harness.Get(t, s.addr, from, "a").Body, "\r\n")
		if line != "GET "+to+" HTTP/1.1" {
			t.Errorf("%s became %q, want %s", from, line, to)
		}
	}
}

// Redirect and respond need no upstream.
func TestRedirectAndRespond(t *testing.T) {
	t.Parallel()
	s := &site{routes: `[[listener.web.route]]
path = "/hello"
respond = { status = 200, body = "hi\n" }
[[listener.web.route]]
path = "/json"
respond = { status = 418, body = "{}", content_type = "application/json" }
[[listener.web.route]]
path = "/empty"
respond = { status = 204 }
[[listener.web.route]]
path_prefix = "/secure"
redirect = { scheme = "https" }
[[listener.web.route]]
path_prefix = "/moved"
redirect = { status = 301, host = "new.example", path_prefix = "/here", strip_query = true }
`}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	r := c.Do("GET", "/hello", "a")
	if r.Status != 200 || r.Body != "hi\n" || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("respond: %+v", r)
	}
	if r = c.Do("HEAD", "/hello", "a"); r.Status != 200 || r.Length != 3 || r.Body != "" {
		t.Errorf("HEAD respond: %+v", r)
	}
	if r = c.Do("GET", "/json", "a"); r.Status != 418 || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("respond with type: %+v", r)
	}
	if r = c.Do("GET", "/empty", "a"); r.Status != 204 || r.Body != "" || r.Header.Get("Content-Length") != "" {
		t.Errorf("respond 204: %+v", r)
	}
	if r = c.Do("GET", "/secure/x?y=1", "shop:8080"); r.Status != 308 || !regexp.MustCompile(`^https://shop(:8080)?/secure/x\?y=1$`).MatchString(r.Header.Get("Location")) {
		t.Errorf("redirect: %d %q", r.Status, r.Header.Get("Location"))
	}
	if r = c.Do("GET", "/moved/x?y=1", "a"); r.Status != 301 || r.Header.Get("Location") != "http://new.example/here/x" {
		t.Errorf("redirect: %d %q", r.Status, r.Header.Get("Location"))
	}
	if r = c.Do("GET", "/nothing", "a"); r.Status != 404 {
		t.Errorf("no route: %+v", r)
	}
	if rec := d.WaitPath("/nothing"); rec.Str("reason") == "" || rec.Int("status") != 404 {
		t.Errorf("no route: record %v", rec)
	}
}

// A request body given to a route that answers by itself does not shift the next request.
func TestRespondSwallowsTheBody(t *testing.T) {
	t.Parallel()
	s := &site{routes: "[[listener.web.route]]\nrespond = { status = 200, body = \"ok\" }\n"}
	serve(t, s)
	c := harness.Dial(t, s.addr)
	c.Send(harness.Request("POST", "/", "a", "Content-Length: 30") + strings.Repeat("x", 30))
	if r := c.Reply("POST"); r.Status != 200 || r.Body != "ok" {
		t.Errorf("reply %+v", r)
	}
	c.Send(chkd + "3\r\nabc\r\n0\r\n\r\n")
	wantStatus(t, c.Reply("POST"), 200)
	c.ExpectOpen("/", "a")
}

// Hosts exact, *.suffix, any; path exact, prefix on segment borders, regex;
// methods and headers; first match in order within a host.
func TestRouting(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	route := func(name, match string) {
		fmt.Fprintf(&b, "[[listener.web.route]]\n%s\nrespond = { status = 200, body = %q }\n", match, name)
	}
	route("any-static", `path_prefix = "/static"`)
	route("suffix", `hosts = ["*.example.com"]`)
	route("exact-post", "hosts = [\"www.example.com\"]\nmethods = [\"POST\"]")
	route("exact-header", "hosts = [\"www.example.com\"]\nheaders = [{ name = \"X-V\", exact = \"2\" }]")
	route("exact-regex", "hosts = [\"www.example.com\"]\npath_regex = \"/[a-z]{3}\"")
	route("exact-first", "hosts = [\"www.example.com\"]\npath_prefix = \"/a\"")
	route("exact-second", "hosts = [\"www.example.com\"]\npath = \"/a/b\"")
	route("any-missing", `headers = [{ name = "X-Absent", present = true }]`)
	s := &site{routes: b.String()}
	serve(t, s)
	tests := []struct{ method, host, path, header, want string }{
		{"GET", "www.example.com", "/a/b", "", "exact-first"},
		{"GET", "WWW.example.com.:80", "/a", "", "exact-first"},
		{"GET", "www.example.com", "/abc", "", "exact-regex"},
		{"GET", "www.example.com", "/abcd", "", "suffix"},
		{"POST", "www.example.com", "/abcd", "", "exact-post"},
		{"GET", "www.example.com", "/zzzz", "X-V: 2", "exact-header"},
		{"GET", "x.y.example.com", "/static", "", "suffix"},
		{"GET", "example.com", "/static/x", "", "any-static"},
		{"GET", "example.com", "/staticx", "", ""},
		{"GET", "example.com", "/", "X-Absent: 1", "any-missing"},
	}
	c := harness.Dial(t, s.addr)
	for _, tt := range tests {
		var headers []string
		if tt.header != "" {
			headers = append(headers, tt.header)
		}
		r := c.Do(tt.method, tt.path, tt.host, headers...)
		if tt.want == "" {
			if r.Status != 404 {
				t.Errorf("%v: status %d, want 404", tt, r.Status)
			}
		} else if r.Body != tt.want {
			t.Errorf("%v: %q", tt, r.Body)
		}
	}
}

// 413: a body over the limit, by its length at once or when its chunks pass it.
func TestBodyLimit(t *testing.T) {
	t.Parallel()
	s := &site{
		tables:    "[listener.web.limits]\nbody = \"100B\"\n",
		routes:    "[[listener.web.route]]\npath = \"/big\"\nmax_body = \"1KiB\"\ncluster = \"back\"\n",
		endpoints: []string{harness.NewEcho(t, "a").Addr},
	}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	c.Send(harness.Request("POST", "/len", "a", "Content-Length: 101"))
	wantStatus(t, c.Reply("POST"), 413)
	want(t, d.WaitPath("/len").Str("reason"), "body")

	c = harness.Dial(t, s.addr)
	c.Send(chkd + "65\r\n" + strings.Repeat("x", 101) + "\r\n0\r\n\r\n")
	wantStatus(t, c.Reply("POST"), 413)

	c = harness.Dial(t, s.addr)
	c.Send(harness.Request("POST", "/big", "a", "Content-Length: 101") + strings.Repeat("x", 101))
	wantStatus(t, c.Reply("POST"), 200)
}

// Local replies have one shape, whatever their cause.
func TestLocalRepliesHaveOneShape(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.Refusing(t)}, route: "path_prefix = \"/x\""}
	serve(t, s)
	shape := regexp.MustCompile(`^\d{3} [A-Z]`)
	for send, status := range map[string]int{get + "\r\n": 404, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n": 503, "GET x\r\n\r\n": 400} {
		r := harness.Dial(t, s.addr).Send(send).Reply("GET")
		wantStatus(t, r, status)
		if r.Header.Get("Server") != "belay" || r.Header.Get("Date") == "" || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") || !shape.MatchString(r.Body) {
			t.Errorf("%d: %v %q", status, r.Header, r.Body)
		}
	}
}
