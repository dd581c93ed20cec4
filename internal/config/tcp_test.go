package config

import (
	"strings"
	"testing"
)

// TestParseTCPListener: the keys of one protocol are refused by name on a
// listener of the other.
func TestParseTCPListener(t *testing.T) {
	const (
		tcp     = "[listener.db]\naddress = \":1\"\nprotocol = \"tcp\"\n"
		cluster = "[cluster.a]\nendpoints = [{ address = \"10.0.0.1:1\" }]\n"
		only    = `is only for protocol = "http"`
	)
	for _, tt := range []struct {
		name, doc, want string
	}{
		{"OK", tcp + "cluster = \"a\"\n", ""},
		{"OK all keys", tcp + `clusters = [{ cluster = "a", weight = 2 }]
backlog = 5
sockets = 1
max_connections = 3
max_connections_per_source = 1
allow = ["10.0.0.0/8"]
deny = ["10.1.0.0/16"]
[listener.db.timeouts]
tunnel = "1s"
[listener.db.tcp]
connect_attempts = 1
splice = false
`, ""},
		{"bad no cluster", tcp, `1: listener.db: needs cluster or clusters: where protocol = "tcp" leads`},
		{"bad both", tcp + "cluster = \"a\"\nclusters = [{ cluster = \"a\" }]\n", `5: listener.db.clusters: excludes cluster`},
		{"bad cluster", tcp + "cluster = \"b\"\n", `4: listener.db.cluster: no cluster "b"; did you mean "a"?`},
		{"bad clusters", tcp + "clusters = []\n", `4: listener.db.clusters: is empty`},
		{"bad attempts", tcp + "cluster = \"a\"\ntcp.connect_attempts = 0\n", `5: listener.db.tcp.connect_attempts: must be from 1 to 8, not 0`},
		{"bad keys of http", tcp + `cluster = "a"
trusted_proxies = ["10.0.0.0/8"]
x_forwarded = false
request_id = "off"
server_header = ""
[listener.db.timeouts]
head = "1s"
tunnel = "1s"
idle = "1s"
[listener.db.limits]
pipeline = 1
[listener.db.http1]
backslash = "allow"
[[listener.db.route]]
cluster = "a"
`, "5: listener.db.trusted_proxies: " + only + "\n6: listener.db.x_forwarded: " + only + "\n7: listener.db.request_id: " + only +
			"\n8: listener.db.server_header: " + only + "\n10: listener.db.timeouts.head: " + only + "\n12: listener.db.timeouts.idle: " + only +
			"\n14: listener.db.limits.pipeline: " + only + "\n16: listener.db.http1.backslash: " + only + "\n17: listener.db.route: " + only},
		{"bad keys of tcp", "[listener.web]\naddress = \":1\"\ncluster = \"a\"\nclusters = []\ntcp.splice = true\n[[listener.web.route]]\ncluster = \"a\"\n",
			"3: listener.web.cluster: is only for protocol = \"tcp\"; an HTTP listener has routes\n" +
				"4: listener.web.clusters: is only for protocol = \"tcp\"; an HTTP listener has routes\n" +
				"5: listener.web.tcp.splice: is only for protocol = \"tcp\""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("t.toml", []byte(tt.doc+cluster))
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
