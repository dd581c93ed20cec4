package listener

import (
	"crypto/tls"

	"belay/internal/stats"
	"belay/internal/transport"
)

// gateStats are the series of one listener's gate.
type gateStats struct {
	resumed  [2]stats.Counter // by whether it was
	duration stats.Histogram
	failed   [failures]stats.Counter
	versions map[uint16]stats.Counter
	groups   map[tls.CurveID]stats.Counter
	suites   map[uint16]stats.Counter
	proxied  stats.Counter
	passed   stats.Counter // passed through
}

// groups are the key exchanges that crypto/tls knows; 0 is a resumption of TLS 1.2,
// or its exchange by RSA.
var groups = []tls.CurveID{
	0, tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
}

// GroupName is a key exchange as the TLS registry of IANA names it; "" for none.
func GroupName(id tls.CurveID) string {
	switch id {
	case 0:
		return ""
	case tls.X25519:
		return "x25519"
	case tls.CurveP256:
		return "secp256r1"
	case tls.CurveP384:
		return "secp384r1"
	case tls.CurveP521:
		return "secp521r1"
	}
	return id.String() // those of X25519MLKEM768 and its like are the registry's
}

// VersionName is a version of TLS as it is written in logs: "1.3".
func VersionName(v uint16) string {
	switch v {
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS13:
		return "1.3"
	}
	return ""
}

func newGateStats(r *stats.Registry, name string, secure bool) gateStats {
	l := stats.Label{Name: "listener", Value: name}
	counter := func(n, help, label, value string) stats.Counter {
		return r.Counter("belay_listener_"+n, help, l, stats.Label{Name: label, Value: value})
	}
	var s gateStats
	for f := range failures {
		if f.String() == "" {
			continue
		}
		s.failed[f] = counter("handshake_failures_total", "Connections that ended before their protocol began, by reason.", "reason", f.String())
	}
	s.proxied = r.Counter("belay_listener_proxy_headers_total", "PROXY headers that named a client.", l)
	if !secure {
		return s
	}
	s.resumed[0] = counter("tls_handshakes_total", "TLS handshakes that succeeded.", "resumed", "false")
	s.resumed[1] = counter("tls_handshakes_total", "TLS handshakes that succeeded.", "resumed", "true")
	s.duration = r.Histogram("belay_listener_tls_handshake_duration_seconds", "First byte to the end of a TLS handshake that succeeded.", l)
	s.passed = r.Counter("belay_listener_tls_passed_through_total", "TLS connections passed through to a cluster.", l)
	s.versions = make(map[uint16]stats.Counter)
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s.versions[v] = counter("tls_versions_total", "TLS handshakes by version.", "version", VersionName(v))
	}
	s.groups = make(map[tls.CurveID]stats.Counter)
	for _, g := range groups {
		label := GroupName(g)
		if label == "" {
			label = "none"
		}
		s.groups[g] = counter("tls_groups_total", "TLS handshakes by key exchange.", "group", label)
	}
	s.suites = make(map[uint16]stats.Counter)
	for _, c := range tls.CipherSuites() {
		s.suites[c.ID] = counter("tls_cipher_suites_total", "TLS handshakes by cipher suite.", "suite", c.Name)
	}
	return s
}

// succeeded counts a handshake.
func (s *gateStats) succeeded(shard *stats.Shard, i *transport.TLSInfo) {
	resumed := 0
	if i.Resumed {
		resumed = 1
	}
	shard.Inc(s.resumed[resumed])
	shard.Inc(s.versions[i.Version])
	shard.Inc(s.groups[i.Curve])
	shard.Inc(s.suites[i.CipherSuite])
	shard.Observe(s.duration, int64(i.Duration))
}
