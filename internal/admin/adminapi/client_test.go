package adminapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// listen makes a Unix socket that h answers on until the test ends.
func listen(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	hs := &http.Server{Handler: h}
	go hs.Serve(ln)
	t.Cleanup(func() { hs.Close() })
	return path
}

func ask(t *testing.T, path string) (Status, error) {
	t.Helper()
	c := NewClient(path)
	t.Cleanup(c.Close)
	return c.Status(t.Context())
}

func TestClientErrors(t *testing.T) {
	dir := t.TempDir()
	refusing := filepath.Join(dir, "refusing")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: refusing})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hangingUp, err := net.Listen("unix", filepath.Join(dir, "hanging-up"))
	if err != nil {
		t.Fatal(err)
	}
	defer hangingUp.Close()
	go func() {
		for {
			c, err := hangingUp.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	for _, tt := range []struct {
		name, path string
		want       string // with the path as %
		is         error
	}{
		{"no file", dir + "/none", "cannot reach belayd at %: no such file or directory, is it running? (try --socket)", syscall.ENOENT},
		{"nobody listens", refusing, "cannot reach belayd at %: connection refused, is it running? (try --socket)", syscall.ECONNREFUSED},
		{"not a socket", plain, "cannot reach belayd at %: connection refused, is it running? (try --socket)", syscall.ECONNREFUSED},
		{"hangs up", dir + "/hanging-up", "cannot reach belayd at %: EOF (try --socket)", nil},
		{"path too long", dir + "/" + strings.Repeat("x", 120), "cannot reach belayd at %: invalid argument (try --socket)", syscall.EINVAL},
	} {
		_, err := ask(t, tt.path)
		if err == nil {
			t.Errorf("%s: no error", tt.name)
			continue
		}
		got := strings.ReplaceAll(err.Error(), tt.path, "%")
		// A connection may be reset instead of ended, or end before it is used.
		got = strings.ReplaceAll(got, "connection reset by peer", "EOF")
		got = strings.ReplaceAll(got, "broken pipe", "EOF")
		got = strings.ReplaceAll(got, "http: server closed idle connection", "EOF")
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: not a %v", tt.name, tt.is)
		}
	}
}

func TestClientPermissionDenied(t *testing.T) {
	// A test as root is refused nothing, so the error is made.
	c := NewClient("/run/belay/admin.sock")
	err := c.explain(&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)})
	want := "cannot reach belayd at /run/belay/admin.sock: permission denied; run this as root or as the user belay"
	if err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestClientDaemonThatDoesNotAnswer(t *testing.T) {
	release := make(chan struct{})
	path := listen(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	c := NewClient(path)
	defer c.Close()
	_, err := c.Status(ctx)
	if err == nil || err.Error() != "belayd at "+path+" does not answer: context deadline exceeded" {
		t.Errorf("%v", err)
	}
}

func TestClientReplies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   string // with the path of the socket as %
	}{
		{"refusal", 404, "there is no cluster \"x\"\nand more\n", `there is no cluster "x"`},
		{"refusal without a word", 500, "", "belayd answered 500 to /status"},
		{"not JSON", 200, "<html>", "% does not speak belay's admin API: reply to /status: invalid character '<' looking for beginning of value"},
		{"other JSON", 200, "[]", "% does not speak belay's admin API: reply to /status: json: cannot unmarshal array into Go value of type adminapi.Status"},
	} {
		path := listen(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(tt.status)
			w.Write([]byte(tt.body))
		})
		_, err := ask(t, path)
		if err == nil || strings.ReplaceAll(err.Error(), path, "%") != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestClientAsksFor(t *testing.T) {
	var got string
	path := listen(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + r.URL.String()
		if r.URL.Path == PathReady {
			w.WriteHeader(http.StatusServiceUnavailable)
			w.Write([]byte(`{"ready":false,"reason":"stopping"}`))
			return
		}
		w.Write([]byte("null"))
	})
	c := NewClient(path)
	defer c.Close()
	ctx := t.Context()
	for _, tt := range []struct {
		want string
		f    func() error
	}{
		{"GET /ready?format=json", func() error { _, err := c.Ready(ctx); return err }},
		{"GET /status", func() error { _, err := c.Status(ctx); return err }},
		{"GET /listeners", func() error { _, err := c.Listeners(ctx, Query{}); return err }},
		{"GET /listeners?buckets=true&name=a+b", func() error { _, err := c.Listeners(ctx, Query{"a b", true}); return err }},
		{"GET /clusters?name=x", func() error { _, err := c.Clusters(ctx, Query{Name: "x"}); return err }},
		{"GET /stats?filter=a%26b&format=json&nonzero=true", func() error { _, err := c.Stats(ctx, StatsQuery{"a&b", true}); return err }},
		{"GET /stats", func() error { _, err := c.StatsText(ctx, StatsQuery{}); return err }},
		{"GET /restart-status", func() error { _, err := c.RestartStatus(ctx); return err }},
		{"GET /drain", func() error { _, err := c.DrainStatus(ctx); return err }},
		{"POST /drain", func() error { _, err := c.Drain(ctx, true); return err }},
		{"DELETE /drain", func() error { _, err := c.Drain(ctx, false); return err }},
		{"GET /certs", func() error { _, err := c.Certificates(ctx); return err }},
		{"GET /tls/explain", func() error { _, err := c.ExplainTLS(ctx, TLSQuery{}); return err }},
		{"GET /tls/explain?alpn=h2%2Ch3&listener=l&no_ecdsa=true&port=65535&sni=a+b&source=%3A%3A1&tls12=true", func() error {
			_, err := c.ExplainTLS(ctx, TLSQuery{Listener: "l", SNI: "a b", ALPN: []string{"h2", "h3"}, Source: "::1", Port: 65535, TLS12: true, NoECDSA: true})
			return err
		}},
		{"GET /config", func() error { _, err := c.Config(ctx); return err }},
	} {
		if err := tt.f(); err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v", tt.want, got, err)
		}
	}
	if r, _ := c.Ready(ctx); r != (Ready{false, "stopping"}) {
		t.Errorf("%+v", r)
	}
}
