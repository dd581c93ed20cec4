package server

import (
	"fmt"
	"time"

	"belay/internal/config"
	"belay/internal/persistence"
)

// openPersistence makes what keeps sessions where they are: the keys that seal
// tokens, the stick tables, and the counts of the sessions of each cluster. Where
// nothing asks for them there are none.
func (s *Server) openPersistence() error {
	s.watchEndpoints()
	used := persistenceUsed(s.cfg)
	s.used = used
	if err := s.openKeys(used); err != nil {
		return err
	}
	if err := s.openTables(); err != nil {
		return err
	}
	if err := s.openSessions(used); err != nil {
		return err
	}
	return s.fetchTables()
}

// persistenceUsed lists, by cluster, what may hold for its sessions: its own
// persistence and that of the routes which lead to it.
func persistenceUsed(c *config.Config) map[string][]*config.Persistence {
	used := make(map[string][]*config.Persistence)
	add := func(cluster string, p *config.Persistence) {
		if p != nil && !p.Off {
			used[cluster] = append(used[cluster], p)
		}
	}
	for _, x := range c.Clusters {
		add(x.Name, x.Persistence)
	}
	for _, l := range c.Listeners {
		for _, r := range l.Routes {
			for _, x := range r.Clusters {
				add(x.Cluster, r.Persistence)
			}
		}
	}
	return used
}

// openTables makes the stick tables; what the parent has in them comes later, see
// persistenceLink.
func (s *Server) openTables() error {
	s.tables = make(map[string]*persistence.Table, len(s.cfg.Tables))
	for _, c := range s.cfg.Tables {
		t, err := persistence.NewTable(c.Size, seconds(c.Expire))
		if err != nil {
			return fmt.Errorf("table.%s: %w", c.Name, err)
		}
		t.News = s.news
		s.tables[c.Name] = t
	}
	return nil
}

// openSessions makes the tables that count sessions, which are forgotten when no
// token of theirs can be good any more.
func (s *Server) openSessions(used map[string][]*config.Persistence) error {
	for _, c := range s.clusters {
		life, any := longestLife(used[c.Config.Name])
		if !any || c.Config.TrackSessions == 0 {
			continue
		}
		t, err := persistence.NewTable(c.Config.TrackSessions, seconds(life))
		if err != nil {
			return fmt.Errorf("cluster.%s.track_sessions: %w", c.Config.Name, err)
		}
		c.Sessions = t
		s.track(c.Config.Name, t.Expire())
	}
	return nil
}

// longestLife is the longest time after its last request for which a session's
// token is good; 0: for ever. any reports whether there are tokens.
func longestLife(list []*config.Persistence) (longest time.Duration, any bool) {
	forever := false
	eachToken(list, func(idle, age time.Duration) {
		if idle == 0 {
			idle = age
		}
		any, forever = true, forever || idle == 0
		longest = max(longest, idle)
	})
	if forever {
		longest = 0
	}
	return longest, any
}

// eachToken calls yield with the limits of each kind of token.
func eachToken(list []*config.Persistence, yield func(idle, age time.Duration)) {
	for _, p := range list {
		if c := p.Cookie; c != nil {
			yield(c.MaxIdle, c.MaxAge)
		}
		if h := p.Header; h != nil {
			yield(h.MaxIdle, h.MaxAge)
		}
	}
}

// seconds rounds up, so that a limit that is there stays one.
func seconds(d time.Duration) uint32 {
	return uint32(min((d+time.Second-1)/time.Second, 1<<32-1))
}

// unixNow is the clock of tokens and tables.
func unixNow() uint32 { return uint32(time.Now().Unix()) }
