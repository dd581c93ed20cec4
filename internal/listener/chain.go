package listener

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"belay/internal/certs"
	"belay/internal/clienthello"
	"belay/internal/config"
)

// Chain is a filter chain: how the connections are served that meet its
// conditions.
type Chain struct {
	Name   string
	Config *config.Chain // nil: the listener's own tls
	// Server is the TLS that is terminated; nil: TLS passes through.
	Server *certs.Server
	// Index is the place in Gate.Chains.
	Index int
}

// NameMatch says by which condition on the server name a chain was found.
type NameMatch uint8

// The ways, in the order they are tried.
const (
	NameExact NameMatch = iota
	NameSuffix
	NameAny // the chain asks for none
)

func (m NameMatch) String() string { return [...]string{"exact", "suffix", "any"}[m] }

// Facts are what a chain is chosen by.
type Facts struct {
	ServerName []byte   // lower case, without a dot at the end; empty: none
	ALPN       []string // that the client offers
	Source     netip.Addr
	Port       uint16 // that the client connected to

	hello *clienthello.Hello // has the ALPN of a connection
}

func (f *Facts) offers(protocol string) bool {
	if f.hello != nil {
		return f.hello.ALPN.Has(protocol)
	}
	return slices.Contains(f.ALPN, protocol)
}

// Match is a chain and why it was taken.
type Match struct {
	Chain      *Chain // nil: none, the connection is reset
	Name       NameMatch
	ServerName string // the condition, "" with NameAny
	Port       bool   // the chain asks for the port
	ALPN       bool   // for one of the protocols
	Source     netip.Prefix
}

// chains finds the most specific chain: by port, then server name, then ALPN, then
// source. It never changes.
type chains struct {
	ports map[uint16]*nameTable
	any   nameTable
	base  *Chain // for who meets none; nil: reset
}

// nameTable has the chains by what they ask of the server name.
type nameTable struct {
	exact  map[string][]condition
	suffix map[string][]condition // with the dot that begins it
	none   []condition
}

// condition is what a chain asks for beside port and name.
type condition struct {
	chain  *Chain
	name   string
	alpn   []string     // one of them; empty: any
	source netip.Prefix // invalid: any
}

func newChains(list []*Chain, base *Chain) *chains {
	t := &chains{ports: map[uint16]*nameTable{}, base: base}
	for _, c := range list {
		tables := []*nameTable{&t.any}
		if len(c.Config.Ports) > 0 {
			tables = tables[:0]
		}
		for _, p := range c.Config.Ports {
			if t.ports[p] == nil {
				t.ports[p] = &nameTable{}
			}
			tables = append(tables, t.ports[p])
		}
		for _, n := range tables {
			n.add(c)
		}
	}
	t.any.sort()
	for _, n := range t.ports {
		n.sort()
	}
	return t
}

func (t *nameTable) add(c *Chain) {
	sources := c.Config.Sources
	if len(sources) == 0 {
		sources = []netip.Prefix{{}}
	}
	for _, source := range sources {
		x := condition{chain: c, alpn: c.Config.ALPN, source: source}
		if len(c.Config.ServerNames) == 0 {
			t.none = append(t.none, x)
		}
		for _, name := range c.Config.ServerNames {
			x.name = name
			if suffix, ok := strings.CutPrefix(name, "*"); ok {
				t.suffix = put(t.suffix, suffix, x)
			} else {
				t.exact = put(t.exact, name, x)
			}
		}
	}
}

func put(m map[string][]condition, key string, x condition) map[string][]condition {
	if m == nil {
		m = make(map[string][]condition)
	}
	m[key] = append(m[key], x)
	return m
}

// sort puts what is more specific first; what is equal keeps the file's order.
func (t *nameTable) sort() {
	for _, list := range t.exact {
		sortConditions(list)
	}
	for _, list := range t.suffix {
		sortConditions(list)
	}
	sortConditions(t.none)
}

func sortConditions(list []condition) {
	slices.SortStableFunc(list, func(a, b condition) int {
		if x, y := len(a.alpn) > 0, len(b.alpn) > 0; x != y {
			if x {
				return -1
			}
			return 1
		}
		return bits(b.source) - bits(a.source)
	})
}

// bits is how specific a source is: any is less than a prefix of no bits.
func bits(p netip.Prefix) int {
	if !p.IsValid() {
		return -1
	}
	return p.Bits()
}

// find allocates nothing.
func (t *chains) find(f *Facts) Match {
	if n := t.ports[f.Port]; n != nil {
		if m := n.find(f); m.Chain != nil {
			m.Port = true
			return m
		}
	}
	if m := t.any.find(f); m.Chain != nil {
		return m
	}
	return Match{Chain: t.base, Name: NameAny}
}

func (t *nameTable) find(f *Facts) Match {
	if len(f.ServerName) > 0 {
		if m := first(t.exact[string(f.ServerName)], f, NameExact); m.Chain != nil {
			return m
		}
		for rest := f.ServerName; len(t.suffix) > 0; {
			dot := bytes.IndexByte(rest, '.')
			if dot < 0 {
				break
			}
			if m := first(t.suffix[string(rest[dot:])], f, NameSuffix); m.Chain != nil {
				return m
			}
			rest = rest[dot+1:]
		}
	}
	return first(t.none, f, NameAny)
}

func first(list []condition, f *Facts, how NameMatch) Match {
	for i := range list {
		x := &list[i]
		if x.source.IsValid() && !x.source.Contains(f.Source) || len(x.alpn) > 0 && !slices.ContainsFunc(x.alpn, f.offers) {
			continue
		}
		return Match{Chain: x.chain, Name: how, ServerName: x.name, ALPN: len(x.alpn) > 0, Source: x.source}
	}
	return Match{}
}
