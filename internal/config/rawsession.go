package config

type rawKeys struct {
	Keyring   *secretFile `toml:"keyring"`
	Directory *string     `toml:"directory"`
	Rotation  *duration   `toml:"rotation" min:"0s" max:"8760h"`
	Overlap   *duration   `toml:"overlap" min:"1s" max:"8760h"`
	Keep      *autoTime   `toml:"keep"`
	Skew      *duration   `toml:"skew" min:"0s" max:"24h"`
}

type rawStickTable struct {
	Size         *int      `toml:"size" min:"1" max:"100000000"`
	Expire       *duration `toml:"expire" min:"0s" max:"87600h"`
	Store        *storeURL `toml:"store"`
	StoreTimeout *duration `toml:"store_timeout" min:"1ms" max:"1m"`
	StorePrefix  *string   `toml:"store_prefix"`
	StoreQueue   *int      `toml:"store_queue" min:"1" max:"10000000"`
}

type rawPersistence struct {
	Enabled      *bool                 `toml:"enabled"`
	Policy       *string               `toml:"policy" one:"redispatch strict detour"`
	Unknown      *string               `toml:"unknown" one:"redispatch strict"`
	StrictStatus *int                  `toml:"strict_status" min:"400" max:"599"`
	RetryAfter   *duration             `toml:"retry_after" min:"0s" max:"24h"`
	Grace        *duration             `toml:"grace" min:"0s" max:"8760h"`
	Full         *string               `toml:"full" one:"queue policy"`
	Window       *duration             `toml:"first_request_window" min:"0s" max:"1m"`
	DebugHeader  *fieldName            `toml:"debug_header"`
	Cookie       *rawCookiePersistence `toml:"cookie"`
	Header       *rawHeaderPersistence `toml:"header"`
	Table        *rawTablePersistence  `toml:"table"`
}

type rawCookiePersistence struct {
	Mode        *string     `toml:"mode" one:"insert prefix envelope"`
	Name        *cookieName `toml:"name"`
	Path        *cookiePath `toml:"path"`
	Domain      *hostRef    `toml:"domain"`
	SameSite    *string     `toml:"same_site" one:"lax strict none unset"`
	Secure      *string     `toml:"secure" one:"auto always never"`
	HTTPOnly    *bool       `toml:"http_only"`
	Partitioned *bool       `toml:"partitioned"`
	MaxIdle     *duration   `toml:"max_idle" min:"0s" max:"87600h"`
	MaxAge      *duration   `toml:"max_age" min:"0s" max:"87600h"`
	Keep        *bool       `toml:"keep_over_end"`
	Hide        *bool       `toml:"hide_from_upstream"`
	Preserve    *bool       `toml:"preserve"`
	PostOnly    *bool       `toml:"post_only"`
	NoCache     *bool       `toml:"no_cache"`
}

type rawHeaderPersistence struct {
	Name    *fieldName `toml:"name"`
	Mode    *string    `toml:"mode" one:"token envelope"`
	MaxIdle *duration  `toml:"max_idle" min:"0s" max:"87600h"`
	MaxAge  *duration  `toml:"max_age" min:"0s" max:"87600h"`
	Hide    *bool      `toml:"hide_from_upstream"`
}

type rawTablePersistence struct {
	Name  *string       `toml:"name"`
	Key   []rawTableKey `toml:"key"`
	Learn *rawLearn     `toml:"learn"`
	Track *bool         `toml:"track"`
}

type rawLearn struct {
	Cookie *cookieName `toml:"cookie"`
	Header *fieldName  `toml:"header"`
}

type rawTableKey struct {
	Header *fieldName  `toml:"header"`
	Cookie *cookieName `toml:"cookie"`
	Query  *string     `toml:"query"`
	Source *bool       `toml:"source"`
	SNI    *bool       `toml:"sni"`
}

type rawHashOn struct {
	Header   *fieldName  `toml:"header"`
	Cookie   *cookieName `toml:"cookie"`
	Query    *string     `toml:"query"`
	Source   *bool       `toml:"source"`
	SNI      *bool       `toml:"sni"`
	TTL      *duration   `toml:"ttl" min:"0s" max:"87600h"`
	Path     *cookiePath `toml:"path"`
	Terminal *bool       `toml:"terminal"`
}

type rawHash struct {
	On        []rawHashOn `toml:"on"`
	TableSize *int        `toml:"table_size" min:"100" max:"5000011"`
	MaxLoad   *float64    `toml:"max_load" min:"0" max:"10"`
}

type rawHealthCheck struct {
	Type          *string                `toml:"type" one:"http tcp tls"`
	Method        *method                `toml:"method"`
	Path          *urlPathQuery          `toml:"path"`
	Host          *authority             `toml:"host"`
	Headers       map[string]headerValue `toml:"headers"`
	Status        []statusRange          `toml:"status"`
	Degraded      []statusRange          `toml:"degraded_status"`
	Body          *pattern               `toml:"body"`
	Port          *int                   `toml:"port" min:"1" max:"65535"`
	Interval      *duration              `toml:"interval" min:"100ms" max:"24h"`
	IntervalDown  *duration              `toml:"interval_down" min:"100ms" max:"24h"`
	IntervalFirst *duration              `toml:"interval_first" min:"100ms" max:"24h"`
	Jitter        *float64               `toml:"jitter" min:"0" max:"1"`
	Timeout       *duration              `toml:"timeout" min:"10ms" max:"10m"`
	Rise          *int                   `toml:"rise" min:"1" max:"100"`
	Fall          *int                   `toml:"fall" min:"1" max:"100"`
}

type rawOutlier struct {
	Consecutive        *int      `toml:"consecutive" min:"0" max:"100000"`
	On                 []retryOn `toml:"on"`
	SuccessRate        *float64  `toml:"success_rate" min:"0" max:"10"`
	SuccessRateMinimum *int      `toml:"success_rate_minimum" min:"1" max:"1000000"`
	SuccessRateHosts   *int      `toml:"success_rate_endpoints" min:"2" max:"10000"`
	FailurePercent     *int      `toml:"failure_percent" min:"0" max:"100"`
	Interval           *duration `toml:"interval" min:"100ms" max:"24h"`
	Ejection           *duration `toml:"ejection_time" min:"100ms" max:"24h"`
	MaxEjection        *duration `toml:"max_ejection_time" min:"100ms" max:"168h"`
	MaxEjected         *int      `toml:"max_ejected_percent" min:"0" max:"100"`
}
