package persistence

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestScan(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
		seen int
	}{
		{"", nil, 0},
		{"belay=a", []string{"a"}, 1},
		{"x=1; belay=a; y=2", []string{"a"}, 1},
		{"x=1;belay=a;y=2", []string{"a"}, 1},
		{" \t belay = a ; y=2", []string{"a"}, 1},
		{`belay="a"`, []string{"a"}, 1},
		{`belay="`, []string{`"`}, 1},
		{"belay", nil, 0},
		{"belay=", nil, 1},
		{"belay=a=b", []string{"a=b"}, 1},
		{"Belay=a; belayx=b; xbelay=c; x=belay=d", nil, 0},
		{"belay=1; belay=2; belay=3; belay=4; belay=5", []string{"1", "2", "3", "4"}, 5},
		{"belay=" + strings.Repeat("x", MaxValue) + "; belay=" + strings.Repeat("x", MaxValue+1), []string{strings.Repeat("x", MaxValue)}, 2},
		{";;; belay=a;;", []string{"a"}, 1},
	} {
		var c Candidates
		c.Scan([]byte(tt.line), "belay", MaxValue)
		var got []string
		for _, v := range c.Values[:c.N] {
			got = append(got, string(v))
		}
		if !slices.Equal(got, tt.want) || c.Seen != tt.seen {
			t.Errorf("%.80q: %q, %d seen; want %q, %d", tt.line, got, c.Seen, tt.want, tt.seen)
		}
	}
	var c Candidates
	for _, line := range []string{"belay=1", "x=1; belay=2"} {
		c.Scan([]byte(line), "belay", MaxValue)
	}
	if c.N != 2 || string(c.Values[1]) != "2" {
		t.Errorf("two lines: %d", c.N)
	}
}

func TestRemove(t *testing.T) {
	for _, tt := range []struct {
		line, want string
		n          int
	}{
		{"", "", 0},
		{"a=1; b=2", "a=1; b=2", 0},
		{"belay=x", "", 1},
		{"belay=x;", "", 1},
		{"belay=x; a=1", "a=1", 1},
		{"a=1; belay=x", "a=1", 1},
		{"a=1; belay=x; b=2", "a=1; b=2", 1},
		{"a=1;belay=x;b=2;", "a=1;b=2;", 1},
		{"belay=x; a=1; belay=y; b=\"; belay=z", "a=1; b=\"", 3},
		{"  a=1 ;  b=2;;c ; belay=x", "  a=1 ;  b=2;;c ", 1},
		{"belay=1; belay=2; belay=", "", 3},
		{"a=1; Belay=x", "a=1; Belay=x", 0},
	} {
		got, n := Remove(nil, []byte(tt.line), "belay")
		if string(got) != tt.want || n != tt.n {
			t.Errorf("%q: %q, %d; want %q, %d", tt.line, got, n, tt.want, tt.n)
		}
		line := []byte(tt.line)
		if got, _ := Remove(line[:0], line, "belay"); string(got) != tt.want {
			t.Errorf("%q in place: %q", tt.line, got)
		}
	}
}

func FuzzCookieLine(f *testing.F) {
	for _, s := range []string{"a=1; belay=x; b=2", "belay=\"x\";;", " belay = x", "belay=" + strings.Repeat("x", TokenSize) + "~app"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var before, after Candidates
		before.Scan(line, "belay", MaxValue)
		got, n := Remove(nil, line, "belay")
		after.Scan(got, "belay", MaxValue)
		if n != before.Seen || after.Seen != 0 || n == 0 && !bytes.Equal(got, line) {
			t.Fatalf("%q: %d seen, %d removed, left %q", line, before.Seen, n, got)
		}
		if others(line) != others(got) {
			t.Fatalf("%q: others changed in %q", line, got)
		}
		cp := bytes.Clone(line)
		if in, _ := Remove(cp[:0], cp, "belay"); !bytes.Equal(in, got) {
			t.Fatalf("%q: in place %q, else %q", line, in, got)
		}
		plain, m := RemovePrefix(nil, line, "belay")
		cp = bytes.Clone(line)
		if in, _ := RemovePrefix(cp[:0], cp, "belay"); !bytes.Equal(in, plain) || len(plain) != len(line)-m*(TokenSize+1) {
			t.Fatalf("%q: prefix gone in place %q, else %q", line, in, plain)
		}
		RemoveEnvelope(nil, line, "belay")
		AppendPrefixed(nil, line, "belay", []byte("t"))
	})
}

