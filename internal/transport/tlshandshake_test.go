package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belay/internal/eventloop"
)

// clientHello is the first flight of Go's client.
func clientHello(t testing.TB) []byte {
	t.Helper()
	var rec recorder
	tls.Client(&rec, clientConfig(tls.VersionTLS13)).Handshake()
	if len(rec.sent) < 500 {
		t.Fatal("no hello")
	}
	return rec.sent
}

// recorder is a connection that keeps what is written and has ended.
type recorder struct {
	net.Conn
	sent []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.sent = append(r.sent, p...)
	return len(p), nil
}
func (r *recorder) Read([]byte) (int, error) { return 0, io.EOF }

// failing is one way for a handshake to fail, with the configurations changed
// or bytes in place of the peer's hello.
type failing struct {
	name   string
	client bool
	bytes  []byte
	edit   func(ours, theirs *tls.Config)
	want   Failure
	alert  uint8
}

func suites(ids ...uint16) []uint16 { return ids }

func only12(c ...*tls.Config) {
	for _, c := range c {
		c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	}
}

var failings = []failing{
	{name: "http", bytes: []byte("GET / HTTP/1.1\r\n\r\n"), want: FailedNotTLS},
	{name: "ssl2", bytes: []byte{0x80, 46, 1, 3, 1, 0, 0}, want: FailedNotTLS, alert: alertProtocolVersion},
	{name: "record too large", bytes: []byte{22, 3, 1, 0x7f, 0xff}, want: FailedTooLarge, alert: alertRecordOverflow},
	{name: "hello too large", bytes: []byte{22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff}, want: FailedTooLarge, alert: alertInternalError},
	{name: "server hello", bytes: []byte{22, 3, 1, 0, 4, 2, 0, 0, 0}, want: FailedProtocol, alert: 50},
	{name: "application data", bytes: []byte{23, 3, 3, 0, 1, 0}, want: FailedNotTLS},
	{name: "alert first", bytes: []byte{21, 3, 1, 0, 2, 2, 40}, want: FailedAlert, alert: alertHandshakeFailure},
	{name: "version", edit: func(ours, theirs *tls.Config) { only12(theirs) }, want: FailedVersion, alert: alertProtocolVersion},
	{name: "cipher", edit: func(ours, theirs *tls.Config) {
		only12(ours, theirs)
		ours.CipherSuites = suites(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
		theirs.CipherSuites = suites(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)
	}, want: FailedCipher, alert: alertHandshakeFailure},
	{name: "group", edit: func(ours, theirs *tls.Config) {
		ours.CurvePreferences = []tls.CurveID{tls.X25519}
		theirs.CurvePreferences = []tls.CurveID{tls.CurveP256}
	}, want: FailedCipher, alert: alertHandshakeFailure},
	{name: "protocol", edit: func(ours, theirs *tls.Config) {
		ours.NextProtos, theirs.NextProtos = []string{"h2"}, []string{"postgresql"}
	}, want: FailedALPN, alert: alertNoApplicationProtocol},
	{name: "no certificate of ours", edit: func(ours, theirs *tls.Config) {
		ours.Certificates = nil
		ours.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
	}, want: FailedName, alert: alertUnrecognizedName},
	{name: "callback", edit: func(ours, theirs *tls.Config) {
		ours.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, io.ErrNoProgress }
	}, want: FailedInternal, alert: alertInternalError},
	{name: "no client certificate", edit: func(ours, theirs *tls.Config) { ours.ClientAuth = tls.RequireAnyClientCert }, want: FailedNoCertificate},
	{name: "no client certificate 1.2", edit: func(ours, theirs *tls.Config) {
		only12(ours, theirs)
		ours.ClientAuth = tls.RequireAnyClientCert
	}, want: FailedNoCertificate, alert: alertHandshakeFailure},
	{name: "bad client certificate", edit: func(ours, theirs *tls.Config) {
		ours.ClientAuth, ours.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		cert, _ := testCert()
		theirs.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}, want: FailedCertificate},
	{name: "verifier", edit: func(ours, theirs *tls.Config) {
		ours.VerifyConnection = func(tls.ConnectionState) error {
			return &tls.CertificateVerificationError{Err: io.ErrNoProgress}
		}
	}, want: FailedCertificate},
	{name: "client refuses us", edit: func(ours, theirs *tls.Config) { theirs.RootCAs = x509.NewCertPool() }, want: FailedAlert, alert: alertBadCertificate},
	{name: "client closes", bytes: []byte{22, 3, 1, 2, 0, 1, 0, 1, 200, 3, 3}, want: FailedClosed},
	{name: "refused server certificate", client: true, edit: func(ours, theirs *tls.Config) { ours.RootCAs = x509.NewCertPool() }, want: FailedCertificate},
	{name: "server refuses", client: true, edit: func(ours, theirs *tls.Config) { only12(ours) }, want: FailedAlert, alert: alertProtocolVersion},
	{name: "server speaks http", client: true, bytes: []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), want: FailedNotTLS},
	{name: "server closes", client: true, bytes: []byte{22}, want: FailedClosed},
}

