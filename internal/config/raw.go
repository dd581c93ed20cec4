package config

// The raw structs are belay.toml as it is written. A pointer is nil, and a
// slice or map is nil, if the key is not there. docs/reference.toml has every
// key; a test compares.

type rawServer struct {
	Workers        *int         `toml:"workers" min:"0" max:"1024"`
	StopTime       *duration    `toml:"stop_time" min:"0s" max:"24h"`
	MaxConnections *int         `toml:"max_connections" min:"0" max:"2147483647"`
	LogLevel       *string      `toml:"log_level" one:"debug info warn error"`
	LogFormat      *string      `toml:"log_format" one:"text json"`
	DNSServers     []dnsServer  `toml:"dns_servers"`
	DNSMinTTL      *duration    `toml:"dns_min_ttl" min:"1ms" max:"24h"`
	DNSMaxTTL      *duration    `toml:"dns_max_ttl" min:"1ms" max:"24h"`
	DNSTimeout     *duration    `toml:"dns_timeout" min:"1ms" max:"1m"`
	BufferMemory   *size        `toml:"buffer_memory" min:"0" max:"1099511627776"`
	RefuseOnStop   *bool        `toml:"refuse_on_stop"`
	SplicePipes    *int         `toml:"splice_pipes" min:"0" max:"65536"`
	SplicePipeSize *size        `toml:"splice_pipe_size" min:"65536" max:"16777216"`
	TLS            rawServerTLS `toml:"tls"`
}

type rawAdmin struct {
	Socket         *string      `toml:"socket"`
	MetricsAddress *metricsAddr `toml:"metrics_address"`
}

type rawAccessLog struct {
	Output        *string   `toml:"output"`
	Format        *string   `toml:"format"`
	QueueSize     *size     `toml:"queue_size" min:"65536" max:"1099511627776"`
	FlushInterval *duration `toml:"flush_interval" min:"1ms" max:"1m"`
}

type rawHotRestart struct {
	Enabled        *bool         `toml:"enabled"`
	Directory      *string       `toml:"directory"`
	BaseID         *int          `toml:"base_id" min:"0" max:"999"`
	DrainTime      *duration     `toml:"drain_time" min:"0s" max:"24h"`
	DrainStrategy  *string       `toml:"drain_strategy" one:"gradual immediate"`
	Probation      *duration     `toml:"probation" min:"50ms" max:"1h"`
	ShutdownTime   *duration     `toml:"shutdown_time" min:"1s" max:"168h"`
	MaxGenerations *int          `toml:"max_generations" min:"2" max:"14"`
	MinInterval    *duration     `toml:"min_interval" min:"0s" max:"24h"`
	MemoryHeadroom *headroomSize `toml:"memory_headroom"`
	Heartbeat      *duration     `toml:"heartbeat" min:"50ms" max:"1m"`
	PrepareTime    *duration     `toml:"prepare_time" min:"100ms" max:"1h"`
	CallTime       *duration     `toml:"call_time" min:"50ms" max:"1m"`
}

type rawListener struct {
	Address                 *listenAddr  `toml:"address"`
	Systemd                 *socketName  `toml:"systemd"`
	UnixMode                *fileMode    `toml:"unix_mode"`
	IPv6Only                *bool        `toml:"ipv6_only"`
	Protocol                *string      `toml:"protocol"`
	Backlog                 *int         `toml:"backlog" min:"1" max:"65535"`
	Sockets                 *int         `toml:"sockets" min:"0" max:"1024"`
	MaxConnections          *int         `toml:"max_connections" min:"0" max:"2147483647"`
	MaxConnectionsPerSource *int         `toml:"max_connections_per_source" min:"0" max:"2147483647"`
	Allow                   []prefix     `toml:"allow"`
	Deny                    []prefix     `toml:"deny"`
	TrustedProxies          []prefix     `toml:"trusted_proxies"`
	XForwarded              *bool        `toml:"x_forwarded"`
	RequestID               *string      `toml:"request_id" one:"generate off"`
	ServerHeader            *headerValue `toml:"server_header"`
	Timeouts                rawTimeouts  `toml:"timeouts"`
	Limits                  rawLimits    `toml:"limits"`
	HTTP1                   rawHTTP1     `toml:"http1"`
	TLS                     *rawTLS      `toml:"tls"`
	Chains                  []rawChain   `toml:"chain"`
	ProxyProtocol           *string      `toml:"proxy_protocol" one:"off accept require"`
	ProxyProtocolFrom       []prefix     `toml:"proxy_protocol_from"`
	StartTLS                *startTLS    `toml:"starttls" one:"none postgres"`
	Routes                  []rawRoute   `toml:"route"`

	Cluster  *string       `toml:"cluster"`
	Clusters []rawWeighted `toml:"clusters"`
	TCP      rawTCP        `toml:"tcp"`
}

