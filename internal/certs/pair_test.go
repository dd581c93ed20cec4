package certs

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	ca := newCA("ca")
	good, other, rsaCert := ca.issue(nil, "x"), ca.issue(nil, "x"), ca.issueFor(rsaKey(), nil, "x")
	der, _ := pem.Decode(good.chain)
	legacy := must(x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", []byte("x"), []byte("y"), x509.PEMCipherAES256)) //lint:ignore SA1019 such keys exist
	for name, data := range map[string][]byte{
		"cert": good.chain, "key": good.key, "other": other.key, "rsa": rsaCert.key, "both": append(bytes.Clone(good.key), good.chain...),
		"empty": nil, "text": []byte("hello\n"), "der": der.Bytes, "broken": encode("CERTIFICATE", []byte("x")),
		"encrypted": encode("ENCRYPTED PRIVATE KEY", []byte("x")), "legacy": pem.EncodeToMemory(legacy), "badkey": encode("PRIVATE KEY", []byte("x")),
		"private": good.key,
	} {
		write(t, dir+"/"+name, data)
	}
	if err := os.Chmod(dir+"/private", 0); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, cert, key, want string }{
		{"good", "cert", "key", ""},
		{"one file", "both", "", ""},
		{"missing certificate", "none", "key", "read DIR/none: no such file or directory"},
		{"missing key", "cert", "none", "read DIR/none: no such file or directory"},
		{"directory", ".", "key", "read DIR/.: not a regular file but d---------"},
		{"unreadable key", "cert", "private", "read DIR/private: permission denied"},
		{"no key in one file", "cert", "", `key DIR/cert: no private key in the file, which begins with "CERTIFICATE"`},
		{"mismatched", "cert", "other", "key DIR/other does not match certificate DIR/cert (ECDSA P-256)"},
		{"mismatched kind", "cert", "rsa", "key DIR/rsa does not match certificate DIR/cert (ECDSA P-256)"},
		{"empty", "empty", "key", "certificate DIR/empty: the file is empty"},
		{"text", "text", "key", "certificate DIR/text: not PEM"},
		{"DER", "der", "key", "certificate DIR/der: not PEM: DER and PKCS #12 files are not read; convert with openssl x509, pkey or pkcs12"},
		{"broken", "broken", "key", "certificate DIR/broken: certificate 1: x509: malformed certificate"},
		{"swapped", "key", "cert", `certificate DIR/key: no certificate in the file, which begins with "PRIVATE KEY"`},
		{"encrypted", "cert", "encrypted", "key DIR/encrypted is encrypted: nobody is there to type the passphrase; decrypt it with openssl pkey, or use credential:NAME with systemd-creds"},
		{"encrypted as of old", "cert", "legacy", "key DIR/legacy is encrypted: nobody is there to type the passphrase; decrypt it with openssl pkey, or use credential:NAME with systemd-creds"},
		{"bad key", "cert", "badkey", "key DIR/badkey: no readable private key: asn1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if strings.HasPrefix(tt.name, "unreadable") && os.Getuid() == 0 {
				t.Skip("root reads everything")
			}
			s := &FileSource{Files: &Files{}, Cert: dir + "/" + tt.cert}
			if tt.key != "" {
				s.Key = dir + "/" + tt.key
			}
			m, err := s.Load()
			if err == nil {
				_, err = ParsePair(m)
			}
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "DIR")
			}
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestCredentialNames(t *testing.T) {
	for _, tt := range []struct{ dir, spec, want string }{
		{"", "credential:a", "CREDENTIALS_DIRECTORY is not set"},
		{"/x", "credential:../a", "not the name of a credential"},
		{"/x", "credential:", "not the name of a credential"},
		{"/x", "credential:a", "no such file"},
	} {
		_, _, err := (&Files{Credentials: tt.dir}).readAll([]string{tt.spec}, 1)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.spec) {
			t.Errorf("%q: %v", tt.spec, err)
		}
	}
}

