package route

import (
	"regexp"
	"testing"

	"belay/internal/config"
)

func prefixRewrite(from, to string) *config.Route {
	return &config.Route{PathPrefix: from, PathRewrite: &config.PathRewrite{Prefix: &to}}
}

func regexRewrite(expr, replace string) *config.Route {
	return &config.Route{PathRewrite: &config.PathRewrite{Regex: regexp.MustCompile(expr), Replace: replace}}
}

func TestRewritePath(t *testing.T) {
	for _, tt := range []struct {
		name  string
		route *config.Route
		path  string
		want  string
	}{
		{"OK no rule", &config.Route{}, "/a//b%20", "/a//b%20"},
		{"OK prefix", prefixRewrite("/api", "/v1"), "/api/x", "/v1/x"},
		{"OK prefix itself", prefixRewrite("/api", "/v1"), "/api", "/v1"},
		{"OK prefix, slash kept", prefixRewrite("/api", "/v1"), "/api/", "/v1/"},
		{"OK prefix to root", prefixRewrite("/api", "/"), "/api/x", "/x"},
		{"OK prefix to root, itself", prefixRewrite("/api", "/"), "/api", "/"},
		{"OK prefix to nothing", prefixRewrite("/api", ""), "/api", "/"},
		{"OK both end with a slash", prefixRewrite("/api/", "/v1/"), "/api/x", "/v1/x"},
		{"OK only the old one does", prefixRewrite("/api/", "/v1"), "/api/x", "/v1/x"},
		{"OK only the new one does", prefixRewrite("/api", "/v1/"), "/api/x", "/v1/x"},
		{"OK root to prefix", prefixRewrite("/", "/v1"), "/x", "/v1/x"},
		{"OK further slashes stay", prefixRewrite("/api", "/v1"), "/api//x", "/v1//x"},
		{"OK no host comes up", prefixRewrite("/api", "/"), "/api//evil.example/x", "/evil.example/x"},
		{"OK no host comes up without a prefix", prefixRewrite("/api", ""), "/api///evil.example", "/evil.example"},
		{"OK two slashes that were there stay", regexRewrite(`b`, "c"), "//a//b", "//a//c"},
		{"OK longer", prefixRewrite("/a", "/much/longer"), "/a/b", "/much/longer/b"},

		{"OK regex", regexRewrite(`^/user/([0-9]+)$`, "/u/${1}"), "/user/17", "/u/17"},
		{"OK regex, named group", regexRewrite(`^/(?P<lang>de|en)/(.*)$`, "/$2/${lang}"), "/de/a/b", "/a/b/de"},
		{"OK regex, no match", regexRewrite(`^/x`, "/y"), "/a/x", "/a/x"},
		{"OK regex, every match", regexRewrite(`/+`, "/"), "//a///b", "/a/b"},
		{"OK regex, ^ is the start of the path only", regexRewrite(`^/a`, ""), "/a/a/b", "/a/b"},
		{"OK regex, word border", regexRewrite(`\ba`, "x"), "/aa/a", "/xa/x"},
		{"OK regex, empty matches", regexRewrite(`b*`, "-"), "/abc", "/-/-a-c-"},
		{"OK regex, dollar", regexRewrite(`x`, "$$"), "/x", "/$"},
		{"OK regex, to nothing", regexRewrite(`.*`, ""), "/abc", "/"},
		{"OK regex, slash put in front", regexRewrite(`^/old/`, "new/"), "/old/x", "/new/x"},

		{"OK regex, no host comes up", regexRewrite(`^/old`, ""), "/old//evil.example", "/evil.example"},

		{"OK line ends are escaped", regexRewrite(`x`, "a\r\nHost: b\x00"), "/x", "/a%0D%0AHost:%20b%00"},
		{"OK what ends a path is escaped", regexRewrite(`x`, "?a=#é\x7f"), "/x", "/%3Fa=%23%C3%A9%7F"},
		{"OK escapes stay", regexRewrite(`x`, "%2F"), "/x%20", "/%2F%20"},
	} {
		for _, before := range []string{"", "kept?"} {
			dst := append(make([]byte, 0, 64), before...)
			if got := string(RewritePath(dst, tt.route, []byte(tt.path))); got != before+tt.want {
				t.Errorf("%s: %q became %q, want %q", tt.name, tt.path, got, before+tt.want)
			}
		}
	}
}

