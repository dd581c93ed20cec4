package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// fieldName is the name of a header field.
type fieldName string

func (n *fieldName) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	*n = fieldName(s)
	return checkName(s)
}

func checkName(s string) error {
	if !isToken(s) {
		return fmt.Errorf("%q is not a header name", s)
	}
	return nil
}

// isToken is RFC 9110, 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// headerValue is a value without variables.
type headerValue string

func (x *headerValue) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	*x = headerValue(s)
	return checkValue(s)
}

// checkValue is RFC 9110, 5.5, but for bytes above 0x7f, which may pass.
func checkValue(s string) error {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("%q has a control character", s)
		}
	}
	if strings.Trim(s, " \t") != s {
		return fmt.Errorf("%q begins or ends with a blank", s)
	}
	return nil
}

// headerTemplate is a value with variables.
type headerTemplate string

func (x *headerTemplate) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	*x = headerTemplate(s)
	if err := checkValue(s); err != nil {
		return err
	}
	return checkTemplate(s)
}

var variables = []string{"client_ip", "request_id", "host", "listener", "route", "cluster", "endpoint", "scheme", "tls_version", "tls_sni", "tls_client_subject"}

func checkTemplate(s string) error {
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			return nil
		}
		s = s[i+1:]
		switch {
		case strings.HasPrefix(s, "%"):
			s = s[1:]
		case strings.HasPrefix(s, "{"):
			name, rest, ok := strings.Cut(s[1:], "}")
			if !ok {
				return fmt.Errorf("%q has no closing brace", "%"+s)
			}
			if !slices.Contains(variables, name) {
				return fmt.Errorf("no variable %q%s", "%{"+name+"}", hint(name, variables))
			}
			s = rest
		default:
			return fmt.Errorf(`a "%%" is written "%%%%"; alone it begins a variable such as %%{host}`)
		}
	}
}

// headerList is one template or an array of them.
type headerList []string

func (l *headerList) set(v any) error {
	list, ok := elements(v)
	if _, one := v.(string); one {
		list, ok = []any{v}, true
	}
	if !ok {
		return fmt.Errorf("must be a string or an array of strings, not %s", kind(v))
	}
	for _, x := range list {
		var t headerTemplate
		if err := t.set(x); err != nil {
			return err
		}
		*l = append(*l, string(t))
	}
	return nil
}

// What belay writes itself, so that a message always ends where both sides
// think it does; with what to do instead.
var ownRequest = map[string]string{
	"host": "use host_rewrite", "expect": "",
}

var ownRespond = map[string]string{"date": "", "server": "use server_header"}

var ownBoth = map[string]string{
	"content-length": "", "transfer-encoding": "", "connection": "", "keep-alive": "", "proxy-connection": "",
	"te": "", "trailer": "", "upgrade": "use upgrade",
}

// ownField is an error if belay owns the field. What may be nil.
func ownField(name string, also map[string]string) error {
	lower := strings.ToLower(name)
	for _, m := range []map[string]string{ownBoth, also} {
		if instead, ok := m[lower]; ok {
			if instead != "" {
				instead = "; " + instead
			}
			return fmt.Errorf("belay writes %s itself%s", name, instead)
		}
	}
	return nil
}

// headerOps turns the operations into lists. Sets and adds are sorted by name:
// TOML tables have no order.
func (b *builder) headerOps(raw *rawHeaderOps, at *path, also map[string]string) HeaderOps {
	var ops HeaderOps
	for i, n := range raw.Remove {
		b.check(at.child("remove").at(i), ownField(string(n), also))
		ops.Remove = append(ops.Remove, string(n))
	}
	set := at.child("set")
	for _, n := range names(b, set, raw.Set, also) {
		ops.Set = append(ops.Set, [2]string{n, string(raw.Set[n])})
	}
	add := at.child("add")
	for _, n := range names(b, add, raw.Add, also) {
		for _, v := range raw.Add[n] {
			ops.Add = append(ops.Add, [2]string{n, v})
		}
	}
	return ops
}

// names returns the names of a table of fields in order and reports bad ones.
func names[V any](b *builder, at *path, m map[string]V, also map[string]string) []string {
	if len(m) == 0 {
		return nil
	}
	list := slices.Sorted(maps.Keys(m))
	first := make(map[string]string, len(list))
	for _, n := range list {
		err := checkName(n)
		if err == nil {
			err = ownField(n, also)
		}
		lower := strings.ToLower(n)
		if other, ok := first[lower]; ok && err == nil {
			err = fmt.Errorf("is %s again: names have no case", other)
		}
		first[lower] = n
		b.check(at.child(n), err)
	}
	return list
}
