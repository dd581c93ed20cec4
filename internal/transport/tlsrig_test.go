package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"belay/internal/eventloop"
)

// testCert is a certificate for localhost that is its own authority.
var testCert = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "belay test"},
		DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
})

func serverConfig(version uint16) *tls.Config {
	cert, _ := testCert()
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version, DynamicRecordSizingDisabled: true}
}

func clientConfig(version uint16) *tls.Config {
	_, pool := testCert()
	return &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: version, MaxVersion: version, DynamicRecordSizingDisabled: true}
}

// stream is an Owner that shakes hands, reads all there is and sends what it
// has. Its fields are the worker's.
type stream struct {
	t      *TLS
	got    bytes.Buffer
	left   []byte // to send
	fin    bool   // CloseWrite after that
	open   bool
	failed error
	end    error // of reading
	broken error // of writing
	paused bool
	outs   int
	hook   func()
	buf    [32 << 10]byte
}

func (s *stream) Ready(ev eventloop.Events) {
	if ev&eventloop.Out != 0 {
		s.outs++
	}
	if s.hook != nil {
		s.hook()
	}
	s.pump()
}

func (s *stream) pump() {
	if s.t == nil || s.failed != nil || s.t.flags&tlsClosed != 0 {
		return
	}
	if !s.open {
		switch err := s.t.Handshake(); {
		case errors.Is(err, ErrAgain):
			return
		case err != nil:
			s.failed = err
			return
		}
		s.open = true
	}
	s.read()
	s.write()
}

func (s *stream) read() {
	for !s.paused && s.end == nil {
		n, err := s.t.Read(s.buf[:])
		s.got.Write(s.buf[:n])
		if n > 0 && err != nil {
			panic("n > 0 with an error")
		}
		if err == ErrAgain {
			return
		}
		s.end = err
	}
}

func (s *stream) write() {
	for len(s.left) > 0 && s.broken == nil {
		half := len(s.left) / 3
		n, err := s.t.Write(s.left[:half], s.left[half:])
		s.left = s.left[n:]
		s.broken = err
		if len(s.left) > 0 {
			return
		}
	}
	if s.fin && s.broken == nil {
		s.fin = false
		s.broken = s.t.CloseWrite()
	}
}

// rig is a worker with its handshakes.
type rig struct {
	loop
	h *Handshakes
}

func startRig(t testing.TB) rig {
	l := startLoop(t)
	r := rig{l, NewHandshakes(l.Worker, 0)}
	t.Cleanup(func() { l.do(r.h.Close) })
	return r
}

// serve puts a server's end on fd.
func (r rig) serve(t testing.TB, fd int, cfg *tls.Config) *stream {
	s := &stream{}
	raw := accept(t, r.loop, fd, s)
	r.do(func() {
		s.t = AcceptTLS(r.h, raw, nil, cfg)
		s.pump()
	})
	t.Cleanup(func() { r.do(s.t.Close) })
	return s
}

// dial puts a client's end on fd, which is connected.
func (r rig) dial(t testing.TB, fd int, cfg *tls.Config) *stream {
	s := &stream{}
	raw := accept(t, r.loop, fd, s)
	r.do(func() {
		s.t = DialTLS(r.h, raw, cfg)
		s.pump()
	})
	t.Cleanup(func() { r.do(s.t.Close) })
	return s
}

// send has the stream send p.
func (r rig) send(s *stream, p []byte, fin bool) {
	r.do(func() {
		s.left, s.fin = append(s.left, p...), fin
		s.pump()
	})
}

// blocking is fd as a net.Conn.
func blocking(t testing.TB, fd int) net.Conn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "peer")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// drip is a connection that writes size bytes at a time, each of which the
// worker has seen before the next one.
type drip struct {
	net.Conn
	l    loop
	size int
}

func (d drip) Write(p []byte) (int, error) {
	for i := 0; i < len(p); i += d.size {
		if _, err := d.Conn.Write(p[i:min(len(p), i+d.size)]); err != nil {
			return i, err
		}
		d.l.do(func() {})
	}
	return len(p), nil
}

// pair is a server's or client's stream of ours and a peer of Go's crypto/tls
// at the other end of a Unix socket pair.
func (r rig) pair(t testing.TB, client bool, ours, theirs *tls.Config, dripSize int) (*stream, *tls.Conn, net.Conn) {
	t.Helper()
	fd, peerFD := socketPair(t)
	c := blocking(t, peerFD)
	var under net.Conn = c
	if dripSize > 0 {
		under = drip{c, r.loop, dripSize}
	}
	if client {
		s := r.dial(t, fd, ours)
		return s, tls.Server(under, theirs), c
	}
	s := r.serve(t, fd, ours)
	return s, tls.Client(under, theirs), c
}

// mode is one way to be an end of a connection.
type mode struct {
	name    string
	version uint16
	client  bool
}

var modes = []mode{
	{"server 1.2", tls.VersionTLS12, false},
	{"server 1.3", tls.VersionTLS13, false},
	{"client 1.2", tls.VersionTLS12, true},
	{"client 1.3", tls.VersionTLS13, true},
}

func (m mode) pair(t testing.TB, r rig, dripSize int) (*stream, *tls.Conn, net.Conn) {
	ours, theirs := serverConfig(m.version), clientConfig(m.version)
	if m.client {
		ours, theirs = theirs, ours
	}
	return r.pair(t, m.client, ours, theirs, dripSize)
}

// onModes runs f for both versions and both ends.
func onModes(t *testing.T, f func(t *testing.T, r rig, m mode)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) { f(t, startRig(t), m) })
	}
}

func payload(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * i >> 7)
	}
	return p
}

// shake has the peer finish its handshake and waits for ours.
func shake(t testing.TB, r rig, s *stream, peer *tls.Conn) {
	t.Helper()
	if err := peer.Handshake(); err != nil {
		t.Fatal(err)
	}
	r.until(t, "the handshake", func() bool { return s.open || s.failed != nil })
	r.do(func() {
		if s.failed != nil {
			t.Fatal(s.failed)
		}
	})
}

// wantEnd waits for the end of our reading.
func wantEnd(t testing.TB, r rig, s *stream, want error) {
	t.Helper()
	r.until(t, "the end", func() bool { return s.end != nil })
	r.do(func() {
		if !errors.Is(s.end, want) {
			t.Errorf("the stream ended with %v, want %v", s.end, want)
		}
		if n, err := s.t.Read(s.buf[:]); n != 0 || err != s.end {
			t.Errorf("Read after the end = %d, %v", n, err)
		}
	})
}

// wantIdle wants no buffer lent once everything is said.
func (r rig) wantIdle(t testing.TB) {
	t.Helper()
	r.do(func() {
		if used, _ := r.BufferStats(); used != 0 {
			t.Errorf("%d bytes of buffers are lent", used)
		}
		if r.h.Open() != 0 || r.h.Waiting() != 0 || r.h.Lingering() != 0 {
			t.Errorf("%d open, %d waiting, %d lingering", r.h.Open(), r.h.Waiting(), r.h.Lingering())
		}
	})
}

// exchange has the peer send p and read to the end meanwhile.
func exchange(t testing.TB, peer *tls.Conn, p []byte) []byte {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := peer.Write(p)
		if err == nil {
			err = peer.CloseWrite()
		}
		sent <- err
	}()
	got, err := io.ReadAll(peer)
	if err != nil {
		t.Error(err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	return got
}
