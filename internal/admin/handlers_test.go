package admin

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"belay/internal/admin/adminapi"
)

// fetch returns the status, the body and the headers of a reply.
func fetch(t *testing.T, c *http.Client, method, url, body string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header
}

func TestHandlers(t *testing.T) {
	c := httpClient(t, serve(t, newSource()))
	for _, tt := range []struct {
		method, target, body string
		status               int
		want                 string // the start of the body
	}{
		{"GET", "/ready", "", 200, "serving\n"},
		{"GET", "/ready?format=json", "", 200, `{"ready":true,"reason":"serving"}`},
		{"GET", "/ready?format=xml", "", 400, "format is text or json, not \"xml\"\n"},
		{"HEAD", "/ready", "", 200, ""},
		{"HEAD", "/clusters", "", 200, ""},
		{"GET", "/", "", 200, "/ready          200 if"},
		{"GET", "/config", "", 200, `{"a":1}`},
		{"GET", "/stats?filter=load", "", 200, "belay_load 0.125\n"},
		{"GET", `/stats?filter=requests_total.listener%3D%22web`, "", 200, "belay_listener_requests_total{listener=\"web\"} 12345678\n"},
		{"GET", "/stats?filter=nix", "", 200, ""},
		{"GET", "/stats?filter=nix&format=json", "", 200, "[]\n"},
		{"GET", "/stats?filter=(", "", 400, "filter: error parsing regexp: missing closing ): `(`\n"},
		{"GET", "/stats?filter=" + strings.Repeat("x", 1025), "", 400, "filter of 1025 bytes, at most 1024\n"},
		{"GET", "/stats?%zz", "", 400, "query: invalid URL escape \"%zz\"\n"},
		{"GET", "/listeners?name=nix", "", 404, "there is no listener \"nix\"\n"},
		{"GET", "/clusters?name=nix", "", 404, "there is no cluster \"nix\"\n"},
		{"GET", "/nix", "", 404, "no \"/nix\" here; there is:\n/ready "},
		{"GET", "/ready/", "", 404, "no \"/ready/\" here; there is:\n/ready "},
		{"POST", "/ready", "", 405, "/ready takes GET, HEAD\n"},
		{"POST", "/", "", 405, "/ takes GET, HEAD\n"},
		{"POST", "/restart-status", "", 405, "/restart-status takes GET, HEAD\n"},
		{"DELETE", "/nix", "", 404, "no \"/nix\" here; there is:\n/ready "},
		{"HEAD", "/drain", "", 200, ""},
		{"POST", "/drain", "body", 400, "a request with a body\n"},
		{"PUT", "/drain", "", 405, "/drain takes GET, HEAD, POST, DELETE\n"},
		{"GET", "/ready", "body", 400, "a request with a body\n"},
	} {
		status, body, h := fetch(t, c, tt.method, "http://belayd"+tt.target, tt.body)
		if status != tt.status || !strings.HasPrefix(body, tt.want) || tt.want == "" && status == 200 && body != "" {
			t.Errorf("%s %.40s: %d %q, want %d %q", tt.method, tt.target, status, body, tt.status, tt.want)
		}
		allow := "GET, HEAD"
		if tt.target == "/drain" {
			allow = "GET, HEAD, POST, DELETE"
		}
		if status == 405 && h.Get("Allow") != allow {
			t.Errorf("%s %s: Allow %q", tt.method, tt.target, h.Get("Allow"))
		}
	}
}

func TestHeadOverTheLimit(t *testing.T) {
	c := httpClient(t, serve(t, newSource()))
	// The connection may be reset before the reply is read: the rest of the head
	// is never taken.
	resp, err := c.Get("http://belayd/" + strings.Repeat("x", 20000))
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", resp.StatusCode)
	}
}

func TestNotFoundListsEverything(t *testing.T) {
	c := httpClient(t, serve(t, newSource()))
	_, body, _ := fetch(t, c, "GET", "http://belayd/nix", "")
	for _, path := range []string{"/ready", "/status", "/restart-status", "/stats", "/metrics", "/listeners", "/clusters", "/certs", "/tls/explain", "/config", "/drain"} {
		if !strings.Contains(body, "\n"+path+" ") {
			t.Errorf("%s is missing in\n%s", path, body)
		}
	}
}

func TestReadyOfSourceThatIsNot(t *testing.T) {
	src := newSource()
	src.ready = false
	c := httpClient(t, serve(t, src))
	if status, body, _ := fetch(t, c, "GET", "http://belayd/ready", ""); status != 503 || body != "stopping\n" {
		t.Errorf("%d %q", status, body)
	}
}

