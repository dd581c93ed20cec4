package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"belay/internal/config"
	"belay/internal/eventloop"
)

// patience is the limit of every wait in these tests.
const patience = 10 * time.Second

// resolution is a running resolver with what it published.
type resolution struct {
	*Resolver
	t        *testing.T
	dir      string
	failures atomic.Uint64
	log      logged
	stop     context.CancelFunc
	sets     map[string]chan string
}

// logged keeps what was logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

// resolve starts a resolver that asks again after some milliseconds, unless o
// says otherwise, for these names at port 80.
func resolve(t *testing.T, o ResolverOptions, names ...string) *resolution {
	t.Helper()
	x := &resolution{t: t, dir: t.TempDir(), sets: make(map[string]chan string)}
	put := func(s *string, name string) {
		if *s == "" {
			*s = filepath.Join(x.dir, name)
		}
	}
	put(&o.ResolvConf, "resolv.conf")
	put(&o.Hosts, "hosts")
	if o.MinTTL == 0 {
		o.MinTTL, o.MaxTTL = 5*time.Millisecond, 10*time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = patience
	}
	o.InitialWait = patience
	o.Failures = &x.failures
	o.Log = slog.New(slog.NewTextHandler(&x.log, nil))
	x.Resolver = NewResolver(o)
	for _, n := range names {
		ch := make(chan string, 100)
		x.sets[n] = ch
		x.Watch(n, 80, func(a []eventloop.Address) { ch <- texts(a) })
	}
	ctx, stop := context.WithCancel(t.Context())
	x.stop = stop
	t.Cleanup(stop)
	x.Start(ctx)
	return x
}

func texts(list []eventloop.Address) string {
	var s []string
	for _, a := range list {
		s = append(s, a.AP.String())
	}
	return strings.Join(s, " ")
}

// next waits for what is published next.
func (x *resolution) next(name, want string) {
	x.t.Helper()
	select {
	case got := <-x.sets[name]:
		if got != want {
			x.t.Fatalf("%s: %s, want %s", name, got, want)
		}
	case <-time.After(patience):
		x.t.Fatalf("%s: nothing published, want %s; log: %s", name, want, x.log.text.String())
	}
}

// none is for when something else tells that nothing will come.
func (x *resolution) none(name string) {
	x.t.Helper()
	select {
	case got := <-x.sets[name]:
		x.t.Fatalf("%s: published %s", name, got)
	default:
	}
}

// until waits for a condition that other goroutines bring about.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// again waits until a name was asked for n times more.
func (s *server) again(t *testing.T, name string, n int) {
	t.Helper()
	for _, kind := range []string{"A", "AAAA"} {
		from := s.count(name, kind, "udp")
		until(t, "asking for "+name, func() bool { return s.count(name, kind, "udp") >= from+n })
	}
}

func TestResolverAnswers(t *testing.T) {
	var many []string
	var list []netip.AddrPort
	for i := range 100 {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		list = append(list, netip.AddrPortFrom(a, 80))
		many = append(many, fmt.Sprintf("many.test. 60 IN A %v", a))
	}
	long := strings.Trim(fmt.Sprint(list), "[]")
	for _, tt := range []struct {
		name, host string
		records    []string
		want       string
	}{
		{"OK A", "a.test", []string{"a.test. 60 IN A 192.0.2.1"}, "192.0.2.1:80"},
		{"OK AAAA", "a.test", []string{"a.test. 60 IN AAAA 2001:db8::1"}, "[2001:db8::1]:80"},
		{"OK both, in order", "a.test", []string{"a.test. 60 IN AAAA 2001:db8::1", "a.test. 60 IN A 192.0.2.2", "a.test. 60 IN A 192.0.2.1"},
			"192.0.2.1:80 192.0.2.2:80 [2001:db8::1]:80"},
		{"OK twice the same", "a.test", []string{"a.test. 60 IN A 192.0.2.1", "a.test. 60 IN A 192.0.2.1"}, "192.0.2.1:80"},
		{"OK upper case", "A.Test", []string{"a.test. 60 IN A 192.0.2.1"}, "192.0.2.1:80"},
		{"OK absolute name", "a.test.", []string{"a.test. 60 IN A 192.0.2.1"}, "192.0.2.1:80"},
		{"OK CNAME", "a.test", []string{"a.test. 60 IN CNAME b.test.", "b.test. 60 IN A 192.0.2.1"}, "192.0.2.1:80"},
		{"OK CNAME chain", "a.test", []string{
			"a.test. 60 IN CNAME b.test.", "b.test. 60 IN CNAME C.test.", "c.test. 60 IN CNAME d.test.",
			"d.test. 60 IN A 192.0.2.1", "d.test. 60 IN AAAA 2001:db8::1"}, "192.0.2.1:80 [2001:db8::1]:80"},
		{"OK too long for UDP", "many.test", many, long},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, tt.records...)
			x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}}, tt.host)
			x.next(tt.host, tt.want)
			if n := x.failures.Load(); n != 0 {
				t.Errorf("%d failures", n)
			}
			if tcp := s.count("many.test.", "A", "tcp") > 0; tcp != strings.HasPrefix(tt.name, "OK too long") {
				t.Errorf("asked by TCP: %v", tcp)
			}
		})
	}
}

