package harness

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Intermediate makes an authority that this one has signed. What it issues needs
// its certificate sent along: see Above.
func (a *Authority) Intermediate(name string) *Authority {
	a.t.Helper()
	b := &Authority{t: a.t, Dir: TempDir(a.t), key: newKey(a.t, false)}
	serial := a.next()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: serial.Bytes(),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, b.key.Public(), a.key)
	if err == nil {
		b.Cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	b.File = filepath.Join(b.Dir, "ca.pem")
	WritePEM(a.t, b.File, "CERTIFICATE", der)
	return b
}

// Above is c with the certificates of authorities behind it, from its issuer up; the
// file of c is written anew.
func (c Certificate) Above(t testing.TB, list ...*Authority) Certificate {
	t.Helper()
	chain := [][]byte{c.Leaf.Raw}
	for _, a := range list {
		chain = append(chain, a.Cert.Raw)
	}
	c.Certificate.Certificate = chain
	var b bytes.Buffer
	for _, der := range chain {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	replaceFile(t, c.CertFile, b.Bytes())
	return c
}

// CopyFile puts a copy of a file in the place of another, in one step.
func CopyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, to, b)
}

func replaceFile(t testing.TB, path string, data []byte) {
	t.Helper()
	err := os.WriteFile(path+".new", data, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Staple writes an OCSP response about a certificate, which counts for a time from
// now on; negative: it is too old.
func (a *Authority) Staple(c Certificate, revoked bool, until time.Duration) (path string, der []byte) {
	a.t.Helper()
	r := ocsp.Response{
		Status: ocsp.Good, SerialNumber: c.Leaf.SerialNumber, ThisUpdate: time.Now().Add(-48 * time.Hour), NextUpdate: time.Now().Add(until),
	}
	if revoked {
		r.Status, r.RevokedAt = ocsp.Revoked, time.Now().Add(-49*time.Hour)
	}
	der, err := ocsp.CreateResponse(a.Cert, a.Cert, r, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	path = filepath.Join(a.Dir, c.Leaf.Subject.CommonName+".ocsp")
	replaceFile(a.t, path, der)
	return path, der
}

// RevokeUntil is Revoke with the time that the list counts for, from now on;
// negative: it is too old.
func (a *Authority) RevokeUntil(until time.Duration, list ...Certificate) (path string) {
	a.t.Helper()
	template := &x509.RevocationList{Number: a.next(), ThisUpdate: time.Now().Add(-48 * time.Hour), NextUpdate: time.Now().Add(until)}
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
