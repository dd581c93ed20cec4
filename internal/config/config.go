// Package config turns belay.toml and conf.d into one valid, immutable Config.
//
// Decoding has three steps: TOML tables are decoded strictly, one by one, into
// raw structs; the raw structs are checked and given their defaults; the result
// is a Config whose every field is valid, so nobody behind it checks again.
package config

import (
	"log/slog"
	"net/netip"
	"regexp"
	"time"
)

// Config is a whole, valid configuration. It is immutable once Load returns it.
type Config struct {
	Files      []string // the files it was read from, in order
	Server     Server
	Admin      Admin
	AccessLog  AccessLog
	HotRestart HotRestart
	Keys       Keys
	Listeners  []*Listener // sorted by name
	Clusters   []*Cluster  // sorted by name
	Tables     []*Table    // sorted by name

	probation *path // where hot_restart.probation is or would be; nil without the table
}

// Server is the [server] table.
type Server struct {
	Workers        int              // 0: runtime.GOMAXPROCS(0) at start
	StopTime       time.Duration    // SIGTERM to forced end; default 10s
	MaxConnections int              // downstream connections over all listeners; 0: derived from RLIMIT_NOFILE
	LogLevel       slog.Level       // default info
	LogFormat      string           // "text" or "json"; default text
	DNSServers     []netip.AddrPort // default: those of /etc/resolv.conf
	DNSMinTTL      time.Duration    // a shorter TTL counts as this one; default 1s
	DNSMaxTTL      time.Duration    // a longer TTL counts as this one; default 1m (bounds how long a change stays unseen)
	DNSTimeout     time.Duration    // one query; default 2s
	BufferMemory   int64            // bytes of free buffers each worker keeps at most; default 16MiB
	SplicePipes    int              // pipes for splice(2) of all workers together; 0: TCP is copied; default 64
	SplicePipeSize int              // bytes of one; default 512KiB
	TLS            ServerTLS
	RefuseOnStop   bool // SIGTERM closes the listen sockets and takes them out of systemd's store; default false
}

// Admin is the [admin] table.
type Admin struct {
	Socket         string         // Unix socket, mode 0600; default /run/belay/admin.sock; "" (key = "none"): no admin API
	MetricsAddress netip.AddrPort // zero: off; serves /metrics and /ready only
}

// AccessLog is the [access_log] table.
type AccessLog struct {
	Output        string        // "none" (default), "stderr" or a file path
	Format        string        // "json" (default) or a format string such as `%{client} "%{method} …"`; syntax: package accesslog
	QueueSize     int64         // bytes that wait for the writer at most before records are dropped and counted; default 4MiB
	FlushInterval time.Duration // a batch is at most this old when written; default 100ms
}

// HotRestart is the [hot_restart] table.
type HotRestart struct {
	Enabled        bool          // false: no segment, no socket, a reload is refused; default true
	Directory      string        // absolute; "" (default): $RUNTIME_DIRECTORY, else the directory of admin.socket
	BaseID         int           // tells the files of several belays in one directory apart; default 0
	DrainTime      time.Duration // release to the end of silent keep-alive connections; default 5m
	DrainImmediate bool          // drain_strategy: false is "gradual" (default), true is "immediate"
	Probation      time.Duration // how long a child that serves can be rolled back; default 2s
	ShutdownTime   time.Duration // release to the end of every connection; not below DrainTime; default 15m
	MaxGenerations int           // processes at a time; one more reload ends the oldest; default 8
	MinInterval    time.Duration // a reload that follows the one before sooner is refused; default 0
	MemoryHeadroom int64         // bytes a child needs; 0 (default; the key is "auto"): 1.2 times the RSS of the running process
	Heartbeat      time.Duration // between two signs of life; two missed ones are a hang; default 500ms
	PrepareTime    time.Duration // start of a child to its commit; default 60s
	CallTime       time.Duration // one call between two processes; default 5s
}

