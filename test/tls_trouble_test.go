package test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"belay/test/harness"
)

// A thousand clients that send half a hello harm nobody, and end when
// timeouts.handshake says.
func TestTLSSlowHandshakes(t *testing.T) {
	t.Parallel()
	plain := harness.Addr(t)
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n[listener.web.timeouts]\nhandshake = \"2s\"\n", routes: fmt.Sprintf(respond, "x"),
		more: fmt.Sprintf("[server.tls]\nmax_handshakes_per_source = 0\n[listener.plain]\naddress = %q\n[[listener.plain.route]]\nrespond = { status = 200, body = \"p\" }\n", plain)}
	d := serve(t, s)
	kept, _ := secure(t, s.addr, &tls.Config{InsecureSkipVerify: true})
	half := recordedHello(t, "a.example")
	half = half[:len(half)/2]
	var wg sync.WaitGroup
	for range 1000 {
		c, err := net.DialTimeout("tcp", s.addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = c.Write(half)
			if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("half a hello: %v", err)
			}
		})
	}
	for range 50 {
		wantStatus(t, kept.Do("GET", "/", "a"), 200)
		wantStatus(t, harness.Get(t, plain, "/", "a"), 200)
		c, state := secure(t, s.addr, &tls.Config{InsecureSkipVerify: true})
		wantStatus(t, c.Do("GET", "/", "a"), 200)
		_ = state.Close()
	}
	wg.Wait()
	wantFailure(t, d, "timeout", 1000)
	if n, _ := d.Metric("belay_handshakes_open"); n != 0 {
		t.Errorf("%v handshakes are open", n)
	}
}

// The limits: one source may not have all places, and when all are taken the oldest
// gives way.
func TestTLSHandshakeLimits(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n", routes: fmt.Sprintf(respond, "x"), more: "[server]\nworkers = 1\n[server.tls]\nmax_handshakes_per_source = 3\nmax_handshakes = 5\n"}
	d := serve(t, s)
	from := func(source string) *harness.Conn { return harness.DialFrom(t, source, s.addr).Send("\x16") }
	for range 3 {
		from("127.0.0.1")
	}
	if c, err := harness.TryDial("127.0.0.1", s.addr); err == nil { // else it was reset sooner
		if _, reset := harness.Wrap(t, c).Rest(); !reset {
			t.Error("the fourth of a source is not reset")
		}
	}
	wantFailure(t, d, "source-limit", 1)
	from("127.0.0.2")
	from("127.0.0.3")
	from("127.0.0.4")
	wantFailure(t, d, "shed", 1)
	harness.Eventually(t, patience, "five are open", func() bool {
		n, _ := d.Metric("belay_handshakes_open")
		return n == 5
	})
	if c, err := tlsDial(s.addr, &tls.Config{InsecureSkipVerify: true}); err != nil { // the oldest has gone, 127.0.0.1 has a place again
		t.Errorf("a client of a full house: %v", err)
	} else {
		_ = c.Close()
	}
}

// A body that ends without close_notify is not whole.
func TestTLSTruncation(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	// An endpoint whose reply ends with the connection, with close_notify or without.
	backend := tcpServer(t, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{server.Certificate}})
		b := make([]byte, 4096)
		n, _ := s.Read(b)
		_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")
		if strings.Contains(string(b[:n]), "/whole") {
			_ = s.CloseWrite()
		}
		_ = c.Close()
	})
	s := &site{endpoints: []string{backend}, cluster: fmt.Sprintf("[cluster.back.tls]\nca = %q\nsni = \"a.example\"\n", a.File),
		tables: "[listener.web.tls]\ncertificates = [" + pairOf(server) + "]\n"}
	d := serve(t, s)
	c, _ := secure(t, s.addr, names(a, "a.example"))
	want(t, c.Do("GET", "/whole", "a").Body, "all of it")
	c, _ = secure(t, s.addr, names(a, "a.example"))
	if r, err := c.Send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n").TryReply("GET"); err == nil {
		t.Errorf("a reply that was cut is whole: %q", r.Body)
	}
	if rec := d.WaitPath("/cut"); rec["reason"] != "upstream-truncated" {
		t.Errorf("record %v", rec)
	}
	raw, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	half := tls.Client(raw, names(a, "a.example"))
	_, _ = io.WriteString(half, "POST /half HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	_ = raw.Close()
	if rec := d.WaitPath("/half"); rec["reason"] != "client-abort" {
		t.Errorf("record %v", rec)
	}
}

