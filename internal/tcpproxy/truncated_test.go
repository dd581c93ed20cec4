package tcpproxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/ratelog"
	"belay/internal/transport"
	"belay/internal/upstream"
)

// secure gives the proxy's cluster a TLS that verifies nothing.
func (p *proxy) secure(t *testing.T) {
	t.Helper()
	client, err := certs.NewStore(certs.Options{}).Client(certs.ClientOptions{Name: "back", ServerName: "a.example", Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	p.do(func() {
		x := p.w.clusters[0]
		x.shared.Config.TLS = &config.ClusterTLS{SNI: "a.example"}
		x.tls = &upstream.TLS{Client: client, Configs: client.Worker(), Stats: p.tls, Log: slog.New(slog.DiscardHandler), Said: &ratelog.Lines[string]{}}
		x.env.Handshakes = transport.NewHandshakes(p.loop, 0)
	})
}

// tcpClient is a client that comes over TCP, which has a reset.
func (p *proxy) tcpClient(t *testing.T) *net.TCPConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	_ = client.SetDeadline(time.Now().Add(20 * time.Second))
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ours := -1
	_ = raw.Control(func(fd uintptr) { ours, _, _ = eventloop.Accept(int(fd)) })
	p.do(func() { p.serve(ours) })
	return client.(*net.TCPConn)
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// cutter is an endpoint that sends size bytes and ends, with close_notify or without.
func cutter(t *testing.T, cfg *tls.Config, size int, notify bool) string {
	return backend(t, func(c *net.UnixConn) {
		s := tls.Server(c, cfg)
		if _, err := s.Write(make([]byte, size)); err != nil {
			t.Error(err)
		}
		if notify {
			_ = s.CloseWrite()
			_, _ = s.Read(make([]byte, 1))
		}
	})
}

// TestTruncated: a client is given all that an endpoint sent. It hears of a clean
// end if the endpoint's TLS has one, and else of a reset.
func TestTruncated(t *testing.T) {
	cfg := selfSigned(t)
	for _, tt := range []struct {
		name   string
		size   int
		slow   bool // the client reads when the endpoint has ended
		notify bool
		ending ending
	}{
		{"whole", 100, false, true, endFinished},
		{"cut", 100, false, false, endUpstreamTruncated},
		{"cut, much", 4 << 20, false, false, endUpstreamTruncated},
		{"cut, slow", inKernel, true, false, endUpstreamTruncated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startProxy(t, cutter(t, cfg, tt.size, tt.notify), 0)
			p.secure(t)
			client := p.tcpClient(t)
			if tt.slow {
				p.until(t, "the endpoint has ended", func() bool { return len(p.w.conns) == 1 && p.w.conns[0].state == connParting })
			}
			n, err := io.Copy(io.Discard, client)
			if int(n) != tt.size || tt.notify != (err == nil) || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client got %d bytes of %d, %v", n, tt.size, err)
			}
			_ = client.Close()
			p.until(t, "the connection has ended", func() bool { return p.w.Connections() == 0 })
			p.wantEnding(t, tt.ending)
		})
	}
}

// inKernel is more than a client's kernel takes, and less than ours keeps for it.
const inKernel = 256 << 10

// TestParting: who waits for a client that takes nothing does so for a while, and
// not for one that is gone.
func TestParting(t *testing.T) {
	cfg := selfSigned(t)
	for _, tt := range []struct {
		name string
		end  func(p *proxy, client *net.TCPConn)
	}{
		{"no progress", func(p *proxy, _ *net.TCPConn) {
			p.do(func() {
				c := p.w.conns[0]
				c.HandleTimer(nil)
				if c.state != connParting {
					t.Error("ended while there is time")
				}
				c.parting.since -= int64(partTime)
				c.HandleTimer(nil)
			})
		}},
		{"gone", func(_ *proxy, client *net.TCPConn) {
			_ = client.SetLinger(0)
			_ = client.Close()
		}},
		{"stopped", func(p *proxy, _ *net.TCPConn) { p.do(p.w.Abort) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startProxy(t, cutter(t, cfg, inKernel, false), 0)
			p.secure(t)
			client := p.tcpClient(t)
			p.until(t, "the endpoint has ended", func() bool { return len(p.w.conns) == 1 && p.w.conns[0].state == connParting })
			tt.end(p, client)
			p.until(t, "the connection has ended", func() bool { return p.w.Connections() == 0 })
			if tt.name != "stopped" {
				p.wantEnding(t, endUpstreamTruncated)
			}
		})
	}
}

func (p *proxy) wantEnding(t *testing.T, why ending) {
	t.Helper()
	p.do(func() {
		if n := p.shard.Value(p.plan.Stats.Ended[why]); n != 1 {
			t.Errorf("%d connections ended as %s", n, why)
		}
	})
}

// until asks on the worker, turn by turn, until the answer is yes.
func (p *proxy) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end, yes := time.Now().Add(5*time.Second), false; ; runtime.Gosched() {
		if p.do(func() { yes = cond() }); yes {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
