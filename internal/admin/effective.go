package admin

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"belay/internal/config"
)

// table is a TOML table whose keys have an order.
type table []member

type member struct {
	key   string
	value any
}

// MarshalJSON writes an object with its keys in order.
func (t table) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range t {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := marshal(m.key)
		if err != nil {
			return nil, err
		}
		value, err := marshal(m.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.key, err)
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// effective is the configuration as belay.toml would have it with every default
// written down: config reads it back as the same Config, which a test holds.
// Keys follow from the names of the fields; what the file writes in another way
// than Config holds it has a function below.
func effective(c *config.Config) table {
	listeners := make(table, 0, len(c.Listeners))
	for _, l := range c.Listeners {
		listeners = append(listeners, member{l.Name, listenerTable(l)})
	}
	clusters := make(table, 0, len(c.Clusters))
	for _, cl := range c.Clusters {
		clusters = append(clusters, member{cl.Name, clusterTable(cl)})
	}
	tables := make(table, 0, len(c.Tables))
	for _, x := range c.Tables {
		tables = append(tables, member{x.Name, stickTable(x)})
	}
	return table{
		{"server", append(fields(&c.Server, "TLS"), member{"tls", serverTLSTable(&c.Server.TLS)})},
		{"admin", adminTable(&c.Admin)},
		{"access_log", fields(&c.AccessLog)},
		{"hot_restart", hotRestartTable(&c.HotRestart)},
		{"listener", listeners},
		{"cluster", clusters},
		{"table", tables},
		{"persistence", keysTable(&c.Keys)},
	}
}

func adminTable(a *config.Admin) table {
	socket, metrics := a.Socket, "none"
	if socket == "" {
		socket = "none"
	}
	if a.MetricsAddress.IsValid() {
		metrics = a.MetricsAddress.String()
	}
	return append(table{{"socket", socket}, {"metrics_address", metrics}}, fields(a, "Socket", "MetricsAddress")...)
}

func hotRestartTable(h *config.HotRestart) table {
	strategy := "gradual"
	if h.DrainImmediate {
		strategy = "immediate"
	}
	t := fields(h)
	for i := range t {
		switch m := &t[i]; {
		case m.key == "drain_immediate":
			*m = member{"drain_strategy", strategy}
		case m.key == "memory_headroom" && h.MemoryHeadroom == 0:
			m.value = "auto"
		}
	}
	return t
}

// listenerTable leaves out an address that only systemd knows.
func listenerTable(l *config.Listener) table {
	var t table
	if l.Unix != "" {
		t = table{{"address", "unix:" + l.Unix}, {"unix_mode", fmt.Sprintf("%04o", l.UnixMode)}}
	} else if l.Address.IsValid() {
		t = table{{"address", l.Address.String()}}
	}
	if l.Protocol == config.ProtocolTCP {
		return append(t, tcpListenerTable(l)...)
	}
	t = append(t, fields(l, "Name", "Address", "Unix", "UnixMode", "Routes", "Clusters", "TCP", "StartTLS", "TLS", "Chains")...)
	t = append(t, listenerTLSTable(l)...)
	return append(t, member{"route", list(l.Routes, func(r **config.Route) table { return routeTable(*r) })})
}

// tcpListenerTable is the rest of a TCP listener, without the keys of HTTP.
func tcpListenerTable(l *config.Listener) table {
	t := fields(l, "Name", "Address", "Unix", "UnixMode", "Routes", "Clusters", "TrustedProxies", "XForwarded", "RequestID",
		"ServerHeader", "Timeouts", "Limits", "HTTP1", "StartTLS", "TLS", "Chains")
	t = append(t, member{"timeouts", table{{"tunnel", duration(l.Timeouts.Tunnel)}, {"handshake", duration(l.Timeouts.Handshake)}}})
	t = append(t, member{"starttls", orNone(l.StartTLS)})
	t = append(t, listenerTLSTable(l)...)
	return append(t, clustersTable(l.Clusters)...)
}

// clustersTable is cluster or clusters, nothing for none.
func clustersTable(shares []config.WeightedCluster) table {
	switch {
	case len(shares) == 1 && shares[0].Weight == 1:
		return table{{"cluster", shares[0].Cluster}}
	case len(shares) > 0:
		return table{{"clusters", list(shares, func(w *config.WeightedCluster) table { return fields(w) })}}
	}
	return nil
}

// routeTable leaves out what is not set: most keys of a route exclude others or
// leave a decision to the listener or the cluster.
func routeTable(r *config.Route) table {
	t := given(fields(r, "Index", "Headers", "Clusters", "Respond", "Redirect", "Upgrade", "PathRewrite", "RequestHeaders", "ResponseHeaders", "Retry", "Persistence"))
	if r.Persistence != nil {
		t = append(t, member{"persistence", persistenceTable(r.Persistence)})
	}
	if len(r.Headers) > 0 {
		t = append(t, member{"headers", list(r.Headers, func(h *config.HeaderMatch) table {
			m := given(fields(h))
			if h.Regex == nil && !h.Present {
				m = append(given(fields(h, "Exact")), member{"exact", h.Exact}) // which may be ""
			}
			return m
		})})
	}
	t = append(t, clustersTable(r.Clusters)...)
	if len(r.Clusters) > 0 {
		t = append(t, member{"upgrade", r.Upgrade})
	}
	if r.Respond != nil {
		t = append(t, member{"respond", respondTable(r.Respond)})
	}
	if r.Redirect != nil {
		t = append(t, member{"redirect", redirectTable(r.Redirect)})
	}
	if p := r.PathRewrite; p != nil && p.Regex != nil {
		t = append(t, member{"path_rewrite", table{{"regex", p.Regex.String()}, {"replace", p.Replace}}})
	} else if p != nil {
		t = append(t, member{"path_rewrite", table{{"prefix", *p.Prefix}}})
	}
	t = append(t, given(table{{"request_headers", opsTable(&r.RequestHeaders)}, {"response_headers", opsTable(&r.ResponseHeaders)}})...)
	if r.Retry.On != 0 {
		t = append(t, member{"retry", append(table{{"on", retryNames(r.Retry.On)}}, given(fields(&r.Retry, "On"))...)})
	}
	return t
}

func respondTable(r *config.Respond) table {
	const contentType = "Content-Type"
	t := table{{"status", r.Status}, {"body", r.Body}}
	rest := r.Headers
	named := func(h [2]string) bool { return strings.EqualFold(h[0], contentType) }
	switch {
	case len(rest) > 0 && rest[0][0] == contentType: // where config puts that of content_type
		t = append(t, member{"content_type", rest[0][1]})
		rest = rest[1:]
	case r.Body != "" && !slices.ContainsFunc(rest, named):
		t = append(t, member{"content_type", ""})
	}
	var headers table
	for _, h := range rest {
		headers = append(headers, member{h[0], h[1]})
	}
	return append(t, given(table{{"headers", headers}})...)
}

func redirectTable(r *config.Redirect) table {
	t := given(fields(r, "Port"))
	if port, err := strconv.Atoi(r.Port); err == nil {
		t = append(t, member{"port", port})
	}
	return t
}

func opsTable(o *config.HeaderOps) table {
	var set, add table
	for _, s := range o.Set {
		set = append(set, member{s[0], s[1]})
	}
	for _, a := range o.Add {
		if n := len(add); n > 0 && add[n-1].key == a[0] {
			add[n-1].value = append(add[n-1].value.([]string), a[1])
			continue
		}
		add = append(add, member{a[0], []string{a[1]}})
	}
	return given(table{{"remove", o.Remove}, {"set", set}, {"add", add}})
}

func retryNames(on config.RetryOn) []string {
	var names []string
	for _, n := range []struct {
		on   config.RetryOn
		name string
	}{
		{config.RetryConnectFailure, "connect-failure"}, {config.RetryReset, "reset"}, {config.Retry5xx, "5xx"},
		{config.RetryStatus, "status"}, {config.RetryFirstByte, "first-byte-timeout"},
	} {
		if on&n.on != 0 {
			names = append(names, n.name)
		}
	}
	return names
}

func clusterTable(c *config.Cluster) table {
	t := fields(c, "Name", "Endpoints", "TLS", "ProxyProtocol", "Hash", "Persistence", "HealthCheck", "Outlier")
	t = append(t, clusterHealthTable(c)...)
	t = append(t, member{"proxy_protocol", [...]string{"off", "v1", "v2"}[c.ProxyProtocol]})
	if c.TLS != nil {
		t = append(t, member{"tls", clusterTLSTable(c.TLS)})
	}
	return append(t, member{"endpoints", list(c.Endpoints, endpointTable)})
}

func endpointTable(e *config.Endpoint) table {
	address := net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
	if e.Unix != "" {
		address = "unix:" + e.Unix
	}
	return append(table{{"id", e.ID}, {"address", address}}, fields(e, "ID", "Host", "Port", "Unix")...)
}

func list[T any](elements []T, f func(*T) table) []table {
	out := make([]table, 0, len(elements))
	for i := range elements {
		out = append(out, f(&elements[i]))
	}
	return out
}

// fields makes members of the exported fields of the struct that p points to,
// but for those left out.
func fields(p any, leaveOut ...string) table {
	v := reflect.ValueOf(p).Elem()
	var t table
next:
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		for _, no := range leaveOut {
			if name == no {
				continue next
			}
		}
		t = append(t, member{key(name), plain(v.Field(i))})
	}
	return t
}

