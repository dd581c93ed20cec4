package tcpproxy

import (
	"belay/internal/accesslog"
	"belay/internal/cluster"
)

var protocol = []byte("TCP")

// account enters a connection that ends into the statistics and the access log.
// Its bytes were counted as they went.
func (c *conn) account(why ending) {
	w, p := c.w, c.plan
	took := w.loop.Now() - c.start
	w.shard.GaugeAdd(p.Stats.Active, -1)
	w.shard.Inc(p.Stats.Ended[why])
	w.shard.Observe(p.Stats.Duration, took)
	pinned := c.cl.shared.pin
	if pinned != nil {
		if c.connected == 0 && c.pin.done != cluster.Refused { // nobody has served the session
			c.pin.done = cluster.OutcomeNone
		}
		pinned.st.Count(w.shard, c.pin.found, c.pin.done)
	}
	if w.access == nil {
		return
	}
	r := &w.record
	*r = accesslog.Record{
		Start: w.wall(c.start), Duration: took,
		UpstreamConnect: since(c.connected, c.connectAt), UpstreamFirstByte: since(c.firstByte, c.connectAt),
		Client: c.peer, Peer: c.peer, Listener: p.Listener.Name, Cluster: c.cl.shared.Config.Name,
		BytesIn: c.in.bytes, BytesOut: c.out.bytes, Attempts: c.tries, Reason: string(why),
		ConnID: c.id, Protocol: protocol, TLS: c.said,
	}
	if c.via.IsValid() {
		r.Peer = c.via
	}
	if c.ep != nil {
		r.Endpoint, r.EndpointAddress = c.ep.ID, c.where
	}
	if pinned != nil {
		r.Persistence, r.Outcome = c.pin.found.String(), c.pin.done.String()
	}
	w.access.Append(r)
}

// since is the time from one loop time to a later one, -1 if that was not reached.
func since(to, from int64) int64 {
	if to == 0 || from == 0 {
		return -1
	}
	return to - from
}
