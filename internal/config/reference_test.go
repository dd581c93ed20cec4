package config

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

const referenceFile = "../../docs/reference.toml"

// schema lists every key of the raw structs, with NAME for a free name and []
// for an element.
func schema(t reflect.Type, at string, keys map[string]reflect.StructField) {
	switch t.Kind() {
	case reflect.Pointer:
		schema(t.Elem(), at, keys)
	case reflect.Slice:
		schema(t.Elem(), at+"[]", keys)
	case reflect.Struct:
		if _, ok := reflect.New(t).Interface().(setter); ok {
			return
		}
		for i := range t.NumField() {
			f := t.Field(i)
			key := at + "." + f.Tag.Get("toml")
			keys[key] = f
			switch key {
			case "listener.NAME.chain[].tls": // as listener.NAME.tls
			case "listener.NAME.route[].persistence": // as cluster.NAME.persistence
			default:
				schema(f.Type, key, keys)
			}
		}
	}
}

func allKeys() map[string]reflect.StructField {
	keys := make(map[string]reflect.StructField)
	schema(reflect.TypeFor[rawServer](), "server", keys)
	schema(reflect.TypeFor[rawAdmin](), "admin", keys)
	schema(reflect.TypeFor[rawAccessLog](), "access_log", keys)
	schema(reflect.TypeFor[rawHotRestart](), "hot_restart", keys)
	schema(reflect.TypeFor[rawListener](), "listener.NAME", keys)
	schema(reflect.TypeFor[rawCluster](), "cluster.NAME", keys)
	schema(reflect.TypeFor[rawKeys](), "persistence", keys)
	schema(reflect.TypeFor[rawStickTable](), "table.NAME", keys)
	return keys
}

func reference(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The tags are read at run time: all of them must be well-formed.
func TestRawTags(t *testing.T) {
	word := regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)
	for key, f := range allKeys() {
		name, least, most := f.Tag.Get("toml"), f.Tag.Get("min"), f.Tag.Get("max")
		if !word.MatchString(name) {
			t.Errorf("%s: not lower_snake_case", key)
		}
		if (least == "") != (most == "") {
			t.Errorf("%s: min without max", key)
		}
		if least == "" {
			continue
		}
		e := f.Type
		for e.Kind() == reflect.Pointer || e.Kind() == reflect.Slice {
			e = e.Elem()
		}
		switch {
		case e == reflect.TypeFor[duration]():
			if mustDuration(least) >= mustDuration(most) {
				t.Errorf("%s: empty range", key)
			}
		case e.Kind() == reflect.Int, e.Kind() == reflect.Float64, e == reflect.TypeFor[size]():
			if mustFloat(least) >= mustFloat(most) {
				t.Errorf("%s: empty range", key)
			}
		default:
			t.Errorf("%s: a range on %s", key, f.Type)
		}
	}
}

func TestReferenceHasEveryKey(t *testing.T) {
	var top map[string]any
	if _, err := toml.Decode(reference(t), &top); err != nil {
		t.Fatal(err)
	}
	have := make(map[string]bool)
	for key, v := range top {
		if key == "listener" || key == "cluster" || key == "table" {
			for _, v := range v.(map[string]any) {
				collect(v, key+".NAME", have)
			}
			continue
		}
		collect(v, key, have)
	}
	for _, key := range slices.Sorted(maps.Keys(allKeys())) {
		if !have[key] && key != "persistence.keyring" { // it excludes the others
			t.Errorf("%s is not in %s", key, referenceFile)
		}
	}
}

// collect lists the keys in v as schema does.
func collect(v any, at string, keys map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, v := range v {
			keys[at+"."+k] = true
			collect(v, at+"."+k, keys)
		}
	case []map[string]any:
		for _, v := range v {
			collect(v, at+"[]", keys)
		}
	case []any:
		for _, v := range v {
			collect(v, at+"[]", keys)
		}
	}
}

// What the reference calls a default is one.
func TestReferenceHasTheDefaults(t *testing.T) {
	c := mustParse(t, reference(t))
	server := defaultServer()
	server.TLS.TicketSecret = c.Server.TLS.TicketSecret
	equal(t, "server", c.Server, server)
	equal(t, "admin", c.Admin, defaultAdmin())
	equal(t, "access log", c.AccessLog, defaultAccessLog())
	equal(t, "hot restart", c.HotRestart, defaultHotRestart())

	l := c.Listeners[slices.IndexFunc(c.Listeners, func(l *Listener) bool { return l.Name == "main" })]
	want := defaultListener("main")
	want.Address, want.Routes = l.Address, l.Routes
	equal(t, "listener", l, want)

	db := c.Listeners[slices.IndexFunc(c.Listeners, func(l *Listener) bool { return l.Name == "db" })]
	want = defaultListener("db")
	want.Address, want.Protocol, want.Clusters = db.Address, ProtocolTCP, db.Clusters
	equal(t, "TCP listener", db, want)

	tls := defaultTLS()
	secure := c.Listeners[slices.IndexFunc(c.Listeners, func(l *Listener) bool { return l.Name == "secure" })].TLS
	tls.Certificates, tls.ALPN = secure.Certificates, []string{"http/1.1"}
	tls.CipherSuites, tls.Curves = secure.CipherSuites, secure.Curves
	given := secure.Client
	given.CRLExpired, given.Forward, given.ClientCert = tls.Client.CRLExpired, tls.Client.Forward, tls.Client.ClientCert
	tls.Client = given
	equal(t, "TLS", secure, tls)

	retry := defaultRetry()
	got := l.Routes[0].Retry
	retry.On, retry.Statuses, retry.Attempts = got.On, got.Statuses, 1
	equal(t, "retry", got, retry)
	if all := RetryConnectFailure | RetryReset | Retry5xx | RetryStatus | RetryFirstByte; got.On != all {
		t.Errorf("retry.on has %b, want all of %b", got.On, all)
	}

	app := c.Clusters[slices.IndexFunc(c.Clusters, func(c *Cluster) bool { return c.Name == "app" })]
	cluster := defaultCluster("app")
	cluster.Endpoints = app.Endpoints
	cluster.HealthCheck, cluster.Outlier, cluster.Persistence = app.HealthCheck, app.Outlier, app.Persistence
	equal(t, "cluster", app, cluster)
	sessionDefaults(t, c, app)

	remote := c.Clusters[slices.IndexFunc(c.Clusters, func(c *Cluster) bool { return c.Name == "remote" })].TLS
	clusterTLS := defaultClusterTLS()
	clusterTLS.CA, clusterTLS.Cert, clusterTLS.Key = remote.CA, remote.Cert, remote.Key
	clusterTLS.SAN, clusterTLS.SPKI, clusterTLS.Certificate = remote.SAN, remote.SPKI, remote.Certificate
	clusterTLS.CipherSuites, clusterTLS.Curves = remote.CipherSuites, remote.Curves
	equal(t, "cluster TLS", remote, clusterTLS)
}

