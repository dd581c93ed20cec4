package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// check runs belayd check on a configuration and returns its output and exit code.
func check(t *testing.T, config string, files map[string]string) (string, int) {
	t.Helper()
	dir := harness.TempDir(t)
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(dir+"/"+name), 0o755); err != nil {
			t.Fatal(err)
		}
		harness.WriteFile(t, dir, name, content)
	}
	return checkFile(t, harness.WriteFile(t, dir, "belay.toml", config))
}

func checkFile(t *testing.T, path string) (string, int) {
	t.Helper()
	cmd := exec.Command(harness.Binary(t, "belayd", false), "check", "--config", path)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// A configuration with ten mistakes gives ten messages, each with file, line
// and path, and an unknown key the nearest known name.
func TestCheckTenMistakes(t *testing.T) {
	t.Parallel()
	mistakes := []struct{ line, path, says string }{
		{"[server]", "", ""},
		{"worker = 2", "server.worker", "workers"},
		{`stop_time = "tomorrow"`, "server.stop_time", "tomorrow"},
		{"[listener.web]", "", ""},
		{`address = "127.0.0.1:99999"`, "listener.web.address", ""},
		{"backlog = -1", "listener.web.backlog", ""},
		{`allow = ["10.0.0.0/40"]`, "listener.web.allow[0]", "10.0.0.0/40"},
		{"[listener.web.timeouts]", "", ""},
		{"head = 10", "listener.web.timeouts.head", ""},
		{"[[listener.web.route]]", "", ""},
		{`path_regex = "("`, "listener.web.route[0].path_regex", ""},
		{`cluster = "nowhere"`, "listener.web.route[0].cluster", "nowhere"},
		{"[cluster.back]", "", ""},
		{`balance = "fair"`, "cluster.back.balance", "fair"},
		{`endpoints = [{ address = "10.0.0.1" }]`, "cluster.back.endpoints[0].address", ""},
		{"[cluster.empty]", "cluster.empty", "endpoint"},
	}
	var config strings.Builder
	n := 0
	for _, m := range mistakes {
		config.WriteString(m.line + "\n")
		if m.path != "" {
			n++
		}
	}
	out, code := check(t, config.String(), nil)
	if code == 0 {
		t.Error("exit code 0")
	}
	for i, m := range mistakes {
		if m.path == "" {
			continue
		}
		where := "belay.toml:" + strconv.Itoa(i+1) + ": " + m.path
		found := false
		for line := range strings.Lines(out) {
			found = found || strings.Contains(line, where) && strings.Contains(line, m.says)
		}
		if !found {
			t.Errorf("no message with %q and %q", where, m.says)
		}
	}
	if got := strings.Count(out, "belay.toml:"); got != n {
		t.Errorf("%d messages, want %d:\n%s", got, n, out)
	}
	if t.Failed() {
		t.Log(out)
	}
}

const good = `[listener.web]
address = "127.0.0.1:8080"
[[listener.web.route]]
cluster = "back"
`

// conf.d is read in order; a table named in two files is an error naming both.
func TestCheckConfD(t *testing.T) {
	t.Parallel()
	back := "[cluster.back]\nendpoints = [{ address = \"127.0.0.1:1\" }]\n"
	if out, code := check(t, good, map[string]string{"conf.d/10-back.toml": back}); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	out, code := check(t, good, map[string]string{"conf.d/10-back.toml": back, "conf.d/20-back.toml": back})
	if code == 0 {
		t.Error("twice the same table: exit code 0")
	}
	want(t, out, "cluster.back", "10-back.toml", "20-back.toml")
}

// An unreadable include and a missing file are errors that name the file.
func TestCheckUnreadable(t *testing.T) {
	t.Parallel()
	dir := harness.TempDir(t)
	path := harness.WriteFile(t, dir, "belay.toml", good+"[cluster.back]\nendpoints = [{ address = \"127.0.0.1:1\" }]\n")
	// A dangling link is unreadable for root as well.
	if err := os.Mkdir(dir+"/conf.d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nothing", dir+"/conf.d/50-gone.toml"); err != nil {
		t.Fatal(err)
	}
	out, code := checkFile(t, path)
	if code == 0 {
		t.Error("exit code 0")
	}
	want(t, out, "50-gone.toml")

	out, code = checkFile(t, dir+"/missing.toml")
	if code == 0 {
		t.Error("missing file: exit code 0")
	}
	want(t, out, "missing.toml")
}

// The daemon does not start on a configuration that check refuses, and says why.
func TestRunRefusesABadConfiguration(t *testing.T) {
	t.Parallel()
	d := harness.Launch(t, good+"colour = \"red\"\n", harness.Options{Errors: true})
	if code := d.Wait(patience); code == 0 {
		t.Error("exit code 0")
	}
	want(t, d.Stderr(), "colour", "belay.toml:")
}

// What comes with the next rounds is refused by name.
func TestCheckRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	out, code := check(t, "[listener.web]\naddress = \"127.0.0.1:8080\"\nprotocol = \"h2\"\n[[listener.web.route]]\nrespond = { status = 200 }\n", nil)
	if code == 0 {
		t.Error("exit code 0")
	}
	want(t, out, "listener.web.protocol", "h2")
}

