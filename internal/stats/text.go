package stats

import (
	"bufio"
	"io"
	"math"
	"strconv"
	"strings"
)

// WritePrometheus writes the snapshot in Prometheus' text format, version 0.0.4.
// Histograms show one bound per octave.
func WritePrometheus(w io.Writer, s *Snapshot) error {
	b := bufio.NewWriterSize(w, 64<<10)
	for i := range s.families {
		f := &s.families[i]
		if len(f.Series) == 0 {
			continue
		}
		b.WriteString("# HELP " + f.Name + " " + escapeHelp.Replace(f.Help) + "\n")
		b.WriteString("# TYPE " + f.Name + " " + f.Kind.String() + "\n")
		for k := range f.Series {
			x := &f.Series[k]
			if x.Dist != nil {
				x.Dist.write(b, f.Name, x.Labels)
				continue
			}
			sample(b, f.Name, x.Labels, "", x.Value)
		}
	}
	return b.Flush()
}

// escapeHelp is how the text format writes help.
var escapeHelp = strings.NewReplacer(`\`, `\\`, "\n", `\n`)

// sample writes one line; le is the bound of a bucket, or empty.
func sample(b *bufio.Writer, name string, labels []Label, le string, v float64) {
	b.WriteString(name)
	if len(labels) > 0 || le != "" {
		b.WriteByte('{')
		for i, l := range labels {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(l.Name)
			b.WriteString(`="`)
			escape.WriteString(b, l.Value)
			b.WriteByte('"')
		}
		if le != "" {
			if len(labels) > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`le="` + le + `"`)
		}
		b.WriteByte('}')
	}
	b.WriteByte(' ')
	b.WriteString(number(v))
	b.WriteByte('\n')
}

func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func (d *Distribution) write(b *bufio.Writer, name string, labels []Label) {
	var sum uint64
	for i, n := range d.Counts {
		sum += n
		switch {
		case i == len(d.Bounds):
			sample(b, name+"_bucket", labels, "+Inf", float64(sum))
		case i%2 == 0:
			sample(b, name+"_bucket", labels, strconv.FormatFloat(d.Bounds[i], 'g', -1, 64), float64(sum))
		}
	}
	sample(b, name+"_sum", labels, "", d.Sum)
	sample(b, name+"_count", labels, "", float64(d.Count))
}
