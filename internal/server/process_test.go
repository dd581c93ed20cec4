package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/hotrestart"
	"belay/internal/stats"
)

const patience = 10 * time.Second

// logText is a log that tests look into.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a server with a TCP and a Unix listener, which answers by itself, and
// the loop that Run would have.
type rig struct {
	*Server
	t         *testing.T
	tcp, unix string
	text      *logText
}

func newRig(t *testing.T, more string) *rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "belay") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{t: t, tcp: ln.Addr().String(), unix: dir + "/s", text: &logText{}}
	_ = ln.Close()
	const route = "[[listener.%[1]s.route]]\nrespond = { status = 200, body = %[1]q }\n"
	cfg, err := config.Parse("test.toml", fmt.Appendf(nil, "[server]\nworkers = 2\n[admin]\nsocket = %q\n[access_log]\noutput = \"none\"\n"+
		"[listener.a]\naddress = %q\n"+fmt.Sprintf(route, "a")+"[listener.b]\naddress = %q\n"+fmt.Sprintf(route, "b")+more, dir+"/admin", r.tcp, "unix:"+r.unix))
	if err != nil {
		t.Fatal(err)
	}
	r.Server = newServer(cfg, "test", nil)
	r.log = slog.New(slog.NewTextHandler(r.text, nil))
	r.memory.s = r.Server
	if err := r.build(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := r.start(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case f := <-r.commands:
				f()
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { r.stop(nil); cancel(); <-done; r.end() })
	return r
}

// client is a connection with its request sent.
type client struct {
	net.Conn
	r *bufio.Reader
}

func (r *rig) ask(network, addr string) *client {
	r.t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	x := &client{c, bufio.NewReader(c)}
	x.send(r.t)
	return x
}

