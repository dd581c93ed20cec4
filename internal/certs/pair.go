package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Pair is a certificate chain with its key, parsed and found to match.
type Pair struct {
	Info     Info
	Warnings []string // what a peer may refuse though we can serve it

	cert       tls.Certificate // without Leaf and staple
	names      []string        // DNS names
	staple     staple
	mustStaple bool
	kind       keyKind
	uris       []string
}

// Info is what may be told of a certificate to anyone.
type Info struct {
	Subject   string    `json:"subject"`
	SANs      []string  `json:"sans"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"` // hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	KeyType   string    `json:"key_type"`
}

// keyKind groups keys that the same clients can use.
type keyKind struct {
	name  string
	ecdsa bool
}

func kindOf(key crypto.PublicKey) keyKind {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return keyKind{"ECDSA " + k.Curve.Params().Name, true}
	case *rsa.PublicKey:
		return keyKind{fmt.Sprintf("RSA %d", k.N.BitLen()), false}
	case ed25519.PublicKey:
		return keyKind{"Ed25519", false}
	}
	return keyKind{fmt.Sprintf("%T", key), false}
}

func infoOf(c *x509.Certificate) Info {
	return Info{
		Subject: c.Subject.String(), SANs: sans(c), Issuer: c.Issuer.String(), Serial: fmt.Sprintf("%x", c.SerialNumber),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, KeyType: kindOf(c.PublicKey).name,
	}
}

// sans lists the names of a certificate, each under its type.
func sans(c *x509.Certificate) []string {
	list := []string{}
	for _, name := range c.DNSNames {
		list = append(list, "DNS:"+name)
	}
	for _, ip := range c.IPAddresses {
		list = append(list, "IP:"+ip.String())
	}
	for _, u := range c.URIs {
		list = append(list, "URI:"+u.String())
	}
	for _, mail := range c.EmailAddresses {
		list = append(list, "email:"+mail)
	}
	return list
}

// ParsePair reads a chain and its key. The error names whichever file is wrong,
// by the names given here.
func ParsePair(m *Material) (*Pair, error) {
	chain, der, err := parseCertificates(m.Chain, m.ChainName)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(m.Key, m.KeyName)
	if err != nil {
		return nil, err
	}
	leaf := chain[0]
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil, fmt.Errorf("key %s: a key of type %T cannot be used", m.KeyName, key)
	}
	if !public.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("key %s does not match certificate %s (%s)", m.KeyName, m.ChainName, kindOf(leaf.PublicKey).name)
	}
	p := &Pair{
		Info: infoOf(leaf), cert: tls.Certificate{Certificate: der, PrivateKey: key}, names: leaf.DNSNames,
		mustStaple: mustStaple(leaf), kind: kindOf(leaf.PublicKey),
	}
	for _, u := range leaf.URIs {
		p.uris = append(p.uris, u.String())
	}
	p.Warnings = chainWarnings(chain)
	if m.StapleName != "" {
		p.staple = parseStaple(m.Staple, m.StapleName, chain)
	}
	return p, nil
}

// chainWarnings says what clients may refuse.
func chainWarnings(chain []*x509.Certificate) []string {
	var list []string
	if len(sans(chain[0])) == 0 {
		list = append(list, "the certificate has no subject alternative name: clients do not look at its subject")
	}
	if chain[0].IsCA && !bytes.Equal(chain[0].RawIssuer, chain[0].RawSubject) {
		list = append(list, "the first certificate is one of an authority")
	}
	for i := 1; i < len(chain); i++ {
		if err := chain[i-1].CheckSignatureFrom(chain[i]); err != nil {
			list = append(list, fmt.Sprintf("certificate %d of the chain did not sign certificate %d: %v", i+1, i, err))
		}
	}
	return list
}

// parseCertificates reads every certificate of a PEM file; at least one.
func parseCertificates(data []byte, name string) (list []*x509.Certificate, der [][]byte, err error) {
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate %s: certificate %d: %w", name, len(list)+1, err)
		}
		list, der = append(list, c), append(der, c.Raw)
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("certificate %s: %w", name, nothingIn(data, "certificate"))
	}
	return list, der, nil
}

// nothingIn says why a PEM file has not what was looked for.
func nothingIn(data []byte, what string) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("the file is empty")
	}
	block, _ := pem.Decode(data)
	switch {
	case block != nil:
		return fmt.Errorf("no %s in the file, which begins with %q", what, block.Type)
	case data[0] == 0x30: // an ASN.1 SEQUENCE
		return errors.New("not PEM: DER and PKCS #12 files are not read; convert with openssl x509, pkey or pkcs12")
	}
	return errors.New("not PEM")
}

// parseKey reads the first private key of a PEM file.
func parseKey(data []byte, name string) (crypto.Signer, error) {
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, fmt.Errorf("key %s is encrypted: nobody is there to type the passphrase; decrypt it with openssl pkey, or use credential:NAME with systemd-creds", name)
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		key, err := parsePrivate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", name, err)
		}
		return key, nil
	}
	return nil, fmt.Errorf("key %s: %w", name, nothingIn(data, "private key"))
}

// parsePrivate reads PKCS #8, PKCS #1 or SEC 1, whatever the label says. Errors
// of x509 quote no key material.
func parsePrivate(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		if rsaKey, err := x509.ParsePKCS1PrivateKey(der); err == nil {
			return rsaKey, nil
		}
		if ecKey, err := x509.ParseECPrivateKey(der); err == nil {
			return ecKey, nil
		}
		return nil, fmt.Errorf("no readable private key: %w", err)
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return k, nil
	case *ecdsa.PrivateKey:
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, fmt.Errorf("a key of type %T cannot be used", key)
}
