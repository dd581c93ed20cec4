package test

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"belay/test/harness"
)

// attributes are those of a Set-Cookie line, in their order.
func attributes(line string) []string {
	list := strings.Split(line, "; ")
	return list[1:]
}

// What the cookie table says is what a browser is told.
func TestPersistCookieAttributes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		keys string
		want []string
	}{
		{"", []string{"Path=/", "SameSite=Lax", "HttpOnly"}},
		{`path = "/shop"`, []string{"Path=/shop", "SameSite=Lax", "HttpOnly"}},
		{`domain = "shop.example"`, []string{"Path=/", "Domain=shop.example", "SameSite=Lax", "HttpOnly"}},
		{`same_site = "strict"`, []string{"Path=/", "SameSite=Strict", "HttpOnly"}},
		{`same_site = "unset"`, []string{"Path=/", "HttpOnly"}},
		{"same_site = \"none\"\nsecure = \"always\"", []string{"Path=/", "SameSite=None", "Secure", "HttpOnly"}},
		{"http_only = false", []string{"Path=/", "SameSite=Lax"}},
		{"partitioned = true\nsecure = \"always\"\nsame_site = \"none\"", []string{"Path=/", "SameSite=None", "Secure", "HttpOnly", "Partitioned"}},
		{"name = \"__Secure-pin\"\nsecure = \"always\"", []string{"Path=/", "SameSite=Lax", "Secure", "HttpOnly"}},
		{"name = \"__Host-pin\"\nsecure = \"always\"", []string{"Path=/", "SameSite=Lax", "Secure", "HttpOnly"}},
		{"keep_over_end = true\nmax_idle = \"10m\"\nmax_age = \"1h\"", []string{"Path=/", "SameSite=Lax", "HttpOnly", "Max-Age=600"}},
		{"keep_over_end = true\nmax_idle = \"0s\"\nmax_age = \"1h\"", []string{"Path=/", "SameSite=Lax", "HttpOnly", "Max-Age=3600"}},
	} {
		t.Run(strings.ReplaceAll(tt.keys, "\n", ", "), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 2)
			s.cookie = tt.keys
			s.open()
			b := s.browser()
			a := s.visit(b)
			lines := a.Header.Values("Set-Cookie")
			if len(lines) != 1 || !slices.Equal(attributes(lines[0]), tt.want) {
				t.Fatalf("set %q, want %q", lines, tt.want)
			}
			for range 3 {
				if again := s.visit(b); again.Backend() != a.Backend() || len(again.Header.Values("Set-Cookie")) != 0 {
					t.Errorf("then on %s, not %s, with %q", again.Backend(), a.Backend(), again.Header.Values("Set-Cookie"))
				}
			}
		})
	}
}

// secure = "auto" is what the client's connection is, or what a trusted proxy says
// it was; "never" is never.
func TestPersistCookieSecure(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string][3]bool{ // over TLS, plain, plain behind a proxy that had TLS
		"":                  {true, false, true},
		`secure = "always"`: {true, true, true},
		`secure = "never"`:  {false, false, false},
		`secure = "auto"`:   {true, false, true},
	} {
		t.Run(keys, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 2)
			s.cookie = keys
			s.listener = "trusted_proxies = [\"127.0.0.7/32\"]\n"
			secure := harness.Addr(t)
			s.more = "[listener.tls]\naddress = \"" + secure + "\"\n[listener.tls.tls]\ncertificates = [{ cert = \"self-signed\" }]\n[[listener.tls.route]]\ncluster = \"back\"\n"
			s.open()
			nc, err := tls.Dial("tcp", secure, &tls.Config{InsecureSkipVerify: true, ServerName: "a"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = nc.Close() }()
			r := harness.Wrap(t, nc).Do("GET", "/", "a")
			proxied := s.browser()
			proxied.Source = "127.0.0.7"
			for i, line := range []string{
				r.Header.Get("Set-Cookie"),
				one(t, s.visit(s.browser(), "X-Forwarded-Proto: https"), "SRV"), // whom nobody trusts
				one(t, s.visit(proxied, "X-Forwarded-Proto: https"), "SRV"),
			} {
				if slices.Contains(attributes(line), "Secure") != want[i] {
					t.Errorf("case %d: %s", i, line)
				}
			}
		})
	}
}

