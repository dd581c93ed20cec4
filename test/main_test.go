// Package test proves the sentences of belay's documentation against the real
// daemon: it builds belayd, runs it, and talks to it over sockets.
package test

import (
	"fmt"
	"strings"
	"testing"

	"belay/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// site writes the configuration that most tests need: one listener "web" and
// one cluster "back". Each text is TOML put in its place.
type site struct {
	addr      string // of the listener
	listener  string // keys of [listener.web]
	tables    string // further tables below [listener.web]
	routes    string // complete [[listener.web.route]] elements before the last one
	route     string // keys of the last route, which goes to the cluster
	cluster   string // keys of [cluster.back]
	endpoints []string
	more      string // further tables
}

func (s site) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[listener.web]\naddress = %q\n%s\n%s\n%s\n", s.addr, s.listener, s.tables, s.routes)
	if len(s.endpoints) > 0 {
		fmt.Fprintf(&b, "[[listener.web.route]]\ncluster = \"back\"\n%s\n", s.route)
		fmt.Fprintf(&b, "[cluster.back]\n%s\n%s\n", endpoints(s.endpoints...), s.cluster)
	}
	b.WriteString(s.more)
	return b.String()
}

// endpoints writes the key endpoints; an element may carry a weight: "addr*3".
func endpoints(addrs ...string) string {
	var list []string
	for i, a := range addrs {
		addr, weight, ok := strings.Cut(a, "*")
		if strings.HasPrefix(addr, "/") {
			addr = "unix:" + addr
		}
		e := fmt.Sprintf("{ id = \"e%d\", address = %q", i, addr)
		if ok {
			e += ", weight = " + weight
		}
		list = append(list, e+" }")
	}
	return "endpoints = [" + strings.Join(list, ", ") + "]"
}

// serve starts a daemon for the site on a fresh address unless it has one.
func serve(t *testing.T, s *site, opts ...harness.Options) *harness.Daemon {
	t.Helper()
	if s.addr == "" {
		s.addr = harness.Addr(t)
	}
	return harness.Start(t, s.String(), opts...)
}

// front starts a daemon before one echo backend and returns the address to talk to.
func front(t *testing.T) (string, *harness.Daemon) {
	t.Helper()
	s := &site{endpoints: []string{harness.NewEcho(t, "a").Addr}}
	d := serve(t, s)
	return s.addr, d
}

// want fails the test unless a string contains every part.
func want(t *testing.T, s string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(s, p) {
			t.Errorf("lacks %q:\n%s", p, s)
		}
	}
}

// wantNot fails the test if a string contains one of the parts.
func wantNot(t *testing.T, s string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if strings.Contains(s, p) {
			t.Errorf("has %q:\n%s", p, s)
		}
	}
}

// wantStatus fails the test at once unless a reply has the status.
func wantStatus(t *testing.T, r *harness.Reply, status int) {
	t.Helper()
	if r.Status != status {
		t.Fatalf("status %d, want %d; body %.300q", r.Status, status, r.Body)
	}
}

// lines are the lines of a text that are not empty.
func lines(text string) (list []string) {
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" {
			list = append(list, l)
		}
	}
	return list
}

func containsAny(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}
