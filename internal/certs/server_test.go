package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestServerPicksCertificates(t *testing.T) {
	ca := newCA("ca")
	list := map[string]*issued{
		"first":    ca.issueFor(rsaKey(), nil, "first.example"),
		"ecdsa":    ca.issue(nil, "first.example", "www.first.example"),
		"wildcard": ca.issue(nil, "*.wild.example"),
		"shadowed": ca.issue(nil, "*.wild.example"),
		"exact":    ca.issue(nil, "a.wild.example"),
	}
	var sources []Source
	for _, name := range []string{"first", "ecdsa", "wildcard", "shadowed", "exact"} {
		sources = append(sources, fake(name, list[name]))
	}
	server := newServer(t, NewStore(Options{}), ServerOptions{Name: "x", Certificates: sources})
	rsaOnly := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, tt := range []struct {
		name, sni, want string
		suites          []uint16 // nil: TLS 1.3
		match           NameMatch
		pick            Pick
	}{
		{"exact, ECDSA client", "first.example", "ecdsa", nil, NameExact, PickECDSA},
		{"exact, RSA client", "first.example", "first", rsaOnly, NameExact, PickFits},
		{"exact, upper case", "FIRST.example", "ecdsa", nil, NameExact, PickECDSA},
		{"wildcard", "b.wild.example", "wildcard", nil, NameWildcard, PickOnly},
		{"exact before wildcard", "a.wild.example", "exact", nil, NameExact, PickOnly},
		{"wildcard of one level only", "a.b.wild.example", "ecdsa", nil, NameDefault, PickECDSA},
		{"wildcard not for its parent", "wild.example", "ecdsa", nil, NameDefault, PickECDSA},
		{"unknown, RSA client", "unknown.example", "first", rsaOnly, NameDefault, PickFits},
		{"no name", "", "ecdsa", nil, NameDefault, PickECDSA},
		{"none fits: the first", "www.first.example", "ecdsa", rsaOnly, NameExact, PickOnly},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := Query{ServerName: tt.sni, NoECDSA: tt.suites != nil, TLS12: tt.suites != nil}
			if e := server.Explain(q); e.Certificate != tt.want || e.Name != tt.match.String() || e.Why != tt.pick.String() {
				t.Errorf("Explain: %+v", e)
			}
			client := &tls.Config{ServerName: tt.sni, InsecureSkipVerify: true}
			if tt.suites != nil {
				client.MaxVersion, client.CipherSuites = tls.VersionTLS12, tt.suites
			}
			cs, _, _, err := handshake(server.Config(), client)
			if tt.name == "none fits: the first" {
				return // the handshake cannot succeed
			}
			if err != nil {
				t.Fatal(err)
			}
			if !cs.PeerCertificates[0].Equal(list[tt.want].cert) {
				t.Errorf("got %v", cs.PeerCertificates[0].DNSNames)
			}
		})
	}
	if o := server.Overlaps(); len(o) != 1 || !strings.Contains(o[0], "shadowed is never used") {
		t.Errorf("overlaps: %q", o)
	}
}

