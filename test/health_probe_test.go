package test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"belay/test/harness"
)

// probed answers checks with a reply that may be changed, and says which heads came.
type probed struct {
	*harness.Backend
	reply atomic.Value // of string
	heads atomic.Value // the last one
	count atomic.Int64
}

func newProbed(t *testing.T, reply string) *probed {
	p := &probed{}
	p.reply.Store(reply)
	p.Backend = harness.NewBackend(t, func(c *harness.Peer) {
		for {
			head := c.Head()
			if head == "" {
				return
			}
			p.heads.Store(head)
			p.count.Add(1)
			if c.Send(p.reply.Load().(string)) != nil {
				return
			}
		}
	})
	return p
}

// The check asks what it is told to ask, and looks at the body.
func TestHealthCheckRequest(t *testing.T) {
	t.Parallel()
	p := newProbed(t, harness.Reply200("all is well"))
	c := newClinic(t, 2)
	c.cluster = fmt.Sprintf("health_check = { method = \"POST\", path = \"/live?deep=1\", host = \"app.example\", headers = { X-Probe = \"yes\" }, port = %d, body = \"is (well|fine)$\", interval = \"100ms\", fall = 1, rise = 1 }\n",
		harness.Port(t, p.Addr))
	for _, w := range c.patients { // the port of the check is on the address of the endpoint
		if h, _, _ := net.SplitHostPort(w.Addr); !strings.HasPrefix(p.Addr, h+":") {
			t.Skipf("backends on several addresses: %s, %s", h, p.Addr)
		}
	}
	c.open()
	harness.Eventually(t, patience, "a check", func() bool { return p.count.Load() > 0 })
	head := p.heads.Load().(string)
	want(t, head, "POST /live?deep=1 HTTP/1.1\r\n", "Host: app.example\r\n", "X-Probe: yes\r\n")
	c.becomes("p0", "healthy")
	p.reply.Store(harness.Reply200("all is well but slow"))
	if e := c.becomes("p0", "unhealthy"); !strings.Contains(e.Why, "body") {
		t.Errorf("why: %q", e.Why)
	}
	p.reply.Store(harness.Reply200("all is fine"))
	c.becomes("p0", "healthy")
	p.reply.Store("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 9\r\n\r\nit is fine")
	if e := endpointStates(t, c.d, "back")["p0"]; e.State != "healthy" {
		t.Errorf("a redirect: %+v", e)
	}
	p.reply.Store("nonsense\r\n\r\n")
	if e := c.becomes("p0", "unhealthy"); e.Why == "" {
		t.Error("no reason for what is no HTTP")
	}
}

// fall failed checks in a row take an endpoint out and rise passed ones bring it back;
// one of the other kind starts the count anew.
func TestHealthCheckCounts(t *testing.T) {
	t.Parallel()
	var script atomic.Pointer[[]int] // statuses to come; the last one stays
	set := func(list ...int) { script.Store(&list) }
	set(200)
	var asked atomic.Int64
	b := harness.NewBackend(t, func(c *harness.Peer) {
		for c.Head() != "" {
			now := script.Load()
			asked.Add(1)
			status := (*now)[0]
			if len(*now) > 1 {
				rest := (*now)[1:]
				script.CompareAndSwap(now, &rest)
			}
			if c.Send(fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status)) != nil {
				return
			}
		}
	})
	addr := harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\nroute = [{ cluster = \"back\" }]\n[cluster.back]\nendpoints = [{ id = \"a\", address = %q }, { id = \"b\", address = %q }]\n"+
		"health_check = { path = \"/h\", interval = \"100ms\", jitter = 0.0, timeout = \"2s\", rise = 4, fall = 3, port = %d }\n", addr, b.Addr, b.Addr, harness.Port(t, b.Addr)))
	// Two endpoints share the script; disabled, the second is not checked.
	if out, err := belayctl(t, d, "endpoint", "disable", "back", "b"); err != nil {
		t.Fatal(out)
	}
	state := func() string { return endpointStates(t, d, "back")["a"].State }
	changes := func() float64 {
		n, _ := d.Metric("belay_endpoint_state_changes_total", `endpoint="a"`)
		return n
	}
	settled := func(what string, n int64) {
		t.Helper()
		from := asked.Load()
		harness.Eventually(t, patience, what, func() bool { return asked.Load() > from+n })
	}
	settled("checks of a only", 5)
	set(500, 500, 200, 500, 500, 200, 500, 500, 200)
	settled("the failures", 14)
	if state() != "healthy" || changes() != 0 {
		t.Errorf("two failures in a row: %s, %v changes", state(), changes())
	}
	set(500, 500, 500, 500, 200, 200, 200, 500, 200, 200, 200, 500)
	settled("the outage", 16)
	if state() != "unhealthy" || changes() != 1 {
		t.Errorf("three failures in a row, then never four successes: %s, %v changes", state(), changes())
	}
	set(200)
	harness.Eventually(t, patience, "the return", func() bool { return state() == "healthy" })
	if changes() != 2 {
		t.Errorf("%v changes", changes())
	}
	if n, _ := d.Metric("belay_endpoint_state", `endpoint="a"`); n != 0 {
		t.Errorf("belay_endpoint_state is %v", n)
	}
	if n, _ := d.Metric("belay_endpoint_state", `endpoint="b"`); n != 4 {
		t.Errorf("belay_endpoint_state of the disabled one is %v", n)
	}
}