// TestHandshakeFailures sorts each and tells the peer.
func TestHandshakeFailures(t *testing.T) {
	for _, tt := range failings {
		t.Run(tt.name, func(t *testing.T) {
			r := startRig(t)
			ours, theirs := serverConfig(tls.VersionTLS13), clientConfig(tls.VersionTLS13)
			if tt.client {
				ours, theirs = theirs, ours
			}
			if tt.edit != nil {
				tt.edit(ours, theirs)
			}
			s, peer, raw := r.pair(t, tt.client, ours, theirs, 0)
			go func() {
				if tt.bytes == nil {
					if peer.Handshake() == nil {
						peer.Read(make([]byte, 1))
					}
					return
				}
				raw.Write(tt.bytes)
				raw.(*net.UnixConn).CloseWrite()
			}()
			r.until(t, "the failure", func() bool { return s.open || s.failed != nil })
			r.do(func() {
				var e *HandshakeError
				if !errors.As(s.failed, &e) {
					t.Fatalf("Handshake: %v", s.failed)
				}
				if e.Reason != tt.want || e.Alert != tt.alert {
					t.Errorf("%v: %v, alert %d; want %v, alert %d", e, e.Reason, e.Alert, tt.want, tt.alert)
				}
				if err := s.t.Handshake(); err != s.failed {
					t.Errorf("Handshake again: %v", err)
				}
				if n, err := s.t.Read(s.buf[:]); n != 0 || err != s.failed {
					t.Errorf("Read = %d, %v", n, err)
				}
				if n, err := s.t.Write([]byte("x"), nil); n != 0 || err != s.failed {
					t.Errorf("Write = %d, %v", n, err)
				}
				s.t.Close()
			})
			r.wantIdle(t)
		})
	}
}

func TestFailureNames(t *testing.T) {
	seen := map[string]bool{}
	for f := range Failures {
		if s := f.String(); s == "" || seen[s] {
			t.Errorf("failure %d is called %q", f, s)
		}
		seen[f.String()] = true
	}
}

// TestHandshakesTakeTurns: however many hellos are there, a turn works off only
// so many, in the order in which they came; one that closed is passed over.
func TestHandshakesTakeTurns(t *testing.T) {
	r := startRig(t)
	const n, gone = 23, 9
	hello := clientHello(t)
	var order []int
	perTurn := map[uint64]int{}
	streams := make([]*stream, n)
	for i := range streams {
		fd, peerFD := socketPair(t)
		t.Cleanup(func() { eventloop.Close(peerFD) })
		cfg := serverConfig(tls.VersionTLS13)
		cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			order = append(order, i)
			perTurn[r.Turns()]++
			return nil, nil
		}
		s := &stream{}
		streams[i] = s
		raw := accept(t, r.loop, fd, s)
		say(t, peerFD, string(hello))
		r.until(t, "the hello", raw.Readable)
		r.do(func() { s.t = AcceptTLS(r.h, raw, nil, cfg) })
		t.Cleanup(func() { r.do(s.t.Close) })
	}
	r.do(func() {
		for _, s := range streams {
			s.pump()
		}
		if r.h.Open() != n || r.h.Waiting() != n-defaultSteps {
			t.Errorf("%d open, %d waiting", r.h.Open(), r.h.Waiting())
		}
		streams[gone].t.Close()
	})
	r.until(t, "all hellos", func() bool { return len(order) == n-1 })
	r.do(func() {
		if slices.Contains(order, gone) || !slices.IsSorted(order) {
			t.Errorf("order %v", order)
		}
		for turn, k := range perTurn {
			if k > defaultSteps {
				t.Errorf("%d handshakes in turn %d", k, turn)
			}
		}
	})
}

// TestHandshakesAbandoned: ten thousand that stop in the middle leave nothing.
func TestHandshakesAbandoned(t *testing.T) {
	r := startRig(t)
	hello := clientHello(t)
	cfg := serverConfig(tls.VersionTLS13)
	runtime.GC()
	goroutines := runtime.NumGoroutine()
	const together = 200
	for round := range 50 {
		part := hello[:1+round*(len(hello)-1)/49] // up to all of it: then the flight is out and no answer comes
		r.do(func() {
			var streams [together]*stream
			var fds [together]int
			for i := range streams {
				fd, peer := socketPair(t)
				s := &stream{}
				raw, err := Accept(r.Worker, fd, s)
				if err != nil {
					t.Fatal(err)
				}
				say(t, peer, string(part))
				raw.flags |= rawReadable
				s.t = AcceptTLS(r.h, raw, nil, cfg)
				r.h.spent = 0
				s.pump()
				if s.t.co == nil {
					t.Fatal("no handshake runs")
				}
				streams[i], fds[i] = s, peer
			}
			if r.h.Open() != together {
				t.Errorf("%d open", r.h.Open())
			}
			for i, s := range streams {
				if i%2 == 0 {
					s.t.Close()
				} else {
					s.t.Reset()
				}
				eventloop.Close(fds[i])
			}
		})
		r.wantIdle(t)
	}
	r.do(func() {
		if len(r.h.idle) != maxIdle {
			t.Errorf("%d coroutines kept", len(r.h.idle))
		}
		r.h.Close()
	})
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
		}
	}
}

