package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// A Unix listener, the admin socket and metrics_address across restarts: each
// answers all the time, and the files are the same from first to last.
func TestHotRestartKeepsEverySocket(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	dir, metrics := harness.TempDir(t), harness.Addr(t)
	s.addr = "unix:" + dir + "/web.sock"
	s.more += fmt.Sprintf("[admin]\nsocket = %q\nmetrics_address = %q\n", dir+"/a.sock", metrics)
	d := ordinary(t, s)
	at := &harness.Daemon{Socket: dir + "/a.sock"}
	admin := poll(t, at.AdminClient(), "http://belay/ready")
	public := poll(t, &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+metrics+"/metrics")
	unix := make(chan struct{})
	go func() {
		defer close(unix)
		for range 200 {
			c, err := net.Dial("unix", dir+"/web.sock")
			if err != nil {
				t.Errorf("web.sock: %v", err)
				return
			}
			if r := harness.Wrap(t, c).Do("GET", "/", "a", "Connection: close"); r.Status != 200 {
				t.Errorf("web.sock: status %d", r.Status)
			}
			_ = c.Close()
			time.Sleep(2 * time.Millisecond) // a pace over the time of the restarts
		}
	}()
	files := []string{dir + "/web.sock", dir + "/a.sock"}
	var before []os.FileInfo
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		before = append(before, info)
	}
	binary := harness.Binary(t, "belayd", false)
	for range 3 {
		if out, code := hook(t, binary, "hot-restart", "--config", d.Config); code != 0 {
			t.Fatalf("exit code %d\n%s", code, out)
		}
	}
	<-unix
	if a, b := admin(), public(); a == 0 || b == 0 {
		t.Errorf("%d answers of the admin API, %d of metrics_address", a, b)
	}
	for i, f := range files {
		info, err := os.Stat(f)
		if err != nil || !os.SameFile(info, before[i]) || info.Mode() != before[i].Mode() {
			t.Errorf("%s is not the file that it was: %v", f, err)
		}
	}
	if st := statusOf(t, at); st.Epoch != 4 {
		t.Errorf("%+v", st)
	}
}

// A restart that adds and removes listeners and clusters: the removed one refuses
// as soon as the restart is done, the added one serves, and what was counted for
// what is gone is told until the last generation that knew it has ended.
func TestHotRestartAddsAndRemoves(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	extra, added := harness.Addr(t), harness.Addr(t)
	listener := "[listener.%s]\naddress = %q\n[[listener.%s.route]]\ncluster = %q\n[cluster.%s]\n" + endpoints(s.endpoints...) + "\n"
	was := fmt.Sprintf(listener, "extra", extra, "extra", "old", "old")
	is := fmt.Sprintf(listener, "added", added, "added", "fresh", "fresh")
	s.more += was
	d := ordinary(t, s)
	for range 5 {
		wantStatus(t, harness.Get(t, extra, "/", "a"), 200)
	}
	tunnel := upgrade(t, extra)
	rewrite(t, d, was, is)
	d.HotRestart()
	if c, err := harness.TryDial("", extra); err == nil {
		_ = c.Close()
		t.Error("the listener that is gone accepts")
	}
	wantStatus(t, harness.Get(t, added, "/", "a"), 200)
	if n, _ := d.Metric("belay_listener_requests_total", `listener="added"`); n != 1 {
		t.Errorf("%v requests of the added listener", n)
	}
	if n, ok := d.Metric("belay_listener_requests_total", `listener="extra"`); n < 5 || !ok {
		t.Errorf("%v requests of the listener that is gone, its old process lives", n)
	}
	if _, ok := d.Metric("belay_cluster_requests_total", `cluster="old"`); !ok {
		t.Error("the cluster that is gone is not told of, its old process lives")
	}
	if tunnel.Send("still there"); tunnel.ReadN(11) != "still there" {
		t.Error("the tunnel through what is gone does not work")
	}
	_ = tunnel.Close()
	d.Wait(patience)
	harness.Eventually(t, patience, "the series to be gone", func() bool {
		_, body := d.Admin("/metrics")
		return !strings.Contains(body, `listener="extra"`) && !strings.Contains(body, `cluster="old"`)
	})
	_, body := d.Admin("/metrics")
	want(t, body, `listener="added"`, `cluster="fresh"`, `listener="web"`)
	rewrite(t, d, is, was) // and back again
	d.HotRestart()
	wantStatus(t, harness.Get(t, extra, "/", "a"), 200)
}