// Checks speak the TLS of the cluster, whose certificates they verify.
func TestHealthCheckTLSVerified(t *testing.T) {
	t.Parallel()
	a, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	good := a.Issue(harness.Leaf{Name: "good", DNS: []string{"app.example"}})
	for kind, keys := range map[string]string{"tls": "type = \"tls\"", "https": "path = \"/\", status = [\"200\"]"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cert := new(atomic.Pointer[tls.Certificate])
			cert.Store(&good.Certificate)
			addr, _, _ := tlsEcho(t, &tls.Config{SessionTicketsDisabled: true, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.Load(), nil }})
			s := &site{endpoints: []string{addr}, cluster: fmt.Sprintf("health_check = { %s, interval = \"100ms\", fall = 1, rise = 1 }\n[cluster.back.tls]\nca = %q\nsni = \"app.example\"\n", keys, a.File)}
			d := serve(t, s)
			state := func(want string) (e wardState) {
				harness.Eventually(t, patience, "e0 to be "+want, func() bool {
					e = endpointStates(t, d, "back")["e0"]
					return e.Health == want
				})
				return e
			}
			state("healthy")
			wantStatus(t, harness.Get(t, s.addr, "/", "app.example"), 200)
			other := stranger.Issue(harness.Leaf{Name: "bad", DNS: []string{"app.example"}})
			cert.Store(&other.Certificate)
			if e := state("unhealthy"); !strings.HasPrefix(e.Why, "TLS: ") {
				t.Errorf("why: %q", e.Why)
			}
			wantStatus(t, harness.Get(t, s.addr, "/", "app.example"), 503)
			late := a.Issue(harness.Leaf{Name: "late", DNS: []string{"app.example"}, To: -1})
			cert.Store(&late.Certificate)
			harness.Eventually(t, patience, "the reason to be the expiry", func() bool { return strings.Contains(endpointStates(t, d, "back")["e0"].Why, "expired") })
			cert.Store(&good.Certificate)
			state("healthy")
		})
	}
}

// What belayctl endpoint list says is what is.
func TestHealthCheckList(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 2)
	c.cluster = fastChecks
	c.open()
	c.patients[1].health.Store(599)
	c.becomes("p1", "unhealthy")
	var list []struct {
		Cluster, ID, State, Admin, Health, Why string
		Since                                  string `json:"health_since"`
	}
	if err := json.Unmarshal([]byte(c.do("endpoint", "list", "back", "--json")), &list); err != nil || len(list) != 2 {
		t.Fatalf("%v: %+v", err, list)
	}
	if e := list[1]; e.Cluster != "back" || e.ID != "p1" || e.State != "unhealthy" || e.Admin != "enabled" || e.Health != "unhealthy" || !strings.Contains(e.Why, "599") || e.Since == "" {
		t.Errorf("p1: %+v", e)
	}
	if e := list[0]; e.State != "up" && e.State != "healthy" || e.Health != "healthy" || e.Why != "" {
		t.Errorf("p0: %+v", e)
	}
	want(t, c.do("endpoint", "list"), "p0", "p1", "unhealthy", "status 599")
	want(t, c.d.WaitLine("endpoint is down"), "cluster=back", "endpoint=p1", "from=healthy", "to=unhealthy", "status 599")
	c.patients[1].health.Store(200)
	if e := c.becomes("p1", "healthy"); e.Why != "" {
		t.Errorf("a healthy endpoint is said to be bad: %q", e.Why)
	}
	want(t, c.d.WaitLine("endpoint is healthy"), "endpoint=p1", "from=unhealthy")
}

// A TCP cluster's endpoints are checked and taken out as those of HTTP are, and an
// open connection is left alone.
func TestHealthCheckOfTCPCluster(t *testing.T) {
	t.Parallel()
	s := newStickyTCP(t, 3, "health_check = { type = \"tcp\", interval = \"100ms\", fall = 1, rise = 1 }\n"+bySource).open()
	const client = "127.6.11.1"
	home := s.from(client)
	i := strings.Index("ABC", home)
	open, err := harness.TryDial(client, s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	b := make([]byte, 1)
	if _, err := io.ReadFull(open, b); err != nil || string(b) != home {
		t.Fatalf("%q, %v", b, err)
	}
	addr := s.servers[i].Addr
	s.servers[i].Refuse() // its connections stay
	id := fmt.Sprint("e", i)
	harness.Eventually(t, patience, id+" to be down", func() bool { return endpointStates(t, s.d, "back")[id].State == "unhealthy" })
	for n := range 6 {
		if got := s.from(fmt.Sprintf("127.6.11.%d", n+10)); got == home || got == "" {
			t.Errorf("a new client is on %q; %s is down", got, home)
		}
	}
	moved := s.from(client)
	if moved == home || moved == "" {
		t.Errorf("the session of the endpoint that is down is on %q", moved)
	}
	harness.NewBackendAt(t, addr, greet(home))
	harness.Eventually(t, patience, id+" to be up", func() bool { return endpointStates(t, s.d, "back")[id].State == "healthy" })
	if got := s.from(client); got != moved {
		t.Errorf("redispatched to %s, and then on %s", moved, got)
	}
	seen := map[string]bool{}
	for n := range 12 {
		seen[s.from(fmt.Sprintf("127.6.11.%d", n+30))] = true
	}
	if !seen[home] {
		t.Errorf("new clients are on %v only", seen)
	}
}