// Every line with a key says what it is.
func TestReferenceHasComments(t *testing.T) {
	above := false
	for i, line := range strings.Split(reference(t), "\n") {
		if strings.Contains(line, " = ") && line[0] != '#' && !strings.Contains(line, "#") && !above {
			t.Errorf("line %d has no comment: %s", i+1, line)
		}
		above = strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[[") || above && line != ""
	}
}

// The man page has an item for every key, in the section of its table.
func TestManPageHasEveryKey(t *testing.T) {
	data, err := os.ReadFile("../../man/belay.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	items := make(map[string]bool)
	var sections []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && (f[0] == ".Ss" || f[0] == ".Sh"):
			sections = f[1:]
		case len(f) > 2 && f[0] == ".It" && f[1] == "Ic":
			for _, s := range sections {
				items[s+" "+f[2]] = true
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(allKeys())) {
		i := strings.LastIndexByte(key, '.')
		table, array := strings.CutSuffix(key[:i], "[]")
		header := "[" + strings.ReplaceAll(table, "[]", "") + "]"
		if array {
			header = "[" + header + "]"
		}
		if !items[header+" "+key[i+1:]] {
			t.Errorf("belay.toml.5 lacks %s in %s", key[i+1:], header)
		}
	}
}

// The examples of the man page are parts of one configuration.
func TestManPageExamplesParse(t *testing.T) {
	data, err := os.ReadFile("../../man/belay.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(data), "\n.Sh EXAMPLES\n")
	examples, _, _ = strings.Cut(examples, "\n.Sh ")
	var doc strings.Builder
	literal := false
	for line := range strings.Lines(examples) {
		switch {
		case strings.HasPrefix(line, ".Bd "):
			literal = true
		case strings.HasPrefix(line, ".Ed"):
			literal = false
		case literal:
			doc.WriteString(line)
		}
	}
	if c := mustParse(t, doc.String()); len(c.Listeners) < 3 {
		t.Errorf("%d listeners", len(c.Listeners))
	}
}

func TestExamplesParse(t *testing.T) {
	files, err := os.ReadDir("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".toml") {
			continue
		}
		data, err := os.ReadFile("../../examples/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(f.Name(), data); err != nil {
			t.Error(err)
		}
	}
}

// sessionDefaults are those of what keeps sessions and watches health.
func sessionDefaults(t *testing.T, c *Config, app *Cluster) {
	t.Helper()
	keys := defaultKeys()
	keys.Keyring, keys.Directory, keys.Overlap = c.Keys.Keyring, c.Keys.Directory, c.Keys.Overlap
	equal(t, "persistence keys", c.Keys, keys)
	table := c.Tables[slices.IndexFunc(c.Tables, func(x *Table) bool { return x.Name == "sessions" })]
	equal(t, "table", table, defaultTable("sessions"))

	p := defaultPersistence()
	p.Cookie, p.Header, p.Table, p.DebugHeader = app.Persistence.Cookie, app.Persistence.Header, app.Persistence.Table, app.Persistence.DebugHeader
	equal(t, "persistence", app.Persistence, p)
	cookie := defaultCookiePersistence()
	cookie.Name, cookie.Domain = p.Cookie.Name, p.Cookie.Domain
	equal(t, "cookie", p.Cookie, cookie)
	header := defaultHeaderPersistence()
	header.Name = p.Header.Name
	equal(t, "header", p.Header, header)
	equal(t, "table persistence", p.Table, &TablePersistence{Name: "sessions", Key: p.Table.Key, Learn: p.Table.Learn, Track: true})

	h := defaultHealthCheck()
	h.Host, h.Headers, h.Degraded, h.Body, h.Port, h.IntervalDown = app.HealthCheck.Host, app.HealthCheck.Headers, app.HealthCheck.Degraded, app.HealthCheck.Body, app.HealthCheck.Port, h.Interval
	equal(t, "health check", app.HealthCheck, h)
	equal(t, "outlier", app.Outlier, defaultOutlier())
	for name, size := range map[string]int{"cache": defaultMaglevSize, "ring": defaultRingPoints} {
		x := c.Clusters[slices.IndexFunc(c.Clusters, func(c *Cluster) bool { return c.Name == name })]
		equal(t, name, x.Hash, Hash{On: x.Hash.On, TableSize: size})
	}
}
