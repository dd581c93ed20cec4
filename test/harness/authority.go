package harness

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Authority is a certificate authority of a test.
type Authority struct {
	Cert *x509.Certificate
	File string // PEM
	Dir  string

	t      testing.TB
	key    crypto.Signer
	serial atomic.Int64
}

// NewAuthority makes one, with a directory of its own.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, Dir: TempDir(t), key: newKey(t, false)}
	template := &x509.Certificate{
		SerialNumber: a.next(), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3, 4},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.Cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.File = filepath.Join(a.Dir, "ca.pem")
	WritePEM(t, a.File, "CERTIFICATE", der)
	return a
}

func (a *Authority) next() *big.Int { return big.NewInt(a.serial.Add(1) + time.Now().UnixNano()) }

func newKey(t testing.TB, useRSA bool) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	if useRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// WritePEM writes a file in one step.
func WritePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Leaf says what a certificate is for; the zero value is good for a day and has no
// name but its subject.
type Leaf struct {
	Name     string // common name, and that of its files
	DNS      []string
	URI      string
	Email    string
	IP       string
	RSA      bool
	From, To time.Duration // from now; 0: a day ago and in ten days
}

// Certificate is one with its key, in memory and in files.
type Certificate struct {
	tls.Certificate
	CertFile, KeyFile string
}

// Issue makes a certificate, for servers and clients. Files of the same name are
// replaced: first the key, then the certificate.
func (a *Authority) Issue(l Leaf) Certificate {
	a.t.Helper()
	if l.From == 0 {
		l.From = -24 * time.Hour
	}
	if l.To == 0 {
		l.To = 240 * time.Hour
	}
	key := newKey(a.t, l.RSA)
	template := &x509.Certificate{
		SerialNumber: a.next(), Subject: pkix.Name{CommonName: l.Name}, NotBefore: time.Now().Add(l.From), NotAfter: time.Now().Add(l.To),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, DNSNames: l.DNS,
	}
	if l.URI != "" {
		u, err := url.Parse(l.URI)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = []*url.URL{u}
	}
	if l.Email != "" {
		template.EmailAddresses = []string{l.Email}
	}
	if l.IP != "" {
		template.IPAddresses = []net.IP{net.ParseIP(l.IP)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	c := Certificate{CertFile: filepath.Join(a.Dir, l.Name+".pem"), KeyFile: filepath.Join(a.Dir, l.Name+".key")}
	c.Certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if c.Leaf, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	WritePEM(a.t, c.KeyFile, "PRIVATE KEY", private)
	WritePEM(a.t, c.CertFile, "CERTIFICATE", der)
	return c
}

// Revoke writes the revocation list of the authority, with these certificates on it.
func (a *Authority) Revoke(list ...Certificate) (path string) {
	a.t.Helper()
	template := &x509.RevocationList{Number: a.next(), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour)}
	for _, c := range list {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	path = filepath.Join(a.Dir, "crl.pem")
	WritePEM(a.t, path, "X509 CRL", der)
	return path
}

// Pool has the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Cert)
	return p
}
