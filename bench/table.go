package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// column is one figure of the table.
type column struct {
	title  string
	unit   string
	better int // -1: less is better, 1: more is
	value  func(sample) float64
}

func perRequest(d time.Duration, m sample) float64 {
	return float64(d.Nanoseconds()) / 1e3 / float64(max(1, m.requests))
}

var loadColumns = []column{
	{"CPU/request", "µs", -1, func(m sample) float64 { return perRequest(m.user+m.system, m) }},
	{"user", "µs", -1, func(m sample) float64 { return perRequest(m.user, m) }},
	{"system", "µs", -1, func(m sample) float64 { return perRequest(m.system, m) }},
	{"throughput", "/s", 1, func(m sample) float64 { return float64(m.requests) / m.seconds }},
	{"p50", "ms", -1, func(m sample) float64 { return float64(m.p50.Microseconds()) / 1e3 }},
	{"p99", "ms", -1, func(m sample) float64 { return float64(m.p99.Microseconds()) / 1e3 }},
	{"p99.9", "ms", -1, func(m sample) float64 { return float64(m.p999.Microseconds()) / 1e3 }},
	{"errors", "", 0, func(m sample) float64 { return float64(m.errors) }},
}

func perGiB(d time.Duration, m sample) float64 {
	return d.Seconds() / (float64(max(1, m.bytes)) / (1 << 30))
}

var bulkColumns = []column{
	{"CPU/GiB", "s", -1, func(m sample) float64 { return perGiB(m.user+m.system, m) }},
	{"user", "s", -1, func(m sample) float64 { return perGiB(m.user, m) }},
	{"system", "s", -1, func(m sample) float64 { return perGiB(m.system, m) }},
	{"throughput", "MiB/s", 1, func(m sample) float64 { return float64(m.bytes) / (1 << 20) / m.seconds }},
	{"errors", "", 0, func(m sample) float64 { return float64(m.errors) }},
}

// perCPUSecond is how many requests the server does in a second of its CPU time.
func perCPUSecond(m sample) float64 {
	return float64(m.requests) / max(0.01, (m.user+m.system).Seconds())
}

func millis(of func(sample) time.Duration) func(sample) float64 {
	return func(m sample) float64 { return float64(of(m).Microseconds()) / 1e3 }
}

var handshakeColumns = []column{
	{"handshakes/CPU-second", "", 1, perCPUSecond},
	{"user", "µs", -1, func(m sample) float64 { return perRequest(m.user, m) }},
	{"system", "µs", -1, func(m sample) float64 { return perRequest(m.system, m) }},
	{"throughput", "/s", 1, func(m sample) float64 { return float64(m.requests) / m.seconds }},
	{"errors", "", 0, func(m sample) float64 { return float64(m.errors) }},
}

var latencyColumns = []column{
	{"p50", "ms", -1, millis(func(m sample) time.Duration { return m.p50 })},
	{"p99", "ms", -1, millis(func(m sample) time.Duration { return m.p99 })},
	{"p99.9", "ms", -1, millis(func(m sample) time.Duration { return m.p999 })},
	{"throughput", "/s", 1, func(m sample) float64 { return float64(m.requests) / m.seconds }},
	{"errors", "", 0, func(m sample) float64 { return float64(m.errors) }},
}

var floodColumns = append(slices.Clone(latencyColumns),
	column{"flood answered", "/s", 1, func(m sample) float64 { return m.handshakes }},
	column{"server busy", "%", 0, func(m sample) float64 { return 100 * (m.user + m.system).Seconds() / m.seconds }})

var queryColumns = []column{
	{"latency average", "ms", -1, func(m sample) float64 { return float64(m.mean.Nanoseconds()) / 1e6 }},
	{"CPU/query", "µs", -1, func(m sample) float64 { return perRequest(m.user+m.system, m) }},
	{"throughput", "/s", 1, func(m sample) float64 { return float64(m.requests) / m.seconds }},
	{"errors", "", 0, func(m sample) float64 { return float64(m.errors) }},
}

var idleColumns = []column{
	{"memory/connection", "bytes", -1, func(m sample) float64 { return m.rssPerConn }},
}

// format is one case as a Markdown table.
func format(c benchCase, servers []server, results [][]sample) string {
	columns := loadColumns
	switch m := results[0][0]; {
	case c.columns != nil:
		columns = c.columns
	case m.rssPerConn != 0:
		columns = idleColumns
	case m.bytes != 0:
		columns = bulkColumns
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n| |", c.title)
	for _, s := range servers {
		fmt.Fprintf(&b, " %s |", s.name)
	}
	b.WriteString(" ratio |\n|---|")
	b.WriteString(strings.Repeat("---|", len(servers)+1))
	b.WriteString("\n")
	for _, col := range columns {
		fmt.Fprintf(&b, "| %s %s |", col.title, col.unit)
		medians := make([]float64, len(servers))
		for i := range servers {
			lo, med, hi := quartiles(results[i], col.value)
			medians[i] = med
			fmt.Fprintf(&b, " %s (%s–%s) |", short(med), short(lo), short(hi))
		}
		over := "–"
		if strings.HasPrefix(servers[0].name, "belay") {
			over = ratio(col.better, medians)
		}
		fmt.Fprintf(&b, " %s |\n", over)
	}
	return b.String()
}

// ratio is the first figure over the best of the others.
func ratio(better int, medians []float64) string {
	var best float64
	switch {
	case len(medians) < 2:
	case better < 0:
		best = slices.Min(medians[1:])
	case better > 0:
		best = slices.Max(medians[1:])
	}
	if best == 0 {
		return "–"
	}
	return fmt.Sprintf("**%.2f**", medians[0]/best)
}

func quartiles[T any](samples []T, value func(T) float64) (lo, med, hi float64) {
	v := make([]float64, len(samples))
	for i, m := range samples {
		v[i] = value(m)
	}
	slices.Sort(v)
	at := func(q float64) float64 {
		x := q * float64(len(v)-1)
		i := int(x)
		if i+1 >= len(v) {
			return v[i]
		}
		return v[i] + (x-float64(i))*(v[i+1]-v[i])
	}
	return at(.25), at(.5), at(.75)
}

func short(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}
