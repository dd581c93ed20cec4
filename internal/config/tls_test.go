package config

import (
	"crypto/tls"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	pair    = `certificates = [{ cert = "/c", key = "/k" }]` + "\n"
	context = "[listener.web.tls]\n" + pair // line 3 after addr, its keys from line 5
)

// tlsDoc puts keys below a table of a document that is right without them.
func tlsDoc(table, keys string) string {
	const (
		http = "[listener.web]\naddress = \":80\"\n"
		tcp  = "[listener.web]\naddress = \":80\"\nprotocol = \"tcp\"\n"
		ends = "[[listener.web.route]]\ncluster = \"a\"\n"
		both = "[cluster.a]\nendpoints = [{ address = \"10.0.0.1:1\" }]\n"
	)
	switch table {
	case "http":
		return http + keys + "\n" + ends + both
	case "tcp":
		return tcp + keys + "\n" + both
	case "tls": // keys are on line 5
		return http + context + keys + "\n" + ends + both
	case "client": // keys are on line 6
		return http + context + "[listener.web.tls.client_certificate]\n" + keys + "\n" + ends + both
	case "cluster": // keys are on line 2
		return "[cluster.a.tls]\n" + keys + "\n" + both + http + ends
	}
	return "[" + table + "]\n" + keys + "\n" + http + ends + both
}

var zeros = strings.Repeat("0", 64)

const pathOrCredential = ` is neither an absolute path nor "credential:NAME"`

var parseServerTLS = []parseTest{
	{"OK all keys", "server.tls", `ticket_secret = "/s"
ticket_rotation = "1m"
max_handshakes = 1
max_handshakes_per_source = 0
handshakes_per_turn = 64
hello_bytes = "64KiB"
expiry_warning = "1m"`, ``},
	{"bad ranges", "server.tls", `ticket_rotation = "169h"
max_handshakes = 0
max_handshakes_per_source = -1
handshakes_per_turn = 65
hello_bytes = 4095
expiry_warning = "0s"`, `2: server.tls.ticket_rotation: must be from 1m to 168h, not 169h0m0s
3: server.tls.max_handshakes: must be from 1 to 1000000, not 0
4: server.tls.max_handshakes_per_source: must be from 0 to 1000000, not -1
5: server.tls.handshakes_per_turn: must be from 1 to 64, not 65
6: server.tls.hello_bytes: must be from 4096 to 65536, not 4095
7: server.tls.expiry_warning: must be from 1m to 8760h, not 0s`},
	{"bad relative secret", "server.tls", `ticket_secret = "secret"`, `2: server.tls.ticket_secret: "secret"` + pathOrCredential},
	{"bad self-signed secret", "server.tls", `ticket_secret = "self-signed"`, `2: server.tls.ticket_secret: "self-signed"` + pathOrCredential},
	{"bad credential", "server.tls", `ticket_secret = "credential:a/b"`, `2: server.tls.ticket_secret: "a/b" is not the name of a credential`},
	{"bad credential empty", "server.tls", `ticket_secret = "credential:"`, `2: server.tls.ticket_secret: "" is not the name of a credential`},
	{"bad credential dots", "server.tls", `ticket_secret = "credential:.."`, `2: server.tls.ticket_secret: ".." is not the name of a credential`},
	{"bad secret kind", "server.tls", `ticket_secret = 1`, `2: server.tls.ticket_secret: must be a string, not an integer`},
	{"bad key", "server.tls", `handshake_timeout = "1s"`, `2: server.tls.handshake_timeout: unknown key`},
}

