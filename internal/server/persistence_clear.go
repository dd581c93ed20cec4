package server

import (
	"encoding/json"
	"slices"
	"sync"

	"belay/internal/persistence"
)

// clearing is that an operator has dropped entries of a table. The generations that
// serve beside this one have them as well, and would tell of them again.
type clearing struct {
	Table    string                `json:"table"`
	At       uint32                `json:"at"` // seconds since 1970
	Key      []byte                `json:"key,omitempty"`
	Endpoint *persistence.Endpoint `json:"endpoint,omitempty"`
	Any      bool                  `json:"any,omitempty"`
	MinIdle  uint32                `json:"min_idle,omitempty"`
	MaxIdle  uint32                `json:"max_idle,omitempty"`

	number uint64
}

// clearings are the last ones.
type clearings struct {
	mu   sync.Mutex
	list []clearing
	last uint64 // number
}

// maxClearings bounds them. Only what was cleared while a generation drains has to
// be told at all.
const maxClearings = 100

// clearTable drops the entries of a table that a filter chooses, here and in the
// generations that serve beside this process, and tells how many there were here.
func (s *Server) clearTable(name string, f persistence.Filter) int {
	t := s.tables[name]
	if t == nil {
		return 0
	}
	now := unixNow()
	n := t.Clear(f, now)
	s.clearings.add(newClearing(name, f, now))
	s.shareClearing(name, f, now)
	return n
}

// add notes a clearing; false: it is known.
func (x *clearings) add(c clearing) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if slices.ContainsFunc(x.list, func(o clearing) bool { return o.same(&c) }) {
		return false
	}
	x.last++
	c.number = x.last
	if len(x.list) == maxClearings {
		x.list = slices.Delete(x.list, 0, 1)
	}
	x.list = append(x.list, c)
	return true
}

// has tells whether a table was cleared at a time.
func (x *clearings) has(table string, at uint32) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.ContainsFunc(x.list, func(c clearing) bool { return c.Table == table && c.At == at })
}

// after lists those behind a number, and the number of the last one.
func (x *clearings) after(number uint64) (list []clearing, last uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.list {
		if c.number > number {
			list = append(list, c)
		}
	}
	return list, x.last
}

func (c *clearing) same(o *clearing) bool {
	if (c.Endpoint == nil) != (o.Endpoint == nil) || c.Endpoint != nil && *c.Endpoint != *o.Endpoint {
		return false
	}
	return c.Table == o.Table && c.At == o.At && string(c.Key) == string(o.Key) && c.Any == o.Any && c.MinIdle == o.MinIdle && c.MaxIdle == o.MaxIdle
}

// apply drops what has been in a table since the time of the clearing without being
// used: who came back later has a session of its own again.
func (c *clearing) apply(t *persistence.Table) {
	now := unixNow()
	since := uint32(0)
	if now > c.At {
		since = now - c.At
	}
	f := persistence.Filter{Key: c.Key, Endpoint: c.Endpoint, Any: c.Any, MinIdle: c.MinIdle + since, Until: c.At}
	if c.MaxIdle > 0 {
		f.MaxIdle = c.MaxIdle + since
	}
	t.Clear(f, now)
}

// takeCleared does what another process did.
func (s *Server) takeCleared(version uint32, data []byte) error {
	if version != stateClearedVer {
		return errVersion
	}
	var list []clearing
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	for _, c := range list {
		if t := s.tables[c.Table]; t != nil && s.clearings.add(c) {
			c.apply(t)
		}
	}
	return nil
}
