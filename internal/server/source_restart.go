package server

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"belay/internal/admin/adminapi"
	"belay/internal/hotrestart"
	"belay/internal/shm"
	"belay/internal/stats"
)

// RestartStatus is where the generations are.
func (s *Server) RestartStatus() adminapi.RestartStatus {
	if s.node == nil {
		return adminapi.RestartStatus{Time: time.Now()}
	}
	st := s.node.Status()
	low, high := hotrestart.VersionRange()
	r := adminapi.RestartStatus{
		Time: time.Now(), Enabled: true, Epoch: st.Epoch, Phase: phase(&st), Since: st.Since, OriginalStart: st.Original,
		Restarts: s.restarts(),
		Protocol: adminapi.Protocol{Min: int(low), Max: int(high)},
		Segment:  adminapi.Segment{Path: st.Segment, Version: shm.Version},
		Store:    adminapi.Store{Sockets: s.service.storedSockets(), Refused: s.service.refused.Load()},
	}
	if r.Since.IsZero() {
		r.Since = s.started
	}
	for _, g := range st.Generations {
		r.Generations = append(r.Generations, s.generation(g, st.Epoch))
	}
	if l := st.Last; l.Result != "" {
		r.LastRestart = &adminapi.LastRestart{At: l.At, Epoch: l.Epoch, Result: l.Result, Reason: l.Reason, Took: l.Took.Seconds(), Cut: l.Cut}
	}
	return r
}

// restarts counts those of all generations.
func (s *Server) restarts() (r adminapi.Restarts) {
	snap := s.Snapshot()
	for result, n := range map[string]*uint64{restartOK: &r.OK, restartFailed: &r.Failed, restartRolledBack: &r.RolledBack} {
		v, _ := snap.Value(restartsMetric, stats.Label{Name: "result", Value: result})
		*n = uint64(v)
	}
	return r
}

// phase is one word for the whole.
func phase(st *hotrestart.Status) string {
	if st.Phase != "" {
		return st.Phase
	}
	if slices.ContainsFunc(st.Generations, func(g hotrestart.Generation) bool { return !g.Since.IsZero() }) {
		return "draining"
	}
	return "serving"
}

func (s *Server) generation(g hotrestart.Generation, self uint64) adminapi.Generation {
	x := adminapi.Generation{
		Epoch: g.Epoch, PID: g.PID, State: g.State, Main: g.Main, Connections: g.Connections,
		DrainingSince: g.Since, HeartbeatAge: g.Age.Seconds(), Version: g.Program,
	}
	if g.Epoch == self {
		x.Version = s.version
	}
	if !g.Until.IsZero() {
		x.TimeLeft = max(0, time.Until(g.Until).Seconds())
	}
	return x
}

// DrainStatus says whether the server drains for a balancer.
func (s *Server) DrainStatus() adminapi.DrainStatus {
	st := adminapi.DrainStatus{Connections: s.limit.Active()}
	if at := s.announced.Load(); at != nil {
		st.Draining, st.Since = true, *at
	}
	return st
}

// SetDraining begins or ends draining for a balancer.
func (s *Server) SetDraining(on bool, by string) (adminapi.DrainStatus, error) {
	err := s.asMain(func() {
		var at *time.Time
		if on {
			now := time.Now()
			at = &now
		}
		s.announce(at, by)
	})
	return s.DrainStatus(), err
}

// asMain does what an operator wants in the process that serves, between two steps
// of a restart: the next process hears of it. An error is why it was not done.
func (s *Server) asMain(f func()) error {
	err := errors.New("the process is stopping")
	run := func() {
		if st := serverState(s.state.Load()); st != serving {
			err = errors.New("the process is " + st.String())
			return
		}
		f()
		err = nil
	}
	if s.node == nil {
		run()
	} else {
		s.node.Do(run)
	}
	return err
}

// announce has the replies announce the end of their connections, or no more.
func (s *Server) announce(at *time.Time, by string) {
	if old := s.announced.Load(); (old == nil) == (at == nil) {
		return
	}
	s.announced.Store(at)
	_ = s.onWorkers(func(w *worker) error {
		for _, p := range w.proxies {
			p.Announce(at != nil, s.cfg.HotRestart.DrainTime, s.cfg.HotRestart.DrainImmediate)
		}
		return nil
	})
	s.log.Info("drain for a balancer", "on", at != nil, "connections", s.limit.Active(), "by", by)
}

// stateDrain is the owner of the operator's wish to drain, which a restart does
// not end.
const (
	stateDrain        = "drain"
	stateDrainVersion = 1
)

func (s *Server) drainState() []byte {
	data, err := json.Marshal(s.announced.Load())
	if err != nil { // a time always can be
		panic(err)
	}
	return data
}

func (s *Server) takeDrainState(version uint32, data []byte) error {
	if version != stateDrainVersion {
		return errVersion
	}
	var at *time.Time
	if err := json.Unmarshal(data, &at); err != nil {
		return err
	}
	s.announceAt = at
	return nil
}

var errVersion = errors.New("its version is not known")