var parseListenerTLS = []parseTest{
	{"OK certificates alone", "tls", ``, ``},
	{"OK all keys", "tls", `min_version = "1.2"
max_version = "1.3"
cipher_suites = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
curves = ["x25519mlkem768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "secp256r1", "secp384r1", "secp521r1"]
alpn = ["http/1.1", "http/1.0"]
ocsp_policy = "must_staple"
session_tickets = false`, ``},
	{"OK no ALPN", "tls", `alpn = []`, ``},
	{"OK credentials and a staple", "http", `tls.certificates = [{ cert = "credential:a.pem", key = "credential:a.pem", ocsp = "/o" }]`, ``},
	{"OK self-signed", "http", `tls.certificates = [{ cert = "self-signed", names = ["A.example.", "*.b.example", "::1", "127.0.0.1"] }]`, ``},
	{"bad no certificate", "http", `tls = {}`, `3: listener.web.tls.certificates: no certificate; write for example certificates = [{ cert = "/etc/belay/tls/a.pem", key = "/etc/belay/tls/a.key" }]`},
	{"bad certificate", "http", `tls.certificates = [{ cert = "/c" }, { key = "/k" }, { cert = "c.pem", key = "k.pem" }, { cert = 1, key = "/k", names = ["a"], ocsp = "o" }]`,
		`3: listener.web.tls.certificates[0].key: is missing: a PEM file or "credential:NAME"; it may be that of cert
3: listener.web.tls.certificates[1].cert: is missing: a PEM file, "credential:NAME", or "self-signed" for development
3: listener.web.tls.certificates[2].cert: "c.pem"` + pathOrCredential + `; "self-signed" would make one
3: listener.web.tls.certificates[2].key: "k.pem"` + pathOrCredential + `
3: listener.web.tls.certificates[3].cert: must be a string, not an integer
3: listener.web.tls.certificates[3].names: is for a self-signed certificate; others have their names
3: listener.web.tls.certificates[3].ocsp: "o"` + pathOrCredential},
	{"bad self-signed", "http", `tls.certificates = [{ cert = "self-signed", key = "/k", ocsp = "/o", names = ["a b", "*"] }]`,
		`3: listener.web.tls.certificates[0].key: is not for a self-signed certificate, which has a key of its own
3: listener.web.tls.certificates[0].names[0]: "a b" is not a host
3: listener.web.tls.certificates[0].names[1]: "*" is no name; leave the key out for every name
3: listener.web.tls.certificates[0].ocsp: is not for a self-signed certificate`},
	{"bad name of a certificate", "http", `tls.certificates = [{ name = "x", cert = "/c", key = "/k" }]`, `3: listener.web.tls.certificates[0].name: unknown key; did you mean "names"?`},
	{"bad versions", "tls", "min_version = \"1.1\"\nmax_version = \"3\"", `5: listener.web.tls.min_version: TLS 1.1 is broken (RFC 8996): the least is 1.2
6: listener.web.tls.max_version: must be "1.2" or "1.3", not "3"`},
	{"bad version kind", "tls", "min_version = 1.2", `5: listener.web.tls.min_version: must be a string, not a float`},
	{"bad order of versions", "tls", "min_version = \"1.3\"\nmax_version = \"1.2\"", `6: listener.web.tls.max_version: is below min_version`},
	{"bad suites", "tls", `cipher_suites = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265", "TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_RC4_128_SHA", "AES"]`,
		`5: listener.web.tls.cipher_suites[0]: no cipher suite "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265"; did you mean "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"?
5: listener.web.tls.cipher_suites[1]: TLS_AES_128_GCM_SHA256 is of TLS 1.3, whose suites are always on
5: listener.web.tls.cipher_suites[2]: TLS_RSA_WITH_RC4_128_SHA is not safe
5: listener.web.tls.cipher_suites[3]: no cipher suite "AES"`},
	{"bad suites of an excluded version", "tls", "min_version = \"1.3\"\ncipher_suites = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]", `6: listener.web.tls.cipher_suites: are of TLS 1.2, which min_version excludes`},
	{"bad curve", "tls", `curves = ["P-256"]`, `5: listener.web.tls.curves[0]: must be "X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "secp256r1", "secp384r1" or "secp521r1", not "P-256"`},
	{"bad ALPN", "tls", `alpn = ["h2", "", "imap"]`, `5: listener.web.tls.alpn: "h2" is not supported yet
5: listener.web.tls.alpn: "imap" is no protocol of an HTTP listener
5: listener.web.tls.alpn[1]: "": a protocol name has 1 to 255 bytes`},
	{"bad policy", "tls", `ocsp_policy = "always"`, `5: listener.web.tls.ocsp_policy: must be "lenient", "strict" or "must_staple", not "always"`},
	{"bad tickets", "tls", `session_tickets = { enabled = true }`, `5: listener.web.tls.session_tickets: must be true or false, not a table`},
	{"bad key that has moved", "tls", `handshake_timeout = "1s"`, `5: listener.web.tls.handshake_timeout: unknown key`},
	{"OK ALPN of TCP", "tcp", "cluster = \"a\"\ntls.certificates = [{ cert = \"/c\", key = \"/k\" }]\ntls.alpn = [\"h2\"]", ``},
	{"OK handshake time", "http", `timeouts.handshake = "100ms"`, ``},
	{"OK handshake time of TCP", "tcp", "cluster = \"a\"\ntimeouts.handshake = \"10m\"", ``},
	{"bad handshake time", "http", `timeouts.handshake = "0s"`, `3: listener.web.timeouts.handshake: must be from 100ms to 10m, not 0s`},
}

