package config

import (
	"strings"
	"testing"
)

// sessionDoc has its last table open for the keys of the test, at line 7.
const sessionDoc = `[listener.web]
address = "127.0.0.1:1"
route = [{ cluster = "back" }]
[cluster.back]
endpoints = [{ address = "127.0.0.1:2" }]
# What follows is the test's.
`

// parseSession are documents behind sessionDoc, whose lines count from 7.
var parseSession = []struct{ name, doc, want string }{
	{"OK cookie of the application", "[cluster.back.persistence.cookie]\nmode = \"prefix\"\nname = \"JSESSIONID\"\nmax_age = \"1h\"", ""},
	{"OK keys", "[persistence]\nkeyring = \"/etc/ring\"\nskew = \"1s\"", ""},
	{"OK prime", "balance = \"maglev\"\nhash = { table_size = 503 }", ""},
	{"bad directory", "[persistence]\ndirectory = \"keys\"", `8: persistence.directory: "keys" is not an absolute path`},
	{"bad overlap", "[persistence]\noverlap = \"1m\"", `8: persistence.overlap: (1m0s) is shorter than hot_restart.shutdown_time (15m0s): a draining process would not know the key that its successor mints with`},
	{"bad keep", "[persistence]\nkeep = \"1s\"", `8: persistence.keep: must be from 1m to 87600h, not 1s`},
	{"bad keep kind", "[persistence]\nkeep = \"long\"", `8: persistence.keep: "long" is not a duration such as "250ms", "30s" or "1h30m", or "auto"`},
	{"bad keyring with its keys", "[persistence]\nkeyring = \"/k\"\ndirectory = \"/d\"\nrotation = \"1h\"\noverlap = \"2h\"\nkeep = \"auto\"",
		"9: persistence.directory: K\n10: persistence.rotation: K\n11: persistence.overlap: K\n12: persistence.keep: K"},
	{"bad size", "[table.t]\nsize = 0", `8: table.t.size: must be from 1 to 100000000, not 0`},
	{"bad expire", "[table.t]\nexpire = \"1500ms\"", `8: table.t.expire: 1.5s is not a number of whole seconds`},
	{"bad store", "[table.t]\nstore = \"http://a\"\nstore_prefix = \"p\"", `8: table.t.store: is not an address such as "redis://127.0.0.1:6379/0"`},
	{"bad store shows no password", "[table.t]\nstore = \"redis://:geheim@a:x\"", `8: table.t.store: is not an address such as "redis://127.0.0.1:6379/0"`},
	{"bad keys without store", "[table.t]\nstore_timeout = \"1s\"\nstore_prefix = \"p\"\nstore_queue = 1", "8: table.t.store_timeout: needs store\n9: table.t.store_prefix: needs store\n10: table.t.store_queue: needs store"},
	{"bad no mode", "[cluster.back.persistence]\npolicy = \"strict\"", `7: cluster.back.persistence: needs one of cookie, header or table`},
	{"bad policy", "[cluster.back.persistence]\npolicy = \"stict\"\ncookie = { name = \"a\" }", `8: cluster.back.persistence.policy: must be "redispatch", "strict" or "detour", not "stict"`},
	{"bad keys of strict", "[cluster.back.persistence]\nstrict_status = 421\nretry_after = \"1s\"\ngrace = \"1s\"\ncookie = { name = \"a\" }",
		"8: cluster.back.persistence.strict_status: needs policy = \"strict\" or unknown = \"strict\"\n9: cluster.back.persistence.retry_after: needs policy = \"strict\" or unknown = \"strict\"\n10: cluster.back.persistence.grace: needs policy = \"detour\""},
	{"bad unknown", "[table.t]\n[cluster.back.persistence]\nunknown = \"strict\"\ntable = { name = \"t\", key = [{ source = true }] }", `9: cluster.back.persistence.unknown: "strict" needs cookie or header: what a table has of such endpoints is no claim of the client`},
	{"bad strict_status", "[cluster.back.persistence]\npolicy = \"strict\"\nstrict_status = 399\ncookie = { name = \"a\" }", `9: cluster.back.persistence.strict_status: must be from 400 to 599, not 399`},
	{"bad window", "[cluster.back.persistence]\nfirst_request_window = \"10ms\"\ncookie = { name = \"a\" }", `8: cluster.back.persistence.first_request_window: 10ms is not a number of whole seconds`},
	{"bad cookie without name", "[cluster.back.persistence.cookie]\npath = \"/a\"", `7: cluster.back.persistence.cookie.name: is missing; write for example name = "belay"`},
	{"bad cookie name", "[cluster.back.persistence.cookie]\nname = \"a b\"", `8: cluster.back.persistence.cookie.name: "a b" is not the name of a cookie`},
	{"bad cookie path", "[cluster.back.persistence.cookie]\nname = \"a\"\npath = \"a\"", `9: cluster.back.persistence.cookie.path: "a" does not begin with /`},
	{"bad cookie path byte", "[cluster.back.persistence.cookie]\nname = \"a\"\npath = \"/;\"", `9: cluster.back.persistence.cookie.path: "/;" has a ';', which no cookie's path can have`},
	{"bad __Host-", "[cluster.back.persistence.cookie]\nname = \"__Host-a\"\npath = \"/a\"\ndomain = \"a.example\"\nsecure = \"auto\"",
		"9: cluster.back.persistence.cookie.path: must be \"/\": the name begins with __Host-\n10: cluster.back.persistence.cookie.domain: must be left out: the name begins with __Host-\n11: cluster.back.persistence.cookie.secure: must be \"always\": browsers refuse this name without"},
	{"bad same_site", "[cluster.back.persistence.cookie]\nname = \"a\"\nsame_site = \"none\"\nsecure = \"never\"", `10: cluster.back.persistence.cookie.secure: must be "always": browsers refuse same_site = "none" without`},
	{"bad partitioned", "[cluster.back.persistence.cookie]\nname = \"a\"\npartitioned = true\nsecure = \"auto\"", `10: cluster.back.persistence.cookie.secure: must be "always": browsers refuse partitioned without`},
	{"bad lifetimes", "[cluster.back.persistence.cookie]\nname = \"a\"\nmax_idle = \"1s\"\nmax_age = \"1ms\"",
		"9: cluster.back.persistence.cookie.max_idle: must be 0s or at least 2s, not 1s\n9: cluster.back.persistence.cookie.max_idle: (1s) is longer than max_age (1ms)\n10: cluster.back.persistence.cookie.max_age: must be 0s or at least 2s, not 1ms"},
	{"bad keys of insert", "[cluster.back.persistence.cookie]\nname = \"a\"\nmode = \"envelope\"\npath = \"/\"\nhide_from_upstream = true\npreserve = true\npost_only = true",
		"10: cluster.back.persistence.cookie.path: I\n11: cluster.back.persistence.cookie.hide_from_upstream: I\n12: cluster.back.persistence.cookie.preserve: I\n13: cluster.back.persistence.cookie.post_only: I"},
	{"bad header", "[cluster.back.persistence.header]\nmax_age = \"1h\"\nmode = \"envelope\"\nhide_from_upstream = false",
		"7: cluster.back.persistence.header.name: is missing; write for example name = \"X-Session\"\n10: cluster.back.persistence.header.hide_from_upstream: is only for mode = \"token\": the endpoint gets its own value back"},
	{"bad header name", "[cluster.back.persistence.header]\nname = \"Content-Type\"", `8: cluster.back.persistence.header.name: "Content-Type" is a field that HTTP or belay itself needs`},
	{"bad table", "[cluster.back.persistence.table]\nname = \"sesions\"\n[table.sessions]", "7: cluster.back.persistence.table.key: is missing; write for example key = [{ source = true }]\n8: cluster.back.persistence.table.name: no table \"sesions\"; did you mean \"sessions\"?"},
	{"bad learn", "[table.t]\n[cluster.back.persistence.table]\nname = \"t\"\nkey = [{ source = true }]\nlearn = {}", `11: cluster.back.persistence.table.learn: needs one of cookie or header`},
	{"OK learn", "[table.t]\n[cluster.back.persistence]\ncookie = { name = \"a\" }\nheader = { name = \"X-A\" }\ntable = { name = \"t\", key = [{ source = true }], learn = { cookie = \"A\" } }", ""},
	{"bad learn from the cookie", "[table.t]\n[cluster.back.persistence]\ncookie = { name = \"a\" }\ntable = { name = \"t\", key = [{ source = true }], learn = { cookie = \"a\" } }", `10: cluster.back.persistence.table.learn.cookie: "a" is already the cookie of persistence.cookie`},
	{"bad learn from the header", "[table.t]\n[cluster.back.persistence]\nheader = { name = \"X-A\" }\ntable = { name = \"t\", key = [{ source = true }], learn = { header = \"x-a\" } }", `10: cluster.back.persistence.table.learn.header: "x-a" is already the header of persistence.header`},
	{"bad hash keys", "balance = \"maglev\"\n[[cluster.back.hash.on]]\nsource = false\n[[cluster.back.hash.on]]\nquery = \"a=b\"\nttl = \"1h\"\n[[cluster.back.hash.on]]\nheader = \"A\"\npath = \"/\"",
		"9: cluster.back.hash.on[0].source: false means nothing; leave it out\n11: cluster.back.hash.on[1].query: \"a=b\" is not the name of a parameter\n12: cluster.back.hash.on[1].ttl: needs cookie\n15: cluster.back.hash.on[2].path: needs ttl: without it no cookie is made"},
	{"bad hash without balance", "hash = { table_size = 503 }", `4: cluster.back.balance: must be "ring_hash" or "maglev" for the table hash`},
	{"bad table_size", "balance = \"maglev\"\n[cluster.back.hash]\ntable_size = 500", `9: cluster.back.hash.table_size: 500 is not a prime; the next one is 503`},
	{"bad ring", "balance = \"ring_hash\"\n[cluster.back.hash]\ntable_size = 100001\nmax_load = 1.01", "9: cluster.back.hash.table_size: must be from 100 to 100000 for ring_hash, not 100001\n10: cluster.back.hash.max_load: must be 0 or from 1.05 to 10, not 1.01"},
	{"bad check of tcp", "[cluster.back.health_check]\ntype = \"tcp\"\nmethod = \"GET\"\npath = \"/\"\nhost = \"a\"\nstatus = [200]\nbody = \"a\"",
		"9: cluster.back.health_check.method: T\n10: cluster.back.health_check.path: T\n11: cluster.back.health_check.host: T\n12: cluster.back.health_check.status: T\n13: cluster.back.health_check.body: T"},
	{"bad status", "[cluster.back.health_check]\nstatus = [\"300-200\"]", `8: cluster.back.health_check.status[0]: "300-200" is neither a status nor a range such as "200-399"`},
	{"bad no status", "[cluster.back.health_check]\nstatus = []", `8: cluster.back.health_check.status: is empty: no reply would be good`},
	{"bad query", "[cluster.back.health_check]\npath = \"/a?b c\"", `8: cluster.back.health_check.path: "/a?b c" has bytes that a request must escape: write them as %XX`},
	{"bad outlier", "[cluster.back.outlier]\non = [\"status\"]\nejection_time = \"1m\"\nmax_ejection_time = \"1s\"", "8: cluster.back.outlier.on[0]: \"status\" is only for retry.on\n10: cluster.back.outlier.max_ejection_time: (1s) is shorter than ejection_time (1m0s)"},
	{"bad panic_threshold", "panic_threshold = 101", `7: cluster.back.panic_threshold: must be from 0 to 100, not 101`},
}

