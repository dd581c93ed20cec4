package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// One JSON line per request, with what an operator asks first.
func TestAccessLogJSON(t *testing.T) {
	t.Parallel()
	s := &site{route: `name = "shop"`, endpoints: []string{harness.NewEcho(t, "a").Addr}}
	d := serve(t, s)
	c := harness.DialFrom(t, "127.0.0.7", s.addr)
	c.Send(harness.Request("POST", "/buy?x=\"1\\", "shop.example", "Content-Length: 5", "User-Agent: a \"b\"\t\xff", "Referer: /r") + "hello")
	// The quote and the backslash make this target invalid: it is refused, and logged safely.
	c.Reply("POST")
	c = harness.DialFrom(t, "127.0.0.7", s.addr)
	c.Send(harness.Request("POST", "/buy?x=1", "shop.example", "Content-Length: 5", "User-Agent: a \"b\"\t\xff", "Referer: /r") + "hello")
	r := c.Reply("POST")
	wantStatus(t, r, 200)
	rec := d.WaitPath("/buy?x=1")
	for name, value := range map[string]string{
		"client": "127.0.0.7", "listener": "web", "route": "shop", "cluster": "back", "endpoint": "e0", "method": "POST",
		"host": "shop.example", "protocol": "HTTP/1.1", "referer": "/r", "status": "200", "reason": "", "attempts": "1", "bytes_in": "5",
	} {
		if got := rec.Str(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if rec.Int("bytes_out") != int64(len(r.Body)) {
		t.Errorf("bytes_out %d, the body has %d", rec.Int("bytes_out"), len(r.Body))
	}
	if !strings.HasPrefix(rec.Str("user_agent"), "a \"b\"\t") {
		t.Errorf("user_agent %q", rec.Str("user_agent"))
	}
	for _, name := range []string{"time", "duration", "request_id"} {
		if rec.Str(name) == "" {
			t.Errorf("no %s: %v", name, rec)
		}
	}
}

// A format string instead of JSON.
func TestAccessLogFormat(t *testing.T) {
	t.Parallel()
	dir := harness.TempDir(t)
	s := &site{
		endpoints: []string{harness.NewEcho(t, "a").Addr},
		more: "[access_log]\noutput = \"" + dir + "/log\"\nflush_interval = \"5ms\"\n" +
			"format = '%{client} \"%{method} %{path}\" %{status} 100%%'\n",
	}
	serve(t, s)
	wantStatus(t, harness.Get(t, s.addr, "/a?b", "a"), 200)
	line := regexp.MustCompile(`^127\.0\.0\.1 "GET /a\?b" 200 100%\n$`)
	harness.Eventually(t, patience, "the line", func() bool {
		data, _ := os.ReadFile(dir + "/log")
		return line.Match(data)
	})
}

// The default is no access log.
func TestAccessLogDefaultIsNone(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}, more: "[access_log]\n"}
	d := serve(t, s)
	wantStatus(t, harness.Get(t, s.addr, "/marker", "a"), 200)
	d.Stop()
	wantNot(t, d.Stderr(), "/marker")
}

// output = "stderr".
func TestAccessLogToStderr(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}, more: "[access_log]\noutput = \"stderr\"\n"}
	d := serve(t, s)
	wantStatus(t, harness.Get(t, s.addr, "/marker", "a"), 200)
	want(t, d.WaitLine("/marker"), `"status":200`)
}

// SIGUSR1 reopens the file: a rotation loses no line and cuts none.
func TestAccessLogReopensOnSIGUSR1(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	const rounds, each = 4, 100
	for i := range rounds {
		for range each {
			c.ExpectOpen("/", "a")
		}
		if err := os.Rename(d.AccessLog, d.AccessLog+"."+string(rune('0'+i))); err != nil {
			t.Fatal(err)
		}
		d.Signal(syscall.SIGUSR1)
		harness.Eventually(t, patience, "a new file", func() bool { _, err := os.Stat(d.AccessLog); return err == nil })
	}
	if st, err := os.Stat(d.AccessLog); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("new file %v, %v", st, err)
	}
	_ = c.Close()
	d.Stop()
	files, err := filepath.Glob(d.AccessLog + "*")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			lines++
			if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}\n") {
				t.Errorf("cut line %q", line)
			}
		}
	}
	if lines != rounds*each {
		t.Errorf("%d lines in %d files, want %d", lines, len(files), rounds*each)
	}
}

