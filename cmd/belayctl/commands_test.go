package main

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"belay/internal/admin/adminapi"
)

func TestCommandOutput(t *testing.T) {
	socket := aDaemon().serve(t)
	for name, args := range map[string]string{
		"status":            "status",
		"ready":             "ready",
		"listeners":         "listeners",
		"listener":          "listeners web",
		"clusters":          "clusters",
		"clusters-all":      "clusters --endpoints",
		"cluster":           "clusters app",
		"config":            "config",
		"config-route":      "config listener.web.route[1]",
		"config-routes":     "config listener.web.route",
		"config-value":      "config listener.web.timeouts.head",
		"config-endpoints":  "config cluster.app.endpoints",
		"config-value-json": "config --json listener.web.timeouts",
		"stats":             "stats web|app --nonzero",
		"stats-json":        "stats --json",
		"version":           "version",
		"restart-status":    "restart-status",
		"drain":             "drain",
		"drain-undo":        "drain --undo",
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := belayctl(t, socket, strings.Fields(args)...)
			if status != exitOK || stderr != "" {
				t.Errorf("status %d, stderr %q", status, stderr)
			}
			golden(t, name, stdout)
		})
	}
}

func TestCommandJSONIsWhatTheDaemonSaid(t *testing.T) {
	d := aDaemon()
	socket := d.serve(t)
	for args, want := range map[string]any{
		"status":           d.status,
		"ready":            d.ready,
		"listeners":        d.listeners,
		"restart-status":   d.restart,
		"clusters":         d.clusters,
		"stats":            d.series,
		"listeners web":    d.listeners[:1],
		"clusters other":   d.clusters[1:],
		"stats --nonzero":  d.series,
		"config":           json.RawMessage(d.config),
		"clusters app  -e": d.clusters[:1],
	} {
		status, stdout, stderr := belayctl(t, socket, append(strings.Fields(args), "--json")...)
		if status != exitOK || stderr != "" {
			t.Errorf("%s: status %d, stderr %q", args, status, stderr)
		}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal([]byte(stdout), &a); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		if err := json.Unmarshal(data, &b); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %s\nwant %s", args, stdout, data)
		}
	}
}

func TestCommandErrors(t *testing.T) {
	socket := aDaemon().serve(t)
	const hint = "\nbelayctl: \"belayctl --help\" lists what there is\n"
	for _, tt := range []struct {
		args   string
		status int
		stderr string
	}{
		{"--socket /nonexistent/s status", exitNo, "belayctl: cannot reach belayd at /nonexistent/s: no such file or directory, is it running? (try --socket)\n"},
		{"--socket /nonexistent/s ready", exitNo, "belayctl: cannot reach belayd at /nonexistent/s: no such file or directory, is it running? (try --socket)\n"},
		{"--socket /nonexistent/s top --once", exitNo, "belayctl: cannot reach belayd at /nonexistent/s: no such file or directory, is it running? (try --socket)\n"},
		{"clusters nix", exitNo, "belayctl: there is no cluster \"nix\"\n"},
		{"clutsers", exitUsage, "belayctl: there is no command \"clutsers\", did you mean \"clusters\"?" + hint},
		{"nix", exitUsage, "belayctl: there is no command \"nix\"" + hint},
		{"status now", exitUsage, "belayctl: unknown command \"now\" for \"belayctl status\"" + hint},
		{"clusters a b", exitUsage, "belayctl: accepts at most 1 arg(s), received 2" + hint},
		{"status --nix", exitUsage, "belayctl: unknown flag: --nix" + hint},
		{"top -i 1ms", exitUsage, "belayctl: --interval must be 100ms or more, --count 0 or more" + hint},
		{"top -n -1", exitUsage, "belayctl: --interval must be 100ms or more, --count 0 or more" + hint},
		{"drain now", exitUsage, "belayctl: unknown command \"now\" for \"belayctl drain\"" + hint},
		{"drain --wait 30s", exitUsage, "belayctl: unexpected argument \"30s\": write --wait=TIME with an equals sign" + hint},
		{"drain --wait --undo", exitUsage, "belayctl: --undo has nothing to --wait for" + hint},
		{"drain --wait=-1s", exitUsage, "belayctl: --wait must be 0 or more" + hint},
		{"tls nix", exitUsage, "belayctl: unknown command \"nix\" for \"belayctl tls\"" + hint},
		{"certs now", exitUsage, "belayctl: unknown command \"now\" for \"belayctl certs\"" + hint},
		{"tls explain --port 65536", exitUsage, "belayctl: invalid argument \"65536\" for \"--port\" flag: strconv.ParseUint: parsing \"65536\": value out of range" + hint},
		{"completion csh", exitUsage, "belayctl: invalid argument \"csh\" for \"belayctl completion\"" + hint},
		{"config listener.web.nix", exitNo, "belayctl: the configuration has no listener.web.nix: there is address, timeouts, route\n"},
		{"config listener.web.route[2]", exitNo, "belayctl: the configuration has no listener.web.route[2]: the list has 2 elements\n"},
		{"config server..x", exitUsage, "belayctl: path \"server..x\": keys are separated by one dot" + hint},
	} {
		status, stdout, stderr := belayctl(t, socket, strings.Fields(tt.args)...)
		if status != tt.status || stdout != "" || stderr != tt.stderr {
			t.Errorf("%s: status %d, stdout %q, stderr %q\nwant status %d, stderr %q", tt.args, status, stdout, stderr, tt.status, tt.stderr)
		}
	}
}

