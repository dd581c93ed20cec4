package admin

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"belay/internal/admin/adminapi"
)

func (s *Server) certs(w http.ResponseWriter, _ url.Values) error {
	list := s.src.Certificates()
	if list == nil {
		list = []adminapi.Certificate{}
	}
	return writeJSON(w, list)
}

// explainTLS answers for a client that does not exist.
func (s *Server) explainTLS(w http.ResponseWriter, v url.Values) error {
	q := adminapi.TLSQuery{Listener: v.Get("listener"), SNI: strings.TrimSuffix(strings.ToLower(v.Get("sni")), "."), Source: v.Get("source")}
	if list := v.Get("alpn"); list != "" {
		q.ALPN = strings.Split(list, ",")
	}
	if q.Source != "" {
		if _, err := netip.ParseAddr(q.Source); err != nil {
			return badRequest("source: %q is no IP address", q.Source)
		}
	}
	if text := v.Get("port"); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return badRequest("port: %q is no port", text)
		}
		q.Port = uint16(n)
	}
	for key, into := range map[string]*bool{"tls12": &q.TLS12, "no_ecdsa": &q.NoECDSA} {
		text := v.Get(key)
		if text == "" {
			continue
		}
		b, err := strconv.ParseBool(text)
		if err != nil {
			return badRequest("%s: %q is neither true nor false", key, text)
		}
		*into = b
	}
	list, err := s.src.ExplainTLS(q)
	if err != nil {
		return &refusal{http.StatusNotFound, err.Error()}
	}
	if list == nil {
		list = []adminapi.TLSExplanation{}
	}
	return writeJSON(w, list)
}
