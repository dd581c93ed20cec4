package config

import (
	"strings"
	"testing"
)

// wrap puts keys into a document that is right without them. Keys of a table
// start on line 2.
func wrap(table, keys string) string {
	listener := "[listener.web]\naddress = \"127.0.0.1:80\"\n"
	route := "[[listener.web.route]]\ncluster = \"a\"\n"
	cluster := "[cluster.a]\nendpoints = [{ address = \"127.0.0.1:1\" }]\n"
	switch table {
	case "listener":
		return "[listener.web]\n" + keys + "\n" + route + cluster
	case "route":
		return "[[listener.web.route]]\n" + keys + "\n" + listener + cluster
	case "cluster":
		return "[cluster.a]\n" + keys + "\n" + listener + route
	case "endpoint":
		return "[cluster.a]\nendpoints = [" + keys + "]\n" + listener + route
	case "top":
		return "#\n" + keys + "\n" + listener + route + cluster
	}
	return "[" + table + "]\n" + keys + "\n" + listener + route + cluster
}

type parseTest struct {
	name, table, keys string
	want              string // messages without "t.toml:"; "" for a valid document
}

const addr = `address = ":80"` + "\n"

var parseTop = []parseTest{
	{"OK nothing but what is needed", "top", ``, ``},
	{"OK server", "server", "workers = 4\nstop_time = \"0s\"\nlog_level = \"debug\"\ndns_servers = [\"127.0.0.53\", \"[::1]:53\", \"::1\"]\nbuffer_memory = 0", ``},
	{"OK admin off", "admin", "socket = \"none\"\nmetrics_address = \"none\"", ``},
	{"OK access log", "access_log", `output = "./log"`, ``},
	{"bad top-level key", "top", `listner = 1`, `2: listner: unknown key; did you mean "listener"?`},
	{"bad top-level table", "top", `[tls]`, `2: tls: unknown key`},
	{"bad listener kind", "top", `listener.x = 1`, `2: listener.x: must be a table, not an integer`},
	{"bad server kind", "top", `server = 1`, `2: server: must be a table, not an integer`},
	{"bad key far from all", "server", `colour = 1`, `2: server.colour: unknown key`},
	{"bad range", "server", `workers = -1`, `2: server.workers: must be from 0 to 1024, not -1`},
	{"bad type string", "server", `workers = "2"`, `2: server.workers: must be an integer, not a string`},
	{"bad type float", "server", `workers = 2.0`, `2: server.workers: must be an integer, not a float`},
	{"bad type table", "server", `workers = {}`, `2: server.workers: must be an integer, not a table`},
	{"bad duration kind", "server", `stop_time = 5`, `2: server.stop_time: must be a duration such as "250ms", "30s" or "1h30m", not an integer`},
	{"bad duration", "server", `stop_time = "1d"`, `2: server.stop_time: "1d" is not a duration such as "250ms", "30s" or "1h30m"`},
	{"bad duration negative", "server", `stop_time = "-1s"`, `2: server.stop_time: must be from 0s to 24h, not -1s`},
	{"bad size", "server", `buffer_memory = "1m"`, `2: server.buffer_memory: "1m" is not a size such as 4096, "64KiB" or "1MB"`},
	{"bad size overflow", "server", `buffer_memory = "9999999999GiB"`, `2: server.buffer_memory: "9999999999GiB" is not a size such as 4096, "64KiB" or "1MB"`},
	{"bad size kind", "server", `buffer_memory = true`, `2: server.buffer_memory: must be a size such as 4096, "64KiB" or "1MB", not a boolean`},
	{"bad size negative", "server", `buffer_memory = -1`, `2: server.buffer_memory: must be from 0 to 1099511627776, not -1`},
	{"bad boolean", "server", `refuse_on_stop = "yes"`, `2: server.refuse_on_stop: must be true or false, not a string`},
	{"bad enum", "server", `log_level = "loud"`, `2: server.log_level: must be "debug", "info", "warn" or "error", not "loud"`},
	{"bad ttl order", "server", `dns_min_ttl = "2m"`, `2: server.dns_min_ttl: dns_min_ttl (2m0s) is longer than dns_max_ttl (1m0s)`},
	{"bad ttl order by the maximum", "server", `dns_max_ttl = "1ms"`, `2: server.dns_max_ttl: dns_min_ttl (1s) is longer than dns_max_ttl (1ms)`},
	{"bad dns server", "server", `dns_servers = ["1.1.1.1", "dns.example:53"]`, `2: server.dns_servers[1]: "dns.example" is not an IP address`},
	{"bad array kind", "server", `dns_servers = "1.1.1.1"`, `2: server.dns_servers: must be an array, not a string`},
	{"bad element kind", "server", `dns_servers = [1979-05-27]`, `2: server.dns_servers[0]: must be a string, not a date or time`},
	{"bad socket", "admin", `socket = ""`, `2: admin.socket: is empty; write "none" for no admin API`},
	{"bad socket length", "admin", `socket = "/` + strings.Repeat("a", 107) + `"`, `2: admin.socket: the path is 108 bytes long; a Unix socket takes 107`},
	{"bad metrics address twice", "admin", `metrics_address = "127.0.0.1:80"`, `4: listener.web.address: 127.0.0.1:80 is the address of admin.metrics_address as well`},
	{"bad output", "access_log", `output = "stdout"`, `2: access_log.output: must be "none", "stderr" or a path with a "/" in it, not "stdout"`},
	{"bad format", "access_log", `format = ""`, `2: access_log.format: is empty; write "json" or a format`},
}

