package httpproxy

import (
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"belay/internal/eventloop"
)

// TestFadeStrikes: the chance is none at the start, certainty at the end, and in
// between what part of the time is over.
func TestFadeStrikes(t *testing.T) {
	const tries, d = 20_000, time.Minute
	rng := rand.NewChaCha8([32]byte{1})
	for _, tt := range []struct {
		name      string
		f         fade
		elapsed   time.Duration
		low, high int
	}{
		{"none", fade{}, d, 0, 0},
		{"at the start", newFade(0, d, false), 0, 0, 0},
		{"after a quarter", newFade(0, d, false), d / 4, tries * 23 / 100, tries * 27 / 100},
		{"after a half", newFade(0, d, false), d / 2, tries * 48 / 100, tries * 52 / 100},
		{"at the end", newFade(0, d, false), d, tries, tries},
		{"after the end", newFade(0, d, false), 2 * d, tries, tries},
		{"immediate", newFade(0, d, true), 0, tries, tries},
		{"no time", newFade(0, 0, false), 0, tries, tries},
	} {
		n := 0
		for range tries {
			if tt.f.strikes(int64(tt.elapsed), rng) {
				n++
			}
		}
		if n < tt.low || n > tt.high {
			t.Errorf("%s: %d of %d, want %d to %d", tt.name, n, tries, tt.low, tt.high)
		}
	}
}

// everyReply are requests of all kinds that a connection would outlive.
var everyReply = []struct {
	name, method, request string
	status                int
}{
	{"length", "GET", request("GET", "/back/length", "HTTP/1.1"), 200},
	{"chunks", "GET", request("GET", "/back/chunks", "HTTP/1.1"), 200},
	{"no body", "GET", request("GET", "/back/none", "HTTP/1.1"), 204},
	{"HEAD", "HEAD", request("HEAD", "/back/length", "HTTP/1.1"), 200},
	{"with a request body", "POST", request("POST", "/back/length", "HTTP/1.1", "Content-Length: 2") + "ab", 200},
	{"HTTP/1.0", "GET", request("GET", "/back/length", "HTTP/1.0", "Connection: keep-alive"), 200},
	{"error of the endpoint", "GET", request("GET", "/back/error", "HTTP/1.1"), 500},
	{"broken endpoint", "GET", request("GET", "/back/broken", "HTTP/1.1"), 502},
	{"own", "GET", request("GET", "/own", "HTTP/1.1"), 200},
	{"own, HTTP/1.0", "GET", request("GET", "/own", "HTTP/1.0", "Connection: keep-alive"), 200},
	{"no route", "GET", request("GET", "/nowhere", "HTTP/1.1"), 404},
}

func everyKind(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/back/chunks":
		io.WriteString(w, "pl")
		w.(http.Flusher).Flush()
		io.WriteString(w, "ain")
	case "/back/none":
		w.WriteHeader(204)
	case "/back/error":
		http.Error(w, "error", 500)
	case "/back/broken":
		panic(http.ErrAbortHandler)
	default:
		plain(w, r)
	}
}

// TestEveryReplyAnnounces: whatever a reply is and whoever made it, the worker's
// parting is announced by it and only by it.
func TestEveryReplyAnnounces(t *testing.T) {
	for _, tt := range []struct {
		name  string
		begin func(*Worker)
		last  bool
	}{
		{"serving", func(*Worker) {}, false},
		{"Drain", func(w *Worker) { w.Drain(nil) }, true},
		{"DrainOver", func(w *Worker) { w.DrainOver(time.Hour, true, nil) }, true},
		{"DrainOver begins gradually", func(w *Worker) { w.DrainOver(1000*time.Hour, false, nil) }, false},
		{"Announce", func(w *Worker) { w.Announce(true, time.Hour, true) }, true},
		{"Announce begins gradually", func(w *Worker) { w.Announce(true, 1000*time.Hour, false) }, false},
		{"Announce after its time", func(w *Worker) { w.Announce(true, 0, false) }, true},
		{"Announce undone", func(w *Worker) { w.Announce(true, time.Hour, true); w.Announce(false, 0, false) }, false},
		{"Announce off undoes no drain", func(w *Worker) { w.DrainOver(time.Hour, true, nil); w.Announce(false, 0, false) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startProxy(t, everyKind, "")
			p.do(func() { tt.begin(p.w) })
			for _, q := range everyReply {
				c := p.dial(t)
				c.send(q.request)
				r, _ := c.reply(q.method)
				if r.StatusCode != q.status || r.Close != tt.last {
					t.Errorf("%s: status %d, announces the end: %t; want %d, %t", q.name, r.StatusCode, r.Close, q.status, tt.last)
				}
				if tt.last {
					c.ended()
				} else {
					c.send(q.request)
					c.reply(q.method)
				}
			}
		})
	}
}

