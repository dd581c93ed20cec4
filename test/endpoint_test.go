package test

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

const shortSessions = "[cluster.back.persistence.cookie]\nname = \"SRV\"\nmax_idle = \"2s\"\n"

// visit is a request of a browser; it returns who answered.
func (c *clinic) visit(b *harness.Browser, path string) string {
	c.t.Helper()
	return b.MustGet(c.t, path).Backend()
}

// sessionOn is a browser whose session is on an endpoint.
func (c *clinic) sessionOn(id string) *harness.Browser {
	c.t.Helper()
	for range 60 {
		b := &harness.Browser{Addr: c.addr}
		if c.visit(b, "/") == id {
			return b
		}
	}
	c.t.Fatalf("60 sessions, and none on %s", id)
	return nil
}

// A drained endpoint keeps its sessions and gets no new one; the drain ends when none
// is left, and belayctl waits for that.
func TestEndpointDrain(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = shortSessions
	c.open()
	b := c.sessionOn("p1")
	if e := endpointStates(t, c.d, "back")["p1"]; e.Sessions == 0 {
		t.Errorf("p1 has a session: %+v", e)
	}
	out := c.do("endpoint", "drain", "back", "p1")
	if !strings.Contains(out, "draining") || !strings.Contains(out, "session") {
		t.Errorf("drain says %q", out)
	}
	c.only("p0", "p2")
	for range 3 {
		if got := c.visit(b, "/"); got != "p1" {
			t.Fatalf("a session of p1 is on %s", got)
		}
	}
	wait := exec.Command(harness.Binary(t, "belayctl", false), "--socket", c.d.Socket, "endpoint", "drain", "back", "p1", "--wait")
	var said bytes.Buffer
	wait.Stdout, wait.Stderr = &said, &said
	began := time.Now()
	if err := wait.Run(); err != nil {
		t.Fatalf("drain --wait: %v\n%s", err, said.String())
	}
	if !strings.Contains(said.String(), "drained") || time.Since(began) > 15*time.Second {
		t.Errorf("after %s: %s", time.Since(began), said.String())
	}
	if e := endpointStates(t, c.d, "back")["p1"]; e.State != "disabled" || !e.Ended {
		t.Errorf("when the drain is over: %+v", e)
	}
	c.do("endpoint", "enable", "back", "p1")
	c.becomes("p1", "healthy")
	c.only("p0", "p1", "p2")
}

// At its deadline a drain ends though sessions are left; these move and the log says
// why.
func TestEndpointDrainDeadline(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 2)
	c.cluster = "[cluster.back.persistence.cookie]\nname = \"SRV\"\n"
	c.open()
	b := c.sessionOn("p0")
	c.do("endpoint", "drain", "back", "p0", "--deadline", "1s")
	if got := c.visit(b, "/before"); got != "p0" {
		t.Errorf("before the deadline: %s", got)
	}
	c.becomes("p0", "disabled")
	if got := c.visit(b, "/after"); got != "p1" {
		t.Errorf("after the deadline: %s", got)
	}
	if r := c.d.WaitPath("/after"); r.Str("persistence") != "drained" || r.Str("persistence_outcome") != "moved" {
		t.Errorf("the log says %s, %s", r.Str("persistence"), r.Str("persistence_outcome"))
	}
	if got := c.visit(b, "/then"); got != "p1" {
		t.Errorf("after it moved: %s", got)
	}
}

// What the operator wants outlives hot restarts, a deadline too.
func TestEndpointOverHotRestart(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 4)
	c.cluster = "[cluster.back.persistence.cookie]\nname = \"SRV\"\n"
	c.open()
	b := c.sessionOn("p1")
	c.do("endpoint", "disable", "back", "p0")
	c.do("endpoint", "drain", "back", "p1")
	c.do("endpoint", "drain", "back", "p2", "--deadline", "4s")
	for range 2 {
		c.d.HotRestart()
		all := endpointStates(t, c.d, "back")
		if all["p0"].State != "disabled" || all["p1"].State != "draining" {
			t.Errorf("after a hot restart: %+v", all)
		}
		if got := c.visit(b, "/"); got != "p1" {
			t.Errorf("a session of p1 is on %s", got)
		}
		c.only("p3")
	}
	if all := endpointStates(t, c.d, "back"); all["p1"].Sessions == 0 {
		t.Errorf("the session is not counted any more: %+v", all["p1"])
	}
	c.becomes("p2", "disabled")
	for _, id := range []string{"p0", "p1", "p2"} {
		c.do("endpoint", "enable", "back", id)
	}
	c.d.HotRestart()
	c.only("p0", "p1", "p2", "p3")
}

// Wrong names are told, and nothing changes.
func TestEndpointNames(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 2).open()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"endpoint", "drain", "bakc", "p0"}, "back"},
		{[]string{"endpoint", "drain", "back", "p9"}, "p0"},
		{[]string{"endpoint", "drain", "back", "p0", "--deadline", "soon"}, "soon"},
		{[]string{"table", "show", "t"}, "table"},
	} {
		if out, err := belayctl(t, c.d, tt.args...); err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("%v: %v %q", tt.args, err, out)
		}
	}
	c.only("p0", "p1")
}

// Operators see and change where a key's session is.
func TestTableCommands(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = "[cluster.back.persistence.table]\nname = \"users\"\nkey = [{ header = \"X-User\" }]\n[table.users]\nsize = 1000\n"
	c.open()
	at := func(user string) string {
		t.Helper()
		return harness.Get(t, c.addr, "/", "h", "X-User: "+user).Header.Get("X-Backend")
	}
	home := at("anna")
	for range 4 {
		if got := at("anna"); got != home {
			t.Fatalf("anna went from %s to %s", home, got)
		}
	}
	if out := c.do("table", "show", "users"); !strings.Contains(out, "anna") || !strings.Contains(out, home) {
		t.Errorf("show: %s", out)
	}
	for _, p := range c.wards() {
		c.do("table", "set", "users", "anna", "back/"+p)
		if got := at("anna"); got != p {
			t.Errorf("set to %s, served by %s", p, got)
		}
	}
	for i := range 5 {
		at(fmt.Sprint("user", i))
	}
	c.do("table", "clear", "users", "--key", "anna")
	if out := c.do("table", "show", "users", "--key", "anna"); strings.Contains(out, "anna") {
		t.Errorf("cleared, and shown: %s", out)
	}
	if out, err := belayctl(t, c.d, "table", "clear", "users"); err == nil {
		t.Errorf("clear without a choice: %s", out)
	}
	c.do("table", "clear", "users", "--all")
	if out := c.do("table", "show", "users"); strings.Contains(out, "user1") {
		t.Errorf("all cleared, and shown: %s", out)
	}
}

func (c *clinic) wards() (ids []string) {
	for _, p := range c.patients {
		ids = append(ids, p.id)
	}
	return ids
}
