package admin

import (
	"encoding/json"
	"strings"
	"testing"

	"belay/internal/admin/adminapi"
	"belay/internal/config"
)

// The question arrives as it was asked, and one that makes no sense is refused.
func TestExplainTLS(t *testing.T) {
	c := httpClient(t, serve(t, newSource()))
	for _, tt := range []struct {
		query  string
		status int
		want   string // the question, or the refusal
	}{
		{"", 200, "{Listener: SNI: ALPN:[] Source: Port:0 TLS12:false NoECDSA:false}"},
		{"sni=Shop.Example.&listener=web&alpn=h2,http/1.1&source=2001:db8::1&port=443&tls12=1&no_ecdsa=true", 200, "{Listener:web SNI:shop.example ALPN:[h2 http/1.1] Source:2001:db8::1 Port:443 TLS12:true NoECDSA:true}"},
		{"tls12=false&no_ecdsa=0", 200, "TLS12:false NoECDSA:false}"},
		{"listener=nix", 404, "no listener \"nix\" with TLS\n"},
		{"source=10.0.0.0/8", 400, "source: \"10.0.0.0/8\" is no IP address\n"},
		{"alpn=h2,", 400, "alpn: \"\" is no protocol\n"},
		{"port=0", 400, "port: \"0\" is no port\n"},
		{"port=65536", 400, "port: \"65536\" is no port\n"},
		{"tls12=perhaps", 400, "tls12: \"perhaps\" is neither true nor false\n"},
		{"no_ecdsa=2", 400, "no_ecdsa: \"2\" is neither true nor false\n"},
	} {
		status, body, _ := fetch(t, c, "GET", "http://belayd/tls/explain?"+tt.query, "")
		if status == 200 {
			var list []adminapi.TLSExplanation
			if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != 1 {
				t.Errorf("%s: %v: %s", tt.query, err, body)
				continue
			}
			body = list[0].ChainWhy // where the fake puts the question
		}
		if status != tt.status || !strings.HasSuffix(body, tt.want) {
			t.Errorf("%s: %d %q, want %d %q", tt.query, status, body, tt.status, tt.want)
		}
	}
}

// What the client writes, the server reads.
func TestExplainTLSOfClient(t *testing.T) {
	c := adminapi.NewClient(serve(t, newSource()))
	defer c.Close()
	list, err := c.ExplainTLS(t.Context(), adminapi.TLSQuery{Listener: "web", SNI: "a b&c", ALPN: []string{"h2", "x"}, Source: "::1", Port: 9, TLS12: true, NoECDSA: true})
	if want := "{Listener:web SNI:a b&c ALPN:[h2 x] Source:::1 Port:9 TLS12:true NoECDSA:true}"; err != nil || len(list) != 1 || list[0].ChainWhy != want {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := c.ExplainTLS(t.Context(), adminapi.TLSQuery{Listener: "nix"}); err == nil || err.Error() != `no listener "nix" with TLS` {
		t.Errorf("%v", err)
	}
	certs, err := c.Certificates(t.Context())
	if err != nil || len(certs) != 1 || certs[0].Source != "a.pem" || certs[0].State != adminapi.StateActive || certs[0].CertificateInfo != nil {
		t.Errorf("%+v, %v", certs, err)
	}
}

// The configuration comes with the states of what it names, which are no part of
// the file; without TLS they are left out.
func TestConfigHasStates(t *testing.T) {
	s := newSource()
	cfg, err := config.Parse("test.toml", []byte("[listener.web]\naddress = \":1\"\nroute = [{ respond = {} }]\n"))
	if err != nil {
		t.Fatal(err)
	}
	s.config = cfg
	c := adminapi.NewClient(serve(t, s))
	defer c.Close()
	for _, tt := range []struct {
		name  string
		certs []adminapi.Certificate
		want  string
	}{
		{"TLS", []adminapi.Certificate{
			{Kind: "certificate", Source: "/a.pem + /a.key", State: adminapi.StateLastGood, Error: "no key", CertificateInfo: &adminapi.CertificateInfo{Subject: "CN=a"}},
			{Kind: "ca", Source: "/ca.pem", State: adminapi.StateActive},
		}, `[{"kind":"certificate","source":"/a.pem + /a.key","state":"last-good","error":"no key"},{"kind":"ca","source":"/ca.pem","state":"active"}]`},
		{"plain", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.certs.Store(&tt.certs)
			raw, err := c.Config(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var members map[string]json.RawMessage
			if err := json.Unmarshal(raw, &members); err != nil {
				t.Fatal(err)
			}
			if got := string(members[adminapi.ConfigCertificates]); got != tt.want || members["listener"] == nil {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
	s.certs.Store(&[]adminapi.Certificate{})
	if status, body, _ := fetch(t, httpClient(t, serve(t, s)), "GET", "http://belayd/certs", ""); status != 200 || body != "[]\n" {
		t.Errorf("no TLS: %d %q", status, body)
	}
}