var parseListener = []parseTest{
	{"OK all addresses", "listener", `address = ":8080"`, ``},
	{"OK IPv6", "listener", "address = \"[::1]:443\"\nipv6_only = true", ``},
	{"OK Unix", "listener", "address = \"unix:/run/a.sock\"\nunix_mode = \"0600\"\nsockets = 1", ``},
	{"OK no server header", "listener", addr + `server_header = ""`, ``},
	{"OK ranges", "listener", addr + `allow = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::ffff:10.0.0.0/104"]`, ``},
	{"bad address missing", "listener", `backlog = 5`, `1: listener.web.address: is missing; write for example address = ":8080"`},
	{"bad address name", "listener", `address = "localhost:80"`, `2: listener.web.address: "localhost" is not an IP address`},
	{"bad address star", "listener", `address = "*:80"`, `2: listener.web.address: write ":80" for all addresses`},
	{"bad address port", "listener", `address = "127.0.0.1:99999"`, `2: listener.web.address: "127.0.0.1:99999": the port must be from 1 to 65535`},
	{"bad address port 0", "listener", `address = ":0"`, `2: listener.web.address: ":0": the port must be from 1 to 65535`},
	{"bad address without port", "listener", `address = "127.0.0.1"`, `2: listener.web.address: "127.0.0.1" has no port`},
	{"bad address without brackets", "listener", `address = "::1:80"`, `2: listener.web.address: "::1:80": an IPv6 address is written in brackets, such as "[::1]:80"`},
	{"bad address brackets", "listener", `address = "[127.0.0.1]:80"`, `2: listener.web.address: "[127.0.0.1]:80" is not an address`},
	{"bad address zone", "listener", `address = "[fe80::1%eth0]:80"`, `2: listener.web.address: "fe80::1%eth0" has a zone: not supported`},
	{"bad address kind", "listener", `address = 80`, `2: listener.web.address: must be a string, not an integer`},
	{"bad unix path", "listener", `address = "unix:a.sock"`, `2: listener.web.address: "unix:" needs an absolute path, such as "unix:/run/app.sock"`},
	{"bad unix mode kind", "listener", "address = \"unix:/a\"\nunix_mode = 660", `3: listener.web.unix_mode: must be a file mode as a string of octal digits, such as "0660"`},
	{"bad unix mode without Unix", "listener", addr + `unix_mode = "0660"`, `3: listener.web.unix_mode: is only for a Unix listener`},
	{"bad Unix sockets", "listener", "address = \"unix:/a\"\nsockets = 2", `3: listener.web.sockets: a Unix listener has one socket`},
	{"bad ipv6_only", "listener", "address = \"0.0.0.0:80\"\nipv6_only = true", `3: listener.web.ipv6_only: is only for an IPv6 address`},
	{"bad protocol h2", "listener", addr + `protocol = "h2"`, `3: listener.web.protocol: "h2" is not supported yet`},
	{"bad protocol", "listener", addr + `protocol = "ftp"`, `3: listener.web.protocol: must be "http" or "tcp", not "ftp"`},
	{"bad range", "listener", addr + `allow = ["::1", "10.0.0.0/40"]`, `3: listener.web.allow[1]: "10.0.0.0/40" is not an address range such as "10.0.0.0/8" or "2001:db8::/32"`},
	{"bad range bits", "listener", addr + `deny = ["10.0.0.5/8"]`, `3: listener.web.deny[0]: "10.0.0.5/8" has bits behind its length: write "10.0.0.0/8" or "10.0.0.5"`},
	{"bad server header", "listener", addr + `server_header = "a\r\nb"`, `3: listener.web.server_header: "a\r\nb" has a control character`},
	{"bad timeout", "listener", addr + "[listener.web.timeouts]\nhed = \"1s\"\nbody = \"1\"", "4: listener.web.timeouts.hed: unknown key; did you mean \"head\"?\n" +
		`5: listener.web.timeouts.body: "1" is not a duration such as "250ms", "30s" or "1h30m"`},
	{"bad limits", "listener", addr + `limits = { head_bytes = "256B", field_name = 1000 }`, `3: listener.web.limits.field_name: 1000 is more than head_bytes, 256`},
	{"bad http1", "listener", addr + `http1.backslash = "ok"`, `3: listener.web.http1.backslash: must be "reject" or "allow", not "ok"`},
	{"bad default host", "listener", addr + `http1.default_host = "a b"`, `3: listener.web.http1.default_host: "a b" is not a host`},
	{"bad no route", "top", "[listener.x]\naddress = \":81\"", `2: listener.x.route: no route: every request would get 404`},
	{"bad name", "top", "[listener.\"a b\"]\naddress = \":81\"\nroute = [{ respond = {} }]", `2: listener."a b": a name has letters, digits, "_", "-" and ".", at most 64`},
	{"bad address twice", "top", "[listener.a]\naddress = \"127.0.0.1:80\"\nroute = [{ respond = {} }]", `6: listener.web.address: 127.0.0.1:80 is the address of listener.a as well`},
	{"OK systemd", "listener", `systemd = "web 80"`, ``},
	{"OK systemd and address", "listener", addr + "systemd = \"web\"\nsockets = 4", ``},
	{"OK systemd and Unix", "listener", "address = \"unix:/a\"\nsystemd = \"web\"\nunix_mode = \"0600\"", ``},
	{"OK systemd name twice with addresses", "top", "[listener.a]\nsystemd = \"s\"\n" + addr + "route = [{ respond = {} }]\n[listener.b]\naddress = \":81\"\nsystemd = \"s\"\nroute = [{ respond = {} }]", ``},
	{"OK no systemd twice", "top", "[listener.a]\nsystemd = \"\"\n" + addr + "route = [{ respond = {} }]\n[listener.b]\naddress = \":81\"\nsystemd = \"\"\nroute = [{ respond = {} }]", ``},
	{"bad systemd name twice", "top", "[listener.a]\nsystemd = \"s\"\n" + addr + "route = [{ respond = {} }]\n[listener.b]\nsystemd = \"s\"\nroute = [{ respond = {} }]", `7: listener.b.systemd: "s" is the socket of listener.a as well; both need address to tell them apart`},
	{"bad address of a systemd name twice", "top", "[listener.a]\nsystemd = \"s\"\n" + addr + "route = [{ respond = {} }]\n[listener.b]\naddress = \":0\"\nsystemd = \"s\"\nroute = [{ respond = {} }]", `7: listener.b.address: ":0": the port must be from 1 to 65535`},
	{"bad systemd kind", "listener", `systemd = true`, `2: listener.web.systemd: must be a string, not a boolean`},
	{"bad systemd empty without address", "listener", `systemd = ""`, `1: listener.web.address: is missing; write for example address = ":8080"`},
	{"bad systemd colon", "listener", `systemd = "a:b"`, `2: listener.web.systemd: "a:b": FileDescriptorName= has printable ASCII without ":"`},
	{"bad systemd bytes", "listener", addr + `systemd = "ä"`, `3: listener.web.systemd: "ä": FileDescriptorName= has printable ASCII without ":"`},
	{"bad systemd control", "listener", `systemd = "a\n"`, `2: listener.web.systemd: "a\n": FileDescriptorName= has printable ASCII without ":"`},
	{"OK systemd length", "listener", `systemd = "` + strings.Repeat("a", 255) + `"`, ``},
	{"bad systemd length", "listener", `systemd = "` + strings.Repeat("a", 256) + `"`, `2: listener.web.systemd: the name is 256 bytes long; FileDescriptorName= has at most 255`},
	{"bad keys of an address beside systemd", "listener", "systemd = \"s\"\nunix_mode = \"0600\"\nipv6_only = true\nsockets = 1", `3: listener.web.unix_mode: needs address; without it the unit of the socket says SocketMode=
4: listener.web.ipv6_only: needs address; without it the unit of the socket says BindIPv6Only=
5: listener.web.sockets: needs address; without it the unit of the socket says how many sockets there are`},
	{"bad address beside systemd", "listener", "systemd = \"s\"\naddress = \":0\"\nunix_mode = \"0600\"", `3: listener.web.address: ":0": the port must be from 1 to 65535`},
	{"OK wildcard beside an address", "top", "[listener.a]\naddress = \":80\"\nroute = [{ respond = {} }]", ``},
}

