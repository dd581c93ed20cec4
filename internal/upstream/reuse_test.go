package upstream

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"belay/internal/certs"
	"belay/internal/config"
)

// long is a name that no buffer on the stack holds.
const long = "a-name-that-is-longer-than-thirty-two-bytes.example"

// take asks for a connection that is idle; nil: there is none.
func (s *secured) take(name string) (c *Conn) {
	s.do(func() { c = s.pool.takeIdle(quiet{}, &Want{Name: []byte(name)}) })
	return c
}

// wantNotify: belay says that it ends the connection.
func wantNotify(t testing.TB, server *tls.Conn) {
	t.Helper()
	if n, err := server.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v; want close_notify", n, err)
	}
}

// TestTLSReuse: an idle connection serves who wants the name that it is verified
// for.
func TestTLSReuse(t *testing.T) {
	a := newAuthority(t)
	cfg := a.server(t, "a.example", "b.example", long)
	for _, tt := range []struct {
		name             string
		change           func(*config.ClusterTLS)
		of, wanted, sent string
		taken            bool
	}{
		{name: "the same", of: "a.example", wanted: "a.example", sent: "a.example", taken: true},
		{name: "in another case", of: "A.Example", wanted: "a.eXAMPLE", sent: "a.example", taken: true},
		{name: "another", of: "a.example", wanted: "b.example", sent: "a.example"},
		{name: "long", of: long, wanted: long, sent: long, taken: true},
		{name: "the endpoint's", of: "", wanted: "", taken: true}, // an address: verified, not sent
		{name: "the endpoint's by its name", of: "", wanted: "127.0.0.1", taken: true},
		{name: "the endpoint's, then another", of: "", wanted: "a.example"},
		{name: "fixed", change: func(c *config.ClusterTLS) { c.SNI, c.SNIFromHost = "a.example", false }, of: "x.example", wanted: "y.example", sent: "a.example", taken: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := hosts()
			if tt.change != nil {
				tt.change(set.TLS)
			}
			s := newSecured(t, set, certs.ClientOptions{ServerName: set.TLS.SNI, Server: certs.Trust{CA: a.file}})
			c, server := s.open(t, cfg, tt.of)
			if name := server.ConnectionState().ServerName; name != tt.sent {
				t.Errorf("server name %q was sent, want %q", name, tt.sent)
			}
			s.do(c.Release)
			if s.idle() != 1 {
				t.Fatal("the connection does not idle")
			}
			got := s.take(tt.wanted)
			if (got == c) != tt.taken {
				t.Errorf("taken: %t, want %t", got == c, tt.taken)
			}
			if got == nil {
				return
			}
			s.do(func() {
				if err := got.Handshake(); err != nil {
					t.Errorf("Handshake of one that stands: %v", err)
				}
			})
			s.exchange(t, got, server)
			s.do(got.Close)
			wantNotify(t, server)
		})
	}
}

