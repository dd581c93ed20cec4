package test

import (
	"strings"
	"testing"

	"belay/test/harness"
)

// stale answers the first request of every connection and closes it when the
// second one has come: what a dead pooled connection looks like at worst.
func stale(p *harness.Peer) {
	head := p.Head()
	if head == "" {
		return
	}
	body, err := p.Body(head)
	if err != nil || p.Send(harness.Reply200(head+body)) != nil {
		return
	}
	p.Head()
}

// A request on a dead pooled connection is sent again once if its method is
// idempotent and its body still whole in the buffer; otherwise 502.
func TestDeadPooledConnection(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, msg string
		status    int
	}{
		{"GET", "GET /second HTTP/1.1\r\nHost: a\r\n\r\n", 200},
		{"PUT with a small body", "PUT /second HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 200},
		{"POST is not idempotent", "POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := harness.NewBackend(t, stale)
			s := &site{endpoints: []string{b.Addr}, more: "[server]\nworkers = 1\n"}
			d := serve(t, s)
			c := harness.Dial(t, s.addr)
			wantStatus(t, c.Do("GET", "/first", "a"), 200)
			r := c.Send(tt.msg).Reply("GET")
			wantStatus(t, r, tt.status)
			if strings.Contains(tt.msg, "hello") && tt.status == 200 {
				want(t, r.Body, "\r\n\r\nhello")
			}
			rec := d.WaitPath("/second")
			if (rec.Int("attempts") == 2) != (tt.status == 200) {
				t.Errorf("record %v", rec)
			}
		})
	}
}

// A pooled connection that the backend has closed is seen before use: even a
// POST goes out on a fresh one.
func TestClosedPooledConnectionIsNotUsed(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t, func(p *harness.Peer) {
		if head := p.Head(); head != "" {
			_, _ = p.Body(head)
			_ = p.Send(harness.Reply200("x"))
			p.End()
		}
	})
	s := &site{endpoints: []string{b.Addr}}
	serve(t, s)
	c := harness.Dial(t, s.addr)
	for range 50 {
		open := b.Open
		c.Send(post + "Content-Length: 2\r\n\r\nab")
		wantStatus(t, c.Reply("POST"), 200)
		harness.Eventually(t, patience, "the backend has closed", func() bool { return open() == 0 })
	}
}

// Retry policy per route: connect-failure goes to another endpoint.
func TestRetryConnectFailure(t *testing.T) {
	t.Parallel()
	echo := harness.NewEcho(t, "a")
	s := &site{
		route:     `retry = { on = ["connect-failure"], attempts = 1, backoff = "1ms" }`,
		endpoints: []string{harness.Refusing(t), echo.Addr},
	}
	d := serve(t, s)
	c := harness.Dial(t, s.addr)
	for range 20 {
		r := c.Send(post + "Content-Length: 2\r\n\r\nab").Reply("POST")
		wantStatus(t, r, 200)
		want(t, r.Body, "\r\n\r\nab")
	}
	d.WaitRecord("a retry", func(r harness.Record) bool { return r.Int("attempts") == 2 })
}

// Without a policy nothing but dead pooled connections is tried again.
func TestNoRetryWithoutPolicy(t *testing.T) {
	t.Parallel()
	echo := harness.NewEcho(t, "a")
	s := &site{endpoints: []string{harness.Refusing(t), echo.Addr}, more: "[server]\nworkers = 1\n"}
	serve(t, s)
	c := harness.Dial(t, s.addr)
	failed := 0
	for range 20 {
		if c.Do("GET", "/", "a").Status == 503 {
			failed++
		}
	}
	if failed != 10 {
		t.Errorf("%d of 20 failed, want the half that went to the refusing endpoint", failed)
	}
}

// Retry policy per route: reset, 5xx, status and first-byte-timeout, only for
// idempotent methods.
func TestRetryConditions(t *testing.T) {
	t.Parallel()
	bad := map[string]harness.Script{
		"reset":              func(p *harness.Peer) { p.Head(); p.Reset() },
		"5xx":                harness.Canned("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad"),
		"status":             harness.Canned("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 3\r\n\r\nbad"),
		"first-byte-timeout": harness.Silent,
	}
	for on, script := range bad {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			statuses := ""
			if on == "status" {
				statuses = "statuses = [429], "
			}
			s := &site{
				route:     `retry = { on = ["` + on + `"], ` + statuses + `attempts = 2, backoff = "1ms", budget = 1.0 }`,
				cluster:   `first_byte_timeout = "200ms"`,
				endpoints: []string{harness.NewBackend(t, script).Addr, harness.NewEcho(t, "good").Addr},
				more:      "[server]\nworkers = 1\n",
			}
			serve(t, s)
			c := harness.Dial(t, s.addr)
			for range 6 {
				wantStatus(t, c.Do("GET", "/", "a"), 200)
			}
			failed := 0
			for range 6 {
				r := c.Send(post + "Content-Length: 2\r\n\r\nab").Reply("POST")
				if r.Status != 200 {
					failed++
				}
				if r.Close {
					c = harness.Dial(t, s.addr)
				}
			}
			if failed == 0 {
				t.Error("POST was tried again")
			}
		})
	}
}

// attempts bounds the retries, and when all fail the last failure is told.
func TestRetryAttemptsEnd(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t, harness.Canned("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nlast"))
	s := &site{
		route:     `retry = { on = ["5xx"], attempts = 3, backoff = "1ms" }`,
		endpoints: []string{b.Addr},
	}
	d := serve(t, s)
	r := harness.Dial(t, s.addr).Do("GET", "/x", "a")
	wantStatus(t, r, 500)
	if r.Body != "last" || b.Heads() != 4 {
		t.Errorf("body %q after %d tries, want 4", r.Body, b.Heads())
	}
	if rec := d.WaitPath("/x"); rec.Int("attempts") != 4 {
		t.Errorf("record %v", rec)
	}
}

// The budget: when everything fails, retries are a share of the requests in
// flight and not as many again.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	b := harness.NewBackend(t, func(p *harness.Peer) {
		first := true
		for p.Head() != "" {
			if first {
				first = false
				<-hold
			}
			if p.Send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n") != nil {
				return
			}
		}
	})
	s := &site{
		route:     `retry = { on = ["5xx"], attempts = 1, budget = 0.0, budget_min = 2, backoff = "50ms", backoff_max = "100ms" }`,
		endpoints: []string{b.Addr},
		more:      "[server]\nworkers = 1\n",
	}
	serve(t, s)
	const n = 20
	var conns []*harness.Conn
	for range n {
		conns = append(conns, harness.Dial(t, s.addr).Send(get+"\r\n"))
	}
	harness.Eventually(t, patience, "all requests at the backend", func() bool { return b.Heads() == n })
	close(hold)
	for _, c := range conns {
		wantStatus(t, c.Reply("GET"), 500)
	}
	if extra := b.Heads() - n; extra < 1 || extra > n/2 {
		t.Errorf("%d retries of %d requests with a budget of 2 at once", extra, n)
	}
}
