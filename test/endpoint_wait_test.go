package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// ctl starts belayctl; the returned function waits for its end.
func (c *clinic) ctl(args ...string) (end func() (string, error)) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	c.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, harness.Binary(c.t, "belayctl", false), append([]string{"--socket", c.d.Socket}, args...)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return func() (string, error) {
		err := cmd.Wait()
		return said.String(), err
	}
}

// A wait for a drain ends at its deadline though there are sessions, over a hot
// restart too; one that is given up or overtaken fails.
func TestEndpointDrainWait(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = "[cluster.back.persistence.cookie]\nname = \"SRV\"\n"
	c.open()
	c.sessionOn("p0")
	b := c.sessionOn("p1")
	if out, err := belayctl(t, c.d, "endpoint", "drain", "back", "p0", "--wait=1s"); err == nil || !strings.Contains(out, "1 session") && !strings.Contains(out, "sessions") {
		t.Errorf("a wait that is too short: %v %s", err, out)
	}
	overtaken := c.ctl("endpoint", "drain", "back", "p0", "--wait")
	harness.Eventually(t, patience, "p0 to drain", func() bool { return endpointStates(t, c.d, "back")["p0"].State == "draining" })
	began := time.Now()
	until := c.ctl("endpoint", "drain", "back", "p1", "--deadline", "5s", "--wait")
	harness.Eventually(t, patience, "p1 to drain", func() bool { return endpointStates(t, c.d, "back")["p1"].State == "draining" })
	c.d.HotRestart()
	if got := c.visit(b, "/"); got != "p1" && time.Since(began) < 4*time.Second {
		t.Errorf("before the deadline a session is on %s", got)
	}
	c.do("endpoint", "enable", "back", "p0")
	if out, err := overtaken(); err == nil || !strings.Contains(out, "enabled") {
		t.Errorf("a wait for a drain that was taken back: %v %s", err, out)
	}
	out, err := until()
	if took := time.Since(began); err != nil || !strings.Contains(out, "back/p1 is drained") || took < 4500*time.Millisecond {
		t.Errorf("the deadline was 5s: %v after %s\n%s", err, took, out)
	}
	c.only("p0", "p2")
	if got := c.visit(b, "/after"); got == "p1" {
		t.Error("after the deadline the session is there yet")
	}
	if r := c.d.WaitPath("/after"); r.Str("persistence") != "drained" || r.Str("persistence_outcome") != "moved" {
		t.Errorf("the log says %v", r)
	}
}

// belayctl says how many sessions lead to an endpoint, each counted once however many
// requests it makes, by cookie and by table, and hot restarts do not lose count.
func TestEndpointSessionCount(t *testing.T) {
	t.Parallel()
	for kind, mode := range map[string]string{
		"cookie": "[cluster.back.persistence.cookie]\nname = \"SRV\"\n",
		"table":  "[cluster.back.persistence.table]\nname = \"users\"\nkey = [{ header = \"X-User\" }]\n[table.users]\n",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, 3)
			c.cluster = mode
			c.open()
			const users = 12
			on := map[string]int{}
			browsers := make([]*harness.Browser, users)
			for i := range users {
				browsers[i] = &harness.Browser{Addr: c.addr}
				name := fmt.Sprint("X-User: u", i)
				home := browsers[i].MustGet(t, "/", name).Backend()
				on[home]++
				for range 2 {
					browsers[i].MustGet(t, "/", name)
				}
			}
			counts := func(when string) {
				t.Helper()
				var all map[string]wardState
				harness.Eventually(t, patience, when+": the count", func() bool {
					all = endpointStates(t, c.d, "back")
					return all["p0"].Sessions == on["p0"] && all["p1"].Sessions == on["p1"] && all["p2"].Sessions == on["p2"]
				})
			}
			counts("at once")
			c.d.HotRestart()
			counts("after a hot restart")
			out := c.do("endpoint", "drain", "back", "p1")
			want(t, out, fmt.Sprintf("%d session", on["p1"]), "endpoint enable back p1")
			for i, b := range browsers { // the sessions of p1 are where they were
				b.MustGet(t, "/", fmt.Sprint("X-User: u", i))
			}
			counts("while p1 drains")
			c.do("endpoint", "disable", "back", "p1")
			on["p0"], on["p1"], on["p2"] = 0, 0, 0
			for i, b := range browsers {
				on[b.MustGet(t, "/", fmt.Sprint("X-User: u", i)).Backend()]++
			}
			if on["p1"] != 0 {
				t.Errorf("%d sessions on an endpoint that is disabled", on["p1"])
			}
			if kind == "table" { // a cookie that was replaced may come back
				counts("after p1 was disabled")
			}
		})
	}
}

