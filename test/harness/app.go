package harness

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// App is a backend that stands for an application server with sessions of its own.
// It echoes like NewEcho, and the request says what else its reply is to be:
//
//	Answer-With: Set-Cookie: a=b    a further header line; may be given several times
//	Answer-Status: 404 Not Found    in place of 200 OK
//	Answer-Early: 103 Early Hints   an interim reply before the final one
//	Answer-Hold: 1                  only after Release
//	Answer-Garbage: 1               bytes that are no HTTP, and the end of the connection
//	Answer-Nothing: 1               the end of the connection
type App struct {
	*Backend
	Name string // in X-Backend of its replies

	holding atomic.Int64
	mu      sync.Mutex
	gate    chan struct{} // closed and replaced
}

// NewApp starts an App on an address of its own.
func NewApp(t testing.TB, name string) *App {
	t.Helper()
	return NewAppAt(t, name, Addr(t))
}

// NewAppAt starts an App on a given address.
func NewAppAt(t testing.TB, name, addr string) *App {
	t.Helper()
	a := &App{Name: name, gate: make(chan struct{})}
	a.Backend = NewBackendAt(t, addr, a.serve)
	t.Cleanup(a.Release) // before the backend waits for its scripts
	return a
}

// Stop ends the application: connections to it are refused from then on.
func (a *App) Stop() {
	a.Release()
	a.Close()
}

// Holding is how many requests wait for Release.
func (a *App) Holding() int { return int(a.holding.Load()) }

// Release answers the requests that are held.
func (a *App) Release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.gate)
	a.gate = make(chan struct{})
}

func (a *App) serve(p *Peer) {
	for {
		head := p.Head()
		if head == "" {
			return
		}
		body, err := p.Body(head)
		if err != nil {
			return
		}
		if Field(head, "Answer-Hold") != "" {
			a.hold()
		}
		if Field(head, "Answer-Nothing") != "" {
			return
		}
		if Field(head, "Answer-Garbage") != "" {
			_ = p.Send("this is no HTTP\r\n\r\n")
			return
		}
		if p.Send(a.reply(head, body)) != nil {
			return
		}
	}
}

func (a *App) hold() {
	a.mu.Lock()
	gate := a.gate
	a.mu.Unlock()
	a.holding.Add(1)
	<-gate
	a.holding.Add(-1)
}

// reply is what the request asks for.
func (a *App) reply(head, body string) string {
	var b strings.Builder
	if early := Field(head, "Answer-Early"); early != "" {
		fmt.Fprintf(&b, "HTTP/1.1 %s\r\nLink: </style.css>; rel=preload\r\n\r\n", early)
	}
	status := Field(head, "Answer-Status")
	if status == "" {
		status = "200 OK"
	}
	content := head + body
	fmt.Fprintf(&b, "HTTP/1.1 %s\r\nX-Backend: %s\r\n", status, a.Name)
	if strings.HasPrefix(status, "101") || strings.HasPrefix(status, "204") { // RFC 9110 8.6: no length
		content = ""
	} else {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(content))
	}
	for _, line := range Fields(head, "Answer-With") {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	if !strings.HasPrefix(head, "HEAD ") {
		b.WriteString(content)
	}
	return b.String()
}

// Fields are the values of all fields of a raw head with that name, in order.
func Fields(head, name string) (values []string) {
	for line := range strings.SplitSeq(head, "\r\n") {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

// Refuse ends the listener of a backend and leaves its connections: from inside a
// script, where Close would wait for itself.
func (b *Backend) Refuse() { _ = b.ln.Close() }
