package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"belay/internal/admin/adminapi"
)

func theCerts(now time.Time) []adminapi.Certificate {
	day := 24 * time.Hour
	list := now.Add(10 * day)
	return []adminapi.Certificate{
		{
			Kind: "certificate", Source: "/etc/belay/tls/a.pem + /etc/belay/tls/a.key", UsedBy: []string{"web", "web.1", "web.2", "web.3"}, State: adminapi.StateActive,
			CertificateInfo: &adminapi.CertificateInfo{SANs: []string{"DNS:a.example", "DNS:www.a.example", "IP:192.0.2.1", "URI:spiffe://a"}, NotAfter: now.Add(40*day + time.Hour), KeyType: "ECDSA P-256"},
			Staple:          "good until tomorrow",
		},
		{
			Kind: "certificate", Source: "credential:b.pem", UsedBy: []string{"db"}, State: adminapi.StateLastGood, Error: "the key does not match\x1b[31m the certificate",
			CertificateInfo: &adminapi.CertificateInfo{Subject: "CN=b", NotAfter: now.Add(-day), KeyType: "RSA 2048"},
			Warnings:        []string{"the chain is incomplete"}, Staple: "expired",
		},
		{Kind: "certificate", Source: "/c.pem + /c.key", State: adminapi.StateWarming, Error: "read /c.pem: no such file or directory"},
		{Kind: "ca", Source: "/ca.pem", UsedBy: []string{"web"}, State: adminapi.StateActive, Authorities: []adminapi.CertificateInfo{{NotAfter: now.Add(400 * day)}, {NotAfter: now.Add(30 * time.Hour)}}},
		{Kind: "crl", Source: "/crl.pem", UsedBy: []string{"web"}, State: adminapi.StateActive, NextUpdate: &list},
	}
}

func TestWriteCerts(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var b strings.Builder
	if err := writeCerts(&b, theCerts(now), now); err != nil {
		t.Fatal(err)
	}
	golden(t, "certs", b.String())
}

// The verdict of --check: everything in use, and valid for as long as asked. With
// --expiring what is well is not shown.
func TestCertsCheck(t *testing.T) {
	all := func(at ...int) []adminapi.Certificate {
		list := theCerts(time.Now())
		var out []adminapi.Certificate
		for _, i := range at {
			out = append(out, list[i])
		}
		return out
	}
	const pair, lastGood, warming, authority, list = 0, 1, 2, 3, 4
	for _, tt := range []struct {
		name   string
		certs  []adminapi.Certificate
		args   string
		status int
		rows   int
	}{
		{"well", all(pair), "certs --check", exitOK, 1},
		{"without check", all(pair, lastGood, warming, authority, list), "certs", exitOK, 5},
		{"shown without check", all(pair, lastGood, warming, authority, list), "certs --expiring 9", exitOK, 3},
		{"soon", all(pair), "certs --check --expiring 60", exitSoon, 1},
		{"not soon", all(pair), "certs --check --expiring 39", exitOK, 0},
		{"last good", all(lastGood), "certs --check", exitNo, 1},
		{"warming", all(warming), "certs --check", exitNo, 1},
		{"worst last", all(pair, warming), "certs --check --expiring 60", exitNo, 2},
		{"worst first", all(warming, pair), "certs --check --expiring 60", exitNo, 2},
		{"well after soon", all(list, pair), "certs --check", exitSoon, 2},
		{"an authority", all(authority), "certs --check --expiring 2", exitSoon, 1},
		{"a list", all(list), "certs --check", exitSoon, 1},
		{"a list that is current", all(list), "certs --check --expiring 9", exitOK, 0},
		{"no days", all(pair, list), "certs --check --expiring 0", exitOK, 0},
		{"no TLS", []adminapi.Certificate{}, "certs --check", exitOK, 0},
		{"days before now", all(pair), "certs --check --expiring -1", exitUsage, -1},
		{"ages", all(pair), "certs --check --expiring 1000000", exitUsage, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := aDaemon()
			d.certs = tt.certs
			socket := d.serve(t)
			status, out, stderr := belayctl(t, socket, strings.Fields(tt.args)...)
			table, _, _ := strings.Cut(out, "\n\n")
			if rows := strings.Count(strings.TrimSuffix(table, "\n"), "\n"); status != tt.status || tt.rows >= 0 && rows != tt.rows {
				t.Errorf("exit status %d, want %d, with %d rows:\n%s", status, tt.status, tt.rows, out)
			}
			if (status == exitOK) != (stderr == "") {
				t.Errorf("status %d, stderr %q", status, stderr)
			}
			if tt.rows < 0 {
				return
			}
			status, out, _ = belayctl(t, socket, append(strings.Fields(tt.args), "--json")...)
			var parsed []adminapi.Certificate
			if err := json.Unmarshal([]byte(out), &parsed); err != nil || status != tt.status || len(parsed) != tt.rows {
				t.Errorf("--json: status %d, %v: %s", status, err, out)
			}
		})
	}
}