// belayctl restart-status before, after a restart, and after one that failed.
func TestBelayctlRestartStatus(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d := ordinary(t, s, harness.Options{Errors: true})
	show := func(parts ...string) {
		t.Helper()
		out, err := belayctl(t, d, "restart-status")
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		want(t, out, parts...)
	}
	show("epoch", "serving", "0 ok, 0 failed, 0 rolled back", "protocol", "hot-0.shm, version", "EPOCH", "HEARTBEAT")
	tunnel := upgrade(t, s.addr)
	g := d.HotRestart()
	show("draining", "to epoch 2: ok", "1 ok, 0 failed, 0 rolled back", fmt.Sprint(d.PID()), fmt.Sprint(g.PID))
	st := statusOf(t, d)
	if len(st.Generations) != 2 || st.Generations[0].Main || !st.Generations[1].Main || st.Generations[1].State != "serving" {
		t.Errorf("%+v", st)
	}
	harness.Eventually(t, patience, "the old one's connection", func() bool { return statusOf(t, d).Generations[0].Connections == 1 })
	_ = tunnel.Close()
	harness.Eventually(t, patience, "the old one to be gone", func() bool { return len(statusOf(t, d).Generations) == 1 })
	rewrite(t, d, "workers = 2", "workers = -2")
	d.TryHotRestart()
	show("serving", "to epoch 3: failed", "reason", "workers", "1 ok, 1 failed, 0 rolled back")
}

// belayctl drain has /ready say no and replies announce the end; --undo ends that.
// A restart does not.
func TestBelayctlDrain(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	s.more += "drain_strategy = \"immediate\"\n"
	d := ordinary(t, s)
	ready := func(status int, closes bool) {
		t.Helper()
		if got, body := d.Admin("/ready"); got != status {
			t.Errorf("/ready: status %d, want %d: %s", got, status, body)
		}
		if r := harness.Get(t, s.addr, "/", "a"); r.Status != 200 || r.Close != closes {
			t.Errorf("a reply with status %d says close: %v, want %v", r.Status, r.Close, closes)
		}
	}
	drain := func(args ...string) {
		t.Helper()
		if out, err := belayctl(t, d, append([]string{"drain"}, args...)...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	ready(200, false)
	drain()
	ready(503, true)
	d.HotRestart()
	ready(503, true)
	drain("--undo")
	ready(200, false)
	d.HotRestart()
	ready(200, false)
}

// What an operator asks for while a restart is under way holds in the new process,
// and so does what he takes back.
func TestHotRestartKeepsDrainOfProbation(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	s.more = strings.Replace(s.more, `probation = "200ms"`, `probation = "1500ms"`, 1)
	d := ordinary(t, s)
	for i, undo := range []bool{false, true} {
		done := make(chan harness.Generation, 1)
		go func() { done <- d.HotRestart() }()
		harness.Eventually(t, patience, "probation", func() bool { return statusOf(t, d).Phase == "probation" })
		args := []string{"drain"}
		if undo {
			args = append(args, "--undo")
		}
		if out, err := belayctl(t, d, args...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if g := <-done; g.Epoch != i+2 {
			t.Fatalf("epoch %d\n%s", g.Epoch, g.Output)
		}
		resp, err := d.AdminClient().Get("http://belay/ready")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if ready := resp.StatusCode == http.StatusOK; ready != undo {
			t.Errorf("after drain %v: status %d", args[1:], resp.StatusCode)
		}
	}
}

// An address of the admin API that cannot be had fails the restart before anybody
// commits; one that can is answered from the moment the new process is main.
func TestHotRestartMovesMetrics(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	taken := harness.NewBackend(t, echoOrUpgrade).Addr
	first, second, socket := harness.Addr(t), harness.Addr(t), harness.TempDir(t)+"/a.sock"
	s.more += fmt.Sprintf("[admin]\nsocket = %q\nmetrics_address = %q\n", socket, first)
	d := ordinary(t, s, harness.Options{Errors: true})
	move := func(from, to string) (string, int) {
		rewrite(t, d, "metrics_address = \""+from, "metrics_address = \""+to)
		return hook(t, harness.Binary(t, "belayd", false), "hot-restart", "--config", d.Config)
	}
	fails := func(from, to string, why ...string) {
		out, code := move(from, to)
		if code == 0 {
			t.Errorf("%s is taken", to)
		}
		want(t, out, append(why, to)...)
		if st := statusAt(t, socket); st.Epoch != 1 || st.LastRestart.Result != "failed" {
			t.Errorf("%+v", st)
		}
	}
	fails(first, taken, "admin.metrics_address", "address already in use")
	fails(taken, s.addr, "address")
	if out, code := move(s.addr, second); code != 0 {
		t.Fatal(out)
	}
	if r := harness.Get(t, second, "/metrics", "a"); r.Status != 200 {
		t.Errorf("status %d", r.Status)
	}
	if c, err := net.Dial("tcp", first); err == nil {
		_ = c.Close()
		t.Error("the old address still answers")
	}
}

// Whoever called the hook and read its output may go: the new process writes where
// the old one wrote, and a log that nobody reads ends nobody.
func TestHotRestartOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d := ordinary(t, s)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(harness.Binary(t, "belayd", false), "hot-restart", "--config", d.Config)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	out, err := io.ReadAll(r) // ends when nobody else has the pipe
	if err != nil || cmd.Wait() != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := isMain.FindSubmatch(out)
	if m == nil {
		t.Fatalf("output %s", out)
	}
	pid, _ := strconv.Atoi(string(m[1]))
	t.Cleanup(func() { harness.EndProcess(t, pid) })
	d.Signal(syscall.SIGHUP)
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.WaitLine("SIGHUP ignored")
	if r := harness.Get(t, s.addr, "/", "a"); r.Status != 200 {
		t.Errorf("status %d", r.Status)
	}
}
