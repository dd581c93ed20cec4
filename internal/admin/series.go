package admin

import (
	"bufio"
	"regexp"
	"strconv"
	"strings"

	"belay/internal/admin/adminapi"
	"belay/internal/stats"
)

// LatencyOf is a distribution as the API tells of it, with buckets; nil is an
// empty one.
func LatencyOf(d *stats.Distribution) adminapi.Latency {
	if d == nil {
		return adminapi.Latency{}
	}
	var used []adminapi.Bucket
	for i, n := range d.Counts {
		if n == 0 {
			continue
		}
		b := adminapi.Bucket{Count: n}
		if i > 0 {
			b.From = d.Bounds[i-1]
		}
		if i < len(d.Bounds) {
			b.To = d.Bounds[i]
		}
		used = append(used, b)
	}
	return adminapi.NewLatency(d.Sum, used)
}

// Figures finds the series of a snapshot by name and label values: with one
// look through a family for all of them, where Snapshot.Find takes one each. It
// is for one goroutine.
type Figures struct {
	families map[string]*stats.Family
	indices  map[string]map[string]*stats.Series // by family, then by label values
}

// NewFigures makes a Figures of a snapshot.
func NewFigures(s *stats.Snapshot) *Figures {
	f := &Figures{make(map[string]*stats.Family), make(map[string]map[string]*stats.Series)}
	families := s.Families()
	for i := range families {
		f.families[families[i].Name] = &families[i]
	}
	return f
}

// find returns the series of family name whose labels have these values, in the
// order in which they were registered; nil if there is none.
func (f *Figures) find(name string, values ...string) *stats.Series {
	index, ok := f.indices[name]
	if !ok {
		index = make(map[string]*stats.Series)
		if family := f.families[name]; family != nil {
			for i := range family.Series {
				x := &family.Series[i]
				own := make([]string, len(x.Labels))
				for k, l := range x.Labels {
					own[k] = l.Value
				}
				index[strings.Join(own, "\x00")] = x
			}
		}
		f.indices[name] = index
	}
	return index[strings.Join(values, "\x00")]
}

// Counter is the value of a counter, 0 if there is none.
func (f *Figures) Counter(name string, values ...string) uint64 {
	if x := f.find(name, values...); x != nil {
		return uint64(x.Value)
	}
	return 0
}

// Gauge is the value of a gauge, 0 if there is none.
func (f *Figures) Gauge(name string, values ...string) int64 {
	if x := f.find(name, values...); x != nil {
		return int64(x.Value)
	}
	return 0
}

// Latency is the distribution of a histogram, empty if there is none.
func (f *Figures) Latency(name string, values ...string) adminapi.Latency {
	if x := f.find(name, values...); x != nil {
		return LatencyOf(x.Dist)
	}
	return adminapi.Latency{}
}

// Replies are the counters of a family whose last label is the class of the
// status: "1xx" to "5xx", "other".
func (f *Figures) Replies(name string, values ...string) adminapi.Replies {
	class := func(c string) uint64 { return f.Counter(name, append(values[:len(values):len(values)], c)...) }
	return adminapi.Replies{
		Informational: class("1xx"), Success: class("2xx"), Redirect: class("3xx"),
		ClientError: class("4xx"), ServerError: class("5xx"), Other: class("other"),
	}
}

// collect makes a list of the series that filter, if there is one, matches as
// text, in the order of the snapshot.
func collect(s *stats.Snapshot, filter *regexp.Regexp, nonZero bool) []adminapi.Series {
	list := []adminapi.Series{}
	families := s.Families()
	for i := range families {
		f := &families[i]
		for k := range f.Series {
			x := &f.Series[k]
			if nonZero && x.Value == 0 || filter != nil && !filter.MatchString(seriesName(f.Name, x.Labels)) {
				continue
			}
			out := adminapi.Series{Name: f.Name, Kind: f.Kind.String(), Value: x.Value}
			if len(x.Labels) > 0 {
				out.Labels = make(map[string]string, len(x.Labels))
				for _, l := range x.Labels {
					out.Labels[l.Name] = l.Value
				}
			}
			if x.Dist != nil {
				l := LatencyOf(x.Dist)
				l.Buckets = nil
				out.Latency = &l
			}
			list = append(list, out)
		}
	}
	return list
}

// seriesName is a series as text: name{label="value",…}.
func seriesName(name string, labels []stats.Label) string {
	if len(labels) == 0 {
		return name
	}
	parts := make([]string, len(labels))
	for i, l := range labels {
		parts[i] = l.String()
	}
	return name + "{" + strings.Join(parts, ",") + "}"
}

// writeText writes the series that filter matches, one value a line; a
// histogram as Prometheus writes a summary.
func writeText(w *bufio.Writer, s *stats.Snapshot, filter *regexp.Regexp, nonZero bool) {
	families := s.Families()
	for i := range families {
		f := &families[i]
		for k := range f.Series {
			x := &f.Series[k]
			name := seriesName(f.Name, x.Labels)
			if nonZero && x.Value == 0 || filter != nil && !filter.MatchString(name) {
				continue
			}
			if x.Dist == nil {
				writeValue(w, name, x.Value)
				continue
			}
			for _, q := range []float64{0.5, 0.9, 0.99} {
				quantile := stats.Label{Name: "quantile", Value: strconv.FormatFloat(q, 'g', -1, 64)}
				writeValue(w, seriesName(f.Name, append(x.Labels[:len(x.Labels):len(x.Labels)], quantile)), x.Dist.Quantile(q))
			}
			writeValue(w, seriesName(f.Name+"_sum", x.Labels), x.Dist.Sum)
			writeValue(w, seriesName(f.Name+"_count", x.Labels), float64(x.Dist.Count))
		}
	}
}

// writeValue writes a line; whole numbers without an exponent.
func writeValue(w *bufio.Writer, name string, v float64) {
	w.WriteString(name)
	w.WriteByte(' ')
	if v == float64(int64(v)) {
		w.WriteString(strconv.FormatInt(int64(v), 10))
	} else {
		w.WriteString(strconv.FormatFloat(v, 'g', 6, 64))
	}
	w.WriteByte('\n')
}
