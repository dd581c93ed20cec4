package certs

import (
	"crypto/tls"
	"fmt"
	"strings"
)

// Params are what both sides of TLS can be told of the protocol. The zero value
// is TLS 1.2 to 1.3 with Go's suites and curves, post-quantum key exchange
// among them.
type Params struct {
	MinVersion, MaxVersion string   // "1.2" or "1.3"
	CipherSuites           []string // of TLS 1.2, IANA names; their order does not matter, those of 1.3 are fixed
	Curves                 []string // by the names of CurveNames; their order does not matter
	ALPN                   []string // by preference
}

// protocol is Params once checked.
type protocol struct {
	min, max uint16
	suites   []uint16
	curves   []tls.CurveID
	alpn     []string
}

var curves = []struct {
	name string
	id   tls.CurveID
}{
	{"X25519MLKEM768", tls.X25519MLKEM768},
	{"SecP256r1MLKEM768", tls.SecP256r1MLKEM768},
	{"SecP384r1MLKEM1024", tls.SecP384r1MLKEM1024},
	{"X25519", tls.X25519},
	{"P-256", tls.CurveP256},
	{"P-384", tls.CurveP384},
	{"P-521", tls.CurveP521},
}

// CurveNames lists the curves that Params knows.
func CurveNames() []string {
	var names []string
	for _, c := range curves {
		names = append(names, c.name)
	}
	return names
}

// SuiteNames lists the cipher suites of TLS 1.2 that Params knows: those
// without known weakness.
func SuiteNames() []string {
	var names []string
	for _, s := range tls.CipherSuites() {
		if s.SupportedVersions[0] <= tls.VersionTLS12 {
			names = append(names, s.Name)
		}
	}
	return names
}

// Check says what is wrong with the parameters, every problem.
func (p *Params) Check() []error {
	_, problems := p.protocol()
	return problems
}

func (p *Params) protocol() (protocol, []error) {
	var problems []error
	version := func(key, s string, unset uint16) uint16 {
		switch s {
		case "":
			return unset
		case "1.2":
			return tls.VersionTLS12
		case "1.3":
			return tls.VersionTLS13
		}
		problems = append(problems, fmt.Errorf("%s: TLS version %q is not 1.2 or 1.3", key, s))
		return unset
	}
	out := protocol{
		min: version("minimum version", p.MinVersion, tls.VersionTLS12), max: version("maximum version", p.MaxVersion, tls.VersionTLS13), alpn: p.ALPN,
	}
	if out.min > out.max {
		problems = append(problems, fmt.Errorf("minimum version %s is above maximum version %s", p.MinVersion, p.MaxVersion))
	}
	for _, name := range p.CipherSuites {
		id, err := suite(name)
		if err != nil {
			problems = append(problems, err)
		}
		out.suites = append(out.suites, id)
	}
	for _, name := range p.Curves {
		id, err := curve(name)
		if err != nil {
			problems = append(problems, err)
		}
		out.curves = append(out.curves, id)
	}
	for _, name := range p.ALPN {
		if len(name) == 0 || len(name) > 255 { // RFC 7301 section 3.1
			problems = append(problems, fmt.Errorf("ALPN protocol %q is not of 1 to 255 bytes", name))
		}
	}
	return out, problems
}

func suite(name string) (uint16, error) {
	for _, s := range tls.CipherSuites() {
		if s.Name != name {
			continue
		}
		if s.SupportedVersions[0] > tls.VersionTLS12 {
			return 0, fmt.Errorf("cipher suite %s is of TLS 1.3, whose suites cannot be chosen", name)
		}
		return s.ID, nil
	}
	for _, s := range tls.InsecureCipherSuites() {
		if s.Name == name {
			return 0, fmt.Errorf("cipher suite %s is insecure", name)
		}
	}
	return 0, fmt.Errorf("cipher suite %q is unknown; known are %s", name, strings.Join(SuiteNames(), ", "))
}

func curve(name string) (tls.CurveID, error) {
	for _, c := range curves {
		if strings.EqualFold(c.name, name) {
			return c.id, nil
		}
	}
	return 0, fmt.Errorf("curve %q is unknown; known are %s", name, strings.Join(CurveNames(), ", "))
}

// config makes a new tls.Config with the parameters.
func (p *protocol) config() *tls.Config {
	return &tls.Config{MinVersion: p.min, MaxVersion: p.max, CipherSuites: p.suites, CurvePreferences: p.curves, NextProtos: p.alpn}
}
