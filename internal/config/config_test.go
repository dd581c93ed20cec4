package config

import (
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func mustParse(t *testing.T, doc string) *Config {
	t.Helper()
	c, err := Parse("t.toml", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func TestParseDefaults(t *testing.T) {
	c := mustParse(t, listenerDoc+clusterDoc)
	equal(t, "server", c.Server, defaultServer())
	equal(t, "admin", c.Admin, defaultAdmin())
	equal(t, "access log", c.AccessLog, defaultAccessLog())
	equal(t, "hot restart", c.HotRestart, defaultHotRestart())
	l := defaultListener("web")
	l.Address = netip.MustParseAddrPort("[::]:80")
	r := defaultRoute(0)
	r.Name, r.Clusters = "web.0", []WeightedCluster{{"a", 1}}
	l.Routes = []*Route{r}
	equal(t, "listeners", c.Listeners, []*Listener{l})
	cl := defaultCluster("a")
	cl.Endpoints = []Endpoint{{ID: "a:1", Host: "a", Port: 1, Weight: 1}}
	equal(t, "clusters", c.Clusters, []*Cluster{cl})
}

func TestParseServerTables(t *testing.T) {
	c := mustParse(t, listenerDoc+clusterDoc+`
[server]
workers = 3
stop_time = "1m30s"
max_connections = 1000
log_level = "warn"
log_format = "json"
dns_servers = ["127.0.0.53", "[::1]:5353"]
dns_min_ttl = "10ms"
dns_max_ttl = "5m"
dns_timeout = "1s"
buffer_memory = "64 KiB"
refuse_on_stop = true
tls = { ticket_secret = "credential:tickets", ticket_rotation = "1h", max_handshakes = 5, max_handshakes_per_source = 0, handshakes_per_turn = 64, hello_bytes = "4KiB", expiry_warning = "1m" }
[admin]
socket = "none"
metrics_address = "127.0.0.1:9090"
[access_log]
output = "/var/log/belay.log"
format = "%{client}a"
queue_size = "1MB"
flush_interval = "1s"`)
	equal(t, "server", c.Server, Server{
		Workers: 3, StopTime: 90 * time.Second, MaxConnections: 1000, LogLevel: slog.LevelWarn, LogFormat: "json",
		DNSServers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.53:53"), netip.MustParseAddrPort("[::1]:5353")},
		DNSMinTTL:  10 * time.Millisecond, DNSMaxTTL: 5 * time.Minute, DNSTimeout: time.Second, BufferMemory: 65536,
		SplicePipes: 64, SplicePipeSize: 512 << 10, RefuseOnStop: true,
		TLS: ServerTLS{
			TicketSecret: Secret{Credential: "tickets"}, TicketRotation: time.Hour, MaxHandshakes: 5, HandshakesPerTurn: 64,
			HelloBytes: 4096, ExpiryWarning: time.Minute,
		},
	})
	equal(t, "admin", c.Admin, Admin{MetricsAddress: netip.MustParseAddrPort("127.0.0.1:9090")})
	equal(t, "access log", c.AccessLog, AccessLog{"/var/log/belay.log", "%{client}a", 1000000, time.Second})
}

// Addresses come in one form each, so that equal ones are equal.
func TestParseAddresses(t *testing.T) {
	for in, want := range map[string]Listener{
		":80":                 {Address: netip.MustParseAddrPort("[::]:80")},
		"[0:0::0]:80":         {Address: netip.MustParseAddrPort("[::]:80")},
		"0.0.0.0:80":          {Address: netip.MustParseAddrPort("0.0.0.0:80")},
		"[::ffff:1.2.3.4]:80": {Address: netip.MustParseAddrPort("1.2.3.4:80")},
		"unix:/run/x":         {Unix: "/run/x"},
	} {
		l := mustParse(t, "[listener.a]\naddress = \""+in+"\"\nroute = [{ respond = {} }]").Listeners[0]
		equal(t, in, Listener{Address: l.Address, Unix: l.Unix}, want)
	}
	c := mustParse(t, listenerDoc+`[cluster.a]
endpoints = [{ address = "[::0001]:1" }, { address = "[::ffff:1.2.3.4]:1" }, { address = "App.Internal.:1", weight = 0 }, { address = "unix:/a" }, { id = "x", address = "a:2" }]`)
	equal(t, "endpoints", c.Clusters[0].Endpoints, []Endpoint{
		{ID: "[::1]:1", Host: "::1", Port: 1, Weight: 1}, {ID: "1.2.3.4:1", Host: "1.2.3.4", Port: 1, Weight: 1},
		{ID: "app.internal.:1", Host: "app.internal.", Port: 1}, {ID: "unix:/a", Unix: "/a", Weight: 1}, {ID: "x", Host: "a", Port: 2, Weight: 1},
	})
}

func TestParseRouteValues(t *testing.T) {
	c := mustParse(t, clusterDoc+`
[listener.web]
address = ":80"
allow = ["10.0.0.1", "::ffff:10.0.0.0/104", "2001:db8::/32"]
[[listener.web.route]]
name = "shop"
hosts = ["Shop.Example.", "*.Example", "[::0:1]"]
path_regex = "/a|/b"
cluster = "a"
request_headers = { remove = ["X"], set = { B = "1", A = "2" }, add = { D = ["2", "1"], C = "3" } }
request_timeout = "0s"
max_body = 0
upgrade = false
retry = { on = ["reset", "5xx"], budget = 1 }
headers = [{ name = "A", regex = "a|b" }]
[[listener.web.route]]
respond = { body = "x", headers = { X-A = "1" } }
[[listener.web.route]]
path_prefix = "/a"
redirect = { port = 8443, path_prefix = "/" }
`)
	l := c.Listeners[0]
	equal(t, "allow", l.Allow, []netip.Prefix{
		netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"),
	})
	r := l.Routes[0]
	equal(t, "hosts", r.Hosts, []string{"shop.example", "*.example", "[::1]"})
	equal(t, "request headers", r.RequestHeaders, HeaderOps{
		Remove: []string{"X"}, Set: [][2]string{{"A", "2"}, {"B", "1"}}, Add: [][2]string{{"C", "3"}, {"D", "2"}, {"D", "1"}},
	})
	retry := defaultRetry()
	retry.On, retry.Attempts, retry.Budget = RetryReset|Retry5xx, 1, 1
	equal(t, "retry", r.Retry, retry)
	if r.RequestTimeout != 0 || r.FirstByteTimeout >= 0 || r.MaxBody != 0 || r.Upgrade {
		t.Errorf("route %+v", r)
	}
	for _, s := range []string{"/a", "/b", "/ab", "x/b", "/a\n"} {
		if got, want := r.PathRegex.MatchString(s), s == "/a" || s == "/b"; got != want {
			t.Errorf("path_regex of %q: %v", s, got)
		}
	}
	if r.Headers[0].Regex.MatchString("ab") {
		t.Error("header regex is not anchored")
	}
	equal(t, "respond", l.Routes[1].Respond, &Respond{200, "x", [][2]string{{"Content-Type", "text/plain; charset=utf-8"}, {"X-A", "1"}}})
	equal(t, "redirect", l.Routes[2].Redirect, &Redirect{Status: 308, Port: "8443", PathPrefix: "/"})
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b  string
		limit int
		want  int
	}{
		{"", "", 3, 0}, {"a", "", 3, 1}, {"adress", "address", 3, 1}, {"kitten", "sitting", 9, 3},
		{"kitten", "sitting", 3, 3}, {"abc", "xyz", 9, 3}, {"ab", "ba", 9, 2}, {"a", "abcdef", 3, 3},
	} {
		if got := distance(tt.a, tt.b, tt.limit); got != tt.want {
			t.Errorf("distance(%q, %q, %d) = %d, want %d", tt.a, tt.b, tt.limit, got, tt.want)
		}
	}
}
