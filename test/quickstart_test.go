package test

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"belay/test/harness"
)

// make run: the quick start serves, and what it prints to try works as printed.
func TestQuickstart(t *testing.T) {
	harness.Need(t, "curl")
	example, err := os.ReadFile(harness.Root(t) + "/examples/quickstart.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\s*address = "(127\.[0-9.:]+)"`).FindAllStringSubmatch(string(example), -1) {
		if c, err := harness.TryDial("", m[1]); err == nil {
			_ = c.Close()
			t.Skipf("%s is in use", m[1])
		}
	}
	d := harness.LaunchArgs(t, "quickstart")
	d.WaitLine("Ctrl-C")
	lines := regexp.MustCompile(`curl [^(\n]*`).FindAllString(d.Stderr(), -1)
	if len(lines) == 0 {
		t.Fatalf("no curl line:\n%s", d.Stderr())
	}
	for _, line := range lines {
		out, err := exec.Command("sh", "-c", strings.TrimSpace(line)).Output()
		if err != nil || !strings.Contains(string(out), "HTTP/1.1 200") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	want(t, d.Stderr(), "http://127.0.0.1:")
	url := regexp.MustCompile(`http://127[0-9.:]+/`).FindString(d.Stderr())
	answers := map[string]bool{}
	for range 12 {
		out := command(t, "curl", "-sS", "-f", url)
		answers[out] = true
	}
	if len(answers) != 3 {
		t.Errorf("%d different answers from a cluster of three endpoints", len(answers))
	}
	kept := map[string]bool{}
	for range 12 {
		kept[command(t, "curl", "-sS", "-f", "-H", "X-User: ann", url+"session")] = true
	}
	if len(kept) != 1 {
		t.Errorf("%d endpoints answered one user", len(kept))
	}
	for _, path := range regexp.MustCompile(`(?m)^path = "(/[^"]*)"`).FindAllStringSubmatch(string(example), -1) {
		resp, err := http.Get(url[:len(url)-1] + path[1])
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode >= 400 {
			t.Errorf("%s: status %d", path[1], resp.StatusCode)
		}
	}
	d.Stop()
}
