package persistence

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

const day = 24 * 60 * 60

var (
	testEndpoint = Endpoint{ID: EndpointID("shop", "a"), Generation: 3}
	testBinding  = NewBinding("shop", "belay", "")
)

const start = uint32(1_800_000_000)

func TestTokenRoundTrip(t *testing.T) {
	r := NewRing(start)
	var tok Token
	text := r.Mint(nil, &tok, testEndpoint, 0, testBinding, start)
	if len(text) != TokenSize || strings.ContainsAny(string(text), "+/=;, \"") {
		t.Fatalf("token %q: %d characters, want %d of base64url", text, len(text), TokenSize)
	}
	first := tok.Session()
	other := r.Mint(nil, &tok, testEndpoint, 0, testBinding, start)
	if tok.Session() == first {
		t.Errorf("two sessions are %x", first)
	}
	if string(other[2:]) == string(text[2:]) {
		t.Error("two tokens of one content are alike")
	}
	var got Token
	if v := r.Open(&got, text, testBinding, Limits{}, start+5); v != Valid {
		t.Fatalf("verdict %v", v)
	}
	if got.Endpoint != testEndpoint || got.FirstSeen != start || got.LastSeen != start {
		t.Errorf("content %v %d %d", got.Endpoint, got.FirstSeen, got.LastSeen)
	}
	session := got.Session()
	text = r.Mint([]byte("x="), &tok, testEndpoint, session, testBinding, start+9)
	if v := r.Open(&got, text[2:], testBinding, Limits{}, start+9); v != Valid || got.FirstSeen != start || got.LastSeen != start+9 || got.Session() != session {
		t.Errorf("refreshed: %v %d %d", v, got.FirstSeen, got.LastSeen)
	}
}

func TestTokenVerdicts(t *testing.T) {
	r := NewRing(start)
	limits := Limits{MaxIdle: 1800, MaxAge: 43200}
	seal := func(first, last uint32) []byte {
		return r.Seal(nil, &Token{Endpoint: testEndpoint, FirstSeen: first, LastSeen: last}, testBinding)
	}
	for _, tt := range []struct {
		name        string
		first, last uint32
		limits      Limits
		want        Verdict
	}{
		{"fresh", start, start, limits, Valid},
		{"at the end of the idle time", start - 1800, start - 1800, limits, Valid},
		{"idle", start - 1801, start - 1801, limits, Idle},
		{"idle within the skew", start - 1801, start - 1801, Limits{MaxIdle: 1800, Skew: 1}, Valid},
		{"at the end of its age", start - 43200, start, limits, Valid},
		{"aged", start - 43201, start, limits, Aged},
		{"aged and idle", start - 43201, start - 4000, limits, Aged},
		{"no limits", 1, 1, Limits{}, Valid},
		{"huge limits", 1, 1, Limits{MaxIdle: 1<<32 - 1, MaxAge: 1<<32 - 1, Skew: 60}, Valid},
		{"a clock that is ahead by a day", start + day, start + day, limits, Valid},
		{"a clock that is ahead by more", start, start + day + 1, limits, Invalid},
		{"first seen in the future", start + day + 1, start, limits, Invalid},
	} {
		var tok Token
		if v := r.Open(&tok, seal(tt.first, tt.last), testBinding, tt.limits, start); v != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, v, tt.want)
		} else if (tok.Endpoint == Endpoint{}) != (v == Invalid) {
			t.Errorf("%s: %v with content %v", tt.name, v, tok.Endpoint)
		}
	}
}

func TestTokenForged(t *testing.T) {
	r := NewRing(start)
	var tok Token
	good := string(r.Mint(nil, &tok, testEndpoint, 0, testBinding, start))
	open := func(text string, b *Binding) Verdict { return r.Open(&tok, []byte(text), b, Limits{}, start) }
	for i := range good {
		c := byte('A')
		if good[i] == c {
			c = 'B'
		}
		if v := open(good[:i]+string(c)+good[i+1:], testBinding); v.Usable() || (tok.Endpoint != Endpoint{}) {
			t.Errorf("character %d changed: %v", i, v)
		}
	}
	for name, text := range map[string]string{
		"cut": good[1:], "longer": good + "A", "garbage": strings.Repeat("!", TokenSize), "line end": good[:TokenSize-1] + "\n",
		"trailing bits": good[:TokenSize-1] + "B", "address": "Cg4xMjcuMC4wLjE6OTk5Nw==",
	} {
		if v := open(text, testBinding); v != Invalid {
			t.Errorf("%s: %v", name, v)
		}
	}
	if v := open("", testBinding); v != None {
		t.Errorf("empty: %v", v)
	}
	for name, b := range map[string]*Binding{
		"cluster": NewBinding("shop2", "belay", ""), "cookie": NewBinding("shop", "belay2", ""),
		"tenant": NewBinding("shop", "belay", "a.example"), "moved border": NewBinding("shopb", "elay", ""),
	} {
		if v := open(good, b); v != Invalid {
			t.Errorf("binding to another %s: %v", name, v)
		}
	}
	if v := NewRing(start).Open(&tok, []byte(good), testBinding, Limits{}, start); v != Invalid {
		t.Errorf("another key of the same id: %v", v)
	}
}