func TestReadyOfDaemonThatIsNot(t *testing.T) {
	d := &daemon{ready: adminapi.Ready{Reason: "stopping"}}
	socket := d.serve(t)
	if status, stdout, stderr := belayctl(t, socket, "ready"); status != exitNo || stdout != "not ready: stopping\n" || stderr != "" {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	if status, stdout, _ := belayctl(t, socket, "ready", "--json"); status != exitNo || stdout != "{\n  \"ready\": false,\n  \"reason\": \"stopping\"\n}\n" {
		t.Errorf("status %d, %q", status, stdout)
	}
}

func TestVersionWithoutDaemon(t *testing.T) {
	status, stdout, stderr := belayctl(t, "/nonexistent/s", "version")
	if status != exitOK || stdout != "belayctl devel\n" || !strings.HasPrefix(stderr, "belayctl: cannot reach belayd") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
}

func TestSocketDefault(t *testing.T) {
	for value, want := range map[string]string{"": "/run/belay/admin.sock", "/tmp/x": "/tmp/x"} {
		if got := socketDefault(func(string) string { return value }); got != want {
			t.Errorf("%q: %s", value, got)
		}
	}
}

func TestInterruptedQuestion(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out strings.Builder
	p := &program{stdout: &out, stderr: &out, socket: aDaemon().serve(t)}
	if status := p.run(ctx, []string{"status"}); status != exitNo || out.String() != "" {
		t.Errorf("status %d, %q", status, out.String())
	}
}

func TestCompletion(t *testing.T) {
	socket := aDaemon().serve(t)
	for _, tt := range []struct {
		args []string
		want string // the words, with blanks between
	}{
		{[]string{"clusters", ""}, "app other"},
		{[]string{"clusters", "app", ""}, ""},
		{[]string{"listeners", ""}, "web internal"},
		{[]string{"stats", ""}, "belay_cluster_requests_total belay_listener_connections"},
		{[]string{"completion", ""}, "bash zsh fish"},
		{[]string{"st"}, "stats status"},
		{[]string{"dr"}, "drain"},
		{[]string{"re"}, "ready restart-status"},
		{[]string{"drain", ""}, ""},
		{[]string{"drain", "--"}, "--json --socket --timeout --help --undo --wait"},
		{[]string{"restart-status", ""}, ""},
		{[]string{"ce"}, "certs"},
		{[]string{"certs", "--"}, "--json --socket --timeout --check --expiring --help"},
		{[]string{"tls", ""}, "explain"},
		{[]string{"tls", "explain", "--listener", ""}, "web internal"},
		{[]string{"tls", "explain", "--alpn", ""}, "http/1.1 h2 postgresql"},
		{[]string{"tls", "explain", "--sni", ""}, ""},
		{[]string{"--socket", "/nonexistent/s", "clusters", ""}, ""},
	} {
		status, stdout, _ := belayctl(t, socket, append([]string{"__completeNoDesc"}, tt.args...)...)
		words, _, _ := strings.Cut(stdout, ":") // the directive comes last
		if got := strings.Join(strings.Fields(words), " "); status != exitOK || got != tt.want {
			t.Errorf("%q: status %d, %q, want %q", tt.args, status, got, tt.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		status, stdout, _ := belayctl(t, socket, "completion", shell)
		if status != exitOK || !strings.Contains(stdout, "belayctl") {
			t.Errorf("%s: status %d, %d bytes", shell, status, len(stdout))
		}
	}
}
