package accesslog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// program makes lines of one format: each step writes its text, then its field.
type program struct {
	json  bool
	steps []step
	end   string
}

type step struct {
	before string
	field  field
}

// Validate says what is wrong with a format, and where; nil if nothing is.
// Columns count bytes from 1.
func Validate(format string) error {
	_, err := compile(format)
	return err
}

// compile reads a format.
func compile(format string) (*program, error) {
	switch {
	case format == "json":
		return jsonProgram(), nil
	case format == "":
		return nil, errors.New("empty format")
	}
	p := &program{}
	var text strings.Builder
	for i := 0; i < len(format); {
		c := format[i]
		switch {
		case c == '\n' || c == '\r' || c == 0:
			return nil, fmt.Errorf("column %d: a line break or NUL in a format for lines", i+1)
		case c != '%':
			text.WriteByte(c)
			i++
		case strings.HasPrefix(format[i:], "%%"):
			text.WriteByte('%')
			i += 2
		default:
			f, n, err := reference(format[i:])
			if err != nil {
				return nil, fmt.Errorf("column %d: %w", i+1, err)
			}
			p.steps = append(p.steps, step{text.String(), f})
			text.Reset()
			i += n
		}
	}
	p.end = text.String() + "\n"
	return p, nil
}

// reference reads the %{name} that s begins with and tells its length.
func reference(s string) (field, int, error) {
	if !strings.HasPrefix(s, "%{") {
		return nil, 0, errors.New(`"%" must be followed by "{name}", or doubled to stand for itself`)
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return nil, 0, errors.New(`"%{" without "}"`)
	}
	name := s[len("%{"):end]
	f, ok := fields[name]
	if !ok {
		return nil, 0, fmt.Errorf("there is no field %.40q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
	}
	return f, end + 1, nil
}

func jsonProgram() *program {
	p := &program{json: true, end: "}\n"}
	for i, name := range jsonNames {
		lead := `,"`
		if i == 0 {
			lead = `{"`
		}
		p.steps = append(p.steps, step{lead + name + `":"`, fields[name]})
	}
	return p
}

// run appends the line of a record.
func (p *program) run(dst []byte, w *line, r *Record) []byte {
	if p.json {
		for i := range p.steps {
			w.key = p.steps[i].before
			dst = p.steps[i].field(dst, w, r)
		}
	} else {
		for i := range p.steps {
			dst = append(dst, p.steps[i].before...)
			dst = p.steps[i].field(dst, w, r)
		}
	}
	return append(dst, p.end...)
}
