package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ClientAuth says whether clients show a certificate.
type ClientAuth uint8

// The ways.
const (
	ClientNone    ClientAuth = iota
	ClientRequest            // one that is given must be accepted
	ClientRequire
)

// ServerOptions describe one filter chain's TLS.
type ServerOptions struct {
	Name         string // of the chain, the same on every machine: tickets are bound to it
	Certificates []Source
	OCSP         OCSPPolicy
	Params
	ClientAuth     ClientAuth
	Client         Trust // without CA, pins decide alone
	DisableTickets bool
}

// Server is the TLS of one filter chain. Config and what it gives are for any
// goroutine, workers above all; the rest is for the control plane.
type Server struct {
	options  ServerOptions
	verifier verifier // without what comes from files
	store    *Store
	certs    []*resource
	trusted  trusted
	current  atomic.Pointer[serverSnapshot]
}

// serverSnapshot never changes.
type serverSnapshot struct {
	config *tls.Config
	index  *index
	policy PolicyID
	client PolicyID
}

// Server makes the TLS of a filter chain and loads what it needs. The error is
// all that is wrong with the options; what is wrong with files is in Status, and
// the chain is warming meanwhile.
func (s *Store) Server(o ServerOptions) (*Server, error) {
	c := &Server{options: o, store: s}
	var problems []error
	if len(o.Certificates) == 0 {
		problems = append(problems, errors.New("no certificate"))
	}
	problems = append(problems, o.Check()...)
	v, wrong := o.Client.compile()
	problems = append(problems, wrong...)
	v.required = o.ClientAuth == ClientRequire
	if o.ClientAuth != ClientNone && o.Client.CA == "" && !v.pinned() {
		problems = append(problems, errors.New("client certificates are asked for, but neither a CA nor a pin says which to accept"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("tls %s: %w", o.Name, err)
	}
	c.verifier = v
	var all []*resource
	for _, source := range o.Certificates {
		all = append(all, s.add(certificateResource(source)))
	}
	c.certs = all[:len(all):len(all)]
	if o.ClientAuth != ClientNone {
		all = append(all, c.trusted.resources(s, &o.Client)...)
	}
	s.attach(c, all)
	return c, nil
}

func (c *Server) label() string { return c.options.Name }

// Config is the configuration of the next handshake; nil while the chain is
// warming. It never changes and must not be changed.
func (c *Server) Config() *tls.Config {
	if s := c.current.Load(); s != nil {
		return s.config
	}
	return nil
}

// ClientPolicy is a hash of what client certificates are checked against; zero
// without client certificates, and while warming. Names with different ones
// must not be mixed on a connection (421).
func (c *Server) ClientPolicy() PolicyID {
	if s := c.current.Load(); s != nil {
		return s.client
	}
	return PolicyID{}
}

// LocalURIs are the URI names of the certificate that a server name gets first,
// for the By of X-Forwarded-Client-Cert.
func (c *Server) LocalURIs(name string) []string {
	s := c.current.Load()
	if s == nil {
		return nil
	}
	g, _ := s.index.find(name)
	if g.first == nil {
		return nil
	}
	return g.first.pair.uris
}

// Overlaps tells of certificates that for some name are never used, for others
// come before them.
func (c *Server) Overlaps() []string {
	if s := c.current.Load(); s != nil {
		return s.index.overlaps
	}
	return nil
}

// rebuild makes a new snapshot of what is loaded. Whatever decides on clients
// must be there: a missing CA or CRL keeps the chain warming rather than open.
func (c *Server) rebuild(now time.Time) {
	var list []*served
	for _, r := range c.certs {
		if p, ok := r.value.(*Pair); ok {
			s := &served{tls: p.cert, pair: p, name: r.name}
			if p.staple.good(now) {
				s.tls.OCSPStaple = p.staple.raw
			}
			list = append(list, s)
		}
	}
	v, ca, ok := c.trusted.complete(c.store, c.verifier)
	if len(list) == 0 || !ok {
		return
	}
	s := &serverSnapshot{index: newIndex(list, c.options.OCSP, now), config: c.options.config()}
	if c.options.ClientAuth != ClientNone {
		h := sha256.New()
		fmt.Fprintf(h, "client auth %d\n", c.options.ClientAuth)
		c.options.Client.write(h, ca)
		h.Sum(s.client[:0])
	}
	s.policy = sha256.Sum256(fmt.Appendf(nil, "chain %q client %x", c.options.Name, s.client))
	s.config.GetCertificate = s.index.certificate
	c.authenticate(s.config, v)
	c.resume(s)
	c.current.Store(s)
}

// authenticate sets how clients are verified. crypto/tls builds the chains, so
// that its alerts say what is wrong; the rest is ours, on every handshake.
func (c *Server) authenticate(config *tls.Config, v *verifier) {
	now := c.store.options.Now
	config.Time = now
	switch {
	case c.options.ClientAuth == ClientNone:
		return
	case v.roots == nil && c.options.ClientAuth == ClientRequire:
		config.ClientAuth = tls.RequireAnyClientCert
	case v.roots == nil:
		config.ClientAuth = tls.RequestClientCert
	case c.options.ClientAuth == ClientRequire:
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, v.roots
	default:
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, v.roots
	}
	config.VerifyConnection = func(cs tls.ConnectionState) error { return v.client(cs, now()) }
}

// resume sets how sessions are resumed.
func (c *Server) resume(s *serverSnapshot) {
	if c.options.DisableTickets {
		s.config.SessionTicketsDisabled = true
		return
	}
	tickets, policy := c.store.tickets, &s.policy
	s.config.WrapSession = func(_ tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		return tickets.wrap(policy, session)
	}
	s.config.UnwrapSession = func(ticket []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
		return tickets.unwrap(policy, ticket)
	}
	// crypto/tls would look at the clock for keys of its own in each handshake;
	// these are never used.
	s.config.SetSessionTicketKeys([][32]byte{random()})
}
