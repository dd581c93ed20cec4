package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// NameMatch says how a server name found its certificates.
type NameMatch uint8

// The ways, in the order they are tried.
const (
	NameExact NameMatch = iota
	NameWildcard
	NameDefault // no name was sent, or none matches
)

func (m NameMatch) String() string {
	return [...]string{"exact name", "wildcard of one level", "default"}[m]
}

// Pick says why one of those certificates was taken.
type Pick uint8

// The ways.
const (
	PickOnly     Pick = iota // there is no other
	PickECDSA                // the client can use it, and it is ECDSA
	PickFits                 // the first that the client can use
	PickFirst                // the client can use none
	PickUnusable             // the OCSP policy forbids all
)

func (p Pick) String() string {
	return [...]string{"the only one", "the first ECDSA one the client can use", "the first one the client can use",
		"the first one, for the client can use none", "none may be used under the OCSP policy"}[p]
}

// choice is what select returns.
type choice struct {
	cert  *served // nil: PickUnusable
	match NameMatch
	pick  Pick
}

// served is a certificate as a snapshot serves it.
type served struct {
	tls  tls.Certificate
	pair *Pair
	name string // its source
}

// group is the certificates for one name. There is one of each kind of key at
// most, the first of the list, for clients that cannot use it cannot use the
// others: so a group is short however long the list is.
type group struct {
	ordered []*served // ECDSA first, then as listed
	first   *served   // first of the list
}

// index finds certificates by server name: two lookups, whatever their number.
type index struct {
	exact    map[string]*group
	wildcard map[string]*group // by what follows "*."
	fallback *group
	overlaps []string // certificates that no client gets for some name
}

// newIndex builds the index of the pairs, in the order of the list. The
// default is the group of the first certificate's first name, so that it too
// has an ECDSA and an RSA form.
func newIndex(list []*served, policy OCSPPolicy, now time.Time) *index {
	x := &index{exact: make(map[string]*group, len(list)), wildcard: map[string]*group{}}
	for _, s := range list {
		groups := x.groupsOf(s.pair)
		if x.fallback == nil {
			if len(groups) == 0 {
				groups = append(groups, named{"(default)", &group{}})
			}
			x.fallback = groups[0].group
		}
		if s.pair.usable(policy, now) != nil {
			continue
		}
		for _, g := range groups {
			x.add(g.group, s, g.name)
		}
	}
	return x
}

type named struct {
	name  string
	group *group
}

// groupsOf gives the group of each of a certificate's names, made if need be.
func (x *index) groupsOf(p *Pair) []named {
	var list []named
	for _, name := range p.names {
		name = strings.TrimSuffix(lower(name), ".")
		key, m := name, x.exact
		if parent, ok := strings.CutPrefix(name, "*."); ok {
			key, m = parent, x.wildcard
		}
		if m[key] == nil {
			m[key] = &group{}
		}
		list = append(list, named{name, m[key]})
	}
	return list
}

func (x *index) add(g *group, s *served, name string) {
	for _, other := range g.ordered {
		if other == s {
			return // the certificate has the name twice
		}
		if other.pair.kind == s.pair.kind {
			if len(x.overlaps) < 100 {
				x.overlaps = append(x.overlaps, fmt.Sprintf("%s: %s is never used, %s comes before it and has the same kind of key (%s)",
					name, s.name, other.name, s.pair.kind.name))
			}
			return
		}
	}
	if g.first == nil {
		g.first = s
	}
	i := len(g.ordered)
	if s.pair.kind.ecdsa {
		i = 0
		for i < len(g.ordered) && g.ordered[i].pair.kind.ecdsa {
			i++
		}
	}
	g.ordered = slices.Insert(g.ordered, i, s)
}

// find gives the certificates for a server name.
func (x *index) find(name string) (*group, NameMatch) {
	if name = lower(name); name != "" {
		if g := x.exact[name]; g != nil {
			return g, NameExact
		}
		if i := strings.IndexByte(name, '.'); i > 0 {
			if g := x.wildcard[name[i+1:]]; g != nil {
				return g, NameWildcard
			}
		}
	}
	return x.fallback, NameDefault
}

// choose picks the certificate for a client. It runs on workers.
func (x *index) choose(hello *tls.ClientHelloInfo) choice {
	g, match := x.find(hello.ServerName)
	switch len(g.ordered) {
	case 0:
		return choice{nil, match, PickUnusable}
	case 1:
		return choice{g.first, match, PickOnly}
	}
	// The name is found already, and may be meant not to match.
	name := hello.ServerName
	hello.ServerName = ""
	defer func() { hello.ServerName = name }()
	for _, s := range g.ordered {
		if hello.SupportsCertificate(&s.tls) == nil {
			if s.pair.kind.ecdsa {
				return choice{s, match, PickECDSA}
			}
			return choice{s, match, PickFits}
		}
	}
	return choice{g.first, match, PickFirst}
}

// errUnusable ends a handshake for whose name no certificate may be used.
var errUnusable = errors.New("no certificate may be used for this name under the OCSP policy")

// certificate is tls.Config.GetCertificate.
func (x *index) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := x.choose(hello)
	if c.cert == nil {
		return nil, errUnusable
	}
	return &c.cert.tls, nil
}