func TestOpenFirst(t *testing.T) {
	r := NewRing(start)
	var tok Token
	limits := Limits{MaxIdle: 60}
	good := string(r.Mint(nil, &tok, testEndpoint, 0, testBinding, start))
	idle := string(r.Mint(nil, &tok, testEndpoint, 0, testBinding, start-100))
	for _, tt := range []struct {
		line string
		want Verdict
	}{
		{"", None}, {"other=1", None}, {"belay=", Invalid}, {"belay=" + strings.Repeat("x", 5000), Invalid},
		{"belay=junk; belay=" + good, Valid},
		{"belay=" + idle + "; belay=x; belay=" + good, Valid},
		{"belay=junk; belay=" + idle, Idle},
		{"belay=1; belay=2; belay=3; belay=4; belay=" + good, Invalid},
	} {
		var c Candidates
		c.Scan([]byte(tt.line), "belay", MaxValue)
		if v := r.OpenFirst(&tok, &c, testBinding, limits, start); v != tt.want {
			t.Errorf("%.60q: %v, want %v", tt.line, v, tt.want)
		} else if (tok.Endpoint == testEndpoint) != v.Usable() {
			t.Errorf("%.60q: content %v", tt.line, tok.Endpoint)
		}
		if tt.want.Usable() {
			if v := r.OpenFirst(&tok, &c, testBinding, limits, start); v != None {
				t.Errorf("%.60q: going on gives %v", tt.line, v)
			}
		}
	}
}

func TestRefresh(t *testing.T) {
	l := Limits{MaxIdle: 1000, MaxAge: 5000}
	for _, tt := range []struct {
		now  uint32
		want bool
	}{{start, false}, {start + 100, false}, {start + 101, true}, {start - 50, false}} {
		if got := l.Refresh(&Token{LastSeen: start}, tt.now); got != tt.want {
			t.Errorf("after %d: %v", int64(tt.now)-int64(start), got)
		}
	}
	if (Limits{}).Refresh(&Token{}, start) {
		t.Error("refreshed without an idle time")
	}
	for _, tt := range []struct {
		l    Limits
		age  uint32
		want uint32
	}{{l, 0, 1000}, {l, 4500, 500}, {l, 6000, 1}, {Limits{MaxAge: 7}, 0, 7}, {Limits{}, 0, 0}} {
		if got := tt.l.Remaining(start, start+tt.age); got != tt.want {
			t.Errorf("%+v at age %d: %d left, want %d", tt.l, tt.age, got, tt.want)
		}
	}
}

func TestEndpointID(t *testing.T) {
	ids := map[uint64]bool{}
	for _, p := range [][2]string{{"shop", "a"}, {"shop", "b"}, {"sho", "pa"}, {"shopa", ""}, {"", "shopa"}} {
		ids[EndpointID(p[0], p[1])] = true
	}
	if len(ids) != 5 {
		t.Errorf("%d of 5 ids", len(ids))
	}
	// Machines of several versions have to agree: SHA-256 over the lengths and
	// names, computed elsewhere, gives the same.
	if got, want := EndpointID("shop", "a"), uint64(0x25afc33b3eae71b2); got != want {
		t.Errorf("shop, a: %#x, want %#x", got, want)
	}
}

func TestTokenAllocates(t *testing.T) {
	r := NewRing(start)
	tok, c := NewToken(), &Candidates{}
	line := append([]byte("a=1; belay="), r.Mint(nil, tok, testEndpoint, 0, testBinding, start)...)
	buf := make([]byte, 0, 200)
	if n := testing.AllocsPerRun(100, func() {
		c.Reset()
		c.Scan(line, "belay", MaxValue)
		if v := r.OpenFirst(tok, c, testBinding, Limits{MaxIdle: 60}, start); v != Valid {
			t.Fatal(v)
		}
		buf, _ = Remove(buf[:0], line, "belay")
	}); n != 0 {
		t.Errorf("%v allocations to open", n)
	}
	if n := testing.AllocsPerRun(100, func() { buf = r.Mint(buf[:0], tok, testEndpoint, 0, testBinding, start) }); n != 0 {
		t.Errorf("%v allocations to mint", n)
	}
}

