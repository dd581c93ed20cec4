package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"belay/internal/eventloop"
)

// ResolverOptions are a Resolver's settings.
type ResolverOptions struct {
	Servers        []netip.AddrPort // default: those of ResolvConf
	MinTTL, MaxTTL time.Duration    // an answer is used at least and at most so long; default 1s and 1m
	Timeout        time.Duration    // one query to one server; default 2s
	InitialWait    time.Duration    // WaitInitial's limit
	ResolvConf     string           // default /etc/resolv.conf
	Hosts          string           // default /etc/hosts
	Log            *slog.Logger
	Failures       *atomic.Uint64 // counts look-ups without an answer; may be nil
}

// Resolver keeps the addresses of names. Every name has a goroutine that asks
// again when the answer's TTL has passed; until there is a better answer the
// last good one stays, however old.
type Resolver struct {
	o       ResolverOptions
	conf    *dns.ClientConfig
	hosts   hostsFile
	names   map[string]*watched
	initial sync.WaitGroup

	mu   sync.Mutex
	good map[string][]netip.Addr // the last good answers; guarded by mu
}

// watched is one name with those who want its addresses.
type watched struct {
	host     string
	sinks    []sink
	last     []netip.Addr // what was published; its goroutine only
	failing  bool
	failures int // in a row
	seeded   bool
}

type sink struct {
	port uint16
	set  func([]eventloop.Address)
}

// NewResolver makes a resolver that asks nothing before Start.
func NewResolver(o ResolverOptions) *Resolver {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.MinTTL, time.Second)
	def(&o.MaxTTL, time.Minute)
	def(&o.Timeout, 2*time.Second)
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Hosts == "" {
		o.Hosts = "/etc/hosts"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Resolver{o: o, names: make(map[string]*watched), hosts: hostsFile{path: o.Hosts}}
	conf, err := dns.ClientConfigFromFile(o.ResolvConf)
	if err != nil {
		conf = &dns.ClientConfig{Servers: []string{"127.0.0.1"}, Port: "53", Ndots: 1}
	}
	if len(conf.Servers) == 0 { // resolv.conf(5): then it is the local machine's
		conf.Servers = []string{"127.0.0.1"}
	}
	r.conf = conf
	return r
}

// Watch has set called with the addresses of host, now or when they are known,
// and whenever they change. It must be called before Start.
func (r *Resolver) Watch(host string, port uint16, set func([]eventloop.Address)) {
	w := r.names[host]
	if w == nil {
		w = &watched{host: host}
		r.names[host] = w
	}
	w.sinks = append(w.sinks, sink{port, set})
}

// Start begins to resolve; it ends with ctx.
func (r *Resolver) Start(ctx context.Context) {
	for _, w := range r.names {
		if !w.seeded {
			r.initial.Add(1)
		}
		go r.keep(ctx, w)
	}
}

