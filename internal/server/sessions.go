package server

import (
	"belay/internal/httpproxy"
)

// sessions is what the proxies need to keep sessions where they are.
func (s *Server) sessions() *httpproxy.Sessions {
	return &httpproxy.Sessions{Keys: s.keyring, Tables: s.tables, Skew: s.cfg.Keys.Skew}
}