var parseClient = []parseTest{
	{"OK require", "client", `mode = "require"
ca = "/ca"
crl = "credential:crl"
crl_expired = "accept"
spki_sha256 = ["` + zeros + `", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
certificate_sha256 = ["` + strings.Repeat("Ab:", 31) + `cd"]
forward = "append_forward"
forward_details = ["cert", "chain", "subject", "uri", "dns"]
client_cert_header = true
san = [{ type = "ip", exact = "10.0.0.0/8" }, { type = "ip", exact = "::1" }, { type = "dns", regex = "a|b" }, { type = "uri", prefix = "x" }, { type = "email", suffix = "y" }, { type = "dns", contains = "z" }]`, ``},
	{"OK pins alone", "client", "mode = \"request\"\nspki_sha256 = [\"" + zeros + "\"]", ``},
	{"OK forward without certificates", "client", `forward = "always_forward_only"`, ``},
	{"bad mode", "client", `mode = "demand"`, `6: listener.web.tls.client_certificate.mode: must be "none", "request" or "require", not "demand"`},
	{"bad no mode", "client", `ca = "/ca"`, `5: listener.web.tls.client_certificate.mode: "request" or "require" is needed: no client is asked for its certificate`},
	{"bad mode none", "client", "mode = \"none\"\ncrl = \"/crl\"", `6: listener.web.tls.client_certificate.mode: "request" or "require" is needed: no client is asked for its certificate`},
	{"bad no trust", "client", `mode = "require"`, `5: listener.web.tls.client_certificate.ca: is missing, and there are no pins: no certificate could be verified`},
	{"bad trust", "client", "mode = \"require\"\nca = \"ca.pem\"", `7: listener.web.tls.client_certificate.ca: "ca.pem"` + pathOrCredential},
	{"bad CRL without CA", "client", "mode = \"require\"\ncrl = \"/crl\"\ncertificate_sha256 = [\"" + zeros + "\"]", `5: listener.web.tls.client_certificate.ca: is missing: crl and san say something about certificates that it verifies`},
	{"bad expiry without CRL", "client", "mode = \"require\"\nca = \"/ca\"\ncrl_expired = \"accept\"", `5: listener.web.tls.client_certificate.crl: is missing: crl_expired says something about it`},
	{"bad pins", "client", "mode = \"require\"\nspki_sha256 = [\"" + zeros[2:] + "\", \"" + zeros + "00\", \"AAAA\", \"x\", 1]",
		strings.Repeat("7: listener.web.tls.client_certificate.spki_sha256[#]: must be a SHA-256 as 64 hexadecimal digits or in base64\n", 4) +
			"7: listener.web.tls.client_certificate.spki_sha256[#]: must be a string, not an integer"},
	{"bad matchers", "client", `mode = "require"
ca = "/ca"
san = [{ exact = "a" }, { type = "dns" }, { type = "dns", exact = "a", suffix = "b" }, { type = "ip", exact = "x" }, { type = "uri", prefix = "" }, { type = "dn", exact = "a" }, { type = "dns", regex = "(" }]`,
		`8: listener.web.tls.client_certificate.san[0].type: is missing: "dns", "uri", "email" or "ip"
8: listener.web.tls.client_certificate.san[1]: needs one of exact, prefix, suffix, contains or regex
8: listener.web.tls.client_certificate.san[2].suffix: excludes exact
8: listener.web.tls.client_certificate.san[3].exact: "x" is not an address range such as "10.0.0.0/8" or "2001:db8::/32"
8: listener.web.tls.client_certificate.san[4].prefix: is empty
8: listener.web.tls.client_certificate.san[5].type: must be "dns", "uri", "email" or "ip", not "dn"
8: listener.web.tls.client_certificate.san[6].regex: "(" is not a regular expression: missing closing ): "("`},
	{"bad forward", "client", "forward = \"append\"\nforward_details = [\"issuer\", \"urii\"]", `6: listener.web.tls.client_certificate.forward: must be "sanitize", "forward_only", "append_forward", "sanitize_set" or "always_forward_only", not "append"
7: listener.web.tls.client_certificate.forward_details[0]: no detail "issuer"
7: listener.web.tls.client_certificate.forward_details[1]: no detail "urii"; did you mean "uri"?`},
	{"bad details", "client", `forward_details = ["uri"]`, `6: listener.web.tls.client_certificate.forward_details: needs forward = "append_forward" or "sanitize_set"`},
	{"bad headers of TCP", "tcp", "cluster = \"a\"\n" + context + "client_certificate = { mode = \"require\", ca = \"/ca\", forward = \"sanitize\", forward_details = [\"uri\"], client_cert_header = true }",
		`7: listener.web.tls.client_certificate.client_cert_header: is only for protocol = "http"
7: listener.web.tls.client_certificate.forward: is only for protocol = "http"
7: listener.web.tls.client_certificate.forward_details: is only for protocol = "http"`},
}