var parseRoute = []parseTest{
	{"OK hosts", "route", `hosts = ["Example.COM.", "*.example.com", "127.0.0.1", "[::1]", "a_b"]` + "\ncluster = \"a\"", ``},
	{"OK headers", "route", `headers = [{ name = "A", exact = "" }, { name = "B", regex = ".*", invert = true }, { name = "C", present = true }]` + "\ncluster = \"a\"", ``},
	{"OK weights", "route", `clusters = [{ cluster = "a", weight = 0 }, { cluster = "b" }]` + "\n[cluster.b]\nendpoints = [{ address = \"b:1\" }]", ``},
	{"bad no action", "route", `path = "/"`, `1: listener.web.route[0]: needs one of cluster, clusters, respond or redirect`},
	{"bad two actions", "route", "cluster = \"a\"\nrespond = {}", `3: listener.web.route[0].respond: excludes cluster`},
	{"bad refused action is none", "route", `respond = 1`, `2: listener.web.route[0].respond: must be a table, not an integer`},
	{"bad cluster", "route", `cluster = "b"`, `2: listener.web.route[0].cluster: no cluster "b"; did you mean "a"?`},
	{"bad weighted cluster", "route", `clusters = [{ cluster = "shop" }]`, `2: listener.web.route[0].clusters[0].cluster: no cluster "shop"`},
	{"bad clusters empty", "route", `clusters = []`, `2: listener.web.route[0].clusters: is empty`},
	{"bad clusters twice", "route", `clusters = [{ cluster = "a" }, { cluster = "a" }]`, `2: listener.web.route[0].clusters[1].cluster: "a" is clusters[0] as well`},
	{"bad weights", "route", `clusters = [{ cluster = "a", weight = 0 }]`, `2: listener.web.route[0].clusters: all weights are 0`},
	{"bad weighted without name", "route", `clusters = [{ weight = 1 }]`, `2: listener.web.route[0].clusters[0].cluster: is missing`},
	{"bad two paths", "route", "path = \"/\"\npath_regex = \".*\"\ncluster = \"a\"", `3: listener.web.route[0].path_regex: excludes path`},
	{"bad path", "route", "path = \"a\"\ncluster = \"a\"", `2: listener.web.route[0].path: "a" does not begin with /`},
	{"bad path query", "route", "path = \"/a?b\"\ncluster = \"a\"", `2: listener.web.route[0].path: "/a?b" has a '?': only the path belongs here`},
	{"bad path bytes", "route", "path_prefix = \"/ä\"\ncluster = \"a\"", `2: listener.web.route[0].path_prefix: "/ä" has bytes that a request must escape: write them as %XX`},
	{"bad regex", "route", "path_regex = \"(\"\ncluster = \"a\"", `2: listener.web.route[0].path_regex: "(" is not a regular expression: missing closing ): "("`},
	{"bad method", "route", "methods = [\"GET\", \"post\", \"A B\", \"connect\"]\ncluster = \"a\"", `2: listener.web.route[0].methods[1]: methods are case-sensitive: write "POST"
2: listener.web.route[0].methods[2]: "A B" is not a method
2: listener.web.route[0].methods[3]: CONNECT never reaches a route: belay refuses it`},
	{"bad methods empty", "route", "methods = []\nhosts = []\ncluster = \"a\"", `2: listener.web.route[0].methods: is empty; leave it out to match every method
3: listener.web.route[0].hosts: is empty; leave it out to match every host`},
	{"bad hosts", "route", "hosts = [\n\"*\",\n\"a.*.b\",\n\"a:80\",\n\"ä.de\",\n\"1.2.3\",\n\"*.1.2.3.4\",\n\"[::1\", \"-a\"]\ncluster = \"a\"", `3: listener.web.route[0].hosts[0]: leave hosts out to match every host
4: listener.web.route[0].hosts[1]: "a.*.b" is not a host: "*." may only stand in front of a name
5: listener.web.route[0].hosts[2]: "a:80" has a port: only the host belongs here
6: listener.web.route[0].hosts[3]: "ä.de" is not ASCII: write the name in its "xn--" form
7: listener.web.route[0].hosts[4]: "1.2.3" is not a host
8: listener.web.route[0].hosts[5]: "*.1.2.3.4" is not a host: "*." may only stand in front of a name
9: listener.web.route[0].hosts[6]: "[::1" is not a host
9: listener.web.route[0].hosts[7]: "-a" is not a host`},
	{"bad headers", "route", "headers = [{ name = \"A\" },\n{ exact = \"a\" },\n{ name = \"a b\", present = true },\n{ name = \"A\", present = false },\n{ name = \"A\", exact = \"\", regex = \"\" }]\ncluster = \"a\"", `2: listener.web.route[0].headers[0]: needs one of exact, regex or present
3: listener.web.route[0].headers[1].name: is missing
4: listener.web.route[0].headers[2].name: "a b" is not a header name
5: listener.web.route[0].headers[3].present: false matches nothing; write present = true, invert = true
6: listener.web.route[0].headers[4].regex: excludes exact`},
	{"bad name", "route", "name = \"a b\"\ncluster = \"a\"", `2: listener.web.route[0].name: "a b": a name has 1 to 128 bytes of visible ASCII, without quotes and "\"`},
	{"bad name twice", "route", "name = \"web.1\"\ncluster = \"a\"\n[[listener.web.route]]\ncluster = \"a\"", `4: listener.web.route[1].name: "web.1" is the name of route[0] as well`},
	{"bad keys without an upstream", "route", "respond = {}\nretry = { on = [\"reset\"] }\nhost_rewrite = \"a\"\nupgrade = true", `3: listener.web.route[0].retry: needs a cluster: this route answers by itself
4: listener.web.route[0].host_rewrite: needs a cluster: this route answers by itself
5: listener.web.route[0].upgrade: needs a cluster: this route answers by itself`},
	{"bad host rewrite", "route", "host_rewrite = \"a:b\"\ncluster = \"a\"", `2: listener.web.route[0].host_rewrite: "a:b": the port must be from 1 to 65535`},
}

