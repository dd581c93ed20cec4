package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Record is one line of the JSON access log.
type Record map[string]any

// Str is a member as a string; "" if it is not there.
func (r Record) Str(name string) string {
	switch v := r[name].(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// Int is a member as an integer; 0 if it is not there.
func (r Record) Int(name string) int64 {
	f, _ := r[name].(float64)
	return int64(f)
}

// Eventually calls f until it returns true and fails the test when it does not
// within the limit. what says what was waited for.
func Eventually(t testing.TB, limit time.Duration, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks at a condition outside this process
	}
}

// Records are the complete lines of the access log so far.
func (d *Daemon) Records() []Record {
	d.t.Helper()
	data, err := os.ReadFile(d.AccessLog)
	if err != nil {
		d.t.Fatalf("read access log: %v", err)
	}
	var rs []Record
	for line := range bytes.Lines(data) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		r := Record{}
		if err := json.Unmarshal(line, &r); err != nil {
			d.t.Fatalf("access log line is not JSON: %v\n%s", err, line)
		}
		rs = append(rs, r)
	}
	return rs
}

// WaitRecord waits for the first record that satisfies match.
func (d *Daemon) WaitRecord(what string, match func(Record) bool) Record {
	d.t.Helper()
	var found Record
	Eventually(d.t, 10*time.Second, "access log record: "+what, func() bool {
		for _, r := range d.Records() {
			if match(r) {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// WaitPath waits for the first record of a request target.
func (d *Daemon) WaitPath(target string) Record {
	d.t.Helper()
	return d.WaitRecord(target, func(r Record) bool { return r.Str("path") == target })
}

// AdminClient talks to the admin API on the Unix socket.
func (d *Daemon) AdminClient() *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var dialer net.Dialer
				return dialer.DialContext(ctx, "unix", d.Socket)
			},
		},
	}
}

// Admin gets a path of the admin API and returns the status and the body.
func (d *Daemon) Admin(path string) (int, string) {
	d.t.Helper()
	resp, err := d.AdminClient().Get("http://belay" + path)
	if err != nil {
		d.t.Fatalf("admin %s: %v", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatalf("admin %s: %v", path, err)
	}
	return resp.StatusCode, string(body)
}

// Metric sums the series of a metric whose labels contain every given
// `name="value"`; ok is false if there is no such series.
func (d *Daemon) Metric(name string, labels ...string) (sum float64, ok bool) {
	d.t.Helper()
	status, body := d.Admin("/metrics")
	if status != http.StatusOK {
		d.t.Fatalf("/metrics: status %d", status)
	}
	in := bufio.NewScanner(strings.NewReader(body))
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
			d.t.Fatalf("metric line %q: %v", in.Text(), err)
		}
		sum += f
		ok = true
	}
	return sum, ok
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// RSS is the resident set of a process in bytes, and the highest it has been.
func RSS(t testing.TB, pid int) (now, peak int64) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatalf("read process status: %v", err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			now = n << 10
		case "VmHWM:":
			peak = n << 10
		}
	}
	return now, peak
}

// OpenFiles counts the descriptors of a process.
func OpenFiles(t testing.TB, pid int) int {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatalf("read descriptors: %v", err)
	}
	return len(names)
}
