package server

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"belay/internal/admin"
	"belay/internal/admin/adminapi"
	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/httpproxy"
	"belay/internal/persistence"
)

// find is an endpoint by its names.
func (s *Server) find(name, id string) (*httpproxy.Cluster, *cluster.Endpoint, error) {
	var names []string
	for _, c := range s.clusters {
		if c.Config.Name == name {
			for _, e := range c.Endpoints {
				if e.ID == id {
					return c, e, nil
				}
				names = append(names, e.ID)
			}
			return nil, nil, admin.Unknown("endpoint", id, "cluster "+name, names)
		}
		names = append(names, c.Config.Name)
	}
	return nil, nil, admin.Unknown("cluster", name, "", names)
}

// Endpoint tells of one endpoint.
func (s *Server) Endpoint(name, id string) (adminapi.Endpoint, error) {
	_, e, err := s.find(name, id)
	if err != nil {
		return adminapi.Endpoint{}, err
	}
	return endpoint(name, e, admin.NewFigures(s.Snapshot()), s.newPinned()), nil
}

// ChangeEndpoint does what an operator wants of an endpoint.
func (s *Server) ChangeEndpoint(x adminapi.EndpointChange, by string) (adminapi.Endpoint, error) {
	_, e, err := s.find(x.Cluster, x.ID)
	if err != nil {
		return adminapi.Endpoint{}, err
	}
	wish, ok := map[string]cluster.Admin{"enable": cluster.Enable, "drain": cluster.Drain, "disable": cluster.Disable}[x.Wish]
	if !ok {
		return adminapi.Endpoint{}, admin.InvalidError(fmt.Sprintf("%q is no wish", x.Wish))
	}
	err = s.asMain(func() {
		var deadline time.Time
		if x.Deadline > 0 {
			deadline = time.Now().Add(x.Deadline)
		}
		s.log.Info("endpoint "+x.Wish, "cluster", x.Cluster, "endpoint", x.ID, "deadline", x.Deadline, "by", by)
		e.SetAdmin(wish, deadline)
	})
	if err != nil {
		return adminapi.Endpoint{}, err
	}
	return s.Endpoint(x.Cluster, x.ID)
}

// addHealth fills in what is known of an endpoint's health and sessions.
func addHealth(x *adminapi.Endpoint, e *cluster.Endpoint, p *pinned) {
	i := e.Info()
	moment := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	if x.State == "" {
		x.State = i.State.String()
	}
	x.Priority, x.Share, x.Admin, x.AdminSince = e.Priority, i.Share, i.Admin.String(), moment(i.AdminAt)
	x.Deadline, x.DrainEnded, x.Sessions = moment(i.Deadline), i.Ended, p.of(e)
	if t := e.Cluster.Sessions; t != nil {
		x.SessionsWithin = float64(t.Expire())
	} else {
		_, x.Uncounted = longestLife(p.s.used[e.Cluster.Config.Name])
	}
	x.Health, x.HealthSince, x.Why = i.Health.String(), moment(i.HealthAt), i.Why
	x.Ejected, x.Ejections = moment(i.Ejected), i.Ejections
	if !i.Ejected.IsZero() {
		x.Why = i.Reason
	}
}

// Tables are the stick tables.
func (s *Server) Tables() (list []adminapi.Table) {
	for _, cfg := range s.cfg.Tables {
		t := s.tables[cfg.Name]
		if t == nil {
			continue
		}
		st := t.Stats()
		x := adminapi.Table{
			Name: cfg.Name, Clusters: []string{}, Entries: st.Entries, Size: int64(t.Size()), Expire: float64(t.Expire()),
			Inserted: st.Inserted, Evicted: st.Evicted, Expired: st.Expired, Hits: st.Hits, Misses: st.Misses,
		}
		for _, c := range s.clusters {
			if slices.ContainsFunc(s.tablesOf(c.Config), func(p *config.TablePersistence) bool { return p.Name == cfg.Name }) {
				x.Clusters = append(x.Clusters, c.Config.Name)
			}
		}
		if u, err := url.Parse(cfg.Store); err == nil {
			x.Store = u.Host
		}
		list = append(list, x)
	}
	return list
}

// tablesOf are the uses of tables for a cluster, by itself and by routes.
func (s *Server) tablesOf(c *config.Cluster) (list []*config.TablePersistence) {
	add := func(p *config.Persistence) {
		if p != nil && p.Table != nil {
			list = append(list, p.Table)
		}
	}
	add(c.Persistence)
	for _, l := range s.cfg.Listeners {
		for _, r := range l.Routes {
			if slices.ContainsFunc(r.Clusters, func(w config.WeightedCluster) bool { return w.Cluster == c.Name }) {
				add(r.Persistence)
			}
		}
	}
	return list
}

func (s *Server) table(name string) (*persistence.Table, error) {
	if t := s.tables[name]; t != nil {
		return t, nil
	}
	var names []string
	for _, c := range s.cfg.Tables {
		names = append(names, c.Name)
	}
	return nil, admin.Unknown("table", name, "", names)
}

