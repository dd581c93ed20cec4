package stats

import (
	"regexp"
	"strings"
)

// validName is what names of metrics and labels look like here; Prometheus would
// take more.
var validName = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// wrong tells which rule of Prometheus' naming a family breaks; "" if none.
func (f *family) wrong() string {
	for _, n := range f.labelNames {
		// le and quantile are what the formats add.
		if !validName.MatchString(n) || n == "le" || n == "quantile" {
			return "bad label name " + n
		}
	}
	switch total := strings.HasSuffix(f.name, "_total"); {
	case !validName.MatchString(f.name):
		return "bad name"
	case f.help == "":
		return "no help"
	case f.kind == KindCounter && !total:
		return "a counter's name ends in _total"
	case f.kind != KindCounter && total:
		return "only a counter's name ends in _total"
	case f.kind == KindHistogram && !strings.HasSuffix(f.name, "_seconds"):
		return "a histogram's name ends in _seconds"
	}
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if strings.HasSuffix(f.name, suffix) {
			return suffix + " is what a histogram's samples end in"
		}
	}
	return ""
}
