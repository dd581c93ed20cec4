package stats

import (
	"bytes"
	"errors"
	"math"
	"os/exec"
	"strings"
	"testing"
)

// example has one series of every sort, and labels that need escapes.
func example() *Snapshot {
	r := NewRegistry()
	c := r.Counter("belay_requests_total", "Requests \\ and\nmore.", Label{"listener", "we\"b\\\n\xff"}, Label{"class", "2xx"})
	r.Counter("belay_requests_total", "Requests \\ and\nmore.", Label{"listener", ""}, Label{"class", "é"})
	g := r.Gauge("belay_open_connections", "Open.")
	h := r.Histogram("belay_request_duration_seconds", "Time.", Label{"listener", "web"})
	bare := r.Histogram("belay_wait_seconds", "Time.")
	r.Func(KindGauge, "belay_load", "Load.", func() float64 { return 0.25 })
	r.Func(KindGauge, "belay_nan", "NaN.", func() float64 { return math.NaN() })
	r.Func(KindGauge, "belay_inf", "Inf.", func() float64 { return math.Inf(1) })
	r.Func(KindCounter, "belay_big_total", "Big.", func() float64 { return 1 << 60 })
	r.Atomic("belay_reloads_total", "Reloads.").Add(2)
	s := r.NewShard()
	s.Add(c, 12345678)
	s.GaugeAdd(g, -3)
	for _, ns := range []int64{1_000_000, 1_000_001, 90_000_000, 300e9} {
		s.Observe(h, ns)
	}
	s.Observe(bare, 1)
	return r.Merge([][]uint64{s.CopyTo(nil)})
}

func TestWritePrometheus(t *testing.T) {
	var b strings.Builder
	if err := WritePrometheus(&b, example()); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, block := range []string{
		"# HELP belay_requests_total Requests \\\\ and\\nmore.\n# TYPE belay_requests_total counter\n" +
			`belay_requests_total{listener="we\"b\\\n` + "\uFFFD" + `",class="2xx"} 12345678` + "\n" +
			`belay_requests_total{listener="",class="é"} 0` + "\n",
		"belay_open_connections -3\n", "belay_load 0.25\n", "belay_nan NaN\n", "belay_inf +Inf\n",
		"belay_big_total 1152921504606846976\n", "belay_reloads_total 2\n",
		"# TYPE belay_request_duration_seconds histogram\n",
		`belay_request_duration_seconds_bucket{listener="web",le="0.00005"} 0` + "\n" +
			`belay_request_duration_seconds_bucket{listener="web",le="0.0001"} 0` + "\n" +
			`belay_request_duration_seconds_bucket{listener="web",le="0.00025"} 0` + "\n" +
			`belay_request_duration_seconds_bucket{listener="web",le="0.0005"} 0` + "\n" +
			`belay_request_duration_seconds_bucket{listener="web",le="0.001"} 1` + "\n" +
			`belay_request_duration_seconds_bucket{listener="web",le="0.0025"} 2` + "\n",
		`{listener="web",le="0.05"} 2` + "\n", `{listener="web",le="0.1"} 3` + "\n", `{listener="web",le="100"} 3` + "\n",
		`belay_request_duration_seconds_bucket{listener="web",le="+Inf"} 4` + "\n" +
			`belay_request_duration_seconds_sum{listener="web"} 300.092` + "\n" +
			`belay_request_duration_seconds_count{listener="web"} 4` + "\n",
		`belay_wait_seconds_bucket{le="0.00005"} 1` + "\n", "belay_wait_seconds_sum 0\n", "belay_wait_seconds_count 1\n",
	} {
		if !strings.Contains(got, block) {
			t.Errorf("missing:\n%s", block)
		}
	}
	if n := strings.Count(got, "belay_wait_seconds_bucket"); n != 21 {
		t.Errorf("%d buckets", n)
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestPromtool(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not installed")
	}
	promtool(t, example())
}

// promtool has Prometheus' own judge of the format and the names look at a
// snapshot, where it is installed.
func promtool(t *testing.T, s *Snapshot) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		return
	}
	var b bytes.Buffer
	if err := WritePrometheus(&b, s); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "check", "metrics")
	cmd.Stdin = &b
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left--; w.left < 0 {
		return 0, errors.New("gone")
	}
	return len(p), nil
}

func TestWritePrometheusStopsAtError(t *testing.T) {
	s := manyEndpoints().Merge(nil)
	w := &failingWriter{left: 1}
	if err := WritePrometheus(w, s); err == nil || w.left != -1 {
		t.Errorf("%v after %d writes too many", err, -1-w.left)
	}
}

func TestLabelString(t *testing.T) {
	if got := (Label{"a", "b\"\\\n"}).String(); got != `a="b\"\\\n"` {
		t.Error(got)
	}
}
