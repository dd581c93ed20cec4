// Package adminapi is what belayd's admin socket says: the JSON types and a
// client. It knows nothing of the daemon's inside.
//
// Counters count from the start of the first process of a chain of hot restarts
// or of this one; gauges are values of now. Times are in seconds, sizes in bytes.
package adminapi

import "time"

// The paths that the admin API serves. All take GET and HEAD, which change
// nothing; PathDrain takes POST and DELETE as well.
const (
	PathReady         = "/ready"
	PathStatus        = "/status"
	PathRestartStatus = "/restart-status"
	PathStats         = "/stats"
	PathMetrics       = "/metrics"
	PathListeners     = "/listeners"
	PathClusters      = "/clusters"
	PathConfig        = "/config"
	PathDrain         = "/drain"
)

// Ready is the reply of /ready.
type Ready struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason"` // state of the daemon; why it is not ready, if it is not
}

// Status is the daemon as a whole.
type Status struct {
	Version        string    `json:"version"`
	PID            int       `json:"pid"`
	State          string    `json:"state"` // "starting", "serving", "draining", "stopping"
	Started        time.Time `json:"started"`
	UptimeSeconds  float64   `json:"uptime_seconds"`
	Workers        int       `json:"workers"`
	Connections    int64     `json:"connections"`     // open client connections
	MaxConnections int64     `json:"max_connections"` // 0: no limit
	Accepted       uint64    `json:"accepted"`        // client connections so far
	Requests       uint64    `json:"requests"`        // requests so far
	ConfigFiles    []string  `json:"config_files,omitempty"`
}

// Uptime is how long the daemon has run.
func (s *Status) Uptime() time.Duration { return seconds(s.UptimeSeconds) }

// Replies counts replies by the class of their status.
type Replies struct {
	Informational uint64 `json:"1xx,omitempty"` // of final replies only 101
	Success       uint64 `json:"2xx"`
	Redirect      uint64 `json:"3xx"`
	ClientError   uint64 `json:"4xx"`
	ServerError   uint64 `json:"5xx"`
	Other         uint64 `json:"other,omitempty"`
}

// Listener is one listener.NAME.
type Listener struct {
	Name           string  `json:"name"`
	Address        string  `json:"address"` // "127.0.0.1:80", "[::]:80", "unix:/path"
	Protocol       string  `json:"protocol"`
	Sockets        int     `json:"sockets"`         // listen sockets that share the address
	State          string  `json:"state"`           // "accepting", "throttled", "stopped"
	Connections    int64   `json:"connections"`     // open now
	MaxConnections int     `json:"max_connections"` // 0: only the daemon's limit
	Accepted       uint64  `json:"accepted"`
	Rejected       uint64  `json:"rejected"`  // connections closed at accept: address lists, limit per source
	Throttled      uint64  `json:"throttled"` // times that accepting paused
	Requests       uint64  `json:"requests"`
	BadRequests    uint64  `json:"bad_requests"` // refused for their form
	NoRoute        uint64  `json:"no_route"`     // matched no route
	Denied         uint64  `json:"denied"`       // refused by a route's address lists
	Replies        Replies `json:"replies"`
	BytesIn        uint64  `json:"bytes_in"`  // bodies and tunnels from clients
	BytesOut       uint64  `json:"bytes_out"` // to clients
	Latency        Latency `json:"latency"`   // whole requests
}

// Cluster is one cluster.NAME. The figures from Active to Latency are the sums
// over its endpoints; see Sum.
type Cluster struct {
	Name       string     `json:"name"`
	Balance    string     `json:"balance"`
	Requests   uint64     `json:"requests"`    // sent to the cluster, a retried one once
	NoEndpoint uint64     `json:"no_endpoint"` // answered 503 because no endpoint could take them
	Retries    uint64     `json:"retries"`
	Available  int        `json:"available"` // endpoints that can take requests
	Active     int64      `json:"active"`
	Pending    int64      `json:"pending"`
	Open       int64      `json:"connections"`
	Idle       int64      `json:"idle_connections"`
	Errors     uint64     `json:"errors"`
	Replies    Replies    `json:"replies"`
	Latency    Latency    `json:"latency"`
	Endpoints  []Endpoint `json:"endpoints"`
}

