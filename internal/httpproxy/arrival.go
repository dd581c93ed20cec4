package httpproxy

import (
	"net/netip"

	"belay/internal/accesslog"
	"belay/internal/listener"
	"belay/internal/proxyproto"
	"belay/internal/xfcc"
)

// arrival is what more is known of a connection than its peer.
type arrival struct {
	tls         *listener.Secure // nil: plain
	via, dest   netip.AddrPort   // as in listener.Client
	log         *accesslog.TLS
	subject     string     // for templates; made when first asked for
	certificate *xfcc.Conn // nil: the client has shown none, or nobody is told
}

// tlsRecord begins a ClientHello (RFC 8446 section 5.1), and no request.
const tlsRecord = 22

// secure reports whether the client speaks TLS with us.
func (c *conn) secure() bool { return c.came != nil && c.came.tls != nil }

// closeTLS closes a connection that begins as TLS does where none is spoken: no reply
// could be read. It reports whether it did.
func (c *conn) closeTLS() bool {
	if c.requests > 0 || c.secure() {
		return false
	}
	c.w.shard.Inc(c.plan.Stats.TLSOnPlain)
	c.close()
	return true
}

// scheme is that of the client's URLs.
func (c *conn) scheme() string {
	if c.secure() {
		return "https"
	}
	return "http"
}

// origin is who a connection to an endpoint is made for.
func (c *conn) origin() *proxyproto.Origin {
	if c.came == nil {
		return (*listener.Secure)(nil).Origin(c.peer, netip.AddrPort{})
	}
	return c.came.tls.Origin(c.peer, c.came.dest)
}

func newArrival(p *Plan, c *listener.Client) *arrival {
	a := &arrival{tls: c.TLS, via: c.Via, dest: c.Dest, log: c.Log}
	if c.TLS != nil {
		a.certificate = p.certificates.conn(c.TLS)
	}
	return a
}

// appendTLS adds the value of a template's variable about the connection.
func (c *conn) appendTLS(b []byte, variable string) []byte {
	if variable == "scheme" {
		return append(b, c.scheme()...)
	}
	if !c.secure() {
		return b
	}
	a := c.came
	switch variable {
	case "tls_version":
		b = append(b, listener.VersionName(a.tls.Version)...)
	case "tls_sni":
		b = append(b, a.tls.ServerName...)
	case "tls_client_subject":
		if chain := a.tls.PeerCertificates; a.subject == "" && len(chain) > 0 {
			a.subject = xfcc.SubjectName(chain[0])
		}
		b = append(b, a.subject...)
	}
	return b
}