func TestParseSessionErrors(t *testing.T) {
	long := strings.NewReplacer(": K", ": has no meaning with keyring: whoever writes that file rotates its keys",
		": I", `: is only for mode = "insert": the cookie is the application's`, ": T", `: has no meaning for type = "tcp"`)
	for _, tt := range parseSession {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("t.toml", []byte(sessionDoc+tt.doc+"\n"))
			got := ""
			if err != nil {
				got = strings.ReplaceAll("\n"+err.Error(), "\nt.toml:", "\n")[1:]
			}
			if want := long.Replace(tt.want); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestParseSessionOnTCP: a cluster that only TCP leads to cannot have what needs HTTP.
func TestParseSessionOnTCP(t *testing.T) {
	const doc = "[listener.db]\naddress = \":1\"\nprotocol = \"tcp\"\ncluster = \"back\"\n[table.t]\n[cluster.back]\nendpoints = [{ address = \"10.0.0.1:1\" }]\n"
	for _, tt := range []struct{ keys, want string }{
		{"persistence.table = { name = \"t\", key = [{ source = true }] }", ""},
		{"persistence.cookie = { name = \"a\" }", "cluster.back.persistence.cookie: only listener.db leads here"},
		{"persistence.header = { name = \"X-A\" }", "cluster.back.persistence.header: only listener.db leads here"},
		{"persistence.table = { name = \"t\", key = [{ cookie = \"a\" }] }", "cluster.back.persistence.table.key[0]: only listener.db leads here"},
		{"balance = \"maglev\"\nhash.on = [{ sni = true }, { query = \"a\" }]", "cluster.back.hash.on[1]: only listener.db leads here"},
	} {
		_, err := Parse("t.toml", []byte(doc+tt.keys+"\n"))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.keys, err, tt.want)
		}
	}
}