var parseAction = []parseTest{
	{"OK respond", "route", `respond = { status = 404, body = "x", headers = { Content-Type = "a/b" } }`, ``},
	{"OK redirect", "route", `redirect = { scheme = "https", host = "[::1]", port = 8443 }`, ``},
	{"OK rewrite", "route", "path_rewrite = { regex = \"(?P<a>x)(y)\", replace = \"$$1${1}x$a-$2\" }\ncluster = \"a\"", ``},
	{"bad respond status", "route", `respond = { status = 100 }`, `2: listener.web.route[0].respond.status: must be from 200 to 599, not 100`},
	{"bad respond body", "route", `respond = { status = 304, body = "x" }`, `2: listener.web.route[0].respond.body: a reply with status 304 has no body`},
	{"bad respond headers", "route", `respond = { content_type = "a", headers = { content-type = "b", Date = "x", "a b" = "c", Server = "d", X = 1, Y = "a\n" } }`, `2: listener.web.route[0].respond.headers."a b": "a b" is not a header name
2: listener.web.route[0].respond.headers.Date: belay writes Date itself
2: listener.web.route[0].respond.headers.Server: belay writes Server itself; use server_header
2: listener.web.route[0].respond.headers.X: must be a string, not an integer
2: listener.web.route[0].respond.headers.Y: "a\n" has a control character
2: listener.web.route[0].respond.headers.content-type: excludes content_type`},
	{"bad redirect", "route", `redirect = { status = 200, path_prefix = "/x", path = "/y", scheme = "ftp", host = "a:1", port = 0 }`, `1: listener.web.route[0].path_prefix: is missing; redirect.path_prefix replaces it
2: listener.web.route[0].redirect.host: "a:1" has a port: only the host belongs here
2: listener.web.route[0].redirect.path_prefix: excludes path
2: listener.web.route[0].redirect.port: must be from 1 to 65535, not 0
2: listener.web.route[0].redirect.scheme: must be "http" or "https", not "ftp"
2: listener.web.route[0].redirect.status: must be 301, 302, 303, 307 or 308, not 200`},
	{"bad redirect to itself", "route", `redirect = { strip_query = true }`, `2: listener.web.route[0].redirect: needs one of scheme, host, port, path or path_prefix: it would lead to itself`},
	{"bad rewrite", "route", "path_rewrite = {}\ncluster = \"a\"", `2: listener.web.route[0].path_rewrite: needs prefix, or regex and replace`},
	{"bad rewrite prefix", "route", "path_rewrite = { prefix = \"/\" }\ncluster = \"a\"", `1: listener.web.route[0].path_prefix: is missing; path_rewrite.prefix replaces it`},
	{"bad rewrite regex", "route", "path_rewrite = { regex = \"a\" }\ncluster = \"a\"", `2: listener.web.route[0].path_rewrite.replace: is missing`},
	{"bad rewrite replace", "route", "path_rewrite = { regex = \"(a)\", replace = \"$1x\" }\ncluster = \"a\"", `2: listener.web.route[0].path_rewrite.replace: "$1x" is no group of the regex; a group before other letters is written "${1}", a dollar "$$"`},
	{"bad rewrite group", "route", "path_rewrite = { regex = \"(a)\", replace = \"${2}\" }\ncluster = \"a\"", `2: listener.web.route[0].path_rewrite.replace: "$2" is no group of the regex; a group before other letters is written "${1}", a dollar "$$"`},
	{"bad rewrite brace", "route", "path_rewrite = { regex = \"(a)\", replace = \"${1\" }\ncluster = \"a\"", `2: listener.web.route[0].path_rewrite.replace: "${1" has no closing brace`},
	{"bad request headers", "route", "cluster = \"a\"\n[listener.web.route.request_headers]\nremove = [\"X\", \"Connection\", \"\"]\nset = { Host = \"a\", X = \"%{hots}\", Y = \"50%\", Z = \"%{host\", x = \"\", W = \" a\" }\nadd = { content-length = \"1\", A = [\"1\", 2], Upgrade = \"x\" }", `4: listener.web.route[0].request_headers.remove[1]: belay writes Connection itself
4: listener.web.route[0].request_headers.remove[2]: "" is not a header name
5: listener.web.route[0].request_headers.set.Host: belay writes Host itself; use host_rewrite
5: listener.web.route[0].request_headers.set.W: " a" begins or ends with a blank
5: listener.web.route[0].request_headers.set.X: no variable "%{hots}"; did you mean "host"?
5: listener.web.route[0].request_headers.set.Y: a "%" is written "%%"; alone it begins a variable such as %{host}
5: listener.web.route[0].request_headers.set.Z: "%{host" has no closing brace
6: listener.web.route[0].request_headers.add.A: must be a string, not an integer
6: listener.web.route[0].request_headers.add.Upgrade: belay writes Upgrade itself; use upgrade
6: listener.web.route[0].request_headers.add.content-length: belay writes content-length itself`},
	{"bad header twice", "route", "cluster = \"a\"\nresponse_headers.set = { X-A = \"1\", x-a = \"2\" }", `3: listener.web.route[0].response_headers.set.x-a: is X-A again: names have no case`},
	{"OK host of a response", "route", "cluster = \"a\"\nresponse_headers.set = { Host = \"1\" }", ``},
	{"OK retry", "route", "cluster = \"a\"\nretry = { on = [\"status\", \"5xx\"], statuses = [429], budget = 1 }", ``},
	{"bad retry", "route", "cluster = \"a\"\nretry = { attempts = 11, budget = 1.5, statuses = [200], backoff = \"1s\" }", `3: listener.web.route[0].retry.attempts: must be from 0 to 10, not 11
3: listener.web.route[0].retry.backoff: backoff (1s) is longer than backoff_max (250ms)
3: listener.web.route[0].retry.budget: must be from 0 to 1, not 1.5
3: listener.web.route[0].retry.on: is missing: nothing would be retried
3: listener.web.route[0].retry.statuses[0]: must be from 400 to 599, not 200`},
	{"bad retry condition", "route", "cluster = \"a\"\nretry = { on = [\"4xx\"], budget = nan }", `3: listener.web.route[0].retry.budget: must be from 0 to 1, not NaN
3: listener.web.route[0].retry.on[0]: must be "connect-failure", "reset", "5xx", "status" or "first-byte-timeout", not "4xx"`},
	{"bad retry status", "route", "cluster = \"a\"\nretry = { on = [\"status\"] }", `3: listener.web.route[0].retry.statuses: is missing; "status" retries those`},
	{"bad retry statuses", "route", "cluster = \"a\"\nretry = { on = [\"reset\"], statuses = [500] }", `3: listener.web.route[0].retry.statuses: needs "status" in on`},
}

