package main

import (
	"strings"
	"testing"
)

func TestReportRead(t *testing.T) {
	tests := []struct {
		name, events            string
		passed, failed, skipped int
		want                    string // in the output of finish
	}{
		{"pass counts functions, not subtests", `
{"Action":"pass","Package":"p","Test":"TestA/one"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":0.1}`, 1, 0, 0, "1 passed, 0 failed, 0 skipped"},
		{"fail shows the output", `
{"Action":"output","Package":"p","Test":"TestA","Output":"a_test.go:3: it broke\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`, 0, 1, 0, "it broke"},
		{"skip gives its reason", `
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: wrk is not installed\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}`, 0, 0, 1, "p.TestA: wrk is not installed"},
		{"package that did not build", `
{"Action":"build-output","ImportPath":"p","Output":"x.go:1: undefined\n"}
{"Action":"fail","Package":"p"}`, 0, 1, 0, "undefined"},
		{"not JSON", `panic`, 0, 1, 0, "0 passed, 1 failed, 0 skipped"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			r := &report{out: &out}
			r.read(strings.NewReader(tt.events))
			r.finish()
			if r.passed != tt.passed || r.failed != tt.failed || r.skipped != tt.skipped {
				t.Errorf("%d passed, %d failed, %d skipped", r.passed, r.failed, r.skipped)
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("output lacks %q:\n%s", tt.want, out.String())
			}
		})
	}
}
