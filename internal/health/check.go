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
	"syscall"
	"time"

	"belay/internal/certs"
	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/eventloop"
	"belay/internal/proxyproto"
)

// maxBody is how much of a reply's body is looked at.
const maxBody = 64 << 10

// check asks an endpoint once. why says what is wrong if it is bad, or, if the finding
// is HealthUnknown, why belay could not ask.
func (x *Checker) check(ctx context.Context, e *cluster.Endpoint) (found cluster.Health, why string) {
	ctx, cancel := context.WithTimeout(ctx, x.cfg.Timeout)
	defer cancel()
	conn, step, err := x.dial(ctx, e)
	if err != nil {
		return x.failed(step, err)
	}
	defer conn.Close()
	if x.cfg.Type == "tcp" {
		return cluster.HealthGood, ""
	}
	if x.tls != nil || x.cfg.Type == "tls" {
		secure, err := x.secure(ctx, conn, e)
		if err == nil && x.cfg.Type == "tls" {
			err = secure.accepted()
		}
		if err != nil {
			return x.failed("TLS: ", err)
		}
		conn = secure
	}
	if x.cfg.Type == "tls" {
		return cluster.HealthGood, ""
	}
	return x.ask(ctx, conn, e)
}

// failed is the finding that follows from an error at a step. What belay itself lacks
// says nothing of the endpoint: a process out of descriptors must not take all of its
// endpoints for dead.
func (x *Checker) failed(step string, err error) (cluster.Health, string) {
	found := cluster.HealthBad
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, certs.ErrWarming} {
		if errors.Is(err, own) {
			found = cluster.HealthUnknown
		}
	}
	return found, step + words(err, x.cfg.Timeout)
}

// dial connects to the first address that answers and sends a PROXY header of our own
// if the endpoint expects one. Each address has its share of the time, or one that is
// silent would leave none for the next. step is where the error came up.
func (x *Checker) dial(ctx context.Context, e *cluster.Endpoint) (conn net.Conn, step string, err error) {
	var d net.Dialer
	step, err = "connect: ", errors.New("no address")
	end, _ := ctx.Deadline()
	all := e.Addresses()
	for i, a := range all {
		network, address := x.target(a)
		part, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(len(all)-i))
		conn, err = d.DialContext(part, network, address)
		cancel()
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, step, err
	}
	conn.SetDeadline(end)
	if v := x.c.Config.ProxyProtocol; v != 0 {
		if _, err := conn.Write(local(v)); err != nil {
			conn.Close()
			return nil, "PROXY header: ", err
		}
	}
	return conn, "", nil
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

// secured is a connection after its handshake.
type secured struct {
	*tls.Conn
	asked bool // for a certificate of ours
}

// secure speaks TLS as requests to the cluster do. To a plain cluster TLS is not
// belay's, its clients speak it: only that there is some counts.
func (x *Checker) secure(ctx context.Context, conn net.Conn, e *cluster.Endpoint) (*secured, error) {
	if x.tls == nil {
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: e.Host()})
		return &secured{Conn: secure}, secure.HandshakeContext(ctx)
	}
	if x.c.Config.TLS.StartTLS == "postgres" {
		if err := startPostgres(conn); err != nil {
			return nil, err
		}
	}
	cfg, err := x.tls(conn.RemoteAddr().String(), x.serverName(e))
	if err != nil {
		return nil, err
	}
	s := &secured{}
	show := cfg.GetClientCertificate
	cfg = cfg.Clone()
	cfg.GetClientCertificate = func(i *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		s.asked = true
		if show == nil {
			return &tls.Certificate{}, nil // none
		}
		return show(i)
	}
	s.Conn = tls.Client(conn, cfg)
	return s, s.HandshakeContext(ctx)
}

// serverName is what to send and verify where the cluster does not say: what requests
// with the host of the check would have.
func (x *Checker) serverName(e *cluster.Endpoint) string {
	if !x.c.Config.TLS.SNIFromHost {
		return ""
	}
	name := x.cfg.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	if name == "" {
		return e.Host()
	}
	return strings.Trim(name, "[]")
}

// accepted waits for what the endpoint says of our certificate, or of there being none,
// if it asked for one: with TLS 1.3 the handshake is over for us before the endpoint has
// looked (RFC 8446 section 4.4.2.4). Only an alert is a refusal: a close answers ours,
// and an endpoint that goes on waiting has nothing against us.
func (s *secured) accepted() error {
	if !s.asked || s.ConnectionState().Version < tls.VersionTLS13 {
		return nil
	}
	_ = s.CloseWrite() // if it fails, the reason is there to be read
	_, err := s.Read(make([]byte, 1))
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "remote error" {
		return err
	}
	return nil
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
		return x.failed("", err)
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
			return x.failed("body: ", err)
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
		req.Header.Set(h[0], h[1]) // names are not there twice, but may be ours
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
