package httpproxy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"belay/internal/cluster"
	"belay/internal/persistence"
)

// What the endpoint sets and what the client brings back is one key, in quotes or not.
func TestPinLearnsQuotedCookie(t *testing.T) {
	p := newPinned(t, "\n[cluster.back.persistence.table]\nname = \"t\"\nkey = [{ cookie = \"SID\" }]\nlearn = { cookie = \"SID\" }\n")
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	p.chooseCluster()
	p.replied(t, 1, "HTTP/1.1 200 OK\r\nSet-Cookie: SID=\"abc\"; Path=/\r\nContent-Length: 0\r\n\r\n")
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\nCookie: SID=\"abc\"\r\n\r\n")
	p.chooseCluster()
	if p.pin.ep == nil || p.pin.ep.ID != "b" {
		t.Errorf("found %s", p.pin.found)
	}
}

// detourTo plays a request whose session is on endpoint b, that is away, at c.
func (p *pinnedStream) detourTo(t *testing.T, head, reply string) string {
	t.Helper()
	p.request(t, head)
	p.chooseCluster()
	if p.pin.ep == nil || p.pin.ep.ID != "b" || !p.pin.lost {
		t.Fatalf("not pinned to b, or b is there: %+v", p.pin)
	}
	p.hidePin()
	return p.replied(t, 2, reply)
}

// A session that the endpoint of a detour begins is on that endpoint.
func TestPinDetourToNewSession(t *testing.T) {
	const detour = "\n[cluster.back.persistence]\npolicy = \"detour\"\n"
	const sets = "HTTP/1.1 200 OK\r\nSet-Cookie: SID=%; Path=/\r\nContent-Length: 0\r\n\r\n"
	for name, mode := range map[string]string{
		"learn":    "[cluster.back.persistence.table]\nname = \"t\"\nkey = [{ cookie = \"SID\" }]\nlearn = { cookie = \"SID\" }\n",
		"prefix":   "[cluster.back.persistence.cookie]\nname = \"SID\"\nmode = \"prefix\"\n",
		"envelope": "[cluster.back.persistence.cookie]\nname = \"SID\"\nmode = \"envelope\"\n",
	} {
		p := newPinned(t, detour+mode)
		p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		p.chooseCluster()
		old := cookieOf(p.replied(t, 1, strings.Replace(sets, "%", "one", 1)), "SID")
		b := p.cl.shared.Endpoints[1]
		b.SetHealth(cluster.HealthBad, "x")
		fields := p.detourTo(t, "GET / HTTP/1.1\r\nHost: h\r\nCookie: SID="+old+"\r\n\r\n", strings.Replace(sets, "%", "two", 1))
		b.SetHealth(cluster.HealthGood, "")
		for cookie, want := range map[string]string{old: "b", cookieOf(fields, "SID"): "c"} {
			p.request(t, "GET / HTTP/1.1\r\nHost: h\r\nCookie: SID="+cookie+"\r\n\r\n")
			p.chooseCluster()
			if p.pin.ep == nil || p.pin.ep.ID != want {
				t.Errorf("%s: %s leads to %v, want %s", name, cookie, p.pin.ep, want)
			}
		}
	}
}

// An endpoint's cookie or header of belay's name does not pass in a detour either: it
// would be the end of the session that is kept.
func TestPinDetourKeepsTheCookie(t *testing.T) {
	p := newPinned(t, "\n[cluster.back.persistence]\npolicy = \"detour\"\ncookie = { name = \"belay\" }\nheader = { name = \"X-Session\" }\n")
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	p.chooseCluster()
	token := cookieOf(p.replied(t, 1, plainReply), "belay")
	p.cl.shared.Endpoints[1].SetHealth(cluster.HealthBad, "x")
	fields := p.detourTo(t, "GET / HTTP/1.1\r\nHost: h\r\nCookie: belay="+token+"\r\n\r\n",
		"HTTP/1.1 200 OK\r\nSet-Cookie: belay=x\r\nX-Session: y\r\nContent-Length: 0\r\n\r\n")
	if strings.Contains(fields, "belay=") || strings.Contains(fields, "X-Session") {
		t.Error(fields)
	}
}

