package tcpproxy

import (
	"belay/internal/listener"
	"belay/internal/stats"
	"belay/internal/upstream"
)

// ending is why a connection ended: the reason of the access log and the label of
// belay_tcp_ended_total.
type ending string

// All that there are.
const (
	endFinished      ending = "finished" // both sides ended their direction
	endClientReset   ending = "client-reset"
	endUpstreamReset ending = "upstream-reset"
	// TLS that ended without close_notify: the other side must not take what it
	// has for the whole.
	endClientTruncated   ending = "client-truncated"
	endUpstreamTruncated ending = "upstream-truncated"
	endIdle              ending = "tunnel-timeout"
	endConnectFailure    ending = "connect-failure"
	endConnectTimeout    ending = "connect-timeout"
	endTLSFailure        ending = "tls-failure"
	endUnresolved        ending = "endpoint-unresolved"
	endNoEndpoint        ending = "no-endpoint"
	endPendingFull       ending = "pending-full"
	endPendingTimeout    ending = "pending-timeout"
	endOverflow          ending = "overflow"
	endRefused           ending = "session-refused"
	endStopped           ending = "stopped" // cut at shutdown_time or stop_time
)

var endings = []ending{
	endFinished, endClientReset, endUpstreamReset, endClientTruncated, endUpstreamTruncated, endIdle, endConnectFailure, endConnectTimeout, endTLSFailure,
	endUnresolved, endNoEndpoint, endPendingFull, endPendingTimeout, endOverflow, endRefused, endStopped,
}

var truncated = map[ending]ending{endClientReset: endClientTruncated, endUpstreamReset: endUpstreamTruncated}

// Stats are the series of the process's pipes.
type Stats struct {
	Open    stats.Gauge
	Refused stats.Counter
}

// NewStats registers them.
func NewStats(r *stats.Registry) Stats {
	return Stats{
		Open:    r.Gauge("belay_splice_pipes", "Pipes for splice(2) that are open."),
		Refused: r.Counter("belay_splice_refused_total", "Times that bytes were copied for want of a pipe: splice_pipes was reached, or the kernel's limit."),
	}
}

// listenerStats are the series of one listener.
type listenerStats struct {
	Accept   listener.Stats
	Active   stats.Gauge
	BytesIn  stats.Counter
	BytesOut stats.Counter
	Spliced  stats.Counter
	Ended    map[ending]stats.Counter
	Duration stats.Histogram
}

func newListenerStats(r *stats.Registry, name string) listenerStats {
	l := stats.Label{Name: "listener", Value: name}
	counter := func(n, help string) stats.Counter { return r.Counter("belay_"+n, help, l) }
	s := listenerStats{
		Accept:   listener.NewStats(r, name),
		Active:   r.Gauge("belay_listener_connections", "Open client connections.", l),
		BytesIn:  counter("listener_body_received_bytes_total", "Request body, tunnel and TCP bytes from clients."),
		BytesOut: counter("listener_sent_bytes_total", "Reply, tunnel and TCP bytes to clients."),
		Spliced:  counter("tcp_spliced_bytes_total", "Bytes, of both directions, that were moved by splice(2)."),
		Ended:    make(map[ending]stats.Counter, len(endings)),
		Duration: r.Histogram("belay_tcp_connection_duration_seconds", "Accept to end of a TCP connection.", l),
	}
	for _, e := range endings {
		s.Ended[e] = r.Counter("belay_tcp_ended_total", "TCP connections that ended, by reason.", l, stats.Label{Name: "reason", Value: string(e)})
	}
	return s
}

// clusterStats are the series of one cluster; httpproxy has the same and more.
type clusterStats struct {
	Requests        stats.Counter
	NoEndpoint      stats.Counter
	Retries         stats.Counter
	ConnectTimeouts stats.Counter
	Overflow        stats.Counter
	Redispatches    stats.Counter
}

func newClusterStats(r *stats.Registry, name string) clusterStats {
	l := stats.Label{Name: "cluster", Value: name}
	counter := func(n, help string) stats.Counter { return r.Counter("belay_cluster_"+n, help, l) }
	return clusterStats{
		Requests:     counter("requests_total", "Requests and TCP connections sent to the cluster."),
		NoEndpoint:   counter("no_endpoint_total", "Requests and TCP connections for which no endpoint could be picked."),
		Retries:      counter("retries_total", "Tries after the first, by a route's retry policy or connect_attempts."),
		Overflow:     counter("overflow_total", "Requests and TCP connections refused because max_requests were under way."),
		Redispatches: counter("redispatches_total", "Requests and TCP connections sent elsewhere because the endpoint of their session could not be reached or had no room."),
		ConnectTimeouts: r.Counter("belay_cluster_timeouts_total", "Time limits that ran out on the endpoint's side.", l,
			stats.Label{Name: "kind", Value: "connect"}),
	}
}

// endpointStats are the series of one endpoint; httpproxy has the same and more.
type endpointStats struct {
	Active   stats.Gauge
	Requests stats.Counter
	Failures stats.Counter
	pool     upstream.Stats
}

func newEndpointStats(r *stats.Registry, cluster, id string) endpointStats {
	l := []stats.Label{{Name: "cluster", Value: cluster}, {Name: "endpoint", Value: id}}
	return endpointStats{
		Active:   r.Gauge("belay_endpoint_active_requests", "Requests and TCP connections under way.", l...),
		Requests: r.Counter("belay_endpoint_requests_total", "Requests whose last try was at the endpoint, and tries of TCP connections.", l...),
		Failures: r.Counter("belay_endpoint_failures_total", "Tries that failed: connect, reset, time limit, retried status.", l...),
		pool:     upstream.NewStats(r, cluster, id),
	}
}
