package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"belay/test/harness"
)

// A detour leaves the client's pin alone, whatever the server says that stands in:
// its own cookie or header of the name does not reach the client.
func TestPersistDetourKeepsThePin(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2)
	s.policy = "policy = \"detour\""
	s.modes = "[cluster.back.persistence.cookie]\nname = \"SRV\"\n[cluster.back.persistence.header]\nname = \"X-Pin\"\n"
	s.open()
	b := s.pinned("e1")
	addr, jar := s.apps["e1"].Addr, b.Cookie("SRV")
	s.apps["e1"].Stop()
	a := s.told(b, "down", "detoured", "Answer-With: Set-Cookie: SRV=of-the-server; Path=/", "Answer-With: Set-Cookie: app=1", "Answer-With: X-Pin: of-the-server")
	if a.Backend() != "e0" || b.Cookie("SRV") != jar || a.Header.Get("X-Pin") != "" || len(a.Cookies("app")) != 1 {
		t.Errorf("on %s: the client is told %q, X-Pin %q", a.Backend(), a.Header.Values("Set-Cookie"), a.Header.Get("X-Pin"))
	}
	s.apps["e1"] = harness.NewAppAt(t, "e1", addr)
	b.Jar = []string{"SRV=" + jar}
	if a := s.visit(b); a.Backend() != "e1" {
		t.Errorf("back on %s", a.Backend())
	}
}

// first_request_window does not tie a source to a server that cannot be reached: the
// next request of it chooses again.
func TestPersistWindowForgetsTheDead(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.policy, s.more = "first_request_window = \"9s\"", oneWorker
	s.open()
	s.apps["e1"].Stop()
	met := 0
	for i := range 9 {
		b := s.browser()
		b.Source = fmt.Sprintf("127.5.%d.1", i+1)
		if a := b.MustGet(t, newPath()); a.Status == http.StatusOK {
			continue
		}
		met++
		if a := b.MustGet(t, newPath()); a.Status != http.StatusOK {
			t.Errorf("source %d: status %d once more", i, a.Status)
		}
	}
	if met == 0 {
		t.Error("nobody met the server that is away")
	}
}

// Expect: 100-continue from a client whose server is away: the one that takes the
// session says 100 and gets the body.
func TestPersistRedispatchExpecting(t *testing.T) {
	t.Parallel()
	s := newShop(t, 0)
	for _, id := range []string{"a", "b"} {
		s.members = append(s.members, member{id: id, addr: harness.NewEcho(t, id).Addr, weight: 1})
	}
	dead := harness.NewApp(t, "dead")
	s.members = append(s.members, member{id: "dead", addr: dead.Addr, weight: 1})
	s.open()
	b := s.pinned("dead")
	dead.Stop()
	c := harness.Dial(t, s.bind)
	c.Send(harness.Request("POST", newPath(), "a", "Cookie: "+strings.Join(b.Jar, "; "), "Content-Length: 4", "Expect: 100-continue"))
	if r := c.AnyReply("POST"); r.Status != http.StatusContinue {
		t.Fatalf("status %d, want 100", r.Status)
	}
	c.Send("body")
	r := c.Reply("POST")
	if r.Status != 200 || !strings.HasSuffix(r.Body, "\r\n\r\nbody") || len(r.Header.Values("Set-Cookie")) != 1 {
		t.Errorf("status %d, cookies %q, %q", r.Status, r.Header.Values("Set-Cookie"), r.Body)
	}
}
