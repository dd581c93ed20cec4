// Command bench runs belay, nginx and HAProxy side by side: each pinned to the
// same core, with the same backend and the same load from the other core, in
// alternating short runs. It prints medians with quartiles and ratios, and can
// write them into docs/benchmarks.md. It reports; it passes no judgement.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// settings are the command's flags.
type settings struct {
	belayd             string
	runs               int
	duration           time.Duration
	only               string
	write              string
	serverCPU, loadCPU string
}

func main() {
	log.SetFlags(0)
	var s settings
	flag.StringVar(&s.belayd, "belayd", "bin/belayd", "the binary to measure")
	flag.IntVar(&s.runs, "runs", 7, "runs of each server and case")
	flag.DurationVar(&s.duration, "duration", 5*time.Second, "length of a run")
	flag.StringVar(&s.only, "only", "", "run only the cases whose name contains this")
	flag.StringVar(&s.write, "write", "", "replace the tables of this Markdown file")
	flag.StringVar(&s.serverCPU, "server-cpu", "1", "core of the measured server")
	flag.StringVar(&s.loadCPU, "load-cpu", "0", "core of load and backend")
	flag.Parse()
	if err := run(&s); err != nil {
		log.Fatal("bench: ", err)
	}
}

func run(s *settings) error {
	for _, tool := range []string{"nginx", "haproxy", "wrk", "taskset"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed: run test/install-deps.sh", tool)
		}
	}
	dir, err := os.MkdirTemp("", "belay-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if s.belayd, err = filepath.Abs(s.belayd); err != nil {
		return err
	}
	lab, err := newLab(s, dir)
	if err != nil {
		return err
	}
	defer lab.close()
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n", lab.conditions())
	for _, c := range cases {
		if s.only != "" && !strings.Contains(c.name, s.only) {
			continue
		}
		table, err := lab.measure(c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Print(table)
		out.WriteString(table)
	}
	if s.write != "" {
		return writeTables(s.write, out.String())
	}
	return nil
}

// writeTables replaces what is between the markers of a Markdown file.
func writeTables(path, tables string) error {
	const begin, end = "<!-- bench:begin -->\n", "<!-- bench:end -->\n"
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(doc), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s: no %q … %q", path, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return os.WriteFile(path, []byte(before+begin+tables+end+after), 0o644)
}

// conditions tells what the figures were taken on.
func (l *lab) conditions() string {
	version := func(name string, args ...string) string {
		b, _ := exec.Command(name, args...).CombinedOutput()
		line, _, _ := strings.Cut(string(b), "\n")
		return strings.TrimSpace(line)
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	cpu := "unknown CPU"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, line := range strings.Split(string(info), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				cpu = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf(`Taken %s on %d × %s, Linux %s, %s; loopback only.
%s; %s; %s.
One core for the measured server (one worker each), the other for backend and load; %d alternating runs of %s a case; median (quartiles).
CPU is user+system time of the server per request; the ratio is belay's figure over the better of the other two (for CPU, latency and memory less than 1 is better for belay, for throughput more than 1).
`, time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), cpu, strings.TrimSpace(string(kernel)), runtime.Version(),
		version(l.s.belayd, "version"), version("nginx", "-v"), version("haproxy", "-v"), l.s.runs, l.s.duration)
}