// A request that is under way when its endpoint is disabled or drained gets its reply.
func TestEndpointDisableUnderWay(t *testing.T) {
	t.Parallel()
	for _, wish := range []string{"drain", "disable"} {
		t.Run(wish, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, 2)
			c.open()
			var conns []*harness.Conn
			for range 4 {
				k := harness.Dial(t, c.addr)
				k.Send(harness.Request("GET", "/held", "h"))
				conns = append(conns, k)
			}
			held := func() int64 { return c.patients[0].held.Load() + c.patients[1].held.Load() }
			harness.Eventually(t, patience, "requests under way", func() bool { return held() == 4 && c.patients[0].held.Load() > 0 })
			c.do("endpoint", wish, "back", "p0")
			c.only("p1")
			for _, p := range c.patients {
				close(p.gate)
			}
			for _, k := range conns {
				wantStatus(t, k.Reply("GET"), 200)
			}
			c.only("p1")
		})
	}
}

// A disabled endpoint is not even checked, and while it drains its health counts: its
// sessions move when it dies.
func TestEndpointDrainAndHealth(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = fastChecks + "[cluster.back.persistence.cookie]\nname = \"SRV\"\n"
	c.open()
	b := c.sessionOn("p0")
	c.do("endpoint", "drain", "back", "p0")
	c.patients[0].health.Store(500)
	c.becomes("p0", "unhealthy")
	if got := c.visit(b, "/dead"); got == "p0" {
		t.Error("the session of an endpoint that drains and is down is there yet")
	}
	if r := c.d.WaitPath("/dead"); r.Str("persistence_outcome") != "moved" {
		t.Errorf("the log says %v", r)
	}
	c.patients[0].health.Store(200)
	c.becomes("p0", "draining")
	c.only("p1", "p2")
	c.do("endpoint", "disable", "back", "p1")
	checks := c.patients[1].checks.Load()
	others := c.patients[2].checks.Load()
	harness.Eventually(t, patience, "checks of p2", func() bool { return c.patients[2].checks.Load() > others+5 })
	if n := c.patients[1].checks.Load(); n > checks+1 {
		t.Errorf("a disabled endpoint was checked %d times", n-checks)
	}
	c.do("endpoint", "disable", "back", "p0")
	c.do("endpoint", "disable", "back", "p2")
	r := harness.Get(t, c.addr, "/none", "h")
	wantStatus(t, r, 503)
	if got := c.d.WaitPath("/none").Str("reason"); got != "no-endpoint" {
		t.Errorf("reason %q", got)
	}
	c.do("endpoint", "enable", "back", "p1")
	c.only("p1")
}

// TCP clients whose session is on an endpoint that drains come back to it, others do
// not, and open connections are left alone; disabled, it gets nothing.
func TestEndpointDrainTCP(t *testing.T) {
	t.Parallel()
	s := newStickyTCP(t, 3, bySource).open()
	do := func(args ...string) {
		t.Helper()
		if out, err := belayctl(t, s.d, args...); err != nil {
			t.Fatalf("%v: %v %s", args, err, out)
		}
	}
	const client = "127.6.12.1"
	home := s.from(client)
	id := fmt.Sprint("e", strings.Index("ABC", home))
	open := harness.DialFrom(t, client, s.addr)
	if got := open.ReadN(1); got != home {
		t.Fatalf("on %s, then on %s", home, got)
	}
	do("endpoint", "drain", "back", id)
	for n := range 9 {
		if got := s.from(fmt.Sprintf("127.6.12.%d", n+10)); got == home || got == "" {
			t.Errorf("a new client is on %q, which drains", got)
		}
	}
	if got := s.from(client); got != home {
		t.Errorf("the session of %s is on %s", home, got)
	}
	s.d.HotRestart()
	if got := s.from(client); got != home {
		t.Errorf("after a hot restart the session of %s is on %s", home, got)
	}
	do("endpoint", "disable", "back", id)
	moved := s.from(client)
	if moved == home || moved == "" {
		t.Errorf("the session of an endpoint that is disabled is on %q", moved)
	}
	_ = open.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := open.Read(make([]byte, 1)); err == nil || !err.(net.Error).Timeout() {
		t.Errorf("the open connection: %v", err)
	}
	do("endpoint", "enable", "back", id)
	if got := s.from(client); got != moved {
		t.Errorf("moved to %s, and then on %s", moved, got)
	}
}