func TestOCSP(t *testing.T) {
	ca := newCA("ca")
	must := func(c *x509.Certificate) {
		value, _ := asn1.Marshal([]int{5})
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: value}}
	}
	plain, demanding := ca.issue(nil, "x"), ca.issue(must, "x")
	now := time.Now()
	response := func(c *issued, status int, next time.Time) []byte {
		der, err := ocsp.CreateResponse(ca.cert, ca.cert, ocsp.Response{
			Status: status, SerialNumber: c.cert.SerialNumber, ThisUpdate: now.Add(-2 * time.Hour), NextUpdate: next,
		}, ca.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	soon := now.Add(time.Hour)
	for _, tt := range []struct {
		name                  string
		cert                  *issued
		staple                []byte // nil: none configured
		good                  bool
		lenient, strict, must bool // usable
	}{
		{"none configured", plain, nil, false, true, true, false},
		{"none, certificate demands it", demanding, nil, false, true, false, false},
		{"good", plain, response(plain, ocsp.Good, soon), true, true, true, true},
		{"good, demanded", demanding, response(demanding, ocsp.Good, soon), true, true, true, true},
		{"expired", plain, response(plain, ocsp.Good, now.Add(-time.Hour)), false, true, false, false},
		{"revoked", plain, response(plain, ocsp.Revoked, soon), false, true, false, false},
		{"of another certificate", plain, response(demanding, ocsp.Good, soon), false, true, false, false},
		{"garbage", plain, []byte("x"), false, true, false, false},
		{"missing", plain, []byte{}, false, true, false, false},
	} {
		m := &Material{Chain: append(bytes.Clone(tt.cert.chain), ca.pem...), Key: tt.cert.key, Staple: tt.staple, ChainName: "c", KeyName: "k"}
		if tt.staple != nil {
			m.StapleName = "staple"
		}
		p, err := ParsePair(m)
		if err != nil {
			t.Fatal(err)
		}
		if p.staple.good(now) != tt.good || (p.staple.problem(now) == nil) != (tt.good || tt.staple == nil) {
			t.Errorf("%s: good %t, %v", tt.name, p.staple.good(now), p.staple.problem(now))
		}
		for policy, want := range map[OCSPPolicy]bool{OCSPLenient: tt.lenient, OCSPStrict: tt.strict, OCSPMustStaple: tt.must} {
			if err := p.usable(policy, now); (err == nil) != want {
				t.Errorf("%s, %s: %v", tt.name, policy, err)
			}
		}
	}
}

// A staple is sent while it is good; when it has expired the next certificate
// that the policy allows is taken.
func TestStapleExpires(t *testing.T) {
	dir := t.TempDir()
	ca := newCA("ca")
	c := ca.issue(nil, "x.example")
	now := time.Now()
	der := must(ocsp.CreateResponse(ca.cert, ca.cert, ocsp.Response{
		Status: ocsp.Good, SerialNumber: c.cert.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour),
	}, ca.key))
	write(t, dir+"/c", append(bytes.Clone(c.chain), c.key...))
	write(t, dir+"/ocsp", der)
	clock := now
	store := NewStore(Options{Now: func() time.Time { return clock }})
	store.watcher = newWatcher(time.Millisecond, time.Hour)
	second := fake("second", ca.issueFor(rsaKey(), nil, "x.example"))
	server := newServer(t, store, ServerOptions{Name: "x", OCSP: OCSPStrict, Certificates: []Source{
		&FileSource{Files: store.Files(), Cert: dir + "/c", Staple: dir + "/ocsp"}, second,
	}})
	if e := server.Explain(Query{ServerName: "x.example"}); !e.Staple || e.Why != PickECDSA.String() {
		t.Errorf("%+v", e)
	}
	clock = now.Add(2 * time.Hour)
	store.turn(t.Context())
	if e := server.Explain(Query{ServerName: "x.example"}); e.Staple || e.Certificate != "second" {
		t.Errorf("%+v", e)
	}
}

func TestExpiryEvents(t *testing.T) {
	clock := time.Now()
	var events []EventKind
	store := NewStore(Options{Now: func() time.Time { return clock }, Event: func(e Event) { events = append(events, e.Kind) }})
	store.watcher = newWatcher(time.Millisecond, time.Hour)
	newServer(t, store, ServerOptions{Name: "x", Certificates: []Source{fake("f", newCA("ca").issue(nil, "x"))}})
	for _, day := range []int{0, 20, 24, 24, 25, 38} { // it lasts 37.5 days
		clock = time.Now().AddDate(0, 0, day)
		store.turn(t.Context())
	}
	want := []EventKind{EventLoaded, EventExpiring, EventExpiring, EventExpired}
	if len(events) != len(want) {
		t.Fatalf("%v", events)
	}
	for i := range want {
		if events[i] != want[i] {
			t.Errorf("%v", events)
		}
	}
}
