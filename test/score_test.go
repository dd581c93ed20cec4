package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"belay/test/harness"
)

// setup is what a scenario asks of a proxy: a cluster of servers whose sessions
// are kept by the cookie SRV, and another server tried when one cannot be reached.
type setup struct {
	servers []member // in the order of the configuration
	check   bool     // servers are checked often, and marked down at once
	limit   int      // connections to a server at a time; 0: any number
	queue   int      // requests that wait for such a connection; 0: any number
	window  bool     // what one source asks at a time for the first time is kept together
	detour  bool     // a session comes back when its server is there again
	table   string   // in place of the cookie a stick table: "X-User", by that header, or "APP", by the application's cookie, from its reply on
}

// member is one server of it.
type member struct {
	id, addr   string
	weight     int  // 0: no new session
	generation int  // changed when another server takes over the id
	backup     bool // gets sessions only while no other server is up
}

// balancer is a proxy that the scenarios are played with.
type balancer interface {
	// begin starts it; reload changes what it was started with, without an outage.
	begin(s *stage, want setup)
	reload(s *stage, want setup)
	addr() string
	// drain lets a server have the sessions it has and no new ones.
	drain(s *stage, id string)
	// waitState waits until the proxy itself has found that a server is up, or down.
	waitState(s *stage, id string, up bool)
	// crash is kill -9 and a start.
	crash(s *stage)
	// twin starts a second machine for the same sessions and returns its address.
	twin(s *stage, want setup) string
}

// contender is a column of the table.
type contender struct {
	name  string
	make  func() balancer
	lacks map[string]string // scenario to what it has not; "*" is for all
	must  bool              // a ✗ fails the test
}

var contenders = []contender{
	{name: "belay", make: func() balancer { return &belayed{} }, must: true},
	{name: "HAProxy", make: func() balancer { return &haproxied{} }, lacks: map[string]string{
		"short outage": "no such policy: redispatch moves the session for good",
	}},
	{name: "nginx", lacks: map[string]string{"*": "no cookie persistence before 1.29.6: ip_hash and hash only"}},
}

// scenario is a row of the table.
type scenario struct {
	name  string
	wants string // what has to happen
	play  func(*stage)
}

// scenarios are the rows, in order.
func scenarios() []scenario {
	return slices.Concat(outages(), cookies(), changes(), tables())
}

// result is a cell of the table.
type result struct{ mark, why string }

// stage is where one scenario is played with one proxy.
type stage struct {
	*testing.T
	proxy balancer
	must  bool
	apps  map[string]*harness.App
	why   string // it failed
}

// fail ends the scenario: the proxy does not do what the row asks. That fails the
// test only for belay.
func (s *stage) fail(format string, args ...any) {
	s.Helper()
	s.why = fmt.Sprintf(format, args...)
	if s.must {
		s.Fatal("✗ " + s.why)
	}
	s.Skip("✗ " + s.why)
}

// The same scenarios are played with belay, HAProxy and nginx, and the table of
// what came out is docs/persistence-score.md. With BELAY_SCORE=write the table is
// written; without, belay must have no ✗ and the table must be of these scenarios.
func TestScore(t *testing.T) {
	t.Parallel()
	rows := scenarios()
	results := make([][]result, len(rows))
	var mu sync.Mutex
	t.Run("with", func(t *testing.T) {
		for i, row := range rows {
			results[i] = make([]result, len(contenders))
			for j, c := range contenders {
				t.Run(row.name+"/"+c.name, func(t *testing.T) {
					t.Parallel()
					r := result{mark: "✗", why: "it broke off"}
					defer func() {
						mu.Lock()
						defer mu.Unlock()
						results[i][j] = r
					}()
					play(t, row, c, &r)
				})
			}
		}
	})
	text := table(rows, results)
	t.Log("\n" + text)
	path := filepath.Join(harness.Root(t), "docs/persistence-score.md")
	if os.Getenv("BELAY_SCORE") == "write" {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	compare(t, path, rows)
}

// play fills one cell.
func play(t *testing.T, row scenario, c contender, r *result) {
	for _, key := range []string{row.name, "*"} {
		if why, ok := c.lacks[key]; ok {
			*r = result{"–", why}
			t.Skip("not offered: " + why)
		}
	}
	s := &stage{T: t, proxy: c.make(), must: c.must, apps: map[string]*harness.App{}}
	defer func() {
		if s.why != "" {
			r.why = s.why
		}
	}()
	row.play(s)
	*r = result{mark: "✓"}
}

// table is the document.
func table(rows []scenario, results [][]result) string {
	var b strings.Builder
	b.WriteString("# Session persistence: what belay, HAProxy and nginx do\n\n" +
		"Made by `BELAY_SCORE=write go test -run TestScore ./test` from the scenarios in\n" +
		"`test/score_*_test.go`, which are played with each proxy over real sockets.\n" +
		"✓ does what the row says, ✗ does not, – does not have it.\n\n" +
		"HAProxy has `cookie SRV insert indirect nocache`, `option redispatch`, `retry-on conn-failure\n" +
		"empty-response` and static cookie\n" +
		"values; belay has `persistence.cookie` and a retry of refused connections. Where a row is\n" +
		"about more, belay has `first_request_window`, `policy = \"detour\"`, `max_pending` or\n" +
		"`persistence.table`, and HAProxy `maxqueue` or a `stick-table` with a local peer.\n\n" +
		"- belay: this version\n")
	for _, c := range contenders[1:] {
		fmt.Fprintf(&b, "- %s: %s\n", c.name, version(c.name))
	}
	b.WriteString("\n| scenario | what has to happen |")
	for _, c := range contenders {
		fmt.Fprintf(&b, " %s |", c.name)
	}
	b.WriteString("\n|---|---|" + strings.Repeat(":-:|", len(contenders)) + "\n")
	var notes []string
	seen := map[string]int{}
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s | %s |", row.name, row.wants)
		for _, r := range results[i] {
			note := ""
			if r.why != "" {
				if seen[r.why] == 0 {
					notes = append(notes, r.why)
					seen[r.why] = len(notes)
				}
				note = fmt.Sprintf(" (%d)", seen[r.why])
			}
			fmt.Fprintf(&b, " %s%s |", r.mark, note)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, n := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, n)
	}
	return b.String()
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\.\d+\S*`)

func version(name string) string {
	out, err := exec.Command(strings.ToLower(name), "-v").CombinedOutput()
	if err != nil {
		return "not installed"
	}
	return versionNumber.FindString(string(out)) + " of Debian"
}

// compare sees that the document has the rows, and no ✗ for belay.
func compare(t *testing.T, path string, rows []scenario) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if !strings.Contains(string(data), fmt.Sprintf("| %s | %s | ✓ |", row.name, row.wants)) {
			t.Errorf("%s: not there, or no ✓ for belay: %s; write it anew with BELAY_SCORE=write", path, row.name)
		}
	}
}
