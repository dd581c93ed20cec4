package upstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"belay/internal/certs"
	"belay/internal/proxyproto"
	"belay/internal/ratelog"
	"belay/internal/stats"
	"belay/internal/transport"
)

// TLS is one worker's TLS towards a cluster.
type TLS struct {
	Client  *certs.Client
	Configs *certs.Worker
	Stats   TLSStats
	Log     *slog.Logger
	Said    *ratelog.Lines[string] // of the cluster
}

// TLSStats are the series of a cluster's TLS, the same in every worker's shard.
type TLSStats struct {
	Resumed  [2]stats.Counter // by whether it was
	Failed   map[string]stats.Counter
	Duration stats.Histogram
}

// NewTLSStats registers them.
func NewTLSStats(r *stats.Registry, cluster string) TLSStats {
	l := stats.Label{Name: "cluster", Value: cluster}
	s := TLSStats{Failed: make(map[string]stats.Counter)}
	for i, resumed := range []string{"false", "true"} {
		s.Resumed[i] = r.Counter("belay_cluster_tls_handshakes_total", "TLS handshakes with endpoints that succeeded.", l, stats.Label{Name: "resumed", Value: resumed})
	}
	for _, reason := range failureReasons() {
		s.Failed[reason] = r.Counter("belay_cluster_tls_failures_total", "TLS handshakes with endpoints that failed, by reason.", l, stats.Label{Name: "reason", Value: reason})
	}
	s.Duration = r.Histogram("belay_cluster_tls_handshake_duration_seconds", "TLS handshakes with endpoints that succeeded.", l)
	return s
}

// The reasons that are ours; the others are those of certs.Reason and of
// transport.Failure.
const (
	reasonWarming  = "warming"
	reasonName     = "no-name"
	reasonStartTLS = "starttls"
)

func failureReasons() []string {
	list := []string{reasonWarming, reasonName, reasonStartTLS}
	for f := transport.Failure(0); f < transport.Failures; f++ {
		list = append(list, f.String())
	}
	for _, r := range certs.Reasons() {
		if r != certs.ReasonNone {
			list = append(list, "certificate_"+r.String())
		}
	}
	return list
}

// failureReason sorts an error of a handshake; "" if TLS has no part in it.
func failureReason(err error) string {
	var he *transport.HandshakeError
	r := certs.ReasonOf(err)
	switch {
	case errors.Is(err, certs.ErrWarming):
		return reasonWarming
	case errors.Is(err, certs.ErrNoName):
		return reasonName
	case errors.Is(err, errStartTLS):
		return reasonStartTLS
	case r != certs.ReasonNone:
		return "certificate_" + r.String()
	case errors.As(err, &he):
		return he.Reason.String()
	}
	return ""
}

var errStartTLS = errors.New("the endpoint does not agree to TLS (SSLRequest of PostgreSQL)")

// preface is what a connection needs beyond TCP before bytes flow, and what it
// must be to be used again.
//
//	connect ─> write (PROXY header, SSLRequest) ─> answer ─> TLS ─> open
type preface struct {
	stage  stage
	out    []byte // still to be written
	name   string // that TLS was asked to verify
	policy certs.PolicyID
}

type stage uint8

const (
	stageConnect stage = iota
	stageWrite
	stageAnswer
	stageTLS
	stageOpen
)

// newPreface is nil for a plain connection.
func (p *Pool) newPreface(name string, o *proxyproto.Origin) *preface {
	if p.tls == nil && p.cfg.ProxyProtocol == 0 {
		return nil
	}
	x := &preface{name: name}
	if p.cfg.ProxyProtocol != 0 {
		x.out = o.Append(nil, p.cfg.ProxyProtocol)
	}
	if p.startTLS() {
		x.out = binary.BigEndian.AppendUint32(x.out, 8)
		x.out = binary.BigEndian.AppendUint32(x.out, pgSSLRequest)
	}
	return x
}

func (p *Pool) startTLS() bool { return p.tls != nil && p.cfg.TLS.StartTLS == "postgres" }

// pgSSLRequest is the code of PostgreSQL's message, whose length is 8.
const pgSSLRequest = 80877103

// Handshake brings the connection to where bytes flow to the endpoint: TCP, what
// comes before TLS, TLS. It is called with every event until it returns nil or an
// error other than transport.ErrAgain; the owner must be set.
func (c *Conn) Handshake() error {
	p := c.preface
	if p == nil {
		return c.Socket.Handshake()
	}
	for {
		err := c.advance(p)
		switch {
		case err == nil && p.stage == stageOpen:
			return nil
		case err == nil:
		case errors.Is(err, transport.ErrAgain):
			return err
		default:
			c.tellFailure(err)
			return err
		}
	}
}

// advance goes from one stage to the next.
func (c *Conn) advance(p *preface) error {
	switch p.stage {
	case stageConnect:
		if err := c.Socket.Handshake(); err != nil {
			return err
		}
		p.stage = stageWrite
	case stageWrite:
		return c.writePreface(p)
	case stageAnswer:
		return c.readAnswer(p)
	case stageTLS:
		if err := c.Socket.Handshake(); err != nil {
			return err
		}
		c.secured()
		p.stage = stageOpen
	}
	return nil
}

