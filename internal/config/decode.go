package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder binds TOML values to raw structs: strictly, and key by key, so that
// an error in one hides nothing. Field tags say the rest:
//
//	toml:"name"         the key
//	min:"1" max:"9"     the range of a number, a size (bytes) or a duration
//	one:"a b"           the strings it may be
type decoder struct {
	*collector
	plans map[reflect.Type]plan
}

// setter is a value with a syntax of its own. set gets what TOML has: string,
// int64, float64, bool, a time, an array or a table.
type setter interface{ set(v any) error }

// plan says how a raw struct is bound.
type plan struct {
	fields map[string]*field
	names  []string
}

type field struct {
	index    int
	min, max string
	one      []string
}

// notYet is said of what the design has and this version has not: calling it unknown
// would send people looking for a typing error.
const notYet = "not supported yet"

func newDecoder(c *collector) *decoder {
	return &decoder{collector: c, plans: make(map[reflect.Type]plan)}
}

func (d *decoder) plan(t reflect.Type) plan {
	p, ok := d.plans[t]
	if !ok {
		p.fields = make(map[string]*field)
		for i := range t.NumField() {
			tag := t.Field(i).Tag
			name := tag.Get("toml")
			p.fields[name] = &field{i, tag.Get("min"), tag.Get("max"), strings.Fields(tag.Get("one"))}
			p.names = append(p.names, name)
		}
		d.plans[t] = p
	}
	return p
}

// table binds v to the struct dst.
func (d *decoder) table(dst reflect.Value, v any, at *path) bool {
	m, ok := v.(map[string]any)
	if !ok {
		d.add(at, "must be a table, not %s", kind(v))
		return false
	}
	p := d.plan(dst.Type())
	for key, v := range m {
		f, ok := p.fields[key]
		if !ok {
			d.unknown(at.child(key), key, p.names)
			continue
		}
		d.value(dst.Field(f.index), v, at.child(key), f)
	}
	return true
}

func (d *decoder) unknown(at *path, key string, names []string) {
	d.add(at, "unknown key%s", hint(key, names))
}

// value binds v to dst and tells whether dst got its value. What is wrong
// inside a table or an array does not make that unset.
func (d *decoder) value(dst reflect.Value, v any, at *path, f *field) bool {
	if s, ok := dst.Addr().Interface().(setter); ok {
		if err := s.set(v); err != nil {
			d.add(at, "%s", err)
			return false
		}
		return d.inRange(dst, at, f)
	}
	switch dst.Kind() {
	case reflect.Pointer:
		x := reflect.New(dst.Type().Elem())
		ok := d.value(x.Elem(), v, at, f)
		if ok {
			dst.Set(x)
		}
		return ok
	case reflect.Struct:
		return d.table(dst, v, at)
	case reflect.Slice:
		return d.array(dst, v, at, f)
	case reflect.Map:
		return d.fieldMap(dst, v, at)
	}
	if !assign(dst, v) {
		d.add(at, "must be %s, not %s", kindOf(dst), kind(v))
		return false
	}
	return d.oneOf(dst, at, f) && d.inRange(dst, at, f)
}

// assign sets a field of a basic kind if v is of that kind.
func assign(dst reflect.Value, v any) bool {
	k := dst.Kind()
	switch x := v.(type) {
	case string:
		if k == reflect.String {
			dst.SetString(x)
			return true
		}
	case bool:
		if k == reflect.Bool {
			dst.SetBool(x)
			return true
		}
	case int64:
		if k == reflect.Int {
			dst.SetInt(x)
			return true
		}
		if k == reflect.Float64 {
			dst.SetFloat(float64(x))
			return true
		}
	case float64:
		if k == reflect.Float64 {
			dst.SetFloat(x)
			return true
		}
	}
	return false
}

// array binds each element of v. Tables keep their place even if they are
// wrong, so that an index stays that of the file; other elements are left out.
func (d *decoder) array(dst reflect.Value, v any, at *path, f *field) bool {
	list, ok := elements(v)
	if !ok {
		d.add(at, "must be an array, not %s", kind(v))
		return false
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(list), len(list)))
	n := 0
	for i, v := range list {
		e := dst.Index(n)
		e.SetZero()
		_, table := v.(map[string]any)
		if d.value(e, v, at.at(i), f) || table {
			n++
		} else {
			d.mark(at)
		}
	}
	dst.SetLen(n)
	return true
}

// elements returns what an array has, written with brackets or as [[tables]].
func elements(v any) ([]any, bool) {
	switch x := v.(type) {
	case []any:
		return x, true
	case []map[string]any:
		list := make([]any, len(x))
		for i := range x {
			list[i] = x[i]
		}
		return list, true
	}
	return nil, false
}

// fieldMap binds a table whose keys are free.
func (d *decoder) fieldMap(dst reflect.Value, v any, at *path) bool {
	m, ok := v.(map[string]any)
	if !ok {
		d.add(at, "must be a table, not %s", kind(v))
		return false
	}
	dst.Set(reflect.MakeMapWithSize(dst.Type(), len(m)))
	for key, v := range m {
		e := reflect.New(dst.Type().Elem()).Elem()
		if d.value(e, v, at.child(key), &field{}) {
			dst.SetMapIndex(reflect.ValueOf(key), e)
		}
	}
	return true
}

func (d *decoder) oneOf(dst reflect.Value, at *path, f *field) bool {
	if len(f.one) == 0 || slices.Contains(f.one, dst.String()) {
		return true
	}
	quoted := make([]string, len(f.one))
	for i, o := range f.one {
		quoted[i] = strconv.Quote(o)
	}
	d.add(at, "must be %s, not %q", orList(quoted), dst.String())
	return false
}

// orList is "a", "a or b", "a, b or c".
func orList(list []string) string {
	last := len(list) - 1
	if last == 0 {
		return list[0]
	}
	return strings.Join(list[:last], ", ") + " or " + list[last]
}

func (d *decoder) inRange(dst reflect.Value, at *path, f *field) bool {
	if f.min == "" {
		return true
	}
	var ok bool
	var shown string
	switch x := dst.Interface().(type) {
	case duration:
		ok, shown = x >= mustDuration(f.min) && x <= mustDuration(f.max), time.Duration(x).String()
	case float64:
		ok, shown = x >= mustFloat(f.min) && x <= mustFloat(f.max), strconv.FormatFloat(x, 'g', -1, 64)
	case int, size:
		n := dst.Int()
		ok, shown = n >= int64(mustFloat(f.min)) && n <= int64(mustFloat(f.max)), strconv.FormatInt(n, 10)
	default:
		return true
	}
	if !ok {
		d.add(at, "must be from %s to %s, not %s", f.min, f.max, shown)
	}
	return ok
}

// mustFloat and mustDuration read tags, which a test has read before.
func mustFloat(s string) float64 {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic(err)
	}
	return x
}

func mustDuration(s string) duration {
	x, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return duration(x)
}

// kind names what TOML has, with its article.
func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case map[string]any:
		return "a table"
	case []any, []map[string]any:
		return "an array"
	}
	return "a date or time"
}

// kindOf names what a raw field takes.
func kindOf(dst reflect.Value) string {
	switch dst.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Int:
		return "an integer"
	case reflect.Float64:
		return "a number"
	}
	return "true or false"
}
