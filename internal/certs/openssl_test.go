package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// serve answers handshakes with the server's configuration until the test ends,
// and gives the address and the errors.
func serve(t *testing.T, server *Server) (address string, failures chan error) {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { _ = l.Close() })
	failures = make(chan error, 100)
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
				c := tls.Server(raw, server.Config())
				err := c.Handshake()
				failures <- err
				if err == nil {
					_, _ = c.Write([]byte("x"))
					_, _ = c.Read(make([]byte, 1))
					_ = c.CloseWrite()
				}
			}()
		}
	}()
	return l.Addr().String(), failures
}

func openssl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", append([]string{"s_client", "-ign_eof"}, args...)...)
	cmd.Stdin = strings.NewReader("y\n")
	out, _ := cmd.CombinedOutput() // it fails where it should be refused
	return string(out)
}

// opensslServers gives the addresses of one server without and one with client
// certificates, for clients whose files are in dir.
func opensslServers(t *testing.T, dir string) (open, mutual string, failures chan error) {
	ca := newCA("ca")
	ec, rsaCert := ca.issue(nil, "x.example"), ca.issueFor(rsaKey(), nil, "x.example")
	client, revoked := ca.issue(nil, "client.example"), ca.issue(nil, "client.example")
	staple := must(ocsp.CreateResponse(ca.cert, ca.cert, ocsp.Response{
		Status: ocsp.Good, SerialNumber: ec.cert.SerialNumber, ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
	}, ca.key))
	for name, data := range map[string][]byte{
		"ca": ca.pem, "crl": ca.crl(time.Now().Add(time.Hour), revoked.cert), "ec": append(bytes.Clone(ec.chain), ec.key...), "ocsp": staple,
		"client": append(bytes.Clone(client.chain), client.key...), "revoked": append(bytes.Clone(revoked.chain), revoked.key...),
		"stranger": func() []byte { c := newCA("other").issue(nil, "client.example"); return append(c.chain, c.key...) }(),
	} {
		write(t, dir+"/"+name, data)
	}
	store := NewStore(Options{})
	o := ServerOptions{
		Name: "x", Certificates: []Source{&FileSource{Files: store.Files(), Cert: dir + "/ec", Staple: dir + "/ocsp"}, fake("rsa", rsaCert)},
		Params: Params{ALPN: []string{"http/1.1"}},
	}
	open, _ = serve(t, newServer(t, store, o))
	o.Name, o.ClientAuth, o.Client = "mtls", ClientRequire, Trust{CA: dir + "/ca", CRL: dir + "/crl"}
	mutual, failures = serve(t, newServer(t, store, o))
	return open, mutual, failures
}

func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl")
	}
	dir := t.TempDir()
	open, mutual, failures := opensslServers(t, dir)
	base := []string{"-servername", "x.example", "-CAfile", dir + "/ca", "-verify_return_error", "-alpn", "http/1.1", "-connect"}
	for _, tt := range []struct {
		name, address string
		args          []string
		want          []string
		reason        Reason
	}{
		{"TLS 1.3", open, []string{"-tls1_3", "-status"}, []string{"Verify return code: 0", "ECDSA", "OCSP Response Status: successful", "ALPN protocol: http/1.1"}, 0},
		{"TLS 1.2", open, []string{"-tls1_2", "-status"}, []string{"Verify return code: 0", "ECDHE-ECDSA", "OCSP Response Status: successful"}, 0},
		{"TLS 1.2, RSA", open, []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"}, []string{"Verify return code: 0", "ECDHE-RSA-AES128"}, 0},
		{"TLS 1.3, RSA", open, []string{"-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256:RSA+SHA256:ECDSA+SHA512"}, []string{"RSA-PSS"}, 0},
		{"TLS 1.1", open, []string{"-tls1_1", "-cipher", "ALL@SECLEVEL=0"}, []string{"alert protocol version"}, 0},
		{"client certificate", mutual, []string{"-tls1_3", "-cert", dir + "/client"}, []string{"Verify return code: 0", "Acceptable client certificate CA names"}, 0},
		{"no client certificate, TLS 1.3", mutual, []string{"-tls1_3"}, []string{"alert certificate required"}, ReasonNoCertificate},
		{"no client certificate, TLS 1.2", mutual, []string{"-tls1_2"}, []string{"alert handshake failure"}, ReasonNoCertificate},
		{"unknown authority", mutual, []string{"-tls1_2", "-cert", dir + "/stranger"}, []string{"alert unknown ca"}, ReasonUnknownAuthority},
		{"revoked", mutual, []string{"-tls1_3", "-cert", dir + "/revoked"}, []string{"alert bad certificate"}, ReasonRevoked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := openssl(t, append(append(base[:len(base):len(base)], tt.address), tt.args...)...)
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if tt.address == mutual {
				if err := <-failures; ReasonOf(err) != tt.reason {
					t.Errorf("reason %v: %v", ReasonOf(err), err)
				}
			}
		})
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		args := append(base[:len(base):len(base)], open, version)
		out := openssl(t, append(args, "-sess_out", dir+"/session")...)
		out += openssl(t, append(args, "-sess_in", dir+"/session")...)
		if !strings.Contains(out, "New, TLS") || !strings.Contains(out, "Reused, TLS") {
			t.Errorf("%s does not resume:\n%s", version, out)
		}
	}
}