// TestTLSReuseAllocs: as without TLS, a request that finds a connection allocates
// nothing.
func TestTLSReuseAllocs(t *testing.T) {
	a := newAuthority(t)
	s := newSecured(t, hosts(), certs.ClientOptions{Server: certs.Trust{CA: a.file}})
	for _, name := range []string{"other.example", long} {
		c, _ := s.open(t, a.server(t, name), name)
		s.do(c.Release)
	}
	var x answer
	s.do(func() {
		grant := x.grant
		want := Want{Name: []byte(strings.ToUpper(long)), Careful: true}
		if n := testing.AllocsPerRun(100, func() {
			c, _ := s.pool.Acquire(quiet{}, &x.Waiter, grant, &want)
			if err := c.Handshake(); err != nil {
				t.Error(err)
			}
			c.Release()
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
	s.want(t, counts{connects: 2, reused: 101, open: 2, idle: 2})
}

// TestTLSWaiting: a connection that is given back goes to who waits for its name;
// who waits for another gets a new one in its place.
func TestTLSWaiting(t *testing.T) {
	a := newAuthority(t)
	set := hosts()
	set.MaxConnections = 1
	cfg := a.server(t, "a.example", "b.example")
	s := newSecured(t, set, certs.ClientOptions{Server: certs.Trust{CA: a.file}})
	c, server := s.open(t, cfg, "a.example")
	var same, other driver
	s.begin(&same, Want{Name: []byte("A.example")})
	s.begin(&other, Want{Name: []byte("b.example")})
	s.do(c.Release)
	if err := s.finish(t, &same); err != nil || same.conn != c {
		t.Fatalf("the first who waits got %v, %v", same.conn, err)
	}
	s.do(c.Release)
	wantNotify(t, server)
	server = s.accept(t, cfg)
	if err := s.finish(t, &other); err != nil || other.conn == c {
		t.Fatalf("the second who waits got %v, %v", other.conn, err)
	}
	if name := server.ConnectionState().ServerName; name != "b.example" {
		t.Errorf("server name %q", name)
	}
	s.do(other.conn.Close)
}

// TestTLSNewPolicy: connections that were made under another policy are closed:
// those that idle, and the lent one when it comes back.
func TestTLSNewPolicy(t *testing.T) {
	a := newAuthority(t)
	mine := &certs.Fake{Label: "mine"}
	set := func(cn string) {
		i := a.issue(t, cn, time.Now().Add(time.Hour))
		mine.Set(i.chain, i.key, nil)
	}
	set("first")
	cfg := a.server(t, "a.example", "b.example")
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	s := newSecured(t, hosts(), certs.ClientOptions{Server: certs.Trust{CA: a.file}, Certificate: mine})
	idle, idleEnd := s.open(t, cfg, "a.example")
	other, otherEnd := s.open(t, cfg, "b.example")
	lent, lentEnd := s.open(t, cfg, "a.example")
	s.do(func() { idle.Release(); other.Release() })

	policy := s.tls.Client.PolicyID()
	set("second")
	s.until(t, "the new certificate", func() bool { return s.tls.Client.PolicyID() != policy })
	c, server := s.open(t, cfg, "a.example")
	if shown := server.ConnectionState(); shown.DidResume || shown.PeerCertificates[0].Subject.CommonName != "second" {
		t.Errorf("resumed %t, the endpoint saw %v", shown.DidResume, shown.PeerCertificates[0].Subject)
	}
	wantNotify(t, idleEnd)
	wantNotify(t, otherEnd)
	s.want(t, counts{connects: 4, idleClosed: 2, open: 2})
	s.do(lent.Release)
	wantNotify(t, lentEnd)
	s.do(c.Release)
	s.want(t, counts{connects: 4, idleClosed: 2, open: 1, idle: 1})
	if got := s.take("a.example"); got != c {
		t.Error("the connection of the new policy is not used again")
	}
}

// TestTLSIdle: what TLS says of its own accord is no data that nobody asked
// for; an end and data are.
func TestTLSIdle(t *testing.T) {
	a := newAuthority(t)
	s := newSecured(t, hosts(), certs.ClientOptions{Server: certs.Trust{CA: a.file}})
	var d driver
	s.begin(&d, Want{Name: []byte("a.example")})
	server := s.accept(t, a.server(t, "a.example"))
	if err := s.finish(t, &d); err != nil {
		t.Fatal(err)
	}
	s.do(d.conn.Release) // the tickets may come before or after
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if got := s.take("a.example"); got != d.conn {
		t.Fatal("the connection does not idle")
	}
	s.exchange(t, d.conn, server)
	s.do(d.conn.Release)
	if _, err := server.Write([]byte("HTTP/1.1 408")); err != nil {
		t.Fatal(err)
	}
	s.until(t, "data that nobody asked for", func() bool { return s.idle() == 0 })
	s.want(t, counts{connects: 1, reused: 1, idleClosed: 1})
}
