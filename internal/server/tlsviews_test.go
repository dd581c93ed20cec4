package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"belay/internal/admin/adminapi"
	"belay/internal/stats"
)

// tlsRig serves TLS on two listeners of three, over Unix sockets.
func tlsRig(t *testing.T) (*rig, *authority) {
	t.Helper()
	a := newAuthority(t)
	for _, name := range []string{"one", "two"} {
		a.issue(name, nil, a.cert)
	}
	use := func(name string) string {
		return fmt.Sprintf("certificates = [{ cert = %q, key = %q }]", a.dir+"/"+name+".pem", a.dir+"/"+name+".key")
	}
	dir, err := os.MkdirTemp("", "belay") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return newRig(t, fmt.Sprintf(`
[listener.web]
address = "unix:%[1]s/web"
route = [{ respond = {} }]
tls = { %[2]s, alpn = ["http/1.1"], client_certificate = { mode = "require", ca = %[5]q } }
[[listener.web.chain]]
name = "late"
server_names = ["late.example"]
tls = { %[4]s }
[[listener.web.chain]]
name = "suffix"
server_names = ["*.example"]
sources = ["10.0.0.0/8"]
tls = { %[3]s, max_version = "1.2" }
[listener.db]
address = "unix:%[1]s/db"
protocol = "tcp"
clusters = [{ cluster = "x" }, { cluster = "y", weight = 3 }]
[[listener.db.chain]]
name = "through"
server_names = ["pass.example"]
passthrough = true
cluster = "y"
[[listener.db.chain]]
name = "alpn"
alpn = ["postgresql"]
ports = [5432]
passthrough = true
[cluster.x]
endpoints = [{ address = "127.0.0.1:1" }]
[cluster.y]
endpoints = [{ address = "127.0.0.1:1" }]
`, dir, use("one"), use("two"), use("gone"), a.dir+"/ca.pem")), a
}

