package listener

import "belay/internal/stats"

// Stats are the counters of one listener, the same in every worker's shard.
type Stats struct {
	Accepted  stats.Counter
	Rejected  [3]stats.Counter // by Rejection
	Throttled stats.Counter    // times that accepting paused
	Failed    stats.Counter    // accept(2) failed otherwise
}

// NewStats registers the series of a listener.
func NewStats(r *stats.Registry, name string) Stats {
	l := stats.Label{Name: "listener", Value: name}
	counter := func(n, help string) stats.Counter { return r.Counter("belay_listener_"+n, help, l) }
	rejected := func(reason string) stats.Counter {
		return r.Counter("belay_listener_rejected_total", "Connections closed at accept.", l, stats.Label{Name: "reason", Value: reason})
	}
	s := Stats{
		Accepted:  counter("accepted_total", "Connections accepted."),
		Throttled: counter("accept_throttled_total", "Times that accepting paused for want of descriptors or because of a connection limit."),
		Failed:    counter("accept_failed_total", "Accept calls that failed for one connection."),
	}
	s.Rejected[RejectedAddress] = rejected("address")
	s.Rejected[RejectedSource] = rejected("source-limit")
	return s
}
