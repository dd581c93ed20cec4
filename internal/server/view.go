package server

import (
	"strings"

	"belay/internal/admin/adminapi"
	"belay/internal/stats"
)

// view finds series by the values of some labels without walking a family for
// each question.
type view struct {
	snap   *stats.Snapshot
	labels []string
	index  map[string]map[string][]*stats.Series // family, then joined label values
}

func newView(s *stats.Snapshot, labels ...string) *view {
	return &view{snap: s, labels: labels, index: make(map[string]map[string][]*stats.Series)}
}

// series are those of a family whose labels have the values.
func (v *view) series(name string, values ...string) []*stats.Series {
	m, ok := v.index[name]
	if !ok {
		m = make(map[string][]*stats.Series)
		if f := v.snap.Family(name); f != nil {
			for i := range f.Series {
				k := v.key(f.Series[i].Labels)
				m[k] = append(m[k], &f.Series[i])
			}
		}
		v.index[name] = m
	}
	return m[strings.Join(values, "\x00")]
}

func (v *view) key(labels []stats.Label) string {
	values := make([]string, len(v.labels))
	for _, l := range labels {
		for i, n := range v.labels {
			if l.Name == n {
				values[i] = l.Value
			}
		}
	}
	return strings.Join(values, "\x00")
}

func (v *view) sum(name string, values ...string) float64 {
	var sum float64
	for _, s := range v.series(name, values...) {
		sum += s.Value
	}
	return sum
}

func (v *view) replies(name string, values ...string) adminapi.Replies {
	var r adminapi.Replies
	for _, s := range v.series(name, values...) {
		n := uint64(s.Value)
		for _, l := range s.Labels {
			switch l.Value {
			case "1xx":
				r.Informational += n
			case "2xx":
				r.Success += n
			case "3xx":
				r.Redirect += n
			case "4xx":
				r.ClientError += n
			case "5xx":
				r.ServerError += n
			case "other":
				r.Other += n
			}
		}
	}
	return r
}

func (v *view) latency(name string, values ...string) adminapi.Latency {
	for _, s := range v.series(name, values...) {
		if s.Dist == nil {
			continue
		}
		var b []adminapi.Bucket
		for i, n := range s.Dist.Counts {
			if n == 0 {
				continue
			}
			x := adminapi.Bucket{Count: n}
			if i > 0 {
				x.From = s.Dist.Bounds[i-1]
			}
			if i < len(s.Dist.Bounds) {
				x.To = s.Dist.Bounds[i]
			}
			b = append(b, x)
		}
		return adminapi.NewLatency(s.Dist.Sum, b)
	}
	return adminapi.Latency{}
}
