package harness

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
)

// Admin gets a path of belay's admin API, whose socket is at a path of the box.
func (b *Box) Admin(socket, path string) (int, string) {
	b.t.Helper()
	nc, err := b.TryDial(socket)
	if err != nil {
		b.t.Fatalf("admin %s: %v", path, err)
	}
	defer func() { _ = nc.Close() }()
	r := Wrap(b.t, nc).Do("GET", path, "belay", "Connection: close")
	return r.Status, r.Body
}

// Metric is Daemon.Metric for a belay in the box.
func (b *Box) Metric(socket, name string, labels ...string) (sum float64, ok bool) {
	b.t.Helper()
	status, body := b.Admin(socket, "/metrics")
	if status != http.StatusOK {
		b.t.Fatalf("/metrics: status %d", status)
	}
	sum, ok, err := sumSeries(body, name, labels...)
	if err != nil {
		b.t.Fatal(err)
	}
	return sum, ok
}

// sumSeries sums the series of a metric in the text format whose labels contain
// every given `name="value"`; ok is false if there is none.
func sumSeries(text, name string, labels ...string) (sum float64, ok bool, err error) {
	in := bufio.NewScanner(strings.NewReader(text))
	in.Buffer(nil, 1<<20)
next:
	for in.Scan() {
		series, value, found := cutLast(in.Text(), " ")
		base, rest, _ := strings.Cut(series, "{")
		if !found || base != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue next
			}
		}
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, false, err
		}
		sum, ok = sum+f, true
	}
	return sum, ok, in.Err()
}
