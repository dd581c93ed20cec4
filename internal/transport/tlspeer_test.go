package transport

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"belay/internal/eventloop"
)

// sealer writes TLS 1.3 records by itself, with the keys of a handshake that
// Go's peer made, so that it can do what Go's peer never does.
type sealer struct {
	t      testing.TB
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newSealer(t testing.TB, secret []byte) *sealer {
	s := &sealer{t: t, secret: secret}
	s.setKeys()
	return s
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446, 7.1).
func (s *sealer) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := string([]byte{0, byte(n), byte(len(label))}) + label + "\x00"
	p, err := hkdf.Expand(sha256.New, s.secret, info, n)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *sealer) setKeys() {
	block, err := aes.NewCipher(s.expand("key", 16))
	if err != nil {
		s.t.Fatal(err)
	}
	s.aead, _ = cipher.NewGCM(block)
	s.iv, s.seq = s.expand("iv", 12), 0
}

func (s *sealer) record(typ byte, data []byte) []byte {
	nonce := bytes.Clone(s.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(s.seq >> (56 - 8*i))
	}
	s.seq++
	n := len(data) + 1 + 16
	head := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return s.aead.Seal(head, nonce, append(bytes.Clone(data), typ), head)
}

// keyUpdate is the record, or its message in two records; the keys change.
func (s *sealer) keyUpdate(requested byte, split bool) []byte {
	msg := []byte{24, 0, 0, 1, requested}
	var p []byte
	if split {
		p = append(s.record(22, msg[:2]), s.record(22, msg[2:])...)
	} else {
		p = s.record(22, msg)
	}
	s.secret = s.expand("traffic upd", 32)
	s.setKeys()
	return p
}

// sealed is an open 1.3 connection and the sealer that writes in its peer's place.
func (r rig) sealed(t *testing.T, client bool) (*stream, *tls.Conn, net.Conn, *sealer) {
	var log bytes.Buffer
	ours, theirs := serverConfig(tls.VersionTLS13), clientConfig(tls.VersionTLS13)
	ours.SessionTicketsDisabled = true
	label := "CLIENT_TRAFFIC_SECRET_0"
	if client {
		ours, theirs = theirs, ours
		theirs.SessionTicketsDisabled = true // a ticket would be record 0
		label = "SERVER_TRAFFIC_SECRET_0"
	}
	theirs.KeyLogWriter = &log
	s, peer, raw := r.pair(t, client, ours, theirs, 0)
	shake(t, r, s, peer)
	if peer.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("no AES here")
	}
	for line := range strings.Lines(log.String()) {
		if f := strings.Fields(line); f[0] == label {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return s, peer, raw, newSealer(t, secret)
		}
	}
	t.Fatal("no secret")
	return nil, nil, nil, nil
}

// onSealed runs f as server and as client.
func onSealed(t *testing.T, f func(t *testing.T, r rig, s *stream, peer *tls.Conn, raw net.Conn, k *sealer)) {
	for _, client := range []bool{false, true} {
		t.Run(fmt.Sprint("client ", client), func(t *testing.T) {
			r := startRig(t)
			s, peer, raw, k := r.sealed(t, client)
			f(t, r, s, peer, raw, k)
		})
	}
}

// TestTLSKeyUpdates between data, in one record and split over two that arrive
// apart, answered where asked for (Go's peer bears 16 answers in a row); what we send afterwards is read well.
func TestTLSKeyUpdates(t *testing.T) {
	onSealed(t, func(t *testing.T, r rig, s *stream, peer *tls.Conn, raw net.Conn, k *sealer) {
		var want bytes.Buffer
		for i := range 40 {
			text := fmt.Appendf(nil, "%d,", i)
			want.Write(text)
			p := append(k.keyUpdate(byte(i%4/3), i%3 == 0), k.record(23, text)...)
			for len(p) > 0 {
				n := min(len(p), 1+i)
				raw.Write(p[:n])
				p = p[n:]
				r.do(func() {})
			}
		}
		r.until(t, "all data", func() bool { return s.got.Len() == want.Len() })
		r.send(s, payload(100_000), true)
		got, err := io.ReadAll(peer)
		if !bytes.Equal(got, payload(100_000)) || err != nil {
			t.Errorf("the peer got %d bytes, %v", len(got), err)
		}
		r.do(func() {
			if s.got.String() != want.String() || s.end != nil {
				t.Errorf("got %q, %v", &s.got, s.end)
			}
		})
		r.wantIdle(t)
	})
}