// The states of certificates are comments of the configuration, not a part of it.
func TestConfigStates(t *testing.T) {
	d := aDaemon()
	d.config = `{"server":{"workers":2},"certificates":[{"kind":"certificate","source":"/a.pem","state":"active"},{"kind":"ca","source":"/ca.pem","state":"warming","error":"read\u001b: no"}]}`
	socket := d.serve(t)
	for args, want := range map[string]string{
		"config":                       "# certificate /a.pem is active\n# ca /ca.pem is warming: read?: no\n\n[server]\nworkers = 2\n",
		"config server":                "[server]\nworkers = 2\n",
		"config certificates[1].state": "\"warming\"\n",
	} {
		if status, out, _ := belayctl(t, socket, strings.Fields(args)...); status != exitOK || out != want {
			t.Errorf("%s: status %d, %q\nwant %q", args, status, out, want)
		}
	}
	d.config = `{"certificates":1}`
	if status, _, stderr := belayctl(t, socket, "config"); status != exitNo || stderr == "" {
		t.Errorf("states that are none: status %d, %q", status, stderr)
	}
}

func TestExplain(t *testing.T) {
	d := aDaemon()
	d.explained = []adminapi.TLSExplanation{
		{
			Listener: "web", Chain: "web.shop", ChainWhy: "server name *.example", State: "active", Certificate: "a.pem + a.key",
			CertificateInfo: &adminapi.CertificateInfo{Subject: "CN=a", SANs: []string{"a.example"}, Issuer: "CN=ca", KeyType: "ECDSA P-256", NotAfter: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
			NameMatch:       "exact", Why: "ecdsa", Version: "TLS 1.3", Protocol: "http/1.1", Staple: true, ClientCertificate: "require", ClientPolicy: "ab12",
		},
		{Listener: "raw", Chain: "raw.0", ChainWhy: "port", Passthrough: true, Cluster: "db"},
		{Listener: "other", ChainWhy: "no chain's conditions are met", Refused: "the connection is reset"},
	}
	socket := d.serve(t)
	status, out, stderr := belayctl(t, socket, strings.Fields("tls explain --sni a.example --alpn h2,http/1.1 --source 10.0.0.1 --port 443 --tls12 --no-ecdsa --listener web")...)
	if status != exitOK || stderr != "" {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
	golden(t, "explain", out)
	if want := "alpn=h2%2Chttp%2F1.1&listener=web&no_ecdsa=true&port=443&sni=a.example&source=10.0.0.1&tls12=true"; d.query != want {
		t.Errorf("asked for %s, want %s", d.query, want)
	}
	d.explained = []adminapi.TLSExplanation{}
	if _, out, _ := belayctl(t, socket, "tls", "explain"); out != "no listener has TLS\n" {
		t.Errorf("without TLS: %q", out)
	}
	if status, _, stderr := belayctl(t, socket, "tls", "explain", "x"); status != exitUsage || stderr == "" {
		t.Errorf("an argument too much: status %d, %q", status, stderr)
	}
}
