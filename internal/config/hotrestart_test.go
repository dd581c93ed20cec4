package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const hotRestart = "[hot_restart]\n"

var parseHotRestart = []parseTest{
	{"OK empty", "top", hotRestart, ``},
	{"OK least", "hot_restart", "drain_time = \"0s\"\nprobation = \"50ms\"\nshutdown_time = \"1s\"\nmax_generations = 2\nmin_interval = \"0s\"\nmemory_headroom = 1\nheartbeat = \"50ms\"\nprepare_time = \"100ms\"\ncall_time = \"50ms\"\nbase_id = 0", ``},
	{"OK most", "hot_restart", "drain_time = \"24h\"\nprobation = \"1h\"\nshutdown_time = \"168h\"\nmax_generations = 14\nmin_interval = \"24h\"\nmemory_headroom = \"1024TiB\"\nheartbeat = \"1m\"\nprepare_time = \"1h\"\ncall_time = \"1m\"\nbase_id = 999", ``},
	{"OK times are equal", "hot_restart", "drain_time = \"1h\"\nshutdown_time = \"60m\"", ``},
	{"OK directory", "hot_restart", `directory = "/` + strings.Repeat("a", 82) + `"`, ``},
	{"OK heartbeat beyond probation", "hot_restart", "heartbeat = \"5s\"\nprobation = \"1s\"", ``},
	{"bad table", "top", `hot_restart = true`, `2: hot_restart: must be a table, not a boolean`},
	{"bad key", "hot_restart", `probaton = "1s"`, `2: hot_restart.probaton: unknown key; did you mean "probation"?`},
	{"bad enabled", "hot_restart", `enabled = 1`, `2: hot_restart.enabled: must be true or false, not an integer`},
	{"bad directory", "hot_restart", `directory = "run"`, `2: hot_restart.directory: "run" is not an absolute path: belayd and its hook may be started in different directories`},
	{"bad directory kind", "hot_restart", `directory = 1`, `2: hot_restart.directory: must be a string, not an integer`},
	{"bad directory NUL", "hot_restart", `directory = "/a\u0000"`, `2: hot_restart.directory: "/a\x00" has a NUL in it`},
	{"bad directory length", "hot_restart", `directory = "/` + strings.Repeat("a", 83) + `"`, `2: hot_restart.directory: the path is 84 bytes long; the sockets in it leave room for 83`},
	{"bad base_id", "hot_restart", `base_id = -1`, `2: hot_restart.base_id: must be from 0 to 999, not -1`},
	{"bad base_id above", "hot_restart", `base_id = 1000`, `2: hot_restart.base_id: must be from 0 to 999, not 1000`},
	{"bad drain_time", "hot_restart", `drain_time = "-1s"`, `2: hot_restart.drain_time: must be from 0s to 24h, not -1s`},
	{"bad drain_time above", "hot_restart", "drain_time = \"25h\"", `2: hot_restart.drain_time: must be from 0s to 24h, not 25h0m0s`},
	{"bad drain_strategy", "hot_restart", `drain_strategy = "slow"`, `2: hot_restart.drain_strategy: must be "gradual" or "immediate", not "slow"`},
	{"bad probation", "hot_restart", `probation = "0s"`, `2: hot_restart.probation: must be from 50ms to 1h, not 0s`},
	{"bad probation above", "hot_restart", `probation = "61m"`, `2: hot_restart.probation: must be from 50ms to 1h, not 1h1m0s`},
	{"bad shutdown_time", "hot_restart", "shutdown_time = \"999ms\"\ndrain_time = \"0s\"", `2: hot_restart.shutdown_time: must be from 1s to 168h, not 999ms`},
	{"bad shutdown_time above", "hot_restart", `shutdown_time = "169h"`, `2: hot_restart.shutdown_time: must be from 1s to 168h, not 169h0m0s`},
	{"bad max_generations", "hot_restart", `max_generations = 1`, `2: hot_restart.max_generations: must be from 2 to 14, not 1`},
	{"bad max_generations above", "hot_restart", `max_generations = 15`, `2: hot_restart.max_generations: must be from 2 to 14, not 15`},
	{"bad min_interval", "hot_restart", `min_interval = "25h"`, `2: hot_restart.min_interval: must be from 0s to 24h, not 25h0m0s`},
	{"bad memory_headroom", "hot_restart", `memory_headroom = "much"`, `2: hot_restart.memory_headroom: "much" is not a size such as 4096, "64KiB" or "1MB", or "auto"`},
	{"bad memory_headroom kind", "hot_restart", `memory_headroom = false`, `2: hot_restart.memory_headroom: must be "auto" or a size, not a boolean`},
	{"bad memory_headroom 0", "hot_restart", `memory_headroom = 0`, `2: hot_restart.memory_headroom: must be "auto" or from 1 to 1125899906842624, not 0`},
	{"bad memory_headroom above", "hot_restart", `memory_headroom = "1025TiB"`, `2: hot_restart.memory_headroom: must be "auto" or from 1 to 1125899906842624, not 1126999418470400`},
	{"bad heartbeat", "hot_restart", `heartbeat = "49ms"`, `2: hot_restart.heartbeat: must be from 50ms to 1m, not 49ms`},
	{"bad heartbeat above", "hot_restart", `heartbeat = "61s"`, `2: hot_restart.heartbeat: must be from 50ms to 1m, not 1m1s`},
	{"bad prepare_time", "hot_restart", `prepare_time = "99ms"`, `2: hot_restart.prepare_time: must be from 100ms to 1h, not 99ms`},
	{"bad prepare_time above", "hot_restart", `prepare_time = "2h"`, `2: hot_restart.prepare_time: must be from 100ms to 1h, not 2h0m0s`},
	{"bad call_time", "hot_restart", `call_time = "5"`, `2: hot_restart.call_time: "5" is not a duration such as "250ms", "30s" or "1h30m"`},
	{"bad call_time above", "hot_restart", `call_time = "2m"`, `2: hot_restart.call_time: must be from 50ms to 1m, not 2m0s`},
	{"bad times", "hot_restart", `shutdown_time = "1m"`, `2: hot_restart.shutdown_time: shutdown_time (1m0s) is shorter than drain_time (5m0s)`},
	{"bad times by drain_time", "hot_restart", "\ndrain_time = \"1h\"", `3: hot_restart.drain_time: shutdown_time (15m0s) is shorter than drain_time (1h0m0s)`},
}