// others are the pairs of a line that are not ours, parted by a known byte.
func others(line []byte) string {
	var keep []string
	for pair := range strings.SplitSeq(string(line), ";") {
		if _, ours := valueOf([]byte(pair), "belay"); !ours && strings.Trim(pair, " \t") != "" {
			keep = append(keep, strings.Trim(pair, " \t"))
		}
	}
	return strings.Join(keep, ";")
}

func TestCookieCheck(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Cookie
		bad  string // part of the error, "" if the cookie is right
	}{
		{"plain", Cookie{Name: "belay"}, ""},
		{"all", Cookie{Name: "b", Path: "/a", Domain: "example.com", SameSite: SameSiteNone, Secure: true, HTTPOnly: true, Partitioned: true}, ""},
		{"host", Cookie{Name: "__Host-b", Secure: true}, ""},
		{"host with path /", Cookie{Name: "__Host-b", Secure: true, Path: "/"}, ""},
		{"host not secure", Cookie{Name: "__Host-b"}, "has to be secure"},
		{"host, other case", Cookie{Name: "__hOST-b"}, "has to be secure"},
		{"host with path", Cookie{Name: "__Host-b", Secure: true, Path: "/a"}, "no domain"},
		{"host with domain", Cookie{Name: "__Host-b", Secure: true, Domain: "example.com"}, "no domain"},
		{"secure", Cookie{Name: "__Secure-b", Secure: true, Domain: "example.com"}, ""},
		{"secure not secure", Cookie{Name: "__Secure-b"}, "has to be secure"},
		{"http", Cookie{Name: "__Http-b", Secure: true}, "http_only"},
		{"host http", Cookie{Name: "__Host-Http-b", Secure: true, HTTPOnly: true, Domain: "a"}, "no domain"},
		{"none not secure", Cookie{Name: "b", SameSite: SameSiteNone}, "same_site none"},
		{"partitioned not secure", Cookie{Name: "b", Partitioned: true}, "partitioned"},
		{"no name", Cookie{}, "name"},
		{"name with =", Cookie{Name: "a=b"}, "name"},
		{"name with blank", Cookie{Name: "a b"}, "name"},
		{"path with ;", Cookie{Name: "b", Path: "/;x"}, "path"},
		{"relative path", Cookie{Name: "b", Path: "x"}, "path"},
		{"domain with line end", Cookie{Name: "b", Domain: "a\r\nX: y"}, "domain"},
		{"domain with dot", Cookie{Name: "b", Domain: ".example.com"}, "domain"},
	} {
		err := tt.c.Check()
		if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.bad)
		}
		if _, e := NewWriter(&tt.c); (e == nil) != (err == nil) {
			t.Errorf("%s: writer says %v", tt.name, e)
		}
	}
}

