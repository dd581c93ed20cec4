package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// nameWidth bounds names and addresses in top, so that the numbers stay on the
// screen.
const nameWidth = 32

// frame lays a load out in lines, at most height of them; 0 is no bound. When
// not all rows fit, those with the most requests are shown and the rest counted.
// note, if not empty, is a line below the heading.
func frame(l *load, height int, note string) []string {
	lines := heading(l)
	if note != "" {
		lines = append(lines, note)
	}
	rows := []int{len(l.Listeners), len(l.Clusters), len(l.Endpoints)}
	if height > 0 {
		const perSection = 2 // a blank line and the titles
		rows = share(height-len(lines)-perSection*len(rows), rows)
	}
	for _, section := range []string{
		listenerRows(l, rows[0]), clusterRows(l, rows[1]), endpointRows(l, rows[2]),
	} {
		if section != "" {
			lines = append(append(lines, ""), strings.Split(strings.TrimSuffix(section, "\n"), "\n")...)
		}
	}
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	return lines
}

func heading(l *load) []string {
	every := "waiting for a second look"
	requests, accepts := none, none
	if l.Seconds > 0 {
		every = fmt.Sprintf("over %.1fs", l.Seconds)
		requests, accepts = rate(l.RequestRate), rate(l.AcceptRate)
	}
	return []string{
		fmt.Sprintf("belayd %s  pid %d  %s  up %s  %d workers  %s  %s", printable(l.Version), l.PID, printable(l.State),
			age(time.Duration(l.Uptime*float64(time.Second))), l.Workers, l.Time.Format(time.TimeOnly), every),
		fmt.Sprintf("%s requests/s  %s connections  %s accepted/s", requests, ofLimit(l.Connections, l.maxConns), accepts),
	}
}

// share divides lines among sections that want some each: who wants little gets
// it, the rest is divided evenly. A section gets one line at least.
func share(lines int, want []int) []int {
	got := make([]int, len(want))
	order := make([]int, len(want))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(want[a], want[b]) })
	for n, i := range order {
		got[i] = min(want[i], max(1, lines/(len(want)-n)))
		lines -= got[i]
	}
	return got
}

// busiest returns as many of list as fit into n lines, one of which tells of
// the rest. All stay in their order if they fit.
func busiest[T any](list []T, n int, of func(*T) *traffic) (shown []T, rest int) {
	if len(list) <= n {
		return list, 0
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b T) int { return cmp.Compare(of(&b).RequestRate, of(&a).RequestRate) })
	n = max(0, n-1)
	return sorted[:n], len(list) - n
}

// finish is the text of a section.
func finish(s *sheet, rest int, what string) string {
	if len(s.rows) == 0 && rest == 0 {
		return ""
	}
	text := s.String()
	if rest > 0 {
		text += fmt.Sprintf("… %d more %s\n", rest, what)
	}
	return text
}

func listenerRows(l *load, n int) string {
	s := newSheet("LISTENER", "ADDRESS", "STATE", ">CONNS", ">ACC/S", ">REQ/S", ">5XX/S", ">IN/S", ">OUT/S", ">P50", ">P99")
	shown, rest := busiest(l.Listeners, n, func(x *listenerLoad) *traffic { return &x.traffic })
	for i := range shown {
		x := &shown[i]
		s.add(clip(x.Name, nameWidth), clip(x.Address, nameWidth), x.State, count(x.Connections), l.rate(x.AcceptRate), l.rate(x.RequestRate),
			l.rate(x.Rate5xx), l.size(x.InRate), l.size(x.OutRate), latency(x.P50, x.Count), latency(x.P99, x.Count))
	}
	return finish(s, rest, "listeners")
}

func clusterRows(l *load, n int) string {
	s := newSheet("CLUSTER", ">UP", ">ACTIVE", ">PENDING", ">CONNS", ">REQ/S", ">ERR/S", ">5XX/S", ">P50", ">P99")
	shown, rest := busiest(l.Clusters, n, func(x *clusterLoad) *traffic { return &x.traffic })
	for i := range shown {
		x := &shown[i]
		s.add(clip(x.Name, nameWidth), fmt.Sprintf("%d/%d", x.Available, x.Endpoints), count(x.Active), count(x.Pending), count(x.Connections),
			l.rate(x.RequestRate), l.rate(x.ErrorRate), l.rate(x.Rate5xx), latency(x.P50, x.Count), latency(x.P99, x.Count))
	}
	return finish(s, rest, "clusters")
}

func endpointRows(l *load, n int) string {
	s := newSheet("ENDPOINT", "ADDRESS", "STATE", ">ACTIVE", ">PENDING", ">CONNS", ">REQ/S", ">ERR/S", ">5XX/S", ">P50", ">P99")
	shown, rest := busiest(l.Endpoints, n, func(x *endpointLoad) *traffic { return &x.traffic })
	for i := range shown {
		x := &shown[i]
		s.add(clip(x.Cluster+"/"+x.ID, nameWidth), clip(x.Address, nameWidth), x.State, count(x.Active), count(x.Pending), count(x.Connections),
			l.rate(x.RequestRate), l.rate(x.ErrorRate), l.rate(x.Rate5xx), latency(x.P50, x.Count), latency(x.P99, x.Count))
	}
	return finish(s, rest, "endpoints")
}

// rate is a rate as text, none if there was but one sample.
func (l *load) rate(x float64) string {
	if l.Seconds == 0 {
		return none
	}
	return rate(x)
}

func (l *load) size(x float64) string {
	if l.Seconds == 0 {
		return none
	}
	return size(x)
}