var parseChain = []parseTest{
	{"OK chain", "http", "[[listener.web.chain]]\nname = \"x\"\nserver_names = [\"A.example.\", \"*.example\"]\nsources = [\"10.0.0.0/8\"]\nports = [443]\nalpn = [\"h2\"]\ntls = { " + strings.TrimSpace(pair) + " }", ``},
	{"OK chains that differ", "tcp", `cluster = "a"
chain = [{ passthrough = true }, { server_names = ["a"], passthrough = true }, { server_names = ["a"], ports = [1], passthrough = true }, { server_names = ["*.a"], passthrough = true }, { sources = ["10.0.0.1"], passthrough = true }, { sources = ["10.0.0.0/31"], passthrough = true }, { alpn = ["x"], passthrough = true }]`, ``},
	{"OK chains that lead", "tcp", `chain = [{ passthrough = true, cluster = "a" }]`, ``},
	{"bad no cluster", "tcp", "chain = [{ server_names = [\"x\"], passthrough = true, cluster = \"a\" }, { passthrough = true }]", `1: listener.web: needs cluster or clusters: where protocol = "tcp" leads`},
	{"bad no cluster beside tls", "tcp", "chain = [{ server_names = [\"x\"], passthrough = true, cluster = \"a\" }]\n" + context, `1: listener.web: needs cluster or clusters: where protocol = "tcp" leads`},
	{"bad cluster", "tcp", `chain = [{ passthrough = true, cluster = "b" }]`, `4: listener.web.chain[0].cluster: no cluster "b"; did you mean "a"?`},
	{"bad chain without context", "http", `chain = [{ server_names = ["a"] }]`, `3: listener.web.chain[0].tls: is missing: the certificates of this chain`},
	{"bad TCP chain without context", "tcp", "cluster = \"a\"\nchain = [{}]", `5: listener.web.chain[0].tls: is missing: the certificates of this chain; or passthrough = true`},
	{"bad keys of TCP", "http", `chain = [{ passthrough = true, cluster = "b" }]`, `3: listener.web.chain[0].cluster: is only for protocol = "tcp"; an HTTP listener has routes
3: listener.web.chain[0].passthrough: is only for protocol = "tcp"`},
	{"bad passthrough with tls", "tcp", "cluster = \"a\"\nchain = [{ passthrough = true, tls = { " + strings.TrimSpace(pair) + " } }]", `5: listener.web.chain[0].tls: excludes passthrough`},
	{"bad certificate of a chain", "http", `chain = [{ tls = { certificates = [{ cert = "/c" }] } }]`, `3: listener.web.chain[0].tls.certificates[0].key: is missing: a PEM file or "credential:NAME"; it may be that of cert`},
	{"bad conditions", "http", `chain = [{ server_names = ["10.0.0.1", "a*", "[::1]"], sources = ["10.0.0.1/8"], ports = [0, 65536], alpn = [""], tls = { ` + strings.TrimSpace(pair) + ` } }]`,
		`3: listener.web.chain[0].alpn[0]: "": a protocol name has 1 to 255 bytes
3: listener.web.chain[0].ports[0]: must be from 1 to 65535, not 0
3: listener.web.chain[0].ports[1]: must be from 1 to 65535, not 65536
3: listener.web.chain[0].server_names[0]: 10.0.0.1: clients send no address as server name (RFC 6066)
3: listener.web.chain[0].server_names[1]: "a*" is not a host: "*." may only stand in front of a name
3: listener.web.chain[0].server_names[2]: ::1: clients send no address as server name (RFC 6066)
3: listener.web.chain[0].sources[0]: "10.0.0.1/8" has bits behind its length: write "10.0.0.0/8" or "10.0.0.1"`},
	{"bad same conditions", "tcp", `cluster = "a"
chain = [{ server_names = ["b", "A"], ports = [1, 2], passthrough = true }, { server_names = ["a"], ports = [2, 3], passthrough = true }]`, `5: listener.web.chain[1]: has the conditions of chain[0]: server name a, port 2, ALPN any, source any`},
	{"bad no conditions twice", "tcp", `cluster = "a"
chain = [{ passthrough = true }, { passthrough = true }]`, `5: listener.web.chain[1]: has the conditions of chain[0]: server name any, port any, ALPN any, source any`},
	{"OK refused conditions are not none", "tcp", `cluster = "a"
chain = [{ passthrough = true }, { ports = [0], passthrough = true }]`, `5: listener.web.chain[1].ports[0]: must be from 1 to 65535, not 0`},
	{"bad hidden context", "tcp", "cluster = \"a\"\nchain = [{ passthrough = true }]\n" + context, `6: listener.web.tls: is never used: chain[0] has no condition`},
	{"bad name", "tcp", `cluster = "a"
chain = [{ name = "a b", ports = [1], passthrough = true }, { name = "web.2", ports = [2], passthrough = true }, { ports = [3], passthrough = true }]`, `5: listener.web.chain[0].name: "a b": a name has 1 to 128 bytes of visible ASCII, without quotes and "\"
5: listener.web.chain[2].name: "web.2" is the name of chain[1] as well`},
	{"bad too many", "tcp", "cluster = \"a\"\nchain = [{ ports = [" + strings.Repeat("1,", 400) + "], sources = [" + strings.Repeat(`"::",`, 400) + "], passthrough = true }]",
		`5: listener.web.chain[0]: has more than 100000 combinations of conditions`},
	{"OK starttls", "tcp", "cluster = \"a\"\nstarttls = \"postgres\"\n" + context, ``},
	{"OK starttls with a chain", "tcp", "cluster = \"a\"\nstarttls = \"postgres\"\nchain = [{ passthrough = true }]", ``},
	{"OK no starttls", "http", `starttls = "none"`, ``},
	{"bad starttls", "tcp", "cluster = \"a\"\nstarttls = \"smtp\"\n" + context, `5: listener.web.starttls: must be "none" or "postgres", not "smtp"`},
	{"OK starttls that is declined", "tcp", "cluster = \"a\"\nstarttls = \"postgres\"", ``},
	{"bad starttls of HTTP", "http", "starttls = \"postgres\"\n" + context, `3: listener.web.starttls: is only for protocol = "tcp"`},
	{"OK proxy protocol", "http", "proxy_protocol = \"require\"\nproxy_protocol_from = [\"10.0.0.0/8\"]", ``},
	{"OK proxy protocol off", "http", "proxy_protocol = \"off\"\nproxy_protocol_from = []", ``},
	{"bad proxy protocol", "http", `proxy_protocol = "v1"`, `3: listener.web.proxy_protocol: must be "off", "accept" or "require", not "v1"`},
	{"bad proxy protocol from all", "http", `proxy_protocol = "accept"`, `1: listener.web.proxy_protocol_from: is missing: whoever may connect could say who they are; name the balancers`},
	{"bad proxy protocol left out", "http", `proxy_protocol_from = ["10.0.0.0/8"]`, `1: listener.web.proxy_protocol: "accept" or "require" is needed for proxy_protocol_from`},
}

