package test

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"belay/test/harness"
)

// stay is a session that a load uses over and over.
type stay struct {
	path   string // says which listener's route it takes
	header string // what the client brings
	at     string // where it belongs
}

// visitor is a client of a load. It has one connection as long as belay keeps it, or
// one for each request.
type visitor struct {
	addr  string
	fresh bool
	nc    net.Conn
	r     *bufio.Reader
}

// ask does a request on the visitor's connection.
func (u *visitor) ask(k *stay) (*harness.Answer, error) {
	if u.nc == nil {
		nc, err := harness.TryDial("", u.addr)
		if err != nil {
			return nil, err
		}
		u.nc, u.r = nc, bufio.NewReader(nc)
	}
	headers := []string{k.header}
	if u.fresh {
		headers = append(headers, "Connection: close")
	}
	a, err := harness.Exchange(u.nc, u.r, harness.Request("GET", k.path, "a", headers...))
	if err != nil || a.Close || u.fresh {
		u.close()
	}
	return a, err
}

func (u *visitor) close() {
	if u.nc != nil {
		_ = u.nc.Close()
		u.nc = nil
	}
}

// begin is the first request of a session.
func (u *visitor) begin(k *stay) error {
	a, err := u.ask(k)
	if err != nil {
		return err
	}
	if a.Status != 200 {
		return fmt.Errorf("%s: status %d", k.path, a.Status)
	}
	k.at = a.Backend()
	if c := a.Cookies("SRV"); len(c) == 1 {
		k.header = "Cookie: SRV=" + value(c[0])
	}
	return nil
}

// again is a later one.
func (u *visitor) again(k *stay) error {
	a, err := u.ask(k)
	switch {
	case err != nil:
		return err
	case a.Status != 200:
		return fmt.Errorf("%s: status %d", k.path, a.Status)
	case a.Backend() != k.at:
		return fmt.Errorf("%s %.20s: a session of %s is on %s", k.path, k.header, k.at, a.Backend())
	case len(a.Header.Values("Set-Cookie")) > 0:
		return fmt.Errorf("%s: a session that stays gets %q", k.path, a.Header.Values("Set-Cookie"))
	}
	return nil
}

// bothModes is a shop whose route keeps sessions by the cookie, and under /table by
// a stick table of the header X-User.
func bothModes(t *testing.T) *shop {
	t.Helper()
	s := newShop(t, 4)
	s.routes = "[[listener.web.route]]\npath_prefix = \"/table\"\ncluster = \"back\"\n" +
		"[listener.web.route.persistence.table]\nname = \"users\"\nkey = [{ header = \"X-User\" }]\n"
	s.more = "[table.users]\n"
	return s
}

func cookieSession() *stay { return &stay{path: "/cookie", header: "X-None: 1"} }
func tableSession(n int64) *stay {
	return &stay{path: "/table", header: fmt.Sprintf("X-User: user%d", n)}
}

// 1000 sessions by cookies and 1000 in a stick table over 20 hot restarts under
// load, while more begin: none is moved and no request fails.
func TestPersistHotRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	const (
		users    = 10
		each     = 100 // sessions of a user, of either mode
		restarts = 20
		between  = 60 // requests of each user between two restarts, at least
	)
	s := bothModes(t).open()
	var stop atomic.Bool
	var wg sync.WaitGroup
	loads := make([]load, users)
	for i := range loads {
		l := &loads[i]
		l.visitor = visitor{addr: s.bind, fresh: i%2 == 0}
		l.names = int64(i) * 1e6
		wg.Go(func() {
			defer l.close()
			if err := l.run(&stop, each); err != nil {
				t.Errorf("user %d: %v", i, err)
			}
		})
	}
	defer func() { stop.Store(true); wg.Wait() }()
	await := func(what string, done func(*load) int64, more int64) {
		t.Helper()
		goals := make([]int64, users)
		for i := range loads {
			goals[i] = done(&loads[i]) + more
		}
		for i, goal := range goals {
			harness.Eventually(t, 30*time.Second, fmt.Sprintf("user %d: %s", i, what), func() bool {
				return done(&loads[i]) >= goal || t.Failed()
			})
		}
	}
	rounds := func(l *load) int64 { return l.rounds.Load() }
	await("sessions that begin", rounds, 1)
	for range restarts {
		await("requests", func(l *load) int64 { return l.requests.Load() }, between)
		if t.Failed() {
			return
		}
		s.restart()
	}
	await("every session after the last restart", rounds, 2)
	stop.Store(true)
	wg.Wait()
	var requests, used int64
	for i := range loads {
		requests, used = requests+loads[i].requests.Load(), used+loads[i].rounds.Load()
	}
	t.Logf("%d requests, every session used %d times, %d restarts", requests, used/users, restarts)
}

// load is a visitor with many sessions.
type load struct {
	visitor
	list             []*stay
	names            int64 // of the next session in the table
	requests, rounds atomic.Int64
}

// start begins a session of either mode.
func (l *load) start() error {
	l.names++
	for _, k := range []*stay{cookieSession(), tableSession(l.names)} {
		if err := l.begin(k); err != nil {
			return err
		}
		l.list = append(l.list, k)
		l.requests.Add(1)
	}
	return nil
}

// run begins sessions and uses them in turn until it is told to stop. One of either
// mode ends after each round, and another begins.
func (l *load) run(stop *atomic.Bool, each int) error {
	for range each {
		if err := l.start(); err != nil {
			return err
		}
	}
	for !stop.Load() {
		for _, k := range l.list {
			if err := l.again(k); err != nil {
				return err
			}
			l.requests.Add(1)
			time.Sleep(time.Millisecond) // a pace that leaves the daemon some of two CPUs
		}
		l.rounds.Add(1)
		l.list = l.list[2:]
		if err := l.start(); err != nil {
			return err
		}
	}
	return nil
}

// What the old process had in its table when a hot restart came, and what it learns
// while it drains, the new one knows.
func TestPersistTableWhileDraining(t *testing.T) {
	t.Parallel()
	s := bothModes(t).open()
	const sessions = 100
	var held []*visitor // connections of the old process, one for each session to come
	for range sessions {
		u := &visitor{addr: s.bind}
		defer u.close()
		if err := u.begin(&stay{path: "/cookie", header: "X-None: 1"}); err != nil {
			t.Fatal(err)
		}
		held = append(held, u)
	}
	now := &visitor{addr: s.bind, fresh: true}
	var list []*stay
	begin := func(u *visitor) {
		k := tableSession(int64(len(list)))
		if err := u.begin(k); err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	for range sessions {
		begin(now)
	}
	s.restart()
	for _, u := range held {
		if u.nc == nil {
			t.Fatal("a connection ended before the restart")
		}
		begin(u)
	}
	for range sessions { // and in the new process meanwhile
		begin(now)
	}
	lost := 0
	for _, k := range list {
		if err := now.again(k); err != nil {
			lost++
			t.Log(err)
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d sessions lost", lost, len(list))
	}
}
