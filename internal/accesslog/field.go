package accesslog

import "strconv"

// field appends one value of a record.
type field func(dst []byte, w *line, r *Record) []byte

// fields are the names of a format.
var fields = map[string]field{
	"time":                   func(dst []byte, w *line, r *Record) []byte { return w.safe(dst, w.clock.rfc3339(r.Start)) },
	"time_clf":               func(dst []byte, w *line, r *Record) []byte { return w.safe(dst, w.clock.common(r.Start)) },
	"time_unix":              timeUnix,
	"client":                 func(dst []byte, w *line, r *Record) []byte { return w.addr(dst, r.Client.Addr()) },
	"client_port":            func(dst []byte, w *line, r *Record) []byte { return w.int(dst, int64(r.Client.Port())) },
	"peer":                   peer,
	"peer_port":              func(dst []byte, w *line, r *Record) []byte { return w.int(dst, int64(r.Peer.Port())) },
	"listener":               func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.Listener) },
	"route":                  func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.Route) },
	"cluster":                func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.Cluster) },
	"endpoint":               func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.Endpoint) },
	"endpoint_address":       func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.EndpointAddress) },
	"persistence":            func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.Persistence) },
	"persistence_outcome":    func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.Outcome) },
	"request":                request,
	"method":                 func(dst []byte, w *line, r *Record) []byte { return w.bytes(dst, r.Method) },
	"host":                   func(dst []byte, w *line, r *Record) []byte { return w.bytes(dst, r.Host) },
	"path":                   func(dst []byte, w *line, r *Record) []byte { return w.bytes(dst, r.Path) },
	"protocol":               func(dst []byte, w *line, r *Record) []byte { return w.bytes(dst, r.Protocol) },
	"user_agent":             func(dst []byte, w *line, r *Record) []byte { return w.bytes(dst, r.UserAgent) },
	"referer":                func(dst []byte, w *line, r *Record) []byte { return w.bytes(dst, r.Referer) },
	"request_id":             func(dst []byte, w *line, r *Record) []byte { return w.bytes(dst, r.RequestID) },
	"forwarded_for":          func(dst []byte, w *line, r *Record) []byte { return w.bytes(dst, r.ForwardedFor) },
	"status":                 func(dst []byte, w *line, r *Record) []byte { return w.int(dst, int64(r.Status)) },
	"reason":                 func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.Reason) },
	"bytes_in":               func(dst []byte, w *line, r *Record) []byte { return w.int(dst, r.BytesIn) },
	"bytes_out":              func(dst []byte, w *line, r *Record) []byte { return w.int(dst, r.BytesOut) },
	"attempts":               func(dst []byte, w *line, r *Record) []byte { return w.int(dst, int64(r.Attempts)) },
	"reused":                 func(dst []byte, w *line, r *Record) []byte { return w.bool(dst, r.Reused) },
	"connection":             func(dst []byte, w *line, r *Record) []byte { return strconv.AppendUint(w.lead(dst), r.ConnID, 10) },
	"duration":               func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.Duration, seconds) },
	"duration_ms":            func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.Duration, milliseconds) },
	"duration_us":            func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.Duration, microseconds) },
	"tls_version":            func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.tls().Version) },
	"tls_cipher":             func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.tls().Cipher) },
	"tls_group":              func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.tls().Group) },
	"tls_sni":                func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.tls().ServerName) },
	"tls_alpn":               func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.tls().ALPN) },
	"tls_client_subject":     func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.tls().Subject) },
	"tls_ja4":                func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.tls().JA4) },
	"tls_chain":              func(dst []byte, w *line, r *Record) []byte { return w.text(dst, r.tls().Chain) },
	"tls_resumed":            func(dst []byte, w *line, r *Record) []byte { return w.bool(dst, r.tls().Resumed) },
	"tls_handshake":          func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.tls().Handshake, seconds) },
	"tls_handshake_ms":       func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.tls().Handshake, milliseconds) },
	"tls_handshake_us":       func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.tls().Handshake, microseconds) },
	"upstream_connect":       func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.UpstreamConnect, seconds) },
	"upstream_connect_ms":    func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.UpstreamConnect, milliseconds) },
	"upstream_connect_us":    func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.UpstreamConnect, microseconds) },
	"upstream_first_byte":    func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.UpstreamFirstByte, seconds) },
	"upstream_first_byte_ms": func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.UpstreamFirstByte, milliseconds) },
	"upstream_first_byte_us": func(dst []byte, w *line, r *Record) []byte { return w.span(dst, r.UpstreamFirstByte, microseconds) },
}

// jsonNames are the members of a JSON line. The first must always have a value.
var jsonNames = []string{
	"time", "listener", "client", "client_port", "peer", "method", "host", "path", "protocol", "status", "reason",
	"bytes_in", "bytes_out", "duration", "route", "cluster", "endpoint", "endpoint_address", "attempts", "reused", "persistence", "persistence_outcome",
	"upstream_connect", "upstream_first_byte", "user_agent", "referer", "request_id", "forwarded_for", "connection",
	"tls_version", "tls_cipher", "tls_group", "tls_sni", "tls_alpn", "tls_resumed", "tls_client_subject", "tls_ja4", "tls_chain", "tls_handshake",
}

// tls is never nil.
func (r *Record) tls() *TLS {
	if r.TLS == nil {
		return &noTLS
	}
	return r.TLS
}

var noTLS = TLS{Handshake: -1}

// request is the request line; of a request that was not understood, "-".
func request(dst []byte, w *line, r *Record) []byte {
	if len(r.Method) == 0 {
		return w.none(dst)
	}
	dst = append(w.bytes(dst, r.Method), ' ')
	dst = append(w.bytes(dst, r.Path), ' ')
	return w.bytes(dst, r.Protocol)
}

func peer(dst []byte, w *line, r *Record) []byte {
	if w.json && r.Peer.Addr() == r.Client.Addr() {
		return dst
	}
	return w.addr(dst, r.Peer.Addr())
}

func timeUnix(dst []byte, w *line, r *Record) []byte {
	ms := max(0, r.Start.UnixMilli())
	dst = append(strconv.AppendInt(w.lead(dst), ms/1000, 10), '.')
	return appendThousandth(dst, ms%1000)
}
