package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"belay/internal/admin/adminapi"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

// daemon is a belayd as its admin socket shows it.
type daemon struct {
	ready     adminapi.Ready
	status    adminapi.Status
	listeners []adminapi.Listener
	clusters  []adminapi.Cluster
	series    []adminapi.Series
	config    string
	restart   adminapi.RestartStatus
	certs     []adminapi.Certificate
	explained []adminapi.TLSExplanation

	tables  []adminapi.Table
	entries []adminapi.TableEntry

	mu       sync.Mutex // guards what follows
	drain    adminapi.DrainStatus
	refuse   string        // of a change of drain
	onStatus func(*daemon) // before a GET of drain is answered
	methods  []string      // of the requests for drain
	query    string        // of the last explanation asked for
	changes  []string      // of endpoints and tables: method, path and parameters
	onLook   func(*daemon) // before a GET of an endpoint is answered
}

// serve answers on a new socket until the test ends.
func (d *daemon) serve(t *testing.T) string {
	t.Helper()
	return serveFunc(t, d.ServeHTTP)
}

func serveFunc(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	hs := &http.Server{Handler: f}
	go hs.Serve(ln)
	t.Cleanup(func() { hs.Close() })
	return path
}

// asked are the methods of the requests for drain.
func (d *daemon) asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.methods)
}

func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var v any
	name := r.FormValue("name")
	switch r.URL.Path {
	case adminapi.PathReady:
		if !d.ready.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		v = d.ready
	case adminapi.PathStatus:
		v = d.status
	case adminapi.PathListeners:
		v = slices.DeleteFunc(slices.Clone(d.listeners), func(l adminapi.Listener) bool { return name != "" && l.Name != name })
	case adminapi.PathClusters:
		list := slices.DeleteFunc(slices.Clone(d.clusters), func(c adminapi.Cluster) bool { return name != "" && c.Name != name })
		if len(list) == 0 {
			http.Error(w, `there is no cluster "`+name+`"`, http.StatusNotFound)
			return
		}
		v = list
	case adminapi.PathCerts:
		v = d.certs
	case adminapi.PathTLSExplain:
		d.mu.Lock()
		d.query = r.URL.RawQuery
		d.mu.Unlock()
		v = d.explained
	case adminapi.PathRestartStatus:
		v = d.restart
	case adminapi.PathDrain:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.methods = append(d.methods, r.Method)
		switch {
		case r.Method != http.MethodGet && d.refuse != "":
			http.Error(w, d.refuse, http.StatusConflict)
			return
		case r.Method != http.MethodGet:
			d.drain.Draining = r.Method == http.MethodPost
		case d.onStatus != nil:
			d.onStatus(d)
		}
		v = d.drain
	case adminapi.PathEndpoint, adminapi.PathTables, adminapi.PathTable:
		d.mu.Lock()
		defer d.mu.Unlock()
		if v = d.sessions(w, r); v == nil {
			return
		}
	case adminapi.PathConfig:
		v = json.RawMessage(d.config)
	case adminapi.PathStats:
		if r.FormValue("format") != "json" {
			w.Write([]byte("filter=" + r.FormValue("filter") + " nonzero=" + r.FormValue("nonzero") + "\n"))
			return
		}
		v = d.series
	}
	json.NewEncoder(w).Encode(v)
}

