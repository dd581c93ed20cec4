package cluster

import (
	"belay/internal/persistence"
	"belay/internal/stats"
)

// Finding is why a session goes where it goes: a persistence.Verdict, or what became
// of the endpoint that it led to.
type Finding uint8

// The findings beyond the verdicts, and those of them that decide something.
const (
	FoundNone       = Finding(persistence.None)
	FoundValid      = Finding(persistence.Valid)
	FoundUnknown    = Finding(persistence.Unknown)
	FoundGeneration = Finding(persistence.Generation)

	FoundDown       = FoundGeneration + 1 // checks or outlier detection took it out, or it could not be reached
	FoundDrained    = FoundGeneration + 2 // it is disabled, or its drain is over
	FoundOverloaded = FoundGeneration + 3 // it had no connection free in time
	findings        = FoundGeneration + 4
)

// String is the finding's name in logs and statistics.
func (f Finding) String() string {
	switch f {
	case FoundDown:
		return "down"
	case FoundDrained:
		return "drained"
	case FoundOverloaded:
		return "overloaded"
	}
	return persistence.Verdict(f).String()
}

// Outcome is what was done about a session.
type Outcome uint8

// The outcomes.
const (
	OutcomeNone Outcome = iota
	Kept
	Minted
	Refreshed
	Moved
	Detoured
	Refused
	outcomes
)

// String is the outcome's name in logs and statistics.
func (o Outcome) String() string {
	return [...]string{"none", "kept", "minted", "refreshed", "moved", "detoured", "refused"}[o]
}

// SessionStats are the series of a cluster with persistence.
type SessionStats struct {
	found [findings]stats.Counter
	done  [outcomes]stats.Counter
}

// NewSessionStats registers them.
func NewSessionStats(r *stats.Registry, cluster string) *SessionStats {
	l := stats.Label{Name: "cluster", Value: cluster}
	s := &SessionStats{}
	for f := range findings {
		s.found[f] = r.Counter("belay_persistence_requests_total", "Requests and TCP connections by what the client brought for its session, and what became of the endpoint that it names.",
			l, stats.Label{Name: "found", Value: f.String()})
	}
	for o := range outcomes {
		s.done[o] = r.Counter("belay_persistence_outcomes_total", "Requests and TCP connections by what was done about their session.", l, stats.Label{Name: "outcome", Value: o.String()})
	}
	return s
}

// Count enters one request or TCP connection.
func (s *SessionStats) Count(sh *stats.Shard, f Finding, o Outcome) {
	sh.Inc(s.found[f])
	sh.Inc(s.done[o])
}

// Absent says why an endpoint gets nothing.
func (e *Endpoint) Absent() Finding {
	if e.State() == Disabled {
		return FoundDrained
	}
	return FoundDown
}
