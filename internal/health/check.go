package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/proxyproto"
)

// maxBody is how much of a reply's body is looked at.
const maxBody = 64 << 10

// check asks an endpoint once. why says what is wrong if it is bad.
func (x *Checker) check(ctx context.Context, e *cluster.Endpoint) (found cluster.Health, why string) {
	ctx, cancel := context.WithTimeout(ctx, x.cfg.Timeout)
	defer cancel()
	conn, err := x.dial(ctx, e)
	if err != nil {
		return cluster.HealthBad, err.Error()
	}
	defer conn.Close()
	if x.cfg.Type == "tcp" {
		return cluster.HealthGood, ""
	}
	if x.tls != nil {
		secure, err := x.secure(ctx, conn, e)
		if err != nil {
			return cluster.HealthBad, "TLS: " + words(err, x.cfg.Timeout)
		}
		conn = secure
	} else if x.cfg.Type == "tls" {
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: e.Host()}) // the cluster's own traffic is not belay's to encrypt: only that TLS answers counts
		if err := secure.HandshakeContext(ctx); err != nil {
			return cluster.HealthBad, "TLS: " + words(err, x.cfg.Timeout)
		}
		conn = secure
	}
	if x.cfg.Type == "tls" {
		return cluster.HealthGood, ""
	}
	return x.ask(ctx, conn, e)
}

// dial connects to the first address that answers and sends a PROXY header of our own
// if the endpoint expects one.
func (x *Checker) dial(ctx context.Context, e *cluster.Endpoint) (net.Conn, error) {
	var d net.Dialer
	err := errors.New("connect: no address")
	for _, a := range e.Addresses() {
		network, address := x.target(a)
		var conn net.Conn
		if conn, err = d.DialContext(ctx, network, address); err != nil {
			err = fmt.Errorf("connect: %s", words(err, x.cfg.Timeout))
			continue
		}
		if deadline, ok := ctx.Deadline(); ok {
			conn.SetDeadline(deadline)
		}
		if v := x.c.Config.ProxyProtocol; v != 0 {
			if _, err := conn.Write(local(v)); err != nil {
				conn.Close()
				return nil, fmt.Errorf("PROXY header: %s", words(err, x.cfg.Timeout))
			}
		}
		return conn, nil
	}
	return nil, err
}

// target is where to connect to.
func (x *Checker) target(a eventloop.Address) (network, address string) {
	if a.Unix != "" {
		return "unix", a.Unix
	}
	ap := a.AP
	if x.cfg.Port != 0 {
		ap = netip.AddrPortFrom(ap.Addr(), x.cfg.Port)
	}
	return "tcp", ap.String()
}

// local is the PROXY header of a connection that is made for nobody (section 2 of the
// protocol's specification).
func local(version int) []byte {
	if version == 1 {
		return []byte("PROXY UNKNOWN\r\n")
	}
	b, err := proxyproto.AppendV2(nil, &proxyproto.Header{Command: proxyproto.Local})
	if err != nil { // it has nothing that could be too long
		panic(err)
	}
	return b
}

// secure speaks TLS as requests to the cluster do.
func (x *Checker) secure(ctx context.Context, conn net.Conn, e *cluster.Endpoint) (net.Conn, error) {
	if x.c.Config.TLS.StartTLS == "postgres" {
		if err := startPostgres(conn); err != nil {
			return nil, err
		}
	}
	name := x.cfg.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	if name == "" {
		name = e.Host()
	}
	cfg, err := x.tls(conn.RemoteAddr().String(), name)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, cfg)
	return secure, secure.HandshakeContext(ctx)
}

// startPostgres asks for TLS as PostgreSQL's clients do (its manual, 54.2.10).
func startPostgres(conn net.Conn) error {
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return err
	}
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return err
	}
	if b[0] != 'S' {
		return fmt.Errorf("the endpoint does not agree (it answers %q)", b[:])
	}
	return nil
}

// ask sends a request and looks at the reply. Redirects are replies like others.
func (x *Checker) ask(ctx context.Context, conn net.Conn, e *cluster.Endpoint) (cluster.Health, string) {
	req, err := x.request(ctx, e)
	if err != nil {
		return cluster.HealthBad, err.Error()
	}
	t := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxBody,
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return cluster.HealthBad, words(err, x.cfg.Timeout)
	}
	defer resp.Body.Close()
	found := cluster.HealthGood
	switch {
	case has(x.cfg.Degraded, resp.StatusCode):
		found = cluster.HealthDegraded
	case !has(x.cfg.Status, resp.StatusCode):
		return cluster.HealthBad, fmt.Sprintf("status %d, want %s", resp.StatusCode, list(x.cfg.Status))
	}
	if x.cfg.Body != nil {
		var b bytes.Buffer
		if _, err := io.Copy(&b, io.LimitReader(resp.Body, maxBody)); err != nil {
			return cluster.HealthBad, "body: " + words(err, x.cfg.Timeout)
		}
		if !x.cfg.Body.Match(b.Bytes()) {
			return cluster.HealthBad, fmt.Sprintf("the body does not match %q", x.cfg.Body)
		}
	}
	return found, ""
}

func (x *Checker) request(ctx context.Context, e *cluster.Endpoint) (*http.Request, error) {
	host := x.cfg.Host
	if host == "" {
		host = e.Address()
		if strings.HasPrefix(host, "unix:") {
			host = "localhost"
		}
	}
	req, err := http.NewRequestWithContext(ctx, x.cfg.Method, "http://endpoint"+x.cfg.Path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	req.Host = host
	req.Header.Set("User-Agent", "belay-health-check")
	for _, h := range x.cfg.Headers {
		if strings.EqualFold(h[0], "Host") {
			req.Host = h[1]
			continue
		}
		req.Header[h[0]] = []string{h[1]}
	}
	return req, nil
}

func has(ranges []config.StatusRange, status int) bool {
	for _, r := range ranges {
		if status >= r.From && status <= r.To {
			return true
		}
	}
	return false
}

func list(ranges []config.StatusRange) string {
	var b strings.Builder
	for i, r := range ranges {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(r.From))
		if r.To != r.From {
			b.WriteString("-" + strconv.Itoa(r.To))
		}
	}
	return b.String()
}