var parseClusterTLS = []parseTest{
	{"OK defaults", "cluster", ``, ``},
	{"OK all keys", "cluster", `verify = true
ca = "/ca"
sni = "None.example."
san = [{ type = "dns", exact = "a" }]
spki_sha256 = ["` + zeros + `"]
certificate_sha256 = ["` + zeros + `"]
cert = "/c"
key = "credential:k"
alpn = ["http/1.1"]
min_version = "1.3"
max_version = "1.3"
curves = ["X25519"]
sessions = 0
starttls = "none"`, ``},
	{"OK no name but another", "cluster", "sni = \"none\"\nsan = [{ type = \"uri\", exact = \"x\" }]", ``},
	{"OK unverified", "cluster", "sni = \"none\"\nverify = false", ``},
	{"bad no name", "cluster", `sni = "none"`, `2: cluster.a.tls.sni: "none" leaves no name to verify: san is needed`},
	{"bad unverified", "cluster", "verify = false\nspki_sha256 = [\"" + zeros + "\"]", `2: cluster.a.tls.verify: false makes ca, san and pins useless`},
	{"bad name", "cluster", `sni = "*.example"`, `2: cluster.a.tls.sni: "*.example": a server asks for one name`},
	{"bad name address", "cluster", `sni = "10.0.0.1"`, `2: cluster.a.tls.sni: 10.0.0.1: clients send no address as server name (RFC 6066)`},
	{"bad name kind", "cluster", `sni = true`, `2: cluster.a.tls.sni: must be a string, not a boolean`},
	{"bad no key", "cluster", `cert = "/c"`, `1: cluster.a.tls.key: is missing: a client certificate has one`},
	{"bad no certificate", "cluster", `key = "/k"`, `1: cluster.a.tls.cert: is missing: the key belongs to one`},
	{"bad certificate", "cluster", "cert = \"self-signed\"\nkey = \"k\"", `2: cluster.a.tls.cert: "self-signed"` + pathOrCredential + `
3: cluster.a.tls.key: "k"` + pathOrCredential},
	{"bad versions", "cluster", "min_version = \"1.3\"\nmax_version = \"1.2\"", `3: cluster.a.tls.max_version: is below min_version`},
	{"bad sessions", "cluster", `sessions = -1`, `2: cluster.a.tls.sessions: must be from 0 to 1000000, not -1`},
	{"bad starttls", "cluster", `starttls = "pg"`, `2: cluster.a.tls.starttls: must be "none" or "postgres", not "pg"`},
	{"bad starttls of HTTP", "cluster", `starttls = "postgres"`, `2: cluster.a.tls.starttls: "postgres" is not for the HTTP that listener.web.route[0] sends`},
	{"bad ALPN of HTTP", "cluster", `alpn = ["http/1.1", "h2"]`, `2: cluster.a.tls.alpn: "h2" is not supported yet; listener.web.route[0] sends HTTP/1.1`},
	{"bad key that has moved", "cluster", `handshake_timeout = "1s"`, `2: cluster.a.tls.handshake_timeout: unknown key`},
	{"bad proxy protocol", "cluster.b", "endpoints = [{ address = \"b:1\" }]\nproxy_protocol = 2", `3: cluster.b.proxy_protocol: must be a string, not an integer`},
	{"bad proxy protocol version", "cluster.b", "endpoints = [{ address = \"b:1\" }]\nproxy_protocol = \"v3\"", `3: cluster.b.proxy_protocol: must be "off", "v1" or "v2", not "v3"`},
	{"bad no name of a Unix socket", "tcp", "cluster = \"u\"\n[cluster.u]\nendpoints = [{ address = \"b:1\" }, { address = \"unix:/u\" }]\n[cluster.u.tls]",
		`7: cluster.u.tls.sni: is needed, or san: endpoints[1] has no name to verify for what listener.web sends`},
	{"bad no name for a chain", "tcp", "chain = [{ passthrough = true, cluster = \"u\" }]\n[cluster.u]\nendpoints = [{ address = \"unix:/u\" }]\n[cluster.u.tls]",
		`7: cluster.u.tls.sni: is needed, or san: endpoints[0] has no name to verify for what listener.web.chain[0] sends`},
	{"OK name of a Unix socket", "tcp", "cluster = \"u\"\n[cluster.u]\nendpoints = [{ address = \"unix:/u\" }]\n[cluster.u.tls]\nsni = \"db\"\nstarttls = \"postgres\"\nalpn = [\"h2\"]", ``},
}