func TestWriter(t *testing.T) {
	w, err := NewWriter(&Cookie{Name: "b", Domain: "example.com", SameSite: SameSiteNone, Secure: true, HTTPOnly: true, Partitioned: true})
	if err != nil {
		t.Fatal(err)
	}
	const tail = "; Path=/; Domain=example.com; SameSite=None; Secure; HttpOnly; Partitioned"
	for _, tt := range []struct{ got, want string }{
		{string(w.Append(nil, []byte("v"), 0)), "b=v" + tail},
		{string(w.Append(nil, []byte("v"), 1800)), "b=v" + tail + "; Max-Age=1800"},
		{string(w.AppendDelete(nil)), "b=" + tail + "; Max-Age=0"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
	for in, want := range map[string]SameSite{"": SameSiteUnset, "lax": SameSiteLax, "Strict": SameSiteStrict, "NONE": SameSiteNone} {
		if got, err := ParseSameSite(in); err != nil || got != want {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
	if _, err := ParseSameSite("loose"); err == nil {
		t.Error("loose is a same_site")
	}
}

func TestPrefix(t *testing.T) {
	token := bytes.Repeat([]byte("T"), TokenSize)
	tok := string(token)
	for _, tt := range []struct{ line, want string }{
		{"SID=abc; Path=/; HttpOnly", "SID=" + tok + "~abc; Path=/; HttpOnly"},
		{"SID = abc ;Path=/", "SID = " + tok + "~abc ;Path=/"},
		{`SID="abc"; Path=/`, `SID="` + tok + `~abc"; Path=/`},
		{"SID=abc", "SID=" + tok + "~abc"},
		{"SID=; Max-Age=0", "SID=; Max-Age=0"},
		{`SID=""`, `SID=""`},
		{"other=SID=abc", "other=SID=abc"},
		{"sid=abc", "sid=abc"},
		{"SID", "SID"},
	} {
		got, did := AppendPrefixed(nil, []byte(tt.line), "SID", token)
		if string(got) != tt.want || did != (tt.line != tt.want) {
			t.Errorf("%q: %q", tt.line, got)
		}
	}
	for _, tt := range []struct {
		line, want string
		n          int
	}{
		{"a=1; SID=" + tok + "~abc; b=2", "a=1; SID=abc; b=2", 1},
		{`SID="` + tok + `~a~b"; b=2;`, `SID="a~b"; b=2;`, 1},
		{"SID=abc; b=" + tok + "~x", "SID=abc; b=" + tok + "~x", 0},
		{"SID=" + tok + "~", "SID=", 1},
		{"SID=" + tok, "SID=" + tok, 0},
	} {
		got, n := RemovePrefix(nil, []byte(tt.line), "SID")
		if string(got) != tt.want || n != tt.n {
			t.Errorf("%q: %q, %d", tt.line, got, n)
		}
	}
	if token, app := SplitPrefix([]byte("abc")); token != nil || string(app) != "abc" {
		t.Error("a value without a token was split")
	}
}

func TestEnvelope(t *testing.T) {
	token := bytes.Repeat([]byte("T"), TokenSize)
	for _, app := range []string{"abc", "a;b, \"c\"\x00\xff", "~."} {
		text := AppendEnvelope(nil, token, []byte(app))
		got, out, ok := OpenEnvelope([]byte("pre"), text)
		if !ok || string(got) != string(token) || string(out) != "pre"+app {
			t.Errorf("%q: %q %q %v", app, got, out, ok)
		}
	}
	for _, bad := range []string{"", "abc", string(token), string(token) + "~abc", string(token) + ".a", string(token) + ".YW\nJj", string(token) + ".!!!!"} {
		if _, out, ok := OpenEnvelope(nil, []byte(bad)); ok || len(out) > 0 {
			t.Errorf("%q: opened to %q", bad, out)
		}
	}
	line, _ := AppendEnveloped(nil, []byte("SID=abc; Path=/"), "SID", token)
	if want := "SID=" + string(token) + ".YWJj; Path=/"; string(line) != want {
		t.Errorf("%q, want %q", line, want)
	}
	sent := "x=1; SID=" + string(token) + ".YWJj ; y=2"
	if got, n := RemoveEnvelope(nil, []byte(sent), "SID"); string(got) != "x=1; SID=abc ; y=2" || n != 1 {
		t.Errorf("%q, %d", got, n)
	}
	forged := "SID=" + string(AppendEnvelope(nil, token, []byte("a\r\nX: y"))) + "; y=2"
	if got, n := RemoveEnvelope(nil, []byte(forged), "SID"); string(got) != forged || n != 0 {
		t.Errorf("a forged value gave %q", got)
	}
}