func TestServerRefusesClients(t *testing.T) {
	dir := t.TempDir()
	ca, other := newCA("ca"), newCA("other")
	good := ca.issue(uri("spiffe://x/good"), "good.example")
	revoked := ca.issue(nil, "good.example")
	expired := ca.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "good.example")
	early := ca.issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, "good.example")
	write(t, dir+"/ca.pem", ca.pem)
	write(t, dir+"/crl.pem", ca.crl(time.Now().Add(time.Hour), revoked.cert))
	write(t, dir+"/stale.pem", ca.crl(time.Now().Add(-time.Minute), revoked.cert))
	spki := sha256.Sum256(good.cert.RawSubjectPublicKeyInfo)
	base := Trust{CA: dir + "/ca.pem"}
	with := func(edit func(*Trust)) Trust { v := base; edit(&v); return v }
	san := func(m SANMatcher) Trust { return with(func(v *Trust) { v.SANs = []SANMatcher{m} }) }
	for _, tt := range []struct {
		name  string
		auth  ClientAuth
		trust Trust
		cert  *issued
		want  Reason
	}{
		{"good", ClientRequire, base, good, ReasonNone},
		{"none given", ClientRequire, base, nil, ReasonNoCertificate},
		{"none given, requested", ClientRequest, base, nil, ReasonNone},
		{"other authority", ClientRequire, base, other.issue(nil, "good.example"), ReasonUnknownAuthority},
		{"other authority, requested", ClientRequest, base, other.issue(nil, "good.example"), ReasonUnknownAuthority},
		{"expired", ClientRequire, base, expired, ReasonExpired},
		{"not yet valid", ClientRequire, base, early, ReasonNotYetValid},
		{"name", ClientRequire, san(SANMatcher{SANDNS, MatchExact, "good.example"}), good, ReasonNone},
		{"other name", ClientRequire, san(SANMatcher{SANDNS, MatchExact, "bad.example"}), good, ReasonSAN},
		{"URI", ClientRequire, san(SANMatcher{SANURI, MatchPrefix, "spiffe://x/"}), good, ReasonNone},
		{"pin", ClientRequire, with(func(v *Trust) { v.SPKIPins = []string{hex.EncodeToString(spki[:])} }), good, ReasonNone},
		{"pin without CA", ClientRequire, Trust{SPKIPins: []string{hex.EncodeToString(spki[:])}}, good, ReasonNone},
		{"other pin", ClientRequire, with(func(v *Trust) { v.CertPins = []string{hex.EncodeToString(spki[:])} }), good, ReasonPin},
		{"other pin without CA", ClientRequest, Trust{CertPins: []string{hex.EncodeToString(spki[:])}}, good, ReasonPin},
		{"CRL", ClientRequire, with(func(v *Trust) { v.CRL = dir + "/crl.pem" }), good, ReasonNone},
		{"revoked", ClientRequire, with(func(v *Trust) { v.CRL = dir + "/crl.pem" }), revoked, ReasonRevoked},
		{"stale CRL", ClientRequire, with(func(v *Trust) { v.CRL = dir + "/stale.pem" }), good, ReasonCRL},
		{"stale CRL allowed", ClientRequire, with(func(v *Trust) { v.CRL = dir + "/stale.pem"; v.AllowStale = true }), good, ReasonNone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newServer(t, NewStore(Options{}), ServerOptions{
				Name: "x", Certificates: []Source{&SelfSigned{}}, ClientAuth: tt.auth, Client: tt.trust,
			})
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				client := &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}
				if tt.cert != nil {
					cert := tt.cert.tls()
					client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
				}
				_, _, err, clientErr := handshake(server.Config(), client)
				if got := ReasonOf(err); got != tt.want || (err == nil) != (tt.want == ReasonNone) {
					t.Errorf("%s: %v (%v); client: %v", tls.VersionName(version), got, err, clientErr)
				}
			}
		})
	}
}

// A session whose certificate was revoked since, or that was made under another
// policy, is not resumed; an unchanged one is.
func TestServerResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			dir := t.TempDir()
			ca := newCA("ca")
			cert := ca.issue(nil, "client.example")
			write(t, dir+"/ca.pem", ca.pem)
			write(t, dir+"/crl.pem", ca.crl(time.Now().Add(time.Hour)))
			store := NewStore(Options{Settle: 10 * time.Millisecond})
			ctx := t.Context()
			go store.Run(ctx)
			o := ServerOptions{Name: "a", Certificates: []Source{&SelfSigned{}}, ClientAuth: ClientRequire, Client: Trust{CA: dir + "/ca.pem", CRL: dir + "/crl.pem"}}
			a := newServer(t, store, o)
			o.Client.SANs = []SANMatcher{{SANDNS, MatchSuffix, ".example"}}
			b := newServer(t, store, o)
			o = ServerOptions{Name: "open", Certificates: o.Certificates}
			open := newServer(t, store, o)
			if a.ClientPolicy() == b.ClientPolicy() || open.ClientPolicy() != (PolicyID{}) {
				t.Error("client policies do not differ")
			}
			client := &tls.Config{
				InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, ServerName: "x",
				Certificates: []tls.Certificate{cert.tls()}, ClientSessionCache: tls.NewLRUClientSessionCache(1),
			}
			step := func(server *Server, resumed bool) {
				t.Helper()
				cs, ss, serverErr, err := handshake(server.Config(), client)
				if err != nil || serverErr != nil {
					t.Fatal(err, serverErr)
				}
				if cs.DidResume != resumed {
					t.Errorf("resumed %t", cs.DidResume)
				}
				if server != open && len(ss.PeerCertificates) == 0 {
					t.Error("no client certificate")
				}
			}
			step(a, false)
			step(a, true)
			step(b, false) // a's ticket
			step(b, true)
			step(open, false)
			step(a, false) // open's ticket
			step(a, true)

			before := a.Config()
			write(t, dir+"/crl.pem", ca.crl(time.Now().Add(time.Hour), cert.cert))
			eventually(t, "the new CRL", func() bool { return a.Config() != before })
			_, _, err, _ := handshake(a.Config(), client)
			if ReasonOf(err) != ReasonRevoked {
				t.Errorf("revoked on resumption: %v", err)
			}
		})
	}
}

