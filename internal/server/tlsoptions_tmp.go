package server

import (
	"belay/internal/certs"
	"belay/internal/config"
	"crypto/tls"
)

func serverTLSOptions(t *config.TLS, name string, f *certs.Files) certs.ServerOptions {
	o := certs.ServerOptions{Name: name}
	for _, c := range t.Certificates {
		if c.SelfSigned {
			o.Certificates = append(o.Certificates, &certs.SelfSigned{Names: c.Names})
			continue
		}
		o.Certificates = append(o.Certificates, &certs.FileSource{Files: f, Cert: c.Cert.String(), Key: c.Key.String(), Staple: c.OCSP.String()})
	}
	o.ALPN = t.ALPN
	_ = tls.VersionTLS12
	return o
}
func clientTLSOptions(c *config.Cluster, f *certs.Files) certs.ClientOptions {
	return certs.ClientOptions{Name: c.Name}
}
func (s *Server) credentials() string { return "" }
