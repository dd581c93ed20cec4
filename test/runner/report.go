package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// report counts outcomes and keeps what is to be said again at the end.
type report struct {
	out                     io.Writer
	passed, failed, skipped int
	failures, skips         []string
}

// event is a line of go test -json; see "go doc test2json".
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// command runs one check that is not a Go test. needs names the program it
// cannot do without; "" if there is none.
func (r *report) command(name, needs string, argv ...string) {
	if needs != "" {
		if _, err := exec.LookPath(needs); err != nil {
			r.skip(name, needs+" is not installed")
			return
		}
	}
	start := time.Now()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		fmt.Fprintf(r.out, "%s", out)
		r.fail(name, err.Error())
		return
	}
	r.passed++
	fmt.Fprintf(r.out, "ok    %s  %.1fs\n", name, time.Since(start).Seconds())
}

func (r *report) skip(name, why string) {
	r.skipped++
	r.skips = append(r.skips, name+": "+why)
	fmt.Fprintf(r.out, "SKIP  %s: %s\n", name, why)
}

func (r *report) fail(name, why string) {
	r.failed++
	r.failures = append(r.failures, name+": "+why)
	fmt.Fprintf(r.out, "FAIL  %s: %s\n", name, why)
}

// goTest runs go test -json with args and counts its events.
func (r *report) goTest(args ...string) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		r.fail("go test", err.Error())
		return
	}
	if err := cmd.Start(); err != nil {
		r.fail("go test", err.Error())
		return
	}
	before := r.failed
	r.read(stdout)
	if err := cmd.Wait(); err != nil && r.failed == before {
		fmt.Fprint(r.out, stderr.String())
		r.fail("go test "+strings.Join(args, " "), err.Error())
	}
}

// read consumes one event stream. Output is kept per test and shown only when
// the test fails or is skipped.
func (r *report) read(in io.Reader) {
	kept := map[string][]string{}
	dec := json.NewDecoder(in)
	for {
		var e event
		if err := dec.Decode(&e); err != nil {
			if !errors.Is(err, io.EOF) {
				r.fail("go test -json", err.Error())
				_, _ = io.Copy(r.out, in)
			}
			return
		}
		key := e.Package + "." + e.Test
		if e.Action == "output" || e.Action == "build-output" {
			kept[key] = append(kept[key], e.Output)
			continue
		}
		if e.Test == "" {
			r.packageDone(e, kept)
			continue
		}
		r.testDone(e, kept)
	}
}

// testDone counts a test function; a subtest is shown but counted with its parent.
func (r *report) testDone(e event, kept map[string][]string) {
	key := e.Package + "." + e.Test
	sub := strings.Contains(e.Test, "/")
	switch e.Action {
	case "pass":
		if !sub {
			r.passed++
		}
	case "fail":
		fmt.Fprint(r.out, strings.Join(kept[key], ""))
		if !sub {
			r.fail(key, fmt.Sprintf("%.1fs", e.Elapsed))
		}
	case "skip":
		why := skipReason(kept[key])
		if sub {
			r.skips = append(r.skips, key+": "+why)
		} else {
			r.skip(key, why)
		}
	default:
		return
	}
	delete(kept, key)
}

// packageDone reports a package that ended; one that failed without a failing
// test (a build error, a panic, a time limit) counts as one failure.
func (r *report) packageDone(e event, kept map[string][]string) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(r.out, "ok    %s  %.1fs\n", e.Package, e.Elapsed)
	case "fail":
		if !slices.ContainsFunc(r.failures, func(f string) bool { return strings.HasPrefix(f, e.Package+".") }) {
			for key, lines := range kept {
				if strings.HasPrefix(key, e.Package) || strings.HasPrefix(key, ".") {
					fmt.Fprint(r.out, strings.Join(lines, ""))
					delete(kept, key)
				}
			}
			r.fail(e.Package, "did not build or did not end")
		}
	}
}

// skipReason takes what a test said to Skip out of its output.
func skipReason(lines []string) string {
	for _, l := range slices.Backward(lines) {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "---") || strings.HasPrefix(l, "===") {
			continue
		}
		if _, after, ok := strings.Cut(l, ".go:"); ok {
			if _, msg, ok := strings.Cut(after, ": "); ok {
				return msg
			}
		}
		return l
	}
	return "no reason given"
}

// finish prints what failed and what was skipped again, then the counts on one
// plain line, which it returns.
func (r *report) finish() string {
	section := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(r.out, "\n%s:\n", title)
		for _, l := range lines {
			fmt.Fprintf(r.out, "  %s\n", l)
		}
	}
	section("skipped", r.skips)
	section("failed", r.failures)
	line := fmt.Sprintf("%d passed, %d failed, %d skipped", r.passed, r.failed, r.skipped)
	fmt.Fprintf(r.out, "\n%s\n", line)
	return line
}