// TestDrainOverSparesTheBusy: a client that asks for something in the second half
// of the time hears of the end, however the dice fall: it is not closed at the end.
func TestDrainOverSparesTheBusy(t *testing.T) {
	p := startProxy(t, everyKind, "")
	p.do(func() {
		p.w.DrainOver(time.Hour, false, nil)
		d, now := &p.w.drain, p.w.loop.Now()
		if half := now + int64(31*time.Minute); !d.strikes(half, p.w.rng) || d.end > half || p.w.closeAt < now+int64(59*time.Minute) {
			t.Errorf("the last reply without a word is at %v, the end at %v", time.Duration(d.end-now), time.Duration(p.w.closeAt-now))
		}
	})
}

// TestDrainOverClosesSilent: who says nothing is closed when the time is over, not
// before, and is counted; also one that never said anything.
func TestDrainOverClosesSilent(t *testing.T) {
	for name, tables := range map[string]string{
		"idle limit":    "",
		"no idle limit": "[listener.web.timeouts]\nidle = \"0s\"\nhead = \"0s\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, plain, tables)
			used, unused := p.dial(t), p.dial(t)
			used.ask("/back", false)
			p.until(t, "both are there", func() bool { return p.w.Connections() == 2 })
			empty := make(chan struct{}, 2)
			const d = 400 * time.Millisecond
			var began time.Time
			p.do(func() {
				began = time.Now().Add(time.Duration(p.loop.Now() - eventloop.Monotonic())) // as the loop sees it
				p.w.DrainOver(d, false, func() { empty <- struct{}{} })
			})
			used.ended()
			unused.ended()
			if took := time.Since(began); took < d {
				t.Errorf("closed after %v, before %v", took, d)
			}
			<-empty
			if n := p.silentClosed(); n != 2 {
				t.Errorf("%d counted, want 2", n)
			}
			if len(empty) != 0 {
				t.Error("empty was called twice")
			}
		})
	}
}

// TestDrainOverKeepsIdleLimit: the listener's own limit ends a wait that the
// drain would allow, and that is no doing of the drain.
func TestDrainOverKeepsIdleLimit(t *testing.T) {
	p := startProxy(t, plain, "[listener.web.timeouts]\nidle = \"20ms\"\n")
	c := p.dial(t)
	c.ask("/back", false)
	p.do(func() { p.w.DrainOver(time.Hour, false, nil) })
	c.ended()
	if n := p.silentClosed(); n != 0 {
		t.Errorf("%d counted, want 0", n)
	}
}

// TestDrainTightens: a stop in a draining worker ends the wait of the silent ones
// at once, and both who asked hear of it, once.
func TestDrainTightens(t *testing.T) {
	p := startProxy(t, plain, "")
	silent := p.dial(t)
	silent.ask("/back", false)
	calls := make(chan string, 8)
	call := func(s string) func() { return func() { calls <- s } }
	p.do(func() { p.w.DrainOver(time.Hour, false, call("first")) })
	p.do(func() { p.w.Drain(call("second")) })
	p.do(func() { p.w.DrainOver(time.Hour, false, nil) }) // loosens nothing
	talking, late := p.dial(t), p.dial(t)
	talking.ask("/back", true)
	talking.Close()
	silent.ended()
	late.ended() // it came after all that and never said anything
	if a, b := <-calls, <-calls; a != "first" || b != "second" {
		t.Errorf("called %s, then %s", a, b)
	}
	p.do(func() { p.w.Drain(call("third")) }) // nobody is left
	if s := <-calls; s != "third" {
		t.Errorf("called %s", s)
	}
	if len(calls) != 0 || p.silentClosed() != 2 {
		t.Errorf("%d more calls, %d counted", len(calls), p.silentClosed())
	}
}

