package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// builder takes the second step: raw tables to a valid Config. What decoding
// refused is unset here, so each check must bear that.
type builder struct {
	*collector
	files      []string
	partial    bool // a file or a table is missing: names may be defined there
	server     table[rawServer]
	admin      table[rawAdmin]
	accessLog  table[rawAccessLog]
	hotRestart table[rawHotRestart]
	listeners  []*table[rawListener]
	clusters   []*table[rawCluster]
	keys       table[rawKeys]
	tables     []*table[rawStickTable]
	tableNames map[string]bool
	names      []string      // of the clusters
	watchdog   time.Duration // of systemd; 0: none is known
}

// finish builds the Config, or returns all problems.
func (b *builder) finish() (*Config, error) {
	slices.SortFunc(b.listeners, func(x, y *table[rawListener]) int { return cmp.Compare(x.name, y.name) })
	slices.SortFunc(b.clusters, func(x, y *table[rawCluster]) int { return cmp.Compare(x.name, y.name) })
	for _, t := range b.clusters {
		b.names = append(b.names, t.name)
	}
	slices.SortFunc(b.tables, func(x, y *table[rawStickTable]) int { return cmp.Compare(x.name, y.name) })
	b.tableNames = make(map[string]bool, len(b.tables))
	for _, t := range b.tables {
		b.tableNames[t.name] = true
	}
	cfg := &Config{Files: b.files, Server: b.buildServer(), Admin: b.buildAdmin(), AccessLog: b.buildAccessLog()}
	b.buildHotRestart(cfg)
	b.buildKeys(cfg)
	for _, t := range b.tables {
		cfg.Tables = append(cfg.Tables, b.buildTable(t))
	}
	for _, t := range b.listeners {
		cfg.Listeners = append(cfg.Listeners, b.buildListener(t))
	}
	for _, t := range b.clusters {
		cfg.Clusters = append(cfg.Clusters, b.buildCluster(t))
	}
	b.checkAddresses(cfg)
	b.checkSystemd(cfg)
	b.checkClusterTLS(cfg)
	b.checkTCPPersistence(cfg)
	if len(b.listeners) == 0 && !b.partial && len(b.found) == 0 {
		b.found = append(b.found, found{Problem: Problem{File: b.files[0], Path: "listener", Msg: "no listener is defined"}})
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// check reports an error, if there is one.
func (b *builder) check(at *path, err error) {
	if err != nil {
		b.add(at, "%s", err)
	}
}

// missing reports a key that is needed, unless it is there and was refused.
func (b *builder) missing(table *path, key, format string, args ...any) {
	if at := table.child(key); !b.has(at) {
		b.add(at, format, args...)
	}
}

// put, putText and putBool set a default aside if the key is there.
func put[D, S ~int | ~int64 | ~uint16 | ~uint32](dst *D, src *S) {
	if src != nil {
		*dst = D(*src)
	}
}

func putText[D, S ~string](dst *D, src *S) {
	if src != nil {
		*dst = D(*src)
	}
}

func putBool(dst *bool, src *bool) {
	if src != nil {
		*dst = *src
	}
}

func (b *builder) buildServer() Server {
	raw, at, s := &b.server.raw, b.server.at, defaultServer()
	put(&s.Workers, raw.Workers)
	put(&s.StopTime, raw.StopTime)
	put(&s.MaxConnections, raw.MaxConnections)
	putText(&s.LogFormat, raw.LogFormat)
	put(&s.DNSMinTTL, raw.DNSMinTTL)
	put(&s.DNSMaxTTL, raw.DNSMaxTTL)
	put(&s.DNSTimeout, raw.DNSTimeout)
	put(&s.BufferMemory, raw.BufferMemory)
	putBool(&s.RefuseOnStop, raw.RefuseOnStop)
	put(&s.SplicePipes, raw.SplicePipes)
	put(&s.SplicePipeSize, raw.SplicePipeSize)
	if at != nil {
		b.buildServerTLS(&s.TLS, &raw.TLS, at.child("tls"))
	}
	if raw.LogLevel != nil {
		// The decoder took only the names of slog, in lower case.
		_ = s.LogLevel.UnmarshalText([]byte(*raw.LogLevel))
	}
	for _, x := range raw.DNSServers {
		s.DNSServers = append(s.DNSServers, x.ap)
	}
	if s.DNSMinTTL > s.DNSMaxTTL {
		key := "dns_min_ttl"
		if raw.DNSMinTTL == nil {
			key = "dns_max_ttl"
		}
		b.add(at.child(key), "dns_min_ttl (%s) is longer than dns_max_ttl (%s)", s.DNSMinTTL, s.DNSMaxTTL)
	}
	return s
}

func (b *builder) buildAdmin() Admin {
	raw, at, a := &b.admin.raw, b.admin.at, defaultAdmin()
	putText(&a.Socket, raw.Socket)
	switch {
	case a.Socket == "none":
		a.Socket = ""
	case a.Socket == "":
		b.add(at.child("socket"), `is empty; write "none" for no admin API`)
	case strings.ContainsRune(a.Socket, 0):
		b.add(at.child("socket"), "%q has a NUL in it", a.Socket)
	case len(a.Socket) > maxUnixPath:
		b.add(at.child("socket"), "the path is %d bytes long; a Unix socket takes %d", len(a.Socket), maxUnixPath)
	}
	if raw.MetricsAddress != nil {
		a.MetricsAddress = raw.MetricsAddress.ap
	}
	return a
}

func (b *builder) buildAccessLog() AccessLog {
	raw, at, a := &b.accessLog.raw, b.accessLog.at, defaultAccessLog()
	putText(&a.Output, raw.Output)
	putText(&a.Format, raw.Format)
	put(&a.QueueSize, raw.QueueSize)
	put(&a.FlushInterval, raw.FlushInterval)
	// A bare word is far more often a mistake, such as "stdout", than a file.
	if a.Output != "none" && a.Output != "stderr" && (!strings.Contains(a.Output, "/") || strings.ContainsRune(a.Output, 0)) {
		b.add(at.child("output"), `must be "none", "stderr" or a path with a "/" in it, not %q`, a.Output)
	}
	if a.Format == "" {
		b.add(at.child("format"), `is empty; write "json" or a format`)
	}
	return a
}

// checkAddresses reports an address that is used twice.
func (b *builder) checkAddresses(cfg *Config) {
	first := make(map[string]string)
	use := func(address, owner string, at *path) {
		if other, ok := first[address]; ok {
			b.add(at, "%s is the address of %s as well", strings.TrimPrefix(address, "unix:"), other)
			return
		}
		first[address] = owner
	}
	if cfg.Admin.MetricsAddress.IsValid() {
		use(cfg.Admin.MetricsAddress.String(), "admin.metrics_address", nil)
	}
	if cfg.Admin.Socket != "" {
		use("unix:"+cfg.Admin.Socket, "admin.socket", nil)
	}
	for i, l := range cfg.Listeners {
		t := b.listeners[i]
		switch {
		case l.Unix != "":
			use("unix:"+l.Unix, t.at.String(), t.at.child("address"))
		case l.Address != netip.AddrPort{}:
			use(l.Address.String(), t.at.String(), t.at.child("address"))
		}
	}
}

// exclusive reports more than one given key out of a list, and returns how
// many are given, counting those that decoding refused.
func (b *builder) exclusive(at *path, keys []string, given ...bool) int {
	var have []string
	n := 0
	for i, k := range keys {
		switch {
		case given[i]:
			have = append(have, k)
			n++
		case b.has(at.child(k)):
			n++
		}
	}
	if len(have) > 1 {
		b.add(at.child(have[1]), "excludes %s", have[0])
	}
	return n
}
