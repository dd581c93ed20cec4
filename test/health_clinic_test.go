package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"belay/test/harness"
)

// ward is a backend whose health and whose replies a test decides.
type ward struct {
	*harness.Backend
	id     string
	health atomic.Int64 // status of /health
	answer atomic.Int64 // status of all else; 0: the end of the connection
	checks atomic.Int64 // of /health
	asked  atomic.Int64 // of all else
	held   atomic.Int64
	gate   chan struct{} // /held waits until it is closed
}

func newWard(t *testing.T, id string) *ward {
	p := &ward{id: id, gate: make(chan struct{})}
	p.health.Store(200)
	p.answer.Store(200)
	p.Backend = harness.NewBackend(t, p.serve)
	return p
}

func (p *ward) serve(c *harness.Peer) {
	for {
		head := c.Head()
		if head == "" {
			return
		}
		status := p.answer.Load()
		switch {
		case strings.HasPrefix(head, "GET /health"):
			p.checks.Add(1)
			status = p.health.Load()
		default:
			p.asked.Add(1)
			if strings.HasPrefix(head, "GET /held") {
				p.held.Add(1)
				<-p.gate
				p.held.Add(-1)
			}
		}
		if status == 0 || c.Send(fmt.Sprintf("HTTP/1.1 %d X\r\nX-Backend: %s\r\nContent-Length: 3\r\n\r\nok\n", status, p.id)) != nil {
			return
		}
	}
}

// clinic is a belay before patients p0, p1 …
type clinic struct {
	t        *testing.T
	d        *harness.Daemon
	addr     string
	patients []*ward
	extra    []string // further keys of each endpoint
	cluster  string   // keys and tables of the cluster
}

func newClinic(t *testing.T, n int) *clinic {
	t.Helper()
	c := &clinic{t: t, addr: harness.Addr(t), extra: make([]string, n)}
	for i := range n {
		c.patients = append(c.patients, newWard(t, fmt.Sprint("p", i)))
	}
	return c
}

func (c *clinic) open() *clinic {
	c.t.Helper()
	var list []string
	for i, p := range c.patients {
		list = append(list, fmt.Sprintf("{ id = %q, address = %q%s }", p.id, p.Addr, c.extra[i]))
	}
	c.d = harness.Start(c.t, fmt.Sprintf("[listener.web]\naddress = %q\nroute = [{ cluster = \"back\" }]\n[persistence]\ndirectory = %q\n%s\n[cluster.back]\nendpoints = [%s]\n%s\n",
		c.addr, harness.TempDir(c.t), hotRestart, strings.Join(list, ", "), c.cluster))
	return c
}

// spread is how many of n requests each ward answered; "" is belay itself.
func (c *clinic) spread(n int) map[string]int {
	c.t.Helper()
	got := map[string]int{}
	k := harness.Dial(c.t, c.addr)
	for range n {
		got[k.Do("GET", "/", "h").Header.Get("X-Backend")]++
	}
	return got
}

// only wants the requests to go to these patients and to no other.
func (c *clinic) only(ids ...string) {
	c.t.Helper()
	got := c.spread(8 * len(c.patients))
	want := map[string]bool{}
	for _, id := range ids {
		want[id] = true
		if got[id] == 0 {
			c.t.Errorf("nothing for %s: %v", id, got)
		}
	}
	for id := range got {
		if !want[id] {
			c.t.Errorf("requests for %q: %v, want only %v", id, got, ids)
		}
	}
}

// endpoint is what belayctl tells of one.
type wardState struct {
	ID       string  `json:"id"`
	State    string  `json:"state"`
	Admin    string  `json:"admin"`
	Health   string  `json:"health"`
	Why      string  `json:"why"`
	Share    float64 `json:"share"`
	Sessions int     `json:"sessions"`
	Ended    bool    `json:"drain_ended"`
}

func endpointStates(t *testing.T, d *harness.Daemon, cluster string) map[string]wardState {
	t.Helper()
	out, err := belayctl(t, d, "clusters", cluster, "--json")
	if err != nil {
		t.Fatalf("belayctl clusters: %v\n%s", err, out)
	}
	var list []struct {
		Name      string
		Endpoints []wardState
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Fatalf("belayctl clusters: %v\n%s", err, out)
	}
	all := map[string]wardState{}
	for _, e := range list[0].Endpoints {
		all[e.ID] = e
	}
	return all
}

// becomes waits until an endpoint is in a state and returns it.
func (c *clinic) becomes(id, state string) (e wardState) {
	c.t.Helper()
	harness.Eventually(c.t, patience, fmt.Sprintf("%s to be %s", id, state), func() bool {
		e = endpointStates(c.t, c.d, "back")[id]
		return e.State == state
	})
	return e
}

// do runs belayctl, which must not fail.
func (c *clinic) do(args ...string) string {
	c.t.Helper()
	out, err := belayctl(c.t, c.d, args...)
	if err != nil {
		c.t.Fatalf("belayctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

const fastChecks = "health_check = { path = \"/health\", interval = \"100ms\", timeout = \"1s\", rise = 2, fall = 2 }\n"
