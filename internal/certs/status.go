package certs

import (
	"cmp"
	"slices"
	"time"
)

// Status is what may be told of a resource: never a key, a ticket or a secret.
type Status struct {
	Kind   string    `json:"kind"`
	Source string    `json:"source"`
	UsedBy []string  `json:"used_by"`
	State  string    `json:"state"`
	Error  string    `json:"error,omitempty"`
	Since  time.Time `json:"since"` // of the state, or of the content

	*Info             // certificates only
	Staple   string   `json:"ocsp_staple,omitempty"` // "good until …" or what is wrong
	Warnings []string `json:"warnings,omitempty"`

	Authorities []Info     `json:"authorities,omitempty"` // of a CA file
	NextUpdate  *time.Time `json:"next_update,omitempty"` // of a CRL file, the first
}

// Status tells of every resource, by kind and source.
func (s *Store) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.resources))
	for _, r := range s.resources {
		st := Status{Kind: r.kind.String(), Source: r.name, State: r.state.String(), Since: r.since, UsedBy: []string{}}
		if err := cmp.Or(r.err, r.mismatch); err != nil {
			st.Error = err.Error()
		}
		for _, u := range r.users {
			st.UsedBy = append(st.UsedBy, u.label())
		}
		switch v := r.value.(type) {
		case *Pair:
			info := v.Info
			st.Info, st.Warnings = &info, v.Warnings
			st.Staple = stapleStatus(&v.staple, s.options.Now())
		case *authorities:
			for _, c := range v.certs {
				st.Authorities = append(st.Authorities, infoOf(c))
			}
		case *crlSet:
			if !v.until.IsZero() {
				st.NextUpdate = &v.until
			}
		}
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Source, b.Source))
	})
	return list
}

func stapleStatus(s *staple, now time.Time) string {
	switch err := s.problem(now); {
	case !s.configured:
		return ""
	case err != nil:
		return err.Error()
	}
	return "good until " + s.until.UTC().Format(time.RFC3339)
}

// Gauge is one certificate for the metrics.
type Gauge struct {
	Source   string
	State    State
	NotAfter time.Time // zero while warming
}

// Gauges tells the expiry of every certificate, authorities' too.
func (s *Store) Gauges() []Gauge {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Gauge
	for _, r := range s.resources {
		g := Gauge{Source: r.name, State: r.state}
		switch v := r.value.(type) {
		case *Pair:
			g.NotAfter = v.Info.NotAfter
		case *authorities:
			for _, c := range v.certs {
				if g.NotAfter.IsZero() || c.NotAfter.Before(g.NotAfter) {
					g.NotAfter = c.NotAfter
				}
			}
		case *crlSet:
			g.NotAfter = v.until
		default:
			if r.kind == KindTicketSecret {
				continue
			}
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b Gauge) int { return cmp.Compare(a.Source, b.Source) })
	return list
}
