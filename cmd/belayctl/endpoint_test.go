package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"belay/internal/admin/adminapi"
)

// troubled are endpoints that do not just serve.
func troubled() []adminapi.Endpoint {
	at := func(minute int) *time.Time {
		t := time.Date(2026, 1, 2, 3, minute, 5, 0, time.UTC)
		return &t
	}
	return []adminapi.Endpoint{
		{
			ID: "d", Address: "10.0.0.4:8080", Weight: 1, Share: 1, State: adminapi.StateDraining, Health: "healthy", Admin: adminapi.AdminDraining,
			AdminSince: at(4), Deadline: at(14), Sessions: 3, SessionsWithin: 1800, Active: 2,
		},
		{
			ID: "e", Address: "10.0.0.5:8080", Weight: 1, Share: 1, State: adminapi.StateDisabled, Health: "healthy", Admin: adminapi.AdminDraining,
			AdminSince: at(4), DrainEnded: true, SessionsWithin: 1800,
		},
		{
			ID: "f", Address: "10.0.0.6:8080", Weight: 1, Share: 1, State: adminapi.StateUnhealthy, Health: "unhealthy", HealthSince: at(6), Admin: adminapi.AdminEnabled,
			Why: "connection refused\x1b[2J",
		},
		{
			ID: "g", Address: "10.0.0.7:8080", Weight: 1, Share: 1, State: adminapi.StateUnhealthy, Health: "healthy", Admin: adminapi.AdminEnabled,
			Ejected: at(20), Ejections: 3, Why: "5 errors in a row",
		},
		{ID: "h", Address: "10.0.0.8:8080", Weight: 1, Share: 1, State: adminapi.StateDegraded, Health: "degraded", Admin: adminapi.AdminEnabled, Why: "status 429"},
		{ID: "i", Address: "10.0.0.9:8080", Share: 1, State: adminapi.StateUp, Health: "unknown", Admin: adminapi.AdminEnabled},
	}
}

// sessions answers for endpoints and tables; nil: it has.
func (d *daemon) sessions(w http.ResponseWriter, r *http.Request) any {
	if r.Method != http.MethodGet {
		d.changes = append(d.changes, r.Method+" "+r.URL.Path+" "+r.URL.RawQuery)
		if d.refuse != "" {
			http.Error(w, d.refuse, http.StatusConflict)
			return nil
		}
	}
	switch r.URL.Path {
	case adminapi.PathEndpoint:
		return d.endpoint(w, r)
	case adminapi.PathTables:
		return d.tables
	}
	return d.table(w, r)
}

func (d *daemon) endpoint(w http.ResponseWriter, r *http.Request) any {
	var e *adminapi.Endpoint
	for i := range d.clusters {
		for k := range d.clusters[i].Endpoints {
			if d.clusters[i].Name == r.FormValue("cluster") && d.clusters[i].Endpoints[k].ID == r.FormValue("id") {
				e = &d.clusters[i].Endpoints[k]
			}
		}
	}
	if e == nil {
		http.Error(w, "there is no such endpoint", http.StatusNotFound)
		return nil
	}
	if r.Method == http.MethodGet && d.onLook != nil {
		d.onLook(d)
	}
	switch r.FormValue("wish") {
	case "drain":
		e.Admin, e.State, e.DrainEnded = adminapi.AdminDraining, adminapi.StateDraining, false
		if r.Form.Has("deadline") {
			at := time.Date(2026, 1, 2, 3, 24, 5, 0, time.UTC)
			e.Deadline = &at
		}
	case "disable":
		e.Admin, e.State = adminapi.AdminDisabled, adminapi.StateDisabled
	case "enable":
		e.Admin, e.State = adminapi.AdminEnabled, adminapi.StateUp
	}
	return e
}

// at is an endpoint of the cluster app; d.mu is held.
func (d *daemon) at(id string) *adminapi.Endpoint {
	list := d.clusters[0].Endpoints
	return &list[slices.IndexFunc(list, func(e adminapi.Endpoint) bool { return e.ID == id })]
}

func TestEndpointOutput(t *testing.T) {
	for name, args := range map[string]string{
		"endpoint-list":    "endpoint list",
		"endpoint-drain":   "endpoint drain app a --deadline 20m",
		"endpoint-disable": "endpoint disable app a",
		"endpoint-enable":  "endpoint enable app d",
	} {
		status, stdout, stderr := belayctl(t, aDaemon().serve(t), strings.Fields(args)...)
		if status != exitOK || stderr != "" {
			t.Errorf("%s: status %d, stderr %q", name, status, stderr)
		}
		golden(t, name, stdout)
	}
}

