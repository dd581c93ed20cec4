package xfcc

import "crypto/x509"

// Names of the headers, in lower case. A proxy removes all three from requests
// unless a Conn says otherwise.
const (
	Header          = "x-forwarded-client-cert"
	HeaderCert      = "client-cert"
	HeaderCertChain = "client-cert-chain"
)

// Options say what is forwarded; the zero value removes everything.
type Options struct {
	Mode    Mode
	Details Details

	ClientCert      bool // RFC 9440
	ClientCertChain bool // with ClientCert only
}

// Conn has the values of one connection. It makes them at the first request, and
// later ones cost nothing; it belongs to the connection's worker.
type Conn struct {
	options *Options
	by      []string
	chain   []*x509.Certificate // nil: no certificate; dropped once the values are made

	made                 bool
	element, cert, certs string
	old, joined          string // the last header that came, and what became of it
}

// NewConn prepares the values of a connection; nothing is made yet. The chain is
// the verified one of the client, leaf first, or empty.
func NewConn(o *Options, by []string, chain []*x509.Certificate) *Conn {
	return &Conn{options: o, by: by, chain: chain}
}

func (c *Conn) make() {
	if c.made {
		return
	}
	c.made = true
	if len(c.chain) == 0 {
		return
	}
	if m := c.options.Mode; m == AppendForward || m == SanitizeSet {
		c.element = Element(c.options.Details, c.by, c.chain)
	} else {
		c.element = "-" // only that there is one
	}
	if c.options.ClientCert {
		c.cert = ClientCert(c.chain[0])
		if c.options.ClientCertChain {
			c.certs = ClientCertChain(c.chain)
		}
	}
	c.chain, c.by = nil, nil
}

// Value gives X-Forwarded-Client-Cert from what the request came with; see
// Mode.Value.
func (c *Conn) Value(old string) (value string, present bool) {
	c.make()
	if c.options.Mode != AppendForward || old == "" {
		return c.options.Mode.Value(old, c.element)
	}
	if old != c.old {
		c.old = old
		c.joined, _ = AppendForward.Value(old, c.element)
	}
	return c.joined, c.joined != ""
}

// ClientCert gives Client-Cert; "" means that there must be none.
func (c *Conn) ClientCert() string {
	c.make()
	return c.cert
}

// ClientCertChain gives Client-Cert-Chain; "" means that there must be none.
func (c *Conn) ClientCertChain() string {
	c.make()
	return c.certs
}