// Clusters of one route may know their sessions by different keys.
func TestPinWeightedKeys(t *testing.T) {
	p := newRouted(t, `
[listener.web]
address = "127.0.0.1:1"
route = [{ clusters = [{ cluster = "one", weight = 1 }, { cluster = "two", weight = 0 }] }]
[table.t]
[table.u]
[cluster.one]
endpoints = [{ id = "a", address = "127.0.0.1:2" }]
[cluster.one.persistence.table]
name = "t"
key = [{ header = "X-One" }]
[cluster.two]
endpoints = [{ id = "b", address = "127.0.0.1:3" }]
[cluster.two.persistence.table]
name = "u"
key = [{ header = "X-Two" }]
`)
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nX-Two: 2\r\n\r\n")
	p.chooseCluster()
	p.replied(t, 0, plainReply)
	if _, ok := p.tables["t"].Peek([]byte("1"), p.w.unix()); !ok || p.tables["t"].Len() != 1 {
		t.Error("the table of cluster one does not have the key of cluster one")
	}
}

// A session whose cluster has nobody left goes to one that has room for the request, and
// to the endpoint there that the request's hash chooses.
func TestPinOtherCluster(t *testing.T) {
	p := newRouted(t, `
[listener.web]
address = "127.0.0.1:1"
route = [{ clusters = [{ cluster = "one", weight = 1 }, { cluster = "two", weight = 1 }] }]
[cluster.one]
endpoints = [{ id = "a", address = "127.0.0.1:2" }]
persistence.cookie.name = "belay"
[cluster.two]
endpoints = [{ id = "b", address = "127.0.0.1:3" }, { id = "c", address = "127.0.0.1:4" }, { id = "d", address = "127.0.0.1:5" }]
max_requests = 1
balance = "maglev"
hash.on = [{ header = "X-User" }]
persistence.cookie.name = "belay"
`)
	one, two := p.w.clusters[0].shared, p.w.clusters[1].shared
	var token string
	for p.cl == nil || p.cl.shared != one {
		p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		p.chooseCluster()
		token = cookieOf(p.replied(t, 0, plainReply), "belay")
	}
	sessions := one.Sessions.Len()
	one.Endpoints[0].SetAdmin(cluster.Disable, time.Time{})
	ask := func() {
		p.request(t, "GET / HTTP/1.1\r\nHost: h\r\nX-User: u\r\nCookie: belay="+token+"\r\n\r\n")
		if !p.chooseCluster() || p.pin.found != cluster.FoundDrained {
			t.Fatalf("found %s", p.pin.found)
		}
		p.choose(cluster.Hint{})
	}
	two.Active.Add(1)
	if ask(); p.ep != nil || two.Active.Load() != 1 || one.Sessions.Len() != sessions {
		t.Errorf("a full cluster took the request: %v, %d", p.ep, two.Active.Load())
	}
	two.Active.Add(-1)
	var home *cluster.Endpoint
	for range 20 {
		ask()
		if p.ep == nil || p.cl.shared != two || two.Active.Load() != 1 {
			t.Fatalf("%v, %d requests under way", p.ep, two.Active.Load())
		}
		if home == nil {
			home = p.ep
		}
		if p.ep != home {
			t.Fatalf("the hash leads to %s and to %s", home.ID, p.ep.ID)
		}
		p.leaveCluster()
	}
	if n := two.Active.Load(); n != 0 || one.Sessions.Len() != sessions-1 {
		t.Errorf("%d requests under way, %d sessions, were %d", n, one.Sessions.Len(), sessions)
	}
}

// What a request shared ends with the requests that were under way.
func TestPinSharedIsForgotten(t *testing.T) {
	p := newPinned(t, withCookie)
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	p.chooseCluster()
	p.c.n = p.c.r + 1 // another is under way
	token := cookieOf(p.replied(t, 1, plainReply), "belay")
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\nCookie: belay="+token+"\r\n\r\n")
	p.chooseCluster()
	p.c.n = p.c.r
	p.replied(t, 1, plainReply)
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	p.chooseCluster()
	if p.pin.ep != nil {
		t.Error("a client that comes later shares the session of one before")
	}
}