var parseCluster = []parseTest{
	{"OK endpoints", "endpoint", `{ address = "127.0.0.1:80" }, { id = "b", address = "[::1]:80" }, { address = "App.internal.:80", weight = 0 }, { address = "unix:/a" }`, ``},
	{"OK array of tables", "top", "[[cluster.b.endpoints]]\naddress = \"b:1\"\n[[cluster.b.endpoints]]\naddress = \"b:2\"", ``},
	{"bad no endpoints", "cluster", `balance = "random"`, `1: cluster.a.endpoints: no endpoint; write for example endpoints = [{ address = "10.0.0.1:8080" }]`},
	{"bad balance", "top", "[cluster.b]\nbalance = \"fair\"\nendpoints = [{ address = \"a:1\" }]", `3: cluster.b.balance: must be "round_robin", "least_request", "random", "ring_hash" or "maglev", not "fair"`},
	{"bad endpoint address", "endpoint", `{ address = "10.0.0.1" }, { address = "10.0.0.300:1" }, { address = ":80" }, { address = "a b:1" }, { id = "x" }`, `2: cluster.a.endpoints[0].address: "10.0.0.1" has no port
2: cluster.a.endpoints[1].address: "10.0.0.300" is neither an IP address nor a host name
2: cluster.a.endpoints[2].address: "" is neither an IP address nor a host name
2: cluster.a.endpoints[3].address: "a b" is neither an IP address nor a host name
2: cluster.a.endpoints[4].address: is missing; write for example address = "10.0.0.1:8080"`},
	{"bad id twice", "endpoint", `{ id = "x", address = "a:1" }, { id = "x", address = "a:2" }`, `2: cluster.a.endpoints[1].id: "x" is the id of endpoints[0] as well`},
	{"bad address twice", "endpoint", `{ address = "a:1" }, { address = "A:1" }`, `2: cluster.a.endpoints[1].address: "a:1" is the id of endpoints[0] as well`},
	{"bad id", "endpoint", `{ id = "a\"b", address = "a:1" }`, `2: cluster.a.endpoints[0].id: "a\"b": an id has 1 to 128 bytes of visible ASCII, without quotes and "\"`},
	{"bad weight", "endpoint", `{ address = "a:1", weight = -1 }`, `2: cluster.a.endpoints[0].weight: must be from 0 to 65535, not -1`},
	{"bad endpoint key", "endpoint", `{ adress = "a:1" }`, `2: cluster.a.endpoints[0].address: is missing; write for example address = "10.0.0.1:8080"
2: cluster.a.endpoints[0].adress: unknown key; did you mean "address"?`},
	{"bad endpoint kind", "endpoint", `"a:1"`, `2: cluster.a.endpoints[0]: must be a table, not a string`},
	{"bad persistence", "top", "[cluster.b.persistence.cookie]\n[cluster.b]\nendpoints = [{ address = \"a:1\" }]", `2: cluster.b.persistence.cookie.name: is missing; write for example name = "belay"`},
}

