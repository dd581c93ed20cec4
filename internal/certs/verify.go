package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// PolicyID is a hash of what a peer was checked against. Sessions are bound to
// it: one that was made under another policy is not resumed.
type PolicyID [sha256.Size]byte

// Trust says which certificates of a peer are accepted. The lists of names and
// pins each accept what any of their elements accepts.
type Trust struct {
	CA       string // file or credential of trusted certificates, PEM
	SANs     []SANMatcher
	SPKIPins []string // SHA-256 of the public key (SubjectPublicKeyInfo), base64 or hexadecimal
	CertPins []string // SHA-256 of the certificate, hexadecimal (colons allowed) or base64
	CRL      string   // file or credential, PEM or DER; "": revocation is not checked
	CRLPolicy
}

// verifier is Trust made ready; it never changes.
type verifier struct {
	roots    *x509.CertPool // nil: pins alone decide
	sans     []matcher
	spki     map[[sha256.Size]byte]struct{}
	certs    map[[sha256.Size]byte]struct{}
	crl      *crlSet
	policy   CRLPolicy
	required bool // a certificate must be given
}

// compile makes the parts of a verifier that no file changes.
func (t *Trust) compile() (verifier, []error) {
	v := verifier{policy: t.CRLPolicy}
	var problems []error
	for i := range t.SANs {
		m, err := t.SANs[i].compile()
		if err != nil {
			problems = append(problems, err)
		}
		v.sans = append(v.sans, m)
	}
	pins := func(list []string) map[[sha256.Size]byte]struct{} {
		set := map[[sha256.Size]byte]struct{}{}
		for _, s := range list {
			sum, err := parsePin(s)
			if err != nil {
				problems = append(problems, err)
			}
			set[sum] = struct{}{}
		}
		return set
	}
	v.spki, v.certs = pins(t.SPKIPins), pins(t.CertPins)
	if t.CRL != "" && t.CA == "" {
		problems = append(problems, fmt.Errorf("CRL %s: a CA file is needed to check it against", t.CRL))
	}
	return v, problems
}

func (v *verifier) pinned() bool { return len(v.spki)+len(v.certs) > 0 }

func parsePin(s string) (sum [sha256.Size]byte, err error) {
	plain := strings.TrimPrefix(s, "sha256/")
	raw, err := hex.DecodeString(strings.ReplaceAll(plain, ":", ""))
	if err != nil {
		raw, err = base64.StdEncoding.DecodeString(plain)
	}
	if err != nil || len(raw) != len(sum) {
		return sum, fmt.Errorf("pin %q is not a SHA-256 in hexadecimal or base64", s)
	}
	return [sha256.Size]byte(raw), nil
}

// write puts into a hash what the verifier accepts; no path, for machines that
// share tickets may have it elsewhere. Of the CRL only that there is one: it is
// looked up on every resumption.
func (t *Trust) write(h interface{ Write([]byte) (int, error) }, authorities []byte) {
	fmt.Fprintf(h, "ca %t %x\ncrl %t %+v\n", t.CA != "", authorities, t.CRL != "", t.CRLPolicy)
	for _, m := range t.SANs {
		fmt.Fprintf(h, "san %d %d %q\n", m.Type, m.Kind, m.Value)
	}
	fmt.Fprintf(h, "spki %q\ncert %q\n", t.SPKIPins, t.CertPins)
}

// client is tls.Config.VerifyConnection of a server. crypto/tls has verified the
// chain when it was given; on a resumption the chains come from the ticket, which
// only this policy's authorities can have issued.
func (v *verifier) client(cs tls.ConnectionState, now time.Time) error {
	if len(cs.PeerCertificates) == 0 {
		if v.required {
			return refuse(ReasonNoCertificate, "no client certificate on a resumed session")
		}
		return nil
	}
	if v.roots == nil {
		return v.peer(cs.PeerCertificates[:1], now)
	}
	return v.anyChain(cs.VerifiedChains, now)
}

// anyChain accepts a peer one of whose chains passes; else it gives the last
// chain's reason.
func (v *verifier) anyChain(chains [][]*x509.Certificate, now time.Time) error {
	err := refuse(ReasonUnknownAuthority, "no chain to a trusted certificate")
	for _, chain := range chains {
		if len(chain) == 0 {
			continue
		}
		if err = v.peer(chain, now); err == nil {
			return nil
		}
	}
	return err
}

// peer checks one chain, leaf first: everything but signatures. It runs on
// workers, on each handshake, resumed ones too.
func (v *verifier) peer(chain []*x509.Certificate, now time.Time) error {
	leaf := chain[0]
	for _, c := range chain {
		switch {
		case now.After(c.NotAfter):
			return refuse(ReasonExpired, "%s expired at %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
		case now.Before(c.NotBefore):
			return refuse(ReasonNotYetValid, "%s is valid from %s", c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
		}
	}
	if len(v.sans) > 0 && !v.named(leaf) {
		return refuse(ReasonSAN, "no accepted name among %s", strings.Join(sans(leaf), ", "))
	}
	if v.pinned() {
		_, key := v.spki[sha256.Sum256(leaf.RawSubjectPublicKeyInfo)]
		_, whole := v.certs[sha256.Sum256(leaf.Raw)]
		if !key && !whole {
			return refuse(ReasonPin, "%s has no pinned key or certificate", leaf.Subject)
		}
	}
	if v.crl != nil {
		return v.crl.check(chain, v.policy, now)
	}
	return nil
}

func (v *verifier) named(leaf *x509.Certificate) bool {
	for i := range v.sans {
		if v.sans[i].matches(leaf) {
			return true
		}
	}
	return false
}
