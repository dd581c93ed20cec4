package server

import (
	"context"
	"time"

	"belay/internal/persistence"
)

// houseRound is how often the control plane looks after clusters and keys, and
// drainRound how often it looks whether a drain is over.
const (
	houseRound = 250 * time.Millisecond
	drainRound = time.Second
)

// keepHouse does until ctx ends what time asks for: it moves keys on, ends drains and
// ejections, raises weights, and drops what is over from the tables.
func (s *Server) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseRound)
	defer tick.Stop()
	var h housekeeper
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			h.round(s, now)
		}
	}
}

// newsPause is how long what comes after a piece of news waits for more, so that a burst
// is few messages.
const newsPause = time.Millisecond

// tellNews has the other processes of the chain hear of what the tables learn: a client
// that is redirected after its login may come back to another process at once.
func (s *Server) tellNews(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		}
		s.node.Tell()
		pause.Reset(newsPause)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// housekeeper knows when what is to be done next.
type housekeeper struct {
	drains time.Time
	sweeps map[*persistence.Table]time.Time
}

func (h *housekeeper) round(s *Server, now time.Time) {
	s.turnKeys(now)
	for _, c := range s.clusters {
		c.Tick()
	}
	if !now.Before(h.drains) {
		h.drains = now.Add(drainRound)
		s.endDrains(now)
	}
	for _, t := range s.tables {
		h.sweep(t, now)
	}
	for _, c := range s.clusters {
		h.sweep(c.Sessions, now)
	}
}

// sweepShare is the part of its time that an entry may be in a table too long.
const sweepShare = 8

// sweep drops what is over. A table of a million entries takes some milliseconds,
// in which nobody waits for more than a few entries.
func (h *housekeeper) sweep(t *persistence.Table, now time.Time) {
	if t == nil || t.Expire() == 0 {
		return
	}
	due, known := h.sweeps[t]
	if known && now.Before(due) {
		return
	}
	if h.sweeps == nil {
		h.sweeps = make(map[*persistence.Table]time.Time)
	}
	h.sweeps[t] = now.Add(max(time.Second, time.Duration(t.Expire())*time.Second/sweepShare))
	if known {
		t.Sweep(uint32(now.Unix()))
	}
}
