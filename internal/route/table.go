// Package route finds the route of a request by host, path, method and fields,
// and makes the path or the Location that the route asks for.
package route

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"belay/internal/config"
	"belay/internal/header"
)

// Table is a listener's routes, compiled. It is immutable and shared by all
// workers.
//
// The routes of one host are taken in file order; a route with several hosts
// has its place in the order of each. The hosts that can apply are looked at in
// this order, and the first route that takes the request ends the search:
//
//  1. the exact host,
//  2. the "*.suffix" hosts, the longest first,
//  3. the routes without hosts.
//
// So a host none of whose routes takes the request passes it on to the next.
//
// Hosts and, where a host has many, exact paths are found by hash: their number
// does not matter. Prefixes and regexes of one host are tried one after the
// other, some nanoseconds for each prefix.
type Table struct {
	exact  map[string]*list
	suffix map[string]*list // "*.example.com" under "example.com"
	any    list

	longest  int  // bytes of the longest key of suffix
	literals bool // exact has IPv6 addresses
}

// Input is what a request is matched by. Host is as received, with or without a
// port; Path is without the query, nil for "*", which only a route without a
// path takes. Match keeps none of it.
type Input struct {
	Host, Path, Method []byte
	Header             *header.Map
}

// maxHost is more than a host can have that is worth a look: 253 bytes (RFC
// 1035 section 2.3.4) and a trailing dot.
const maxHost = 256

// Compile makes a table of routes, which come in file order and must not change
// afterwards.
func Compile(rs []*config.Route) (*Table, error) {
	t := &Table{exact: make(map[string]*list), suffix: make(map[string]*list)}
	for _, r := range rs {
		e := newEntry(r)
		if len(r.Hosts) == 0 {
			t.any.add(e)
		}
		for _, h := range r.Hosts {
			if err := t.addHost(h, e); err != nil {
				return nil, fmt.Errorf("route[%d]: %w", r.Index, err)
			}
		}
	}
	t.any.index()
	for _, hosts := range []map[string]*list{t.exact, t.suffix} {
		for _, l := range hosts {
			l.index()
		}
	}
	return t, nil
}

func (t *Table) addHost(host string, e *entry) error {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	name, wildcard := strings.CutPrefix(name, "*.")
	if name == "" || len(name) > maxHost || strings.Contains(name, "*") {
		return fmt.Errorf("%q is not a host", host)
	}
	hosts := t.exact
	if wildcard {
		hosts = t.suffix
		t.longest = max(t.longest, len(name))
	}
	t.literals = t.literals || name[0] == '['
	l := hosts[name]
	if l == nil {
		l = new(list)
		hosts[name] = l
	}
	l.add(e)
	return nil
}

// Match returns the first route that takes the request, or nil. It allocates
// nothing, but where a regex does or where an IPv6 address is not written in
// its short form.
func (t *Table) Match(in *Input) *config.Route {
	var buf [maxHost]byte
	if host := fold(&buf, in.Host); len(host) > 0 {
		if r := t.exactly(host).first(in); r != nil {
			return r
		}
		if r := t.bySuffix(host, in); r != nil {
			return r
		}
	}
	return t.any.first(in)
}

// exactly returns the routes of a host, nil if it has none. An IPv6 address is
// the same host however it is written; the table has it as RFC 5952 says.
func (t *Table) exactly(host []byte) *list {
	if l := t.exact[string(host)]; l != nil || !t.literals || host[0] != '[' {
		return l
	}
	ip, err := netip.ParseAddr(string(bytes.Trim(host, "[]")))
	if err != nil {
		return nil
	}
	return t.exact["["+ip.String()+"]"]
}

// bySuffix takes one label after the other off the host.
func (t *Table) bySuffix(host []byte, in *Input) *config.Route {
	if len(t.suffix) == 0 {
		return nil
	}
	for {
		i := bytes.IndexByte(host, '.')
		if i < 0 {
			return nil
		}
		host = host[i+1:]
		if len(host) > t.longest {
			continue
		}
		if r := t.suffix[string(host)].first(in); r != nil {
			return r
		}
	}
}

// fold writes host to buf in lower case, without port and trailing dot. It
// returns nil if host is too long to be in any table.
func fold(buf *[maxHost]byte, host []byte) []byte {
	host, _ = splitPort(host)
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) > maxHost {
		return nil
	}
	for i, c := range host {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		buf[i] = c
	}
	return buf[:len(host)]
}

// splitPort takes an authority apart; an IPv6 address keeps its brackets.
func splitPort(authority []byte) (host, port []byte) {
	i := bytes.LastIndexByte(authority, ':')
	if i < 0 || bytes.IndexByte(authority[i:], ']') >= 0 {
		return authority, nil
	}
	return authority[:i], authority[i+1:]
}