func TestResolverCNAMELoopEnds(t *testing.T) {
	s := newServer(t, "a.test. 0 IN CNAME b.test.", "b.test. 0 IN CNAME a.test.")
	x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}}, "a.test")
	until(t, "failure", func() bool { return x.failures.Load() > 0 })
	x.none("a.test")
}

// What is in an answer but does not belong to the name is not believed.
func TestAddressesFollowsOnlyItsName(t *testing.T) {
	m := new(dns.Msg)
	for _, text := range []string{
		"evil.test. 1 IN A 192.0.2.66", "a.test. 300 IN CNAME b.test.", "b.test. 30 IN A 192.0.2.1",
		"b.test. 60 IN A 192.0.2.2", "b.test. 2 IN AAAA 2001:db8::1", "b.test. 3 IN TXT x",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	got, ttl, err := addresses(m, "A.test", dns.TypeA)
	if want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}; !slices.Equal(got, want) || ttl != 30*time.Second || err != nil {
		t.Errorf("%v for %v, %v", got, ttl, err)
	}
}

func TestResolverTTLBounds(t *testing.T) {
	r := NewResolver(ResolverOptions{MinTTL: 2 * time.Second, MaxTTL: time.Minute, ResolvConf: "/nonexistent"})
	for ttl, want := range map[time.Duration]time.Duration{
		0: 2 * time.Second, time.Second: 2 * time.Second, 30 * time.Second: 30 * time.Second, time.Hour: time.Minute,
	} {
		if got := r.publish(&watched{}, nil, ttl, nil); got != want {
			t.Errorf("TTL %v: asks again after %v, want %v", ttl, got, want)
		}
	}
	w := &watched{}
	last := time.Duration(0)
	for i := range 40 {
		got := r.publish(w, nil, 0, errNoName)
		if got < last || got < r.o.MinTTL || got > retryAfter {
			t.Errorf("failure %d: tries again after %v, before after %v", i, got, last)
		}
		last = got
	}
}

// An answer is used as long as its TTL says: between the bounds, and the lowest
// of the records'.
func TestResolverKeepsTTL(t *testing.T) {
	s := newServer(t, "a.test. 300 IN A 192.0.2.1", "a.test. 1 IN AAAA 2001:db8::1")
	x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}}, "a.test")
	addrs, ttl, err := x.lookup(t.Context(), "a.test", nil)
	if len(addrs) != 2 || ttl != time.Second || err != nil {
		t.Errorf("%v for %v, %v", addrs, ttl, err)
	}
}

func TestResolverPublishesAChangeOnce(t *testing.T) {
	s := newServer(t, "a.test. 0 IN A 192.0.2.1", "a.test. 0 IN A 192.0.2.2")
	x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}}, "a.test")
	x.next("a.test", "192.0.2.1:80 192.0.2.2:80")
	s.set(t, "a.test. 0 IN A 192.0.2.2", "a.test. 0 IN A 192.0.2.1") // another order is no change
	s.again(t, "a.test.", 3)
	x.none("a.test")
	s.set(t, "a.test. 0 IN A 192.0.2.3")
	x.next("a.test", "192.0.2.3:80")
	s.again(t, "a.test.", 3)
	x.none("a.test")
}

func TestResolverKeepsTheLastGoodAnswer(t *testing.T) {
	const name, both = "a.test", "192.0.2.1:80 [2001:db8::1]:80"
	for _, tt := range []struct {
		name   string
		code   int
		silent bool
	}{
		{"NXDOMAIN", dns.RcodeNameError, false},
		{"NODATA", dns.RcodeSuccess, false},
		{"SERVFAIL", dns.RcodeServerFailure, false},
		{"REFUSED", dns.RcodeRefused, false},
		{"silence", 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, "a.test. 0 IN A 192.0.2.1", "a.test. 0 IN AAAA 2001:db8::1")
			x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}, Timeout: 250 * time.Millisecond}, name)
			x.next(name, both)
			s.refuse("a.test.", tt.code)
			s.setSilent(tt.silent)
			from := x.failures.Load()
			until(t, "failures", func() bool { return x.failures.Load() >= from+3 })
			x.none(name)
			s.set(t, "a.test. 0 IN A 192.0.2.9")
			s.mu.Lock()
			clear(s.codes)
			s.silent = false
			s.mu.Unlock()
			x.next(name, "192.0.2.9:80")
			until(t, "log of the end", func() bool { return x.log.count("name resolved again") == 1 })
			if n := x.log.count("name not resolved"); n != 1 {
				t.Errorf("logged %d times", n)
			}
		})
	}
}

