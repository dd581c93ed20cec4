package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"belay/test/harness"
)

// patient takes no busy machine for a process that hangs.
var patient = strings.Replace(hotRestart, `heartbeat = "500ms"`, `heartbeat = "2s"`, 1)

// restartable is a site with one echo backend that also upgrades, and short times
// where a test waits.
func restartable(t *testing.T) *site {
	t.Helper()
	return &site{endpoints: []string{harness.NewBackend(t, echoOrUpgrade).Addr}, more: patient}
}

func echoOrUpgrade(p *harness.Peer) {
	for {
		line, err := p.R.Peek(len("GET /chat"))
		if err != nil {
			return
		}
		if string(line) == "GET /chat" {
			upgradeEcho(p)
			return
		}
		head := p.Head()
		body, err := p.Body(head)
		if err != nil || p.Send(harness.Reply200(head+body)) != nil {
			return
		}
	}
}

// ordinary is a running daemon for it, with the hooks' output if the test fails.
func ordinary(t *testing.T, s *site, opts ...harness.Options) *harness.Daemon {
	t.Helper()
	d := serve(t, s, opts...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.Hooks())
		}
	})
	return d
}

// faulty is a daemon of the build with faults; arm has the next one happen.
func faulty(t *testing.T, s *site, env ...string) (d *harness.Daemon, arm func(point, action string)) {
	t.Helper()
	path := harness.TempDir(t) + "/fault"
	d = ordinary(t, s, harness.Options{Fault: true, Errors: true, Env: append(env, "BELAY_FAULT="+path)})
	return d, func(point, action string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(point+" "+action+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(path + ".done") // of the one before
	}
}

var isMain = regexp.MustCompile(`belayd: epoch \d+ \(process (\d+)\) is main`)

// hook runs belayd with arguments of the test's own; a process that it makes main
// ends with the test.
func hook(t *testing.T, binary string, args ...string) (output string, code int) {
	t.Helper()
	path := filepath.Join(harness.TempDir(t), "hook.log")
	out, err := os.Create(path) // a file: a pipe would be waited for
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if m := isMain.FindSubmatch(data); m != nil {
		pid, _ := strconv.Atoi(string(m[1]))
		t.Cleanup(func() { harness.EndProcess(t, pid) })
	}
	return string(data), cmd.ProcessState.ExitCode()
}

// restartStatus is what belayctl restart-status --json says.
type restartStatus struct {
	Epoch       int
	Phase       string
	Generations []generationStatus
	LastRestart struct {
		Epoch  int
		Result string
		Reason string
	} `json:"last_restart"`
	Restarts struct {
		OK, Failed int
		RolledBack int `json:"rolled_back"`
	}
}

type generationStatus struct {
	Epoch, PID  int
	State       string
	Main        bool
	Connections int
	TimeLeft    float64 `json:"time_left_seconds"`
}

func statusOf(t *testing.T, d *harness.Daemon) restartStatus {
	t.Helper()
	return statusAt(t, d.Socket)
}

func statusAt(t *testing.T, socket string) (s restartStatus) {
	t.Helper()
	out, err := belayctl(t, &harness.Daemon{Socket: socket}, "restart-status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		t.Fatalf("restart-status: %v\n%s", err, out)
	}
	return s
}

// rewrite changes the configuration file by replacing texts, in pairs.
func rewrite(t *testing.T, d *harness.Daemon, pairs ...string) {
	t.Helper()
	data, err := os.ReadFile(d.Config)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(data), pairs[i]) {
			t.Fatalf("the configuration has no %q", pairs[i])
		}
	}
	harness.WriteFile(t, d.Dir, "belay.toml", strings.NewReplacer(pairs...).Replace(string(data)))
}

// poll asks for a URL again and again until the returned function is called, which
// says how many answers there were. Anything but status 200 fails the test.
func poll(t *testing.T, client *http.Client, url string) (end func() int64) {
	t.Helper()
	var good, stop atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for failed := 0; stop.Load() == 0 && failed < 5; {
			resp, err := client.Get(url)
			if err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					err = fmt.Errorf("status %d", resp.StatusCode)
				}
			}
			if err != nil {
				failed++
				t.Errorf("%s: at %s: %v", url, time.Now().Format("15:04:05.000"), err)
				continue
			}
			good.Add(1)
			time.Sleep(time.Millisecond) // a pace, not a wait
		}
	}()
	t.Cleanup(func() { stop.Store(1); <-done })
	return func() int64 { stop.Store(1); <-done; return good.Load() }
}

// ended waits for the end of a generation.
func ended(t *testing.T, pid int) {
	t.Helper()
	harness.Eventually(t, patience, fmt.Sprintf("process %d to end", pid), func() bool { return !harness.ProcessAlive(pid) })
}
