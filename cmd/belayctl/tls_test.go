package main

import (
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
			CertificateInfo: &adminapi.CertificateInfo{SANs: []string{"a.example", "www.a.example"}, NotAfter: now.Add(40*day + time.Hour), KeyType: "ECDSA P-256"},
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

// The verdict of --check: everything in use, and valid for as long as asked.
func TestCertsCheck(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name   string
		certs  []adminapi.Certificate
		args   string
		status int
	}{
		{"well", theCerts(now)[:1], "certs --check", exitOK},
		{"without check", theCerts(now), "certs", exitOK},
		{"soon", theCerts(now)[:1], "certs --check --expiring 60", exitNo},
		{"last good", theCerts(now)[1:2], "certs --check", exitNo},
		{"warming", theCerts(now)[2:3], "certs --check", exitNo},
		{"an authority", theCerts(now)[3:4], "certs --check --expiring 2", exitNo},
		{"a list", theCerts(now)[4:], "certs --check", exitNo},
		{"a list that is current", theCerts(now)[4:], "certs --check --expiring 9", exitOK},
		{"no TLS", []adminapi.Certificate{}, "certs --check", exitOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := aDaemon()
			d.certs = tt.certs
			if status, out, _ := belayctl(t, d.serve(t), strings.Fields(tt.args)...); status != tt.status {
				t.Errorf("exit status %d, want %d:\n%s", status, tt.status, out)
			}
		})
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
