package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
)

// ClientOptions describe the TLS towards a cluster. The zero value verifies the
// server's name against the system's authorities.
type ClientOptions struct {
	Name        string // of the cluster
	ServerName  string // sent as SNI and verified; "": the caller says for each connection
	Insecure    bool   // verify nothing; pins, names and CRL must then be empty
	Server      Trust  // CA "": the system's; SANs not empty: instead of the server name
	Certificate Source // shown to servers that ask; nil: none
	Params
	DisableTickets bool
	MaxSessions    int // per Worker: endpoints times server names whose sessions are kept; 0: DefaultMaxSessions
}

// DefaultMaxSessions bounds a worker's cache of one cluster.
const DefaultMaxSessions = 1024

// Client is the TLS towards a cluster.
type Client struct {
	options  ClientOptions
	verifier verifier
	store    *Store
	cert     *resource
	trusted  trusted
	system   *x509.CertPool
	current  atomic.Pointer[clientSnapshot]
}

// clientSnapshot never changes.
type clientSnapshot struct {
	verifier *verifier
	cert     *tls.Certificate // nil: none
	policy   PolicyID
}

// Client makes the TLS towards a cluster and loads what it needs. The error is
// all that is wrong with the options.
func (s *Store) Client(o ClientOptions) (*Client, error) {
	c := &Client{options: o, store: s}
	problems := o.Check()
	v, wrong := o.Server.compile()
	problems = append(problems, wrong...)
	if o.Insecure && (o.Server.CA != "" || o.Server.CRL != "" || len(v.sans) > 0 || v.pinned()) {
		problems = append(problems, errors.New("verification is off, yet there is something to verify against"))
	}
	if o.Server.CA == "" && !o.Insecure {
		pool, err := x509.SystemCertPool()
		if err != nil {
			problems = append(problems, fmt.Errorf("the system's authorities: %w", err))
		}
		c.system = pool
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("tls to %s: %w", o.Name, err)
	}
	c.verifier = v
	if c.options.MaxSessions <= 0 {
		c.options.MaxSessions = DefaultMaxSessions
	}
	all := c.trusted.resources(s, &o.Server)
	if o.Certificate != nil {
		c.cert = s.add(certificateResource(o.Certificate))
		all = append(all, c.cert)
	}
	s.attach(c, all)
	return c, nil
}

func (c *Client) label() string { return c.options.Name }

// Ready reports whether connections can be made; false while a file is missing.
func (c *Client) Ready() bool { return c.current.Load() != nil }

// PolicyID changes when the trusted authorities or the client certificate do:
// connections made before may then be drained.
func (c *Client) PolicyID() PolicyID {
	if s := c.current.Load(); s != nil {
		return s.policy
	}
	return PolicyID{}
}

func (c *Client) rebuild(time.Time) {
	v, sum, ok := c.trusted.complete(c.store, c.verifier)
	if !ok {
		return
	}
	if v.roots == nil {
		v.roots = c.system
	}
	s := &clientSnapshot{verifier: v}
	h := sha256.New()
	fmt.Fprintf(h, "cluster %q insecure %t\n", c.options.Name, c.options.Insecure)
	c.options.Server.write(h, sum)
	if c.cert != nil {
		p, ok := c.cert.value.(*Pair)
		if !ok {
			return
		}
		cert := p.cert
		cert.Leaf, _ = x509.ParseCertificate(cert.Certificate[0]) // it was parsed before
		s.cert = &cert
		fmt.Fprintf(h, "certificate %x\n", c.cert.content)
	}
	h.Sum(s.policy[:0])
	c.current.Store(s)
}

// verify checks a server. On a resumption its chains are those of the full
// handshake, if the slot still has them: several handshakes may have shared it.
func (s *clientSnapshot) verify(cs tls.ConnectionState, name string, slot *sessionSlot, now time.Time) error {
	if len(cs.PeerCertificates) == 0 {
		return refuse(ReasonNoCertificate, "the server has no certificate")
	}
	if cs.DidResume && len(slot.chains) > 0 && slot.chains[0][0].Equal(cs.PeerCertificates[0]) {
		return s.verifier.anyChain(slot.chains, now)
	}
	options := x509.VerifyOptions{Roots: s.verifier.roots, Intermediates: x509.NewCertPool(), CurrentTime: now, DNSName: name}
	if len(s.verifier.sans) > 0 {
		options.DNSName = "" // the matchers speak for it
	}
	for _, c := range cs.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	chains, err := cs.PeerCertificates[0].Verify(options)
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
	}
	slot.chains = chains
	return s.verifier.anyChain(chains, now)
}