// TestTLSKeyUpdateStorm ends the connection though there is data in between,
// and so do other records without data.
func TestTLSKeyUpdateStorm(t *testing.T) {
	for _, tt := range []struct {
		name    string
		useless func(k *sealer) []byte
	}{
		{"quiet", func(k *sealer) []byte { return k.keyUpdate(0, false) }},
		{"requested", func(k *sealer) []byte { return k.keyUpdate(1, false) }},
		{"empty", func(k *sealer) []byte { return k.record(23, nil) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onSealed(t, func(t *testing.T, r rig, s *stream, peer *tls.Conn, raw net.Conn, k *sealer) {
				for range 2*maxEmpties + 10 {
					raw.Write(append(tt.useless(k), k.record(23, []byte("x"))...))
				}
				wantEnd(t, r, s, ErrFlood)
				r.do(func() {
					if n := s.got.Len(); n < maxEmpties || n > 2*maxEmpties {
						t.Errorf("it ended after %d updates", n)
					}
				})
			})
		})
	}
}

// TestTLSUselessRun is crypto/tls's own limit of 16 in a row.
func TestTLSUselessRun(t *testing.T) {
	onSealed(t, func(t *testing.T, r rig, s *stream, peer *tls.Conn, raw net.Conn, k *sealer) {
		var p []byte
		for range 20 {
			p = append(p, k.keyUpdate(0, false)...)
		}
		raw.Write(p)
		r.until(t, "the end", func() bool { return s.end != nil })
	})
}

// TestTLSBadRecords after the handshake end the stream for good.
func TestTLSBadRecords(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    func(k *sealer) []byte
	}{
		{"forged", func(k *sealer) []byte { p := k.record(23, []byte("abc")); p[10] ^= 1; return p }},
		{"too long", func(*sealer) []byte { return []byte{23, 3, 3, 0x50, 0} }},
		{"hello again", func(k *sealer) []byte { return k.record(22, []byte{1, 0, 0, 0}) }},
		{"fatal alert", func(k *sealer) []byte { return k.record(21, []byte{2, 80}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onSealed(t, func(t *testing.T, r rig, s *stream, peer *tls.Conn, raw net.Conn, k *sealer) {
				raw.Write(append(k.record(23, []byte("good")), tt.p(k)...))
				r.until(t, "the end", func() bool { return s.end != nil })
				wantEnd(t, r, s, s.end)
				r.do(func() {
					if s.got.String() != "good" || s.end == io.EOF {
						t.Errorf("got %q, %v", &s.got, s.end)
					}
				})
			})
		})
	}
}

// TestTLSAliveTakesTickets: what a server sends an idle client of its own
// accord is not a reason to close.
func TestTLSAliveTakesTickets(t *testing.T) {
	r := startRig(t)
	s, _, raw, k := r.sealed(t, true)
	r.do(func() { s.paused = true })
	raw.Write(k.keyUpdate(1, false))
	r.until(t, "the event", func() bool { return s.t.Readable() })
	r.do(func() {
		if !s.t.Alive() || s.t.Readable() {
			t.Error("a key update killed the idle connection")
		}
	})
	raw.Write(k.record(23, []byte("x")))
	r.do(func() {
		if s.t.Alive() || !s.t.Readable() {
			t.Error("alive with data")
		}
	})
}

