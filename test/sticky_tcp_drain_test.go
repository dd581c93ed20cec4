package test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// secondHalf is a connection that says its server name when it is told to.
type secondHalf struct {
	net.Conn
	gate chan struct{}
}

func (c *secondHalf) Write(b []byte) (int, error) {
	<-c.gate
	return c.Conn.Write(b)
}

// A connection that the old process has, but whose server name comes only while that
// process drains, makes an entry that the new process keeps to; and so does an entry
// from before, and one that an operator changed in between.
func TestTCPStickyWhileDraining(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	cert := a.Issue(harness.Leaf{Name: "any", DNS: []string{"*.example"}})
	bySNI := "[cluster.back.persistence.table]\nname = \"clients\"\nkey = [{ sni = true }]\n"
	for how, tables := range map[string]string{
		"terminated": fmt.Sprintf("[listener.db.tls]\ncertificates = [%s]\n", pairOf(cert)),
		"passed":     "[[listener.db.chain]]\npassthrough = true\n",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newStickyTCP(t, 0, bySNI)
			s.tables = tables
			for i := range 3 {
				s.endpoints = append(s.endpoints, tcpServer(t, func(c *net.TCPConn) {
					var w net.Conn = c
					if how == "passed" {
						w = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert.Certificate}})
					}
					_, _ = io.WriteString(w, letter(i))
					_, _ = io.Copy(io.Discard, w)
				}))
			}
			s.open()
			const clients = 9
			name := func(when string, i int) string { return fmt.Sprintf("%s%d.example", when, i) }
			read := func(c *tls.Conn) string {
				t.Helper()
				defer c.Close()
				b := make([]byte, 1)
				if _, err := io.ReadFull(c, b); err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
			ask := func(name string) string {
				t.Helper()
				c, err := tlsDial(s.addr, names(a, name))
				if err != nil {
					t.Fatal(err)
				}
				return read(c)
			}
			home, seen := map[string]string{}, map[string]bool{}
			for i := range clients {
				home[name("before", i)] = ask(name("before", i))
			}
			var half []*secondHalf
			for range clients {
				c, err := harness.TryDial("", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				half = append(half, &secondHalf{c, make(chan struct{})})
			}
			harness.Eventually(t, patience, "all connections to be accepted", func() bool {
				n, _ := s.d.Metric("belay_connections")
				return n >= clients
			})
			s.d.HotRestart()
			for i, h := range half {
				close(h.gate)
				c := tls.Client(h, names(a, name("during", i)))
				home[name("during", i)] = read(c)
				seen[home[name("during", i)]] = true
			}
			harness.Eventually(t, patience, "the new process to know all", func() bool {
				n, _ := s.d.Metric("belay_table_entries", `table="clients"`)
				return n == 2*clients
			})
			if len(seen) < 2 {
				t.Errorf("all names are on %v", seen)
			}
			for n, want := range home {
				if got := ask(n); got != want {
					t.Errorf("%s went from %s to %s", n, want, got)
				}
			}
			s.d.HotRestart()
			for n, want := range home {
				if got := ask(n); got != want {
					t.Errorf("after one more hot restart %s went from %s to %s", n, want, got)
				}
			}
		})
	}
}

// What operators do to a table changes where the next connection goes, and not the
// one that is open.
func TestTCPStickyCommands(t *testing.T) {
	t.Parallel()
	s := newStickyTCP(t, 3, bySource).open()
	do := func(args ...string) string {
		t.Helper()
		out, err := belayctl(t, s.d, append([]string{"table"}, args...)...)
		if err != nil {
			t.Fatalf("%v: %v %s", args, err, out)
		}
		return out
	}
	const client = "127.6.13.200"
	if home := s.from(client); home == "" {
		t.Fatal("nobody serves")
	}
	for i, want := range []string{"A", "B", "C", "A"} {
		do("set", "clients", client, fmt.Sprint("back/e", i%3))
		if got := s.from(client); got != want {
			t.Errorf("set to %s, served by %q", want, got)
		}
	}
	open := harness.DialFrom(t, client, s.addr)
	if got := open.ReadN(1); got != "A" {
		t.Errorf("set to A, served by %q", got)
	}
	for i := range 6 {
		s.from(fmt.Sprintf("127.6.13.%d", i+10))
	}
	all := do("show", "clients", "--json")
	on := strings.Count(all, `"e1"`)
	if on == 0 || !strings.Contains(all, client) {
		t.Errorf("show: %s", all)
	}
	do("clear", "clients", "--endpoint", "back/e0")
	if left := do("show", "clients", "--json"); strings.Contains(left, client) || strings.Contains(left, `"e0"`) || strings.Count(left, `"e1"`) != on {
		t.Errorf("entries of e0 cleared: %s", left)
	}
	if n, _ := s.d.Metric("belay_table_entries", `table="clients"`); n == 0 || n >= 7 {
		t.Errorf("%v entries counted", n)
	}
	do("set", "clients", client, "back/e2")
	s.d.HotRestart()
	if got := s.from(client); got != "C" {
		t.Errorf("set to C before a hot restart, served by %q", got)
	}
	do("clear", "clients", "--key", client)
	seen := map[string]bool{}
	for range 12 {
		seen[s.from(client)] = true
		do("clear", "clients", "--key", client)
	}
	if len(seen) < 2 {
		t.Errorf("without an entry the client is on %v each time", seen)
	}
}

// A client whose server was taken out of the configuration is served elsewhere, and
// stays there when the server is back.
func TestTCPStickyServerTakenOut(t *testing.T) {
	t.Parallel()
	s := newStickyTCP(t, 3, bySource).open()
	client := func(i int) string { return fmt.Sprintf("127.6.14.%d", i+1) }
	home := map[string]string{}
	for i := range 9 {
		home[client(i)] = s.from(client(i))
	}
	gone := fmt.Sprintf("{ id = \"e1\", address = %q }, ", s.servers[1].Addr)
	rewrite(t, s.d, gone, "")
	s.d.HotRestart()
	for i := range 9 {
		was := home[client(i)]
		now := s.from(client(i))
		switch {
		case was != "B" && now != was:
			t.Errorf("%s went from %s to %s", client(i), was, now)
		case was == "B" && (now == "B" || now == ""):
			t.Errorf("%s is on %q, which was taken out", client(i), now)
		case was == "B" && s.from(client(i)) != now:
			t.Errorf("%s does not stay on %s", client(i), now)
		}
		home[client(i)] = now
	}
	rewrite(t, s.d, "{ id = \"e2\"", gone+"{ id = \"e2\"")
	s.d.HotRestart()
	for i := range 9 {
		if now := s.from(client(i)); now != home[client(i)] {
			t.Errorf("B is back: %s went from %s to %s", client(i), home[client(i)], now)
		}
	}
}
