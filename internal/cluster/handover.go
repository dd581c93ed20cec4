package cluster

import (
	"encoding/json"
	"fmt"
	"time"
)

// EndpointsVersion is the version of what HandOver and Wishes write: a JSON object
// of clusters, each an object of endpoints by id.
const EndpointsVersion = 1

// handover is an endpoint's condition for another process. Words and not numbers
// stand for what may get more values; one that is not known is left out.
type handover struct {
	Wish  *wish  `json:"wish,omitempty"` // nil: the operator has none, or it is not told
	Check *check `json:"check,omitempty"`
	Eject *eject `json:"eject,omitempty"`
	// Up is when its slow start began.
	Up time.Time `json:"up,omitzero"`
	// Away is since when it could not be reached, in seconds since 1970: the grace of a
	// detour counts from there.
	Away int64 `json:"away,omitempty"`
}

// wish is the operator's.
type wish struct {
	Admin    string    `json:"admin"`
	At       time.Time `json:"at"`
	Deadline time.Time `json:"deadline,omitzero"`
	Ended    bool      `json:"ended,omitempty"`
}

// check is what active checks found.
type check struct {
	Health string    `json:"health"`
	At     time.Time `json:"at"`
	Why    string    `json:"why,omitempty"`
}

// eject is what the endpoint's replies brought upon it.
type eject struct {
	Until  time.Time `json:"until,omitzero"` // zero: it is back
	InARow int       `json:"in_a_row"`
	Reason string    `json:"reason,omitempty"`
}

// HandOver is all that is known of the endpoints, for the process that takes over.
func HandOver(list []*Cluster) []byte {
	return marshal(list, func(e *Endpoint) handover {
		x := &e.is
		h := handover{Wish: x.wish(), Up: x.up, Away: e.away.Load()}
		if x.health != HealthUnknown {
			h.Check = &check{x.health.String(), x.healthAt, x.why}
		}
		if x.ejections > 0 {
			h.Eject = &eject{x.ejected, x.ejections, x.reason}
		}
		return h
	})
}

// Wishes is what the operator wants of the endpoints, for a process that serves
// beside this one.
func Wishes(list []*Cluster) []byte {
	return marshal(list, func(e *Endpoint) handover { return handover{Wish: e.is.wish()} })
}

func (c *condition) wish() *wish {
	if c.adminAt.IsZero() {
		return nil
	}
	return &wish{c.admin.String(), c.adminAt, c.deadline, c.ended}
}

func marshal(list []*Cluster, take func(*Endpoint) handover) []byte {
	all := make(map[string]map[string]handover)
	for _, c := range list {
		c.mu.Lock()
		for _, e := range c.Endpoints {
			h := take(e)
			if h == (handover{}) {
				continue
			}
			if all[c.Config.Name] == nil {
				all[c.Config.Name] = make(map[string]handover)
			}
			all[c.Config.Name][e.ID] = h
		}
		c.mu.Unlock()
	}
	data, err := json.Marshal(all)
	if err != nil { // times and strings always can be
		panic(err)
	}
	return data
}

// TakeOver takes what HandOver wrote in another process, before anything here
// judges endpoints: one that was down there is down here until a check of this
// process says otherwise. What this configuration does not have is left out:
// clusters, endpoints, checks, outliers. Notice is not called; the other process has told.
func TakeOver(list []*Cluster, version uint32, data []byte) error {
	return unmarshal(list, version, data, func(c *Cluster, all map[string]handover) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, e := range c.Endpoints {
			if h, ok := all[e.ID]; ok {
				e.is.takeOver(c, &h)
				e.away.Store(h.Away)
			}
		}
		c.publish(c.now())
	})
}

// TakeWishes takes what Wishes wrote, or the wishes in what HandOver wrote, in a
// process that serves. An endpoint of which nothing is said stays as it is.
func TakeWishes(list []*Cluster, version uint32, data []byte) error {
	return unmarshal(list, version, data, func(c *Cluster, all map[string]handover) {
		for _, e := range c.Endpoints {
			if h, ok := all[e.ID]; ok && h.Wish != nil {
				e.change(func(x *condition, _ time.Time) { x.takeWish(h.Wish) })
			}
		}
	})
}

func unmarshal(list []*Cluster, version uint32, data []byte, take func(*Cluster, map[string]handover)) error {
	if version != EndpointsVersion {
		return fmt.Errorf("version %d of the endpoints' states is not known", version)
	}
	var all map[string]map[string]handover
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("endpoints' states: %w", err)
	}
	for _, c := range list {
		if x := all[c.Config.Name]; len(x) > 0 {
			take(c, x)
		}
	}
	return nil
}

func (c *condition) takeOver(of *Cluster, h *handover) {
	if h.Wish != nil {
		c.takeWish(h.Wish)
	}
	if k := h.Check; k != nil && of.Config.HealthCheck != nil {
		if v, ok := word(k.Health, HealthBad); ok {
			c.health, c.healthAt, c.why = v, k.At, k.Why
		}
	}
	if j := h.Eject; j != nil && of.Config.Outlier != nil {
		c.ejected, c.ejections, c.reason = j.Until, j.InARow, j.Reason
	}
	c.up = h.Up
}

func (c *condition) takeWish(w *wish) {
	if a, ok := word(w.Admin, Disable); ok {
		c.admin, c.adminAt, c.deadline, c.ended = a, w.At, w.Deadline, w.Ended
	}
}

// word finds the value up to last that is called s.
func word[T interface {
	~uint8
	String() string
}](s string, last T) (T, bool) {
	for v := T(0); v <= last; v++ {
		if v.String() == s {
			return v, true
		}
	}
	return 0, false
}
