package httpproxy

import (
	"strings"
	"testing"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/http1"
	"belay/internal/persistence"
	"belay/internal/stats"
	"belay/internal/upstream"
)

// pinned is a stream on a worker that does not run, with a request that a test gives.
type pinnedStream struct {
	*stream
	plan *Plan
	opts http1.Options
	buf  []byte

	tables map[string]*persistence.Table
}

// newPinned makes one for a cluster "back" of the endpoints a, b and c with these
// tables.
func newPinned(tb testing.TB, tables string) *pinnedStream {
	tb.Helper()
	return newRouted(tb, `
[listener.web]
address = "127.0.0.1:1"
route = [{ cluster = "back" }]
[table.t]
[cluster.back]
endpoints = [{ id = "a", address = "127.0.0.1:2" }, { id = "b", address = "127.0.0.1:3" }, { id = "c", address = "127.0.0.1:4" }]
`+tables)
}

// newRouted is a stream of the first listener of a configuration; its requests take the
// first route.
func newRouted(tb testing.TB, doc string) *pinnedStream {
	tb.Helper()
	cfg, err := config.Parse("test.toml", []byte(doc))
	if err != nil {
		tb.Fatal(err)
	}
	loop, err := eventloop.New(eventloop.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	table := func() *persistence.Table {
		t, err := persistence.NewTable(1000, 60)
		if err != nil {
			tb.Fatal(err)
		}
		return t
	}
	registry := stats.NewRegistry()
	var clusters []*Cluster
	index := map[string]int{}
	for i, c := range cfg.Clusters {
		clusters = append(clusters, NewCluster(cluster.New(c), i, registry))
		clusters[i].Sessions = table()
		index[c.Name] = i
	}
	sessions := &Sessions{Keys: persistence.NewKeyring(persistence.NewRing(1)), Tables: map[string]*persistence.Table{}}
	for _, t := range cfg.Tables {
		sessions.Tables[t.Name] = table()
	}
	plan, err := NewPlan(cfg.Listeners[0], clusters, index, sessions, registry)
	if err != nil {
		tb.Fatal(err)
	}
	w := NewWorker(&upstream.Env{Loop: loop, Shard: registry.NewShard()}, nil, nil, clusters, nil)
	s := w.newStream(&conn{w: w, plan: plan})
	return &pinnedStream{stream: s, plan: plan, opts: codecOptions(cfg.Listeners[0]), tables: sessions.Tables}
}

// request begins an exchange with a head, whose lines end as they like.
func (p *pinnedStream) request(tb testing.TB, head string) {
	c := p.c
	p.clear()
	p.c, p.route = c, p.plan.routes[0]
	p.buf = append(p.buf[:0], head...)
	if _, err := p.req.Parse(p.buf, &p.opts); err != nil {
		tb.Helper() // not before: it takes as long as what the benchmarks measure
		tb.Fatal(err)
	}
}

// replied plays the final head of the endpoint's reply and returns its fields.
func (p *pinnedStream) replied(tb testing.TB, e int, head string) string {
	tb.Helper()
	p.ep = p.cl.shared.Endpoints[e]
	if _, err := p.resp.Parse([]byte(head), p.req.Method, &p.cl.shared.options); err != nil {
		tb.Fatal(err)
	}
	p.flags |= bodyDone
	p.pinReply()
	return string(p.resp.Header.AppendTo(nil))
}

const (
	plainReply = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	withCookie = "\n[cluster.back.persistence.cookie]\nname = \"belay\"\n"
)

// cookieOf is the value of a cookie that a reply's fields set.
func cookieOf(fields, name string) string {
	for line := range strings.Lines(fields) {
		if v, ok := strings.CutPrefix(line, "Set-Cookie: "+name+"="); ok {
			v, _, _ = strings.Cut(strings.TrimSpace(v), ";")
			return v
		}
	}
	return ""
}

func TestPinCookie(t *testing.T) {
	p := newPinned(t, withCookie)
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if !p.chooseCluster() || p.pin.ep != nil || p.pin.found != cluster.FoundNone {
		t.Fatalf("without a cookie: %+v", p.pin)
	}
	token := cookieOf(p.replied(t, 1, plainReply), "belay")
	if token == "" || p.pin.done != cluster.Minted {
		t.Fatalf("not minted: %s", p.pin.done)
	}
	for _, tt := range []struct {
		name, lines, found, forwarded string
		pinned                        bool
	}{
		{"OK alone", "Cookie: belay=" + token, "valid", "", true},
		{"OK among others", "Cookie: a=1; belay=" + token + "; b=2", "valid", "a=1; b=2", true},
		{"OK in the second line", "Cookie: a=1\r\nCookie: belay=" + token + "\r\nCookie: b=2", "valid", "a=1; b=2", true},
		{"OK behind a bad one", "Cookie: belay=x; belay=" + token, "valid", "", true},
		{"bad", "Cookie: belay=x; y=z", "invalid", "y=z", false},
		{"bad, another name", "Cookie: Belay=" + token, "none", "Belay=" + token, false},
		{"bad, too long", "Cookie: belay=" + token + strings.Repeat("A", 100), "invalid", "", false},
	} {
		p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n"+tt.lines+"\r\n\r\n")
		ok := p.chooseCluster()
		if !ok || p.pin.found.String() != tt.found || (p.pin.ep != nil) != tt.pinned || tt.pinned && p.pin.ep.ID != "b" {
			t.Errorf("%s: %s, %v", tt.name, p.pin.found, p.pin.ep)
		}
		p.hidePin()
		if got := string(p.req.Header.GetName("Cookie")); got != tt.forwarded || p.req.Header.HasName("Cookie") != (tt.forwarded != "") {
			t.Errorf("%s: the endpoint sees %q, want %q", tt.name, got, tt.forwarded)
		}
		fields := p.replied(t, 1, plainReply)
		if tt.pinned != (cookieOf(fields, "belay") == "") {
			t.Errorf("%s: reply %q", tt.name, fields)
		}
	}
	if n := p.cl.shared.Sessions.Len(); n != 4 {
		t.Errorf("%d sessions tracked, want the first and those of the three bad ones", n)
	}
}

func TestPinRepliesStayPrivate(t *testing.T) {
	p := newPinned(t, withCookie)
	for _, tt := range []struct{ method, fields, want string }{
		{"GET", "", "private"},
		{"GET", "Cache-Control: public, max-age=60\r\n", "max-age=60, private"},
		{"GET", "Cache-Control: max-age=60\r\nCache-Control: s-maxage=5, must-revalidate\r\n", "max-age=60, must-revalidate, private"},
		{"GET", "Cache-Control: no-store\r\n", "no-store"},
		{"GET", "Cache-Control: private=\"x\", max-age=1\r\n", "private=\"x\", max-age=1, private"},
		{"GET", "Cache-Control: max-age=1, Private\r\n", "max-age=1, Private"},
		{"POST", "", ""},
		{"POST", "Cache-Control: max-age=60\r\n", "max-age=60, private"},
		{"POST", "Expires: Mon, 23 Nov 2026 10:00:00 GMT\r\n", "private"},
	} {
		p.request(t, tt.method+" / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
		p.chooseCluster()
		p.replied(t, 0, "HTTP/1.1 200 OK\r\n"+tt.fields+"Content-Length: 0\r\n\r\n")
		if got := string(p.resp.Header.GetName("Cache-Control")); got != tt.want {
			t.Errorf("%s %q: %q, want %q", tt.method, tt.fields, got, tt.want)
		}
	}
}

// A header's token and a hash's cookie are one client's as well.
func TestPinOtherRepliesStayPrivate(t *testing.T) {
	for _, tables := range []string{pinTables["header"], "balance = \"maglev\"\nhash = { on = [{ cookie = \"way\", ttl = \"1h\" }] }\n"} {
		p := newPinned(t, tables)
		p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		p.chooseCluster()
		p.hint()
		p.replied(t, 0, "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\nContent-Length: 0\r\n\r\n")
		if got := string(p.resp.Header.GetName("Cache-Control")); got != "max-age=60, private" {
			t.Errorf("%s: %q", tables, got)
		}
	}
}

// What of an endpoint's Set-Cookie lines goes and stays, in their order.
func TestPinSetCookieLines(t *testing.T) {
	for _, tt := range []struct{ keys, want string }{
		{"", "a=1|Belay=4|b=2|belay"},
		{"preserve = true\n", "a=1|belay=3; Path=/|Belay=4|b=2"},
	} {
		p := newPinned(t, withCookie+tt.keys)
		p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		p.chooseCluster()
		fields := p.replied(t, 0, "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: belay=3; Path=/\r\nSet-Cookie: Belay=4\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n")
		var got []string
		for line := range strings.Lines(fields) {
			if v, ok := strings.CutPrefix(line, "Set-Cookie: "); ok {
				if v = strings.TrimSpace(v); len(v) > 60 {
					v, _, _ = strings.Cut(v, "=")
				}
				got = append(got, v)
			}
		}
		if s := strings.Join(got, "|"); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.keys, s, tt.want)
		}
	}
}

