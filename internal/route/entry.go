package route

import (
	"regexp"

	"belay/internal/config"
	"belay/internal/header"
)

// entry is one route, prepared.
type entry struct {
	route   *config.Route
	kind    pathKind
	path    string // of exactPath and prefixPath
	regex   *regexp.Regexp
	methods []string // none: any
	fields  []field
}

type pathKind uint8

const (
	anyPath pathKind = iota
	exactPath
	prefixPath
	regexPath
)

func newEntry(r *config.Route) *entry {
	e := &entry{route: r, methods: r.Methods}
	switch {
	case r.Path != "":
		e.kind, e.path = exactPath, r.Path
	case r.PathPrefix != "":
		e.kind, e.path = prefixPath, r.PathPrefix
	case r.PathRegex != nil:
		e.kind, e.regex = regexPath, r.PathRegex
	}
	for _, h := range r.Headers {
		name := []byte(h.Name)
		e.fields = append(e.fields, field{HeaderMatch: h, handle: header.Lookup(name), name: name})
	}
	return e
}

// takes tells whether the request satisfies all of the route's conditions.
func (e *entry) takes(in *Input) bool {
	switch e.kind {
	case exactPath:
		if string(in.Path) != e.path {
			return false
		}
	case prefixPath:
		if !hasPrefix(in.Path, e.path) {
			return false
		}
	case regexPath:
		if !e.regex.Match(in.Path) {
			return false
		}
	}
	if len(e.methods) > 0 && !e.takesMethod(in.Method) {
		return false
	}
	for i := range e.fields {
		if !e.fields[i].satisfied(in.Header) {
			return false
		}
	}
	return true
}

func (e *entry) takesMethod(method []byte) bool {
	for _, m := range e.methods {
		if m == string(method) {
			return true
		}
	}
	return false
}

// hasPrefix compares on segment borders: /a covers /a and /a/b, not /ab, and
// /a/ covers what is below it, not /a.
func hasPrefix(path []byte, prefix string) bool {
	if len(path) < len(prefix) || string(path[:len(prefix)]) != prefix {
		return false
	}
	return len(path) == len(prefix) || prefix[len(prefix)-1] == '/' || path[len(prefix)] == '/'
}

// field is a condition on a header field.
type field struct {
	config.HeaderMatch
	handle header.Handle // 0: by name
	name   []byte
}

// satisfied looks at the values of all fields of that name: one that fits is
// enough, and for an inverted condition none may.
func (f *field) satisfied(m *header.Map) bool {
	found := false
	look := func(v []byte) bool {
		switch {
		case f.Present:
			found = true
		case f.Regex != nil:
			found = f.Regex.Match(v)
		default:
			found = string(v) == f.Exact
		}
		return !found
	}
	if f.handle != 0 {
		m.Values(f.handle, look)
	} else {
		m.ValuesName(f.name, look)
	}
	return found != f.Invert
}