// A disk that takes nothing never blocks a request: what does not fit the
// queue is dropped and counted.
func TestAccessLogSlowDisk(t *testing.T) {
	t.Parallel()
	dir := harness.TempDir(t)
	fifo := dir + "/fifo"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fifo, os.O_RDWR, 0) // so that belay can open it; nobody reads
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := &site{
		endpoints: []string{harness.NewEcho(t, "a").Addr},
		more:      "[access_log]\noutput = \"" + fifo + "\"\nqueue_size = \"64KiB\"\nflush_interval = \"5ms\"\n",
	}
	d := serve(t, s, harness.Options{Errors: true})
	c := harness.Dial(t, s.addr)
	slowest := time.Duration(0)
	long := "X-Forwarded-For: " + strings.Repeat("1", 500)
	for range 2000 {
		start := time.Now()
		wantStatus(t, c.Do("GET", "/"+strings.Repeat("p", 200), "a", long), 200)
		slowest = max(slowest, time.Since(start))
	}
	if slowest > time.Second {
		t.Errorf("a request took %v", slowest)
	}
	harness.Eventually(t, patience, "drops are counted", func() bool {
		n, ok := d.Metric("belay_access_log_dropped_total")
		return ok && n > 0
	})
	_ = c.Close()
	d.Signal(syscall.SIGTERM)
	d.Wait(15 * time.Second) // the stuck disk does not hold the end up for ever either
}

// Each request ends in one record, whatever became of it.
func TestAccessLogOneRecordPerRequest(t *testing.T) {
	t.Parallel()
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}}
	d := serve(t, s)
	harness.Dial(t, s.addr).Send("BAD\r\n\r\n").ExpectStatus(400)
	c := harness.Dial(t, s.addr)
	c.Send(get + "\r\n" + get + "\r\n" + "GET x HTTP/1.1\r\n\r\n")
	for _, status := range []int{200, 200, 400} {
		c.ExpectStatus(status)
	}
	harness.Eventually(t, patience, "four records", func() bool { return len(d.Records()) >= 4 })
	d.Stop()
	bad := 0
	for _, r := range d.Records() {
		if r.Int("status") == 400 {
			bad++
			if r.Str("reason") == "" {
				t.Errorf("no reason: %v", r)
			}
		}
	}
	if n := len(d.Records()); n != 4 || bad != 2 {
		t.Errorf("%d records, %d bad, want 4 and 2", n, bad)
	}
}

// The line of an upgraded connection, which is written at its end, tells of its
// own request, whatever others have sent meanwhile.
func TestAccessLogOfTunnels(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d := serve(t, s)
	var tunnels []*harness.Conn
	for i := range 6 {
		c := harness.Dial(t, s.addr)
		wantStatus(t, c.Do("GET", fmt.Sprintf("/chat/room-%d", i), "chat.example", "Connection: Upgrade", "Upgrade: websocket", "User-Agent: chatter", "Referer: /hall"), 101)
		tunnels = append(tunnels, c)
	}
	for range 12 {
		c := harness.Dial(t, s.addr)
		c.Send(harness.Request("POST", "/login?password=hunter2", "bank.example", "Content-Length: 1", "Authorization: Bearer secret", "Cookie: session=secret") + "x")
		wantStatus(t, c.Reply("POST"), 200)
	}
	for i, c := range tunnels {
		c.Close()
		rec := d.WaitPath(fmt.Sprintf("/chat/room-%d", i))
		for name, value := range map[string]string{"method": "GET", "host": "chat.example", "user_agent": "chatter", "referer": "/hall", "status": "101"} {
			if got := rec.Str(name); got != value {
				t.Errorf("room %d: %s is %q, want %q", i, name, got, value)
			}
		}
	}
}