func (c *Conn) writePreface(p *preface) error {
	for len(p.out) > 0 {
		n, err := c.Socket.Write(p.out, nil)
		if err != nil {
			return err
		}
		if p.out = p.out[n:]; n == 0 {
			return transport.ErrAgain
		}
	}
	p.out = nil
	switch {
	case c.pool.startTLS():
		p.stage = stageAnswer
		return nil
	case c.pool.tls != nil:
		return c.beginTLS(p)
	}
	p.stage = stageOpen
	return nil
}

// readAnswer reads PostgreSQL's one byte, and no more: what else came in clear is
// none of TLS, which will say so (CVE-2021-23222).
func (c *Conn) readAnswer(p *preface) error {
	var b [1]byte
	switch _, err := c.Socket.Read(b[:]); {
	case errors.Is(err, transport.ErrAgain):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errStartTLS, err)
	case b[0] != 'S':
		return fmt.Errorf("%w: it answers %q", errStartTLS, b[:])
	}
	return c.beginTLS(p)
}

func (c *Conn) beginTLS(p *preface) error {
	t := c.pool.tls
	p.policy = t.Client.PolicyID() // before Config: what changes in between must not count as checked
	cfg, err := t.Configs.Config(c.Where(), p.name)
	if err != nil {
		return err
	}
	c.Socket = transport.DialTLS(c.pool.env.Handshakes, c.Socket.(*transport.Raw), cfg)
	p.stage = stageTLS
	return nil
}

// secured counts a handshake.
func (c *Conn) secured() {
	t, shard := c.pool.tls, c.pool.env.Shard
	info := c.Socket.(*transport.TLS).State()
	resumed := 0
	if info.Resumed {
		resumed = 1
	}
	shard.Inc(t.Stats.Resumed[resumed])
	shard.Observe(t.Stats.Duration, int64(info.Duration))
}

// tellFailure counts and logs what TLS failed for.
func (c *Conn) tellFailure(err error) {
	t := c.pool.tls
	reason := failureReason(err)
	if t == nil || reason == "" {
		return
	}
	c.pool.env.Shard.Inc(t.Stats.Failed[reason])
	name := c.preface.name
	if name == "" {
		name = c.pool.cfg.TLS.SNI
	}
	if held, ok := t.Said.Now(reason, c.pool.env.Loop.Now()); ok {
		t.Log.Warn("no TLS with an endpoint", "cluster", c.pool.cfg.Name, "endpoint", c.pool.Endpoint.ID, "address", c.Where(),
			"server_name", name, "reason", reason, "error", err, "unlogged", held)
	}
}

// Broken tells of a TLS alert that came later: with TLS 1.3 an endpoint judges the
// certificate that it was shown when the handshake is over for us.
func (c *Conn) Broken(err error) {
	var op *net.OpError
	if c.preface != nil && c.pool.tls != nil && errors.As(err, &op) && op.Op == "remote error" {
		c.tellFailure(&transport.HandshakeError{Reason: transport.FailedAlert, Err: err})
	}
}

// IsTLS reports whether a connection could not be made because of TLS.
func IsTLS(err error) bool { return failureReason(err) != "" }

// named reports whether connections differ by the name that was verified.
func (p *Pool) named() bool { return p.tls != nil && p.cfg.TLS.SNIFromHost }

// nameOf is the name of a new connection: that of the request, or, for who has
// none, the endpoint's.
func (p *Pool) nameOf(want *Want) string {
	switch {
	case !p.named():
		return ""
	case len(want.Name) > 0:
		return strings.ToLower(string(want.Name))
	}
	return strings.ToLower(p.Endpoint.Host())
}

// fits reports whether an idle connection is verified for the name that a request
// wants. It makes no string of it.
func (c *Conn) fits(want *Want) bool {
	p := c.pool
	switch {
	case !p.named():
		return true
	case len(want.Name) > 0:
		return bytes.EqualFold(want.Name, []byte(c.preface.name))
	}
	return strings.EqualFold(p.Endpoint.Host(), c.preface.name)
}

// is is fits for a request that waited.
func (c *Conn) is(name string) bool { return c.preface == nil || c.preface.name == name }

// closeOutdated ends idle connections that were verified under another policy, when
// that is noticed first: no request takes them any more.
func (p *Pool) closeOutdated() {
	policy := p.tls.Client.PolicyID()
	if policy == p.policy {
		return
	}
	p.policy = policy
	for i := 0; i < len(p.idle); {
		if p.idle[i].preface.policy == policy {
			i++
			continue
		}
		p.env.Shard.Inc(p.st.IdleClosed)
		p.closeIdle(i)
	}
}

// outdated reports whether what the endpoint was checked against has changed.
func (c *Conn) outdated() bool {
	return c.preface != nil && c.pool.tls != nil && c.preface.policy != c.pool.tls.Client.PolicyID()
}