// certFiles are testCert's for openssl.
func certFiles(t *testing.T) (cert, key string) {
	c, _ := testCert()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// openssl starts the tool; it ends with the test.
func openssl(t *testing.T, args ...string) (io.WriteCloser, *bufio.Reader) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cmd := exec.Command(path, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return in, bufio.NewReader(out)
}

// TestTLSOpenSSLClient: an echo for s_client, with its key updates on 1.3.
func TestTLSOpenSSLClient(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			r := startRig(t)
			fd, err := eventloop.Listen(loopback(0), eventloop.ListenConfig{})
			if err != nil {
				t.Fatal(err)
			}
			defer eventloop.Close(fd)
			at, _ := eventloop.LocalAddr(fd)
			cert, _ := certFiles(t)
			in, out := openssl(t, "s_client", "-connect", at.String(), "-servername", "localhost", "-CAfile", cert, "-verify_return_error")
			nfd := -1
			r.until(t, "openssl", func() bool {
				n, _, errno := eventloop.Accept(fd)
				if errno == 0 {
					nfd = n
				}
				return errno == 0
			})
			s := r.serve(t, nfd, serverConfig(version))
			r.until(t, "the handshake", func() bool { return s.open || s.failed != nil })
			for i := range 20 {
				if version == tls.VersionTLS13 {
					io.WriteString(in, []string{"k\n", "K\n"}[i%2]) // and ask for ours
					awaitLine(t, out, "KEYUPDATE\n")
				}
				line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", i*100))
				io.WriteString(in, line)
				r.until(t, "the line", func() bool { return strings.HasSuffix(s.got.String(), line) || s.end != nil })
				r.send(s, []byte("echo "+line), false)
				awaitLine(t, out, "echo "+line)
			}
			if version == tls.VersionTLS12 {
				io.WriteString(in, "R\n") // renegotiate: refused, for good
				r.until(t, "the refusal", func() bool { return s.end != nil })
				wantEnd(t, r, s, s.end)
				if s.end == io.EOF || s.end == ErrTruncated {
					t.Errorf("renegotiation ended with %v", s.end)
				}
				return
			}
			in.Close()
			wantEnd(t, r, s, io.EOF)
		})
	}
}

func awaitLine(t *testing.T, out *bufio.Reader, want string) {
	t.Helper()
	for {
		got, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if got == want {
			return
		}
	}
}

// TestTLSOpenSSLServer: s_server turns lines around.
func TestTLSOpenSSLServer(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			r := startRig(t)
			cert, key := certFiles(t)
			_, out := openssl(t, "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-cert", cert, "-key", key, "-rev")
			var port uint16
			for port == 0 {
				line, err := out.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				fmt.Sscanf(line, "ACCEPT 127.0.0.1:%d", &port)
			}
			s := &stream{}
			r.do(func() {
				raw, err := Dial(r.Worker, loopback(port), s)
				if err != nil {
					t.Fatal(err)
				}
				s.t = DialTLS(r.h, raw, clientConfig(version))
				s.pump()
			})
			t.Cleanup(func() { r.do(s.t.Close) })
			r.send(s, []byte("abcdef\n"), false)
			r.until(t, "the answer", func() bool { return s.got.String() == "fedcba\n" || s.failed != nil || s.end != nil })
			r.do(func() {
				if s.got.String() != "fedcba\n" {
					t.Errorf("got %q, %v, %v", &s.got, s.failed, s.end)
				}
			})
		})
	}
}

// FuzzTLSServer feeds a server's socket, in two pieces.
func FuzzTLSServer(f *testing.F) {
	hello := clientHello(f)
	f.Add(hello, uint16(0))
	f.Add(hello, uint16(3))
	f.Add(append(bytes.Clone(hello), hello...), uint16(700))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint16(5))
	f.Add([]byte{22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 3, 0, 0, 0}, uint16(6))
	f.Add([]byte{21, 3, 1, 0, 2, 1, 0}, uint16(1))
	r := startRig(f)
	cfg := serverConfig(0)
	f.Fuzz(func(t *testing.T, p []byte, cut uint16) {
		p = p[:min(len(p), 64<<10)]
		at := min(int(cut), len(p))
		r.do(func() {
			fd, peer := socketPair(t)
			defer eventloop.Close(peer)
			s := &stream{}
			raw, err := Accept(r.Worker, fd, s)
			if err != nil {
				t.Fatal(err)
			}
			s.t = AcceptTLS(r.h, raw, nil, cfg)
			for _, piece := range [][]byte{p[:at], p[at:]} {
				eventloop.Send(peer, piece)
				for range 20 {
					r.h.spent = 0
					raw.HandleEvents(eventloop.In)
				}
			}
			eventloop.ShutdownWrite(peer)
			raw.HandleEvents(eventloop.In | eventloop.RdHup)
			if s.failed == nil && !raw.Readable() {
				t.Error("neither failed nor readable after the end")
			}
			s.t.Close()
			if used, _ := r.BufferStats(); used != 0 || r.h.Open() != 0 {
				t.Errorf("%d bytes lent, %d open", used, r.h.Open())
			}
		})
	})
}