// The errors of Worker.Config.
var (
	ErrWarming = errors.New("tls: a certificate or an authority is not there yet")
	ErrNoName  = errors.New("tls: no server name to verify")
)

// Worker makes configurations for connections to a cluster, and keeps the
// sessions of each endpoint and server name. It is one worker's own: it has no
// lock, and handshakes with its configurations run where it is used.
type Worker struct {
	client   *Client
	snapshot *clientSnapshot // what entries are made from
	entries  map[endpoint]*entry
	used     entry // list head: next is the entry used last, prev the one to drop
}

type endpoint struct{ address, name string }

// entry is one endpoint under one name.
type entry struct {
	config     *tls.Config
	slot       sessionSlot
	of         endpoint
	next, prev *entry
}

// Worker makes a cache for one worker.
func (c *Client) Worker() *Worker {
	w := &Worker{client: c}
	w.reset(nil)
	return w
}

func (w *Worker) reset(s *clientSnapshot) {
	w.snapshot, w.entries = s, map[endpoint]*entry{}
	w.used.next, w.used.prev = &w.used, &w.used
}

// Config gives the configuration for a connection to an address. The name is
// what to send and verify; a configured ServerName has precedence, and an IP
// address is verified but not sent (RFC 6066 section 3). When the policy
// changed, what was known under the old one is forgotten, sessions too.
func (w *Worker) Config(address, name string) (*tls.Config, error) {
	s := w.client.current.Load()
	if s == nil {
		return nil, ErrWarming
	}
	if s != w.snapshot {
		w.reset(s)
	}
	o := &w.client.options
	if o.ServerName != "" {
		name = o.ServerName
	}
	if name == "" && !o.Insecure && len(s.verifier.sans) == 0 {
		return nil, ErrNoName
	}
	e := w.entries[endpoint{address, name}]
	if e == nil {
		e = &entry{of: endpoint{address, name}}
		e.config = w.configure(e, s)
		w.entries[e.of] = e
		if len(w.entries) > o.MaxSessions {
			last := w.used.prev
			last.unlink()
			delete(w.entries, last.of)
		}
	} else {
		e.unlink()
	}
	e.next, e.prev = w.used.next, &w.used
	e.next.prev, w.used.next = e, e
	return e.config, nil
}

func (e *entry) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

// Len is how many endpoints are known.
func (w *Worker) Len() int { return len(w.entries) }

func (w *Worker) configure(e *entry, s *clientSnapshot) *tls.Config {
	c, name, now := w.client, e.of.name, w.client.store.options.Now
	config := c.options.config()
	config.ServerName, config.Time = name, now
	config.InsecureSkipVerify = true // VerifyConnection does it, on resumption too
	if !c.options.Insecure {
		config.VerifyConnection = func(cs tls.ConnectionState) error { return s.verify(cs, verified(name), &e.slot, now()) }
	}
	if s.cert != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.cert, nil }
	}
	if c.options.DisableTickets {
		config.SessionTicketsDisabled = true
	} else {
		config.ClientSessionCache = &e.slot
	}
	return config
}

// verified is a server name as x509 wants it: addresses in brackets.
func verified(name string) string {
	if _, err := netip.ParseAddr(name); err == nil {
		return "[" + name + "]"
	}
	return name
}

// sessionSlot is the tls.ClientSessionCache of one endpoint: it holds the last
// session, and the chains by which the server was verified for it.
type sessionSlot struct {
	session *tls.ClientSessionState
	chains  [][]*x509.Certificate
}

// Get gives the last session; it stays, for a server may allow it many times.
func (s *sessionSlot) Get(string) (*tls.ClientSessionState, bool) {
	return s.session, s.session != nil
}

// Put keeps a session; nil forgets it.
func (s *sessionSlot) Put(_ string, session *tls.ClientSessionState) { s.session = session }
