package admin

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"belay/internal/config"
)

const everything = `
[server]
log_level = "debug"
dns_servers = ["10.0.0.53", "[2001:db8::53]:5353"]
stop_time = "1m30s"
[server.tls]
ticket_secret = "credential:tickets"
max_handshakes_per_source = 0
hello_bytes = 5000
[admin]
socket = "none"
metrics_address = "127.0.0.1:9100"
[hot_restart]
enabled = false
directory = "/run/other"
drain_strategy = "immediate"
memory_headroom = "1GiB"
[listener.activated]
systemd = "belay http"
route = [{ respond = {} }]
[listener.both]
address = ":8081"
systemd = "both"
route = [{ respond = {} }]
[listener.unix]
address = "unix:/run/app.sock"
unix_mode = "0600"
[[listener.unix.route]]
redirect = { scheme = "https", port = 8443, status = 301, strip_query = true }
[listener.web]
address = ":8080"
ipv6_only = true
server_header = ""
allow = ["10.0.0.0/8"]
[listener.web.timeouts]
idle = "0s"
tunnel = "36h"
[[listener.web.route]]
path = "/a"
respond = { status = 503, body = "<b>&\n", content_type = "text/html", headers = { Retry-After = "1", "X-A" = "" } }
[[listener.web.route]]
path = "/b"
respond = { body = "no type", content_type = "" }
[[listener.web.route]]
path_regex = "/c/(x|y)"
methods = ["GET", "PURGE"]
hosts = ["a.example", "*.b.example"]
headers = [{ name = "X-A", exact = "" }, { name = "X-B", regex = "a|b", invert = true }, { name = "X-C", present = true }]
deny = ["192.0.2.1"]
clusters = [{ cluster = "app", weight = 3 }, { cluster = "lone", weight = 0 }]
path_rewrite = { regex = "^/c/(.*)$", replace = "/$1" }
request_timeout = "0s"
first_byte_timeout = "2s"
max_body = 0
upgrade = false
retry = { on = ["connect-failure", "reset", "5xx", "status", "first-byte-timeout"], statuses = [500, 503], attempts = 0, budget = 0.5, backoff = "0s" }
[[listener.web.route]]
name = "last"
path_prefix = "/d"
cluster = "app"
host_rewrite = "app.internal"
path_rewrite = { prefix = "/" }
[listener.web.route.request_headers]
remove = ["X-Old"]
set = { X-Client = "%{client_ip}" }
add = { X-Many = ["1", "2"], X-One = "3" }
[listener.web.route.response_headers]
set = { X-E = "%{endpoint}" }
[listener.secure]
address = ":8443"
proxy_protocol = "accept"
proxy_protocol_from = ["10.0.0.0/8"]
timeouts = { handshake = "1m30s" }
route = [{ respond = {} }]
[listener.secure.tls]
certificates = [{ cert = "/a.pem", key = "credential:a.key", ocsp = "/a.ocsp" }, { cert = "self-signed" }, { cert = "self-signed", names = ["::1", "*.dev"] }]
min_version = "1.2"
max_version = "1.2"
cipher_suites = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"]
curves = ["X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "secp256r1", "secp384r1", "secp521r1"]
alpn = []
ocsp_policy = "must_staple"
session_tickets = false
[listener.secure.tls.client_certificate]
mode = "request"
ca = "credential:ca"
crl = "/crl"
crl_expired = "accept"
san = [{ type = "dns", exact = "a" }, { type = "uri", prefix = "a" }, { type = "email", suffix = "a" }, { type = "ip", contains = "1" }, { type = "dns", regex = "a|b" }]
spki_sha256 = ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
certificate_sha256 = ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
forward = "append_forward"
forward_details = ["uri", "cert"]
client_cert_header = true
[listener.sql]
address = ":5432"
protocol = "tcp"
starttls = "postgres"
[[listener.sql.chain]]
server_names = ["*.a.example"]
sources = ["10.0.0.0/8"]
ports = [5432]
alpn = ["postgresql"]
passthrough = true
cluster = "mutual"
[[listener.sql.chain]]
name = "rest"
cluster = "app"
tls = { certificates = [{ cert = "self-signed" }], alpn = ["other"], client_certificate = { mode = "require", spki_sha256 = ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="] } }
[cluster.mutual]
endpoints = [{ address = "db:1" }]
proxy_protocol = "v1"
[cluster.mutual.tls]
ca = "/ca"
sni = "db.example"
san = [{ type = "dns", exact = "db" }]
cert = "credential:c"
key = "/k"
alpn = ["postgresql"]
max_version = "1.2"
curves = ["X25519"]
sessions = 0
starttls = "postgres"
[cluster.anything]
endpoints = [{ address = "db:1" }]
proxy_protocol = "v2"
tls = { verify = false, sni = "none" }
[cluster.plain]
endpoints = [{ address = "db:443" }]
tls = {}
[cluster.app]
balance = "least_request"
idle_timeout = "0s"
endpoints = [{ address = "10.0.0.1:80" }, { id = "six", address = "[2001:db8::1]:80", weight = 0 }, { address = "unix:/run/a.sock" }, { address = "app.internal:80" }]
[cluster.lone]
endpoints = [{ address = "10.0.0.1:80" }]
[cluster.sticky]
endpoints = [{ address = "10.0.0.1:80", generation = 4294967295, priority = 2, max_connections = 7 }]
balance = "ring_hash"
hash = { on = [{ header = "X-A", terminal = true }, { cookie = "c", ttl = "0s", path = "/p" }, { query = "q" }], table_size = 1000, max_load = 1.5 }
slow_start = "30s"
panic_threshold = 40
persistence = { policy = "strict", strict_status = 421, retry_after = "0s", full = "policy", first_request_window = "2s", debug_header = "X-D", cookie = { mode = "prefix", name = "JSESSIONID", max_age = "1h" }, table = { name = "t", key = [{ source = true }], learn = { header = "X-S" }, track = false } }
health_check = { type = "tls", host = "a.example", port = 8443, interval_down = "7s" }
outlier = { on = ["reset"], success_rate = 1.9, max_ejected_percent = 50 }
[cluster.insert]
endpoints = [{ address = "10.0.0.1:80" }]
persistence = { policy = "detour", grace = "10s", cookie = { name = "__Host-b", secure = "always", same_site = "none", partitioned = true, keep_over_end = true, preserve = true }, header = { name = "X-S", mode = "envelope" } }
health_check = { path = "/h?a=1", headers = { X-P = "1" }, status = [204], degraded_status = ["500-599"], body = "^ok$" }
[table.t]
size = 5
store = "rediss://redis:6379/3"
store_prefix = "p:"
[persistence]
keyring = "credential:ring"
`

