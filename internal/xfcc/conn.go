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

// Needed reports whether a client's certificate makes a difference.
func (o *Options) Needed() bool { return o.Mode != Sanitize || o.ClientCert }

// Conn has the values of the connection of a client that has shown a certificate.
// It makes them at the first request, and later ones cost nothing; it belongs to
// the connection's worker.
type Conn struct {
	options *Options
	by      []string
	chain   []*x509.Certificate // dropped once the values are made

	element, cert, certs []byte
}

// NewConn prepares the values of a connection; nothing is made yet. The chain is
// the client's verified one, leaf first.
func NewConn(o *Options, by []string, chain []*x509.Certificate) *Conn {
	return &Conn{options: o, by: by, chain: chain}
}

func (c *Conn) make() {
	if c.chain == nil {
		return
	}
	if m := c.options.Mode; m == AppendForward || m == SanitizeSet {
		c.element = []byte(Element(c.options.Details, c.by, c.chain))
	} else {
		c.element = []byte{'-'} // only that there is one
	}
	if c.options.ClientCert {
		c.cert = []byte(ClientCert(c.chain[0]))
		if c.options.ClientCertChain {
			c.certs = []byte(ClientCertChain(c.chain))
		}
	}
	c.chain, c.by = nil, nil
}

// Room is how many bytes Value may add to what came.
func (c *Conn) Room() int {
	c.make()
	return len(",") + len(c.element)
}

// Value gives X-Forwarded-Client-Cert from what the request came with; see
// Mode.Value. It allocates only if old's memory has less than Room behind it.
func (c *Conn) Value(old []byte) []byte {
	c.make()
	return c.options.Mode.Value(old, c.element)
}

// ClientCert gives Client-Cert; empty: there must be none. Like the other values
// it never changes.
func (c *Conn) ClientCert() []byte {
	c.make()
	return c.cert
}

// ClientCertChain gives Client-Cert-Chain; empty: there must be none.
func (c *Conn) ClientCertChain() []byte {
	c.make()
	return c.certs
}
