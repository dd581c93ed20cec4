package config

import (
	"reflect"
	"slices"
)

// httpKeys are the keys of a listener that only an HTTP listener has; those of
// tables in tcpListener.
var httpKeys = []string{"trusted_proxies", "x_forwarded", "request_id", "server_header", "route"}

func (b *builder) tcpListener(l *Listener, raw *rawListener, at *path) {
	b.onlyFor(ProtocolHTTP, slices.DeleteFunc(given(raw), func(key string) bool { return !slices.Contains(httpKeys, key) }), at)
	b.onlyFor(ProtocolHTTP, slices.DeleteFunc(given(&raw.Timeouts), func(key string) bool { return key == "tunnel" || key == "handshake" }), at.child("timeouts"))
	b.onlyFor(ProtocolHTTP, given(&raw.Limits), at.child("limits"))
	b.onlyFor(ProtocolHTTP, given(&raw.HTTP1), at.child("http1"))
	put(&l.TCP.ConnectAttempts, raw.TCP.ConnectAttempts)
	putBool(&l.TCP.Splice, raw.TCP.Splice)
	if b.exclusive(at, []string{"cluster", "clusters"}, raw.Cluster != nil, raw.Clusters != nil) == 0 {
		b.add(at, `needs cluster or clusters: where protocol = "tcp" leads`)
	}
	if raw.Cluster != nil {
		b.known(at.child("cluster"), *raw.Cluster)
		l.Clusters = []WeightedCluster{{Cluster: *raw.Cluster, Weight: defaultWeight}}
	}
	if raw.Clusters != nil {
		l.Clusters = b.weighted(raw.Clusters, at.child("clusters"))
	}
}

// onlyFor reports keys that belong to another protocol.
func (b *builder) onlyFor(protocol string, keys []string, at *path) {
	for _, key := range keys {
		b.add(at.child(key), "is only for protocol = %q", protocol)
	}
}

// given lists the keys of a raw table that were written.
func given(raw any) []string {
	v := reflect.ValueOf(raw).Elem()
	var keys []string
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			keys = append(keys, v.Type().Field(i).Tag.Get("toml"))
		}
	}
	return keys
}
