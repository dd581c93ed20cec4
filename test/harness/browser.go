package harness

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Browser is a client that keeps the cookies it is given, as a browser does for
// one host, and sends them with every request. Each request has a connection of
// its own. Its methods return errors, since what goes wrong may be what a test
// wants to know of a proxy.
type Browser struct {
	Addr   string
	Source string                              // address to come from; "": any
	Jar    []string                            // "name=value" in the order they came
	Moved  []string                            // backends that answered, without repetitions in a row
	Dial   func(addr string) (net.Conn, error) // nil: TryDial from Source
}

// Answer is what a browser got for a request.
type Answer struct {
	*Reply
	Interim []*Reply // before the final reply
	Seen    string   // the request's head as the backend had it; "" if none answered
}

// Backend is who answered, "" if it was the proxy itself.
func (a *Answer) Backend() string { return a.Header.Get("X-Backend") }

// Cookies are the Set-Cookie lines of the reply that set a name.
func (a *Answer) Cookies(name string) (lines []string) { return cookiesOf(a.Reply, name) }

func cookiesOf(r *Reply, name string) (lines []string) {
	for _, l := range r.Header.Values("Set-Cookie") {
		if strings.HasPrefix(l, name+"=") {
			lines = append(lines, l)
		}
	}
	return lines
}

// Get does a GET; headers are whole lines.
func (b *Browser) Get(target string, headers ...string) (*Answer, error) {
	return b.Do("GET", target, "", headers...)
}

// Do does a request with a body.
func (b *Browser) Do(method, target, body string, headers ...string) (*Answer, error) {
	a, err := b.Send(method, target, body, headers...)
	if err != nil {
		return nil, err
	}
	b.Keep(a)
	return a, nil
}

// Send is Do without keeping what the reply brings: for requests at a time.
func (b *Browser) Send(method, target, body string, headers ...string) (*Answer, error) {
	if len(b.Jar) > 0 {
		headers = append(headers, "Cookie: "+strings.Join(b.Jar, "; "))
	}
	if body != "" {
		headers = append(headers, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	request := Request(method, target, "a.example", append(headers, "Connection: close")...) + body
	dial := b.Dial
	if dial == nil {
		dial = func(addr string) (net.Conn, error) { return TryDial(b.Source, addr) }
	}
	nc, err := dial(b.Addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = nc.Close() }()
	return Exchange(nc, bufio.NewReader(nc), request)
}

// Keep takes over the cookies of an answer and notes who answered.
func (b *Browser) Keep(a *Answer) {
	for _, r := range append(a.Interim, a.Reply) { // a browser takes them from either
		for _, l := range r.Header.Values("Set-Cookie") {
			b.keep(l)
		}
	}
	if name := a.Backend(); name != "" && (len(b.Moved) == 0 || b.Moved[len(b.Moved)-1] != name) {
		b.Moved = append(b.Moved, name)
	}
}

func (b *Browser) keep(line string) {
	pair, attributes, _ := strings.Cut(line, ";")
	name, value, _ := strings.Cut(pair, "=")
	at := len(b.Jar)
	for i, c := range b.Jar {
		if strings.HasPrefix(c, name+"=") {
			at = i
		}
	}
	gone := value == "" || strings.Contains(strings.ToLower(attributes), "max-age=0")
	switch {
	case gone && at < len(b.Jar):
		b.Jar = append(b.Jar[:at], b.Jar[at+1:]...)
	case gone:
	case at < len(b.Jar):
		b.Jar[at] = pair
	default:
		b.Jar = append(b.Jar, pair)
	}
}

// Cookie is the value of a cookie in the jar, "" if it is not there.
func (b *Browser) Cookie(name string) string {
	for _, c := range b.Jar {
		if v, ok := strings.CutPrefix(c, name+"="); ok {
			return v
		}
	}
	return ""
}

// Forget empties the jar.
func (b *Browser) Forget() { b.Jar = nil }

// Ask sends a raw request on a connection of its own and reads its replies.
func Ask(addr, request string) (*Answer, error) {
	nc, err := TryDial("", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = nc.Close() }()
	return Exchange(nc, bufio.NewReader(nc), request)
}

// Exchange sends a raw request on an open connection and reads its replies.
func Exchange(nc net.Conn, r *bufio.Reader, request string) (*Answer, error) {
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, request); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	method, _, _ := strings.Cut(request, " ")
	c := &Conn{Conn: nc, r: r}
	a := &Answer{}
	for {
		reply, err := c.read(method)
		if err != nil {
			return nil, fmt.Errorf("read the reply: %w", err)
		}
		if reply.Status >= 200 || reply.Status == http.StatusSwitchingProtocols {
			a.Reply = reply
			break
		}
		a.Interim = append(a.Interim, reply)
	}
	if a.Backend() != "" {
		a.Seen = a.Body
	}
	return a, nil
}

// MustGet is Get for tests that do not expect an error.
func (b *Browser) MustGet(t testing.TB, target string, headers ...string) *Answer {
	t.Helper()
	a, err := b.Get(target, headers...)
	if err != nil {
		t.Fatalf("GET %s: %v", target, err)
	}
	return a
}