// The endpoint sends its header when it likes, perhaps once: its session does not end
// while the client is there.
func TestPinHeaderEnvelopeStays(t *testing.T) {
	p := newPinned(t, "\n[cluster.back.persistence.header]\nname = \"X-Session\"\nmode = \"envelope\"\n")
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	p.chooseCluster()
	p.replied(t, 1, "HTTP/1.1 200 OK\r\nX-Session: 7\r\nContent-Length: 0\r\n\r\n")
	v := string(p.resp.Header.GetName("X-Session"))
	p.w.clock, p.w.clockAt = p.w.unix()+3600, p.w.loop.Now() // an hour later
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\nX-Session: "+v+"\r\n\r\n")
	if p.chooseCluster(); p.pin.ep == nil || p.pin.ep.ID != "b" {
		t.Errorf("found %s", p.pin.found)
	}
}

// A retry does not go back to the endpoint that failed because a source's requests
// share a choice.
func TestPinClaimLeavesWhatFailed(t *testing.T) {
	p := newPinned(t, "\n[cluster.back.persistence]\nfirst_request_window = \"60s\"\ncookie = { name = \"belay\" }\n")
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	p.client = netip.MustParseAddr("10.0.0.1")
	p.chooseCluster()
	for range 4 {
		h, _ := p.hint()
		p.choose(h)
		if p.ep == h.Avoid {
			t.Fatalf("a retry goes to %s again", p.ep.ID)
		}
	}
}

// A cookie that a neighbour domain puts before the application's does not end a
// session that a table knows.
func TestPinTableTossedCookie(t *testing.T) {
	p := newPinned(t, pinTables["table"])
	p.request(t, "GET / HTTP/1.1\r\nHost: h\r\nCookie: JSESSIONID=mine\r\n\r\n")
	p.chooseCluster()
	p.replied(t, 1, plainReply)
	for _, lines := range []string{"Cookie: JSESSIONID=tossed; JSESSIONID=mine", "Cookie: JSESSIONID=tossed\r\nCookie: JSESSIONID=mine"} {
		p.request(t, "GET / HTTP/1.1\r\nHost: h\r\n"+lines+"\r\n\r\n")
		if p.chooseCluster(); p.pin.ep == nil || p.pin.ep.ID != "b" {
			t.Errorf("%s: found %s", lines, p.pin.found)
		}
		p.replied(t, 1, plainReply)
		if string(p.pin.key) != "mine" {
			t.Errorf("%s: the key is %s", lines, p.pin.key)
		}
	}
}

// Long keys that begin alike are two keys, learned ones too, and no allocation.
func TestPinLongKeys(t *testing.T) {
	p := newPinned(t, "\n[cluster.back.persistence.table]\nname = \"t\"\nkey = [{ header = \"X-Token\" }]\nlearn = { header = \"X-Token\" }\n")
	long := strings.Repeat("k", persistence.MaxKey)
	ask := func(token string) {
		p.request(t, "GET / HTTP/1.1\r\nHost: h\r\nX-Token: "+token+"\r\n\r\n")
		p.chooseCluster()
	}
	for i, token := range []string{long + "a", long + "b", long} {
		if ask(token); p.pin.ep != nil {
			t.Errorf("token %d is another's session: %s", i, p.pin.ep.ID)
		}
		p.replied(t, i%2, plainReply[:len(plainReply)-2]+"X-Token: "+token+"\r\n\r\n")
	}
	for i, token := range []string{long + "a", long + "b", long} {
		if ask(token); p.pin.ep == nil || p.pin.ep.ID != []string{"a", "b", "a"}[i] {
			t.Errorf("token %d: %v", i, p.pin.ep)
		}
	}
	head := "GET / HTTP/1.1\r\nHost: h\r\nX-Token: " + long + "a\r\n\r\n"
	if n := testing.AllocsPerRun(100, func() { p.pinnedExchange(t, head) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