// plain is the value as TOML would have it. Durations below 0 and nil are nil.
func plain(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case time.Duration:
		if x < 0 {
			return nil
		}
		return duration(x)
	case slog.Level:
		return strings.ToLower(x.String())
	case *regexp.Regexp:
		if x == nil {
			return nil
		}
		// config anchors what must match as a whole.
		s, _ := strings.CutPrefix(x.String(), `\A(?:`)
		s, _ = strings.CutSuffix(s, `)\z`)
		return s
	case netip.AddrPort, netip.Prefix:
		return x
	}
	switch v.Kind() {
	case reflect.Struct:
		return fields(v.Addr().Interface())
	case reflect.Slice:
		out := make([]any, 0, v.Len())
		for i := range v.Len() {
			out = append(out, plain(v.Index(i)))
		}
		return out
	case reflect.Int, reflect.Int64:
		if v.Int() < 0 {
			return nil
		}
	}
	return v.Interface()
}

// given leaves out the members that are not set.
func given(t table) table {
	var out table
	for _, m := range t {
		v := reflect.ValueOf(m.value)
		if !v.IsValid() || v.Kind() == reflect.Slice && v.Len() == 0 || v.Kind() == reflect.Map && v.Len() == 0 {
			continue
		}
		if (v.Kind() == reflect.String || v.Kind() == reflect.Bool) && v.IsZero() {
			continue
		}
		out = append(out, m)
	}
	return out
}

// duration writes d as people do: 1h, not 1h0m0s.
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// key is the TOML key of a field of Config: DNSMinTTL is dns_min_ttl.
func key(field string) string {
	if field == "IPv6Only" {
		return "ipv6_only"
	}
	var b strings.Builder
	runes := []rune(field)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
