package config

import "net/netip"

func (b *builder) buildListener(t *table[rawListener]) *Listener {
	raw, at, l := &t.raw, t.at, defaultListener(t.name)
	b.listenAddress(l, raw, at)
	b.protocol(l, raw, at)
	putBool(&l.IPv6Only, raw.IPv6Only)
	put(&l.Backlog, raw.Backlog)
	put(&l.Sockets, raw.Sockets)
	put(&l.MaxConnections, raw.MaxConnections)
	put(&l.MaxConnectionsPerSource, raw.MaxConnectionsPerSource)
	l.Allow, l.Deny, l.TrustedProxies = prefixes(raw.Allow), prefixes(raw.Deny), prefixes(raw.TrustedProxies)
	raw.Timeouts.put(&l.Timeouts)
	b.listenerTLS(l, raw, at)
	switch l.Protocol {
	case ProtocolHTTP:
		b.httpListener(l, raw, at)
	case ProtocolTCP:
		b.tcpListener(l, raw, at)
	}
	return l
}

func (b *builder) httpListener(l *Listener, raw *rawListener, at *path) {
	putBool(&l.XForwarded, raw.XForwarded)
	putText(&l.RequestID, raw.RequestID)
	putText(&l.ServerHeader, raw.ServerHeader)
	raw.Limits.put(&l.Limits)
	raw.HTTP1.put(&l.HTTP1)
	b.onlyFor(ProtocolTCP, given(&raw.TCP), at.child("tcp"))
	if raw.Cluster != nil {
		b.add(at.child("cluster"), `is only for protocol = "tcp"; an HTTP listener has routes`)
	}
	if raw.Clusters != nil {
		b.add(at.child("clusters"), `is only for protocol = "tcp"; an HTTP listener has routes`)
	}
	if l.Limits.FieldName > l.Limits.HeadBytes {
		b.add(at.child("limits").child("field_name"), "%d is more than head_bytes, %d", l.Limits.FieldName, l.Limits.HeadBytes)
	}
	if len(raw.Routes) == 0 {
		b.missing(at, "route", "no route: every request would get 404")
	}
	first := make(map[string]int)
	for i := range raw.Routes {
		r := b.buildRoute(&raw.Routes[i], at.child("route").at(i), l, i)
		if j, ok := first[r.Name]; ok {
			b.add(at.child("route").at(i).child("name"), "%q is the name of route[%d] as well", r.Name, j)
		} else {
			first[r.Name] = i
		}
		l.Routes = append(l.Routes, r)
	}
}

// listenAddress sets the address and checks the keys that depend on its kind.
func (b *builder) listenAddress(l *Listener, raw *rawListener, at *path) {
	put(&l.UnixMode, raw.UnixMode)
	putText(&l.Systemd, raw.Systemd)
	if raw.Address == nil {
		b.noAddress(l, raw, at)
		return
	}
	l.Address, l.Unix = raw.Address.ap, raw.Address.unix
	if l.Unix != "" {
		if raw.Sockets != nil && *raw.Sockets > 1 {
			b.add(at.child("sockets"), "a Unix listener has one socket")
		}
	} else if raw.UnixMode != nil {
		b.add(at.child("unix_mode"), "is only for a Unix listener")
	}
	if raw.IPv6Only != nil && *raw.IPv6Only && (l.Unix != "" || l.Address.Addr().Is4()) {
		b.add(at.child("ipv6_only"), "is only for an IPv6 address")
	}
}

// noAddress is for a listener whose address the unit of its socket has, and
// with it all that goes with an address.
func (b *builder) noAddress(l *Listener, raw *rawListener, at *path) {
	if b.has(at.child("address")) || b.has(at.child("systemd")) {
		return
	}
	if l.Systemd == "" {
		b.add(at.child("address"), `is missing; write for example address = ":8080"`)
		return
	}
	const needs = "needs address; without it the unit of the socket says "
	if raw.UnixMode != nil {
		b.add(at.child("unix_mode"), needs+"SocketMode=")
	}
	if raw.IPv6Only != nil && *raw.IPv6Only {
		b.add(at.child("ipv6_only"), needs+"BindIPv6Only=")
	}
	if raw.Sockets != nil && *raw.Sockets > 0 {
		b.add(at.child("sockets"), needs+"how many sockets there are")
	}
}

// checkSystemd reports listeners that could take each other's socket: all
// sockets of a unit have one name, so their addresses must tell them apart.
func (b *builder) checkSystemd(cfg *Config) {
	first := make(map[string]int)
	for i, l := range cfg.Listeners {
		if l.Systemd == "" {
			continue
		}
		j, taken := first[l.Systemd]
		if !taken {
			first[l.Systemd] = i
			continue
		}
		if t, other := b.listeners[i], b.listeners[j]; b.lacksAddress(t) || b.lacksAddress(other) {
			b.add(t.at.child("systemd"), "%q is the socket of %s as well; both need address to tell them apart", l.Systemd, other.at)
		}
	}
}

func (b *builder) lacksAddress(t *table[rawListener]) bool {
	return t.raw.Address == nil && !b.has(t.at.child("address"))
}

func (b *builder) protocol(l *Listener, raw *rawListener, at *path) {
	putText(&l.Protocol, raw.Protocol)
	switch l.Protocol {
	case ProtocolHTTP, ProtocolTCP:
	case "h2":
		b.add(at.child("protocol"), "%q is "+notYet, l.Protocol)
	default:
		b.add(at.child("protocol"), `must be "http" or "tcp", not %q`, l.Protocol)
	}
}

func (raw *rawTimeouts) put(t *ListenerTimeouts) {
	put(&t.Head, raw.Head)
	put(&t.Body, raw.Body)
	put(&t.Idle, raw.Idle)
	put(&t.Write, raw.Write)
	put(&t.Request, raw.Request)
	put(&t.Tunnel, raw.Tunnel)
	put(&t.Handshake, raw.Handshake)
}

func (raw *rawLimits) put(l *ListenerLimits) {
	put(&l.RequestLine, raw.RequestLine)
	put(&l.HeadBytes, raw.HeadBytes)
	put(&l.Fields, raw.Fields)
	put(&l.FieldName, raw.FieldName)
	put(&l.Body, raw.Body)
	put(&l.RequestsPerConnection, raw.RequestsPerConnection)
	put(&l.Pipeline, raw.Pipeline)
	put(&l.ChunkExtensions, raw.ChunkExtensions)
}

func (raw *rawHTTP1) put(h *HTTP1) {
	putText(&h.DefaultHost, raw.DefaultHost)
	putBool(&h.AllowEqualLengths, raw.AllowEqualLengths)
	putBool(&h.AllowLeadingZeros, raw.AllowLeadingZeros)
	putBool(&h.AllowHostMismatch, raw.AllowHostMismatch)
	putText(&h.Underscores, raw.Underscores)
	putText(&h.EscapedControl, raw.EscapedControl)
	putText(&h.Backslash, raw.Backslash)
}

func prefixes(raw []prefix) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range raw {
		list = append(list, p.Prefix)
	}
	return list
}
