package test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// A handshake that has begun and does not go on ends when timeouts.handshake says,
// however much the client has said and whether it takes what it is sent.
func TestTLSStalledHandshakes(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	s, d := mutual(t, a, clientTable(a, ""))
	const n = 30
	ended := make(chan error, 2*n)
	wait := func(c net.Conn) {
		_, err := io.Copy(io.Discard, c)
		ended <- err
	}
	hello := recordedHello(t, "a.example")
	began := time.Now()
	for range n {
		whole, more, dumb := dialRaw(t, s.addr), dialRaw(t, s.addr), dialRaw(t, s.addr)
		_, _ = whole.Write(hello)
		go wait(whole)
		_, _ = more.Write(append(hello[:len(hello):len(hello)], "\x14\x03\x03\x00\x01\x01\x17\x03\x03\x40"...)) // half a record
		go wait(more)
		_ = dumb.SetReadBuffer(1)
		_, _ = dumb.Write(hello) // and never a read
	}
	for range 2 * n {
		if err := <-ended; err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatal("a handshake is open after all patience")
		}
	}
	if took := time.Since(began); took < 450*time.Millisecond {
		t.Errorf("the last ended after %v", took)
	}
	wantFailure(t, d, "timeout", 3*n)
	if open, _ := d.Metric("belay_handshakes_open"); open != 0 {
		t.Errorf("%v handshakes are open", open)
	}
}

// What breaks the protocol in the middle of a handshake ends it at once, and is
// counted as the client's doing.
func TestTLSBrokenHandshakes(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n", routes: fmt.Sprintf(respond, "x")}
	d := serve(t, s)
	hello := string(recordedHello(t, "a.example"))
	for name, sent := range map[string]string{
		"another hello":        hello + hello,
		"sealed nonsense":      hello + "\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x20" + strings.Repeat("x", 32),
		"a record too long":    hello + "\x17\x03\x03\xff\xff",
		"a clear alert":        hello + "\x15\x03\x03\x00\x02\x02\x28",
		"no record":            hello + "GET / HTTP/1.1\r\n\r\n",
		"a key exchange early": hello + "\x16\x03\x03\x00\x04\x10\x00\x00\x00",
	} {
		before, _ := d.Metric("belay_listener_handshake_failures_total")
		c := dialRaw(t, s.addr)
		_, _ = io.WriteString(c, sent)
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: it is still open", name)
		}
		harness.Eventually(t, patience, name+" is counted", func() bool {
			n, _ := d.Metric("belay_listener_handshake_failures_total")
			return n == before+1
		})
	}
	for _, reason := range []string{"timeout", "internal"} {
		if n, _ := d.Metric("belay_listener_handshake_failures_total", `reason="`+reason+`"`); n != 0 {
			t.Errorf("%v are counted as %s", n, reason)
		}
	}
}

// Handshakes that hang do not hold up a stop; a process that was replaced waits for
// them, no longer than timeouts.handshake.
func TestTLSStopAmidHandshakes(t *testing.T) {
	t.Parallel()
	hello := recordedHello(t, "a.example")
	hanging := func(limit string) *harness.Daemon {
		t.Helper()
		s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n[listener.web.timeouts]\nhandshake = \"" + limit + "\"\n", routes: fmt.Sprintf(respond, "x"), more: patient}
		d := serve(t, s)
		for _, part := range [][]byte{nil, hello[:100], hello} {
			_, _ = dialRaw(t, s.addr).Write(part)
		}
		harness.Eventually(t, patience, "three hang", func() bool {
			n, _ := d.Metric("belay_handshakes_open")
			return n == 3
		})
		return d
	}
	d := hanging("3s")
	first := d.PID()
	d.HotRestart()
	ended(t, first)
	if n, _ := d.Metric("belay_listener_handshake_failures_total", `reason="timeout"`); n != 3 {
		t.Errorf("%v of those of the old process ended at the timeout, want 3", n)
	}
	d = hanging("60s")
	began := time.Now()
	d.Stop()
	if took := time.Since(began); took > 8*time.Second { // stop_time is 10s
		t.Errorf("the stop took %v", took)
	}
}
