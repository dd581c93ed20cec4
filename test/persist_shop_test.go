package test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"belay/test/harness"
)

// calmRestart is for tests of what is kept over a hot restart, not of its times: a
// busy machine is no fault.
var calmRestart = strings.Replace(patient, `call_time = "2s"`, `call_time = "10s"`, 1)

// shop is a belay before applications e0, e1 …, which keeps sessions in the cookie
// SRV unless a test says otherwise. Its fields may be changed before open, and
// between two restarts.
type shop struct {
	t       *testing.T
	members []member
	apps    map[string]*harness.App

	listener string // keys of [listener.web]
	tables   string // further tables of it
	routes   string // complete routes before the last one
	route    string // keys of the last route, which goes to the cluster
	cluster  string // keys of [cluster.back]
	policy   string // keys of [cluster.back.persistence]
	cookie   string // keys of [cluster.back.persistence.cookie] beside the name
	modes    string // in place of that table: other modes
	keys     string // keys of [persistence]
	more     string // further tables

	bind string
	d    *harness.Daemon
	pid  int // of the process that serves
	old  int // of the one before, which may drain
}

// newShop starts the applications.
func newShop(t *testing.T, n int) *shop {
	t.Helper()
	s := &shop{t: t, apps: map[string]*harness.App{}, bind: harness.Addr(t)}
	s.keys = fmt.Sprintf("directory = %q", harness.TempDir(t))
	for i := range n {
		s.add(fmt.Sprintf("e%d", i))
	}
	return s
}

// add starts an application more.
func (s *shop) add(id string) {
	s.t.Helper()
	a := harness.NewApp(s.t, id)
	s.apps[id] = a
	s.members = append(s.members, member{id: id, addr: a.Addr, weight: 1})
}

// drop takes a server out of the configuration.
func (s *shop) drop(id string) {
	s.members = slices.DeleteFunc(s.members, func(m member) bool { return m.id == id })
}

// edit is the server of an id.
func (s *shop) edit(id string) *member {
	return &s.members[slices.IndexFunc(s.members, func(m member) bool { return m.id == id })]
}

func (s *shop) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[listener.web]\naddress = %q\n%s\n%s\n%s\n", s.bind, s.listener, s.tables, s.routes)
	fmt.Fprintf(&b, "[[listener.web.route]]\ncluster = \"back\"\n%s\n[cluster.back]\nendpoints = [", s.route)
	for _, m := range s.members {
		fmt.Fprintf(&b, "\n  { id = %q, address = %q, weight = %d, generation = %d },", m.id, m.addr, m.weight, m.generation)
	}
	fmt.Fprintf(&b, "\n]\n%s\n[cluster.back.persistence]\n%s\n", s.cluster, s.policy)
	if s.modes != "" {
		b.WriteString(s.modes + "\n")
	} else {
		name := "name = \"SRV\"\n"
		if strings.Contains(s.cookie, "name = ") {
			name = ""
		}
		fmt.Fprintf(&b, "[cluster.back.persistence.cookie]\n%s%s\n", name, s.cookie)
	}
	fmt.Fprintf(&b, "[persistence]\n%s\n", s.keys)
	if !strings.Contains(s.more, "[hot_restart]") {
		b.WriteString(calmRestart)
	}
	return b.String() + s.more
}

// open starts belay.
func (s *shop) open(opts ...harness.Options) *shop {
	s.t.Helper()
	s.d = harness.Start(s.t, s.config(), opts...)
	s.pid = s.d.PID()
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Log(s.d.Hooks())
		}
	})
	return s
}

// restart is a hot restart with the configuration as it is now.
func (s *shop) restart() {
	s.t.Helper()
	s.rewrite()
	s.old, s.pid = s.pid, s.d.HotRestart().PID
}

// rewrite replaces the configuration file, but for what the harness put in front.
func (s *shop) rewrite() {
	s.t.Helper()
	data, err := os.ReadFile(s.d.Config)
	if err != nil {
		s.t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(data), "[listener.web]")
	harness.WriteFile(s.t, s.d.Dir, "belay.toml", before+s.config())
}

// browser is a client that comes for the first time.
func (s *shop) browser() *harness.Browser { return &harness.Browser{Addr: s.bind} }

// paths makes each request known by its path in the access log.
var paths atomic.Int64

func newPath() string { return fmt.Sprintf("/r%d", paths.Add(1)) }

// visit is a request that a server has to answer with status 200.
func (s *shop) visit(b *harness.Browser, headers ...string) *harness.Answer {
	s.t.Helper()
	a := b.MustGet(s.t, newPath(), headers...)
	wantStatus(s.t, a.Reply, 200)
	return a
}

// told is visit, and wants the log to say what was found and done.
func (s *shop) told(b *harness.Browser, found, done string, headers ...string) *harness.Answer {
	s.t.Helper()
	path := newPath()
	a := b.MustGet(s.t, path, headers...)
	s.says(path, found, done)
	return a
}

// says wants the log to say of a path what was found and done.
func (s *shop) says(path, found, done string) {
	s.t.Helper()
	r := s.d.WaitPath(path)
	if r.Str("persistence") != found || r.Str("persistence_outcome") != done {
		s.t.Errorf("%s: persistence %q, %q; want %q, %q", path, r.Str("persistence"), r.Str("persistence_outcome"), found, done)
	}
}

// pinned is a browser with a session on a server.
func (s *shop) pinned(id string) *harness.Browser {
	s.t.Helper()
	for range 60 {
		b := s.browser()
		if s.visit(b).Backend() == id {
			return b
		}
	}
	s.t.Fatalf("60 sessions, and none on %s", id)
	return nil
}

// stays wants a session's next requests on a server, without a cookie.
func (s *shop) stays(b *harness.Browser, id string, headers ...string) {
	s.t.Helper()
	for range 4 {
		a := s.visit(b, headers...)
		if a.Backend() != id {
			s.t.Fatalf("a session of %s was sent to %s", id, a.Backend())
		}
		if c := a.Cookies("SRV"); len(c) > 0 {
			s.t.Errorf("a session that stays gets %q", c)
		}
	}
}

// one is the only Set-Cookie line of a name in a reply.
func one(t *testing.T, a *harness.Answer, name string) string {
	t.Helper()
	c := a.Cookies(name)
	if len(c) != 1 {
		t.Fatalf("%d cookies %s in a reply: %q", len(c), name, a.Header.Values("Set-Cookie"))
	}
	return c[0]
}

// counts wants the counters to have reached what the requests so far came to.
func (s *shop) counts(metric, label string, wanted map[string]float64) {
	s.t.Helper()
	for name, n := range wanted {
		harness.Eventually(s.t, patience, fmt.Sprintf("%s of %s to be %v", metric, name, n), func() bool {
			got, _ := s.d.Metric(metric, fmt.Sprintf("%s=%q", label, name))
			return got == n
		})
	}
}
