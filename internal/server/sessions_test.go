package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"belay/internal/config"
)

func TestWarnCookies(t *testing.T) {
	const clusters = `
[cluster.a]
endpoints = [{ address = "127.0.0.1:1" }]
persistence.cookie.name = "s"
[cluster.b]
endpoints = [{ address = "127.0.0.1:1" }]
persistence.cookie.name = "s"
[cluster.c]
endpoints = [{ address = "127.0.0.1:1" }]
persistence.cookie = { name = "s", path = "/c" }
[cluster.d]
endpoints = [{ address = "127.0.0.1:1" }]
`
	for _, tt := range []struct {
		name, routes string
		warn         bool
	}{
		{"the same hosts", `{ path_prefix = "/a", cluster = "a" }, { cluster = "b" }`, true},
		{"a host's path and any", `{ hosts = ["g"], cluster = "b" }, { hosts = ["h"], path_prefix = "/a", cluster = "a" }, { cluster = "b" }`, true},
		{"a host's path and its domain", `{ hosts = ["x.y.h"], methods = ["GET"], cluster = "a" }, { hosts = ["*.h"], cluster = "b" }`, true},
		{"OK a host's path and another domain", `{ hosts = ["x.y.h"], methods = ["GET"], cluster = "a" }, { hosts = ["*.z.h", "*.g"], cluster = "b" }`, false},
		{"OK a host and any other", `{ hosts = ["h"], cluster = "a" }, { cluster = "b" }`, false},
		{"OK other hosts", `{ hosts = ["g"], cluster = "a" }, { hosts = ["h"], cluster = "b" }`, false},
		{"OK the same cluster", `{ path_prefix = "/a", cluster = "a" }, { cluster = "a" }`, false},
		{"OK a route has both", `{ path_prefix = "/a", clusters = [{ cluster = "a" }, { cluster = "b" }] }, { cluster = "b" }`, false},
		{"OK another path", `{ path_prefix = "/c", cluster = "c" }, { cluster = "a" }`, false},
		{"OK off", `{ path_prefix = "/a", cluster = "a", persistence = { enabled = false } }, { cluster = "b" }`, false},
		{"OK none", `{ path_prefix = "/a", cluster = "a" }, { cluster = "d" }`, false},
	} {
		cfg, err := config.Parse("x", []byte("[listener.web]\naddress = \"127.0.0.1:1\"\nroute = ["+tt.routes+"]\n"+clusters))
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		s := newServer(cfg, "", nil)
		s.log = slog.New(slog.NewTextHandler(&log, nil))
		s.warnCookies()
		if got := strings.Contains(log.String(), "same cookie"); got != tt.warn {
			t.Errorf("%s: %q", tt.name, log.String())
		}
	}
}