func TestLocation(t *testing.T) {
	for _, tt := range []struct {
		name     string
		redirect config.Redirect
		prefix   string // the route's
		host     string
		target   string // path with query
		want     string
	}{
		{"OK scheme", config.Redirect{Scheme: "https"}, "", "a.example", "/x?q=1", "https://a.example/x?q=1"},
		{"OK scheme, the port was the other's", config.Redirect{Scheme: "https"}, "", "a.example:8080", "/", "https://a.example/"},
		{"OK scheme and port", config.Redirect{Scheme: "https", Port: "8443"}, "", "a.example:8080", "/", "https://a.example:8443/"},
		{"OK default port of https", config.Redirect{Scheme: "https", Port: "443"}, "", "a.example", "/", "https://a.example/"},
		{"OK default port of http", config.Redirect{Port: "80"}, "", "a.example:8080", "/", "http://a.example/"},
		{"OK port", config.Redirect{Port: "443"}, "", "a.example", "/", "http://a.example:443/"},
		{"OK same scheme, no port", config.Redirect{Scheme: "http", Path: "/x"}, "", "a.example:8080", "/", "http://a.example/x"},
		{"OK host", config.Redirect{Host: "b.example"}, "", "a.example:8080", "/x?", "http://b.example/x?"},
		{"OK host and port", config.Redirect{Host: "b.example", Port: "81"}, "", "a.example", "/", "http://b.example:81/"},
		{"OK host IPv6", config.Redirect{Host: "[2001:db8::1]"}, "", "a.example:8080", "/", "http://[2001:db8::1]/"},
		{"OK path", config.Redirect{Path: "/welcome"}, "", "a.example:8080", "/x/y?q", "http://a.example:8080/welcome?q"},
		{"OK path, request's default port", config.Redirect{Path: "/welcome"}, "", "a.example:80", "/", "http://a.example/welcome"},
		{"OK path, IPv6", config.Redirect{Path: "/welcome"}, "", "[::1]:8080", "/", "http://[::1]:8080/welcome"},
		{"OK path, IPv6 without port", config.Redirect{Path: "/welcome"}, "", "[::1]", "/", "http://[::1]/welcome"},
		{"OK prefix", config.Redirect{PathPrefix: "/new"}, "/old", "a.example", "/old/x?q", "http://a.example/new/x?q"},
		{"OK prefix itself", config.Redirect{PathPrefix: "/new"}, "/old", "a.example", "/old", "http://a.example/new"},
		{"OK prefix to root", config.Redirect{PathPrefix: "/"}, "/old", "a.example", "/old/x", "http://a.example/x"},
		{"OK without query", config.Redirect{Host: "b.example", StripQuery: true}, "", "a.example", "/x?q=1", "http://b.example/x"},
		{"OK two slashes lead to no other host", config.Redirect{PathPrefix: "/"}, "/old", "a.example", "/old//evil.example", "http://a.example//evil.example"},
		{"OK line ends in the rule", config.Redirect{Path: "/\r\nSet-Cookie: a"}, "", "a.example", "/", "http://a.example/%0D%0ASet-Cookie:%20a"},
		{"OK line ends in the request", config.Redirect{Scheme: "https"}, "", "a\r\n.example", "/\r\n?\r\n#", "https://a%0D%0A.example/%0D%0A?%0D%0A%23"},
		{"OK every part", config.Redirect{Scheme: "https", Host: "b.example", Port: "1", Path: "/p", StripQuery: true}, "", "a", "/x?q", "https://b.example:1/p"},
	} {
		r := &config.Route{PathPrefix: tt.prefix, Redirect: &tt.redirect}
		path, query, has := cut(tt.target)
		dst := append(make([]byte, 0, 64), "kept "...)
		if got := string(Location(dst, r, "http", []byte(tt.host), path, query, has)); got != "kept "+tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, "kept "+tt.want)
		}
	}
	// OPTIONS * has no path.
	if got := string(Location(nil, &config.Route{Redirect: &config.Redirect{Scheme: "https"}}, "http", []byte("a.example"), nil, nil, false)); got != "https://a.example" {
		t.Errorf("no path: %q", got)
	}
}

func cut(target string) (path, query []byte, has bool) {
	for i := range len(target) {
		if target[i] == '?' {
			return []byte(target[:i]), []byte(target[i+1:]), true
		}
	}
	return []byte(target), nil, false
}

func TestRewriteDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 256)
	path, host, query := []byte("/api/some/path"), []byte("a.example:8080"), []byte("q=1")
	rewrite := prefixRewrite("/api", "/v1")
	redirect := &config.Route{PathPrefix: "/api", Redirect: &config.Redirect{Scheme: "https", PathPrefix: "/"}}
	if n := testing.AllocsPerRun(200, func() {
		RewritePath(dst, rewrite, path)
		Location(dst, redirect, "http", host, path, query, true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