// WaitInitial waits until every name without an answer from Seed was tried once,
// at most InitialWait.
func (r *Resolver) WaitInitial(ctx context.Context) {
	if len(r.names) == 0 {
		return
	}
	tried := make(chan struct{})
	go func() {
		r.initial.Wait()
		close(tried)
	}()
	limit := time.NewTimer(r.o.InitialWait)
	defer limit.Stop()
	select {
	case <-tried:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// retryAfter is how soon a failed look-up is tried again at the latest; the first
// time it is MinTTL, then twice that, and so on.
const retryAfter = 5 * time.Second

// keep is one name's goroutine.
func (r *Resolver) keep(ctx context.Context, w *watched) {
	first := !w.seeded
	for {
		addrs, ttl, err := r.lookup(ctx, w.host, w.last)
		if ctx.Err() == nil {
			ttl = r.publish(w, addrs, ttl, err)
		}
		if first {
			first = false
			r.initial.Done()
		}
		if ctx.Err() != nil {
			return
		}
		timer := time.NewTimer(ttl)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// publish hands a changed answer on and says when to ask again. Trouble is
// logged when it begins and when it ends.
func (r *Resolver) publish(w *watched, addrs []netip.Addr, ttl time.Duration, err error) time.Duration {
	if err != nil {
		if r.o.Failures != nil {
			r.o.Failures.Add(1)
		}
		if !w.failing {
			w.failing = true
			r.o.Log.Warn("name not resolved", "name", w.host, "error", err, "kept", len(w.last))
		}
		wait := r.o.MinTTL << min(w.failures, 16)
		w.failures++
		return min(wait, max(retryAfter, r.o.MinTTL))
	}
	w.failures = 0
	if w.failing {
		w.failing = false
		r.o.Log.Info("name resolved again", "name", w.host)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	if !slices.Equal(addrs, w.last) {
		r.hand(w, addrs)
	}
	return min(max(ttl, r.o.MinTTL), r.o.MaxTTL)
}

// hand gives the addresses to everybody who wants them, with their ports.
func (r *Resolver) hand(w *watched, addrs []netip.Addr) {
	w.last = addrs
	r.mu.Lock()
	if r.good == nil {
		r.good = make(map[string][]netip.Addr)
	}
	r.good[w.host] = addrs
	r.mu.Unlock()
	for _, s := range w.sinks {
		list := make([]eventloop.Address, len(addrs))
		for i, a := range addrs {
			list[i] = eventloop.Address{AP: netip.AddrPortFrom(a, s.port)}
		}
		s.set(list)
	}
}

// lookup asks the hosts file, then DNS, with the search list of resolv.conf(5).
// last is what the name had before.
func (r *Resolver) lookup(ctx context.Context, host string, last []netip.Addr) ([]netip.Addr, time.Duration, error) {
	if a := r.hosts.lookup(host); len(a) > 0 {
		return a, r.o.MinTTL, nil
	}
	if name := strings.TrimSuffix(strings.ToLower(host), "."); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, r.o.MaxTTL, nil // RFC 6761 6.3
	}
	var err error
	for _, name := range r.conf.NameList(host) {
		addrs, ttl, e := r.both(ctx, name, last)
		if len(addrs) > 0 {
			return addrs, ttl, nil
		}
		if err == nil || !errors.Is(e, errNoName) {
			err = e
		}
	}
	return nil, 0, err
}

// errNoName is an authoritative "there is no such name" or "no address".
var errNoName = errors.New("no such name")

// both asks for A and AAAA. One family failing does not hide the other; it keeps
// what it had in last.
func (r *Resolver) both(ctx context.Context, name string, last []netip.Addr) ([]netip.Addr, time.Duration, error) {
	type answer struct {
		family uint16
		addrs  []netip.Addr
		ttl    time.Duration
		err    error
	}
	answers := make(chan answer, 2)
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		go func() {
			a, ttl, err := r.query(ctx, name, t)
			answers <- answer{t, a, ttl, err}
		}()
	}
	var all answer
	var kept []netip.Addr
	for range 2 {
		a := <-answers
		if a.err != nil {
			if all.err == nil || errors.Is(all.err, errNoName) {
				all.err = a.err
			}
			if !errors.Is(a.err, errNoName) {
				kept = ofFamily(last, a.family)
			}
			continue
		}
		if len(all.addrs) == 0 || a.ttl < all.ttl {
			all.ttl = a.ttl
		}
		all.addrs = append(all.addrs, a.addrs...)
	}
	if len(all.addrs) > 0 {
		return append(all.addrs, kept...), all.ttl, nil
	}
	return nil, 0, fmt.Errorf("%s: %w", strings.TrimSuffix(name, "."), all.err)
}

func ofFamily(list []netip.Addr, t uint16) (out []netip.Addr) {
	for _, a := range list {
		if a.Is4() == (t == dns.TypeA) {
			out = append(out, a)
		}
	}
	return out
}

// query asks the servers in order until one answers.
func (r *Resolver) query(ctx context.Context, name string, t uint16) ([]netip.Addr, time.Duration, error) {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), t)
	m.SetEdns0(1232, false)
	err := errors.New("no DNS server")
	for _, server := range r.servers() {
		var reply *dns.Msg
		if reply, err = r.exchange(ctx, m, server); err != nil {
			continue
		}
		switch reply.Rcode {
		case dns.RcodeSuccess, dns.RcodeNameError:
			return addresses(reply, name, t)
		}
		err = fmt.Errorf("server %s: %s", server, dns.RcodeToString[reply.Rcode])
	}
	return nil, 0, err
}

func (r *Resolver) servers() []string {
	var list []string
	for _, s := range r.o.Servers {
		list = append(list, s.String())
	}
	if len(list) == 0 {
		for _, s := range r.conf.Servers {
			list = append(list, net.JoinHostPort(s, r.conf.Port))
		}
	}
	return list
}

// exchange asks one server by UDP, and by TCP what did not fit (RFC 1035 4.2.1).
func (r *Resolver) exchange(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	reply, err := r.exchangeBy(ctx, "udp", m, server)
	if err == nil && reply.Truncated {
		reply, err = r.exchangeBy(ctx, "tcp", m, server)
	}
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", server, err)
	}
	return reply, nil
}

func (r *Resolver) exchangeBy(ctx context.Context, network string, m *dns.Msg, server string) (*dns.Msg, error) {
	c := dns.Client{Net: network, Timeout: r.o.Timeout}
	conn, err := c.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The client has regard to ctx's deadline only: without this, one that is
	// cancelled would wait for it.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	reply, _, err := c.ExchangeWithConnContext(ctx, m, conn)
	return reply, err
}

// addresses follows the CNAMEs of an answer; the TTL is the lowest on the way.
func addresses(m *dns.Msg, name string, t uint16) ([]netip.Addr, time.Duration, error) {
	owner := strings.ToLower(dns.Fqdn(name))
	var out []netip.Addr
	ttl := uint32(1<<31 - 1)
	for range len(m.Answer) + 1 {
		next := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, owner) {
				continue
			}
			switch x := rr.(type) {
			case *dns.CNAME:
				next, ttl = strings.ToLower(x.Target), min(ttl, h.Ttl)
			case *dns.A:
				if a, ok := netip.AddrFromSlice(x.A); ok && t == dns.TypeA {
					out, ttl = append(out, a.Unmap()), min(ttl, h.Ttl)
				}
			case *dns.AAAA:
				if a, ok := netip.AddrFromSlice(x.AAAA); ok && t == dns.TypeAAAA {
					out, ttl = append(out, a), min(ttl, h.Ttl)
				}
			}
		}
		if len(out) > 0 || next == "" {
			break
		}
		owner = next
	}
	if len(out) == 0 {
		return nil, 0, errNoName
	}
	return out, time.Duration(ttl) * time.Second, nil
}