// An explanation is that of what serves: chain, why, certificate, and the end.
func TestExplainTLS(t *testing.T) {
	r, a := tlsRig(t)
	pair := func(name string) string { return a.dir + "/" + name + ".pem + " + a.dir + "/" + name + ".key" }
	for _, tt := range []struct {
		name string
		q    adminapi.TLSQuery
		want adminapi.TLSExplanation // what is compared
	}{
		{"the listener's own", adminapi.TLSQuery{Listener: "web", SNI: "one", ALPN: []string{"h2", "http/1.1"}}, adminapi.TLSExplanation{
			Chain: "web", ChainWhy: "the listener's own, for those that meet no chain", State: "active", Certificate: pair("one"), NameMatch: "exact name",
			Version: "TLS 1.3", Protocol: "http/1.1", ClientCertificate: "require",
		}},
		{"another name", adminapi.TLSQuery{Listener: "web", SNI: "nobody", TLS12: true}, adminapi.TLSExplanation{
			Chain: "web", ChainWhy: "the listener's own, for those that meet no chain", State: "active", Certificate: pair("one"), NameMatch: "default",
			Version: "TLS 1.2", ClientCertificate: "require",
		}},
		{"no protocol in common", adminapi.TLSQuery{Listener: "web", ALPN: []string{"smtp"}}, adminapi.TLSExplanation{
			Chain: "web", ChainWhy: "the listener's own, for those that meet no chain", State: "active", Certificate: pair("one"), NameMatch: "default",
			Version: "TLS 1.3", ClientCertificate: "require", Refused: "no common ALPN protocol",
		}},
		{"suffix and source", adminapi.TLSQuery{Listener: "web", SNI: "a.b.example", Source: "10.1.2.3"}, adminapi.TLSExplanation{
			Chain: "suffix", ChainWhy: "server name *.example, source 10.0.0.0/8", State: "active", Certificate: pair("two"), NameMatch: "default",
			Version: "TLS 1.2", ClientCertificate: "none",
		}},
		{"mapped source", adminapi.TLSQuery{Listener: "web", SNI: "a.example", Source: "::ffff:10.1.2.3"}, adminapi.TLSExplanation{
			Chain: "suffix", ChainWhy: "server name *.example, source 10.0.0.0/8", State: "active", Certificate: pair("two"), NameMatch: "default",
			Version: "TLS 1.2", ClientCertificate: "none",
		}},
		{"warming", adminapi.TLSQuery{Listener: "web", SNI: "late.example"}, adminapi.TLSExplanation{
			Chain: "late", ChainWhy: "server name late.example", State: "warming", ClientCertificate: "none", Refused: "the chain is warming: connections are reset",
		}},
		{"passed through", adminapi.TLSQuery{Listener: "db", SNI: "pass.example"}, adminapi.TLSExplanation{
			Chain: "through", ChainWhy: "server name pass.example", Passthrough: true, Cluster: "y",
		}},
		{"port and protocol", adminapi.TLSQuery{Listener: "db", ALPN: []string{"postgresql"}, Port: 5432}, adminapi.TLSExplanation{
			Chain: "alpn", ChainWhy: "port, ALPN", Passthrough: true, Cluster: "x (weight 1), y (weight 3)",
		}},
		{"none", adminapi.TLSQuery{Listener: "db", SNI: "other"}, adminapi.TLSExplanation{
			ChainWhy: "no chain's conditions are met", Refused: "the connection is reset",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := r.ExplainTLS(tt.q)
			if err != nil || len(list) != 1 || list[0].Listener != tt.q.Listener {
				t.Fatalf("%+v, %v", list, err)
			}
			got := list[0]
			if (got.CertificateInfo != nil) != (tt.want.Certificate != "") || (got.ClientPolicy != "") != (tt.want.ClientCertificate == "require") {
				t.Errorf("%+v", got)
			}
			got.CertificateInfo, got.ClientPolicy, got.Why = nil, "", ""
			tt.want.Listener = tt.q.Listener
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", tt.want) {
				t.Errorf("%+v\nwant %+v", got, tt.want)
			}
		})
	}
	if list, err := r.ExplainTLS(adminapi.TLSQuery{}); err != nil || len(list) != 2 {
		t.Errorf("all listeners: %+v, %v", list, err)
	}
	for _, name := range []string{"a", "nix"} { // one without TLS, and none
		if list, err := r.ExplainTLS(adminapi.TLSQuery{Listener: name}); err == nil {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// What the files have, and nothing that is secret.
func TestCertificates(t *testing.T) {
	r, a := tlsRig(t)
	list := r.Certificates()
	var got []string
	for _, c := range list {
		got = append(got, fmt.Sprint(c.Kind, " ", strings.ReplaceAll(c.Source, a.dir+"/", ""), " ", c.State, " ", c.UsedBy))
	}
	if want := "ca ca.pem active [web], certificate gone.pem + gone.key warming [late], certificate one.pem + one.key active [web], certificate two.pem + two.key active [suffix]"; strings.Join(got, ", ") != want {
		t.Fatalf("%q\nwant %s", got, want)
	}
	if len(list[0].Authorities) != 1 || list[0].Authorities[0].Subject != "CN=ca" {
		t.Errorf("authorities %+v", list[0].Authorities)
	}
	if list[1].Error == "" || list[1].CertificateInfo != nil || list[2].Error != "" || list[2].SANs[0] != "DNS:one" || list[2].KeyType == "" {
		t.Errorf("%+v, %+v", list[1], list[2])
	}
	key, err := os.ReadFile(a.dir + "/one.key")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(list)
	if err != nil || bytes.Contains(text, bytes.Split(key, []byte("\n"))[1]) || bytes.Contains(text, []byte("PRIVATE")) {
		t.Errorf("%v: %s", err, text)
	}
	if list := newRig(t, "").Certificates(); list != nil {
		t.Errorf("without TLS: %+v", list)
	}
}

// Each source has its expiry and its state among the metrics.
func TestCertificateMetrics(t *testing.T) {
	r, a := tlsRig(t)
	var page strings.Builder
	if err := stats.WritePrometheus(&page, r.Snapshot()); err != nil {
		t.Fatal(err)
	}
	source := func(name string) string {
		return fmt.Sprintf("{source=%q}", a.dir+"/"+name+".pem + "+a.dir+"/"+name+".key")
	}
	for _, want := range []string{
		"belay_certificate_state" + source("one") + " 1\n",
		"belay_certificate_state" + source("gone") + " 0\n",
		"belay_certificate_expiry_timestamp_seconds" + source("gone") + " 0\n",
		fmt.Sprintf("belay_certificate_state{source=%q} 1\n", a.dir+"/ca.pem"),
		fmt.Sprintf("belay_certificate_expiry_timestamp_seconds{source=%q} ", a.dir+"/ca.pem"),
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %s in\n%s", want, page.String())
		}
	}
	if got := r.Certificates()[2].NotAfter.Unix(); !strings.Contains(page.String(), source("one")+fmt.Sprintf(" %d\n", got)) {
		t.Errorf("the expiry %d is not among the metrics", got)
	}
}
