package test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"belay/test/harness"
)

// What a client claims of certificates does not reach the endpoint over a plain
// connection either, not from a trusted proxy, and not in a trailer.
func TestTLSClaimsOfCertificates(t *testing.T) {
	t.Parallel()
	s := &site{listener: "trusted_proxies = [\"127.0.0.0/8\"]", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	claims := []string{"X-Forwarded-Client-Cert: Hash=00", "X-Forwarded-Client-Cert: Hash=01", "Client-Cert: :AAAA:", "client-cert-chain: :AAAA:"}
	r := harness.Get(t, s.addr, "/", "a", append(claims, "X-Forwarded-Proto: https", "X-Other: 1")...)
	wantStatus(t, r, 200)
	want(t, r.Body, "X-Other: 1", "X-Forwarded-Proto: https")
	wantNot(t, r.Body, "Hash=", "AAAA")
	r = harness.Dial(t, s.addr).Send(harness.Request("POST", "/", "a", "Transfer-Encoding: chunked", "Trailer: Client-Cert") +
		"1\r\nx\r\n0\r\n" + strings.Join(claims, "\r\n") + "\r\nX-Sum: 1\r\n\r\n").Reply("POST")
	wantStatus(t, r, 200)
	want(t, r.Body, "X-Sum: 1")
	wantNot(t, r.Body, "Hash=", "AAAA")
}

// The endpoint is told of the certificates that verified the client, and not of
// what else the client sent; on all requests of a connection alike.
func TestTLSForwardedChain(t *testing.T) {
	t.Parallel()
	a, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	client := a.Issue(harness.Leaf{Name: "good", URI: "spiffe://test/app"})
	client.Certificate.Certificate = append(client.Certificate.Certificate, stranger.Cert.Raw)
	s, d := mutual(t, a, fmt.Sprintf("mode = \"require\"\nca = %q\nforward = \"append_forward\"\nforward_details = [\"chain\"]\nclient_cert_header = true", a.File))
	c, _ := secure(t, s.addr, shows(a, client, "a.example"))
	for i, came := range []string{"", "By=spiffe://other;Hash=00", `Subject="not closed`, ""} {
		fields := []string{"X-Forwarded-Client-Cert: " + came}
		if came == "" {
			fields = nil
		}
		r := c.Do("GET", fmt.Sprint("/", i), "a.example", fields...)
		wantStatus(t, r, 200)
		value := harness.Field(r.Body, "X-Forwarded-Client-Cert")
		if own := strings.TrimPrefix(value, "By=spiffe://other;Hash=00,"); !strings.HasPrefix(own, "By=spiffe://test/server;Hash=") || (own != value) != (i == 1) {
			t.Errorf("%q becomes %q", came, value)
		}
		if n := strings.Count(value, "BEGIN%20CERTIFICATE"); n != 1 {
			t.Errorf("%d certificates are forwarded, want the one that was verified", n)
		}
		want(t, r.Body, "Client-Cert: :MII")
		wantNot(t, r.Body, "Client-Cert-Chain")
	}
	if rec := d.WaitPath("/3"); rec.Str("tls_client_subject") != "CN=good" || rec.Str("tls_alpn") != "" {
		t.Errorf("record %v", rec)
	}
}

// Redirects and what endpoints hear of scheme and TLS follow the connection; who is not
// trusted does not choose it.
func TestTLSScheme(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	client := a.Issue(harness.Leaf{Name: `client, "the"`})
	plain := harness.Addr(t)
	routes := "[[listener.%s.route]]\npath = \"/old\"\nredirect = { host = \"b.example\", status = 301 }\n"
	const header = "request_headers = { set = { X-Scheme = \"%{scheme}\", X-TLS = \"%{tls_version}/%{tls_sni}/%{tls_client_subject}\" } }\n"
	s := &site{
		route:  header,
		tables: "[listener.web.tls]\ncertificates = [" + pairOf(server) + "]\n" + fmt.Sprintf("[listener.web.tls.client_certificate]\nmode = \"request\"\nca = %q\n", a.File),
		routes: fmt.Sprintf(routes, "web"), endpoints: []string{harness.NewEcho(t, "a").Addr},
		more: fmt.Sprintf("[listener.plain]\naddress = %q\n", plain) + fmt.Sprintf(routes, "plain") + "[[listener.plain.route]]\ncluster = \"back\"\n" + header,
	}
	serve(t, s)
	overTLS, _ := secure(t, s.addr, shows(a, client, "a.example"))
	for scheme, c := range map[string]*harness.Conn{"https": overTLS, "http": harness.Dial(t, plain)} {
		about := map[string]string{"https": "1.3/a.example/CN=client\\, \\22the\\22", "http": "//"}[scheme]
		want(t, c.Do("GET", "/", "a.example", "X-Forwarded-Proto: gopher", "X-TLS: forged").Body,
			"X-Forwarded-Proto: "+scheme+"\r\n", "X-Scheme: "+scheme+"\r\n", "X-TLS: "+about+"\r\n")
		r := c.Do("GET", "/old", "a.example")
		wantStatus(t, r, http.StatusMovedPermanently)
		if got := r.Header.Get("Location"); got != scheme+"://b.example/old" {
			t.Errorf("%s: redirected to %q", scheme, got)
		}
	}
}

// cut ends a client's TCP connection without close_notify.
func cut(t *testing.T, s *tls.Conn) {
	t.Helper()
	if err := s.NetConn().(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// A client that ends with close_notify has said all it had to say, and is told what
// is missing; one whose connection merely ends is not answered.
func TestTLSTruncatedRequest(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	d := serve(t, s)
	cfg := &tls.Config{InsecureSkipVerify: true}
	for name, tt := range map[string]struct{ sent, ended, lost string }{
		"head": {"GET /head HTTP/1.1\r\nHost:", "truncated-head", ""},
		"body": {"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", "truncated-body", "client-abort"},
	} {
		c, state := secure(t, s.addr, cfg)
		c.Send(tt.sent)
		if err := state.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, c.Reply("GET"), 400)
		d.WaitRecord(name+" that ended", func(r harness.Record) bool { return r.Str("reason") == tt.ended })
		c, state = secure(t, s.addr, cfg)
		c.Send(tt.sent)
		cut(t, state)
		if b, err := io.ReadAll(state); len(b) > 0 {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		if tt.lost != "" {
			d.WaitRecord(name+" that was lost", func(r harness.Record) bool { return r.Str("reason") == tt.lost })
		}
	}
}

// The stream of an upgraded connection ends for the endpoint as it did for belay:
// cleanly only with close_notify.
func TestTLSTruncatedUpgrade(t *testing.T) {
	t.Parallel()
	ends := make(chan error, 1)
	backend := harness.NewBackend(t, func(p *harness.Peer) {
		if p.Head() == "" || p.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n") != nil {
			return
		}
		_, err := io.Copy(io.Discard, p.R)
		ends <- err
	})
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n", endpoints: []string{backend.Addr}}
	d := serve(t, s)
	for _, clean := range []bool{true, false} {
		c, state := secure(t, s.addr, &tls.Config{InsecureSkipVerify: true})
		wantStatus(t, c.Send(harness.Request("GET", fmt.Sprint("/", clean), "a", "Connection: upgrade", "Upgrade: x")).Reply("GET"), 101)
		c.Send("a part")
		if clean {
			if err := state.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		} else {
			cut(t, state)
		}
		if err := <-ends; (err == nil) != clean || !clean && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("with close_notify %t: the endpoint hears %v", clean, err)
		}
	}
	if rec := d.WaitPath("/false"); rec.Str("reason") != "client-abort" {
		t.Errorf("record %v", rec)
	}
}

// The access log tells of TLS what is known: all of a connection that belay
// terminates, the ClientHello of one that passes through or is refused, nothing of a
// plain one.
func TestTLSInTheLog(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example", "inner.example"}})
	client := a.Issue(harness.Leaf{Name: "client"})
	echo := tcpServer(t, echoTCP)
	inner := tcpServer(t, func(c *net.TCPConn) {
		x := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{server.Certificate}})
		_, _ = io.Copy(x, x)
	})
	addr, plain := harness.Addr(t), harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf("[listener.db]\naddress = %q\nprotocol = \"tcp\"\n", addr)+
		"[[listener.db.chain]]\nname = \"ours\"\nserver_names = [\"a.example\"]\ncluster = \"echo\"\n[listener.db.chain.tls]\nalpn = [\"x/1\"]\ncertificates = ["+pairOf(server)+"]\n"+
		fmt.Sprintf("[listener.db.chain.tls.client_certificate]\nmode = \"request\"\nca = %q\n", a.File)+
		"[[listener.db.chain]]\nname = \"theirs\"\nserver_names = [\"inner.example\"]\npassthrough = true\ncluster = \"inner\"\n"+
		fmt.Sprintf("[listener.plain]\naddress = %q\nprotocol = \"tcp\"\ncluster = \"echo\"\n", plain)+
		fmt.Sprintf("[cluster.echo]\n%s\n[cluster.inner]\n%s\n", endpoints(echo), endpoints(inner)))
	record := func(name string) harness.Record {
		return d.WaitRecord(name, func(r harness.Record) bool { return r.Str("tls_sni") == name })
	}
	cfg := shows(a, client, "a.example")
	cfg.NextProtos, cfg.ClientSessionCache = []string{"x/1"}, tls.NewLRUClientSessionCache(4)
	for resumed := range 2 {
		x, err := tlsDial(addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		echoes(t, x, "hello")
		_ = x.Close()
		r := d.WaitRecord("terminated", func(r harness.Record) bool {
			return r["tls_resumed"] == true || resumed == 0 && r.Str("tls_chain") == "ours"
		})
		for key, v := range map[string]string{
			"protocol": "TCP", "tls_version": "1.3", "tls_cipher": "TLS_AES_128_GCM_SHA256", "tls_group": "X25519MLKEM768", "tls_sni": "a.example",
			"tls_alpn": "x/1", "tls_client_subject": "CN=client", "tls_chain": "ours",
		} {
			if r.Str(key) != v && !(key == "tls_cipher" && strings.HasPrefix(r.Str(key), "TLS_")) {
				t.Errorf("%s is %q, want %q", key, r.Str(key), v)
			}
		}
		if took, _ := r["tls_handshake"].(float64); took <= 0 || took > 60 || !strings.HasPrefix(r.Str("tls_ja4"), "t13d") {
			t.Errorf("record %v", r)
		}
	}
	for name, why := range map[string]string{"inner.example": "", "elsewhere.example": "handshake-no-chain"} {
		if x, err := tlsDial(addr, names(a, name)); err == nil {
			echoes(t, x, "hello")
			_ = x.Close()
		}
		r := record(name)
		if chain := r.Str("tls_chain"); !strings.HasPrefix(r.Str("tls_ja4"), "t13d") || r["tls_version"] != nil || r["tls_handshake"] != nil || (chain == "theirs") != (why == "") || why != "" && r.Str("reason") != why {
			t.Errorf("record %v", r)
		}
	}
	x := dialTCP(t, plain)
	echoes(t, x, "hello")
	_ = x.Close()
	r := d.WaitRecord("plain", func(r harness.Record) bool { return r.Str("listener") == "plain" })
	for key := range r {
		if strings.HasPrefix(key, "tls") {
			t.Errorf("a plain connection has %s", key)
		}
	}
}