type rawTCP struct {
	ConnectAttempts *int  `toml:"connect_attempts" min:"1" max:"8"`
	Splice          *bool `toml:"splice"`
}

type rawTimeouts struct {
	Head      *duration `toml:"head" min:"0s" max:"8760h"`
	Body      *duration `toml:"body" min:"0s" max:"8760h"`
	Idle      *duration `toml:"idle" min:"0s" max:"8760h"`
	Write     *duration `toml:"write" min:"0s" max:"8760h"`
	Request   *duration `toml:"request" min:"0s" max:"8760h"`
	Tunnel    *duration `toml:"tunnel" min:"0s" max:"8760h"`
	Handshake *duration `toml:"handshake" min:"100ms" max:"10m"`
}

type rawLimits struct {
	RequestLine           *size `toml:"request_line" min:"64" max:"1048576"`
	HeadBytes             *size `toml:"head_bytes" min:"256" max:"1048576"`
	Fields                *int  `toml:"fields" min:"1" max:"10000"`
	FieldName             *size `toml:"field_name" min:"16" max:"65535"`
	Body                  *size `toml:"body" min:"0" max:"9007199254740992"`
	RequestsPerConnection *int  `toml:"requests_per_connection" min:"0" max:"2147483647"`
	Pipeline              *int  `toml:"pipeline" min:"1" max:"1000"`
	ChunkExtensions       *size `toml:"chunk_extensions" min:"16" max:"65536"`
}

type rawHTTP1 struct {
	DefaultHost       *authority `toml:"default_host"`
	AllowEqualLengths *bool      `toml:"allow_equal_lengths"`
	AllowLeadingZeros *bool      `toml:"allow_leading_zeros"`
	AllowHostMismatch *bool      `toml:"allow_host_mismatch"`
	Underscores       *string    `toml:"underscores" one:"drop reject allow"`
	EscapedControl    *string    `toml:"escaped_control" one:"reject allow"`
	Backslash         *string    `toml:"backslash" one:"reject allow"`
}

type rawRoute struct {
	Name             *string          `toml:"name"`
	Hosts            []hostPattern    `toml:"hosts"`
	Path             *urlPath         `toml:"path"`
	PathPrefix       *urlPath         `toml:"path_prefix"`
	PathRegex        *pattern         `toml:"path_regex"`
	Methods          []method         `toml:"methods"`
	Headers          []rawHeaderMatch `toml:"headers"`
	Allow            []prefix         `toml:"allow"`
	Deny             []prefix         `toml:"deny"`
	Cluster          *string          `toml:"cluster"`
	Clusters         []rawWeighted    `toml:"clusters"`
	Respond          *rawRespond      `toml:"respond"`
	Redirect         *rawRedirect     `toml:"redirect"`
	HostRewrite      *authority       `toml:"host_rewrite"`
	PathRewrite      *rawRewrite      `toml:"path_rewrite"`
	RequestHeaders   rawHeaderOps     `toml:"request_headers"`
	ResponseHeaders  rawHeaderOps     `toml:"response_headers"`
	Upgrade          *bool            `toml:"upgrade"`
	RequestTimeout   *duration        `toml:"request_timeout" min:"0s" max:"8760h"`
	FirstByteTimeout *duration        `toml:"first_byte_timeout" min:"0s" max:"8760h"`
	MaxBody          *size            `toml:"max_body" min:"0" max:"9007199254740992"`
	Retry            *rawRetry        `toml:"retry"`
	Persistence      *rawPersistence  `toml:"persistence"`
}

type rawHeaderMatch struct {
	Name    *fieldName `toml:"name"`
	Exact   *string    `toml:"exact"`
	Regex   *pattern   `toml:"regex"`
	Present *bool      `toml:"present"`
	Invert  *bool      `toml:"invert"`
}