// Listener is one listener.NAME table.
type Listener struct {
	Name                    string
	Address                 netip.AddrPort // zero if Unix is set, or if only Systemd is: then the socket knows
	Unix                    string         // path of a Unix listener: address = "unix:/path"
	Systemd                 string         // FileDescriptorName= of the socket that systemd passes; "": none; not unique where addresses are given
	UnixMode                uint32         // default 0660
	IPv6Only                bool
	Protocol                string         // ProtocolHTTP or ProtocolTCP; "h2" is an error of its own until it is built
	Backlog                 int            // default 4096
	Sockets                 int            // SO_REUSEPORT sockets; 0: one per worker; Unix listeners always have one
	MaxConnections          int            // 0: only [server] max_connections
	MaxConnectionsPerSource int            // 0: no limit
	Allow, Deny             []netip.Prefix // client address at accept; deny wins; connection closed
	TrustedProxies          []netip.Prefix // peers whose X-Forwarded-* and X-Request-Id are kept
	XForwarded              bool           // add X-Forwarded-For, -Proto, -Host; default true
	RequestID               string         // "generate" (default: keep from trusted proxies, else new), "off"
	ServerHeader            string         // value of Server on local replies; default "belay"; "" none
	Timeouts                ListenerTimeouts
	Limits                  ListenerLimits
	HTTP1                   HTTP1
	TLS                     *TLS           // of connections that meet no chain; nil: those are plain if there is no chain, else reset
	Chains                  []*Chain       // in file order
	ProxyProtocol           string         // "off" (default), "accept" a header if there is one, "require" it
	ProxyProtocolFrom       []netip.Prefix // peers that may send one
	StartTLS                string         // "" (default) or "postgres": the client asks for TLS in the clear, which is declined without TLS or chains; TCP listeners only
	Routes                  []*Route       // in file order

	// Of a TCP listener; of what is above it has the keys of the socket, of
	// admission, of TLS, timeouts.handshake and timeouts.tunnel.
	Clusters []WeightedCluster // one element for cluster = "name"; nil: each chain has its own
	TCP      TCP
}

// The values of Listener.Protocol.
const (
	ProtocolHTTP = "http"
	ProtocolTCP  = "tcp"
)

// TCP is listener.NAME.tcp.
type TCP struct {
	ConnectAttempts int  // endpoints that are tried for one connection; default 3
	Splice          bool // move bulk with splice(2) where that is possible; default true
}

// ListenerTimeouts is listener.NAME.timeouts. Zero means no limit; the key takes "0s" for that.
type ListenerTimeouts struct {
	Head      time.Duration // first byte of a request head to its end; default 10s; 408
	Body      time.Duration // no byte of the request body arrives for so long while we want it; default 30s; 408
	Idle      time.Duration // keep-alive connection with no request; default 75s
	Write     time.Duration // client takes no byte of a reply for so long; default 30s
	Request   time.Duration // whole request, head complete to reply end; default 0 (none); 504 if no reply byte went out, else reset
	Tunnel    time.Duration // upgraded or TCP connection without a byte either way; default 1h
	Handshake time.Duration // accept to the end of the PROXY header, STARTTLS and the TLS handshake; default 10s; never 0
}

// ListenerLimits is listener.NAME.limits.
type ListenerLimits struct {
	RequestLine           int   // bytes; default 8192 + method and version; 414
	HeadBytes             int   // all fields, bytes; default 61440 (60KiB); 431
	Fields                int   // default 100; 431
	FieldName             int   // bytes; default 256; 431
	Body                  int64 // bytes; 0: none (default); 413
	RequestsPerConnection int   // then Connection: close; 0: none (default)
	Pipeline              int   // requests of one connection answered in one loop turn, the rest waits; default 2
	ChunkExtensions       int   // bytes of one chunk-size line; default 4096
}

// HTTP1 is listener.NAME.http1: each key loosens or tightens one rule of the codec.
type HTTP1 struct {
	DefaultHost       string // Host of an HTTP/1.0 request that has none; "" (default): 400
	AllowEqualLengths bool   // collapse equal Content-Length values; default false: 400
	AllowLeadingZeros bool   // Content-Length: 005; default false: 400
	AllowHostMismatch bool   // absolute-form target wins over a different Host; default false: 400
	Underscores       string // names with "_": "drop" (default), "reject", "allow"
	EscapedControl    string // %00, %0a, %0d in a path: "reject" (default) or "allow"
	Backslash         string // "\" in a path: "reject" (default) or "allow"
}

// Route is one element of listener.NAME.route.
type Route struct {
	Index       int            // position in the listener
	Name        string         // key "name"; default: "LISTENER.INDEX"
	Hosts       []string       // lower case; exact, "*.suffix", or empty: any host
	Path        string         // exact; at most one of Path, PathPrefix, PathRegex
	PathPrefix  string         // on segment borders: /a matches /a and /a/b, not /ab
	PathRegex   *regexp.Regexp // anchored at both ends
	Methods     []string
	Headers     []HeaderMatch
	Allow, Deny []netip.Prefix // trusted client address; 403

	// Exactly one of these acts.
	Clusters []WeightedCluster // one element for cluster = "name"
	Respond  *Respond
	Redirect *Redirect

	HostRewrite      string // "" keeps the client's Host
	PathRewrite      *PathRewrite
	RequestHeaders   HeaderOps
	ResponseHeaders  HeaderOps
	Upgrade          bool          // let Upgrade (WebSocket) through; default true
	RequestTimeout   time.Duration // < 0: the listener's
	FirstByteTimeout time.Duration // < 0: the cluster's
	MaxBody          int64         // < 0: the listener's
	Retry            Retry
	Persistence      *Persistence // in place of the clusters'; nil: theirs
}