var parseSyntax = []parseTest{
	{"bad value", "top", `a = = 1`, `2: expected value but found '=' instead`},
	{"bad key twice", "server", "workers = 1\nworkers = 1", `3: key 'server.workers' has already been defined`},
	{"bad table twice", "top", "[server]\n[server]", `3: key 'server' has already been defined`},
	{"bad end of a line", "top", "[server", `2: expected '.' or ']' to end table name, but got '\n' instead`},
	{"bad string", "server", `log_level = "info`, `2: strings cannot contain newlines`},
	{"bad escape in lines", "access_log", "format = \"\"\"\n\\q\"\"\"", `3: invalid escape in string '\q'`},
	{"bad escape of a line", "access_log", "format = \"\\\n", `2: invalid escape in string '\\n'`},
	{"bad surrogate", "access_log", `format = "\ud800"`, `2: escaped character '\ud800' is not valid UTF-8`},
	{"bad escape", "server", `log_level = "\q"`, `2: invalid escape in string '\q'`},
}

func TestParse(t *testing.T) {
	for _, table := range [][]parseTest{parseTop, parseHotRestart, parseListener, parseRoute, parseAction, parseCluster, parseSyntax} {
		for _, tt := range table {
			t.Run(tt.name, func(t *testing.T) {
				_, err := Parse("t.toml", []byte(wrap(tt.table, tt.keys)))
				got := ""
				if err != nil {
					got = strings.ReplaceAll("\n"+err.Error(), "\nt.toml:", "\n")[1:]
				}
				if got != tt.want {
					t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
				}
			})
		}
	}
}

