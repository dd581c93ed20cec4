package admin

import (
	"net/url"
	"strconv"

	"belay/internal/config"
)

// renamed gives members the keys that do not follow from the names of their fields.
func renamed(t table, keys map[string]string) table {
	for i := range t {
		if k, ok := keys[t[i].key]; ok {
			t[i].key = k
		}
	}
	return t
}

// keysTable leaves out what a keyring excludes.
func keysTable(k *config.Keys) table {
	if k.Keyring.String() != "" {
		return table{{"keyring", k.Keyring.String()}, {"skew", duration(k.Skew)}}
	}
	t := given(fields(k, "Keyring", "Keep"))
	if k.Keep == 0 {
		return append(t, member{"keep", "auto"})
	}
	return append(t, member{"keep", duration(k.Keep)})
}

// stickTable shows a store without its password.
func stickTable(x *config.Table) table {
	if x.Store == "" {
		return fields(x, "Name", "Store", "StoreTimeout", "StorePrefix", "StoreQueue")
	}
	t := fields(x, "Name", "Store")
	store := x.Store
	if u, err := url.Parse(store); err == nil {
		store = u.Redacted()
	}
	return append(t, member{"store", store})
}

// persistenceTable leaves out keys that the policy has no use for.
func persistenceTable(p *config.Persistence) table {
	if p.Off {
		return table{{"enabled", false}}
	}
	leave := []string{"Off", "Cookie", "Header", "Table", "DebugHeader"}
	if p.Policy != "strict" && p.Unknown != "strict" {
		leave = append(leave, "StrictStatus", "RetryAfter")
	}
	if p.Policy != "detour" {
		leave = append(leave, "Grace")
	}
	t := renamed(fields(p, leave...), map[string]string{"window": "first_request_window"})
	t = append(t, given(table{{"debug_header", p.DebugHeader}})...)
	if c := p.Cookie; c != nil {
		leave := []string{"Domain"}
		if c.Mode != "insert" {
			leave = append(leave, "Path", "SameSite", "Secure", "HTTPOnly", "Partitioned", "MaxIdle", "Keep", "Hide", "Preserve", "PostOnly", "NoCache")
		}
		cookie := renamed(fields(c, leave...), map[string]string{"keep": "keep_over_end", "hide": "hide_from_upstream"})
		t = append(t, member{"cookie", append(cookie, given(table{{"domain", c.Domain}})...)})
	}
	if h := p.Header; h != nil {
		var leave []string
		if h.Mode != "token" {
			leave = append(leave, "Hide", "MaxIdle")
		}
		t = append(t, member{"header", renamed(fields(h, leave...), map[string]string{"hide": "hide_from_upstream"})})
	}
	if x := p.Table; x != nil {
		m := append(fields(x, "Key", "Learn"), member{"key", list(x.Key, hashOnTable)})
		if x.Learn != nil {
			m = append(m, member{"learn", hashOnTable(x.Learn)})
		}
		t = append(t, member{"table", m})
	}
	return t
}

func hashOnTable(h *config.HashOn) table {
	t := given(fields(h, "TTL", "Mint"))
	if h.Mint {
		t = append(t, member{"ttl", duration(h.TTL)})
	}
	return t
}

// clusterHealthTable is what a cluster says of sessions, hashes and health.
func clusterHealthTable(c *config.Cluster) table {
	var t table
	if c.Balance == "ring_hash" || c.Balance == "maglev" {
		hash := append(fields(&c.Hash, "On"), member{"on", list(c.Hash.On, hashOnTable)})
		t = append(t, member{"hash", hash})
	}
	if c.Persistence != nil {
		t = append(t, member{"persistence", persistenceTable(c.Persistence)})
	}
	if c.HealthCheck != nil {
		t = append(t, member{"health_check", healthCheckTable(c.HealthCheck)})
	}
	if o := c.Outlier; o != nil {
		t = append(t, member{"outlier", append(renamed(fields(o, "On"), map[string]string{
			"success_rate_hosts": "success_rate_endpoints", "ejection": "ejection_time", "max_ejection": "max_ejection_time", "max_ejected": "max_ejected_percent",
		}), member{"on", retryNames(o.On)})})
	}
	return t
}

func healthCheckTable(h *config.HealthCheck) table {
	leave := []string{"Headers", "Status", "Degraded", "Port", "Host", "Body"}
	if h.Type != "http" {
		leave = append(leave, "Method", "Path")
	}
	t := append(fields(h, leave...), given(table{{"host", h.Host}})...)
	if h.Port != 0 {
		t = append(t, member{"port", h.Port})
	}
	if h.Type != "http" {
		return t
	}
	var headers table
	for _, x := range h.Headers {
		headers = append(headers, member{x[0], x[1]})
	}
	if h.Body != nil {
		t = append(t, member{"body", h.Body.String()})
	}
	t = append(t, member{"status", rangeTexts(h.Status)})
	return append(t, given(table{{"headers", headers}, {"degraded_status", rangeTexts(h.Degraded)}})...)
}

func rangeTexts(ranges []config.StatusRange) []string {
	var out []string
	for _, r := range ranges {
		s := strconv.Itoa(r.From)
		if r.To != r.From {
			s += "-" + strconv.Itoa(r.To)
		}
		out = append(out, s)
	}
	return out
}