func TestDrain(t *testing.T) {
	src := newSource()
	c := httpClient(t, serve(t, src))
	for _, tt := range []struct {
		method, target string
		status         int
		body           string
	}{
		{"GET", "/drain", 200, `{"draining":false,"connections":7}`},
		{"GET", "/ready", 200, "serving"},
		{"POST", "/drain", 200, `{"draining":true,"connections":7}`},
		{"POST", "/drain", 200, `{"draining":true,"connections":7}`},
		{"GET", "/ready", 503, "draining"},
		{"PUT", "/drain", 405, "/drain takes GET, HEAD, POST, DELETE"},
		{"POST", "/drain?%zz", 400, `query: invalid URL escape "%zz"`},
		{"GET", "/drain", 200, `{"draining":true,"connections":7}`},
		{"DELETE", "/drain", 200, `{"draining":false,"connections":7}`},
		{"GET", "/ready", 200, "serving"},
	} {
		status, body, _ := fetch(t, c, tt.method, "http://belayd"+tt.target, "")
		if status != tt.status || body != tt.body+"\n" {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.target, status, body, tt.status, tt.body)
		}
	}
	src.refuse = errors.New("it is stopping")
	if status, body, _ := fetch(t, c, "POST", "http://belayd/drain", ""); status != 409 || body != "it is stopping\n" {
		t.Errorf("%d %q", status, body)
	}
}

