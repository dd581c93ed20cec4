package main

import (
	"strings"
	"testing"
	"time"
)

const pgbenchReport = `pgbench (15.14 (Debian 15.14-0+deb12u1))
transaction type: <builtin: select only>
scaling factor: 1
query mode: prepared
number of clients: 8
number of threads: 1
maximum number of tries: 1
duration: 2 s
number of transactions actually processed: 20854
number of failed transactions: 3 (0.014%)
latency average = 0.767 ms
initial connection time = 11.872 ms
tps = 10427.000000 (without initial connection time)
`

func TestParsePgbench(t *testing.T) {
	m, err := parsePgbench(pgbenchReport)
	if err != nil {
		t.Fatal(err)
	}
	want := sample{requests: 20854, seconds: 2, errors: 3, mean: 767 * time.Microsecond}
	if m != want {
		t.Errorf("%+v, want %+v", m, want)
	}
	if _, err := parsePgbench("pgbench: error: connection refused\n"); err == nil {
		t.Error("no report is taken for one")
	}
}

func TestFormat(t *testing.T) {
	second := sample{requests: 1000, seconds: 1, user: time.Second}
	half := sample{requests: 1000, seconds: 1, user: time.Second / 2}
	idle := sample{requests: 1000, seconds: 1, rssPerConn: 500}
	for name, tt := range map[string]struct {
		c       benchCase
		servers []string
		results []sample
		want    string
	}{
		"handshakes, more is better": {
			benchCase{columns: handshakeColumns}, []string{"belay", "nginx"}, []sample{half, second},
			"| handshakes/CPU-second  | 2000 (2000–2000) | 1000 (1000–1000) | **2.00** |\n",
		},
		"CPU, less is better, beside the better of two": {
			benchCase{}, []string{"belay", "nginx", "haproxy"}, []sample{half, second, half},
			"| CPU/request µs | 500 (500–500) | 1000 (1000–1000) | 500 (500–500) | **1.00** |\n",
		},
		"memory":                   {benchCase{}, []string{"belay", "nginx"}, []sample{idle, idle}, "| memory/connection bytes | 500 (500–500) | 500 (500–500) | **1.00** |\n"},
		"only belay can":           {benchCase{columns: handshakeColumns}, []string{"belay"}, []sample{half}, "| 2000 (2000–2000) | – |\n"},
		"belay left out by a flag": {benchCase{}, []string{"nginx", "haproxy"}, []sample{half, second}, "| 500 (500–500) | 1000 (1000–1000) | – |\n"},
	} {
		var servers []server
		var results [][]sample
		for i, n := range tt.servers {
			servers = append(servers, server{name: n})
			results = append(results, []sample{tt.results[i], tt.results[i]})
		}
		if got := format(tt.c, servers, results); !strings.Contains(got, tt.want) {
			t.Errorf("%s: no %q in\n%s", name, tt.want, got)
		}
	}
}

// Names are what -only picks cases by, and a section is together.
func TestCasesNamedOnceAndTogether(t *testing.T) {
	seen := map[string]bool{}
	sections := map[string]bool{}
	last := ""
	for _, c := range allCases() {
		if seen[c.name] || c.name == "" || c.title == "" || c.load == nil {
			t.Errorf("case %q", c.name)
		}
		seen[c.name] = true
		if c.section != last && sections[c.section] {
			t.Errorf("%s: section %q begins again", c.name, c.section)
		}
		sections[c.section], last = true, c.section
	}
}

func TestWanted(t *testing.T) {
	all := []server{{name: "belay splice"}, {name: "nginx stream"}, {name: "haproxy splice"}}
	for flag, want := range map[string]string{
		"": "belay splice, nginx stream, haproxy splice", "belay": "belay splice", "nginx,haproxy": "nginx stream, haproxy splice", "envoy": "",
	} {
		l := lab{s: &settings{servers: flag}}
		var names []string
		for _, s := range l.wanted(all) {
			names = append(names, s.name)
		}
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("-servers %q: %s, want %s", flag, got, want)
		}
	}
}
