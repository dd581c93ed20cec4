package accesslog

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// sample is a record as a busy site has it.
func sample() *Record {
	return &Record{
		Start:    time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.FixedZone("", 3600)),
		Duration: 1_234_567, UpstreamConnect: 45_678, UpstreamFirstByte: 999,
		Client: netip.MustParseAddrPort("203.0.113.9:51234"), Peer: netip.MustParseAddrPort("10.0.0.2:40000"),
		Listener: "web", Route: "shop", Cluster: "shop", Endpoint: "a", EndpointAddress: "10.0.0.1:8080",
		Method: []byte("GET"), Host: []byte("shop.example.com"), Path: []byte("/basket?item=17&colour=blue"), Protocol: []byte("HTTP/1.1"),
		UserAgent: []byte("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
		Referer:   []byte("https://shop.example.com/"), RequestID: []byte("0198f3e2a1b27c3d8e4f5a6b7c8d9e0f"), ForwardedFor: []byte("203.0.113.9"),
		Status: 200, BytesIn: 0, BytesOut: 5120, Attempts: 1, ConnID: 42, Reused: true,
	}
}

// secured is sample over TLS.
func secured() *Record {
	r := sample()
	r.TLS = &TLS{
		Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", Group: "X25519MLKEM768", ServerName: "Shop.example.com", ALPN: "http/1.1",
		Subject: `CN=a\"b,O=\C3\A9`, JA4: "t13d1516h1_8daaf6152771_b186095e22b6", Chain: "shop", Resumed: true, Handshake: 2_345_678,
	}
	return r
}

// format makes one line of a record.
func format(t testing.TB, f string, r *Record) string {
	t.Helper()
	p, err := compile(f)
	if err != nil {
		t.Fatal(err)
	}
	w := line{json: p.json}
	return string(p.run(nil, &w, r))
}