func (c *client) send(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

// answer is the body of the reply that comes within the time; "" if none does.
func (c *client) answer(within time.Duration) string {
	_ = c.SetReadDeadline(time.Now().Add(within))
	if _, err := c.r.Peek(1); err != nil {
		return ""
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err.Error()
	}
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

func addressOf(t *testing.T, g []hotrestart.Group, name string) eventloop.Address {
	t.Helper()
	for _, x := range g {
		if x.Name == name {
			return x.Address
		}
	}
	t.Fatalf("no socket %q in %+v", name, g)
	return eventloop.Address{}
}

// The node pauses what a child took and nothing else; what was queued meanwhile
// is answered after Resume.
func TestPauseAndResume(t *testing.T) {
	r := newRig(t, "")
	list := r.Sockets()
	if len(list) != 3 || list[0].Address.AP != netip.MustParseAddrPort(r.tcp) || list[1].Address.Unix != r.unix || len(list[0].FDs) == 0 || len(list[1].FDs) == 0 || len(list[2].FDs) != 1 {
		t.Fatalf("sockets: %+v", list)
	}
	open := r.ask("tcp", r.tcp)
	if got := open.answer(patience); got != "a" {
		t.Fatalf("answer %q", got)
	}
	r.Pause([]eventloop.Address{addressOf(t, list, "a")})
	queued := r.ask("tcp", r.tcp)
	if got := queued.answer(50 * time.Millisecond); got != "" {
		t.Errorf("accepted after Pause: %q", got)
	}
	if got := r.ask("unix", r.unix).answer(patience); got != "b" {
		t.Errorf("what the child did not take: %q", got)
	}
	open.send(t)
	if got := open.answer(patience); got != "a" {
		t.Errorf("a connection that was there: %q", got)
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	if got := queued.answer(patience); got != "a" {
		t.Errorf("what was queued: %q", got)
	}
	r.Renew()
	if got := r.ask("tcp", r.tcp).answer(patience); got != "a" {
		t.Errorf("after Renew: %q", got)
	}
}

// Drain closes the listen sockets, leaves their files to the successor, and lets
// the connections live; Terminate cuts and counts them, and then the process may go.
func TestDrainAndTerminate(t *testing.T) {
	r := newRig(t, "[hot_restart]\ndrain_time = \"1h\"\nshutdown_time = \"2h\"\n")
	if open, since, until := r.Connections(); open != 0 || !since.IsZero() || !until.IsZero() {
		t.Errorf("before: %d, %v, %v", open, since, until)
	}
	c := r.ask("tcp", r.tcp)
	c.answer(patience)
	r.Pause([]eventloop.Address{addressOf(t, r.Sockets(), "a"), addressOf(t, r.Sockets(), "b")})
	r.Drain()
	if open, since, until := r.Connections(); open != 1 || since.IsZero() || until.Sub(since) < time.Hour {
		t.Errorf("while it drains: %d, %v, %v", open, since, until)
	}
	if x, err := net.Dial("tcp", r.tcp); err == nil {
		_ = x.Close()
		t.Error("the port is open")
	}
	if _, err := os.Stat(r.unix); err != nil {
		t.Errorf("the socket's file: %v", err)
	}
	if _, err := r.SetDraining(true, ""); err == nil || !strings.Contains(err.Error(), "draining") {
		t.Errorf("belayctl drain: %v", err)
	}
	if ok, why := r.Ready(); !ok { // asked before the successor took the admin socket, which serves
		t.Errorf("not ready: %s", why)
	}
	if n := r.Terminate(0); n != 1 {
		t.Errorf("%d connections are told of", n)
	}
	gone := make(chan (<-chan struct{}))
	r.commands <- func() { gone <- r.drained() }
	select {
	case <-<-gone:
	case <-time.After(patience):
		t.Fatal("the process does not end")
	}
	if n := r.cut.Load(); n != 1 || !strings.Contains(r.text.String(), "connections cut") {
		t.Errorf("%d connections counted as cut; log:\n%s", n, r.text)
	}
}

// A longer time does not undo a shorter one.
func TestTerminateNeverProlongs(t *testing.T) {
	r := newRig(t, "[hot_restart]\ndrain_time = \"1h\"\nshutdown_time = \"2h\"\n")
	c := r.ask("tcp", r.tcp)
	c.answer(patience)
	r.Drain()
	r.Terminate(time.Minute)
	_, _, short := r.Connections()
	r.Terminate(time.Hour)
	if _, _, until := r.Connections(); !until.Equal(short) || time.Until(until) > time.Minute {
		t.Errorf("until %v, then %v", short, until)
	}
}

// Whoever was accepted by the admin API is answered, also if the request comes
// when the process is about to leave: the successor knows nothing of it.
func TestAdminAnswersWhoItAccepted(t *testing.T) {
	r := newRig(t, "")
	dial := func() *client {
		c, err := net.Dial("unix", r.cfg.Admin.Socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return &client{c, bufio.NewReader(c)}
	}
	early, later := dial(), dial()
	later.send(t)
	if later.answer(patience) == "" { // so the one before it was accepted
		t.Fatal("no answer")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.admin.Shutdown(ctx) }()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // between two looks
		c, err := net.Dial("unix", r.cfg.Admin.Socket)
		if err != nil {
			break
		}
		_ = c.Close()
		if time.Now().After(end) {
			t.Fatal("the admin socket is open")
		}
	}
	early.send(t)
	if early.answer(patience) == "" {
		t.Error("no answer to a request on an accepted connection")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A worker that does not turn is found out, and not asked again before it has
// answered.
func TestTurn(t *testing.T) {
	r := newRig(t, "")
	if !r.Turn(patience) {
		t.Fatal("it does not turn")
	}
	block := make(chan struct{})
	r.workers[1].loop.Post(func() { <-block })
	for range 2 {
		if r.Turn(20 * time.Millisecond) {
			t.Error("a worker that stands still is said to turn")
		}
	}
	if n := r.turns.owed.Load(); n != 1 {
		t.Errorf("%d workers owe an answer", n)
	}
	close(block)
	for range 2 {
		if !r.Turn(patience) {
			t.Error("it does not turn again")
		}
	}
}

func requests(list []stats.Delta) (n uint64) {
	for _, d := range list {
		if d.Family == "belay_listener_requests_total" {
			n += d.Count
		}
	}
	return n
}

// Counts are handed out once: own ones and all, until they are reset.
func TestDeltas(t *testing.T) {
	r := newRig(t, "")
	for range 3 {
		r.ask("tcp", r.tcp).answer(patience)
	}
	if n := requests(r.Deltas(false)); n != 3 {
		t.Errorf("%d at first", n)
	}
	if n := requests(r.Deltas(false)); n != 3 {
		t.Errorf("%d again, nobody took them", n)
	}
	r.DeltasTaken()
	r.ask("tcp", r.tcp).answer(patience)
	r.Apply(7, []stats.Delta{{Family: "belay_listener_requests_total", Kind: stats.KindCounter, Count: 10, Labels: []stats.Label{{Name: "listener", Value: "gone"}}}})
	if n := requests(r.Deltas(false)); n != 11 {
		t.Errorf("%d after one more and ten of another", n)
	}
	r.DeltasTaken()
	if n := requests(r.Deltas(true)); n != 4 {
		t.Errorf("%d of its own", n)
	}
	if g := r.Generations(); len(g) != 1 || g[0] != 7 {
		t.Errorf("generations %v", g)
	}
	r.DeltasReset()
	if n := requests(r.Deltas(false)); n != 14 {
		t.Errorf("%d for the next receiver", n)
	}
}

// State that cannot be read is said in the log with its owner, and the rest is
// taken.
func TestTakeState(t *testing.T) {
	r := newRig(t, "")
	at := time.Unix(1234, 0).UTC()
	r.takeState([]hotrestart.Blob{
		{Owner: "of a later version", Version: 1, Data: []byte("x")},
		{Owner: stateDNS, Version: cluster.StateVersion + 1, Data: []byte("x")},
		{Owner: stateDNS, Version: cluster.StateVersion, Data: []byte("\xff garbage")},
		{Owner: stateDrain, Version: stateDrainVersion, Data: []byte("garbage")},
		{Owner: stateDrain, Version: stateDrainVersion + 1, Data: []byte("null")},
		{Owner: stateDrain, Version: stateDrainVersion, Data: fmt.Appendf(nil, "%q", at.Format(time.RFC3339))},
	})
	if n := strings.Count(r.text.String(), "its owner starts fresh"); n != 5 {
		t.Errorf("%d of 5 are told of:\n%s", n, r.text)
	}
	if r.announceAt == nil || !r.announceAt.Equal(at) {
		t.Errorf("the wish to drain: %v", r.announceAt)
	}
	for _, b := range r.State() { // what it passes on, another takes
		before := r.text.String()
		r.takeState([]hotrestart.Blob{b})
		if r.text.String() != before {
			t.Errorf("its own state of %s is not taken:\n%s", b.Owner, r.text)
		}
	}
}

// The memory check goes by the control group: it refuses with the figures, and
// one warning is given at half of the limit.
func TestMemory(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	const mib = 1 << 20
	write("proc/self/statm", fmt.Sprintf("1000000 %d 500 100 0 400 0\n", 100*mib/os.Getpagesize()))
	write("proc/self/cgroup", "0::/b\n")
	write("proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\n")
	write("cgroup/b/memory.max", fmt.Sprintln(150*mib))
	write("cgroup/b/memory.current", fmt.Sprintln(110*mib))
	write("cgroup/b/memory.stat", "inactive_file 0\n")
	r := newRig(t, "")
	r.memory.root = root
	if _, err := r.Headroom(); err == nil || !strings.Contains(err.Error(), "120 MiB") || !strings.Contains(err.Error(), "40 MiB") {
		t.Errorf("error %v, want what is needed and what is there", err)
	}
	r.memory.mu.Lock()
	r.memory.read = time.Time{} // what was read of the real host does not count
	r.memory.mu.Unlock()
	r.memory.look()
	r.memory.look()
	if n := strings.Count(r.text.String(), "more than half of its memory limit"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, r.text)
	}
	write("cgroup/b/memory.max", fmt.Sprintln(500*mib))
	if note, err := r.Headroom(); err != nil || note != "" {
		t.Errorf("with room: %q, %v", note, err)
	}
	r.memory.root = t.TempDir() // nothing can be read
	if note, err := r.Headroom(); err != nil || note == "" {
		t.Errorf("nothing to read: %q, %v; it should allow and say so", note, err)
	}
}

func TestStoreName(t *testing.T) {
	for _, tt := range []struct {
		a    eventloop.Address
		i    int
		want string
	}{
		{eventloop.Address{AP: netip.MustParseAddrPort("127.0.0.1:80")}, 0, "belay=127.0.0.1_80-0"},
		{eventloop.Address{AP: netip.MustParseAddrPort("[::1]:443")}, 3, "belay=[__1]_443-3"},
	} {
		if got := storeName(tt.a, tt.i); got != tt.want || !isStored(got) {
			t.Errorf("%v: %q, want %q", tt.a, got, tt.want)
		}
	}
	long := storeName(eventloop.Address{Unix: "/" + strings.Repeat("é x", 90)}, 12)
	if len(long) > 255 || strings.ContainsAny(long, ": é") || !strings.HasSuffix(long, "-12") {
		t.Errorf("a long one: %q", long)
	}
	if isStored("web") {
		t.Error("the name of a socket unit is taken for one of belay's")
	}
}

func TestHotRestartDirectory(t *testing.T) {
	c := &config.Config{}
	check := func(what, want string) {
		t.Helper()
		if got := hotRestartDirectory(c); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	t.Setenv("RUNTIME_DIRECTORY", "")
	check("nothing", "")
	c.Admin.Socket = "@name"
	check("an abstract admin socket", "")
	c.Admin.Socket = "/run/x/admin.sock"
	check("admin.socket", "/run/x")
	t.Setenv("RUNTIME_DIRECTORY", "/run/belay:/run/other")
	check("a service", "/run/belay")
	c.HotRestart.Directory = "/d"
	check("configured", "/d")
}
