// Package harness runs the real belayd for black-box tests and holds the peers
// it talks to: scripted clients, backends that misbehave on command, a DNS
// server. Nothing here looks into the daemon; tests see what an operator sees.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// builds holds what has been built by this test process.
var builds = struct {
	sync.Mutex
	dir string
	err map[string]error
}{err: map[string]error{}}

// Main runs the tests of a package and removes what was built for them. Call
// it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if builds.dir != "" {
		_ = os.RemoveAll(builds.dir)
	}
	os.Exit(code)
}

// Root is the top folder of the module.
func Root(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("go env GOMOD: %v", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// Binary builds cmd/NAME once per test process and returns its path. With
// race it has the race detector, which needs a C compiler.
func Binary(t testing.TB, name string, race bool) string {
	t.Helper()
	if !race {
		return build(t, name, "", []string{"CGO_ENABLED=0"})
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("the race detector needs gcc")
	}
	return build(t, name, ".race", []string{"CGO_ENABLED=1"}, "-race")
}

// FaultBinary is a belayd that can be made to die, stop or wait at the points of
// a hot restart; see Fault in package hotrestart.
func FaultBinary(t testing.TB) string {
	t.Helper()
	return build(t, "belayd", ".fault", []string{"CGO_ENABLED=0"}, "-tags=fault")
}

func build(t testing.TB, name, suffix string, env []string, args ...string) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	path := filepath.Join(buildDirLocked(t), name+suffix)
	err, done := builds.err[path]
	if !done {
		args = append([]string{"build", "-trimpath", "-ldflags", "-X main.version=test", "-o", path}, args...)
		cmd := exec.Command("go", append(args, "./cmd/"+name)...)
		cmd.Dir = Root(t)
		cmd.Env = append(os.Environ(), env...)
		if out, e := cmd.CombinedOutput(); e != nil {
			err = fmt.Errorf("go build ./cmd/%s: %w\n%s", name, e, out)
		}
		builds.err[path] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// BuildDir is a folder for what is built once per test process; Main removes it.
func BuildDir(t testing.TB) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	return buildDirLocked(t)
}

func buildDirLocked(t testing.TB) string {
	t.Helper()
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "belay-bin")
		if err != nil {
			t.Fatal(err)
		}
		builds.dir = dir
	}
	return builds.dir
}

// Need skips the test when a program that make test installs is not there.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// spawner starts processes on one thread that lives as long as the test
// process, so that PR_SET_PDEATHSIG, which follows the thread that forked
// (golang/go#27505), means "when the tests are gone".
var spawner = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range jobs {
			f()
		}
	}()
	return jobs
})

// start starts cmd so that it dies with the test process.
func start(cmd *exec.Cmd) error {
	err := make(chan error, 1)
	spawner() <- func() { err <- cmd.Start() }
	return <-err
}
