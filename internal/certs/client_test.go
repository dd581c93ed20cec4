package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"
)

func TestClientVerifies(t *testing.T) {
	dir := t.TempDir()
	ca := newCA("ca")
	write(t, dir+"/ca.pem", ca.pem)
	good := ca.issue(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }, "good.example")
	revoked := ca.issue(nil, "good.example")
	write(t, dir+"/crl.pem", ca.crl(time.Now().Add(time.Hour), revoked.cert))
	trust := Trust{CA: dir + "/ca.pem"}
	for _, tt := range []struct {
		name   string
		o      ClientOptions
		server *issued
		sni    string
		want   Reason
	}{
		{"good", ClientOptions{Server: trust}, good, "good.example", ReasonNone},
		{"fixed name", ClientOptions{Server: trust, ServerName: "good.example"}, good, "bad.example", ReasonNone},
		{"other name", ClientOptions{Server: trust}, good, "bad.example", ReasonName},
		{"address", ClientOptions{Server: trust}, good, "10.0.0.1", ReasonNone},
		{"other address", ClientOptions{Server: trust}, good, "10.0.0.2", ReasonName},
		{"matcher instead of the name", ClientOptions{Server: Trust{CA: trust.CA, SANs: []SANMatcher{{SANDNS, MatchExact, "good.example"}}}}, good, "bad.example", ReasonNone},
		{"other SAN", ClientOptions{Server: Trust{CA: trust.CA, SANs: []SANMatcher{{SANDNS, MatchExact, "bad.example"}}}}, good, "good.example", ReasonSAN},
		{"system's authorities", ClientOptions{}, good, "good.example", ReasonUnknownAuthority},
		{"verification off", ClientOptions{Insecure: true}, good, "bad.example", ReasonNone},
		{"expired", ClientOptions{Server: trust}, ca.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "good.example"), "good.example", ReasonExpired},
		{"revoked", ClientOptions{Server: Trust{CA: trust.CA, CRL: dir + "/crl.pem"}}, revoked, "good.example", ReasonRevoked},
		{"no wrong usage", ClientOptions{Server: trust}, ca.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "good.example"), "good.example", ReasonInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, err := NewStore(Options{}).Client(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			config, err := client.Worker().Config("10.0.0.1:443", tt.sni)
			if err != nil {
				t.Fatal(err)
			}
			_, _, _, err = handshake(&tls.Config{Certificates: []tls.Certificate{tt.server.tls()}}, config)
			if got := ReasonOf(err); got != tt.want || (err == nil) != (tt.want == ReasonNone) {
				t.Errorf("%v: %v", got, err)
			}
		})
	}
}

func TestClientResumesUnderItsPolicyOnly(t *testing.T) {
	dir := t.TempDir()
	ca := newCA("ca")
	write(t, dir+"/ca.pem", ca.pem)
	write(t, dir+"/crl.pem", ca.crl(time.Now().Add(time.Hour)))
	cert := ca.issue(nil, "x.example")
	store := NewStore(Options{Settle: 5 * time.Millisecond})
	mine := fake("mine", ca.issue(nil, "client"))
	client, err := store.Client(ClientOptions{Server: Trust{CA: dir + "/ca.pem", CRL: dir + "/crl.pem"}, Certificate: mine})
	if err != nil {
		t.Fatal(err)
	}
	go store.Run(t.Context())
	server := newServer(t, store, ServerOptions{Name: "s", Certificates: []Source{fake("server", cert)}, ClientAuth: ClientRequire, Client: Trust{CA: dir + "/ca.pem"}})
	worker := client.Worker()
	step := func(address string, resumed bool, reason Reason) {
		t.Helper()
		config, err := worker.Config(address, "x.example")
		if err != nil {
			t.Fatal(err)
		}
		cs, _, _, err := handshake(server.Config(), config)
		if ReasonOf(err) != reason || (err == nil) != (reason == ReasonNone) || cs.DidResume != resumed {
			t.Errorf("%v, resumed %t", err, cs.DidResume)
		}
	}
	step("a", false, ReasonNone)
	step("a", true, ReasonNone)
	step("b", false, ReasonNone)
	policy := client.PolicyID()
	renewed := ca.issue(nil, "client")
	mine.Set(renewed.chain, renewed.key, nil)
	eventually(t, "the new certificate", func() bool { return client.PolicyID() != policy })
	step("a", false, ReasonNone)
	step("a", true, ReasonNone)
	before := client.current.Load()
	write(t, dir+"/crl.pem", ca.crl(time.Now().Add(time.Hour), cert.cert))
	eventually(t, "the CRL", func() bool { return client.current.Load() != before })
	step("a", false, ReasonRevoked)
}

func TestWorkerIsBounded(t *testing.T) {
	client, err := NewStore(Options{}).Client(ClientOptions{MaxSessions: 3})
	if err != nil {
		t.Fatal(err)
	}
	w := client.Worker()
	first := must(w.Config("0", "x"))
	for i := range 10 {
		must(w.Config(fmt.Sprint(i), "x"))
		if must(w.Config("0", "x")) != first {
			t.Fatal("what is used often is dropped")
		}
	}
	if w.Len() != 3 {
		t.Errorf("%d entries", w.Len())
	}
	if n := testing.AllocsPerRun(100, func() { must(w.Config("0", "x")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if _, err := w.Config("0", ""); !errors.Is(err, ErrNoName) {
		t.Errorf("no name: %v", err)
	}
	warming, err := NewStore(Options{}).Client(ClientOptions{Certificate: &Fake{Label: "f"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := warming.Worker().Config("0", "x"); !errors.Is(err, ErrWarming) || warming.Ready() {
		t.Errorf("warming: %v", err)
	}
}
