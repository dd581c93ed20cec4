// Command bench runs belay, nginx and HAProxy side by side: each pinned to the
// same core, with the same backend and the same load from the other core, in
// alternating short runs. It prints medians with quartiles and ratios, and can
// write them into docs/benchmarks.md. With -reloads it reloads each of them under
// load instead. It reports; it passes no judgement.
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
	servers            string
	reloads            int
	write              string
	serverCPU, loadCPU string
}

func main() {
	log.SetFlags(0)
	var s settings
	flag.StringVar(&s.belayd, "belayd", "bin/belayd", "the binary to measure")
	flag.IntVar(&s.runs, "runs", 7, "runs of each server and case")
	flag.DurationVar(&s.duration, "duration", 5*time.Second, "length of a run")
	flag.StringVar(&s.only, "only", "", "run only the cases, or with -reloads the servers, whose name contains this")
	flag.StringVar(&s.servers, "servers", "", "measure only servers whose name contains one of these, separated by commas")
	flag.IntVar(&s.reloads, "reloads", 0, "reload each server so often under load, instead of the cases")
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
	if err := lab.stayOffServer(); err != nil {
		return err
	}
	if s.reloads > 0 {
		table, err := lab.reloads(s.reloads)
		if err != nil {
			return fmt.Errorf("reloads: %w", err)
		}
		fmt.Print(table)
		return writeTables(s.write, "reloads", lab.machine()+lab.reloadConditions()+table)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n", lab.conditions())
	section := ""
	for _, c := range allCases() {
		if s.only != "" && !strings.Contains(c.name, s.only) {
			continue
		}
		table, err := lab.measure(c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if c.section != section {
			section = c.section
			table = "\n## " + section + "\n" + table
		}
		fmt.Print(table)
		out.WriteString(table)
	}
	return writeTables(s.write, "bench", out.String())
}

// writeTables replaces what is between two markers of a Markdown file; without
// a path it does nothing.
func writeTables(path, mark, tables string) error {
	if path == "" {
		return nil
	}
	begin, end := "<!-- "+mark+":begin -->\n", "<!-- "+mark+":end -->\n"
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

// conditions tells what the figures were taken on, and how.
func (l *lab) conditions() string {
	return l.machine() + fmt.Sprintf(`One core for the measured server (one worker each), the other for backend and load; %d alternating runs of %s a case; median (quartiles).
CPU is user+system time of the server per request; the ratio is belay's figure over the better of the other two (for CPU, latency and memory less than 1 is better for belay, for throughput more than 1).
`, l.s.runs, l.s.duration)
}

// reloadConditions is the same for reloads.
func (l *lab) reloadConditions() string {
	return fmt.Sprintf(`One core for the measured server (one worker each), the other for backend and load; %d reloads, %s between them; one figure for all, or the median (quartiles) of the reloads.
%d kept connections with %d requests a second each, and %d requests a second on connections of their own.
`, l.s.reloads, reloadGap, keptClients, time.Second/keptEvery, freshClients*time.Second/freshEvery)
}

// machine is what the figures were taken on.
func (l *lab) machine() string {
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
`, time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), cpu, strings.TrimSpace(string(kernel)), runtime.Version(),
		version(l.s.belayd, "version"), version("nginx", "-v"), version("haproxy", "-v"))
}
