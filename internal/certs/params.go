package certs

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
)

// Params are what both sides of TLS can be told of the protocol. The zero value
// is TLS 1.2 to 1.3 with Go's suites and curves, post-quantum key exchange
// among them.
type Params struct {
	MinVersion, MaxVersion uint16        // tls.VersionTLS12 or tls.VersionTLS13; 0: the widest
	CipherSuites           []uint16      // of TLS 1.2; their order does not matter, those of 1.3 are fixed; nil: Go's
	Curves                 []tls.CurveID // their order does not matter; nil: Go's
	ALPN                   []string      // by preference
}

// Check says what is wrong with the parameters, every problem: crypto/tls says
// nothing of a suite it does not know, and would negotiate another.
func (p *Params) Check() []error {
	var problems []error
	least, most := p.versions()
	for _, v := range []uint16{least, most} {
		if v != tls.VersionTLS12 && v != tls.VersionTLS13 {
			problems = append(problems, fmt.Errorf("version %s is not TLS 1.2 or 1.3", tls.VersionName(v)))
		}
	}
	if least > most {
		problems = append(problems, fmt.Errorf("minimum version %s is above maximum version %s", tls.VersionName(least), tls.VersionName(most)))
	}
	for _, id := range p.CipherSuites {
		if err := checkSuite(id); err != nil {
			problems = append(problems, err)
		}
	}
	for _, id := range p.Curves {
		if id == 0 {
			problems = append(problems, errors.New("curve 0 is none"))
		}
	}
	for _, name := range p.ALPN {
		if len(name) == 0 || len(name) > 255 { // RFC 7301 section 3.1
			problems = append(problems, fmt.Errorf("ALPN protocol %q is not of 1 to 255 bytes", name))
		}
	}
	return problems
}

func checkSuite(id uint16) error {
	safe := tls.CipherSuites()
	i := slices.IndexFunc(safe, func(s *tls.CipherSuite) bool { return s.ID == id })
	switch {
	case i < 0:
		return fmt.Errorf("cipher suite %s is insecure or unknown", tls.CipherSuiteName(id))
	case safe[i].SupportedVersions[0] > tls.VersionTLS12:
		return fmt.Errorf("cipher suite %s is of TLS 1.3, whose suites cannot be chosen", safe[i].Name)
	}
	return nil
}

func (p *Params) versions() (least, most uint16) {
	return cmp.Or(p.MinVersion, tls.VersionTLS12), cmp.Or(p.MaxVersion, tls.VersionTLS13)
}

// config makes a new tls.Config with the parameters.
func (p *Params) config() *tls.Config {
	least, most := p.versions()
	return &tls.Config{MinVersion: least, MaxVersion: most, CipherSuites: p.CipherSuites, CurvePreferences: p.Curves, NextProtos: p.ALPN}
}
