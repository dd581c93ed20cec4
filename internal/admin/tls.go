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

// certificateStates follows the tables of the configuration: whether the files that
// these name are in use. It is no key of belay.toml; without TLS there is none.
func certificateStates(all []adminapi.Certificate) table {
	if len(all) == 0 {
		return nil
	}
	return table{{adminapi.ConfigCertificates, list(all, func(c *adminapi.Certificate) table {
		t := table{{"kind", c.Kind}, {"source", c.Source}, {"state", c.State}}
		return append(t, given(table{{"error", c.Error}})...)
	})}}
}

// explainTLS answers for a client that does not exist.
func (s *Server) explainTLS(w http.ResponseWriter, v url.Values) error {
	q, err := tlsQuery(v)
	if err != nil {
		return err
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

func tlsQuery(v url.Values) (q adminapi.TLSQuery, err error) {
	q = adminapi.TLSQuery{Listener: v.Get("listener"), SNI: strings.TrimSuffix(strings.ToLower(v.Get("sni")), "."), Source: v.Get("source")}
	if list := v.Get("alpn"); list != "" {
		q.ALPN = strings.Split(list, ",")
	}
	for _, p := range q.ALPN {
		if p == "" || len(p) > 255 { // RFC 7301 section 3.1
			return q, badRequest("alpn: %.300q is no protocol", p)
		}
	}
	if q.Source != "" {
		if _, err := netip.ParseAddr(q.Source); err != nil {
			return q, badRequest("source: %q is no IP address", q.Source)
		}
	}
	if text := v.Get("port"); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return q, badRequest("port: %q is no port", text)
		}
		q.Port = uint16(n)
	}
	for key, into := range map[string]*bool{"tls12": &q.TLS12, "no_ecdsa": &q.NoECDSA} {
		text := v.Get(key)
		if text == "" {
			continue
		}
		if *into, err = strconv.ParseBool(text); err != nil {
			return q, badRequest("%s: %q is neither true nor false", key, text)
		}
	}
	return q, nil
}