// A document with ten mistakes of ten kinds gives ten messages, by line.
func TestParseTellsAllProblems(t *testing.T) {
	const doc = `[server]
workers = "many"
stop_tme = "10s"
[access_log]
output = "stdout"
[listener.web]
address = "127.0.0.1"
[listener.web.timeouts]
head = "10"
[[listener.web.route]]
path_regex = "("
cluster = "shop"
[[listener.web.route]]
cluster = "shp"
[[listener.web.route]]
path = "/"
[cluster.shop]
balance = "fair"
endpoints = [
  { address = "10.0.0.1:8080" },
  { address = "10.0.0.1" },
]
`
	const want = `a.toml:2: server.workers: must be an integer, not a string
a.toml:3: server.stop_tme: unknown key; did you mean "stop_time"?
a.toml:5: access_log.output: must be "none", "stderr" or a path with a "/" in it, not "stdout"
a.toml:7: listener.web.address: "127.0.0.1" has no port
a.toml:9: listener.web.timeouts.head: "10" is not a duration such as "250ms", "30s" or "1h30m"
a.toml:11: listener.web.route[0].path_regex: "(" is not a regular expression: missing closing ): "("
a.toml:14: listener.web.route[1].cluster: no cluster "shp"; did you mean "shop"?
a.toml:15: listener.web.route[2]: needs one of cluster, clusters, respond or redirect
a.toml:18: cluster.shop.balance: must be "round_robin", "least_request", "random", "ring_hash" or "maglev", not "fair"
a.toml:21: cluster.shop.endpoints[1].address: "10.0.0.1" has no port`
	_, err := Parse("a.toml", []byte(doc))
	ps, ok := err.(*Problems)
	if !ok || len(*ps) != 10 || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// The file may end in the midst of a line, and begin with a byte order mark.
func TestParseEnds(t *testing.T) {
	for doc, want := range map[string]string{
		"[a":                   "a.toml:1: expected '.' or ']' to end table name, but got the end of the file",
		"\n[a":                 "a.toml:2: expected '.' or ']' to end table name, but got the end of the file",
		"\na":                  "a.toml:2: unexpected EOF; expected key separator '='",
		"\na = \"\"\"\n":       "a.toml:2: unexpected EOF; expected '\"\"\"'",
		"\ufeff[a]\nb = ":      "a.toml:2: unexpected EOF; expected value",
		"\n\x00":               "a.toml:2: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8",
		"server = 1 \n#\x00\n": "a.toml:2: TOML files cannot contain control characters: '0x00'",
	} {
		if _, err := Parse("a.toml", []byte(doc)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", doc, err, want)
		}
	}
}

func TestParseWithoutListener(t *testing.T) {
	const none = "a.toml: listener: no listener is defined"
	for doc, want := range map[string]string{
		"": none, "[server]\n": none, "listener = {}": none,
		"\nlistener = 1": "a.toml:2: listener: must be a table of tables, not an integer",
	} {
		if _, err := Parse("a.toml", []byte(doc)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", doc, err, want)
		}
	}
}