func TestTokenCache(t *testing.T) {
	r := NewRing(start)
	tok := NewToken()
	var texts []string
	for i := range uint32(2000) {
		e := Endpoint{ID: uint64(i), Generation: i}
		texts = append(texts, string(r.Mint(nil, tok, e, uint64(start-i)<<32, testBinding, start)))
	}
	limits := Limits{MaxIdle: 60}
	for i, text := range texts {
		for _, now := range []uint32{start, start + 1} {
			if v := r.Open(tok, []byte(text), testBinding, limits, now); v != Valid || tok.Endpoint.ID != uint64(i) || tok.FirstSeen != start-uint32(i) {
				t.Fatalf("token %d: %v %v", i, v, tok.Endpoint)
			}
		}
		if v := r.Open(tok, []byte(text), testBinding, limits, start+61); v != Idle {
			t.Fatalf("remembered and idle: %v", v)
		}
		if v := r.Open(tok, []byte(text), NewBinding("x", "y", ""), limits, start); v != Invalid {
			t.Fatalf("remembered, of another binding: %v", v)
		}
		forged := []byte(text)
		forged[60] ^= 1
		if v := r.Open(tok, forged, testBinding, limits, start); v.Usable() {
			t.Fatalf("like a remembered one: %v", v)
		}
		if i%100 == 0 {
			moved := r.Step(Rotation{Every: 1}, start+2).Step(Rotation{}, start+3)
			if v := moved.Open(tok, []byte(text), testBinding, limits, start); v != OldKey {
				t.Fatalf("remembered under another ring: %v", v)
			}
			if v := moved.Open(tok, []byte(text), testBinding, limits, start); v != OldKey {
				t.Fatalf("remembered with an old key: %v", v)
			}
			if v := NewRing(start).Open(tok, []byte(text), testBinding, limits, start); v != Invalid {
				t.Fatalf("remembered, of another keyring: %v", v)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	r := NewRing(start)
	var tok Token
	f.Add(r.Mint(nil, &tok, testEndpoint, 0, testBinding, start))
	f.Add([]byte("junk"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var tok Token
		v := r.Open(&tok, text, testBinding, Limits{}, start)
		if v == Valid && (tok.Endpoint != testEndpoint || len(text) != TokenSize) || v == OldKey {
			t.Fatalf("%q: %v %v", text, v, tok.Endpoint)
		}
		out := make([]byte, 0, len(text))
		if token, app := SplitPrefix(text); token != nil && string(token)+"~"+string(app) != string(text) {
			t.Fatalf("%q: prefix", text)
		}
		if token, app, ok := OpenEnvelope(out, text); ok && string(AppendEnvelope(nil, token, app)) != string(text) {
			t.Fatalf("%q: envelope", text)
		}
	})
}

// cpu reports the processor time of a benchmark, which other processes on the
// machine disturb less than its duration.
func cpu(b *testing.B) func() {
	b.Helper()
	read := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	begin := read()
	b.ReportAllocs()
	return func() { b.ReportMetric(float64(read()-begin)/float64(b.N), "cpu-ns/op") }
}

func BenchmarkOpen(b *testing.B) {
	r := NewRing(start)
	tok := &Token{}
	text := r.Mint(nil, tok, testEndpoint, 0, testBinding, start)
	defer cpu(b)()
	for b.Loop() {
		if r.Open(tok, text, testBinding, Limits{MaxIdle: 60}, start) != Valid {
			b.Fatal("not valid")
		}
	}
}

// BenchmarkRequest is all that a request with a valid cookie costs: scan, open,
// and hide the cookie from the server, with a token that the worker opened
// lately and with one that it did not.
func BenchmarkRequest(b *testing.B) {
	for name, tok := range map[string]*Token{"remembered": NewToken(), "first": {}} {
		b.Run(name, func(b *testing.B) {
			r := NewRing(start)
			c := &Candidates{}
			line := append([]byte("_ga=GA1.2.1234567890.1234567890; theme=dark; belay="), r.Mint(nil, tok, testEndpoint, 0, testBinding, start)...)
			buf := make([]byte, 0, 300)
			defer cpu(b)()
			for b.Loop() {
				c.Reset()
				c.Scan(line, "belay", MaxValue)
				if r.OpenFirst(tok, c, testBinding, Limits{MaxIdle: 60}, start) != Valid {
					b.Fatal("not valid")
				}
				buf, _ = Remove(buf[:0], line, "belay")
			}
		})
	}
}

func BenchmarkMint(b *testing.B) {
	r := NewRing(start)
	tok := &Token{}
	buf := make([]byte, 0, 200)
	defer cpu(b)()
	for b.Loop() {
		buf = r.Mint(buf[:0], tok, testEndpoint, 0, testBinding, start)
	}
}
