package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority issues certificates for tests into files of a directory.
type authority struct {
	t      *testing.T
	dir    string
	serial int64
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("ca", func(c *x509.Certificate) { authorityTemplate(c, "ca") })
	a.write("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

func authorityTemplate(c *x509.Certificate, name string) {
	c.Subject.CommonName, c.IsCA, c.BasicConstraintsValid, c.KeyUsage = name, true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	c.NotAfter = time.Now().Add(1000 * 24 * time.Hour)
}

// sign makes a certificate that a issued, or signed itself if it is the first.
func (a *authority) sign(name string, edit func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-100 * 24 * time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour),
	}
	if edit != nil {
		edit(c)
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err == nil {
		c, err = x509.ParseCertificate(der)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return c, key
}

// issue writes NAME.pem and NAME.key; others come after it in the chain.
func (a *authority) issue(name string, edit func(*x509.Certificate), others ...*x509.Certificate) {
	a.t.Helper()
	c, key := a.sign(name, edit)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	chain := [][]byte{c.Raw}
	for _, x := range others {
		chain = append(chain, x.Raw)
	}
	a.write(name+".pem", "CERTIFICATE", chain...)
	a.write(name+".key", "PRIVATE KEY", der)
}

// under is an authority that a issued, with the same files.
func (a *authority) under(name string, edit func(*x509.Certificate)) *authority {
	a.t.Helper()
	b := &authority{t: a.t, dir: a.dir, serial: a.serial + 100}
	b.cert, b.key = a.sign(name, func(c *x509.Certificate) {
		authorityTemplate(c, name)
		if edit != nil {
			edit(c)
		}
	})
	return b
}

// revoke writes a list that revokes nobody.
func (a *authority) revoke(name string, next time.Time) {
	a.t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: next.Add(-time.Hour), NextUpdate: next}, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name, "X509 CRL", der)
}

func (a *authority) write(name, label string, der ...[]byte) {
	a.t.Helper()
	var data []byte
	for _, d := range der {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: label, Bytes: d})...)
	}
	if err := os.WriteFile(filepath.Join(a.dir, name), data, 0o600); err != nil {
		a.t.Fatal(err)
	}
}
