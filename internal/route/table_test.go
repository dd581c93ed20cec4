package route

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"belay/internal/config"
	"belay/internal/header"
)

// fields makes a map of "Name: value" lines.
func fields(t testing.TB, lines ...string) *header.Map {
	t.Helper()
	m := new(header.Map)
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		if err := m.AddName(name, value); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// compile gives the routes their indices.
func compile(t testing.TB, rs ...*config.Route) *Table {
	t.Helper()
	for i, r := range rs {
		r.Index = i
	}
	x, err := Compile(rs)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// index is what a request comes to: the index of its route or -1.
func index(x *Table, in *Input) int {
	if r := x.Match(in); r != nil {
		return r.Index
	}
	return -1
}

func get(host, path string) *Input {
	return &Input{Host: []byte(host), Path: []byte(path), Method: []byte("GET"), Header: new(header.Map)}
}

func hosts(list ...string) *config.Route { return &config.Route{Hosts: list} }

func anchored(s string) *regexp.Regexp { return regexp.MustCompile(`\A(?:` + s + `)\z`) }

func TestMatchHost(t *testing.T) {
	long := strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "." + strings.Repeat("d", 57) + ".org"
	x := compile(t,
		hosts("www.example.com"),                // 0
		hosts("*.example.com"),                  // 1
		hosts("*.deep.example.com"),             // 2
		hosts("[2001:db8::1]", "192.0.2.1"),     // 3
		hosts("example.org", "*.example.org"),   // 4
		hosts("xn--bcher-kva.example", long),    // 5
		hosts("*.com"),                          // 6
		&config.Route{Hosts: nil, Path: "/any"}, // 7
	)
	for _, tt := range []struct {
		name, host string
		want       int
	}{
		{"OK exact", "www.example.com", 0},
		{"OK upper case", "WWW.Example.COM", 0},
		{"OK port", "www.example.com:8443", 0},
		{"OK trailing dot", "www.example.com.", 0},
		{"OK trailing dot and port", "www.example.com.:80", 0},
		{"OK suffix", "a.example.com", 1},
		{"OK suffix over two labels", "a.b.example.com", 1},
		{"OK suffix with port and case", "A.EXAMPLE.com:1", 1},
		{"OK longest suffix", "x.deep.example.com", 2},
		{"OK the longer suffix covers no more than itself", "deep.example.com", 1},
		{"OK shorter suffix", "example.com", 6},
		{"OK one route, exact", "example.org", 4},
		{"OK one route, suffix", "a.example.org", 4},
		{"OK IPv6", "[2001:db8::1]", 3},
		{"OK IPv6 with port", "[2001:db8::1]:80", 3},
		{"OK IPv6 written out", "[2001:0DB8:0:0:0:0:0:1]:80", 3},
		{"OK IPv4", "192.0.2.1:80", 3},
		{"OK punycode", "XN--BCHER-KVA.example", 5},
		{"OK longest name", long, 5},
		{"any, unknown", "example.net", 7},
		{"any, part of a label", "wwwexample.org", 7},
		{"any, another IPv6", "[2001:db8::2]", 7},
		{"any, no IPv6", "[zz]", 7},
		{"any, empty bracket", "[]", 7},
		{"any, suffix alone", "com", 7},
		{"any, only a dot", ".", 7},
		{"any, two dots", "example.org..", 7},
		{"any, empty", "", 7},
		{"any, only a port", ":80", 7},
		{"any, too long", strings.Repeat("a.", 200) + "net", 7},
		{"any, too long though the suffix fits", strings.Repeat("a.", 200) + "com", 7},
		{"any, many labels", strings.Repeat("a.", 120) + "net", 7},
		{"any, no ASCII folding beyond letters", "example\x4e.org\x00", 7},
	} {
		if got := index(x, get(tt.host, "/any")); got != tt.want {
			t.Errorf("%s: %q: route %d, want %d", tt.name, tt.host, got, tt.want)
		}
	}
	if got := index(x, get("example.net", "/other")); got != -1 {
		t.Errorf("a request that no route takes: %d", got)
	}
	if got := index(compile(t), get("example.net", "/")); got != -1 {
		t.Errorf("no routes: %d", got)
	}
}

// A host whose routes do not take a request passes it on: exact, suffixes from
// the longest, any.
func TestMatchFallsBack(t *testing.T) {
	x := compile(t,
		&config.Route{PathPrefix: "/"},                                            // 0
		&config.Route{Hosts: []string{"*.com"}, PathPrefix: "/c"},                 // 1
		&config.Route{Hosts: []string{"*.example.com"}, PathPrefix: "/b"},         // 2
		&config.Route{Hosts: []string{"www.example.com"}, PathPrefix: "/a"},       // 3
		&config.Route{Hosts: []string{"www.example.com"}, PathPrefix: "/a/never"}, // 4: 3 is before it
	)
	for path, want := range map[string]int{"/a": 3, "/a/never": 3, "/b": 2, "/c": 1, "/d": 0} {
		if got := index(x, get("www.example.com", path)); got != want {
			t.Errorf("%s: route %d, want %d", path, got, want)
		}
	}
}

// Routes of several hosts keep the order of the file for each of them.
func TestMatchKeepsFileOrder(t *testing.T) {
	x := compile(t,
		&config.Route{Hosts: []string{"a", "b"}, PathPrefix: "/x"}, // 0
		&config.Route{Hosts: []string{"b"}, PathPrefix: "/"},       // 1
		&config.Route{Hosts: []string{"a", "c"}, Path: "/y"},       // 2
		&config.Route{Hosts: []string{"c", "b", "a"}},              // 3
	)
	for _, tt := range []struct {
		host, path string
		want       int
	}{
		{"a", "/x", 0}, {"a", "/y", 2}, {"a", "/z", 3},
		{"b", "/x", 0}, {"b", "/y", 1}, {"b", "/z", 1},
		{"c", "/x", 3}, {"c", "/y", 2},
	} {
		if got := index(x, get(tt.host, tt.path)); got != tt.want {
			t.Errorf("%s%s: route %d, want %d", tt.host, tt.path, got, tt.want)
		}
	}
}

func TestMatchPath(t *testing.T) {
	exact := &config.Route{Path: "/a"}
	prefix := &config.Route{PathPrefix: "/a"}
	below := &config.Route{PathPrefix: "/a/"}
	root := &config.Route{PathPrefix: "/"}
	regex := &config.Route{PathRegex: anchored(`/user/[0-9]+|/me`)}
	for _, tt := range []struct {
		name  string
		route *config.Route
		path  string
		want  bool
	}{
		{"OK exact", exact, "/a", true},
		{"no exact, below", exact, "/a/", false},
		{"no exact, case", exact, "/A", false},
		{"OK prefix itself", prefix, "/a", true},
		{"OK prefix, slash", prefix, "/a/", true},
		{"OK prefix, below", prefix, "/a/b", true},
		{"no prefix within a segment", prefix, "/ab", false},
		{"no prefix, shorter", prefix, "/", false},
		{"no prefix, empty", prefix, "", false},
		{"no prefix, escaped slash", prefix, "/a%2Fb", false},
		{"OK below", below, "/a/b", true},
		{"OK below, itself", below, "/a/", true},
		{"no below, without slash", below, "/a", false},
		{"OK root", root, "/", true},
		{"OK root, all", root, "//x/../y", true},
		{"no root for *", root, "", false},
		{"OK any for *", &config.Route{}, "", true},
		{"OK regex", regex, "/user/17", true},
		{"OK regex, other branch", regex, "/me", true},
		{"no regex at the start", regex, "/x/user/17", false},
		{"no regex at the end", regex, "/user/17/x", false},
		{"no regex, branch is anchored too", regex, "/x/me", false},
		{"no regex, line end", regex, "/me\n", false},
	} {
		if got := index(compile(t, tt.route), get("h", tt.path)) == 0; got != tt.want {
			t.Errorf("%s: %q: %v", tt.name, tt.path, got)
		}
	}
}

func TestMatchMethod(t *testing.T) {
	x := compile(t, &config.Route{Methods: []string{"GET", "PURGE"}})
	for method, want := range map[string]int{"GET": 0, "PURGE": 0, "get": -1, "POST": -1, "PURGER": -1, "": -1} {
		in := get("h", "/")
		in.Method = []byte(method)
		if got := index(x, in); got != want {
			t.Errorf("%q: route %d, want %d", method, got, want)
		}
	}
}

func TestMatchHeaders(t *testing.T) {
	exact := config.HeaderMatch{Name: "x-version", Exact: "2"}
	inverted := config.HeaderMatch{Name: "X-Version", Exact: "2", Invert: true}
	agent := config.HeaderMatch{Name: "User-Agent", Regex: anchored("Mozilla/.*")}
	accept := config.HeaderMatch{Name: "Accept", Exact: "text/html"}
	present := config.HeaderMatch{Name: "authorization", Present: true}
	absent := config.HeaderMatch{Name: "Authorization", Present: true, Invert: true}
	empty := config.HeaderMatch{Name: "X-Empty"}
	for _, tt := range []struct {
		name   string
		match  []config.HeaderMatch
		fields []string
		want   bool
	}{
		{"OK exact", []config.HeaderMatch{exact}, []string{"X-Version: 2"}, true},
		{"OK exact, second of two", []config.HeaderMatch{exact}, []string{"X-Version: 1", "x-VERSION: 2"}, true},
		{"OK exact, registered, second of two", []config.HeaderMatch{accept}, []string{"Accept: */*", "Host: h", "Accept: text/html"}, true},
		{"no exact, other value", []config.HeaderMatch{exact}, []string{"X-Version: 22"}, false},
		{"no exact, not there", []config.HeaderMatch{exact}, nil, false},
		{"no inverted, there", []config.HeaderMatch{inverted}, []string{"X-Version: 2"}, false},
		{"no inverted, one of two", []config.HeaderMatch{inverted}, []string{"X-Version: 2", "X-Version: 3"}, false},
		{"OK inverted, other value", []config.HeaderMatch{inverted}, []string{"X-Version: 3"}, true},
		{"OK inverted, not there", []config.HeaderMatch{inverted}, nil, true},
		{"OK regex", []config.HeaderMatch{agent}, []string{"User-Agent: Mozilla/5.0"}, true},
		{"no regex, anchored", []config.HeaderMatch{agent}, []string{"User-Agent: a Mozilla/5.0"}, false},
		{"OK present, empty value", []config.HeaderMatch{present}, []string{"Authorization: "}, true},
		{"no present", []config.HeaderMatch{present}, []string{"X-Authorization: x"}, false},
		{"OK absent", []config.HeaderMatch{absent}, nil, true},
		{"no absent", []config.HeaderMatch{absent}, []string{"Authorization: x"}, false},
		{"OK empty value", []config.HeaderMatch{empty}, []string{"X-Empty: "}, true},
		{"no empty value, not there", []config.HeaderMatch{empty}, nil, false},
		{"OK all", []config.HeaderMatch{exact, present}, []string{"Authorization: x", "X-Version: 2"}, true},
		{"no one of two", []config.HeaderMatch{exact, present}, []string{"X-Version: 2"}, false},
	} {
		in := get("h", "/")
		in.Header = fields(t, tt.fields...)
		if got := index(compile(t, &config.Route{Headers: tt.match}), in) == 0; got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// A host with many exact paths is indexed; nothing but the cost may change.
func TestMatchIndexedPathsKeepFileOrder(t *testing.T) {
	post := []string{"POST"}
	rs := []*config.Route{
		{Path: "/p0", Methods: post},           // 0
		{PathPrefix: "/sub", Methods: post},    // 1
		{Path: "/sub/x"},                       // 2
		{PathPrefix: "/sub"},                   // 3
		{Path: "/sub/y"},                       // 4: 3 is before it
		{Path: "/p0"},                          // 5
		{PathRegex: anchored("/p[0-9]")},       // 6
		{Path: "/p1"},                          // 7: 6 is before it
		{PathPrefix: "/", Methods: post},       // 8
		{Path: "/last"}, {Path: "/last"}, {}, { // 9, 10, 11
			Path: "/p11", // 12: 11 is before it
		},
	}
	check := func(name string, x *Table) {
		for _, tt := range []struct {
			method, path string
			want         int
		}{
			{"POST", "/p0", 0}, {"GET", "/p0", 5}, {"POST", "/sub/x", 1}, {"GET", "/sub/x", 2}, {"GET", "/sub/y", 3},
			{"GET", "/sub", 3}, {"GET", "/p1", 6}, {"GET", "/p11", 11}, {"POST", "/last", 8}, {"GET", "/last", 9},
			{"GET", "/else", 11}, {"GET", "", 11},
		} {
			in := get("h", tt.path)
			in.Method = []byte(tt.method)
			if got := index(x, in); got != tt.want {
				t.Errorf("%s: %s %q: route %d, want %d", name, tt.method, tt.path, got, tt.want)
			}
		}
	}
	x := compile(t, rs...)
	if x.any.byPath == nil {
		t.Fatal("the list has no index")
	}
	check("indexed", x)
	x.any.byPath = nil
	check("plain", x)
}

func TestCompileRefusesWhatIsNoHost(t *testing.T) {
	for _, h := range []string{"", ".", "*", "*.", "a.*.b", "*.*.b", strings.Repeat("a", 257)} {
		r := hosts("ok", h)
		r.Index = 3
		_, err := Compile([]*config.Route{r})
		if err == nil || !strings.HasPrefix(err.Error(), "route[3]: ") {
			t.Errorf("%q: %v", h, err)
		}
	}
}

// manyHosts is a table of n hosts, a fifth of them suffixes, and a request for
// one in the middle.
func manyHosts(t testing.TB, n int) (*Table, *Input) {
	var rs []*config.Route
	for i := range n {
		h := fmt.Sprintf("host-%05d.example.com", i)
		if i%5 == 4 {
			h = "*." + h
		}
		rs = append(rs, &config.Route{Hosts: []string{h}, PathPrefix: "/"})
	}
	return compile(t, rs...), get(fmt.Sprintf("Host-%05d.example.com:8080", n/2), "/some/path")
}

func TestMatchDoesNotAllocate(t *testing.T) {
	x, in := manyHosts(t, 10_000)
	suffix := get("www.host-00004.example.com", "/")
	unknown := get("[2001:db8::1]:80", "/")
	full := compile(t, &config.Route{
		Hosts: []string{"[2001:db8::1]"}, PathRegex: anchored("/[a-z]+"), Methods: []string{"POST", "GET"},
		Headers: []config.HeaderMatch{
			{Name: "User-Agent", Regex: anchored("Mozilla/.*")}, {Name: "X-Version", Exact: "2"}, {Name: "X-Absent", Present: true, Invert: true},
		},
	})
	all := get("[2001:DB8::1]:80", "/abc")
	all.Header = fields(t, "User-Agent: Mozilla/5.0", "X-Version: 1", "X-Version: 2")
	if index(x, in) != 5000 || index(x, suffix) != 4 || index(x, unknown) != -1 || index(full, all) != 0 {
		t.Fatal("not what is to be measured")
	}
	if n := testing.AllocsPerRun(200, func() { x.Match(in); x.Match(suffix); x.Match(unknown); full.Match(all) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
