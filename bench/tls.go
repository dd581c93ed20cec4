package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The TLS cases: TLS 1.3 with an ECDSA P-256 certificate, X25519 unless the case
// says otherwise, and AES-128-GCM. Each server is configured to offer nothing
// else where it would choose otherwise with this client.

// tlsName is the name in the certificate and in the SNI of our clients.
const tlsName = "bench.test"

// ownPath is answered by the proxy itself, with 204 and no backend.
const ownPath = "/own"

const (
	floodRate  = 2000 // requests a second of the established connections
	floodConns = 32
	// One source may have 100 open handshakes at belay; the flood keeps below,
	// so that all three have the same work.
	floodClients = 64
)

// tlsCases in the order of the document.
var tlsCases = []benchCase{
	{name: "tls-small", title: "Small replies over TLS 1.3, 64 keep-alive connections", load: wrkLoad(64, "/small", "")},
	{name: "tls-10m", title: "10 MiB replies over TLS 1.3, 8 connections", load: wrkLoad(8, "/10m", ""), size: 10 << 20},
	{name: "tls-handshake", title: "Full TLS 1.3 handshakes (X25519, ECDSA P-256), one request each, which the proxy answers itself",
		load: handshakeLoad(handshakeClients, tls.X25519, false), columns: handshakeColumns},
	{name: "tls-resumed", title: "Resumed TLS 1.3 handshakes (PSK with X25519), one request each, which the proxy answers itself",
		load: handshakeLoad(handshakeClients, tls.X25519, true), columns: handshakeColumns},
	{name: "tls-handshake-pq", title: "Full TLS 1.3 handshakes, post-quantum (X25519MLKEM768, ECDSA P-256); only the servers that can",
		load: handshakeLoad(handshakeClients, tls.X25519MLKEM768, false), columns: handshakeColumns, needs: tls.X25519MLKEM768},
	{name: "tls-calm", title: fmt.Sprintf("Established TLS connections at a fixed rate of %d/s, %d connections, no flood", floodRate, floodConns),
		load: openLoad(floodRate, floodConns), columns: latencyColumns},
	{name: "tls-flood", title: fmt.Sprintf("The same during a flood of handshakes from %d clients", floodClients),
		load: floodLoad(floodRate, floodConns, floodClients), columns: floodColumns},
	{name: "tls-idle", title: "Idle TLS connections (2000, each after one small request and 5 s of quiet)", load: idleLoad(2000, "/small")},
	{name: "tls-idle-1m", title: "Idle TLS connections (2000, each after a reply of 1 MiB and 5 s of quiet)", load: idleLoad(2000, "/1m")},
}

// inTLS gives cases what all of this section have.
func inTLS(list []benchCase) []benchCase {
	list = slices.Clone(list)
	for i := range list {
		list[i].section, list[i].scheme, list[i].of = sectionTLS, "https", tlsServers
	}
	return list
}

// tlsServers are the servers of the other cases with TLS listeners.
func tlsServers(l *lab) ([]server, error) {
	if err := writeCertificate(l.dir); err != nil {
		return nil, err
	}
	belay, err1 := edit(belayConf, belayTLSEdits)
	nginx, err2 := edit(nginxConf, nginxTLSEdits)
	haproxy, err3 := edit(haproxyConf, haproxyTLSEdits)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return nil, err
		}
	}
	return l.httpServers(belay, nginx, haproxy), nil
}

// lineEdit replaces a line of a configuration.
type lineEdit struct{ line, by string }

var belayTLSEdits = []lineEdit{{
	"[[listener.f.route]]\npath_prefix = \"/sink\"\n",
	`[listener.f.tls]
certificates = [{ cert = "%[1]s/server.pem", key = "%[1]s/server.key" }]
min_version = "1.3"
[[listener.f.route]]
path = "` + ownPath + `"
respond = { status = 204 }
[[listener.f.route]]
path_prefix = "/sink"
`,
}}

var nginxTLSEdits = []lineEdit{{
	"    listen 127.0.0.1:%[2]d backlog=4096;\n",
	`    listen 127.0.0.1:%[2]d ssl reuseport backlog=4096;
    ssl_certificate %[1]s/server.pem; ssl_certificate_key %[1]s/server.key;
    ssl_protocols TLSv1.3; ssl_session_tickets on;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    location = ` + ownPath + ` { return 204; }
`,
}}

var haproxyTLSEdits = []lineEdit{
	{"  maxconn 9900\n", `  maxconn 9900
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
`},
	{"  bind 127.0.0.1:%[2]d backlog 4096\n", `  bind 127.0.0.1:%[2]d backlog 4096 ssl crt %[1]s/server-both.pem
  http-request return status 204 if { path ` + ownPath + ` }
`},
	{"  http-request set-header X-Forwarded-Proto http\n", "  http-request set-header X-Forwarded-Proto https\n"},
}

// edit changes a template; a line that is not there is an error.
func edit(text string, edits []lineEdit) (string, error) {
	for _, e := range edits {
		if !strings.Contains(text, e.line) {
			return "", fmt.Errorf("the configuration has no %q", e.line)
		}
		text = strings.Replace(text, e.line, e.by, 1)
	}
	return text, nil
}

// writeCertificate makes a self-signed certificate for a year: server.pem,
// server.key and server-both.pem, which has both.
func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: tlsName},
		DNSNames:     []string{tlsName},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	for name, b := range map[string][]byte{"server.pem": certPEM, "server.key": keyPEM, "server-both.pem": slices.Concat(certPEM, keyPEM)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// clientTLS is what our clients offer. They do not verify the chain: the cost of
// the client is not measured.
func clientTLS(curve tls.CurveID) *tls.Config {
	return &tls.Config{
		ServerName: tlsName, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{curve},
	}
}

// address is where a URL of ours points to, and whether by TLS.
func address(url string) (addr string, secure bool) {
	if addr, secure = strings.CutPrefix(url, "https://"); secure {
		return addr, true
	}
	return strings.TrimPrefix(url, "http://"), false
}

// dialer makes connections to a URL, with a full handshake each if it is https.
func dialer(url string, curve tls.CurveID) func() (net.Conn, error) {
	addr, secure := address(url)
	plain := net.Dialer{Timeout: replyWait, KeepAlive: -1}
	if !secure {
		return func() (net.Conn, error) { return plain.Dial("tcp", addr) }
	}
	conf := clientTLS(curve)
	return func() (net.Conn, error) { return tls.DialWithDialer(&plain, "tcp", addr, conf) }
}

// able leaves out the servers that cannot exchange keys by what a case needs.
// belay is what the others are compared with: it has to.
func (l *lab) able(c benchCase, servers []server) ([]server, error) {
	if c.needs == 0 {
		return servers, nil
	}
	var can []server
	for _, srv := range servers {
		err := l.while(srv, c, func(_ *exec.Cmd, url string) error {
			nc, err := dialer(url, c.needs)()
			if err == nil {
				_ = nc.Close()
			}
			return err
		})
		switch {
		case err == nil:
			can = append(can, srv)
		case strings.HasPrefix(srv.name, "belay"):
			return nil, fmt.Errorf("%s: %w", srv.name, err)
		}
	}
	if len(can) == 0 {
		return nil, fmt.Errorf("no server has %s", c.needs)
	}
	return can, nil
}