// TestDrainOverEmptyAtOnce: without a connection the drain is over as it begins.
func TestDrainOverEmptyAtOnce(t *testing.T) {
	p := startProxy(t, plain, "")
	called := 0
	p.do(func() {
		p.w.DrainOver(time.Hour, false, func() { called++ })
		if called != 1 {
			t.Errorf("called %d times", called)
		}
	})
	p.dial(t).ask("/back", false)
	p.do(func() {
		if called != 1 {
			t.Errorf("called %d times", called)
		}
	})
}

// TestDrainOverLeavesWork: what lasts longer than the drain goes on: a reply to
// its end, a tunnel until Abort.
func TestDrainOverLeavesWork(t *testing.T) {
	finish := make(chan struct{})
	var finishing atomic.Bool
	end := func() {
		if finishing.CompareAndSwap(false, true) {
			close(finish)
		}
	}
	p := startProxy(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/back/tunnel":
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(conn, rw)
		case "/back/long":
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
			<-finish
			io.WriteString(w, " and end")
		}
	}, "")
	t.Cleanup(end)
	tunnel, long, silent := p.dial(t), p.dial(t), p.dial(t)
	tunnel.send(request("GET", "/back/tunnel", "HTTP/1.1", "Connection: upgrade", "Upgrade: echo"))
	if r, _ := tunnel.reply("GET"); r.StatusCode != 101 {
		t.Fatalf("status %d", r.StatusCode)
	}
	long.send(request("GET", "/back/long", "HTTP/1.1"))
	r, err := http.ReadResponse(long.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.until(t, "all are there", func() bool { return p.w.Connections() == 3 })
	empty := make(chan struct{}, 2)
	p.do(func() { p.w.DrainOver(time.Millisecond, false, func() { empty <- struct{}{} }) })
	silent.ended()

	tunnel.send("hello")
	echo := make([]byte, 5)
	if _, err := io.ReadFull(tunnel.r, echo); err != nil || string(echo) != "hello" {
		t.Errorf("the tunnel brought %q, %v", echo, err)
	}
	end()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "begin and end" || r.Close {
		t.Errorf("the long reply: %q, %v, announces the end: %t", body, err, r.Close)
	}
	long.ended() // its head was out when the drain began, so it is a silent one now
	if n := p.silentClosed(); n != 2 || len(empty) != 0 {
		t.Errorf("%d counted, called %d times", n, len(empty))
	}
	p.do(p.w.Abort)
	<-empty
}

// TestDrainedLooksAgain: a request that has come as the time is over is served.
func TestDrainedLooksAgain(t *testing.T) {
	p := startProxy(t, plain, "")
	c := p.dial(t)
	c.ask("/back", false)
	p.do(func() {
		p.w.DrainOver(0, false, nil)
		c.send(request("GET", "/back", "HTTP/1.1")) // the worker is not told before the next turn
		p.w.conns[0].drained()
	})
	if r, _ := c.reply("GET"); !r.Close {
		t.Error("the end is not announced")
	}
	c.ended()
	if n := p.silentClosed(); n != 0 {
		t.Errorf("%d counted", n)
	}
}

// TestAnnounceServesOn: under Announce new connections are served, and the silent
// ones stay; undone, all is as before.
func TestAnnounceServesOn(t *testing.T) {
	p := startProxy(t, plain, "")
	silent := p.dial(t)
	silent.ask("/back", false)
	p.do(func() {
		p.w.Announce(true, 0, false)
		if c := p.w.conns[0]; c.timing != timeIdle || c.timer.At() < p.loop.Now()+int64(time.Minute) {
			t.Errorf("the silent one is timed: %d, in %v", c.timing, time.Duration(c.timer.At()-p.loop.Now()))
		}
	})
	p.dial(t).ask("/back", true)
	p.do(func() { p.w.Announce(false, 0, false) })
	silent.ask("/back", false)
	silent.ask("/back", false)
}
