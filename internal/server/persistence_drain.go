package server

import (
	"encoding/json"
	"maps"
	"time"

	"belay/internal/cluster"
	"belay/internal/hotrestart"
	"belay/internal/httpproxy"
	"belay/internal/persistence"
	"belay/internal/stats"
)

// tracked says how much the count of a cluster's sessions knows.
type tracked struct {
	// Since is since when every session that was in use is counted.
	Since time.Time `json:"since"`
	// Expire is after how many seconds without use one was forgotten.
	Expire uint32 `json:"expire"`
}

// The owner of it. The counts themselves pass in pieces.
const (
	stateTracked    = "sessions-since"
	stateTrackedVer = 1
)

func (s *Server) trackedState() hotrestart.Blob {
	list := maps.Clone(s.tracked)
	for _, c := range s.clusters {
		if t := c.Sessions; t != nil && t.Stats().Evicted > 0 { // some have been forgotten too early
			list[c.Config.Name] = tracked{Since: time.Now(), Expire: t.Expire()}
		}
	}
	data, err := json.Marshal(list)
	if err != nil { // times and numbers always can be
		panic(err)
	}
	return hotrestart.Blob{Owner: stateTracked, Version: stateTrackedVer, Data: data}
}

// takeTracked is called before openPersistence.
func (s *Server) takeTracked(version uint32, data []byte) error {
	if version != stateTrackedVer {
		return errVersion
	}
	return json.Unmarshal(data, &s.given)
}

// track notes since when a cluster's sessions are counted: for as long as the parent
// did, if it forgot none that this process would still take.
func (s *Server) track(name string, expire uint32) {
	x := tracked{Since: s.started, Expire: expire}
	if old, ok := s.given[name]; ok && old.Since.Before(x.Since) && (old.Expire == 0 || expire != 0 && old.Expire >= expire) {
		x.Since = old.Since
	}
	if s.tracked == nil {
		s.tracked = make(map[string]tracked)
	}
	s.tracked[name] = x
}

// endDrains ends the drains of endpoints that no session is left on. The main
// process does; those that drain are told.
func (s *Server) endDrains(now time.Time) {
	if !s.service.main.Load() {
		return
	}
	var active *stats.Snapshot
	for _, c := range s.clusters {
		for _, e := range c.Endpoints {
			i := e.Info()
			if i.Admin != cluster.Drain || i.Ended || !s.sessionsGone(c, e, &i, now) {
				continue
			}
			if active == nil {
				active = s.Snapshot()
			}
			if n, _ := active.Value("belay_endpoint_active_requests", stats.Label{Name: "cluster", Value: c.Config.Name}, stats.Label{Name: "endpoint", Value: e.ID}); n == 0 {
				s.log.Info("drain is over: no session is left", "cluster", c.Config.Name, "endpoint", e.ID, "took", now.Sub(i.AdminAt).Round(time.Second))
				e.EndDrain()
			}
		}
	}
}

// sessionsGone reports whether nobody can come any more whose session is on an
// endpoint. A token is known only by its use: one that was not seen for as long as
// it is good is no more. Where sessions are not counted, or are good for ever, that is
// never known.
func (s *Server) sessionsGone(c *httpproxy.Cluster, e *cluster.Endpoint, i *cluster.Info, now time.Time) bool {
	used := s.used[c.Config.Name]
	on := persistence.Filter{Endpoint: &e.Key, Any: true}
	clock := uint32(now.Unix())
	if _, any := longestLife(used); any {
		t := c.Sessions
		if t == nil || t.Expire() == 0 {
			return false
		}
		since := s.tracked[c.Config.Name].Since
		if t.Stats().Evicted > 0 && i.AdminAt.After(since) {
			since = i.AdminAt // who has come back since is counted
		}
		if now.Sub(since) < time.Duration(t.Expire())*time.Second || t.Count(on, clock) > 0 {
			return false
		}
	}
	for _, p := range used {
		if p.Table == nil {
			continue
		}
		if t := s.tables[p.Table.Name]; t != nil && t.Count(on, clock) > 0 {
			return false
		}
	}
	return true
}

// watchEndpoints has each change of an endpoint's state told.
func (s *Server) watchEndpoints() {
	for _, c := range s.clusters {
		name := stats.Label{Name: "cluster", Value: c.Config.Name}
		changes := make([]func(), len(c.Endpoints))
		for i, e := range c.Endpoints {
			id := stats.Label{Name: "endpoint", Value: e.ID}
			n := s.registry.Atomic("belay_endpoint_state_changes_total", "Changes of the endpoint's state.", name, id)
			changes[i] = func() { n.Add(1) }
			s.registry.Func(stats.KindGauge, "belay_endpoint_state", "0: healthy. 1: degraded. 2: draining, takes pinned sessions only. 3: unhealthy. 4: disabled.",
				func() float64 { return float64(e.State()) }, name, id)
		}
		c.Notice = func(e *cluster.Endpoint, from, to cluster.State) {
			changes[e.Index]()
			s.endpointChanged(e, from, to)
		}
	}
}

// endpointChanged tells the log, in the main process: those that drain see the same.
func (s *Server) endpointChanged(e *cluster.Endpoint, from, to cluster.State) {
	if s.draining() {
		return
	}
	i := e.Info()
	log := s.log.With("cluster", e.Cluster.Config.Name, "endpoint", e.ID, "from", from.String(), "to", to.String())
	switch {
	case to == cluster.Unhealthy && !i.Ejected.IsZero():
		log.Warn("endpoint ejected", "reason", i.Reason, "until", i.Ejected.UTC().Format(time.RFC3339), "times", i.Ejections)
	case to == cluster.Unhealthy:
		log.Warn("endpoint is down", "reason", i.Why)
	case to == cluster.Draining && !i.Deadline.IsZero():
		log.Info("endpoint drains", "deadline", i.Deadline.UTC().Format(time.RFC3339))
	case to == cluster.Draining:
		log.Info("endpoint drains")
	case to == cluster.Disabled && i.Ended:
		log.Info("endpoint disabled: its drain is over")
	case to == cluster.Disabled:
		log.Info("endpoint disabled")
	default:
		log.Info("endpoint is " + to.String())
	}
}
