package config

func (b *builder) buildCluster(t *table[rawCluster]) *Cluster {
	raw, at, c := &t.raw, t.at, defaultCluster(t.name)
	putText(&c.Balance, raw.Balance)
	put(&c.ConnectTimeout, raw.ConnectTimeout)
	put(&c.FirstByteTimeout, raw.FirstByteTimeout)
	put(&c.BodyTimeout, raw.BodyTimeout)
	put(&c.WriteTimeout, raw.WriteTimeout)
	put(&c.IdleTimeout, raw.IdleTimeout)
	put(&c.MaxConnections, raw.MaxConnections)
	put(&c.MaxPending, raw.MaxPending)
	put(&c.PendingTimeout, raw.PendingTimeout)
	put(&c.MaxIdle, raw.MaxIdle)
	put(&c.MaxRequestsPerConnection, raw.MaxRequestsPerConnection)
	put(&c.ResponseHeadBytes, raw.ResponseHeadBytes)
	put(&c.ResponseFields, raw.ResponseFields)
	if raw.TLS != nil {
		c.TLS = b.buildClusterTLS(raw.TLS, at.child("tls"))
	}
	if raw.ProxyProtocol != nil {
		c.ProxyProtocol = map[string]int{"off": 0, "v1": 1, "v2": 2}[*raw.ProxyProtocol]
	}
	b.buildHealth(c, raw, at)
	if len(raw.Endpoints) == 0 {
		b.missing(at, "endpoints", `no endpoint; write for example endpoints = [{ address = "10.0.0.1:8080" }]`)
	}
	list := at.child("endpoints")
	c.Endpoints = make([]Endpoint, 0, len(raw.Endpoints))
	first := make(map[string]int, len(raw.Endpoints))
	for i := range raw.Endpoints {
		e := b.buildEndpoint(&raw.Endpoints[i], list.at(i))
		if j, ok := first[e.ID]; ok && e.ID != "" {
			key := "id"
			if raw.Endpoints[i].ID == nil {
				key = "address"
			}
			b.add(list.at(i).child(key), "%q is the id of endpoints[%d] as well", e.ID, j)
		} else {
			first[e.ID] = i
		}
		c.Endpoints = append(c.Endpoints, e)
	}
	return c
}

func (b *builder) buildEndpoint(raw *rawEndpoint, at *path) Endpoint {
	e := Endpoint{Weight: defaultWeight}
	put(&e.Weight, raw.Weight)
	put(&e.Generation, raw.Generation)
	put(&e.Priority, raw.Priority)
	put(&e.MaxConnections, raw.MaxConnections)
	if a := raw.Address; a == nil {
		b.missing(at, "address", `is missing; write for example address = "10.0.0.1:8080"`)
	} else {
		e.Host, e.Port, e.Unix = a.host, a.port, a.unix
		if raw.ID == nil {
			e.ID = a.String()
		}
	}
	if raw.ID != nil {
		e.ID = *raw.ID
		if !isLabel(e.ID) {
			b.add(at.child("id"), "%q: an id has 1 to %d bytes of visible ASCII, without quotes and \"\\\"", e.ID, maxLabel)
		}
	}
	return e
}

// maxLabel bounds what goes into statistics and logs as it stands. The longest
// default id is "unix:" and a path.
const maxLabel = 128

// isLabel tells whether s needs no escape in logs, statistics and a shell.
func isLabel(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f || c == '"' || c == '\'' || c == '\\':
			return false
		}
	}
	return s != "" && len(s) <= maxLabel
}