type rawWeighted struct {
	Cluster *string `toml:"cluster"`
	Weight  *int    `toml:"weight" min:"0" max:"65535"`
}

type rawRespond struct {
	Status      *int                   `toml:"status" min:"200" max:"599"`
	Body        *string                `toml:"body"`
	ContentType *headerValue           `toml:"content_type"`
	Headers     map[string]headerValue `toml:"headers"`
}

type rawRedirect struct {
	Status     *int     `toml:"status"`
	Scheme     *string  `toml:"scheme" one:"http https"`
	Host       *hostRef `toml:"host"`
	Port       *int     `toml:"port" min:"1" max:"65535"`
	Path       *urlPath `toml:"path"`
	PathPrefix *urlPath `toml:"path_prefix"`
	StripQuery *bool    `toml:"strip_query"`
}

type rawRewrite struct {
	Prefix  *urlPath `toml:"prefix"`
	Regex   *pattern `toml:"regex"`
	Replace *string  `toml:"replace"`
}

type rawHeaderOps struct {
	Remove []fieldName               `toml:"remove"`
	Set    map[string]headerTemplate `toml:"set"`
	Add    map[string]headerList     `toml:"add"`
}

type rawRetry struct {
	On         []retryOn `toml:"on"`
	Attempts   *int      `toml:"attempts" min:"0" max:"10"`
	Statuses   []int     `toml:"statuses" min:"400" max:"599"`
	Budget     *float64  `toml:"budget" min:"0" max:"1"`
	BudgetMin  *int      `toml:"budget_min" min:"0" max:"65535"`
	Backoff    *duration `toml:"backoff" min:"0s" max:"1m"`
	BackoffMax *duration `toml:"backoff_max" min:"0s" max:"1m"`
}

type rawCluster struct {
	Balance                  *string         `toml:"balance" one:"round_robin least_request random ring_hash maglev"`
	Endpoints                []rawEndpoint   `toml:"endpoints"`
	ConnectTimeout           *duration       `toml:"connect_timeout" min:"0s" max:"8760h"`
	FirstByteTimeout         *duration       `toml:"first_byte_timeout" min:"0s" max:"8760h"`
	BodyTimeout              *duration       `toml:"body_timeout" min:"0s" max:"8760h"`
	WriteTimeout             *duration       `toml:"write_timeout" min:"0s" max:"8760h"`
	IdleTimeout              *duration       `toml:"idle_timeout" min:"0s" max:"8760h"`
	MaxConnections           *int            `toml:"max_connections" min:"0" max:"2147483647"`
	MaxPending               *int            `toml:"max_pending" min:"0" max:"1000000"`
	PendingTimeout           *duration       `toml:"pending_timeout" min:"0s" max:"8760h"`
	MaxIdle                  *int            `toml:"max_idle" min:"0" max:"1000000"`
	MaxRequestsPerConnection *int            `toml:"max_requests_per_connection" min:"0" max:"2147483647"`
	ResponseHeadBytes        *size           `toml:"response_head_bytes" min:"256" max:"1048576"`
	ResponseFields           *int            `toml:"response_fields" min:"1" max:"10000"`
	TLS                      *rawClusterTLS  `toml:"tls"`
	ProxyProtocol            *string         `toml:"proxy_protocol" one:"off v1 v2"`
	Hash                     *rawHash        `toml:"hash"`
	Persistence              *rawPersistence `toml:"persistence"`
	HealthCheck              *rawHealthCheck `toml:"health_check"`
	Outlier                  *rawOutlier     `toml:"outlier"`
	PanicThreshold           *int            `toml:"panic_threshold" min:"0" max:"100"`
	SlowStart                *duration       `toml:"slow_start" min:"0s" max:"24h"`
	MaxRequests              *int            `toml:"max_requests" min:"0" max:"2147483647"`
	TrackSessions            *int            `toml:"track_sessions" min:"0" max:"100000000"`
}

type rawEndpoint struct {
	ID             *string       `toml:"id"`
	Address        *endpointAddr `toml:"address"`
	Weight         *int          `toml:"weight" min:"0" max:"65535"`
	Generation     *int          `toml:"generation" min:"0" max:"4294967295"`
	Priority       *int          `toml:"priority" min:"0" max:"127"`
	MaxConnections *int          `toml:"max_connections" min:"0" max:"2147483647"`
}