func TestEndpointAsks(t *testing.T) {
	for args, want := range map[string]string{
		"endpoint drain app a":                  "POST /endpoint cluster=app&id=a&wish=drain",
		"endpoint drain app a --deadline 1h30m": "POST /endpoint cluster=app&deadline=1h30m0s&id=a&wish=drain",
		"endpoint disable app a":                "POST /endpoint cluster=app&id=a&wish=disable",
		"endpoint enable app a":                 "POST /endpoint cluster=app&id=a&wish=enable",
	} {
		d := aDaemon()
		if status, _, stderr := belayctl(t, d.serve(t), strings.Fields(args)...); status != exitOK || stderr != "" {
			t.Errorf("%s: status %d, stderr %q", args, status, stderr)
		}
		if got := strings.Join(d.changes, ", "); got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

func TestEndpointJSON(t *testing.T) {
	d := aDaemon()
	socket := d.serve(t)
	_, stdout, _ := belayctl(t, socket, "endpoint", "list", "app", "--json")
	var list []clusterEndpoint
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list) != 9 || list[3].Cluster != "app" || list[3].Sessions != 3 || list[3].Deadline == nil {
		t.Errorf("%v: %s", err, stdout)
	}
	_, stdout, _ = belayctl(t, socket, "endpoint", "drain", "app", "a", "--json")
	var e clusterEndpoint
	if err := json.Unmarshal([]byte(stdout), &e); err != nil || e.Cluster != "app" || e.ID != "a" || e.Sessions != 1200 || e.SessionsWithin != 1800 {
		t.Errorf("%v: %s", err, stdout)
	}
	if _, stdout, _ = belayctl(t, socket, "endpoint", "list", "other", "--json"); stdout != "[]\n" {
		t.Errorf("%s", stdout)
	}
}

func TestEndpointErrors(t *testing.T) {
	d := aDaemon()
	socket := d.serve(t)
	const hint = "\nbelayctl: \"belayctl --help\" lists what there is\n"
	for _, tt := range []struct {
		args   string
		status int
		stderr string
	}{
		{"endpoint drain app", exitUsage, "belayctl: accepts 2 arg(s), received 1" + hint},
		{"endpoint drain app a --wait 5m", exitUsage, "belayctl: unexpected argument \"5m\": write --wait=TIME with an equals sign" + hint},
		{"endpoint drain app a --wait=-1s", exitUsage, "belayctl: --wait must be 0 or more" + hint},
		{"endpoint drain app a --deadline 0s", exitUsage, "belayctl: --deadline must be above 0" + hint},
		{"endpoint enable app a --deadline 1s", exitUsage, "belayctl: unknown flag: --deadline" + hint},
		{"endpoint nix", exitUsage, "belayctl: unknown command \"nix\" for \"belayctl endpoint\"" + hint},
		{"endpoint drain app nix", exitNo, "belayctl: there is no such endpoint\n"},
		{"endpoint list nix", exitNo, "belayctl: there is no cluster \"nix\"\n"},
	} {
		status, stdout, stderr := belayctl(t, socket, strings.Fields(tt.args)...)
		if status != tt.status || stdout != "" || stderr != tt.stderr {
			t.Errorf("%s: status %d, stdout %q, stderr %q\nwant status %d, stderr %q", tt.args, status, stdout, stderr, tt.status, tt.stderr)
		}
	}
	d.refuse = "the process is draining"
	if status, _, stderr := belayctl(t, socket, "endpoint", "drain", "app", "a", "--wait"); status != exitNo || stderr != "belayctl: the process is draining\n" {
		t.Errorf("refused: status %d, %q", status, stderr)
	}
}

// drains has the sessions of app/d go one by one, then its requests, then the drain.
func drains(d *daemon) {
	switch e := d.at("d"); {
	case e.Sessions > 0:
		e.Sessions--
		e.Active++ // not told of yet
	case e.Active > 0:
		e.Active = 0
	default:
		e.DrainEnded, e.State = true, adminapi.StateDisabled
	}
}

func TestEndpointDrainWaits(t *testing.T) {
	const (
		until = " until 2026-01-02T03:14:05Z: "
		head  = "app/d is draining" + until + "3 sessions in the last 30m00s, 2 requests under way\nto undo it: belayctl endpoint enable app d\n"
	)
	line := func(sessions, active string) string {
		return "app/d is draining" + until + sessions + " in the last 30m00s, " + active + " under way\n"
	}
	for _, tt := range []struct {
		name, args string
		onLook     func(*daemon)
		status     int
		out, err   string
	}{
		{
			"it ends", "--wait", drains, exitOK, head + line("2 sessions", "3 requests") + line("1 session", "4 requests") + line("0 sessions", "5 requests") +
				line("0 sessions", "0 requests") + "app/d is drained: 0 sessions in the last 30m00s, 0 requests under way\n", "",
		},
		{
			"at the deadline", "--wait=10m", func(d *daemon) { d.at("d").DrainEnded = true }, exitOK,
			head + "app/d is drained: 3 sessions in the last 30m00s, 2 requests under way\n", "",
		},
		{
			"not in time", "--wait=20ms", nil, exitNo, head,
			"belayctl: after 20ms app/d is draining" + until + "3 sessions in the last 30m00s, 2 requests under way\n",
		},
		{
			"enabled", "--wait", func(d *daemon) { d.at("d").Admin = adminapi.AdminEnabled }, exitNo, head,
			"belayctl: app/d is enabled: somebody changed that, or belayd was started anew\n",
		},
		{
			"disabled", "--wait", func(d *daemon) { d.at("d").Admin = adminapi.AdminDisabled }, exitNo, head,
			"belayctl: app/d is disabled: somebody changed that, or belayd was started anew\n",
		},
	} {
		d := aDaemon()
		d.onLook = tt.onLook
		status, stdout, stderr := belayctl(t, d.serve(t), "endpoint", "drain", "app", "d", tt.args)
		if status != tt.status || stdout != tt.out || stderr != tt.err {
			t.Errorf("%s: status %d, %q, %q\nwant %d, %q, %q", tt.name, status, stdout, stderr, tt.status, tt.out, tt.err)
		}
		if len(d.changes) != 1 {
			t.Errorf("%s: asked %q", tt.name, d.changes)
		}
	}
	d := aDaemon()
	d.onLook = drains
	status, stdout, stderr := belayctl(t, d.serve(t), "endpoint", "drain", "app", "d", "--wait", "--json")
	var got clusterEndpoint
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != exitOK || stderr != "" || !got.DrainEnded || got.Cluster != "app" {
		t.Errorf("JSON: status %d, %q, %q: %v", status, stdout, stderr, err)
	}
}

// TestInterruptedEndpointDrain: Ctrl-C ends the wait, not the drain.
func TestInterruptedEndpointDrain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := aDaemon()
	d.onLook = func(*daemon) { cancel() }
	var out, errs strings.Builder
	p := &program{stdout: &out, stderr: &errs, socket: d.serve(t), poll: time.Millisecond}
	if status := p.run(ctx, []string{"endpoint", "drain", "app", "d", "--wait"}); status != exitNo || errs.String() != "" {
		t.Errorf("status %d, %q", status, errs.String())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.changes) != 1 {
		t.Errorf("asked %q", d.changes)
	}
}