// filter is what a query chooses.
func (s *Server) filter(q *adminapi.TableQuery) (*persistence.Table, persistence.Filter, error) {
	var f persistence.Filter
	t, err := s.table(q.Name)
	if err != nil {
		return nil, f, err
	}
	if q.Key != "" {
		if f.Key, err = s.tableKey(q.Name, q.Key); err != nil {
			return nil, f, err
		}
	}
	if q.Endpoint != "" {
		_, e, err := s.find(q.Cluster, q.Endpoint)
		if err != nil {
			return nil, f, err
		}
		f.Endpoint, f.Any = &e.Key, true
	}
	f.MinIdle, f.MaxIdle = seconds(q.IdleOver), seconds(q.IdleUnder)
	return t, f, nil
}

// TableEntries calls yield with the entries that are chosen.
func (s *Server) TableEntries(q adminapi.TableQuery, yield func(adminapi.TableEntry) bool) error {
	t, f, err := s.filter(&q)
	if err != nil {
		return err
	}
	now, sources := unixNow(), s.bySource(q.Name)
	t.Each(f, now, func(r persistence.Record) bool {
		x := adminapi.TableEntry{Key: keyText(r.Key, sources), AgeSecond: since(now, r.FirstSeen), Idle: since(now, r.LastSeen)}
		if e := s.byKey(r.Endpoint); e != nil {
			x.Cluster, x.Endpoint = e.Cluster.Config.Name, e.ID
		} else {
			x.Unknown = fmt.Sprintf("%016x/%d", r.Endpoint.ID, r.Endpoint.Generation)
		}
		return yield(x)
	})
	return nil
}

func since(now, then uint32) float64 {
	if then > now {
		return 0
	}
	return float64(now - then)
}

// byKey is the endpoint that a table names, in whatever cluster.
func (s *Server) byKey(k persistence.Endpoint) *cluster.Endpoint {
	for _, c := range s.clusters {
		if e, _ := c.ByKey(k); e != nil {
			return e
		}
	}
	return nil
}

// SetTable puts an entry into a table.
func (s *Server) SetTable(x adminapi.TableEntry, name, by string) (adminapi.TableEntry, error) {
	t, err := s.table(name)
	if err != nil {
		return x, err
	}
	_, e, err := s.find(x.Cluster, x.Endpoint)
	if err != nil {
		return x, err
	}
	key, err := s.tableKey(name, x.Key)
	if err != nil {
		return x, err
	}
	x = adminapi.TableEntry{Key: keyText(key, s.bySource(name)), Cluster: x.Cluster, Endpoint: x.Endpoint}
	err = s.asMain(func() {
		now := unixNow()
		if s.clearings.has(name, now) {
			now++ // or whoever hears of that clearing later takes this for what it dropped
		}
		t.Set(key, persistence.Value{Endpoint: e.Key, FirstSeen: now, LastSeen: now}, now)
		s.log.Info("table entry set", "table", name, "cluster", x.Cluster, "endpoint", x.Endpoint, "by", by)
	})
	return x, err
}

// ClearTable drops the entries that are chosen. A large table takes too long to
// hold up a restart, and needs not: whoever is told of entries is told of this too.
func (s *Server) ClearTable(q adminapi.TableQuery, by string) (int, error) {
	_, f, err := s.filter(&q)
	if err != nil {
		return 0, err
	}
	if err := s.asMain(func() {}); err != nil {
		return 0, err
	}
	n := s.clearTable(q.Name, f)
	s.log.Info("table entries dropped", "table", q.Name, "entries", n, "key", q.Key, "cluster", q.Cluster, "endpoint", q.Endpoint,
		"idle_over", q.IdleOver, "idle_under", q.IdleUnder, "by", by)
	return n, nil
}

// bySource reports whether a table's keys may be addresses of clients.
func (s *Server) bySource(table string) bool {
	return slices.ContainsFunc(s.clusters, func(c *httpproxy.Cluster) bool {
		return slices.ContainsFunc(s.tablesOf(c.Config), func(p *config.TablePersistence) bool {
			return p.Name == table && slices.ContainsFunc(p.Key, func(h config.HashOn) bool { return h.Source })
		})
	})
}

// pinned counts sessions by the endpoint that they lead to: those with tokens that
// were seen lately, and the entries of tables. Each table is counted once.
type pinned struct {
	s      *Server
	now    uint32
	counts map[*persistence.Table]map[uint64]int
}

func (s *Server) newPinned() *pinned {
	return &pinned{s, unixNow(), make(map[*persistence.Table]map[uint64]int)}
}

// of is how many sessions lead to an endpoint.
func (p *pinned) of(e *cluster.Endpoint) int {
	var tables []*persistence.Table
	if t := e.Cluster.Sessions; t != nil {
		tables = append(tables, t)
	}
	for _, x := range p.s.tablesOf(e.Cluster.Config) {
		if t := p.s.tables[x.Name]; t != nil && !slices.Contains(tables, t) {
			tables = append(tables, t)
		}
	}
	n := 0
	for _, t := range tables {
		if p.counts[t] == nil {
			p.counts[t] = t.ByEndpoint(p.now)
		}
		n += p.counts[t][e.Key.ID]
	}
	return n
}
