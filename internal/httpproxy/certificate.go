package httpproxy

import (
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

// conn has the values for a connection; they are made at its first request.
func (f forwarding) conn(s *listener.Secure) *xfcc.Conn {
	return xfcc.NewConn(&f[s.Chain.Index], s.Chain.Server.LocalURIs(s.ServerName), s.PeerCertificates)
}

// clientCertificate removes what the client says about certificates itself, or
// leaves it, as the mode says, and adds what belay knows. On a plain connection only a
// trusted proxy can know anything.
func (s *stream) clientCertificate(trusted bool) {
	m := &s.req.Header
	var cert *xfcc.Conn
	if s.c.came != nil {
		cert = s.c.came.certificate
	}
	switch {
	case cert == nil && trusted:
		return
	case cert == nil:
		m.Remove(header.XForwardedClientCert)
		m.Remove(header.ClientCert)
		m.Remove(header.ClientCertChain)
		return
	}
	if v, ok := cert.Value(s.joined(header.XForwardedClientCert)); ok {
		m.SetString(header.XForwardedClientCert, v)
	} else {
		m.Remove(header.XForwardedClientCert)
	}
	setOrRemove(m, header.ClientCert, cert.ClientCert())
	setOrRemove(m, header.ClientCertChain, cert.ClientCertChain())
}

func setOrRemove(m *header.Map, h header.Handle, v string) {
	if v == "" {
		m.Remove(h)
		return
	}
	m.SetString(h, v)
}

// joined is the value of a field, its lines joined by commas; "" if there is none.
func (s *stream) joined(h header.Handle) string {
	m := &s.req.Header
	if !m.Has(h) {
		return ""
	}
	var b []byte
	m.Values(h, func(v []byte) bool {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(b, v...)
		return true
	})
	return string(b)
}
