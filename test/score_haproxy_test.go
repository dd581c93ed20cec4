package test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"belay/test/harness"
)

// haproxied is HAProxy in the scenarios.
type haproxied struct {
	h    *harness.HAProxy
	bind string
	peer string // address of the local peer
}

func (p *haproxied) addr() string { return p.bind }

func (p *haproxied) config(bind string, want setup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "frontend web\n  bind %s\n  default_backend back\nbackend back\n  balance roundrobin\n"+
		"  option redispatch 1\n  retries 3\n  retry-on conn-failure empty-response\n", bind)
	switch want.table {
	case "":
		b.WriteString("  cookie SRV insert indirect nocache\n")
	case "APP":
		b.WriteString(stickTable + "  stick store-response res.cook(APP)\n  stick match req.cook(APP)\n")
	default:
		b.WriteString(stickTable + "  stick on req.hdr(" + want.table + ")\n")
	}
	for _, m := range want.servers {
		fmt.Fprintf(&b, "  server %s %s weight %d cookie %s", m.id, m.addr, m.weight, m.id)
		if m.generation > 0 {
			fmt.Fprintf(&b, ".%d", m.generation)
		}
		if m.backup {
			b.WriteString(" backup")
		}
		if want.check {
			b.WriteString(" check inter 50ms fall 1 rise 1")
		}
		if want.limit > 0 {
			fmt.Fprintf(&b, " maxconn %d", want.limit)
		}
		if want.queue > 0 {
			fmt.Fprintf(&b, " maxqueue %d", want.queue)
		}
		b.WriteString("\n")
	}
	if want.table != "" { // a local peer passes the table to the next process
		fmt.Fprintf(&b, "peers mesh\n  peer %s %s\n", harness.HAProxyPeer, p.peer)
	}
	return b.String()
}

const stickTable = "  stick-table type string len 64 size 10k expire 30m peers mesh\n"

func (p *haproxied) begin(s *stage, want setup) {
	s.Helper()
	p.bind, p.peer = harness.Addr(s), harness.Addr(s)
	p.h = harness.StartHAProxy(s, p.config(p.bind, want))
}

func (p *haproxied) reload(s *stage, want setup) {
	s.Helper()
	if want.table != "" {
		// A process passes its table on only when it has given up, or ended, its own
		// search for one: five seconds after a start.
		harness.Eventually(s, patience, "HAProxy knows its table for its own", func() bool {
			return strings.Contains(p.h.Command("show peers"), "resync_timeout=<PAST>")
		})
	}
	had := p.entries()
	p.h.Reload(p.config(p.bind, want))
	if want.table == "" {
		return
	}
	// Who comes before the table has come begins anew. That is for the row with
	// load to find; the others wait for it.
	for limit := time.Now().Add(2 * time.Second); p.entries() < had && time.Now().Before(limit); {
		time.Sleep(10 * time.Millisecond) // between two looks at another process
	}
}

var usedEntries = regexp.MustCompile(`used:(\d+)`)

// entries is how many sessions are in the table.
func (p *haproxied) entries() int {
	m := usedEntries.FindStringSubmatch(p.h.Command("show table back"))
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func (p *haproxied) drain(s *stage, id string) {
	s.Helper()
	if answer := p.h.Command("set server back/" + id + " state drain"); answer != "" {
		s.Fatalf("haproxy: %s", answer)
	}
}

func (p *haproxied) waitState(s *stage, id string, up bool) {
	s.Helper()
	want := map[bool]string{false: "DOWN", true: "UP"}[up]
	harness.Eventually(s, patience, "HAProxy marks "+id+" "+want, func() bool {
		for l := range strings.Lines(p.h.Command("show stat")) {
			if f := strings.Split(l, ","); len(f) > 17 && f[0] == "back" && f[1] == id {
				return strings.HasPrefix(f[17], want)
			}
		}
		return false
	})
}

func (p *haproxied) crash(*stage) { p.h.Crash() }

func (p *haproxied) twin(s *stage, want setup) string {
	s.Helper()
	bind := harness.Addr(s)
	harness.StartHAProxy(s, p.config(bind, want))
	return bind
}