func TestJSONLine(t *testing.T) {
	same := sample()
	same.Peer = same.Client
	same.Reused = false
	for _, tt := range []struct {
		name, want string
		r          *Record
	}{
		{"OK full", `{"time":"2026-03-04T04:06:07.089Z","listener":"web","client":"203.0.113.9","client_port":51234,"peer":"10.0.0.2",` +
			`"method":"GET","host":"shop.example.com","path":"/basket?item=17&colour=blue","protocol":"HTTP/1.1","status":200,` +
			`"bytes_in":0,"bytes_out":5120,"duration":0.001234,"route":"shop","cluster":"shop","endpoint":"a","endpoint_address":"10.0.0.1:8080",` +
			`"attempts":1,"reused":true,"upstream_connect":0.000045,"upstream_first_byte":0.000000,` +
			`"user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0","referer":"https://shop.example.com/",` +
			`"request_id":"0198f3e2a1b27c3d8e4f5a6b7c8d9e0f","forwarded_for":"203.0.113.9","connection":42}` + "\n", sample()},
		{"OK nothing but a reason", `{"time":"1970-01-01T00:00:00.000Z","client_port":0,"status":400,"reason":"bad-request-line",` +
			`"bytes_in":0,"bytes_out":0,"duration":12.000000,"attempts":0,"connection":0}` + "\n",
			&Record{Start: time.Unix(0, 0), Status: 400, Reason: "bad-request-line", Duration: 12e9, UpstreamConnect: -1, UpstreamFirstByte: -1}},
		{"OK refused handshake", `{"time":"1970-01-01T00:00:00.000Z","client_port":0,"status":0,"reason":"handshake-no-chain",` +
			`"bytes_in":0,"bytes_out":0,"duration":0.000000,"attempts":0,"connection":0,"tls_sni":"a\"b","tls_ja4":"t13d"}` + "\n",
			&Record{Start: time.Unix(0, 0), Reason: "handshake-no-chain", UpstreamConnect: -1, UpstreamFirstByte: -1, TLS: &TLS{ServerName: `a"b`, JA4: "t13d", Handshake: -1}}},
	} {
		if got := format(t, "json", tt.r); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	const more = `,"connection":42,"tls_version":"1.3","tls_cipher":"TLS_AES_128_GCM_SHA256","tls_group":"X25519MLKEM768","tls_sni":"Shop.example.com",` +
		`"tls_alpn":"http/1.1","tls_resumed":true,"tls_client_subject":"CN=a\\\"b,O=\\C3\\A9","tls_ja4":"t13d1516h1_8daaf6152771_b186095e22b6",` +
		`"tls_chain":"shop","tls_handshake":0.002345}` + "\n"
	if got := format(t, "json", secured()); !strings.HasSuffix(got, more) {
		t.Errorf("TLS:\n got %s\nwant %s", got, more)
	}
	if got := format(t, "json", same); strings.Contains(got, "peer") || strings.Contains(got, "reused") {
		t.Errorf("peer or reused in %s", got)
	}
}

func TestFormatLine(t *testing.T) {
	bare := &Record{Start: time.Unix(1, 0), UpstreamConnect: -1, UpstreamFirstByte: -1}
	zone := &Record{Client: netip.AddrPortFrom(netip.MustParseAddr("fe80::1").WithZone("\"\n\x1b[2J"), 1)}
	evil := &Record{UserAgent: []byte("a\"b\\c\nd\re\tf\x00g\x1b[31m\x7f\xffé\xc2\x9b2J\u2028\u2029日"), Reason: "x\"y"}
	for _, tt := range []struct {
		name, format, want string
		r                  *Record
	}{
		{"OK combined log format", `%{client} - - [%{time_clf}] "%{request}" %{status} %{bytes_out} "%{referer}" "%{user_agent}"`,
			`203.0.113.9 - - [04/Mar/2026:04:06:07 +0000] "GET /basket?item=17&colour=blue HTTP/1.1" 200 5120 "https://shop.example.com/" "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"`, sample()},
		{"OK percent and text only", `100%% é "`, `100% é "`, bare},
		{"OK adjacent", `%{status}%{attempts}%%%{reused}x`, `2001%truex`, sample()},
		{"OK times", `%{time} %{time_unix} %{duration} %{duration_ms} %{duration_us}`, `2026-03-04T04:06:07.089Z 1772597167.089 0.001234 1.234 1234`, sample()},
		{"OK upstream times", `%{upstream_connect} %{upstream_connect_ms} %{upstream_connect_us} %{upstream_first_byte_us}`, `0.000045 0.045 45 0`, sample()},
		{"OK nothing", `%{upstream_connect_ms} %{upstream_first_byte} %{client} %{peer} %{route} %{path} %{request} %{reused} %{connection} %{client_port}`,
			`- - - - - - - false 0 0`, bare},
		{"OK TLS", `%{tls_version} %{tls_cipher} %{tls_group} %{tls_sni} %{tls_alpn} %{tls_resumed} "%{tls_client_subject}" %{tls_ja4} %{tls_chain} %{tls_handshake} %{tls_handshake_ms} %{tls_handshake_us}`,
			`1.3 TLS_AES_128_GCM_SHA256 X25519MLKEM768 Shop.example.com http/1.1 true "CN=a\\\"b,O=\\C3\\A9" t13d1516h1_8daaf6152771_b186095e22b6 shop 0.002345 2.345 2345`, secured()},
		{"OK no TLS", `%{tls_version} %{tls_cipher} %{tls_group} %{tls_sni} %{tls_alpn} %{tls_resumed} %{tls_client_subject} %{tls_ja4} %{tls_chain} %{tls_handshake}`, `- - - - - false - - - -`, bare},
		{"OK addresses", `%{client}:%{client_port} %{peer}:%{peer_port} %{endpoint_address}`, `203.0.113.9:51234 10.0.0.2:40000 10.0.0.1:8080`, sample()},
		{"OK zone of a header field", `%{client}`, `fe80::1`, zone},
		{"OK hostile value", `"%{user_agent}" %{reason}`,
			`"a\"b\\c\nd\re\tf\x00g\x1b[31m\x7f\xffé\xc2\x9b2J\xe2\x80\xa8\xe2\x80\xa9日" x\"y`, evil},
	} {
		if got := format(t, tt.format, tt.r); got != tt.want+"\n" {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct{ name, format, want string }{
		{"OK JSON", "json", ""},
		{"OK format", `%{client} "%{path}" 100%%`, ""},
		{"bad empty", "", "empty format"},
		{"bad name", `%{client} %{staus}`, `column 11: there is no field "staus"; there are attempts, bytes_in,`},
		{"bad upper case", `%{Client}`, `column 1: there is no field "Client"`},
		{"bad open", `a %{client`, `column 3: "%{" without "}"`},
		{"bad lone percent", `50% of`, `column 3: "%" must be followed by "{name}", or doubled to stand for itself`},
		{"bad percent at the end", `%{path}%`, `column 8: "%" must be`},
		{"bad line break", "%{path}\n%{host}", `column 8: a line break or NUL`},
	} {
		err := Validate(tt.format)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

// The package comment names every field, and no other.
func TestEveryFieldMakesValidOutput(t *testing.T) {
	for name := range fields {
		for _, r := range []*Record{sample(), secured(), {}} {
			if got := format(t, "%{"+name+"}", r); len(got) < 2 || strings.Count(got, "\n") != 1 {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
	for _, name := range jsonNames {
		if fields[name] == nil {
			t.Errorf("%s is no field", name)
		}
	}
}

func TestClock(t *testing.T) {
	var c clock
	start := time.Date(2026, 12, 31, 23, 59, 58, 0, time.UTC)
	for _, d := range []time.Duration{0, time.Millisecond, 1, 999 * time.Millisecond, time.Second, 2 * time.Second, time.Second, -time.Hour, time.Hour, 0} {
		at := start.Add(d)
		if got, want := string(c.rfc3339(at)), at.Format(isoMillis); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
		if got, want := string(c.common(at)), at.Format("02/Jan/2006:15:04:05 -0700"); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func FuzzJSONLine(f *testing.F) {
	f.Add([]byte("a\"b\\\n\x00\x7f\xff"), "\xe2\x80\xa8\xed\xa0\x80\xc2\x9b", int64(-5), uint16(0))
	f.Add([]byte("\xf0\x9f\x98\x80"), "x", int64(1<<62), uint16(65535))
	f.Fuzz(func(t *testing.T, b []byte, s string, n int64, port uint16) {
		r := &Record{
			Start: time.Unix(n>>32, n&0xffff), Duration: n, UpstreamConnect: n, UpstreamFirstByte: -n,
			Client: netip.AddrPortFrom(netip.IPv6LinkLocalAllNodes().WithZone(s), port), Listener: s, Route: s, Cluster: s, Endpoint: s, EndpointAddress: s,
			Method: b, Host: b, Path: b, Protocol: b, UserAgent: b, Referer: b, RequestID: b, ForwardedFor: b,
			Status: int(n), BytesIn: n, BytesOut: n, Attempts: int(n), Reason: s, ConnID: uint64(n), Reused: n&1 == 0,
		}
		got := format(t, "json", r)
		var v struct {
			Path   string `json:"path"`
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal([]byte(got), &v); err != nil {
			t.Fatalf("%v: %q", err, got)
		}
		if want := string([]rune(string(b))); v.Path != want || v.Reason != string([]rune(s)) {
			t.Errorf("%q became %q, %q became %q", b, v.Path, s, v.Reason)
		}
		checkLine(t, got)
		got = format(t, `"%{path}" "%{reason}"`, r)
		checkLine(t, got)
		unescaped := strings.ReplaceAll(strings.ReplaceAll(got, `\\`, ""), `\"`, "")
		if strings.Count(unescaped, `"`) != 4 {
			t.Errorf("a value broke out of its quotes: %q", got)
		}
	})
}

// checkLine fails if s is more than one line of printable text.
func checkLine(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("not UTF-8: %q", s)
	}
	body := strings.TrimSuffix(s, "\n")
	if len(body) != len(s)-1 || strings.ContainsFunc(body, func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f }) {
		t.Errorf("control characters in %q", s)
	}
}

func TestLineDoesNotAllocate(t *testing.T) {
	for _, f := range []string{"json", `%{client} [%{time_clf}] "%{request}" %{status} %{bytes_out} %{duration_ms} "%{user_agent}"`} {
		p, err := compile(f)
		if err != nil {
			t.Fatal(err)
		}
		w, r, buf := line{json: p.json}, sample(), make([]byte, 0, 4096)
		r.UserAgent = append(r.UserAgent, "\xff\"\n"...)
		if n := testing.AllocsPerRun(200, func() {
			r.Start = r.Start.Add(time.Millisecond)
			buf = p.run(buf[:0], &w, r)
		}); n != 0 {
			t.Errorf("%s: %v allocations", f, n)
		}
		if !bytes.HasSuffix(buf, []byte("\n")) {
			t.Errorf("%q", buf)
		}
	}
}

func TestLineAllocatesNothing(t *testing.T) {
	p, err := compile("json")
	if err != nil {
		t.Fatal(err)
	}
	w, buf := line{json: true}, make([]byte, 0, 4096)
	for _, r := range []*Record{sample(), secured()} {
		if n := testing.AllocsPerRun(100, func() { buf = p.run(buf[:0], &w, r) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}
