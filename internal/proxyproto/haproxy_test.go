package proxyproto

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// HAProxy listens on descriptors 3 to 6: it writes version 1, version 2,
// version 2 for a TLS client, and reads either. Frontend "read" tells what it
// has read.
const haproxyConfig = `
defaults
  mode tcp
  timeout connect 5s
  timeout client 5s
  timeout server 5s
listen v1
  bind fd@3
  server s 127.0.0.1:%[1]d send-proxy
listen v2
  bind fd@4
  unique-id-format id-%%ci-%%cp
  server s 127.0.0.1:%[1]d send-proxy-v2 proxy-v2-options crc32c,unique-id
listen v2ssl
  bind fd@5 ssl crt %[2]s alpn h2
  server s 127.0.0.1:%[1]d send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c
frontend read
  mode http
  bind fd@6 accept-proxy
  http-request return status 200 content-type text/plain lf-string "%%[src] %%[src_port] %%[dst] %%[dst_port] %%[fc_pp_authority] %%[fc_pp_unique_id]"
`

type haproxy struct {
	backend net.Listener
	ports   [4]*net.TCPAddr
}

func startHAProxy(t *testing.T) *haproxy {
	bin, err := exec.LookPath("haproxy")
	if err != nil {
		bin = "/usr/sbin/haproxy"
	}
	if _, err := os.Stat(bin); err != nil {
		t.Skip("no haproxy")
	}
	p := &haproxy{backend: listen(t)}
	dir := t.TempDir()
	pemFile, config := filepath.Join(dir, "a.pem"), filepath.Join(dir, "haproxy.cfg")
	write(t, pemFile, selfSigned(t))
	write(t, config, fmt.Appendf(nil, haproxyConfig, p.backend.Addr().(*net.TCPAddr).Port, pemFile))
	cmd := exec.Command(bin, "-db", "-q", "-f", config)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	for i := range p.ports {
		ln := listen(t).(*net.TCPListener)
		p.ports[i] = ln.Addr().(*net.TCPAddr)
		f, err := ln.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		defer ln.Close() // only HAProxy accepts
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy: %s", out.Bytes())
		}
	})
	return p
}

func listen(t *testing.T) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func write(t *testing.T, path string, b []byte) {
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func selfSigned(t *testing.T) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
}

// header connects through a frontend that writes headers and returns what
// arrived, with the client's address.
func (p *haproxy) header(t *testing.T, frontend int, conf *tls.Config) (*Header, netip.AddrPort) {
	client, err := net.DialTCP("tcp", nil, p.ports[frontend])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if conf != nil {
		c := tls.Client(client, conf)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	p.backend.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := p.backend.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	h := new(Header)
	var in []byte
	for Parse(in, h) == NeedMore {
		buf := make([]byte, 1000)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, in)
		}
		in = append(in, buf[:n]...)
	}
	if h.status != Done || h.Size != len(in) {
		t.Fatalf("%v %q of %q", h.status, h.Reason, in)
	}
	return h, client.LocalAddr().(*net.TCPAddr).AddrPort()
}

func TestHAProxyWrites(t *testing.T) {
	p := startHAProxy(t)
	for i, conf := range []*tls.Config{nil, nil, {ServerName: "a.example", InsecureSkipVerify: true, NextProtos: []string{"h2"}}} {
		h, source := p.header(t, i, conf)
		if h.Command != Proxy || h.Family != IPv4 || h.Source != source || h.Dest != p.ports[i].AddrPort() || h.Version != min(i+1, 2) {
			t.Errorf("frontend %d: %v to %v: %s", i, source, p.ports[i], h.describe())
		}
		switch i {
		case 1:
			if want := fmt.Sprintf("id-%v-%d", source.Addr(), source.Port()); !h.Checksum || string(h.UniqueID) != want {
				t.Errorf("want %s: %s", want, h.describe())
			}
		case 2:
			s := &h.SSL
			if !h.Checksum || string(h.ALPN) != "h2" || string(h.Authority) != "a.example" || !s.Present || s.Client != ClientSSL || s.Verified() ||
				string(s.TLSVersion) != "TLSv1.3" || !strings.HasPrefix(string(s.Cipher), "TLS_") || len(s.KeyAlg) == 0 || len(s.SigAlg) == 0 {
				t.Errorf("TLS: %s", h.describe())
			}
		}
	}
}

// ask sends a header and a request to the frontend that reads headers.
func (p *haproxy) ask(t *testing.T, header []byte) string {
	conn, err := net.DialTCP("tcp", nil, p.ports[3])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(append(header, "GET / HTTP/1.0\r\n\r\n"...)); err != nil {
		return ""
	}
	answer, _ := io.ReadAll(conn)
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return body
}

func TestHAProxyReads(t *testing.T) {
	p := startHAProxy(t)
	four, six := addrs("192.0.2.1:56735", "192.0.2.2:443"), addrs("[2001:db8::1]:1", "[2001:db8::2]:2")
	full := benchHeader
	v2 := func(h *Header) []byte {
		b, err := AppendV2(nil, h)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"v1 IPv4", AppendV1(nil, &four), "192.0.2.1 56735 192.0.2.2 443  "},
		{"v1 IPv6", AppendV1(nil, &six), "2001:db8::1 1 2001:db8::2 2  "},
		{"v2 IPv4", v2(&four), "192.0.2.1 56735 192.0.2.2 443  "},
		{"v2 IPv6", v2(&six), "2001:db8::1 1 2001:db8::2 2  "},
		{"v2 TLVs and checksum", v2(&full), "192.0.2.1 56735 192.0.2.2 443 www.example.com 0123456789abcdef"},
	} {
		if got := p.ask(t, c.in); got != c.want {
			t.Errorf("%s: HAProxy reads %q, want %q", c.name, got, c.want)
		}
	}
}

// onlyHere are the rows that HAProxy 2.6 does not take: it knows no UDP, no
// PROXY command without addresses, and nothing behind UNKNOWN; and a Unix
// address has no place in the answer.
func onlyHere(c *acceptedRow, h *Header) bool {
	return h.Transport == Datagram || h.Family == Unix || h.Command == Proxy && h.Family == Unspec && c.in != "PROXY UNKNOWN\r\n"
}

// What is accepted here means the same to HAProxy. Of what is refused here,
// HAProxy takes much: ports and octets out of range, broken and repeated TLVs.
func TestHAProxyAgrees(t *testing.T) {
	p := startHAProxy(t)
	for _, c := range acceptedRows {
		var h Header
		Parse([]byte(c.in), &h)
		got := p.ask(t, []byte(c.in))
		if got == "" && onlyHere(&c, &h) || h.Family == Unspec && strings.HasPrefix(got, "127.0.0.1 ") {
			continue
		}
		if port := h.Source.Port(); port == 0 {
			continue // HAProxy writes none
		}
		want := fmt.Sprintf("%v %d %v %d ", h.Source.Addr(), h.Source.Port(), h.Dest.Addr(), h.Dest.Port())
		if !strings.HasPrefix(strings.ReplaceAll(got, "::ffff:", ""), want) {
			t.Errorf("%s: HAProxy reads %q, want %q", c.name, got, want)
		}
	}
}
