package server

import (
	"crypto/tls"
	"reflect"
	"strings"
	"testing"

	"belay/internal/certs"
)

// Everything that the configuration says of TLS reaches what serves it.
func TestServerTLSOptions(t *testing.T) {
	pin := strings.Repeat("ab", 32)
	cfg := parse(t, `
[listener.web]
address = ":1"
route = [{ respond = {} }]
[listener.web.tls]
certificates = [{ cert = "/a.pem", key = "credential:a.key", ocsp = "/a.ocsp" }, { cert = "self-signed", names = ["x.example"] }]
min_version = "1.2"
max_version = "1.2"
cipher_suites = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
curves = ["secp256r1"]
alpn = ["http/1.1"]
ocsp_policy = "must_staple"
session_tickets = false
[listener.web.tls.client_certificate]
mode = "request"
ca = "credential:ca"
crl = "/ca.crl"
crl_expired = "accept"
spki_sha256 = ["`+pin+`"]
certificate_sha256 = ["`+pin+`"]
san = [{ type = "dns", exact = "a" }, { type = "uri", prefix = "b" }, { type = "email", suffix = "c" }, { type = "ip", exact = "10.0.0.1" },
  { type = "dns", contains = "d" }, { type = "uri", regex = "e+" }]
[[listener.web.chain]]
server_names = ["plain.example"]
tls = { certificates = [{ cert = "/b.pem", key = "/b.key" }] }
`)
	files := &certs.Files{Credentials: "/credentials"}
	got := serverTLSOptions(cfg.Listeners[0].TLS, "web", files)
	regex := got.Client.SANs[5].Value
	if !strings.Contains(regex, "e+") {
		t.Errorf("regular expression %q", regex)
	}
	want := certs.ServerOptions{
		Name:         "web",
		Certificates: []certs.Source{&certs.FileSource{Files: files, Cert: "/a.pem", Key: "credential:a.key", Staple: "/a.ocsp"}, &certs.SelfSigned{Names: []string{"x.example"}}},
		OCSP:         certs.OCSPMustStaple,
		Params: certs.Params{
			MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
			Curves: []tls.CurveID{tls.CurveP256}, ALPN: []string{"http/1.1"},
		},
		ClientAuth: certs.ClientRequest,
		Client: certs.Trust{
			CA: "credential:ca", CRL: "/ca.crl", CRLPolicy: certs.CRLPolicy{AllowStale: true}, SPKIPins: []string{pin}, CertPins: []string{pin},
			SANs: []certs.SANMatcher{
				{Type: certs.SANDNS, Kind: certs.MatchExact, Value: "a"}, {Type: certs.SANURI, Kind: certs.MatchPrefix, Value: "b"},
				{Type: certs.SANEmail, Kind: certs.MatchSuffix, Value: "c"}, {Type: certs.SANIP, Kind: certs.MatchExact, Value: "10.0.0.1"},
				{Type: certs.SANDNS, Kind: certs.MatchContains, Value: "d"}, {Type: certs.SANURI, Kind: certs.MatchRegex, Value: regex},
			},
		},
		DisableTickets: true,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	plain := serverTLSOptions(cfg.Listeners[0].Chains[0].TLS, "plain", files)
	if plain.ClientAuth != certs.ClientNone || plain.Client.CA != "" || plain.DisableTickets || plain.OCSP != certs.OCSPLenient {
		t.Errorf("%+v", plain)
	}
}

func TestClientTLSOptions(t *testing.T) {
	cfg := parse(t, `
[cluster.a]
endpoints = [{ address = "127.0.0.1:1" }]
[cluster.a.tls]
ca = "/ca.pem"
sni = "db.example"
cert = "/c.pem"
key = "credential:c.key"
min_version = "1.3"
sessions = 7
san = [{ type = "dns", exact = "db" }]
[cluster.b]
endpoints = [{ address = "127.0.0.1:1" }]
tls = { verify = false, sni = "none", sessions = 0 }
[cluster.c]
endpoints = [{ address = "127.0.0.1:1" }]
tls = { sni = "host" }
[listener.web]
address = ":1"
route = [{ cluster = "a" }]
`)
	files := &certs.Files{}
	got := clientTLSOptions(cfg.Clusters[0], files)
	want := certs.ClientOptions{
		Name: "a", ServerName: "db.example", Certificate: &certs.FileSource{Files: files, Cert: "/c.pem", Key: "credential:c.key"}, MaxSessions: 7,
		Server: certs.Trust{CA: "/ca.pem", SANs: []certs.SANMatcher{{Type: certs.SANDNS, Value: "db"}}},
		Params: certs.Params{MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if b := clientTLSOptions(cfg.Clusters[1], files); !b.Insecure || !b.DisableTickets || b.ServerName != "" || b.Certificate != nil {
		t.Errorf("%+v", b)
	}
	if c := clientTLSOptions(cfg.Clusters[2], files); c.Insecure || c.DisableTickets || c.ServerName != "" {
		t.Errorf("%+v", c)
	}
}
