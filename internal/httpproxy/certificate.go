package httpproxy

import (
	"slices"

	"belay/internal/config"
	"belay/internal/header"
	"belay/internal/listener"
	"belay/internal/xfcc"
)

// forwarding says what endpoints hear of client certificates: by filter chain, as
// listener.Chain.Index has it.
type forwarding []xfcc.Options

func newForwarding(l *config.Listener) (f forwarding) {
	for _, c := range l.Chains {
		f = append(f, forwardingOptions(c.TLS))
	}
	if l.TLS != nil { // the gate has it last, too
		f = append(f, forwardingOptions(l.TLS))
	}
	return f
}

func forwardingOptions(t *config.TLS) (o xfcc.Options) {
	if t == nil {
		return o
	}
	o.Mode, _ = xfcc.ParseMode(t.Client.Forward) // config knows the same words
	for _, d := range t.Client.ForwardDetails {
		detail, _ := xfcc.ParseDetail(d)
		o.Details |= detail
	}
	o.ClientCert, o.ClientCertChain = t.Client.ClientCert, t.Client.ClientCert
	return o
}

// of finds the options of a connection.
func (f forwarding) of(s *listener.Secure) *xfcc.Options { return &f[s.Chain.Index] }

// conn has the values for a connection; nil if there is nothing to tell.
func (f forwarding) conn(s *listener.Secure) *xfcc.Conn {
	chain, o := s.ClientChain(), f.of(s)
	if chain == nil || !o.Needed() {
		return nil
	}
	return xfcc.NewConn(o, s.Chain.Server.LocalURIs(s.ServerName), chain)
}

// clientCertificate removes what the client says about certificates itself, or
// leaves it, as the mode says, and adds what belay knows. Trusted proxies are no
// exception, for a mode can say that they shall be believed; a plain connection has
// none and so the strictest.
func (s *stream) clientCertificate() {
	m := &s.req.Header
	mode := xfcc.Sanitize
	var cert *xfcc.Conn
	if c := s.c; c.secure() {
		mode, cert = c.plan.certificates.of(c.came.tls).Mode, c.came.certificate
	}
	if cert == nil {
		s.setElement(mode.Value(s.joined(header.XForwardedClientCert, 0), nil))
		m.Remove(header.ClientCert)
		m.Remove(header.ClientCertChain)
		return
	}
	s.setElement(cert.Value(s.joined(header.XForwardedClientCert, cert.Room())))
	lend(m, header.ClientCert, cert.ClientCert())
	lend(m, header.ClientCertChain, cert.ClientCertChain())
}

// setElement sets X-Forwarded-Client-Cert. A value that does not fit must not leave
// the client's in its place.
func (s *stream) setElement(v []byte) {
	m := &s.req.Header
	if len(v) == 0 || m.Set(header.XForwardedClientCert, v) != nil {
		m.Remove(header.XForwardedClientCert)
	}
}

// lend sets a field to what stays as it is as long as the connection, or removes it.
func lend(m *header.Map, h header.Handle, v []byte) {
	if len(v) == 0 || m.SetRef(h, v) != nil {
		m.Remove(h)
	}
}

// joined is the value of a field, its lines joined by commas, with room for more
// behind it; it is valid until the worker's text is used again.
func (s *stream) joined(h header.Handle, room int) []byte {
	b := s.w.text[:0]
	s.req.Header.Values(h, func(v []byte) bool {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(b, v...)
		return true
	})
	s.w.text = slices.Grow(b, room)
	return s.w.text
}