// TestSilentClientCostsNothing: without a byte there is neither a coroutine nor
// a connection of crypto/tls.
func TestSilentClientCostsNothing(t *testing.T) {
	r := startRig(t)
	fd, peer := socketPair(t)
	s := r.serve(t, fd, serverConfig(tls.VersionTLS13))
	r.do(func() {
		if s.t.co != nil || s.t.conn != nil || r.h.Open() != 1 {
			t.Error("the handshake has begun")
		}
	})
	unix.Dup3(2, peer, unix.O_CLOEXEC)
	r.until(t, "the end", func() bool { return s.failed != nil })
	unix.Close(peer)
}

// TestTLSState, full and resumed, of both ends.
func TestTLSState(t *testing.T) {
	onModes(t, func(t *testing.T, r rig, m mode) {
		server, client := serverConfig(m.version), clientConfig(m.version)
		cert, pool := testCert()
		server.NextProtos, client.NextProtos = []string{"a", "b"}, []string{"b"}
		server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, pool
		client.Certificates = []tls.Certificate{cert}
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		ours, theirs := server, client
		if m.client {
			ours, theirs = theirs, ours
		}
		for _, resumed := range []bool{false, true} {
			s, peer, _ := r.pair(t, m.client, ours, theirs, 0)
			r.do(func() {
				if s.t.State() != nil {
					t.Error("a state before the handshake")
				}
			})
			shake(t, r, s, peer)
			r.send(s, []byte("x"), false)
			peer.Write([]byte("y"))
			peer.Read(make([]byte, 1)) // the ticket, too
			r.until(t, "data", func() bool { return s.got.Len() > 0 })
			r.do(func() {
				i := s.t.State()
				if i.Version != m.version || i.CipherSuite == 0 || i.ALPN != "b" || i.ServerName != "localhost" || i.Resumed != resumed ||
					len(i.PeerCertificates) != 1 || i.Duration <= 0 || i != s.t.State() || i.Curve == 0 && !resumed {
					t.Errorf("state %+v", *i)
				}
				s.t.Close()
			})
			peer.Close()
		}
	})
}

// TestTLSServerAgainstTLSClient: our two ends on one worker.
func TestTLSServerAgainstTLSClient(t *testing.T) {
	r := startRig(t)
	a, b := tcpPair(t)
	server := r.serve(t, a, serverConfig(tls.VersionTLS13))
	client := r.dial(t, b, clientConfig(tls.VersionTLS13))
	r.send(client, payload(3<<20), true)
	r.send(server, payload(2<<20), true)
	wantEnd(t, r, server, io.EOF)
	wantEnd(t, r, client, io.EOF)
	r.do(func() {
		if !bytes.Equal(server.got.Bytes(), payload(3<<20)) || !bytes.Equal(client.got.Bytes(), payload(2<<20)) {
			t.Errorf("got %d and %d bytes", server.got.Len(), client.got.Len())
		}
	})
	r.wantIdle(t)
}

// TestDialTLSConnects: the handshake waits for connect(2), and tells its error
// as it is.
func TestDialTLSConnects(t *testing.T) {
	r := startRig(t)
	fd, err := eventloop.Listen(loopback(0), eventloop.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	at, _ := eventloop.LocalAddr(fd)
	start := func() *stream {
		s := &stream{}
		r.do(func() {
			raw, err := Dial(r.Worker, eventloop.Address{AP: at}, s)
			if err != nil {
				t.Fatal(err)
			}
			s.t = DialTLS(r.h, raw, clientConfig(tls.VersionTLS13))
			s.pump()
		})
		t.Cleanup(func() { r.do(s.t.Close) })
		return s
	}
	client := start()
	nfd, _, errno := eventloop.Accept(fd)
	if errno != 0 {
		t.Fatal(errno)
	}
	eventloop.Close(fd)
	server := r.serve(t, nfd, serverConfig(tls.VersionTLS13))
	r.until(t, "both ends", func() bool { return client.open && server.open })
	refused := start()
	r.until(t, "the refusal", func() bool { return refused.failed != nil })
	r.do(func() {
		var e *HandshakeError
		if errors.As(refused.failed, &e) {
			t.Errorf("a refused connection is a TLS failure: %v", e)
		}
		refused.t.Close()
	})
	r.wantIdle(t)
}