// Renegotiation is refused, and a storm of key updates ends the connection.
func TestTLSRenegotiationAndKeyUpdates(t *testing.T) {
	t.Parallel()
	harness.Need(t, "openssl")
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n", routes: fmt.Sprintf(respond, "x")}
	d := serve(t, s)
	run := func(input string, args ...string) string {
		t.Helper()
		c := exec.Command("openssl", append([]string{"s_client", "-connect", s.addr}, args...)...)
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan string, 1)
		go func() {
			out, _ := c.CombinedOutput()
			done <- string(out)
		}()
		for _, l := range strings.SplitAfter(input, "\n") { // s_client takes commands at the start of what it reads
			_, _ = io.WriteString(in, l)
			time.Sleep(2 * time.Millisecond) // so that one read has one line
		}
		select {
		case out := <-done:
			return out
		case <-time.After(patience):
			_ = c.Process.Kill()
			return "still there\n" + <-done
		}
	}
	if out := run("R\n", "-tls1_2"); !strings.Contains(out, "no renegotiation") && !strings.Contains(out, "RENEGOTIATING") || strings.Contains(out, "still there") {
		t.Errorf("renegotiation:\n%s", out)
	}
	if out := run(strings.Repeat("K\n", 300), "-tls1_3"); strings.Contains(out, "still there") {
		t.Errorf("300 key updates:\n%s", out)
	}
	c, _ := secure(t, s.addr, &tls.Config{InsecureSkipVerify: true})
	wantStatus(t, c.Do("GET", "/", "a"), 200)
	_ = d
}

// Programs of others can talk to belay.
func TestTLSInterop(t *testing.T) {
	t.Parallel()
	harness.Need(t, "curl")
	harness.Need(t, "openssl")
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	s := &site{tables: "[listener.web.tls]\ncertificates = [" + pairOf(server) + "]\n", routes: fmt.Sprintf(respond, "interop")}
	serve(t, s)
	_, port, _ := net.SplitHostPort(s.addr)
	host := strings.TrimSuffix(s.addr, ":"+port)
	for _, args := range [][]string{{"--tlsv1.3"}, {"--tls-max", "1.2"}, {"--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305"}, {"--curves", "P-384"}} {
		want(t, command(t, append([]string{"curl", "-sS", "--cacert", a.File, "--resolve", "a.example:" + port + ":" + host, "https://a.example:" + port + "/"}, args...)...), "interop")
	}
	for _, args := range [][]string{{"-tls1_2"}, {"-tls1_3"}, {"-tls1_3", "-groups", "P-521"}} {
		out := command(t, "sh", "-c", "printf 'GET / HTTP/1.0\\r\\nHost: a.example\\r\\n\\r\\n' | openssl s_client -quiet -ign_eof -verify_return_error -CAfile "+a.File+" -servername a.example -connect "+s.addr+" "+strings.Join(args, " ")+" 2>&1")
		want(t, out, "interop")
	}
	if _, err := exec.LookPath("gnutls-cli"); err != nil {
		t.Skip("no gnutls-cli here: run test/install-deps.sh")
	}
	for _, priority := range []string{"NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"} {
		out := command(t, "sh", "-c", "printf 'GET / HTTP/1.0\\r\\nHost: a.example\\r\\n\\r\\n' | gnutls-cli --priority "+priority+" --x509cafile "+a.File+" --sni-hostname a.example --verify-hostname a.example -p "+port+" "+host)
		want(t, out, "interop")
	}
}

// A scanner finds nothing that is old or weak.
func TestTLSScan(t *testing.T) {
	t.Parallel()
	harness.Need(t, "sslscan")
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n", routes: fmt.Sprintf(respond, "x")}
	serve(t, s)
	out := command(t, "sslscan", "--no-colour", "--sni-name=a.example", s.addr)
	for _, version := range []string{"SSLv2     disabled", "SSLv3     disabled", "TLSv1.0   disabled", "TLSv1.1   disabled", "TLSv1.2   enabled", "TLSv1.3   enabled", "Session renegotiation not supported", "TLSv1.3 not vulnerable to heartbleed"} {
		want(t, out, version)
	}
	wantNot(t, out, "RC4", "3DES", "NULL", "CBC", "-SHA\n")
}