// One family that cannot be asked for keeps its addresses; one that has none
// any more loses them.
func TestResolverKeepsAFamilyThatFails(t *testing.T) {
	s := newServer(t, "a.test. 0 IN A 192.0.2.1", "a.test. 0 IN AAAA 2001:db8::1")
	x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}}, "a.test")
	x.next("a.test", "192.0.2.1:80 [2001:db8::1]:80")
	s.refuse("a.test. AAAA", dns.RcodeServerFailure)
	s.again(t, "a.test.", 3)
	x.none("a.test")
	s.set(t, "a.test. 0 IN A 192.0.2.2")
	x.next("a.test", "192.0.2.2:80 [2001:db8::1]:80")
	s.refuse("a.test. AAAA", dns.RcodeSuccess)
	x.next("a.test", "192.0.2.2:80")
}

func TestResolverAsksTheNextServer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		code   int
		silent bool
	}{
		{"silent", 0, true}, {"SERVFAIL", dns.RcodeServerFailure, false}, {"REFUSED", dns.RcodeRefused, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, second := newServer(t), newServer(t, "a.test. 60 IN A 192.0.2.1")
			first.setSilent(tt.silent)
			first.refuse("a.test.", tt.code)
			x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{first.addr, second.addr}, Timeout: 250 * time.Millisecond}, "a.test")
			x.next("a.test", "192.0.2.1:80")
			if first.count("a.test.", "A", "udp") == 0 {
				t.Error("the first was not asked")
			}
		})
	}
	t.Run("NXDOMAIN is an answer", func(t *testing.T) {
		first, second := newServer(t), newServer(t, "a.test. 60 IN A 192.0.2.1")
		x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{first.addr, second.addr}}, "a.test")
		until(t, "failure", func() bool { return x.failures.Load() > 0 })
		if second.count("a.test.", "A", "udp") != 0 {
			t.Error("the second was asked")
		}
	})
}

func TestResolverSearchList(t *testing.T) {
	s := newServer(t,
		"db.one.test. 60 IN A 192.0.2.1",
		"web.two.test. 60 IN A 192.0.2.2",
		"a.b. 60 IN A 192.0.2.3",
		"a.b.one.test. 60 IN A 192.0.2.4",
		"x.y.z. 60 IN A 192.0.2.5",
		"x.y.z.one.test. 60 IN A 192.0.2.6",
	)
	for _, tt := range []struct{ name, options, host, want, notAsked string }{
		{"first domain", "", "db", "192.0.2.1:80", "db."},
		{"second domain", "", "web", "192.0.2.2:80", "web."},
		{"as it is, with a dot", "", "a.b", "192.0.2.3:80", "a.b.one.test."},
		{"domain, with fewer dots than ndots", "options ndots:2", "a.b", "192.0.2.4:80", "a.b."},
		{"as it is, with ndots dots", "options ndots:2", "x.y.z", "192.0.2.5:80", "x.y.z.one.test."},
		{"absolute", "options ndots:5", "x.y.z.", "192.0.2.5:80", "x.y.z.one.test."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conf := write(t, filepath.Join(t.TempDir(), "resolv.conf"), "nameserver 192.0.2.53\nsearch one.test two.test\n"+tt.options+"\n")
			x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}, ResolvConf: conf, MinTTL: time.Hour, MaxTTL: time.Hour}, tt.host)
			before := s.count(tt.notAsked, "A", "udp")
			x.next(tt.host, tt.want)
			if s.count(tt.notAsked, "A", "udp") != before {
				t.Errorf("asked for %s", tt.notAsked)
			}
		})
	}
}

func TestResolverServersOfResolvConf(t *testing.T) {
	for _, tt := range []struct{ name, conf, want string }{
		{"two", "nameserver 192.0.2.53\nnameserver 2001:db8::53\n", "192.0.2.53:53 [2001:db8::53]:53"},
		{"none", "search example.com\n", "127.0.0.1:53"},
		{"no file", "", "127.0.0.1:53"},
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if tt.conf != "" {
			write(t, path, tt.conf)
		}
		if got := strings.Join(NewResolver(ResolverOptions{ResolvConf: path}).servers(), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestResolverHostsFile(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "hosts"), "# a comment\n192.0.2.1\tA.test alias # more\n2001:db8::1 a.test\nnonsense a.test\n192.0.2.9\n")
	s := newServer(t, "a.test. 0 IN A 192.0.2.99")
	x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}, Hosts: path}, "a.test", "ALIAS.")
	x.next("a.test", "192.0.2.1:80 [2001:db8::1]:80")
	x.next("ALIAS.", "192.0.2.1:80")
	if s.count("a.test.", "A", "udp") != 0 {
		t.Error("DNS was asked")
	}
	write(t, path, "192.0.2.2 a.test\n192.0.2.3 alias\n")
	x.next("a.test", "192.0.2.2:80")
	x.next("ALIAS.", "192.0.2.3:80")
	write(t, path, "192.0.2.4 alias\n") // a.test is DNS's now
	x.next("a.test", "192.0.2.99:80")
	x.next("ALIAS.", "192.0.2.4:80")
}

