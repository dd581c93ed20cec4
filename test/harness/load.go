package harness

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"belay/test/box/traffic"
)

// LoadOptions say what load is made; see traffic.Options.
type LoadOptions = traffic.Options

// LoadResult is what the clients of a load have counted; see traffic.Result.
type LoadResult struct{ traffic.Result }

// MustBeClean fails the test when a request failed, or none was made.
func (r *LoadResult) MustBeClean(t testing.TB) {
	t.Helper()
	if r.Failed() > 0 {
		t.Fatalf("requests failed under load:\n%s", r)
	}
	if r.Requests() == 0 {
		t.Fatal("the load made no request")
	}
}

// Load is load on a box, made by clients inside.
type Load struct {
	answering
	last time.Duration // that a request may take
}

// StartLoad starts the clients and returns when each of them has had its first
// reply, good or not.
func StartLoad(b *Box, o LoadOptions) *Load {
	b.t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		b.t.Fatal(err)
	}
	l := &Load{answering{p: b.startLoad("run", string(text))}, o.Timeout + o.SlowFor}
	var first LoadResult
	l.read(loadWait+o.Timeout, &first.Result)
	return l
}

// Totals is what has been counted so far.
func (l *Load) Totals() *LoadResult {
	l.p.b.t.Helper()
	r := &LoadResult{}
	l.ask("totals", loadWait, &r.Result)
	return r
}

// Stop lets the clients finish what they have begun, slow replies too, and
// returns the final counts.
func (l *Load) Stop() *LoadResult {
	l.p.b.t.Helper()
	r := &LoadResult{}
	l.ask("stop", loadWait+l.last, &r.Result)
	l.p.Wait(loadWait)
	return r
}

// LoadBackend answers the clients of a Load, in the box.
type LoadBackend struct{ answering }

// StartLoadBackend listens on addresses in the box, "ip:port" or paths of Unix sockets.
func StartLoadBackend(b *Box, addrs ...string) *LoadBackend {
	b.t.Helper()
	l := &LoadBackend{answering{p: b.startLoad(append([]string{"backend"}, addrs...)...)}}
	l.read(loadWait, &traffic.Seen{})
	return l
}

// Seen is what the backend has counted so far.
func (l *LoadBackend) Seen() traffic.Seen {
	l.p.b.t.Helper()
	var s traffic.Seen
	l.ask("totals", loadWait, &s)
	return s
}

// Process is its process.
func (l *LoadBackend) Process() *BoxProcess { return l.p }

// loadWait is for the load program to answer, beyond the requests it waits for.
const loadWait = 30 * time.Second

// answering is a load program that answers commands by lines.
type answering struct {
	p    *BoxProcess
	next int // line to read
}

func (a *answering) ask(command string, limit time.Duration, answer any) {
	a.p.b.t.Helper()
	if _, err := a.p.Stdin.Write([]byte(command + "\n")); err != nil {
		a.p.b.t.Fatalf("load: %s: %v %s", command, err, a.p.Stderr())
	}
	a.read(limit, answer)
}

func (a *answering) read(limit time.Duration, answer any) {
	a.p.b.t.Helper()
	line := a.p.WaitLine(a.next, limit)
	a.next++
	if err := json.Unmarshal([]byte(line), answer); err != nil {
		a.p.b.t.Fatalf("load: %v in %q", err, line)
	}
}

// startLoad brings the load program into the box and starts it.
func (b *Box) startLoad(args ...string) *BoxProcess {
	b.t.Helper()
	const inside = "/usr/local/lib/belay-load"
	if _, err := os.Stat(b.Host(inside)); err != nil {
		b.CopyFile(loadProgram(b.t), inside)
	}
	// Ahead of the rest of the machine: what is measured is the proxy's delay.
	return b.Start(append([]string{"nice", "-n", "-10", inside}, args...)...)
}

// loadProgram builds test/box/load once per test process.
func loadProgram(t testing.TB) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "belay-bin")
		if err != nil {
			t.Fatal(err)
		}
		builds.dir = dir
	}
	path := filepath.Join(builds.dir, "load")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./test/box/load")
	cmd.Dir = Root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./test/box/load: %v\n%s", err, out)
	}
	return path
}