// A key of HTTP on a TCP listener, and the other way round, is refused by name.
func TestCheckRefusesKeysOfTheOtherProtocol(t *testing.T) {
	t.Parallel()
	const cluster = "[cluster.a]\nendpoints = [{ address = \"127.0.0.1:1\" }]\n"
	out, code := check(t, "[listener.db]\naddress = \"127.0.0.1:8080\"\nprotocol = \"tcp\"\ncluster = \"a\"\ntimeouts.head = \"1s\"\n"+cluster, nil)
	if code == 0 {
		t.Error("exit code 0")
	}
	want(t, out, `listener.db.timeouts.head: is only for protocol = "http"`)
	out, code = check(t, "[listener.web]\naddress = \"127.0.0.1:8080\"\ntcp.splice = true\n[[listener.web.route]]\ncluster = \"a\"\n"+cluster, nil)
	if code == 0 {
		t.Error("exit code 0")
	}
	want(t, out, `listener.web.tcp.splice: is only for protocol = "tcp"`)
}

// check says that a good configuration is good, in one line, and exits with 0.
func TestCheckGood(t *testing.T) {
	t.Parallel()
	out, code := checkFile(t, harness.Root(t)+"/examples/quickstart.toml")
	if code != 0 {
		t.Errorf("quickstart.toml: exit code %d: %s", code, out)
	}
	want(t, out, "note: a self-signed certificate is for development")
	// The reference names files of TLS that no host has: that is all that is wrong.
	out, _ = checkFile(t, harness.Root(t)+"/docs/reference.toml")
	for _, l := range lines(out) {
		if !strings.Contains(l, ": note: ") && !strings.HasSuffix(l, "no such file or directory") {
			t.Errorf("reference.toml: %s", l)
		}
	}
}

// belayd check reads what TLS needs: a key of another certificate, one that has
// expired or soon will, an authority that is none.
func TestCheckTLS(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	good := a.Issue(harness.Leaf{Name: "good", DNS: []string{"a.example"}})
	other := a.Issue(harness.Leaf{Name: "other", DNS: []string{"a.example"}})
	old := a.Issue(harness.Leaf{Name: "old", From: -48 * time.Hour, To: -24 * time.Hour})
	check := func(keys string) (string, int) {
		t.Helper()
		path := harness.TempDir(t) + "/belay.toml"
		if err := os.WriteFile(path, []byte("[listener.web]\naddress = \"127.0.0.1:1\"\n[[listener.web.route]]\nrespond = { status = 200 }\n[listener.web.tls]\n"+keys), 0o600); err != nil {
			t.Fatal(err)
		}
		return checkFile(t, path)
	}
	mixed := fmt.Sprintf("{ cert = %q, key = %q }", good.CertFile, other.KeyFile)
	for keys, want := range map[string]string{
		"certificates = [" + mixed + "]":       "does not match",
		"certificates = [" + pairOf(old) + "]": "has expired",
		"certificates = [" + pairOf(good) + "]\n[listener.web.tls.client_certificate]\nmode = \"require\"\nca = \"" + good.KeyFile + "\"": "no certificate in the file",
	} {
		out, code := check(keys)
		if code == 0 || !strings.Contains(out, want) || !strings.Contains(out, "listener.web.tls") {
			t.Errorf("%s:\nexit code %d: %s", keys, code, out)
		}
	}
	out, code := check("certificates = [" + pairOf(good) + ", " + pairOf(other) + "]")
	if code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	want(t, out, "note: listener.web.tls: ", "expires at")
}

// belayd version prints its name and version; a wrong command is an error with a hint.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	bin := harness.Binary(t, "belayd", false)
	out, err := exec.Command(bin, "version").CombinedOutput()
	if err != nil {
		t.Errorf("version: %v", err)
	}
	want(t, string(out), "belayd", "test")
	if out, err = exec.Command(bin, "fly").CombinedOutput(); err == nil {
		t.Error("a wrong command: exit code 0")
	}
	want(t, string(out), "fly")
	out, err = exec.Command(bin, "--help").CombinedOutput()
	if err != nil {
		t.Errorf("--help: %v", err)
	}
	want(t, string(out), "check", "version", "--config")
}
