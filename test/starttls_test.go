package test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"belay/test/harness"
)

const (
	sslRequest    = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	gssencRequest = "\x00\x00\x00\x08\x04\xd2\x16\x30"
	startup       = "\x00\x00\x00\x16\x00\x03\x00\x00user\x00belay\x00\x00\x00"
)

// postgresListener asks for TLS as PostgreSQL does, with a chain for each name.
func postgresListener(t *testing.T, a *harness.Authority, backend string) (string, *harness.Daemon) {
	t.Helper()
	one := a.Issue(harness.Leaf{Name: "one", DNS: []string{"one.example"}})
	two := a.Issue(harness.Leaf{Name: "two", DNS: []string{"two.example"}})
	addr := harness.Addr(t)
	chain := func(name string, c harness.Certificate) string {
		return fmt.Sprintf("[[listener.web.chain]]\nserver_names = [%q]\n[listener.web.chain.tls]\ncertificates = [%s]\n", name, pairOf(c))
	}
	return addr, harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\nprotocol = \"tcp\"\nstarttls = \"postgres\"\ncluster = \"c\"\n", addr)+soonRefused+
		chain("one.example", one)+chain("two.example", two)+"[cluster.c]\n"+endpoints(backend)+"\n")
}

// What a client may say before TLS, and what becomes of the rest.
func TestPostgresStartTLS(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	addr, d := postgresListener(t, a, tcpServer(t, echoTCP))
	// Each begins with something and goes on with TLS.
	for name, says := range map[string][][2]string{
		"SSLRequest":              {{sslRequest, "S"}},
		"GSSENCRequest and then":  {{gssencRequest, "N"}, {sslRequest, "S"}},
		"TLS at once":             nil,
		"GSSENCRequest, then TLS": {{gssencRequest, "N"}},
	} {
		for _, server := range []string{"one", "two"} {
			raw, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range says {
				_, _ = io.WriteString(raw, x[0])
				b := make([]byte, 1)
				if _, err := io.ReadFull(raw, b); err != nil || string(b) != x[1] {
					t.Fatalf("%s: %q, %v", name, b, err)
				}
			}
			cfg := names(a, server+".example")
			cfg.NextProtos = []string{"postgresql"}
			c := tls.Client(raw, cfg)
			echoes(t, c, "hello")
			if s := c.ConnectionState(); s.PeerCertificates[0].Subject.CommonName != server || s.NegotiatedProtocol != "postgresql" {
				t.Errorf("%s: %s, ALPN %q", name, s.PeerCertificates[0].Subject, s.NegotiatedProtocol)
			}
			_ = raw.Close()
		}
	}
	c := harness.Dial(t, addr).Send(startup)
	data, _ := c.Rest()
	if !strings.HasPrefix(data, "E") || !strings.Contains(data, "SFATAL\x00") || !strings.Contains(data, "TLS is required") {
		t.Errorf("a client without TLS is told %q", data)
	}
	wantFailure(t, d, "starttls", 1)
	for i, bad := range []string{
		"\x00\x00\x00\x10\x04\xd2\x16\x2e12345678", // a CancelRequest in clear
		sslRequest + "X",                           // what is sent in clear behind the request must not be taken for what TLS protects
		gssencRequest + sslRequest,                 // likewise
		"GET / HTTP/1.1\r\n\r\n",                   // another protocol
		"\x00\x00\x00\x09\x04\xd2\x16\x2f\x00\x00", // a length that is none
	} {
		if data, reset := harness.Dial(t, addr).Send(bad).Rest(); data != "" || !reset {
			t.Errorf("%q: %q, reset %t", bad, data, reset)
		}
		wantFailure(t, d, "starttls", float64(i+2))
	}
	harness.Dial(t, addr).Send(sslRequest[:5])
	wantFailure(t, d, "timeout", 1)
}

// psql through belay, with TLS on both sides: belay answers its SSLRequest, and
// sends one to the server.
func TestPostgresStartTLSBothSides(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "db", DNS: []string{"db.example"}})
	backend := postgres(t, server)
	inner := harness.Addr(t)
	harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\nprotocol = \"tcp\"\nstarttls = \"postgres\"\ncluster = \"c\"\n[cluster.c]\n%s\n[cluster.c.tls]\nstarttls = \"postgres\"\nca = %q\nsni = \"db.example\"\n", inner, endpoints(backend), a.File))
	if out := psql(t, inner, "psql", "-d", "postgres", "-Atc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"); strings.TrimSpace(out) != "t" {
		t.Errorf("belay's connection to PostgreSQL is not TLS: %q", out)
	}
	addr, _ := postgresListener(t, a, inner)
	host, port, _ := strings.Cut(addr, ":")
	run := func(mode, name string) (string, error) {
		c := exec.Command("psql", "-Atc", "select 6 * 7", fmt.Sprintf("host=%s hostaddr=%s port=%s user=belay dbname=postgres sslmode=%s sslrootcert=%s connect_timeout=10", name, host, port, mode, a.File))
		c.Env = append(os.Environ(), "PGSSLSNI=1")
		out, err := c.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	for _, name := range []string{"one.example", "two.example"} {
		if out, err := run("verify-full", name); err != nil || out != "42" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	if out, err := run("disable", "one.example"); err == nil || !strings.Contains(out, "TLS is required") {
		t.Errorf("without TLS: %q, %v", out, err)
	}
	if out, err := run("require", "nobody.example"); err == nil {
		t.Errorf("an unknown name: %q", out)
	}
}

// An endpoint that does not agree to TLS gets nothing in clear.
func TestPostgresStartTLSRefused(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"N", "E", "Sclear text"} {
		got := make(chan string, 1)
		backend := tcpServer(t, func(c *net.TCPConn) {
			b := make([]byte, 8)
			_, _ = io.ReadFull(c, b)
			_, _ = io.WriteString(c, answer)
			rest, _ := io.ReadAll(c)
			got <- string(b) + string(rest)
		})
		addr := harness.Addr(t)
		d := harness.Start(t, fmt.Sprintf("[listener.web]\naddress = %q\nprotocol = \"tcp\"\ncluster = \"c\"\n[cluster.c]\n%s\n[cluster.c.tls]\nstarttls = \"postgres\"\nsni = \"db.example\"\n", addr, endpoints(backend)))
		if c, err := net.Dial("tcp", addr); err == nil { // else it was reset sooner
			_, _ = io.WriteString(c, startup)
			_, _ = io.ReadAll(c)
			_ = c.Close()
		}
		if s := <-got; !strings.HasPrefix(s, sslRequest) || strings.Contains(s, "belay") {
			t.Errorf("%q: the endpoint got %q", answer, s)
		}
		d.WaitLine("no TLS with an endpoint")
		if rec := waitEnd(d, "tls-failure"); rec["cluster"] != "c" {
			t.Errorf("record %v", rec)
		}
	}
}
