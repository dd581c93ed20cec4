package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"belay/test/harness"
)

// watched starts a daemon that has seen a little traffic.
func watched(t *testing.T) *harness.Daemon {
	t.Helper()
	s := &site{
		routes:    "[[listener.web.route]]\npath = \"/here\"\nrespond = { status = 200, body = \"x\" }\n",
		endpoints: []string{harness.NewEcho(t, "a").Addr, harness.NewEcho(t, "b").Addr},
	}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	for range 10 {
		c.ExpectOpen("/", "a")
	}
	c.ExpectOpen("/here", "a")
	return d
}

// The admin API answers on a Unix socket that only its owner may use.
func TestAdminAPI(t *testing.T) {
	t.Parallel()
	d := watched(t)
	st, err := os.Stat(d.Socket)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", st.Mode(), err)
	}
	for path, parts := range map[string][]string{
		"/ready":                  {"ready"},
		"/stats":                  {`belay_listener_requests_total{listener="web"} 11`},
		"/stats?filter=endpoint":  {`endpoint="e0"`, `endpoint="e1"`},
		"/stats?format=json":      {`belay_listener_requests_total`},
		"/metrics":                {"# TYPE belay_listener_requests_total counter", `belay_listener_requests_total{listener="web"} 11`, "_bucket{", `le="+Inf"`},
		"/listeners":              {`"web"`},
		"/clusters":               {`"back"`, `"e0"`, `"e1"`},
		"/config":                 {`"web"`, `"back"`},
		"/status":                 {`"version"`},
		"/stats?filter=no-series": {},
	} {
		status, body := d.Admin(path)
		if status != http.StatusOK {
			t.Errorf("%s: status %d", path, status)
		}
		want(t, body, parts...)
		switch {
		case strings.Contains(path, "json"), path == "/listeners", path == "/clusters", path == "/config", path == "/status":
			if !json.Valid([]byte(body)) {
				t.Errorf("%s: not JSON: %.300s", path, body)
			}
		}
	}
	if _, body := d.Admin("/stats?filter=endpoint"); strings.Contains(body, "belay_listener_requests_total") {
		t.Error("the filter lets everything through")
	}
	if status, _ := d.Admin("/nothing"); status != http.StatusNotFound {
		t.Errorf("/nothing: status %d", status)
	}
	if n, ok := d.Metric("belay_endpoint_requests_total", `endpoint="e0"`); !ok || n != 5 {
		t.Errorf("e0 had %v requests, want 5", n)
	}
}

// metrics_address serves /metrics and /ready over TCP and nothing else; it is off by default.
func TestMetricsAddress(t *testing.T) {
	t.Parallel()
	addr := harness.Addr(t)
	sock := harness.TempDir(t) + "/a.sock"
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}, more: fmt.Sprintf("[admin]\nsocket = %q\nmetrics_address = %q\n", sock, addr)}
	serve(t, s)
	for path, status := range map[string]int{"/metrics": 200, "/ready": 200, "/config": 404, "/stats": 404, "/clusters": 404, "/listeners": 404} {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, status)
		}
	}
}

// /metrics passes promtool check metrics.
func TestMetricsPassPromtool(t *testing.T) {
	t.Parallel()
	harness.Need(t, "promtool")
	d := watched(t)
	_, body := d.Admin("/metrics")
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(body)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// belayctl runs a command against a daemon.
func belayctl(t *testing.T, d *harness.Daemon, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(harness.Binary(t, "belayctl", false), append([]string{"--socket", d.Socket}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// belayctl shows tables, and JSON with --json.
func TestBelayctl(t *testing.T) {
	t.Parallel()
	d := watched(t)
	for _, tt := range []struct {
		args  []string
		parts []string
	}{
		{[]string{"status"}, []string{"test"}},
		{[]string{"ready"}, []string{"ready"}},
		{[]string{"listeners"}, []string{"NAME", "web"}},
		{[]string{"clusters", "-e"}, []string{"back", "e0", "e1"}},
		{[]string{"stats", "listener_requests"}, []string{"belay_listener_requests_total", "11"}},
		{[]string{"config"}, []string{"web", "back"}},
	} {
		out, err := belayctl(t, d, tt.args...)
		if err != nil {
			t.Errorf("%v: %v: %s", tt.args, err, out)
		}
		want(t, out, tt.parts...)
		if tt.args[0] == "ready" {
			continue
		}
		out, err = belayctl(t, d, append(tt.args, "--json")...)
		if err != nil || !json.Valid([]byte(out)) {
			t.Errorf("%v --json: %v: %.300s", tt.args, err, out)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, err := belayctl(t, d, "completion", shell); err != nil || !strings.Contains(out, "belayctl") {
			t.Errorf("completion %s: %v", shell, err)
		}
	}
	d.Stop()
	out, err := belayctl(t, d, "status")
	if err == nil {
		t.Error("no daemon: exit code 0")
	}
	want(t, out, d.Socket)
}

// Statistics count every request, over all workers.
func TestStatisticsCountEveryRequest(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}}
	d := serve(t, s)
	for range 40 {
		wantStatus(t, harness.Get(t, s.addr, "/", "a"), 200)
	}
	harness.Eventually(t, patience, "40 requests", func() bool {
		n, _ := d.Metric("belay_listener_requests_total")
		return n == 40
	})
	harness.Eventually(t, patience, "no open connections", func() bool {
		n, ok := d.Metric("belay_listener_connections")
		return ok && n == 0
	})
	if n, _ := d.Metric("belay_listener_request_duration_seconds_count"); n != 40 {
		t.Errorf("%v durations", n)
	}
	if n, _ := d.Metric("belay_listener_accepted_total"); n != 40 {
		t.Errorf("%v accepted", n)
	}
}
