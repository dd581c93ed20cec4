// Package packaging_test checks what goes into the packages beside the programs.
package packaging_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"belay/internal/config"
)

func TestDefaultConfigurationIsValid(t *testing.T) {
	c, err := config.Load("belay.toml")
	if err != nil {
		t.Fatal(err)
	}
	if c.HotRestart.Enabled != true || len(c.Listeners) != 1 {
		t.Errorf("hot restart %v, %d listeners", c.HotRestart.Enabled, len(c.Listeners))
	}
}

// TestCopyrightNamesEveryModule: what is linked into the programs is distributed
// with them, and its licence asks to be named.
func TestCopyrightNamesEveryModule(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "belay/cmd/belayd", "belay/cmd/belayctl").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	linked := map[string]bool{"std": true}
	for _, path := range strings.Fields(string(out)) {
		if path != "belay" {
			linked[path] = true
		}
	}
	text, err := os.ReadFile("copyright")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(text)) {
		path, ok := strings.CutPrefix(word, "vendor/")
		if !ok || path == "" {
			continue
		}
		if path != "std" && !linked[path] {
			t.Errorf("copyright names %s, which no program contains", path)
		}
		delete(linked, path)
	}
	delete(linked, "std")
	for path := range linked {
		t.Errorf("copyright does not name %s", path)
	}
}

func TestVersionOfPackages(t *testing.T) {
	for _, test := range []struct{ describe, want string }{
		{"v1.2.0", "1.2.0"},
		{"1.2.0", "1.2.0"},
		{"v1.2.0-rc.1", "1.2.0 rc.1"},
		{"v1.2.0-7-gabc1234", "1.2.0+7.gabc1234"},
		{"v1.2.0-rc1-7-gabc1234-dirty", "1.2.0 rc1+7.gabc1234.dirty"},
		{"v1.2.0-dirty", "1.2.0+dirty"},
		{"abc1234", "0.0.0+20010909014640.gabc1234"},
		{"1234567-dirty", "0.0.0+20010909014640.g1234567.dirty"},
		{"unknown", "0.0.0+20010909014640.gunknown"},
		{"", ""},
		{"1.0 rm", ""},
	} {
		c := exec.Command("./version.sh", test.describe)
		c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1000000000")
		out, err := c.Output()
		if got := strings.TrimSpace(string(out)); got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%q: %q, %v; want %q", test.describe, got, err, test.want)
		}
	}
}

func TestDebianChangelog(t *testing.T) {
	c := exec.Command("deb/changelog.sh", "1.1.0-1")
	c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1000000000", "MAINTAINER=A B <a@example.com>")
	c.Stdin = strings.NewReader("# Changelog\n\nSaid first.\n\n## Unreleased\n\nWords.\n\n### Added\n\n- One,\n  continued.\n- Two.\n\n### Changed\n\n- " +
		strings.Repeat("long ", 20) + "\n\n## 1.0.0 - 2001-02-03\n\n- First.\n")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := `belay (1.1.0-1) unstable; urgency=medium

  [ Added ]
  * One, continued.
  * Two.

  [ Changed ]
  * long long long long long long long long long long long long long long
    long long long long long long

 -- A B <a@example.com>  Sun, 09 Sep 2001 01:46:40 +0000

belay (1.0.0-1) unstable; urgency=medium

  * First.

 -- A B <a@example.com>  Sat, 03 Feb 2001 00:00:00 +0000

`
	if string(out) != want {
		t.Errorf("got:\n%s\nwant:\n%s", out, want)
	}
}