// The states of an endpoint. Readers must expect others.
const (
	StateUp         = "healthy"
	StateDegraded   = "degraded"   // gets new sessions only where none is healthy
	StateDraining   = "draining"   // gets pinned sessions only
	StateUnhealthy  = "unhealthy"  // checks fail, or its replies were errors
	StateDisabled   = "disabled"   // gets nothing: the operator wants that, or its drain is over
	StateUnresolved = "unresolved" // its name has no address
)

// What the operator may want of an endpoint.
const (
	AdminEnabled  = "enabled"
	AdminDraining = "draining"
	AdminDisabled = "disabled"
)

// Up reports whether an endpoint can be given new sessions.
func (e *Endpoint) Up() bool { return (e.State == StateUp || e.State == StateDegraded) && e.Weight > 0 }

// Endpoint is one endpoint of a cluster.
type Endpoint struct {
	ID        string   `json:"id"`
	Address   string   `json:"address"`             // as configured
	Addresses []string `json:"addresses,omitempty"` // what the name resolves to now
	Weight    int      `json:"weight"`              // 0: no new sessions
	State     string   `json:"state"`               // one of State…
	Priority  int      `json:"priority,omitempty"`  // 0 is preferred
	Share     float64  `json:"share"`               // of its weight, below 1 in a slow start

	Admin      string     `json:"admin"`                 // what the operator wants: one of Admin…
	AdminSince *time.Time `json:"admin_since,omitempty"` // absent: as configured
	Deadline   *time.Time `json:"drain_deadline,omitempty"`
	DrainEnded bool       `json:"drain_ended,omitempty"` // no session was left, or the deadline came
	Sessions   int        `json:"sessions"`              // pinned ones that were seen in the last max_idle, and those of its tables
	// SessionsWithin is that max_idle; 0: there is none.
	SessionsWithin float64 `json:"sessions_within_seconds,omitempty"`
	// Uncounted says that Sessions is not all: track_sessions is 0.
	Uncounted bool `json:"sessions_uncounted,omitempty"`

	Health      string     `json:"health"` // of active checks: "unknown", "healthy", "degraded", "unhealthy"
	HealthSince *time.Time `json:"health_since,omitempty"`
	Why         string     `json:"why,omitempty"` // of the last check that failed, or of the ejection
	Ejected     *time.Time `json:"ejected_until,omitempty"`
	Ejections   int        `json:"ejections,omitempty"` // in a row

	Active   int64   `json:"active"`  // requests under way
	Pending  int64   `json:"pending"` // requests that wait for a connection
	Open     int64   `json:"connections"`
	Idle     int64   `json:"idle_connections"` // of the open ones
	Requests uint64  `json:"requests"`
	Errors   uint64  `json:"errors"` // tries that failed: connect, reset, time limit, malformed reply
	Replies  Replies `json:"replies"`
	Latency  Latency `json:"latency"` // start of a try to the first byte of its reply
}

// Sum fills the figures of a cluster that are sums over its endpoints.
func (c *Cluster) Sum() {
	c.Available, c.Active, c.Pending, c.Open, c.Idle, c.Errors = 0, 0, 0, 0, 0, 0
	c.Replies, c.Latency = Replies{}, Latency{}
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		if e.Up() {
			c.Available++
		}
		c.Active += e.Active
		c.Pending += e.Pending
		c.Open += e.Open
		c.Idle += e.Idle
		c.Errors += e.Errors
		c.Replies.add(e.Replies)
		c.Latency.Add(e.Latency)
	}
}

func (r *Replies) add(o Replies) {
	r.Informational += o.Informational
	r.Success += o.Success
	r.Redirect += o.Redirect
	r.ClientError += o.ClientError
	r.ServerError += o.ServerError
	r.Other += o.Other
}

// Series is one series of /stats: a value, or a distribution of times.
type Series struct {
	Name    string            `json:"name"`
	Labels  map[string]string `json:"labels,omitempty"`
	Kind    string            `json:"kind"` // "counter", "gauge", "histogram"
	Value   float64           `json:"value"`
	Latency *Latency          `json:"latency,omitempty"` // of a histogram; Value is then its count
}
