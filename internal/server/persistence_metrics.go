package server

import (
	"belay/internal/persistence"
	"belay/internal/stats"
)

// registerPersistence registers what tells of keys, tables and counted sessions.
func (s *Server) registerPersistence() {
	r := s.registry
	if s.keyring != nil {
		for state := persistence.Accept; state <= persistence.Old; state++ {
			r.Func(stats.KindGauge, "belay_persistence_keys", "Keys of session tokens.", func() float64 { return float64(s.keysIn(state)) },
				stats.Label{Name: "state", Value: state.String()})
		}
		r.Func(stats.KindCounter, "belay_persistence_key_save_errors_total", "Times that the keys could not be saved.", func() float64 { return float64(s.keys.saveErrors.Load()) })
	}
	for name, t := range s.tables {
		of := stats.Label{Name: "table", Value: name}
		r.Func(stats.KindGauge, "belay_table_entries", "Entries of the stick table.", func() float64 { return float64(t.Len()) }, of)
		r.Func(stats.KindGauge, "belay_table_size", "Entries that the stick table may have.", func() float64 { return float64(t.Size()) }, of)
		count := func(what, help string, f func(persistence.Stats) uint64) {
			r.Func(stats.KindCounter, "belay_table_"+what+"_total", help, func() float64 { return float64(f(t.Stats())) }, of)
		}
		count("inserted", "New entries.", func(x persistence.Stats) uint64 { return x.Inserted })
		count("evicted", "Entries that were pushed out in time, because the table was full.", func(x persistence.Stats) uint64 { return x.Evicted })
		count("expired", "Entries that were dropped because nobody used them.", func(x persistence.Stats) uint64 { return x.Expired })
		count("hits", "Look-ups that found an entry.", func(x persistence.Stats) uint64 { return x.Hits })
		count("misses", "Look-ups that found none.", func(x persistence.Stats) uint64 { return x.Misses })
	}
	for _, c := range s.clusters {
		t, of := c.Sessions, stats.Label{Name: "cluster", Value: c.Config.Name}
		if t == nil {
			continue
		}
		r.Func(stats.KindGauge, "belay_cluster_tracked_sessions", "Sessions that are counted for drains.", func() float64 { return float64(t.Len()) }, of)
		r.Func(stats.KindCounter, "belay_cluster_tracked_sessions_evicted_total", "Sessions that are no longer counted because there were more than track_sessions.",
			func() float64 { return float64(t.Stats().Evicted) }, of)
	}
}

func (s *Server) keysIn(state persistence.KeyState) (n int) {
	for _, k := range s.keyring.Load().Keys() {
		if k.State == state {
			n++
		}
	}
	return n
}
