package server

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"time"

	"belay/internal/certs"
	"belay/internal/config"
)

// chain looks at a certificate and those that it comes with, once: their validity,
// and for what is shown to the world whether clients can know who issued it. What
// the store says of the pair is not repeated; a key that only the service can read
// hides nothing of the certificate.
func (c *tlsCheck) chain(at string, cert, key config.Secret, public bool) {
	if c.seen[cert.String()] || c.unreachable(cert.String()) {
		return
	}
	c.seen[cert.String()] = true
	at += ": " + cert.String()
	alone := certs.FileSource{Files: c.store.Files(), Cert: cert.String(), Key: cert.String()}
	m, err := alone.Load()
	if err != nil {
		if c.unreachable(key.String()) {
			c.problem("%s: %w", at, err)
		}
		return
	}
	list := chainOf(m.Chain)
	if len(list) == 0 {
		if c.unreachable(key.String()) {
			c.problem("%s: no readable certificate in the file", at)
		}
		return
	}
	for i, x := range list {
		c.validity(at, i, x)
	}
	if public {
		c.complete(at, list)
	}
}

// chainOf is what can be read of a PEM file.
func chainOf(data []byte) (list []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return list
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		x, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil
		}
		list = append(list, x)
	}
}

func (c *tlsCheck) validity(at string, i int, x *x509.Certificate) {
	if i > 0 {
		at += ": " + x.Subject.String()
	}
	until := x.NotAfter.UTC().Format(time.RFC3339)
	switch left := x.NotAfter.Sub(c.now); {
	case left <= 0:
		c.problem("%s has expired at %s", at, until)
	case c.now.Before(x.NotBefore):
		c.problem("%s is not valid before %s", at, x.NotBefore.UTC().Format(time.RFC3339))
	case left < c.warn:
		c.note("%s expires at %s", at, until)
	}
}

// complete tells of a chain whose end the system's authorities did not issue. That
// is right for private authorities, and a missing certificate for public ones:
// these say where to get it (RFC 5280 section 4.2.2.1).
func (c *tlsCheck) complete(at string, list []*x509.Certificate) {
	last := list[len(list)-1]
	if slices.ContainsFunc(list, func(x *x509.Certificate) bool { return bytes.Equal(x.RawSubject, last.RawIssuer) }) {
		return // a root, or in the wrong order, of which the store tells
	}
	between := x509.NewCertPool()
	for _, x := range list[1:] {
		between.AddCert(x)
	}
	_, err := list[0].Verify(x509.VerifyOptions{
		Intermediates: between, CurrentTime: c.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); !unknown {
		return
	}
	if from := last.IssuingCertificateURL; len(from) > 0 {
		c.note("%s: the chain is incomplete: its last certificate is by %s, which belongs after it (%s)", at, last.Issuer, from[0])
		return
	}
	c.note("%s: the chain ends with a certificate by %s, which the system does not trust: clients need that authority, or the chain is incomplete", at, last.Issuer)
}