func TestQueryValue(t *testing.T) {
	for _, tt := range []struct{ query, want string }{
		{"user=7", "7"}, {"a=1&user=7&b", "7"}, {"xuser=1&user=2&user=3", "2"}, {"user", ""}, {"", ""}, {"user=&user=1", ""}, {"user=a%20b", "a%20b"},
	} {
		if got := string(queryValue([]byte(tt.query), "user")); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.query, got, tt.want)
		}
	}
}

// An exchange with a valid cookie, or a known table key, allocates nothing.
func TestPinAllocatesNothing(t *testing.T) {
	for name, tables := range pinTables {
		p, head := pinnedHead(t, tables)
		if n := testing.AllocsPerRun(200, func() { p.pinnedExchange(t, head) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

var pinTables = map[string]string{
	"cookie": withCookie,
	"header": "\n[cluster.back.persistence.header]\nname = \"X-Session\"\n",
	"table":  "\n[cluster.back.persistence.table]\nname = \"t\"\nkey = [{ cookie = \"JSESSIONID\" }]\n",
	"hash":   "balance = \"maglev\"\nhash = { on = [{ cookie = \"JSESSIONID\" }] }\n",
}

// pinnedHead is a request of a session that exists.
func pinnedHead(tb testing.TB, tables string) (*pinnedStream, string) {
	p := newPinned(tb, tables)
	const fields = "GET /a/path?x=1 HTTP/1.1\r\nHost: h\r\nUser-Agent: x\r\nCookie: _ga=GA1.2.1234567890.1234567890; JSESSIONID=0123456789ABCDEF; theme=dark"
	p.request(tb, fields+"\r\n\r\n")
	p.chooseCluster()
	reply := p.replied(tb, 2, plainReply)
	head := fields
	if c := cookieOf(reply, "belay"); c != "" {
		head += "; belay=" + c
	}
	if v := string(p.resp.Header.GetName("X-Session")); v != "" {
		head += "\r\nX-Session: " + v
	}
	return p, head + "\r\n\r\n"
}

// pinnedExchange is what persistence does for one request.
func (p *pinnedStream) pinnedExchange(tb testing.TB, head string) {
	p.request(tb, head)
	if !p.chooseCluster() {
		tb.Fatal("answered")
	}
	p.hidePin()
	h, _ := p.hint()
	p.ep = p.cl.picker.Pick(h)
	p.flags |= bodyDone
	p.pinReply()
	if p.pin.plan != nil && p.pin.done != cluster.Kept {
		tb.Fatalf("%s %s", p.pin.found, p.pin.done)
	}
}

// BenchmarkPin is what persistence adds to a request: the difference to "none".
func BenchmarkPin(b *testing.B) {
	b.Run("none", func(b *testing.B) {
		p, head := pinnedHead(b, "")
		b.ReportAllocs()
		for b.Loop() {
			p.pinnedExchange(b, head)
		}
	})
	for _, name := range []string{"cookie", "header", "table", "hash"} {
		b.Run(name, func(b *testing.B) {
			p, head := pinnedHead(b, pinTables[name])
			b.ReportAllocs()
			for b.Loop() {
				p.pinnedExchange(b, head)
			}
		})
	}
	b.Run("cookie, never seen", func(b *testing.B) { // by this worker
		p, _ := pinnedHead(b, withCookie)
		heads := make([]string, 4096)
		for i := range heads {
			_, heads[i] = p.another(b)
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			p.pinnedExchange(b, heads[i%len(heads)])
			i++
		}
	})
}

// another begins one more session.
func (p *pinnedStream) another(tb testing.TB) (string, string) {
	const fields = "GET /a/path?x=1 HTTP/1.1\r\nHost: h\r\nUser-Agent: x\r\nCookie: _ga=GA1.2.1234567890.1234567890; JSESSIONID=0123456789ABCDEF; theme=dark"
	p.request(tb, fields+"\r\n\r\n")
	p.chooseCluster()
	c := cookieOf(p.replied(tb, 2, plainReply), "belay")
	return c, fields + "; belay=" + c + "\r\n\r\n"
}
