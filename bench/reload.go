package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// reloadGap is the time from the end of a reload to the next one: longer than
// any of the servers needs to be rid of its old process under this load.
const reloadGap = 2 * time.Second

// reloadSample is one reload; the first of a server is the time before any.
type reloadSample struct {
	*period
	served  time.Duration // until its configuration answered
	command time.Duration // until the program returned that was told to reload
}

// reloads measures every server in turn and returns the tables.
func (l *lab) reloads(n int) (string, error) {
	servers := slices.DeleteFunc(l.reloaders(), func(r reloader) bool { return !strings.Contains(r.name, l.s.only) })
	if len(servers) == 0 {
		return "", fmt.Errorf("no server has %q in its name", l.s.only)
	}
	results := make([][]reloadSample, len(servers))
	for i := range servers {
		var err error
		if results[i], err = l.reloadOften(&servers[i], n); err != nil {
			return "", fmt.Errorf("%s: %w", servers[i].name, err)
		}
	}
	return reloadTable(servers, results), nil
}

// reloadOften starts a server and reloads it n times under load.
func (l *lab) reloadOften(srv *reloader, n int) ([]reloadSample, error) {
	r, err := l.begin(srv)
	if r != nil {
		defer r.end()
	}
	if err != nil {
		return nil, err
	}
	load := startReloadLoad(fmt.Sprintf("127.0.0.1:%d", r.port))
	samples, err := r.reload(load, n)
	for i, p := range load.stop() {
		if i < len(samples) {
			samples[i].period = p
		}
	}
	return samples, err
}

// reload makes the reloads, each of them a period of the load.
func (r *reloadRun) reload(load *reloadLoad, n int) ([]reloadSample, error) {
	samples := make([]reloadSample, n+1)
	if err := load.answered(0, replyWait); err != nil {
		return nil, err
	}
	time.Sleep(reloadGap * time.Duration(min(n, 5)))
	for i := range n {
		if err := r.write(i + 1); err != nil {
			return nil, err
		}
		load.next()
		began := time.Now()
		done := make(chan error, 1)
		s := &samples[i+1]
		go func() {
			err := r.srv.command(r)
			s.command = max(0, time.Since(began)-r.srv.probation)
			done <- err
		}()
		served := load.answered(int64(i+1), 3*replyWait)
		s.served = time.Since(began)
		if err := <-done; err != nil {
			return nil, fmt.Errorf("reload %d: %w", i+1, err)
		}
		if served != nil {
			return nil, served
		}
		time.Sleep(reloadGap)
	}
	return samples, nil
}

// reloadFigure is a row: the median of the reloads, or one figure of them all.
type reloadFigure struct {
	title  string
	better int // as in column
	each   func(reloadSample) float64
	all    func([]reloadSample) float64
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// sum adds a count over all reloads.
func sum(f func(*period) int64) func([]reloadSample) float64 {
	return func(samples []reloadSample) float64 {
		var n int64
		for _, s := range samples[1:] {
			n += f(s.period)
		}
		return float64(n)
	}
}

// slowest is a quantile of the times of all requests in samples.
func slowest(q float64, samples []reloadSample) float64 {
	var all []time.Duration
	for _, s := range samples {
		all = append(all, s.times...)
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return ms(all[min(len(all)-1, int(q*float64(len(all))))])
}

var reloadFigures = []reloadFigure{
	{title: "requests", all: sum(func(p *period) int64 { return p.requests })},
	{title: "**failed requests**", all: sum(func(p *period) int64 { return p.total() })},
	{title: "– kept connection ended unannounced", all: sum(func(p *period) int64 { return p.broken })},
	{title: "– – seen before the request was sent", all: sum(func(p *period) int64 { return p.noticed })},
	{title: "– connection refused", all: sum(func(p *period) int64 { return p.refused })},
	{title: "– new connection reset", all: sum(func(p *period) int64 { return p.reset })},
	{title: "– other", all: sum(func(p *period) int64 { return p.malformed })},
	{title: "failed requests per reload", better: -1, each: func(s reloadSample) float64 { return float64(s.total()) }},
	{title: "connections ended by an announcement, per reload", each: func(s reloadSample) float64 { return float64(s.announced) }},
	{title: "longest request ms", better: -1, all: func(s []reloadSample) float64 { return slowest(1, s[1:]) }},
	{title: "longest request of a reload ms", better: -1, each: func(s reloadSample) float64 { return slowest(1, []reloadSample{s}) }},
	{title: "p99.9 ms", better: -1, all: func(s []reloadSample) float64 { return slowest(.999, s[1:]) }},
	{title: "longest request before the first reload ms", all: func(s []reloadSample) float64 { return slowest(1, s[:1]) }},
	{title: "p99.9 before the first reload ms", all: func(s []reloadSample) float64 { return slowest(.999, s[:1]) }},
	{title: "until the new configuration answers ms", better: -1, each: func(s reloadSample) float64 { return ms(s.served) }},
	{title: "until the command returns, less probation ms", each: func(s reloadSample) float64 { return ms(s.command) }},
}

// reloadTable is the outcome in Markdown.
func reloadTable(servers []reloader, results [][]reloadSample) string {
	var b strings.Builder
	b.WriteString("\n| |")
	for _, s := range servers {
		fmt.Fprintf(&b, " %s |", s.name)
	}
	b.WriteString(" ratio |\n|---|" + strings.Repeat("---|", len(servers)+1) + "\n")
	for _, f := range reloadFigures {
		fmt.Fprintf(&b, "| %s |", f.title)
		values := make([]float64, len(servers))
		for i, samples := range results {
			if f.all != nil {
				values[i] = f.all(samples)
				fmt.Fprintf(&b, " %s |", strings.TrimSuffix(short(values[i]), ".00"))
				continue
			}
			lo, med, hi := quartiles(samples[1:], f.each)
			values[i] = med
			fmt.Fprintf(&b, " %s (%s–%s) |", short(med), short(lo), short(hi))
		}
		fmt.Fprintf(&b, " %s |\n", ratio(f.better, values))
	}
	return b.String()
}
