// Command runner runs every check of the project in order and says at the end
// what passed, failed and was skipped, and why. make test calls it.
//
// It reads the event stream of go test -json, so the counts are of test
// functions (without their subtests); a step that is not a Go test counts as
// one. Its exit code is 1 when anything failed.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

func main() {
	steps := flag.String("steps", "lint,unit,blackbox,fuzz", "which steps to run, in this order")
	// A number, not a time: at the end of a time the fuzzer may report its own
	// deadline as a failure of the target.
	fuzzTime := flag.String("fuzztime", "20000x", "tries or time for each fuzz target")
	summary := flag.String("summary", os.Getenv("BELAY_TEST_SUMMARY"), "file that gets the last line as well")
	flag.Parse()

	r := &report{out: os.Stdout}
	for _, s := range strings.Split(*steps, ",") {
		switch s {
		case "lint":
			lint(r)
		case "unit":
			unit(r)
		case "blackbox":
			r.goTest("-timeout=15m", "./test")
		case "fuzz":
			fuzz(r, *fuzzTime)
		default:
			fmt.Fprintf(os.Stderr, "runner: unknown step %q\n", s)
			os.Exit(2)
		}
	}
	line := r.finish()
	if *summary != "" {
		if err := os.WriteFile(*summary, []byte(line+"\n"), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "runner:", err)
			os.Exit(2)
		}
	}
	if r.failed > 0 {
		os.Exit(1)
	}
}

// lint runs the targets of make lint one by one, so that one failure hides no other.
func lint(r *report) {
	r.command("gofmt", "", "make", "-s", "lint-gofmt")
	r.command("vet", "", "make", "-s", "lint-vet")
	r.command("staticcheck", "", "make", "-s", "lint-staticcheck")
	r.command("man pages", "mandoc", "make", "-s", "lint-man")
}

// unit runs the tests beside the code with the race detector. It needs a C
// compiler; without one the tests run all the same and that is reported.
func unit(r *report) {
	args := []string{"-timeout=5m"}
	if _, err := exec.LookPath("gcc"); err == nil {
		args = append(args, "-race")
	} else {
		r.skip("race detector", "no gcc")
	}
	packages, err := goList()
	if err != nil {
		r.fail("go list", err.Error())
		return
	}
	r.goTest(append(args, packages...)...)
}

// goList names every package but the black-box tests, which are a step of their own.
func goList() ([]string, error) {
	cmd := exec.Command("go", "list", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var keep []string
	for _, p := range strings.Fields(string(out)) {
		if p != "belay/test" {
			keep = append(keep, p)
		}
	}
	return keep, nil
}

// fuzz runs every fuzz target of the module for some tries, without the race
// detector: it would leave a tenth of the tries.
func fuzz(r *report, tries string) {
	cmd := exec.Command("go", "test", "-list", "^Fuzz", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		r.fail("fuzz targets", fmt.Sprintf("go test -list: %v", err))
		return
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 1 && strings.HasPrefix(f[0], "Fuzz"):
			names = append(names, f[0])
		case len(f) >= 2 && f[0] == "ok":
			for _, n := range names {
				r.goTest("-run=^$", "-fuzz=^"+n+"$", "-fuzztime="+tries, f[1])
			}
			names = nil
		}
	}
}