// mortal is a daemon that ends, and may be followed by another at the same socket.
type mortal struct {
	path   string
	server *http.Server
}

func (m *mortal) start(t *testing.T, d *daemon) {
	t.Helper()
	ln, err := net.Listen("unix", m.path)
	if err != nil {
		t.Error(err)
		return
	}
	m.server = &http.Server{Handler: d}
	go m.server.Serve(ln)
	t.Cleanup(func() { m.server.Close() })
}

// TestEndpointDrainAcrossRestart: the wait survives that one process leaves and
// another takes its place, but not that none does.
func TestEndpointDrainAcrossRestart(t *testing.T) {
	for _, next := range []bool{true, false} {
		m := &mortal{path: filepath.Join(t.TempDir(), "s")}
		looked, gone := make(chan struct{}), make(chan struct{})
		d := aDaemon()
		d.onLook = func(d *daemon) {
			d.onLook = nil
			close(looked)
		}
		m.start(t, d)
		go func() {
			defer close(gone)
			<-looked
			m.server.Close() // with the answer
			if next {
				heir := aDaemon()
				heir.onLook = drains
				m.start(t, heir)
			}
		}()
		status, stdout, stderr := belayctl(t, m.path, "endpoint", "drain", "app", "d", "--wait", "--timeout", map[bool]string{true: "30s", false: "50ms"}[next])
		<-gone
		if next && (status != exitOK || stderr != "" || !strings.HasSuffix(stdout, "app/d is drained: 0 sessions in the last 30m00s, 0 requests under way\n")) {
			t.Errorf("status %d, %q, %q", status, stdout, stderr)
		}
		if !next && (status != exitNo || !strings.Contains(stderr, "is it running?")) {
			t.Errorf("no daemon: status %d, %q, %q", status, stdout, stderr)
		}
	}
}
