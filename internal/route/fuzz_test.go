package route

import (
	"bytes"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"belay/internal/config"
)

// clean tells whether b can stand in a request line or a field.
func clean(b []byte) bool {
	return !bytes.ContainsFunc(b, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' })
}

// Whatever path and replacement are, a path comes out.
func FuzzRewritePath(f *testing.F) {
	f.Add("/api", "/v1", `/+`, "$0x", []byte("/api//x"))
	f.Add("/", "", `^`, "?#\r\n", []byte("/"))
	f.Add("/a", "a b", `(.)`, "$1$1", []byte(""))
	f.Fuzz(func(t *testing.T, prefix, to, expr, replace string, path []byte) {
		re, err := regexp.Compile(expr)
		if err != nil {
			return
		}
		for _, r := range []*config.Route{
			{PathPrefix: prefix, PathRewrite: &config.PathRewrite{Prefix: &to}},
			{PathRewrite: &config.PathRewrite{Regex: re, Replace: replace}},
		} {
			got := RewritePath(nil, r, path)
			if len(got) == 0 || got[0] != '/' || !clean(got) || bytes.IndexByte(got, '?') >= 0 {
				t.Errorf("%q became %q", path, got)
			}
			if bytes.HasPrefix(got, []byte("//")) && !bytes.HasPrefix(path, []byte("//")) {
				t.Errorf("%q became %q, which looks like a host", path, got)
			}
		}
	})
}

// No request leads a redirect elsewhere than its rule says.
func FuzzLocation(f *testing.F) {
	f.Add("/old", "/", "/old//evil.example", "q", true)
	f.Add("/", "/x", "/\\evil.example/@b", "?/#", true)
	f.Add("", "", "\r\n@evil.example", "", false)
	f.Fuzz(func(t *testing.T, prefix, to, path, query string, has bool) {
		r := &config.Route{PathPrefix: prefix, Redirect: &config.Redirect{Scheme: "https", PathPrefix: to}}
		if !strings.HasPrefix(path, "/") || to != "" && to[0] != '/' || strings.Contains(path+to, "?") {
			return // the codec and the configuration refuse them
		}
		got := Location(nil, r, "http", []byte("a.example:8080"), []byte(path), []byte(query), has)
		if !clean(got) {
			t.Fatalf("%q", got)
		}
		if u, err := url.Parse(string(got)); err == nil && (u.Host != "a.example" || u.Scheme != "https" || u.Fragment != "") {
			t.Errorf("%q leads to %q", got, u.Host)
		}
	})
}

// A name found in one spelling is found in all.
func FuzzMatchHost(f *testing.F) {
	f.Add("Example.com")
	f.Add("a.b.example.com.")
	f.Add("example.com..")
	f.Add(".example.com")
	x, err := Compile([]*config.Route{{Hosts: []string{"example.com", "*.example.com"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if strings.ContainsFunc(host, func(c rune) bool { return c >= 0x80 || c == ':' || c == '[' || c == ']' }) {
			return
		}
		name := strings.ToLower(strings.TrimSuffix(host, "."))
		want := len(name) <= maxHost && (name == "example.com" || strings.HasSuffix(name, ".example.com"))
		for _, h := range []string{host, strings.ToUpper(host), host + ":81"} {
			if got := x.Match(get(h, "/")) != nil; got != want {
				t.Errorf("%q: %v, want %v", h, got, want)
			}
		}
	})
}
