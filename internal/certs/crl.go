package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

// crlSet is a file of revocation lists, each checked against the authorities.
type crlSet struct {
	lists map[string][]*crl // by the issuer's name in DER
	until time.Time         // the first nextUpdate
	count int
}

// crl is one list. Its signature is checked when it meets its issuer.
type crl struct {
	list    *x509.RevocationList
	serials map[string]struct{}
}

// parseCRLs reads every list of a file, PEM or one in DER.
func parseCRLs(data []byte, name string) (*crlSet, error) {
	set := &crlSet{lists: map[string][]*crl{}}
	blocks := [][]byte{}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "X509 CRL" {
			blocks = append(blocks, block.Bytes)
		}
	}
	if len(blocks) == 0 && len(data) > 0 && data[0] == 0x30 {
		blocks = append(blocks, data)
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("CRL %s: %w", name, nothingIn(data, "CRL"))
	}
	for i, der := range blocks {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("CRL %s: list %d: %w", name, i+1, err)
		}
		for _, e := range list.Extensions {
			if e.Critical { // a delta list or one of part of the certificates: RFC 5280 section 5.2
				return nil, fmt.Errorf("CRL %s: list %d has the critical extension %s, which is not understood", name, i+1, e.Id)
			}
		}
		c := &crl{list: list, serials: make(map[string]struct{}, len(list.RevokedCertificateEntries))}
		for _, e := range list.RevokedCertificateEntries {
			c.serials[string(e.SerialNumber.Bytes())] = struct{}{}
		}
		set.lists[string(list.RawIssuer)] = append(set.lists[string(list.RawIssuer)], c)
		set.count++
		if n := list.NextUpdate; !n.IsZero() && (set.until.IsZero() || n.Before(set.until)) {
			set.until = n
		}
	}
	return set, nil
}

// verify checks the lists' signatures once, against the authorities they must
// come from.
func (s *crlSet) verify(authorities []*x509.Certificate, name string) error {
	for _, lists := range s.lists {
		for _, c := range lists {
			if !signedByAny(c.list, authorities) {
				return fmt.Errorf("CRL %s: the list of %s is signed by no certificate of the CA file", name, c.list.Issuer)
			}
		}
	}
	return nil
}

func signedByAny(list *x509.RevocationList, authorities []*x509.Certificate) bool {
	for _, ca := range authorities {
		if bytes.Equal(ca.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(ca) == nil {
			return true
		}
	}
	return false
}

// CRLPolicy says what the lists must cover.
type CRLPolicy struct {
	LeafOnly     bool // check the peer's certificate, not the authorities above it
	AllowStale   bool // a list past its nextUpdate still counts; else it refuses all it is about
	AllowMissing bool // an issuer without a list revokes nothing; else its certificates are refused
}

// check looks a chain up, leaf first and trust anchor last.
func (s *crlSet) check(chain []*x509.Certificate, policy CRLPolicy, now time.Time) error {
	for i, c := range chain {
		if i > 0 && (policy.LeafOnly || i == len(chain)-1) {
			break
		}
		if err := s.checkOne(c, policy, now); err != nil {
			return err
		}
	}
	return nil
}

func (s *crlSet) checkOne(c *x509.Certificate, policy CRLPolicy, now time.Time) error {
	found := false
	for _, l := range s.lists[string(c.RawIssuer)] {
		if a, b := c.AuthorityKeyId, l.list.AuthorityKeyId; len(a) > 0 && len(b) > 0 && !bytes.Equal(a, b) {
			continue // an authority of the same name with another key
		}
		if _, revoked := l.serials[string(c.SerialNumber.Bytes())]; revoked {
			return refuse(ReasonRevoked, "serial %x of %s is revoked", c.SerialNumber, c.Issuer)
		}
		if !l.list.NextUpdate.IsZero() && now.After(l.list.NextUpdate) && !policy.AllowStale {
			continue
		}
		found = true
	}
	if !found && !policy.AllowMissing {
		return refuse(ReasonCRL, "no current CRL of %s", c.Issuer)
	}
	return nil
}
