package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

const testConfig = `{
	"server": {"workers": 0, "stop_time": "10s", "dns_servers": []},
	"listener": {
		"web": {
			"address": "[::]:443",
			"timeouts": {"head": "10s", "request": "0s"},
			"route": [
				{"name": "hello", "path": "/hello", "respond": {"status": 200, "body": "Hi \u003cyou\u003e \"\\\n\u0007", "headers": {"X-A.b": "1"}}},
				{"hosts": ["a.example", "*.b.example"], "path_prefix": "/", "cluster": "app", "upgrade": true, "retry": {"on": ["reset"], "budget": 0.2}}
			]
		},
		"odd name": {"route": [{"redirect": {"path": "/"}}]}
	},
	"cluster": {
		"app": {"balance": "random", "endpoints": [{"id": "a", "address": "10.0.0.1:80"}, {"id": "b", "address": "10.0.0.2:80"}]},
		"lone": {"endpoints": [{"id": "a", "address": "10.0.0.1:80"}]}
	}
}`

// TestTOMLReadsBack holds the promise that belayd could read what is printed.
func TestTOMLReadsBack(t *testing.T) {
	var b strings.Builder
	if err := writeTOML(&b, "", []byte(testConfig)); err != nil {
		t.Fatal(err)
	}
	var fromTOML, want map[string]any
	if _, err := toml.Decode(b.String(), &fromTOML); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	data, err := json.Marshal(fromTOML)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(testConfig), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant\n%v\nfrom\n%s", got, want, b.String())
	}
}

func TestTOMLStrings(t *testing.T) {
	for _, s := range []string{"", "plain", "\"\\", "\n\t\r\x00\x1b", "\x7f\u0085", "ü €", "🙂"} {
		var v struct{ S string }
		if _, err := toml.Decode("S = "+tomlString(s), &v); err != nil || v.S != s {
			t.Errorf("%q: %q, %v", s, v.S, err)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, tt := range []struct{ path, want, err string }{
		{path: "server.stop_time", want: `"10s"`},
		{path: "listener.web.route[1].hosts[0]", want: `"a.example"`},
		{path: `listener."odd name".route[0].redirect`, want: `{"path": "/"}`},
		{path: `listener.web.route[0].respond.headers."X-A.b"`, want: `"1"`},
		{path: "server.stop_time.x", err: "the configuration has no server.stop_time.x: not a table"},
		{path: "server[0]", err: "the configuration has no server[0]: not a list with numbers"},
		{path: "listener.web.route[x]", err: "the configuration has no listener.web.route[x]: not a list with numbers"},
		{path: "listener.web.route[-1]", err: "the configuration has no listener.web.route[-1]: the list has 2 elements"},
		{path: "listener.web.route[", err: `path "listener.web.route[": an index is written [0]`},
		{path: `listener."odd`, err: `path "listener.\"odd": a quote does not end`},
		{path: ".server", err: `path ".server": keys are separated by one dot`},
		{path: "server.", err: `path "server.": keys are separated by one dot`},
		{path: "listener.web.route[0]x", err: `path "listener.web.route[0]x": keys are separated by one dot`},
	} {
		got, err := lookup([]byte(testConfig), tt.path)
		message := ""
		if err != nil {
			message = err.Error()
		}
		if string(got) != tt.want || message != tt.err {
			t.Errorf("%s: %s, %q\nwant %s, %q", tt.path, got, message, tt.want, tt.err)
		}
	}
}

func FuzzLookup(f *testing.F) {
	f.Add("listener.web.route[1].hosts[0]")
	f.Add(`a."b c"[0]`)
	f.Fuzz(func(t *testing.T, path string) {
		raw, err := lookup([]byte(testConfig), path)
		if err == nil && !json.Valid(raw) {
			t.Errorf("%q: %q", path, raw)
		}
	})
}