func TestParseHotRestart(t *testing.T) {
	c := mustParse(t, listenerDoc+clusterDoc+`
[hot_restart]
enabled = false
directory = "/run/b"
base_id = 7
drain_time = "1m"
drain_strategy = "immediate"
probation = "200ms"
shutdown_time = "2m"
max_generations = 3
min_interval = "1s"
memory_headroom = "1TiB"
heartbeat = "100ms"
prepare_time = "10s"
call_time = "1s"`)
	equal(t, "hot restart", c.HotRestart, HotRestart{
		Directory: "/run/b", BaseID: 7, DrainTime: time.Minute, DrainImmediate: true, Probation: 200 * time.Millisecond,
		ShutdownTime: 2 * time.Minute, MaxGenerations: 3, MinInterval: time.Second, MemoryHeadroom: 1 << 40,
		Heartbeat: 100 * time.Millisecond, PrepareTime: 10 * time.Second, CallTime: time.Second,
	})
	c = mustParse(t, listenerDoc+clusterDoc+hotRestart+"drain_strategy = \"gradual\"\nmemory_headroom = \"auto\"")
	equal(t, "hot restart", c.HotRestart, defaultHotRestart())
}

func TestParseSystemd(t *testing.T) {
	for keys, want := range map[string]Listener{
		`systemd = "web"`: {Systemd: "web"},
		"systemd = \"web\"\naddress = \"127.0.0.1:80\"": {Systemd: "web", Address: netip.MustParseAddrPort("127.0.0.1:80")},
		"systemd = \"web\"\naddress = \"unix:/run/x\"":  {Systemd: "web", Unix: "/run/x"},
	} {
		l := mustParse(t, "[listener.a]\n"+keys+"\nroute = [{ respond = {} }]").Listeners[0]
		equal(t, keys, Listener{Systemd: l.Systemd, Address: l.Address, Unix: l.Unix}, want)
	}
}

func TestCheckWatchdog(t *testing.T) {
	for _, tt := range []struct {
		doc      string
		interval time.Duration
		want     string
	}{
		{"", 0, ""},
		{"", 2*time.Second + 1, ""},
		{"", 2 * time.Second, "t.toml: hot_restart.probation: probation (2s) is not shorter than WatchdogSec= of the unit (2s)"},
		{"\n[hot_restart]\n", time.Second, "t.toml:8: hot_restart.probation: probation (2s) is not shorter than WatchdogSec= of the unit (1s)"},
		{hotRestart + "\nprobation = \"10s\"", 10 * time.Second, "t.toml:9: hot_restart.probation: probation (10s) is not shorter than WatchdogSec= of the unit (10s)"},
		{hotRestart + "\nprobation = \"10s\"", 0, ""},
		{hotRestart + "enabled = false\nprobation = \"10s\"", time.Second, ""},
	} {
		c := mustParse(t, listenerDoc+clusterDoc+tt.doc)
		got := ""
		if err := c.CheckWatchdog(tt.interval); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s with %s: %q, want %q", tt.doc, tt.interval, got, tt.want)
		}
	}
}

func TestLoadUnderAWatchdog(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	const refused = "DIR/conf.d/a.toml:3: hot_restart.probation: probation (10s) is not shorter than WatchdogSec= of the unit (10s)"
	for _, tt := range []struct {
		name, usec, pid string
		want            string
	}{
		{"OK none", "", "", ""},
		{"OK longer", "10000001", self, ""},
		{"OK off", "0", self, ""},
		{"OK for another process", "1", self + "0", ""},
		{"OK not a number", "-5", self, ""},
		{"OK beyond all durations", "18446744073709551615", "", ""},
		{"bad", "10000000", self, refused},
		{"bad without a pid", "10000000", "", refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", tt.usec)
			t.Setenv("WATCHDOG_PID", tt.pid)
			dir := writeTree(t, map[string]string{
				"belay.toml": listenerDoc + clusterDoc, "conf.d/a.toml": "\n[hot_restart]\nprobation = \"10s\"",
			})
			got := ""
			if _, err := Load(filepath.Join(dir, "belay.toml")); err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "DIR")
			}
			if got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

// What the watchdog forbids stands among the other problems.
func TestLoadUnderAWatchdogTellsAllProblems(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "1000000")
	dir := writeTree(t, map[string]string{"belay.toml": "x = 1\n" + listenerDoc + clusterDoc + "y = 1"})
	_, err := Load(filepath.Join(dir, "belay.toml"))
	const want = `DIR/belay.toml: hot_restart.probation: probation (2s) is not shorter than WatchdogSec= of the unit (1s)
DIR/belay.toml:1: x: unknown key
DIR/belay.toml:8: cluster.a.y: unknown key`
	if err == nil || strings.ReplaceAll(err.Error(), dir, "DIR") != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}
