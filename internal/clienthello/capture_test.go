package clienthello

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "capture the hellos in testdata anew")

// capture is a hello that a real client sent; testdata/name.bin has its bytes.
type capture struct {
	name  string
	args  []string    // of the client; PORT stands for the port
	conf  *tls.Config // of crypto/tls, if there are no args
	sni   string
	state NameState
	alpn  []string
	max   uint16
	group uint16 // one that must be there; 0: any
	want  func(h *Hello) bool
}

// captures were made with OpenSSL 3.0.19, curl 7.88.1 and Go 1.26.8.
var captures = []capture{
	{name: "openssl-default", args: []string{"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", "www.example.com"},
		sni: "www.example.com", state: NameValid, max: tls.VersionTLS13, want: func(h *Hello) bool { return h.Ticket && !h.Resumes }},
	{name: "openssl-tls12-alpn", args: []string{"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-tls1_2", "-servername", "WWW.Example.COM", "-alpn", "h2,http/1.1"},
		sni: "www.example.com", state: NameValid, alpn: []string{"h2", "http/1.1"}, max: tls.VersionTLS12},
	{name: "openssl-noservername", args: []string{"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-noservername"}, max: tls.VersionTLS13},
	{name: "openssl-address", args: []string{"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", "192.0.2.1"},
		state: NameAddress, max: tls.VersionTLS13},
	{name: "openssl-trailing-dot", args: []string{"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", "example.com."},
		state: NameInvalid, max: tls.VersionTLS13},
	{name: "openssl-records-of-512", args: []string{"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", "example.com", "-max_send_frag", "512",
		"-alpn", "p0-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,p1-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb,p2-cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"},
		sni: "example.com", state: NameValid, max: tls.VersionTLS13, want: func(h *Hello) bool { return len(h.ALPN.First()) > 100 && h.scan.records > 1 }},
	{name: "curl-h2", args: []string{"curl", "-sk", "--resolve", "example.com:PORT:127.0.0.1", "https://example.com:PORT/"},
		sni: "example.com", state: NameValid, alpn: []string{"h2", "http/1.1"}, max: tls.VersionTLS13},
	{name: "curl-tls12-http1", args: []string{"curl", "-sk", "--http1.1", "--tls-max", "1.2", "--resolve", "example.com:PORT:127.0.0.1", "https://example.com:PORT/"},
		sni: "example.com", state: NameValid, alpn: []string{"http/1.1"}, max: tls.VersionTLS12},
	{name: "go-mlkem", conf: &tls.Config{ServerName: "example.com", NextProtos: []string{"h2", "http/1.1"}},
		sni: "example.com", state: NameValid, alpn: []string{"h2", "http/1.1"}, max: tls.VersionTLS13, group: uint16(tls.X25519MLKEM768)},
	{name: "go-mlkem1024", conf: &tls.Config{ServerName: "example.com", CurvePreferences: []tls.CurveID{tls.SecP384r1MLKEM1024, tls.CurveP384}},
		sni: "example.com", state: NameValid, max: tls.VersionTLS13, group: uint16(tls.SecP384r1MLKEM1024)},
	{name: "go-no-mlkem", conf: &tls.Config{ServerName: "example.com", CurvePreferences: []tls.CurveID{tls.X25519}},
		sni: "example.com", state: NameValid, max: tls.VersionTLS13, group: uint16(tls.X25519),
		want: func(h *Hello) bool { return !h.Groups.Has(uint16(tls.X25519MLKEM768)) }},
	{name: "go-tls12", conf: &tls.Config{ServerName: "a.example", MaxVersion: tls.VersionTLS12},
		sni: "a.example", state: NameValid, max: tls.VersionTLS12},
	{name: "go-no-name", conf: &tls.Config{}, max: tls.VersionTLS13},
	{name: "go-resumes-tls13", conf: &tls.Config{ServerName: "a.example", ClientSessionCache: tls.NewLRUClientSessionCache(1)},
		sni: "a.example", state: NameValid, max: tls.VersionTLS13, want: func(h *Hello) bool { return h.PSK && !h.Resumes && !h.EarlyData }},
}

func (c *capture) path() string { return filepath.Join("testdata", c.name+".bin") }

func (c *capture) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(c.path())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// hello returns what Parse makes of the capture.
func (c *capture) hello(t testing.TB) *Hello {
	t.Helper()
	h := new(Hello)
	if s := Parse(c.bytes(t), h); s != Done {
		t.Fatalf("%s: %v %s", c.name, s, h.Reason)
	}
	return h
}

// record has a client speak to a server that never answers.
func (c *capture) record(t *testing.T) []byte {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.connect(ctx, ln.Addr().(*net.TCPAddr).Port) }()
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := ln.Accept()
	if err != nil {
		t.Fatalf("%v: %v", err, <-done)
	}
	var in []byte
	buf := make([]byte, 4096)
	var h Hello
	for Parse(in, &h) == NeedMore {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("%s: %v after %d bytes", c.name, err, len(in))
		}
		in = append(in, buf[:n]...)
	}
	conn.Close()
	<-done
	return in
}

func (c *capture) connect(ctx context.Context, port int) error {
	if c.args == nil {
		conf := c.conf.Clone()
		conf.InsecureSkipVerify = true
		if conf.ClientSessionCache != nil {
			if err := firstSession(conf); err != nil {
				return err
			}
		}
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), conf)
		if err == nil {
			conn.Close()
		}
		return err
	}
	args := make([]string, len(c.args))
	for i, a := range c.args {
		args[i] = strings.ReplaceAll(a, "PORT", strconv.Itoa(port))
	}
	return exec.CommandContext(ctx, args[0], args[1:]...).Run()
}

// firstSession gets a ticket from a server, which the next session brings.
func firstSession(conf *tls.Config) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		server.Write([]byte("x"))
		server.Close()
	}()
	client, err := tls.Dial("tcp", ln.Addr().String(), conf)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Read(make([]byte, 1)) // tickets of TLS 1.3 come before it
	return err
}

// updateCaptures records the hellos anew if -update asks for it.
func updateCaptures(t *testing.T) {
	t.Helper()
	if !*update {
		return
	}
	for i := range captures {
		c := &captures[i]
		if err := os.WriteFile(c.path(), c.record(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