// HeaderMatch is one element of route.headers; a request must satisfy all.
type HeaderMatch struct {
	Name    string
	Exact   string
	Regex   *regexp.Regexp // anchored; nil: Exact or Present
	Present bool           // only that it is there
	Invert  bool
}

// WeightedCluster names a cluster and its share.
type WeightedCluster struct {
	Cluster string
	Weight  int // 0: gets no new session
}

// Respond answers without an upstream.
type Respond struct {
	Status  int
	Body    string
	Headers [][2]string // content_type sets Content-Type; default text/plain; charset=utf-8 when there is a body
}

// Redirect answers with a Location. Empty parts are taken from the request.
type Redirect struct {
	Status                               int    // 301, 302, 303, 307, 308; default 308
	Scheme, Host, Port, Path, PathPrefix string // PathPrefix replaces the matched prefix
	StripQuery                           bool
}

// PathRewrite changes the path sent upstream; the query stays.
type PathRewrite struct {
	Prefix  *string        // replaces the matched path_prefix
	Regex   *regexp.Regexp // replaced by Replace, $1 syntax
	Replace string
}

// HeaderOps apply in the order remove, set, add. Values are literal but for
// %{client_ip}, %{request_id}, %{host}, %{listener}, %{route}, %{cluster}, %{endpoint},
// %{scheme}, %{tls_version}, %{tls_sni}, %{tls_client_subject}, %% .
type HeaderOps struct {
	Remove []string
	Set    [][2]string
	Add    [][2]string
}

// Retry is route.retry. The zero value retries nothing but dead pooled connections.
type Retry struct {
	On         RetryOn
	Attempts   int           // retries, not tries; default 0; 1 if on is given
	Statuses   []int         // for "status"
	Budget     float64       // retries in flight at most this share of the cluster's active requests; default 0.2
	BudgetMin  int           // but this many always; default 3
	Backoff    time.Duration // base, doubled, full jitter; default 25ms
	BackoffMax time.Duration // default 250ms
}

// RetryOn says what is retried.
type RetryOn uint8

// The conditions of retry.on.
const (
	RetryConnectFailure RetryOn = 1 << iota // "connect-failure": no byte was sent
	RetryReset                              // "reset": upstream closed before a reply byte; idempotent methods only
	Retry5xx                                // "5xx": a 5xx reply; idempotent methods only
	RetryStatus                             // "status": one of Statuses; idempotent methods only
	RetryFirstByte                          // "first-byte-timeout"; idempotent methods only
)

// Cluster is one cluster.NAME table.
type Cluster struct {
	Name                     string
	Balance                  string // "round_robin" (default), "least_request", "random", "ring_hash", "maglev"
	Hash                     Hash   // of the last two
	Endpoints                []Endpoint
	ConnectTimeout           time.Duration // TCP and TLS; default 5s; 503 (connect-timeout)
	FirstByteTimeout         time.Duration // request sent to first reply byte; default 60s; 504
	BodyTimeout              time.Duration // no byte of a reply body for so long; default 60s
	WriteTimeout             time.Duration // upstream takes no byte of the request for so long; default 30s; 504
	IdleTimeout              time.Duration // idle pooled connection; default 60s; 0 no pooling
	MaxConnections           int           // per endpoint, over all workers; default 0: none
	MaxPending               int           // requests that wait for a connection, per endpoint and worker; default 1024; more: 503
	PendingTimeout           time.Duration // default 5s; 503
	MaxIdle                  int           // idle connections kept per endpoint and worker; default 128
	MaxRequestsPerConnection int           // default 0: none
	ResponseHeadBytes        int           // default 81920; more: 502
	ResponseFields           int           // default 200
	TLS                      *ClusterTLS   // nil: plain
	ProxyProtocol            int           // version of the header that each connection begins with; 0: none

	Persistence    *Persistence  // nil: none
	HealthCheck    *HealthCheck  // nil: none
	Outlier        *Outlier      // nil: none
	PanicThreshold int           // percent: with fewer endpoints up, all but disabled ones take requests; default 0: never
	SlowStart      time.Duration // an endpoint that comes up gets to its weight over so long; default 0: at once
	MaxRequests    int           // under way, over all workers; more: 503 (overflow); default 0: none
	TrackSessions  int           // sessions that are counted for drain; the least recently seen is forgotten; 0: none; default 100000
}

// Endpoint is one element of cluster.endpoints.
type Endpoint struct {
	ID     string // default: its address
	Host   string // IP literal or name; "" if Unix
	Port   uint16
	Unix   string // address = "unix:/path"
	Weight int    // default 1; 0: no new sessions

	Generation     uint32 // sessions of another generation of the same id are not taken over; default 0
	Priority       int    // 0 (default) is preferred; those of 1 and above are backups, the lowest that is up is used
	MaxConnections int    // 0 (default): the cluster's
}