func TestParseTLS(t *testing.T) {
	for table, tests := range map[string][]parseTest{
		"server": parseServerTLS, "listener": parseListenerTLS, "client": parseClient, "chain": parseChain, "cluster": parseClusterTLS,
	} {
		for _, tt := range tests {
			t.Run(table+"/"+tt.name, func(t *testing.T) {
				want := tt.want
				for i := range strings.Count(want, "[#]") {
					want = strings.Replace(want, "[#]", "["+string(rune('0'+i))+"]", 1)
				}
				_, err := Parse("t.toml", []byte(tlsDoc(tt.table, tt.keys)))
				got := ""
				if err != nil {
					got = strings.ReplaceAll("\n"+err.Error(), "\nt.toml:", "\n")[1:]
				}
				if got != want {
					t.Errorf("got:\n%s\nwant:\n%s", got, want)
				}
			})
		}
	}
}

func TestParseTLSValues(t *testing.T) {
	c := mustParse(t, tlsDoc("tls", `min_version = "1.3"
curves = ["secp256r1"]
ocsp_policy = "strict"
session_tickets = false
client_certificate = { mode = "require", ca = "credential:ca", spki_sha256 = ["`+strings.Repeat("ab", 32)+`"], forward = "sanitize_set", forward_details = ["uri"], client_cert_header = true }
[[listener.web.chain]]
server_names = ["A.example.", "*.B.example"]
sources = ["10.0.0.1"]
ports = [8443]
alpn = ["x"]
tls.certificates = [{ cert = "self-signed", names = ["0::1", "Dev.example"] }, { cert = "credential:c", key = "/k", ocsp = "/o" }]`))
	l := c.Listeners[0]
	var key [32]byte
	if _, err := hex.Decode(key[:], []byte(strings.Repeat("ab", 32))); err != nil {
		t.Fatal(err)
	}
	equal(t, "tls", l.TLS, &TLS{
		Certificates: []Certificate{{Cert: Secret{File: "/c"}, Key: Secret{File: "/k"}}},
		MinVersion:   tls.VersionTLS13, MaxVersion: tls.VersionTLS13, Curves: []tls.CurveID{tls.CurveP256}, ALPN: []string{"http/1.1"}, OCSPPolicy: "strict",
		Client: ClientCertificate{
			Mode: "require", CA: Secret{Credential: "ca"}, CRLExpired: "refuse", SPKI: [][32]byte{key},
			Forward: "sanitize_set", ForwardDetails: []string{"uri"}, ClientCert: true,
		},
	})
	context := defaultTLS()
	context.ALPN = []string{"http/1.1"}
	context.Certificates = []Certificate{
		{SelfSigned: true, Names: []string{"::1", "dev.example"}},
		{Cert: Secret{Credential: "c"}, Key: Secret{File: "/k"}, OCSP: Secret{File: "/o"}},
	}
	equal(t, "chains", l.Chains, []*Chain{{
		Name: "web.0", ServerNames: []string{"a.example", "*.b.example"}, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")},
		Ports: []uint16{8443}, ALPN: []string{"x"}, TLS: context,
	}})
}

