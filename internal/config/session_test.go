package config

import (
	"strings"
	"testing"
)

// What the check accepts has to work: these are found by it, not by a start or a
// restart that fails, and not by nobody.
func TestSessionMistakes(t *testing.T) {
	cookie := func(keys string) string { return "[cluster.back.persistence.cookie]\n" + keys + "\n" }
	for _, tt := range []struct{ name, tables, want string }{
		{"OK", cookie(`name = "belay"`), ""},
		{"OK http", cookie("name = \"__Host-Http-a\"\nsecure = \"always\""), ""},
		{"bad long name", cookie(`name = "` + strings.Repeat("a", 129) + `"`), "cookie.name is longer"},
		{"bad long path", cookie("name = \"a\"\npath = \"/" + strings.Repeat("a", 1024) + `"`), "cookie.path is longer"},
		{"bad __Http- in the clear", cookie(`name = "__Http-a"`), `cookie.secure must be "always"`},
		{"bad __Http- for scripts", cookie("name = \"__http-a\"\nsecure = \"always\"\nhttp_only = false"), "cookie.http_only must be true"},
		{"bad __Host-Http- for scripts", cookie("name = \"__Host-Http-a\"\nsecure = \"always\"\nhttp_only = false"), "cookie.http_only must be true"},
		{"bad domain, an address", cookie("name = \"a\"\ndomain = \"10.0.0.1\""), "cookie.domain is not the name"},
		{"bad domain", cookie("name = \"a\"\ndomain = \"a_b.example\""), "cookie.domain is not the name"},
		{"bad debug header", "[cluster.back.persistence]\ndebug_header = \"Content-Length\"\ncookie = { name = \"a\" }\n", "debug_header"},
		{"bad debug header, cookies", "[cluster.back.persistence]\ndebug_header = \"set-cookie\"\ncookie = { name = \"a\" }\n", "debug_header"},
		{"bad debug header, the token's", "[cluster.back.persistence]\ndebug_header = \"x-session\"\nheader = { name = \"X-Session\" }\n", "carries the session"},
		{"bad minted cookie", "balance = \"maglev\"\nhash = { on = [{ cookie = \"__Host-a\", ttl = \"1h\" }] }\n", "cannot be made"},
		{"bad minted cookie, long", "balance = \"maglev\"\nhash = { on = [{ cookie = \"" + strings.Repeat("a", 129) + "\", ttl = \"1h\" }] }\n", "longer"},
		{"bad idle time of the endpoint's header", "[cluster.back.persistence.header]\nname = \"X\"\nmode = \"envelope\"\nmax_idle = \"1h\"\n", "header.max_idle is only"},
	} {
		_, err := Parse("test.toml", []byte("[listener.web]\naddress = \"127.0.0.1:1\"\nroute = [{ cluster = \"back\" }]\n[cluster.back]\nendpoints = [{ address = \"127.0.0.1:2\" }]\n"+tt.tables))
		switch {
		case (err == nil) != (tt.want == ""), err != nil && !strings.Contains(strings.ReplaceAll(err.Error(), ": ", " "), tt.want):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