// aDaemon has something of everything.
func aDaemon() *daemon {
	app := adminapi.Cluster{
		Name: "app", Balance: "least_request", Requests: 1234567, NoEndpoint: 2, Retries: 31,
		Endpoints: []adminapi.Endpoint{
			{
				ID: "a", Address: "10.0.0.1:8080", Addresses: []string{"10.0.0.1:8080"}, Weight: 2, State: adminapi.StateUp, Share: 1, Admin: adminapi.AdminEnabled, Health: "healthy", Sessions: 1200, SessionsWithin: 1800,
				Active: 3, Open: 14, Idle: 11, Requests: 823000, Errors: 4,
				Replies: adminapi.Replies{Success: 822990, ServerError: 10},
				Latency: adminapi.NewLatency(900, []adminapi.Bucket{{From: 0.0005, To: 0.001, Count: 800000}, {From: 0.032, To: 0.064, Count: 23000}}),
			},
			{
				ID: "b", Address: "app.internal:8080", Addresses: []string{"10.0.0.2:8080", "10.0.0.3:8080", "[2001:db8::3]:8080"}, Weight: 1,
				State: adminapi.StateUp, Share: 0.25, Admin: adminapi.AdminEnabled, Health: "unknown", Uncounted: true, Active: 1, Pending: 1, Open: 2, Idle: 1, Requests: 411567,
				Replies: adminapi.Replies{Success: 411567},
				Latency: adminapi.NewLatency(700, []adminapi.Bucket{{From: 0.001, To: 0.002, Count: 411567}}),
			},
			{ID: "c", Address: "gone.internal:8080", Weight: 1, State: "unresolved", Share: 1, Admin: adminapi.AdminEnabled, Health: "unknown", Priority: 1},
		},
	}
	app.Endpoints = append(app.Endpoints, troubled()...)
	app.Sum()
	return &daemon{
		ready: adminapi.Ready{Ready: true, Reason: "serving"},
		status: adminapi.Status{
			Version: "1.2.3", PID: 4711, State: "serving", Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), UptimeSeconds: 3*86400 + 4*3600,
			Workers: 2, Connections: 1200, MaxConnections: 32736, Accepted: 98765, Requests: 1234569,
			ConfigFiles: []string{"/etc/belay/belay.toml", "/etc/belay/conf.d/app.toml"},
		},
		listeners: []adminapi.Listener{
			{
				Name: "web", Address: "[::]:443", Protocol: "http", Sockets: 2, State: "accepting", Connections: 1200, Accepted: 98765, Rejected: 12,
				Requests: 1234569, BadRequests: 7, NoRoute: 5, Denied: 1, Replies: adminapi.Replies{Success: 1234500, Redirect: 39, ClientError: 13, ServerError: 17},
				BytesIn: 5 << 20, BytesOut: 123 << 30,
				Latency: adminapi.NewLatency(2000, []adminapi.Bucket{{From: 0.0005, To: 0.001, Count: 1200000}, {From: 0.064, To: 0.128, Count: 34569}}),
			},
			{Name: "internal", Address: "unix:/run/belay/in.sock", Protocol: "http", Sockets: 1, State: "throttled", MaxConnections: 10, Connections: 10, Throttled: 3},
		},
		clusters: []adminapi.Cluster{app, {Name: "other", Balance: "random", Endpoints: []adminapi.Endpoint{}}},
		series: []adminapi.Series{
			{Name: "belay_cluster_requests_total", Kind: "counter", Labels: map[string]string{"cluster": "app"}, Value: 5},
			{Name: "belay_cluster_requests_total", Kind: "counter", Labels: map[string]string{"cluster": "<b>"}, Value: 6},
			{Name: "belay_listener_connections", Kind: "gauge", Labels: map[string]string{"listener": "web"}, Value: 7},
		},
		config:  testConfig,
		restart: aRestart(),
		drain:   adminapi.DrainStatus{Connections: 1234567},
		tables:  someTables(),
		entries: someEntries(),
	}
}

// aRestart is a chain a short time after a restart.
func aRestart() adminapi.RestartStatus {
	now := time.Date(2026, 1, 5, 7, 4, 5, 0, time.UTC)
	return adminapi.RestartStatus{
		Time: now, Enabled: true, Epoch: 12, Phase: "draining", Since: now.Add(-200 * time.Second), OriginalStart: now.Add(-76 * time.Hour),
		Generations: []adminapi.Generation{
			{
				Epoch: 9, PID: 4711, State: "draining", Connections: 3, DrainingSince: now.Add(-14 * time.Minute),
				TimeLeft: 60, HeartbeatAge: 0.4121,
			},
			{
				Epoch: 10, PID: 14711, Version: "1.2.2", State: "draining", Connections: 12345, DrainingSince: now.Add(-200 * time.Second),
				TimeLeft: 700.4, HeartbeatAge: 1.2,
			},
			{Epoch: 12, PID: 814, Version: "1.2.3", State: "serving", Main: true, Connections: 1200, HeartbeatAge: 0.02},
		},
		LastRestart: &adminapi.LastRestart{At: now.Add(-200 * time.Second), Epoch: 12, Result: adminapi.ResultOK, Took: 2.3101},
		Restarts:    adminapi.Restarts{OK: 10, Failed: 1},
		Protocol:    adminapi.Protocol{Min: 1, Max: 2},
		Segment:     adminapi.Segment{Path: "/run/belay/hot-0.shm", Version: 1},
		Store:       adminapi.Store{Sockets: 4},
	}
}

// belayctl runs the program and returns what it said.
func belayctl(t *testing.T, socket string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, socket: socket, poll: time.Millisecond}
	status = p.run(t.Context(), args)
	return status, out.String(), errs.String()
}

// golden compares got with testdata/name.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant\n%s", path, got, want)
	}
}
