package config

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// Every default is in this file; docs/reference.toml shows them.

func defaultServer() Server {
	return Server{
		StopTime:     10 * time.Second,
		LogLevel:     slog.LevelInfo,
		LogFormat:    "text",
		DNSMinTTL:    time.Second,
		DNSMaxTTL:    time.Minute,
		DNSTimeout:   2 * time.Second,
		BufferMemory: 16 << 20,

		SplicePipes:    64,
		SplicePipeSize: 512 << 10,
		TLS: ServerTLS{
			TicketRotation:         12 * time.Hour,
			MaxHandshakes:          10000,
			MaxHandshakesPerSource: 100,
			HandshakesPerTurn:      1,
			HelloBytes:             16 << 10,
			ExpiryWarning:          14 * 24 * time.Hour,
		},
	}
}

func defaultAdmin() Admin {
	return Admin{Socket: "/run/belay/admin.sock"}
}

func defaultAccessLog() AccessLog {
	return AccessLog{
		Output:        "none",
		Format:        "json",
		QueueSize:     4 << 20,
		FlushInterval: 100 * time.Millisecond,
	}
}

func defaultHotRestart() HotRestart {
	return HotRestart{
		Enabled:        true,
		DrainTime:      5 * time.Minute,
		Probation:      2 * time.Second,
		ShutdownTime:   15 * time.Minute,
		MaxGenerations: 8,
		Heartbeat:      500 * time.Millisecond,
		PrepareTime:    time.Minute,
		CallTime:       5 * time.Second,
	}
}

func defaultListener(name string) *Listener {
	return &Listener{
		Name:         name,
		UnixMode:     0o660,
		Protocol:     ProtocolHTTP,
		Backlog:      4096,
		XForwarded:   true,
		RequestID:    "generate",
		ServerHeader: "belay",

		ProxyProtocol: "off",
		Timeouts: ListenerTimeouts{
			Head:      10 * time.Second,
			Body:      30 * time.Second,
			Idle:      75 * time.Second,
			Write:     30 * time.Second,
			Tunnel:    time.Hour,
			Handshake: 10 * time.Second,
		},
		Limits: ListenerLimits{
			RequestLine:     8 << 10,
			HeadBytes:       60 << 10,
			Fields:          100,
			FieldName:       256,
			Pipeline:        2,
			ChunkExtensions: 4 << 10,
		},
		HTTP1: HTTP1{Underscores: "drop", EscapedControl: "reject", Backslash: "reject"},
		TCP:   TCP{ConnectAttempts: 3, Splice: true},
	}
}

// defaultRoute has -1 where the listener or the cluster decides.
func defaultRoute(index int) *Route {
	return &Route{
		Index:            index,
		Upgrade:          true,
		RequestTimeout:   -1,
		FirstByteTimeout: -1,
		MaxBody:          -1,
	}
}

const (
	defaultRedirectStatus = 308
	defaultRespondStatus  = 200
	defaultContentType    = "text/plain; charset=utf-8"
	defaultWeight         = 1
)

// defaultRetry is for a route that has a retry table.
func defaultRetry() Retry {
	return Retry{
		Budget:     0.2,
		BudgetMin:  3,
		Backoff:    25 * time.Millisecond,
		BackoffMax: 250 * time.Millisecond,
	}
}

func defaultCluster(name string) *Cluster {
	return &Cluster{
		Name:              name,
		Balance:           "round_robin",
		ConnectTimeout:    5 * time.Second,
		FirstByteTimeout:  60 * time.Second,
		BodyTimeout:       60 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxPending:        1024,
		PendingTimeout:    5 * time.Second,
		MaxIdle:           128,
		ResponseHeadBytes: 80 << 10,
		ResponseFields:    200,
		TrackSessions:     defaultTrackSessions,
	}
}

// defaultTLS is what a listener has that says no more than its certificate.
func defaultTLS() *TLS {
	return &TLS{
		MinVersion: tls.VersionTLS12,
		MaxVersion: tls.VersionTLS13,
		OCSPPolicy: "lenient",
		Client:     ClientCertificate{Mode: "none", CRLExpired: "refuse", Forward: "sanitize"},
		Tickets:    true,
	}
}

func defaultClusterTLS() *ClusterTLS {
	return &ClusterTLS{
		Verify:      true,
		SNIFromHost: true,
		MinVersion:  tls.VersionTLS12,
		MaxVersion:  tls.VersionTLS13,
		Sessions:    1024,
	}
}

func defaultKeys() Keys {
	return Keys{Rotation: 24 * time.Hour, Overlap: time.Hour, Skew: time.Minute}
}

func defaultTable(name string) *Table {
	return &Table{
		Name: name, Size: 100000, Expire: 30 * time.Minute,
		StoreTimeout: 500 * time.Millisecond, StorePrefix: "belay:" + name + ":", StoreQueue: 10000,
	}
}

func defaultPersistence() *Persistence {
	return &Persistence{Policy: "redispatch", Unknown: "redispatch", StrictStatus: 503, RetryAfter: 5 * time.Second, Grace: time.Minute, Full: "queue"}
}

func defaultCookiePersistence() *CookiePersistence {
	return &CookiePersistence{
		Mode: "insert", Path: "/", SameSite: "lax", Secure: "auto", HTTPOnly: true,
		MaxIdle: 30 * time.Minute, MaxAge: 12 * time.Hour, Hide: true, NoCache: true,
	}
}

func defaultHeaderPersistence() *HeaderPersistence {
	return &HeaderPersistence{Mode: "token", MaxIdle: 30 * time.Minute, MaxAge: 12 * time.Hour, Hide: true}
}

const (
	defaultMaglevSize    = 65537
	defaultRingPoints    = 512
	defaultTrackSessions = 100000
)

func defaultHealthCheck() *HealthCheck {
	return &HealthCheck{
		Type: "http", Method: "GET", Path: "/", Status: []StatusRange{{200, 399}},
		Interval: 5 * time.Second, IntervalFirst: time.Second, Jitter: 0.1, Timeout: 2 * time.Second, Rise: 2, Fall: 3,
	}
}

func defaultOutlier() *Outlier {
	return &Outlier{
		Consecutive: 5, On: RetryConnectFailure | RetryReset | RetryFirstByte | Retry5xx, SuccessRateMinimum: 100, SuccessRateHosts: 5,
		Interval: 10 * time.Second, Ejection: 30 * time.Second, MaxEjection: 5 * time.Minute, MaxEjected: 10,
	}
}
