// Command headermap measures belay's header map beside net/http.Header and
// fasthttp's request header and prints a Markdown table.
//
// The libraries take turns within each round, so that a slow moment of the
// machine meets all of them: a figure is the median over the rounds, a ratio
// the median of the ratios within a round.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

var libraries = []library{belay, nethttp, fast}

func main() {
	rounds := flag.Int("rounds", 15, "rounds over all cases")
	slice := flag.Duration("slice", 3*time.Millisecond, "time of one measurement")
	only := flag.String("only", "", "only cases whose name contains this")
	into := flag.String("into", "", "replace the table in this Markdown file")
	flag.Parse()
	var out bytes.Buffer
	report(&out, measure(*rounds, *slice, *only))
	if err := emit(out.Bytes(), *into); err != nil {
		fmt.Fprintln(os.Stderr, "headermap:", err)
		os.Exit(1)
	}
}

// row has the results of one case, by library.
type row struct {
	group, title string
	ns           [3][]float64 // per operation, one for each round
	allocs       [3]float64
	bytes        [3]float64
}

func measure(rounds int, slice time.Duration, only string) []*row {
	var rows []*row
	for _, s := range specs {
		for _, size := range s.sizes {
			if !strings.Contains(s.title(size), only) {
				continue
			}
			r := &row{group: s.group, title: s.title(size)}
			var runs [3]func(int)
			var n [3]int
			for i, l := range libraries {
				runs[i] = l.setups[s.name](size)
				n[i] = calibrate(runs[i], slice)
				r.allocs[i], r.bytes[i] = memory(runs[i], n[i])
			}
			for range rounds {
				for i, run := range runs {
					start := time.Now()
					run(n[i])
					r.ns[i] = append(r.ns[i], float64(time.Since(start))/float64(n[i]))
				}
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// calibrate returns how often to run to fill a slice, after warming up.
func calibrate(run func(int), slice time.Duration) int {
	for n := 1; ; n *= 2 {
		start := time.Now()
		run(n)
		if d := time.Since(start); d > slice/2 {
			return max(1, int(float64(n)*float64(slice)/float64(d)))
		}
	}
}

func memory(run func(int), n int) (allocs, size float64) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run(n)
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), float64(after.TotalAlloc-before.TotalAlloc) / float64(n)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// ratio returns how many times longer library i takes than belay.
func (r *row) ratio(i int) float64 {
	q := make([]float64, len(r.ns[0]))
	for k := range q {
		q[k] = r.ns[i][k] / r.ns[0][k]
	}
	return median(q)
}

func report(w io.Writer, rows []*row) {
	fmt.Fprintf(w, "%s on %s, %s/%s, GOMAXPROCS %d, fasthttp %s; nanoseconds, allocations and bytes an operation.\n\n",
		runtime.Version(), cpu(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), fasthttpVersion())
	fmt.Fprintln(w, "| case | belay ns | allocs | B | net/http ns | allocs | B | fasthttp ns | allocs | B | net/http ÷ belay | fasthttp ÷ belay |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	var slower [3][]string
	for _, r := range rows {
		fmt.Fprintf(w, "| %s ", r.title)
		for i := range libraries {
			fmt.Fprintf(w, "| %.1f | %.0f | %.0f ", median(r.ns[i]), r.allocs[i], r.bytes[i])
		}
		fmt.Fprintf(w, "| %.1f× | %.1f× |\n", r.ratio(1), r.ratio(2))
		for i := 1; i < 3; i++ {
			if q := r.ratio(i); q < 1 {
				slower[i] = append(slower[i], fmt.Sprintf("%s (%.2f×)", r.title, q))
			}
		}
	}
	fmt.Fprintf(w, "\nGeometric means, how many times longer than belay:\n\n| cases | net/http | fasthttp |\n|---|--:|--:|\n")
	for _, group := range []string{"Envoy", "hyperium", "head", ""} {
		title := group
		if group == "" {
			title = "**all**"
		}
		fmt.Fprintf(w, "| %s | %.1f× | %.1f× |\n", title, mean(rows, group, 1), mean(rows, group, 2))
	}
	// belay keeps the sum that the others add up, which is as far ahead as can be.
	rest := slices.DeleteFunc(slices.Clone(rows), func(r *row) bool { return strings.HasPrefix(r.title, "GetByteSize") })
	fmt.Fprintf(w, "| all but GetByteSize | %.1f× | %.1f× |\n", mean(rest, "", 1), mean(rest, "", 2))
	for i := 1; i < 3; i++ {
		list := "none"
		if len(slower[i]) > 0 {
			list = strings.Join(slower[i], ", ")
		}
		fmt.Fprintf(w, "\nCases in which %s is faster than belay: %s.\n", libraries[i].name, list)
	}
}

// mean is the geometric mean of the ratios of a group, or of all.
func mean(rows []*row, group string, i int) float64 {
	sum, n := 0.0, 0
	for _, r := range rows {
		if group == "" || r.group == group {
			sum += math.Log(r.ratio(i))
			n++
		}
	}
	return math.Exp(sum / float64(max(n, 1)))
}

func cpu() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "an unknown processor"
	}
	_, rest, _ := strings.Cut(string(info), "model name")
	name, _, _ := strings.Cut(rest, "\n")
	return strings.TrimLeft(name, "\t :")
}

func fasthttpVersion() string {
	info, _ := debug.ReadBuildInfo()
	for _, d := range info.Deps {
		if d.Path == "github.com/valyala/fasthttp" {
			return d.Version
		}
	}
	return "of unknown version"
}

const begin, end = "<!-- table -->\n", "<!-- end of table -->\n"

// emit prints the table or puts it between the marks in a file.
func emit(table []byte, file string) error {
	if file == "" {
		_, err := os.Stdout.Write(table)
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	from, to := bytes.Index(text, []byte(begin)), bytes.Index(text, []byte(end))
	if from < 0 || to < from {
		return fmt.Errorf("no marks for the table in %s", file)
	}
	return os.WriteFile(file, slices.Concat(text[:from+len(begin)], table, text[to:]), 0o644)
}
