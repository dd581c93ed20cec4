package stats

import (
	"io"
	"math"
	"strconv"
	"strings"
)

// chunk is how much text is made before it is written, in bytes.
const chunk = 64 << 10

// WritePrometheus writes a snapshot in Prometheus' text format, version 0.0.4. Of
// the bounds of a histogram it has three a decade; a sum up to one of them is exact.
func WritePrometheus(w io.Writer, s *Snapshot) error {
	b := make([]byte, 0, chunk+8<<10)
	for i := range s.families {
		f := &s.families[i]
		if len(f.Series) == 0 {
			continue
		}
		b = append(b, "# HELP "+f.Name+" "+helpEscape.Replace(f.Help)+"\n# TYPE "+f.Name+" "+f.Kind.String()+"\n"...)
		for k := range f.Series {
			x := &f.Series[k]
			if x.Dist != nil {
				b = x.Dist.append(b, f.Name, x.Labels)
			} else {
				b = appendValue(appendName(b, f.Name, "", x.Labels, ""), x.Value)
			}
			if len(b) < chunk {
				continue
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	_, err := w.Write(b)
	return err
}

var helpEscape = strings.NewReplacer(`\`, `\\`, "\n", `\n`)

// append appends the samples of a histogram.
func (d *Distribution) append(b []byte, name string, labels []Label) []byte {
	var seen uint64
	for i, n := range d.Counts {
		seen += n
		if le := leText[i]; le != "" {
			b = appendCount(appendName(b, name, "_bucket", labels, le), seen)
		}
	}
	b = appendValue(appendName(b, name, "_sum", labels, ""), d.Sum)
	return appendCount(appendName(b, name, "_count", labels, ""), seen)
}

// leText has the text of the bounds that are exported, "" for the others.
var leText = func() (t [bounds + 1]string) {
	for i := range bounds {
		mantissa := boundNS[i]
		for mantissa >= 1000 {
			mantissa /= 10
		}
		if exported(mantissa) {
			t[i] = strconv.FormatFloat(boundSeconds[i], 'f', -1, 64)
		}
	}
	t[bounds] = "+Inf"
	return t
}()

// appendName appends what comes before the value of a sample; le is a bound, "" if
// the sample has none.
func appendName(b []byte, name, suffix string, labels []Label, le string) []byte {
	b = append(append(b, name...), suffix...)
	next := byte('{')
	for _, l := range labels {
		b = l.append(append(b, next))
		next = ','
	}
	if le != "" {
		b = append(append(append(append(b, next), `le="`...), le...), '"')
		next = ','
	}
	if next == ',' {
		b = append(b, '}')
	}
	return append(b, ' ')
}

func (l Label) append(b []byte) []byte {
	b = append(append(b, l.Name...), `="`...)
	if strings.ContainsAny(l.Value, "\\\"\n") {
		b = append(b, valueEscape.Replace(l.Value)...)
	} else {
		b = append(b, l.Value...)
	}
	return append(b, '"')
}

var valueEscape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func appendCount(b []byte, n uint64) []byte { return append(strconv.AppendUint(b, n, 10), '\n') }

// appendValue appends a value; a whole number without an exponent.
func appendValue(b []byte, v float64) []byte {
	if v == math.Trunc(v) && math.Abs(v) < 1<<63 {
		return append(strconv.AppendInt(b, int64(v), 10), '\n')
	}
	// NaN, +Inf and -Inf are spelt as Prometheus wants them.
	return append(strconv.AppendFloat(b, v, 'g', -1, 64), '\n')
}