// A cookie that a browser would drop is refused before it is served.
func TestPersistCookieRefused(t *testing.T) {
	t.Parallel()
	for keys, part := range map[string]string{
		"name = \"__Host-pin\"\nsecure = \"always\"\ndomain = \"a.example\"": "__Host-",
		"name = \"__Host-pin\"\nsecure = \"always\"\npath = \"/x\"":          "__Host-",
		"name = \"__Host-pin\"\nsecure = \"never\"":                          "secure",
		"name = \"__Secure-pin\"\nsecure = \"never\"":                        "secure",
		"same_site = \"none\"\nsecure = \"never\"":                           "secure",
		"partitioned = true\nsecure = \"never\"":                             "secure",
		"name = \"a b\"":                                                     "name",
		"path = \"x\"":                                                       "path",
		"domain = \".a.example\"":                                            "domain",
		"same_site = \"whatever\"":                                           "same_site",
		"mode = \"whatever\"":                                                "mode",
		"max_idle = \"soon\"":                                                "max_idle",
	} {
		t.Run(strings.ReplaceAll(keys, "\n", ", "), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 1)
			s.cookie = keys
			d := harness.Launch(t, s.config(), harness.Options{Errors: true})
			if code := d.Wait(patience); code == 0 {
				t.Error("it was served")
			}
			want(t, d.Stderr(), part, "cookie")
		})
	}
}

// A route has its own persistence, or none, in place of the cluster's.
func TestPersistPerRoute(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.routes = `[[listener.web.route]]
path_prefix = "/static"
cluster = "back"
persistence = { enabled = false }
[[listener.web.route]]
path_prefix = "/admin"
cluster = "back"
[listener.web.route.persistence]
policy = "strict"
debug_header = "X-Pin"
[listener.web.route.persistence.cookie]
name = "ADM"
path = "/admin"
`
	s.open()
	b := s.pinned("e1")
	places := map[string]bool{}
	for range 12 {
		a := b.MustGet(t, "/static/x")
		places[a.Backend()] = true
		if len(a.Header.Values("Set-Cookie")) != 0 {
			t.Errorf("/static sets %q", a.Header.Values("Set-Cookie"))
		}
		if !strings.Contains(a.Seen, "SRV=") {
			t.Error("/static does not pass the cookie on")
		}
	}
	if len(places) != 3 {
		t.Errorf("/static is pinned: %v", places)
	}
	if r := s.d.WaitPath("/static/x"); r.Str("persistence") != "" || r.Str("persistence_outcome") != "" {
		t.Errorf("log of /static: %v", r)
	}
	a := b.MustGet(t, "/admin/x")
	if line := one(t, a, "ADM"); !slices.Contains(attributes(line), "Path=/admin") || len(a.Cookies("SRV")) != 0 || a.Header.Get("X-Pin") == "" {
		t.Errorf("/admin: %q, X-Pin %q", a.Header.Values("Set-Cookie"), a.Header.Get("X-Pin"))
	}
	for range 6 {
		if again := b.MustGet(t, "/admin/x"); again.Backend() != a.Backend() || len(again.Header.Values("Set-Cookie")) != 0 {
			t.Errorf("/admin: on %s, began on %s", again.Backend(), a.Backend())
		}
	}
	s.stays(b, "e1")
	// A token is bound to its cookie's name: it opens under no other.
	x := s.browser()
	x.Jar = []string{"SRV=" + b.Cookie("ADM")}
	s.told(x, "invalid", "minted")
}