func TestServerOptionsChecked(t *testing.T) {
	_, err := NewStore(Options{}).Server(ServerOptions{
		Name: "web", ClientAuth: ClientRequire,
		Client: Trust{SANs: []SANMatcher{{SANDNS, MatchRegex, "("}, {SANIP, MatchExact, "x"}}, CRL: "crl"},
		Params: Params{
			MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_RC4_128_SHA, 0xfefe},
			Curves: []tls.CurveID{0}, ALPN: []string{""},
		},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"no certificate", "above maximum", "cannot be chosen", "TLS_RSA_WITH_RC4_128_SHA is insecure", "0xFEFE is insecure or unknown", "curve 0", "1 to 255 bytes", "missing closing", "no IP address", "a CA file is needed", "neither a CA nor a pin"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// What stops a client-certificate check keeps the chain warming, never open.
func TestServerWarming(t *testing.T) {
	dir := t.TempDir()
	ca := newCA("ca")
	write(t, dir+"/crl.pem", newCA("other").crl(time.Now().Add(time.Hour)))
	store := NewStore(Options{Settle: 10 * time.Millisecond})
	source := &Fake{Label: "sds"}
	server := newServer(t, store, ServerOptions{
		Name: "x", Certificates: []Source{source}, ClientAuth: ClientRequire, Client: Trust{CA: dir + "/ca.pem", CRL: dir + "/crl.pem"},
	})
	go store.Run(t.Context())
	cert := ca.issue(nil, "x.example")
	source.Set(cert.chain, cert.key, nil)
	eventually(t, "the certificate", func() bool { return store.Status()[1].State == "active" })
	if server.Config() != nil {
		t.Fatal("serves without a CA")
	}
	write(t, dir+"/ca.pem", ca.pem)
	eventually(t, "the CA", func() bool { return store.Status()[0].State == "active" })
	eventually(t, "the CRL's error", func() bool {
		s := store.Status()[2]
		return s.State == "warming" && strings.Contains(s.Error, "signed by no certificate")
	})
	if server.Config() != nil {
		t.Fatal("serves with a CRL of another CA")
	}
	write(t, dir+"/crl.pem", ca.crl(time.Now().Add(time.Hour)))
	eventually(t, "the CRL", func() bool { return server.Config() != nil })
}

func TestServerMissingFile(t *testing.T) {
	dir := t.TempDir()
	store := NewStore(Options{Settle: 10 * time.Millisecond, Files: Files{Credentials: dir}})
	source := &FileSource{Files: store.Files(), Cert: "credential:a.pem", Key: filepath.Join(dir, "tls", "a.key")}
	server := newServer(t, store, ServerOptions{Name: "x", Certificates: []Source{source}})
	if s := store.Status()[0]; s.State != "warming" || !strings.Contains(s.Error, "read credential:a.pem: no such file") {
		t.Errorf("%+v", s)
	}
	go store.Run(t.Context())
	cert := newCA("ca").issue(nil, "x.example")
	write(t, dir+"/a.pem", cert.chain)
	time.Sleep(50 * time.Millisecond)
	write(t, dir+"/tls/a.key", cert.key)
	eventually(t, "the pair", func() bool { return server.Config() != nil })
	if err := os.Remove(dir + "/a.pem"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "last-good", func() bool { return store.Status()[0].State == "last-good" })
	if server.Config() == nil {
		t.Error("the last good pair is gone")
	}
}