func TestParseTCPTLSValues(t *testing.T) {
	c := mustParse(t, tlsDoc("tcp", "cluster = \"a\"\nstarttls = \"postgres\"\ntimeouts.handshake = \"3s\"\n"+context+`
[[listener.web.chain]]
ports = [1]
passthrough = true
cluster = "a"
[cluster.b]
endpoints = [{ address = "b:1" }]
proxy_protocol = "v2"
[cluster.b.tls]
sni = "DB.example"
starttls = "postgres"
sessions = 0`))
	l := c.Listeners[0]
	if l.StartTLS != "postgres" || l.Timeouts.Handshake != 3*time.Second {
		t.Errorf("%q, %s", l.StartTLS, l.Timeouts.Handshake)
	}
	equal(t, "ALPN", l.TLS.ALPN, []string{"postgresql"})
	equal(t, "chains", l.Chains, []*Chain{{Name: "web.0", Ports: []uint16{1}, Passthrough: true, Cluster: "a"}})
	want := defaultClusterTLS()
	want.SNI, want.SNIFromHost, want.StartTLS, want.Sessions = "db.example", false, "postgres", 0
	equal(t, "cluster", c.Clusters[1].TLS, want)
	if c.Clusters[1].ProxyProtocol != 2 {
		t.Errorf("proxy_protocol %d", c.Clusters[1].ProxyProtocol)
	}
	plain := mustParse(t, tlsDoc("tcp", "cluster = \"a\"\n"+context))
	if alpn := plain.Listeners[0].TLS.ALPN; alpn != nil {
		t.Errorf("ALPN of TCP: %q", alpn)
	}
}

// The names of curves are those that config reads.
func TestCurveName(t *testing.T) {
	for _, c := range curves {
		var x curve
		if err := x.set(CurveName(c.id)); err != nil || tls.CurveID(x) != c.id {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if got := CurveName(0x1234); got != "CurveID(4660)" {
		t.Errorf("unknown: %s", got)
	}
}
