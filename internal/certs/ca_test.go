package certs

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
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// testCA is an authority for tests.
type testCA struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

var serials struct {
	sync.Mutex
	next int64
}

func serial() *big.Int {
	serials.Lock()
	defer serials.Unlock()
	serials.next++
	return big.NewInt(1000 + serials.next)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func encode(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

func newCA(name string) *testCA {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &testCA{cert: must(x509.ParseCertificate(der)), key: key, pem: encode("CERTIFICATE", der)}
}

// issued is a certificate and its key, in PEM.
type issued struct {
	cert       *x509.Certificate
	chain, key []byte
}

func (i *issued) tls() tls.Certificate { return must(tls.X509KeyPair(i.chain, i.key)) }

// issue makes a certificate for DNS names; edit may change the template.
func (ca *testCA) issue(edit func(*x509.Certificate), names ...string) *issued {
	return ca.issueFor(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), edit, names...)
}

func (ca *testCA) issueFor(key crypto.Signer, edit func(*x509.Certificate), names ...string) *issued {
	template := &x509.Certificate{
		SerialNumber: serial(), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(900 * time.Hour), DNSNames: names,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if len(names) > 0 {
		template.Subject.CommonName = names[0]
	}
	if edit != nil {
		edit(template)
	}
	der := must(x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key))
	return &issued{
		cert: must(x509.ParseCertificate(der)), chain: encode("CERTIFICATE", der),
		key: encode("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))),
	}
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })

func (ca *testCA) crl(next time.Time, revoked ...*x509.Certificate) []byte {
	list := &x509.RevocationList{Number: serial(), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: next}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	return encode("X509 CRL", must(x509.CreateRevocationList(rand.Reader, list, ca.cert, ca.key)))
}

func (ca *testCA) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

func uri(s string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.URIs = append(c.URIs, must(url.Parse(s))) }
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// fake makes a source that has a certificate already.
func fake(label string, c *issued) *Fake {
	f := &Fake{Label: label}
	f.Set(c.chain, c.key, nil)
	return f
}

func newServer(t *testing.T, s *Store, o ServerOptions) *Server {
	t.Helper()
	server, err := s.Server(o)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// handshake runs one over TCP, with a byte each way so that tickets arrive. The
// errors are the server's and the client's.
func handshake(server, client *tls.Config) (cs, ss tls.ConnectionState, serverErr, clientErr error) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		if server == nil {
			serverErr = errors.New("warming")
			return
		}
		c := tls.Server(raw, server)
		if serverErr = c.Handshake(); serverErr != nil {
			return
		}
		ss = c.ConnectionState()
		_, _ = c.Write([]byte("x"))
		_, _ = c.Read(make([]byte, 1))
	}()
	raw := must(net.Dial("tcp", l.Addr().String()))
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(raw, client)
	clientErr = c.Handshake()
	if clientErr == nil {
		cs = c.ConnectionState()
		if _, clientErr = c.Read(make([]byte, 1)); clientErr == nil {
			_, clientErr = c.Write([]byte("y"))
		}
	}
	c.Close()
	<-done
	return cs, ss, serverErr, clientErr
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
