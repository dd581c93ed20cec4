package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"belay/test/harness"
)

// belayed is belay in the scenarios.
type belayed struct {
	d    *harness.Daemon
	pid  int // of the process that serves
	bind string
	keys string // directory of the keys, which a twin has too
}

func (p *belayed) addr() string { return p.bind }

func (p *belayed) config(bind string, want setup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[listener.web]\naddress = %q\n[[listener.web.route]]\ncluster = \"back\"\n", bind)
	b.WriteString("retry = { on = [\"connect-failure\"], attempts = 3, backoff = \"1ms\" }\n")
	b.WriteString("[cluster.back]\nendpoints = [\n")
	for _, m := range want.servers {
		priority := 0
		if m.backup {
			priority = 1
		}
		fmt.Fprintf(&b, "  { id = %q, address = %q, weight = %d, generation = %d, max_connections = %d, priority = %d },\n",
			m.id, m.addr, m.weight, m.generation, want.limit, priority)
	}
	b.WriteString("]\n")
	if want.queue > 0 {
		fmt.Fprintf(&b, "max_pending = %d\n", want.queue)
	}
	b.WriteString("[cluster.back.persistence]\n")
	if want.detour {
		b.WriteString("policy = \"detour\"\n")
	}
	if want.window {
		b.WriteString("first_request_window = \"1s\"\n")
	}
	switch want.table {
	case "":
		fmt.Fprintf(&b, "[cluster.back.persistence.cookie]\nname = %q\n", pinCookie)
	case "APP":
		b.WriteString("[cluster.back.persistence.table]\nname = \"users\"\nkey = [{ cookie = \"APP\" }]\nlearn = { cookie = \"APP\" }\n[table.users]\n")
	default:
		fmt.Fprintf(&b, "[cluster.back.persistence.table]\nname = \"users\"\nkey = [{ header = %q }]\n[table.users]\n", want.table)
	}
	if want.check {
		b.WriteString("[cluster.back.health_check]\ntype = \"tcp\"\ninterval = \"100ms\"\ntimeout = \"1s\"\nfall = 1\nrise = 1\n")
	}
	fmt.Fprintf(&b, "[persistence]\ndirectory = %q\n", p.keys)
	return b.String() + calmRestart
}

func (p *belayed) begin(s *stage, want setup) {
	s.Helper()
	p.bind, p.keys = harness.Addr(s), harness.TempDir(s)
	p.d = harness.Start(s, p.config(p.bind, want))
	p.pid = p.d.PID()
}

func (p *belayed) reload(s *stage, want setup) {
	s.Helper()
	data, err := os.ReadFile(p.d.Config)
	if err != nil {
		s.Fatal(err)
	}
	before, _, _ := strings.Cut(string(data), "[listener.web]")
	harness.WriteFile(s, p.d.Dir, "belay.toml", before+p.config(p.bind, want))
	p.pid = p.d.HotRestart().PID
}

func (p *belayed) drain(s *stage, id string) {
	s.Helper()
	wish(s.T, p.d, "back", id, "drain")
}

// wish tells belay what the operator wants of an endpoint.
func wish(t *testing.T, d *harness.Daemon, cluster, id, verb string) {
	t.Helper()
	resp, err := d.AdminClient().Post(fmt.Sprintf("http://belay/endpoint?cluster=%s&id=%s&wish=%s", cluster, id, verb), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s: status %d: %s", verb, id, resp.StatusCode, body)
	}
}

func (p *belayed) waitState(s *stage, id string, up bool) {
	s.Helper()
	want := map[bool]string{false: "unhealthy", true: "healthy"}[up]
	harness.Eventually(s, patience, "belay finds "+id+" "+want, func() bool { return endpointState(s.T, p.d, "back", id) == want })
}

// endpointState is the state that the admin API tells of an endpoint.
func endpointState(t *testing.T, d *harness.Daemon, cluster, id string) string {
	t.Helper()
	_, body := d.Admin("/clusters")
	var list []struct {
		Name      string
		Endpoints []struct{ ID, State string }
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("/clusters: %v\n%s", err, body)
	}
	for _, c := range list {
		for _, e := range c.Endpoints {
			if c.Name == cluster && e.ID == id {
				return e.State
			}
		}
	}
	return ""
}

func (p *belayed) crash(s *stage) {
	s.Helper()
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
		s.Fatal(err)
	}
	gone(s.T, p.pid)
	if p.pid == p.d.PID() {
		p.d.Wait(patience)
	}
	p.d = p.d.Rerun()
	p.pid = p.d.PID()
}

func (p *belayed) twin(s *stage, want setup) string {
	s.Helper()
	bind := harness.Addr(s)
	harness.Start(s, p.config(bind, want))
	return bind
}
