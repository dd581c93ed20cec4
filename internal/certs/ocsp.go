package certs

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"golang.org/x/crypto/ocsp"
)

// OCSPPolicy says what a missing or expired OCSP staple means.
type OCSPPolicy uint8

// The policies. A certificate that demands a staple (RFC 7633) is not used
// without one under any of them but OCSPLenient, which warns.
const (
	OCSPLenient    OCSPPolicy = iota // serve without a staple when there is no good one
	OCSPStrict                       // a staple that is configured must be good, else the certificate is not used
	OCSPMustStaple                   // every certificate needs a good staple
)

func (p OCSPPolicy) String() string {
	switch p {
	case OCSPStrict:
		return "strict"
	case OCSPMustStaple:
		return "must_staple"
	}
	return "lenient"
}

// staple is an OCSP response that may be sent with a certificate.
type staple struct {
	configured bool
	raw        []byte // nil: none that could ever be sent
	until      time.Time
	err        error
}

// good reports whether the staple may be sent now.
func (s *staple) good(now time.Time) bool { return s.raw != nil && now.Before(s.until) }

// problem says why it may not; nil if it may, or if none is configured.
func (s *staple) problem(now time.Time) error {
	switch {
	case !s.configured || s.good(now):
		return nil
	case s.err != nil:
		return s.err
	}
	return fmt.Errorf("OCSP staple expired at %s", s.until.UTC().Format(time.RFC3339))
}

// parseStaple reads a response, DER or PEM. What is wrong with it is kept, not
// returned: the policy decides whether it matters.
func parseStaple(data []byte, name string, chain []*x509.Certificate) staple {
	s := staple{configured: true}
	var issuer *x509.Certificate // without one the signature is not checked
	if len(chain) > 1 {
		issuer = chain[1]
	}
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes
	}
	response, err := ocsp.ParseResponseForCert(data, chain[0], issuer)
	switch {
	case len(data) == 0:
		s.err = fmt.Errorf("OCSP staple %s: the file is missing or empty", name)
	case err != nil:
		s.err = fmt.Errorf("OCSP staple %s: %w", name, err)
	case response.Status != ocsp.Good:
		s.err = fmt.Errorf("OCSP staple %s: the response does not say good", name)
	case response.NextUpdate.IsZero():
		s.raw, s.until = data, response.ThisUpdate.Add(7*24*time.Hour)
	default:
		s.raw, s.until = data, response.NextUpdate
	}
	return s
}

// tlsFeature is the extension of RFC 7633; status_request(5) in it is "must
// staple".
const tlsFeature = "1.3.6.1.5.5.7.1.24"

func mustStaple(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.String() != tlsFeature {
			continue
		}
		// SEQUENCE OF INTEGER, each of one byte in practice.
		for i := 2; i+2 < len(e.Value); i += 3 {
			if e.Value[i] == 2 && e.Value[i+1] == 1 && e.Value[i+2] == 5 {
				return true
			}
		}
	}
	return false
}

// usable decides by the policy whether a pair may be served at a time; the
// error says why not.
func (p *Pair) usable(policy OCSPPolicy, now time.Time) error {
	if p.staple.good(now) {
		return nil
	}
	needed := policy == OCSPMustStaple || policy == OCSPStrict && (p.staple.configured || p.mustStaple)
	if !needed {
		return nil
	}
	if err := p.staple.problem(now); err != nil {
		return err
	}
	return fmt.Errorf("no OCSP staple, which the policy %s demands", policy)
}