// TestMetricsListenerChangesNothing: it answers whoever can reach a TCP port.
func TestMetricsListenerChangesNothing(t *testing.T) {
	src := newSource()
	s := newServer(t, src)
	if err := s.ServeMetrics(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	base := "http://" + s.served[0].ln.Addr().String()
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for _, method := range []string{"GET", "POST", "DELETE"} {
		if status, body, _ := fetch(t, c, method, base+"/drain", ""); status != 404 {
			t.Errorf("%s /drain: %d %q", method, status, body)
		}
		if status, _, h := fetch(t, c, method, base+"/ready", ""); method != "GET" && (status != 405 || h.Get("Allow") != "GET, HEAD") {
			t.Errorf("%s /ready: %d, Allow %q", method, status, h.Get("Allow"))
		}
	}
	if src.draining.Load() {
		t.Error("it drains")
	}
}

func TestRestartStatus(t *testing.T) {
	c := adminapi.NewClient(serve(t, newSource()))
	defer c.Close()
	before := time.Now()
	st, err := c.RestartStatus(t.Context())
	if err != nil || st.Epoch != 3 || st.Phase != "serving" || st.Generations == nil || st.LastRestart != nil {
		t.Errorf("%+v, %v", st, err)
	}
	if st.Time.Before(before.Truncate(time.Second)) {
		t.Errorf("time %v", st.Time)
	}
}

func TestStatsText(t *testing.T) {
	c := httpClient(t, serve(t, newSource()))
	_, body, _ := fetch(t, c, "GET", "http://belayd/stats?nonzero", "")
	want := `belay_endpoint_replies_total{cluster="app",endpoint="a",class="2xx"} 40
belay_endpoint_replies_total{cluster="app",endpoint="a",class="5xx"} 2
belay_listener_connections{listener="web"} 7
belay_listener_request_duration_seconds{listener="web",quantile="0.5"} 0.000933333
belay_listener_request_duration_seconds{listener="web",quantile="0.9"} 125
belay_listener_request_duration_seconds{listener="web",quantile="0.99"} 125
belay_listener_request_duration_seconds_sum{listener="web"} 600.003
belay_listener_request_duration_seconds_count{listener="web"} 4
belay_listener_requests_total{listener="web"} 12345678
belay_load 0.125
`
	if body != want {
		t.Errorf("%s\nwant\n%s", body, want)
	}
	if _, all, _ := fetch(t, c, "GET", "http://belayd/stats", ""); !strings.Contains(all, `requests_total{listener="o\"dd"} 0`+"\n") {
		t.Errorf("%s", all)
	}
}

func TestMetricsPassPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed")
	}
	c := httpClient(t, serve(t, newSource()))
	_, body, h := fetch(t, c, "GET", "http://belayd/metrics", "")
	if h.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("Content-Type %q", h.Get("Content-Type"))
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(body)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestClientAgainstServer(t *testing.T) {
	src := newSource()
	c := adminapi.NewClient(serve(t, src))
	defer c.Close()
	ctx := t.Context()

	if r, err := c.Ready(ctx); err != nil || r != (adminapi.Ready{Ready: true, Reason: "serving"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if s, err := c.Status(ctx); err != nil || s.Version != "1.2.3" || s.UptimeSeconds < 60 || s.UptimeSeconds > 90 {
		t.Errorf("%+v, %v", s, err)
	}
	l, err := c.Listeners(ctx, adminapi.Query{Buckets: true})
	if err != nil || !reflect.DeepEqual(l, src.Listeners()) {
		t.Errorf("%+v, %v\nwant %+v", l, err, src.Listeners())
	}
	if n := len(l[1].Latency.Buckets); n != 2 || l[1].Latency.Buckets[1].To != 0 || l[1].Latency.Count != 4 {
		t.Errorf("%+v", l[1].Latency)
	}
	l, err = c.Listeners(ctx, adminapi.Query{Name: "web"})
	if err != nil || len(l) != 1 || l[0].Requests != 12345678 || l[0].Connections != 7 || l[0].Latency.Buckets != nil || l[0].Latency.P99 == 0 {
		t.Errorf("%+v, %v", l, err)
	}
	cl, err := c.Clusters(ctx, adminapi.Query{Buckets: true})
	if err != nil || cl[0].Active != 3 || cl[0].Available != 1 || cl[0].Replies != (adminapi.Replies{Success: 40, ServerError: 2}) || len(cl[0].Latency.Buckets) != 2 {
		t.Errorf("%+v, %v", cl, err)
	}
	cl, err = c.Clusters(ctx, adminapi.Query{})
	if err != nil || cl[0].Latency.Buckets != nil || cl[0].Endpoints[0].Latency.Buckets != nil || cl[0].Latency.Count != 4 {
		t.Errorf("%+v, %v", cl, err)
	}
	series, err := c.Stats(ctx, adminapi.StatsQuery{Filter: "duration|5xx"})
	if err != nil || len(series) != 2 || series[0].Value != 2 || series[0].Labels["class"] != "5xx" || series[1].Kind != "histogram" || series[1].Latency.Count != 4 {
		t.Errorf("%+v, %v", series, err)
	}
	if text, err := c.StatsText(ctx, adminapi.StatsQuery{Filter: "connections"}); err != nil || text != "belay_listener_connections{listener=\"web\"} 7\n" {
		t.Errorf("%q, %v", text, err)
	}
	if d, err := c.Drain(ctx, true); err != nil || d != (adminapi.DrainStatus{Draining: true, Connections: 7}) {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := c.DrainStatus(ctx); err != nil || !d.Draining {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := c.Drain(ctx, false); err != nil || d.Draining || src.draining.Load() {
		t.Errorf("%+v, %v", d, err)
	}
	if raw, err := c.Config(ctx); err != nil || strings.TrimSpace(string(raw)) != `{"a":1}` {
		t.Errorf("%s, %v", raw, err)
	}
}

func TestConfigThatJSONCannotWrite(t *testing.T) {
	src := newSource()
	src.config = func() {}
	c := httpClient(t, serve(t, src))
	if status, body, _ := fetch(t, c, "GET", "http://belayd/config", ""); status != 500 || body == "" {
		t.Errorf("%d %q", status, body)
	}
}

func TestMetricsServerTellsLittle(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().(*net.TCPAddr).AddrPort()
	taken := newServer(t, newSource()).ServeMetrics(addr)
	if taken == nil || !strings.Contains(taken.Error(), addr.String()) || !strings.Contains(taken.Error(), "in use") {
		t.Errorf("address in use: %v", taken)
	}
	free.Close()
	if err := newServer(t, newSource()).ServeMetrics(netip.AddrPortFrom(addr.Addr(), addr.Port())); err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for path, want := range map[string]int{
		"/ready": 200, "/metrics": 200, "/": 200,
		"/status": 404, "/stats": 404, "/listeners": 404, "/clusters": 404, "/config": 404, "/debug/pprof/": 404,
	} {
		status, body, _ := fetch(t, c, "GET", fmt.Sprintf("http://%s%s", addr, path), "")
		if status != want {
			t.Errorf("%s: %d", path, status)
		}
		if status == 404 && strings.Contains(body, "/config  ") {
			t.Errorf("%s tells of what is not there:\n%s", path, body)
		}
	}
}
