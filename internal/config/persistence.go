package config

import "time"

// Keys is the [persistence] table: the keys that seal the tokens of all clusters.
type Keys struct {
	// Keyring is a file or a credential that several machines share; zero (default):
	// generated, kept in the state directory, rotated.
	Keyring Secret
	// Directory has persistence.keys; "" (default): $STATE_DIRECTORY, and without
	// that the keys live in memory, with a warning.
	Directory string
	Rotation  time.Duration // a generated key mints for so long; 0: for ever; default 24h
	// Overlap is how long a new key only opens before it mints; not below
	// hot_restart.shutdown_time; default 1h.
	Overlap time.Duration
	// Keep is how long an old key still opens; 0 (default; the key is "auto"): the
	// longest max_age, or ten times the longest max_idle, of all clusters; 30 days if
	// neither is limited.
	Keep time.Duration
	Skew time.Duration // what the clocks of several machines may differ; default 1m
}

// Table is one table.NAME: a stick table, which clusters and routes refer to.
type Table struct {
	Name   string
	Size   int           // entries; the least recently used makes room; default 100000
	Expire time.Duration // since the last use; 0: never; default 30m
	Store  string        // redis://… or rediss://…: shared between machines; "" (default): local
	// Of a store:
	StoreTimeout time.Duration // one command; default 500ms
	StorePrefix  string        // of its keys; default "belay:NAME:"
	StoreQueue   int           // changes that wait for the store; more are dropped and counted; default 10000
}

// Persistence is cluster.NAME.persistence, or route.persistence in its place. The
// modes are tried in the order of the fields; the first that leads to an endpoint
// wins.
type Persistence struct {
	Off    bool // key enabled = false: of a route, the cluster's does not hold here; of a cluster, there is none
	Cookie *CookiePersistence
	Header *HeaderPersistence
	Table  *TablePersistence

	Policy       string        // pinned endpoint cannot take it: "redispatch" (default), "strict", "detour"
	Unknown      string        // authentic token of an endpoint that is not there: "redispatch" (default) or "strict"
	StrictStatus int           // of "strict"; default 503
	RetryAfter   time.Duration // Retry-After of a strict refusal; 0: none; default 5s
	Grace        time.Duration // "detour" keeps a pin for so long after its endpoint was last there; default 1m
	// Full is what happens when the pinned endpoint has no connection free: "queue"
	// (default: wait within max_pending and pending_timeout, then Policy) or
	// "policy" (at once).
	Full string
	// Window lets the requests of one source that come without a pin share one
	// choice for so long; 0 (default): off. Whole seconds.
	Window      time.Duration
	DebugHeader string // of replies: verdict and what was done; "" (default): none
}

// CookiePersistence is persistence.cookie.
type CookiePersistence struct {
	Mode        string // "insert" (default: belay's own cookie), "prefix" or "envelope" (of the application's cookie Name)
	Name        string
	Path        string        // default "/"
	Domain      string        // default "": this host only
	SameSite    string        // "lax" (default), "strict", "none", "unset"
	Secure      string        // "auto" (default: as the client's connection), "always", "never"
	HTTPOnly    bool          // default true
	Partitioned bool          // default false
	MaxIdle     time.Duration // default 30m; 0: none
	MaxAge      time.Duration // default 12h; 0: none
	Keep        bool          // the browser keeps the cookie over its end (Max-Age is sent); default false
	Hide        bool          // key hide_from_upstream; default true
	Preserve    bool          // a Set-Cookie of that name from the endpoint is left as it is and replaces ours; default false
	PostOnly    bool          // mint only in answer to POST; default false
	NoCache     bool          // Cache-Control: private on cacheable replies with our cookie; default true
}

// HeaderPersistence is persistence.header: the token travels in a header both ways.
type HeaderPersistence struct {
	Name    string
	Mode    string        // "token" (default) or "envelope" (wraps the endpoint's own header of that name)
	MaxIdle time.Duration // of "token"; default 30m
	MaxAge  time.Duration // default 12h
	Hide    bool          // key hide_from_upstream; default true
}

// TablePersistence is persistence.table.
type TablePersistence struct {
	Name string   // of the table
	Key  []HashOn // the first that the request has; Terminal is not used
	// Learn is where the reply has the key that later requests bring: a cookie or a
	// header that the endpoint sets; nil: the request's key is stored.
	Learn *HashOn
	Track bool // an endpoint's reply moves the entry to it when the session had to move; default true
}

// HashOn is a part of a request that says where it belongs. Exactly one of the
// first five is set.
type HashOn struct {
	Header string
	Cookie string
	Query  string
	Source bool // the client's address; of IPv6 the first /64
	SNI    bool

	TTL      time.Duration // of Cookie in cluster.hash: minted with this Max-Age if the request has none; 0: session cookie
	Mint     bool          // ttl was given
	Path     string        // of a minted cookie; default "/"
	Terminal bool          // the rest is not looked at if the request has this
}

// Hash is cluster.NAME.hash, for balance = "ring_hash" and "maglev".
type Hash struct {
	On        []HashOn // default: source
	TableSize int      // maglev: slots, a prime; ring_hash: points per unit of weight; default 65537 and 512
	MaxLoad   float64  // an endpoint takes at most this many times the mean load; 0 (default): no bound
}
