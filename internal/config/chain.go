package config

import (
	"fmt"
	"slices"
	"strings"
)

// buildChains makes the chains of a listener, and reports those that nobody
// could tell apart.
func (b *builder) buildChains(l *Listener, raw *rawListener, at *path) {
	same, names := make(map[string]int), make(map[string]int)
	for i := range raw.Chains {
		here := at.child("chain").at(i)
		c := b.buildChain(&raw.Chains[i], here, l, i)
		l.Chains = append(l.Chains, c)
		if j, ok := names[c.Name]; ok {
			b.add(here.child("name"), "%q is the name of chain[%d] as well", c.Name, j)
		} else {
			names[c.Name] = i
		}
		if b.badCondition(here) {
			continue
		}
		if n := c.combinations(); n > maxCombinations {
			b.add(here, "has more than %d combinations of conditions", maxCombinations)
			continue
		}
		conditions := c.conditions()
		if k := slices.IndexFunc(conditions, func(key string) bool { _, ok := same[key]; return ok }); k >= 0 {
			b.add(here, "has the conditions of chain[%d]: %s", same[conditions[k]], conditions[k])
			continue
		}
		for _, key := range conditions {
			same[key] = i
		}
		if l.TLS != nil && c.unconditional() {
			b.add(at.child("tls"), "is never used: chain[%d] has no condition", i)
		}
	}
}

// badCondition tells whether a condition was refused: the chain looks as if it
// had others.
func (b *builder) badCondition(at *path) bool {
	return slices.ContainsFunc([]string{"server_names", "sources", "ports", "alpn"}, func(key string) bool { return b.has(at.child(key)) })
}

func (c *Chain) unconditional() bool {
	return len(c.ServerNames)+len(c.Sources)+len(c.Ports)+len(c.ALPN) == 0
}

func (b *builder) buildChain(raw *rawChain, at *path, l *Listener, i int) *Chain {
	c := &Chain{Name: fmt.Sprintf("%s.%d", l.Name, i), ServerNames: words(raw.ServerNames), Sources: prefixes(raw.Sources), ALPN: words(raw.ALPN)}
	if raw.Name != nil {
		if c.Name = *raw.Name; !isLabel(c.Name) {
			b.add(at.child("name"), "%q: a name has 1 to %d bytes of visible ASCII, without quotes and \"\\\"", c.Name, maxLabel)
		}
	}
	for _, p := range raw.Ports {
		c.Ports = append(c.Ports, uint16(p))
	}
	putBool(&c.Passthrough, raw.Passthrough)
	if raw.Cluster != nil && l.Protocol == ProtocolTCP {
		c.Cluster = *raw.Cluster
		b.known(at.child("cluster"), c.Cluster)
	}
	if l.Protocol == ProtocolHTTP {
		if raw.Cluster != nil {
			b.add(at.child("cluster"), `is only for protocol = "tcp"; an HTTP listener has routes`)
		}
		if c.Passthrough {
			b.onlyFor(ProtocolTCP, []string{"passthrough"}, at)
		}
	}
	switch {
	case raw.TLS != nil && c.Passthrough:
		b.add(at.child("tls"), "excludes passthrough")
	case raw.TLS != nil:
		c.TLS = b.buildTLS(raw.TLS, at.child("tls"), l)
	case c.Passthrough || b.has(at.child("passthrough")):
	case l.Protocol == ProtocolTCP:
		b.missing(at, "tls", "is missing: the certificates of this chain; or passthrough = true")
	default:
		b.missing(at, "tls", "is missing: the certificates of this chain")
	}
	return c
}

// maxCombinations bounds what a check of conditions takes.
const maxCombinations = 100000

func (c *Chain) combinations() int {
	n := 1
	for _, k := range []int{len(c.ServerNames), len(c.Ports), len(c.ALPN), len(c.Sources)} {
		if n *= max(k, 1); n > maxCombinations {
			return n
		}
	}
	return n
}

// conditions are all combinations of a chain's conditions, so that two chains with
// one in common can be found.
func (c *Chain) conditions() (out []string) {
	orAny := func(list []string) []string {
		if len(list) == 0 {
			return []string{"any"}
		}
		return list
	}
	var ports, sources []string
	for _, p := range c.Ports {
		ports = append(ports, fmt.Sprint(p))
	}
	for _, p := range c.Sources {
		sources = append(sources, p.String())
	}
	for _, n := range orAny(c.ServerNames) {
		for _, p := range orAny(ports) {
			for _, a := range orAny(c.ALPN) {
				for _, s := range orAny(sources) {
					out = append(out, strings.Join([]string{"server name " + n, "port " + p, "ALPN " + a, "source " + s}, ", "))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
