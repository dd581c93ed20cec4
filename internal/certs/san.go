package certs

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// SANType is a type of subject alternative name.
type SANType uint8

// The types of names.
const (
	SANDNS SANType = iota
	SANURI
	SANEmail
	SANIP
)

// MatchKind says how a name is compared.
type MatchKind uint8

// The kinds of comparison. A regular expression must match the whole name.
const (
	MatchExact MatchKind = iota
	MatchPrefix
	MatchSuffix
	MatchContains
	MatchRegex
)

// SANMatcher accepts a certificate one of whose names of a type matches. DNS
// names are compared without regard to case; an exact one is also matched by a
// certificate's wildcard of one level. IP addresses are compared as they are
// written canonically; exact takes any spelling, or a prefix such as 10.0.0.0/8.
type SANMatcher struct {
	Type  SANType
	Kind  MatchKind
	Value string
}

// matcher is a SANMatcher made ready.
type matcher struct {
	SANMatcher
	regex  *regexp.Regexp
	prefix netip.Prefix
}

func (m *SANMatcher) compile() (matcher, error) {
	c := matcher{SANMatcher: *m}
	if m.Value == "" {
		return c, fmt.Errorf("subject alternative name: nothing to compare with")
	}
	if m.Type == SANDNS && m.Kind != MatchRegex {
		c.Value = strings.ToLower(m.Value)
	}
	switch {
	case m.Kind == MatchRegex:
		expression := `\A(?:` + m.Value + `)\z`
		if m.Type == SANDNS {
			expression = `(?i)` + expression
		}
		regex, err := regexp.Compile(expression)
		if err != nil {
			return c, fmt.Errorf("subject alternative name: %w", err)
		}
		c.regex = regex
	case m.Type == SANIP && m.Kind == MatchExact:
		prefix, err := netip.ParsePrefix(m.Value)
		if err != nil {
			address, err := netip.ParseAddr(m.Value)
			if err != nil {
				return c, fmt.Errorf("subject alternative name: %q is no IP address: %w", m.Value, err)
			}
			prefix = netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen())
		}
		c.prefix = prefix.Masked()
	}
	return c, nil
}

func (m *matcher) matches(c *x509.Certificate) bool {
	switch m.Type {
	case SANDNS:
		for _, name := range c.DNSNames {
			if m.dns(name) {
				return true
			}
		}
	case SANURI:
		for _, u := range c.URIs {
			if m.text(u.String()) {
				return true
			}
		}
	case SANEmail:
		for _, mail := range c.EmailAddresses {
			if m.text(mail) {
				return true
			}
		}
	case SANIP:
		for _, ip := range c.IPAddresses {
			a, ok := netip.AddrFromSlice(ip)
			if a = a.Unmap(); ok && (m.Kind == MatchExact && m.prefix.Contains(a) || m.Kind != MatchExact && m.text(a.String())) {
				return true
			}
		}
	}
	return false
}

func (m *matcher) dns(name string) bool {
	name = lower(name)
	if m.text(name) {
		return true
	}
	if m.Kind != MatchExact || !strings.HasPrefix(name, "*.") {
		return false
	}
	_, parent, found := strings.Cut(m.Value, ".")
	return found && parent == name[2:]
}

func (m *matcher) text(s string) bool {
	switch m.Kind {
	case MatchExact:
		return s == m.Value
	case MatchPrefix:
		return strings.HasPrefix(s, m.Value)
	case MatchSuffix:
		return strings.HasSuffix(s, m.Value)
	case MatchContains:
		return strings.Contains(s, m.Value)
	}
	return m.regex.MatchString(s)
}

// lower is strings.ToLower for names that are ASCII and mostly lower already.
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}
