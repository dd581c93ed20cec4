package test

import (
	"fmt"
	"strings"

	"belay/test/harness"
)

// haproxied is HAProxy in the scenarios.
type haproxied struct {
	h    *harness.HAProxy
	bind string
}

func (p *haproxied) addr() string { return p.bind }

func (p *haproxied) config(bind string, want setup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "frontend web\n  bind %s\n  default_backend back\nbackend back\n  balance roundrobin\n"+
		"  option redispatch 1\n  retries 3\n  cookie SRV insert indirect nocache\n", bind)
	for _, m := range want.servers {
		fmt.Fprintf(&b, "  server %s %s weight %d cookie %s", m.id, m.addr, m.weight, m.id)
		if m.generation > 0 {
			fmt.Fprintf(&b, ".%d", m.generation)
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
	return b.String()
}

func (p *haproxied) begin(s *stage, want setup) {
	s.Helper()
	p.bind = harness.Addr(s)
	p.h = harness.StartHAProxy(s, p.config(p.bind, want))
}

func (p *haproxied) reload(s *stage, want setup) {
	s.Helper()
	p.h.Reload(p.config(p.bind, want))
}

func (p *haproxied) drain(s *stage, id string) {
	s.Helper()
	if answer := p.h.Command("set server back/" + id + " state drain"); answer != "" {
		s.Fatalf("haproxy: %s", answer)
	}
}

func (p *haproxied) waitDown(s *stage, id string) {
	s.Helper()
	harness.Eventually(s, patience, "HAProxy marks "+id+" down", func() bool {
		for l := range strings.Lines(p.h.Command("show stat")) {
			if f := strings.Split(l, ","); len(f) > 17 && f[0] == "back" && f[1] == id {
				return strings.HasPrefix(f[17], "DOWN")
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
