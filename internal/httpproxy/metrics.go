package httpproxy

import (
	"net/netip"

	"belay/internal/listener"
	"belay/internal/stats"
	"belay/internal/upstream"
)

// listenerStats are the series of one listener.
type listenerStats struct {
	Accept          listener.Stats
	Active          stats.Gauge
	Requests        stats.Counter
	Replies         [6]stats.Counter // by class; 0: other
	Duration        stats.Histogram
	BytesIn         stats.Counter
	BytesOut        stats.Counter
	BadRequests     stats.Counter
	HeadTimeouts    stats.Counter
	HeadAborts      stats.Counter
	BodyTimeouts    stats.Counter
	BodyTooLarge    stats.Counter
	RequestTimeouts stats.Counter
	WriteTimeouts   stats.Counter
	NoRoute         stats.Counter
	Denied          stats.Counter
	LocalReplies    stats.Counter
	Upgrades        stats.Counter
	Misdirected     stats.Counter
	TLSOnPlain      stats.Counter
	DrainClosed     stats.Counter
}

// classes label replies; a request without a reply (499) is a 4xx as in nginx.
var classes = [6]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}

func newListenerStats(r *stats.Registry, name string) listenerStats {
	l := stats.Label{Name: "listener", Value: name}
	counter := func(n, help string) stats.Counter { return r.Counter("belay_listener_"+n, help, l) }
	timeout := func(kind string) stats.Counter {
		return r.Counter("belay_listener_timeouts_total", "Time limits that ran out on the client's side.", l, stats.Label{Name: "kind", Value: kind})
	}
	s := listenerStats{
		Accept:          listener.NewStats(r, name),
		Active:          r.Gauge("belay_listener_connections", "Open client connections.", l),
		Requests:        counter("requests_total", "Requests whose head was complete and valid."),
		Duration:        r.Histogram("belay_listener_request_duration_seconds", "First byte of a request to last byte of its reply.", l),
		BytesIn:         counter("body_received_bytes_total", "Request body, tunnel and TCP bytes from clients."),
		BytesOut:        counter("sent_bytes_total", "Reply, tunnel and TCP bytes to clients."),
		BadRequests:     counter("bad_requests_total", "Requests refused for their form."),
		HeadAborts:      counter("head_aborts_total", "Connections that ended in the middle of a request head."),
		BodyTooLarge:    counter("body_too_large_total", "Requests refused for the size of their body."),
		NoRoute:         counter("no_route_total", "Requests that no route matched."),
		Denied:          counter("denied_total", "Requests refused by a route's allow and deny lists."),
		LocalReplies:    counter("local_replies_total", "Replies made by belay itself."),
		Upgrades:        counter("upgrades_total", "Connections that became tunnels."),
		Misdirected:     counter("misdirected_total", "Requests for a host whose clients must show another certificate than this connection's (421)."),
		TLSOnPlain:      counter("tls_on_plain_total", "Connections closed because they began with TLS where none is spoken."),
		DrainClosed:     r.Counter("belay_drain_idle_closed_total", "Silent connections closed because the process drains.", l),
		HeadTimeouts:    timeout("head"),
		BodyTimeouts:    timeout("body"),
		RequestTimeouts: timeout("request"),
		WriteTimeouts:   timeout("write"),
	}
	for i, c := range classes {
		s.Replies[i] = r.Counter("belay_listener_replies_total", "Exchanges by status class.", l, stats.Label{Name: "class", Value: c})
	}
	return s
}

// clusterStats are the series of one cluster.
type clusterStats struct {
	Requests          stats.Counter
	NoEndpoint        stats.Counter
	Retries           stats.Counter
	RetriesOverBudget stats.Counter
	StaleRetries      stats.Counter
	ConnectTimeouts   stats.Counter
	FirstByteTimeouts stats.Counter
	Overflow          stats.Counter
	Redispatches      stats.Counter
}

func newClusterStats(r *stats.Registry, name string) clusterStats {
	l := stats.Label{Name: "cluster", Value: name}
	counter := func(n, help string) stats.Counter { return r.Counter("belay_cluster_"+n, help, l) }
	timeout := func(kind string) stats.Counter {
		return r.Counter("belay_cluster_timeouts_total", "Time limits that ran out on the endpoint's side.", l, stats.Label{Name: "kind", Value: kind})
	}
	return clusterStats{
		Requests:          counter("requests_total", "Requests and TCP connections sent to the cluster."),
		NoEndpoint:        counter("no_endpoint_total", "Requests and TCP connections for which no endpoint could be picked."),
		Retries:           counter("retries_total", "Tries after the first, by a route's retry policy or connect_attempts."),
		RetriesOverBudget: counter("retries_over_budget_total", "Retries not made for want of budget."),
		StaleRetries:      counter("stale_retries_total", "Requests sent again because a pooled connection had been closed."),
		ConnectTimeouts:   timeout("connect"),
		FirstByteTimeouts: timeout("first-byte"),
		Overflow:          counter("overflow_total", "Requests and TCP connections refused because max_requests were under way."),
		Redispatches:      counter("redispatches_total", "Requests and TCP connections sent elsewhere because the endpoint of their session could not be reached or had no room."),
	}
}

// endpointStats are the series of one endpoint.
type endpointStats struct {
	Active     stats.Gauge
	Requests   stats.Counter
	Failures   stats.Counter
	BadReplies stats.Counter
	Replies    [6]stats.Counter
	Latency    stats.Histogram
	pool       upstream.Stats
}

func newEndpointStats(r *stats.Registry, cluster, id string) endpointStats {
	l := []stats.Label{{Name: "cluster", Value: cluster}, {Name: "endpoint", Value: id}}
	counter := func(n, help string) stats.Counter { return r.Counter("belay_endpoint_"+n, help, l...) }
	gauge := func(n, help string) stats.Gauge { return r.Gauge("belay_endpoint_"+n, help, l...) }
	s := endpointStats{
		Active:     gauge("active_requests", "Requests and TCP connections under way."),
		Requests:   counter("requests_total", "Requests whose last try was at the endpoint, and tries of TCP connections."),
		Failures:   counter("failures_total", "Tries that failed: connect, reset, time limit, retried status."),
		BadReplies: counter("bad_replies_total", "Replies that were malformed, too large or followed by surplus data."),
		Latency:    r.Histogram("belay_endpoint_first_byte_seconds", "Start of the last try to the first byte of its reply.", l...),
		pool:       upstream.NewStats(r, cluster, id),
	}
	for i, c := range classes {
		if i < 2 {
			continue // final replies of endpoints are 2xx to 5xx
		}
		s.Replies[i] = r.Counter("belay_endpoint_replies_total", "Final replies by status class.", append(l[:2:2], stats.Label{Name: "class", Value: c})...)
	}
	return s
}

func addrOnly(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 0) }
