package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Every library has every case, and every case runs.
func TestCasesRun(t *testing.T) {
	for _, l := range libraries {
		if len(l.setups) != len(specs) {
			t.Errorf("%s has %d cases, not %d", l.name, len(l.setups), len(specs))
		}
		for _, s := range specs {
			for _, size := range s.sizes {
				l.setups[s.name](size)(2)
			}
		}
	}
}

// After the same operations the libraries hold the same.
func TestCasesAgree(t *testing.T) {
	counts := [3]int{}
	for i, l := range libraries {
		for _, name := range []string{"Get", "GetInline", "EmulateH1toH2Upgrade", "EmulateH2toH1Upgrade", "Iterate", "set_10_get_1_custom_long"} {
			before := sink
			l.setups[name](10)(3)
			counts[i] += sink - before
		}
	}
	if counts[0] != counts[1] || counts[0] != counts[2] {
		t.Errorf("bytes seen: %v", counts)
	}
}

func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "table.md")
	if err := os.WriteFile(file, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	report(&out, measure(1, time.Microsecond, "Get(5)"))
	if err := emit(out.Bytes(), file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n", "| Get(5) |", "**all**", "after\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(string(text), "old") {
		t.Error("the old table is still there")
	}
	if err := emit(nil, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no error without a file")
	}
}
