// Package route finds the route of a request by host, path, method and fields.
package route

import (
	"bytes"
	"net/textproto"
	"strings"

	"belay/internal/config"
	"belay/internal/header"
)

// Table is a listener's routes, compiled. It is immutable and shared by all
// workers.
//
// A host's routes are looked at in file order. Which host that is: the exact
// name, then *.suffix from the longest, then the routes for any host; a host
// with no matching route passes the request on to the next of these. Hosts are
// found by hash, so their number does not matter.
type Table struct {
	exact  map[string][]*entry
	suffix map[string][]*entry // "*.example.com" under "example.com"
	any    []*entry
}

// entry is one route, prepared.
type entry struct {
	route   *config.Route
	methods map[string]bool // nil: any
	fields  []field
}

type field struct {
	config.HeaderMatch
	handle header.Handle
	name   []byte
}

// Input is what a request is matched by. Host is as received, with or without a
// port; Path is without the query. Match keeps none of it.
type Input struct {
	Host, Path, Method []byte
	Header             *header.Map
}

// Compile makes a table of routes in file order.
func Compile(rs []*config.Route) (*Table, error) {
	t := &Table{exact: make(map[string][]*entry), suffix: make(map[string][]*entry)}
	for _, r := range rs {
		e := &entry{route: r}
		if len(r.Methods) > 0 {
			e.methods = make(map[string]bool, len(r.Methods))
			for _, m := range r.Methods {
				e.methods[m] = true
			}
		}
		for _, h := range r.Headers {
			e.fields = append(e.fields, field{h, header.Lookup([]byte(h.Name)), []byte(textproto.CanonicalMIMEHeaderKey(h.Name))})
		}
		if len(r.Hosts) == 0 {
			t.any = append(t.any, e)
		}
		for _, h := range r.Hosts {
			h = strings.ToLower(strings.TrimSuffix(h, "."))
			if s, ok := strings.CutPrefix(h, "*."); ok {
				t.suffix[s] = append(t.suffix[s], e)
			} else {
				t.exact[h] = append(t.exact[h], e)
			}
		}
	}
	return t, nil
}

// maxHost is the longest host that can be in a table (RFC 1035 2.3.4, and room
// for an IPv6 literal).
const maxHost = 256

// Match returns the first route that takes the request, or nil.
func (t *Table) Match(in *Input) *config.Route {
	if len(t.exact) > 0 || len(t.suffix) > 0 {
		var buf [maxHost]byte
		if host := fold(buf[:0], in.Host); host != nil {
			if r := t.matchHost(host, in); r != nil {
				return r
			}
		}
	}
	return first(t.any, in)
}

func (t *Table) matchHost(host []byte, in *Input) *config.Route {
	if r := first(t.exact[string(host)], in); r != nil {
		return r
	}
	if len(t.suffix) == 0 || len(host) == 0 || host[0] == '[' {
		return nil
	}
	for {
		i := bytes.IndexByte(host, '.')
		if i < 0 {
			return nil
		}
		host = host[i+1:]
		if r := first(t.suffix[string(host)], in); r != nil {
			return r
		}
	}
}

// fold writes host in lower case without port and trailing dot; nil if it is too
// long to be in any table.
func fold(dst, host []byte) []byte {
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) > maxHost {
		return nil
	}
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

func first(list []*entry, in *Input) *config.Route {
	for _, e := range list {
		if e.takes(in) {
			return e.route
		}
	}
	return nil
}

func (e *entry) takes(in *Input) bool {
	r := e.route
	switch {
	case r.Path != "":
		if string(in.Path) != r.Path {
			return false
		}
	case r.PathRegex != nil:
		if !r.PathRegex.Match(in.Path) {
			return false
		}
	case r.PathPrefix != "" && !hasPrefix(in.Path, r.PathPrefix):
		return false
	}
	if e.methods != nil && !e.methods[string(in.Method)] {
		return false
	}
	for i := range e.fields {
		if !e.fields[i].satisfied(in.Header) {
			return false
		}
	}
	return true
}

// hasPrefix compares on segment borders: /a covers /a and /a/b, not /ab.
func hasPrefix(path []byte, prefix string) bool {
	if len(path) < len(prefix) || string(path[:len(prefix)]) != prefix {
		return false
	}
	return len(path) == len(prefix) || prefix[len(prefix)-1] == '/' || path[len(prefix)] == '/'
}

// satisfied looks at every value of the field: one that fits is enough.
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
