package server

import (
	"context"
	"time"

	"belay/internal/persistence"
	"belay/internal/tablestore"
)

// sharedTable is a stick table that other machines have too.
type sharedTable struct {
	store *tablestore.Store
	news  chan struct{} // of the table; passed on to Server.news
}

// buildStores makes what shares the tables that have a store.
func (s *Server) buildStores() error {
	for _, c := range s.cfg.Tables {
		t := s.tables[c.Name]
		if c.Store == "" || t == nil {
			continue
		}
		store, err := tablestore.New(t, c, s.log, s.registry)
		if err != nil {
			return err
		}
		store.Cleared = func(f persistence.Filter, at uint32) {
			// The other generations may not have heard of it, and would tell of the entries.
			s.clearings.add(newClearing(c.Name, f, at))
		}
		x := &sharedTable{store: store, news: make(chan struct{}, 1)}
		t.News = x.news
		if s.stores == nil {
			s.stores = make(map[string]*sharedTable)
		}
		s.stores[c.Name] = x
	}
	return nil
}

// startStores shares tables until ctx ends.
func (s *Server) startStores(ctx context.Context) {
	for _, x := range s.stores {
		go x.store.Run(ctx)
		go x.passNews(ctx, s.news)
	}
}

// passNews tells the store and the other generations what the table has learnt.
func (x *sharedTable) passNews(ctx context.Context, others chan<- struct{}) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-x.news:
		}
		select {
		case others <- struct{}{}:
		default:
		}
		pause.Reset(newsPause)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		x.store.Wake()
	}
}

// shareClearing tells the other machines of what an operator has dropped here.
func (s *Server) shareClearing(table string, f persistence.Filter, at uint32) {
	if x := s.stores[table]; x != nil {
		x.store.Clear(f, at)
	}
}

func newClearing(table string, f persistence.Filter, at uint32) clearing {
	return clearing{Table: table, At: at, Key: f.Key, Endpoint: f.Endpoint, Any: f.Any, MinIdle: f.MinIdle, MaxIdle: f.MaxIdle}
}
