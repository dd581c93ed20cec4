package upstream

import "belay/internal/stats"

// Stats are the counters of one endpoint, the same in every worker's shard.
type Stats struct {
	Connects       stats.Counter // connections asked for
	ConnectFails   stats.Counter
	Reused         stats.Counter // requests that got an idle connection
	IdleClosed     stats.Counter // idle connections ended by the endpoint or found dead
	Pending        stats.Gauge
	PendingRefused stats.Counter // pending-full and pending-timeout
	Open           stats.Gauge
	Idle           stats.Gauge
}

// NewStats registers the series of an endpoint, or finds those that are.
func NewStats(r *stats.Registry, cluster, id string) Stats {
	l := []stats.Label{{Name: "cluster", Value: cluster}, {Name: "endpoint", Value: id}}
	counter := func(n, help string) stats.Counter { return r.Counter("belay_endpoint_"+n, help, l...) }
	gauge := func(n, help string) stats.Gauge { return r.Gauge("belay_endpoint_"+n, help, l...) }
	return Stats{
		Connects:       counter("connects_total", "Connections asked for."),
		ConnectFails:   counter("connect_failures_total", "Connections that could not be made."),
		Reused:         counter("reused_total", "Requests that got a connection that had been used before."),
		IdleClosed:     counter("idle_closed_total", "Idle connections that the endpoint closed."),
		PendingRefused: counter("pending_refused_total", "Requests refused while waiting for a connection."),
		Pending:        gauge("pending_requests", "Requests that wait for a connection."),
		Open:           gauge("connections", "Open connections."),
		Idle:           gauge("idle_connections", "Idle connections."),
	}
}