// A file of the same length put in the place of another within the resolution
// of the file system's clock is another file.
func TestHostsFileReplacedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	h := &hostsFile{path: path}
	for i := range 50 {
		want := netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})
		write(t, path, want.String()+" a\n")
		if got := h.lookup("a"); len(got) != 1 || got[0] != want {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

func TestResolverLocalhost(t *testing.T) {
	s := newServer(t)
	x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}}, "localhost", "a.LOCALHOST.")
	x.next("localhost", "127.0.0.1:80 [::1]:80")
	x.next("a.LOCALHOST.", "127.0.0.1:80 [::1]:80")
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) != 0 {
		t.Errorf("asked %v", s.asked)
	}
}

func TestResolverWaitInitial(t *testing.T) {
	s := newServer(t, "a.test. 60 IN A 192.0.2.1")
	x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}}, "a.test", "missing.test")
	x.WaitInitial(t.Context())
	if len(x.sets["a.test"]) != 1 || x.failures.Load() == 0 {
		t.Error("returned before every name was tried")
	}

	s.setSilent(true)
	x = resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}}, "a.test")
	x.o.InitialWait = time.Millisecond
	x.WaitInitial(t.Context()) // has a limit
	x.o.InitialWait = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x.WaitInitial(ctx)
	NewResolver(ResolverOptions{InitialWait: time.Hour}).WaitInitial(t.Context()) // nothing to wait for
}

// Goroutines end with the context and do not wait for a server that is silent.
func TestResolverEndsWithItsContext(t *testing.T) {
	for _, silent := range []bool{false, true} {
		s := newServer(t, "a.test. 0 IN A 192.0.2.1")
		s.setSilent(silent)
		x := resolve(t, ResolverOptions{Servers: []netip.AddrPort{s.addr}, Timeout: time.Hour}, "a.test", "missing.test")
		until(t, "a question", func() bool { return s.count("a.test.", "AAAA", "udp") > 0 })
		x.stop()
		until(t, "end of the goroutines", func() bool {
			buf := make([]byte, 1<<20)
			return !strings.Contains(string(buf[:runtime.Stack(buf, true)]), "(*Resolver)")
		})
		if x.log.count("a.test") != 0 {
			t.Errorf("logged the end: %s", x.log.text.String())
		}
	}
}

func TestClusterWatchesItsNames(t *testing.T) {
	s := newServer(t, "a.test. 60 IN A 192.0.2.1")
	c := New(&config.Cluster{Endpoints: []config.Endpoint{
		{ID: "v4", Host: "192.0.2.9", Port: 81, Weight: 1}, {ID: "v6", Host: "2001:db8::1", Port: 82, Weight: 1}, {ID: "unix", Unix: "/run/x", Weight: 1},
		{ID: "name", Host: "a.test", Port: 83, Weight: 1}, {ID: "again", Host: "a.test", Port: 84, Weight: 1},
	}})
	for i, want := range []string{
		"192.0.2.9:81 [192.0.2.9:81]", "[2001:db8::1]:82 [[2001:db8::1]:82]", "unix:/run/x [unix:/run/x]", "a.test:83 []", "a.test:84 []",
	} {
		e := c.Endpoints[i]
		if got := fmt.Sprintf("%s %v", e.Address(), e.Addresses()); got != want {
			t.Errorf("%s: %s, want %s", e.ID, got, want)
		}
	}
	r := NewResolver(ResolverOptions{Servers: []netip.AddrPort{s.addr}, InitialWait: patience, ResolvConf: "/nonexistent", Hosts: "/nonexistent"})
	c.Watch(r)
	if len(r.names) != 1 {
		t.Errorf("%d names are resolved, want 1", len(r.names))
	}
	r.Start(t.Context())
	r.WaitInitial(t.Context())
	for _, e := range c.Endpoints[3:] {
		if got, want := texts(e.Addresses()), fmt.Sprintf("192.0.2.1:%d", e.cfg.Port); got != want {
			t.Errorf("%s: %s, want %s", e.ID, got, want)
		}
	}
}