// TestEffectiveReadsBack holds that what is shown is the configuration: config
// makes the same of it again.
func TestEffectiveReadsBack(t *testing.T) {
	reference, err := os.ReadFile("../../docs/reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string][]byte{"everything": []byte(everything), "reference": reference} {
		want, err := config.Parse(name, doc)
		if err != nil {
			t.Fatal(err)
		}
		again := asTOML(t, effective(want))
		got, err := config.Parse(name, again)
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, again)
		}
		a, b := lines(t, want), lines(t, got)
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Errorf("%s: %s, want %s, below\n%s\nfrom\n%s", name, b[i], a[i], strings.Join(a[max(0, i-40):i], "\n"), again)
				break
			}
		}
		if len(a) != len(b) {
			t.Errorf("%s: %d lines, want %d", name, len(b), len(a))
		}
	}
}

// What is shown of a secret is its place, though the file is there to be read.
func TestEffectiveHasNoSecret(t *testing.T) {
	const content = "b6Z3pH9wKfQ2xYtV7mN1sLr8"
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for _, name := range []string{"tickets", "key.pem", "client.key"} {
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Parse("x", []byte(`
[server.tls]
ticket_secret = "credential:tickets"
[listener.web]
address = ":443"
tls.certificates = [{ cert = "`+dir+`/key.pem", key = "`+dir+`/key.pem" }]
route = [{ cluster = "app" }]
[cluster.app]
endpoints = [{ address = "app:443" }]
tls = { cert = "credential:client.key", key = "credential:client.key" }
`))
	if err != nil {
		t.Fatal(err)
	}
	data, err := marshal(effective(c))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(content)) {
		t.Errorf("a secret in %s", data)
	}
	for _, place := range []string{`"ticket_secret":"credential:tickets"`, `"key":"` + dir + `/key.pem"`, `"key":"credential:client.key"`} {
		if !bytes.Contains(data, []byte(place)) {
			t.Errorf("no %s in %s", place, data)
		}
	}
}

// lines is c in a form that can be compared, with expressions as text.
func lines(t *testing.T, c *config.Config) []string {
	t.Helper()
	data, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(data), "\n")
}

// asTOML turns what the API says into a file.
func asTOML(t *testing.T, v any) []byte {
	t.Helper()
	data, err := marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := toml.NewEncoder(&out).Encode(numbers(m)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// numbers makes integers of JSON's numbers where they are some.
func numbers(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k := range x {
			x[k] = numbers(x[k])
		}
	case []any:
		for i := range x {
			x[i] = numbers(x[i])
		}
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		f, _ := x.Float64()
		return f
	}
	return v
}

func TestEffectiveKeepsTheOrderOfKeys(t *testing.T) {
	c, err := config.Parse("x", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	data, err := marshal(effective(c))
	if err != nil {
		t.Fatal(err)
	}
	order := regexp.MustCompile(`(?s)"server":.*"admin":.*"access_log":.*"hot_restart":\{"enabled":false,.*"drain_time":"5m","drain_strategy":"immediate","probation":"2s",.*"listener":.*"web":\{"address":"\[::\]:8080","systemd":"","ipv6_only":true,.*"timeouts":\{"head":"10s",.*"cluster":`)
	if !order.Match(data) {
		t.Errorf("%s", data)
	}
}

func TestKeys(t *testing.T) {
	for field, want := range map[string]string{
		"Workers": "workers", "StopTime": "stop_time", "DNSMinTTL": "dns_min_ttl", "DNSServers": "dns_servers", "IPv6Only": "ipv6_only",
		"XForwarded": "x_forwarded", "RequestID": "request_id", "HTTP1": "http1", "ID": "id", "MaxConnectionsPerSource": "max_connections_per_source",
	} {
		if got := key(field); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "250ms": 250 * time.Millisecond, "10s": 10 * time.Second, "1m": time.Minute, "1m30s": 90 * time.Second,
		"10m": 10 * time.Minute, "1h": time.Hour, "10h": 10 * time.Hour, "1h10m": 70 * time.Minute, "1h0m1s": time.Hour + time.Second,
	} {
		if got := duration(d); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	src := newSource()
	f.Add("listener=\"web\"", true)
	f.Fuzz(func(t *testing.T, filter string, nonZero bool) {
		re, err := regexp.Compile(filter)
		if err != nil {
			return
		}
		for _, x := range collect(src.snapshot, re, nonZero) {
			if nonZero && x.Value == 0 {
				t.Errorf("%+v", x)
			}
		}
	})
}
