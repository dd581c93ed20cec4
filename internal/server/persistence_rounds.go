package server

import (
	"context"
	"time"
)

// houseRound is how often the control plane looks after clusters and keys.
const houseRound = 250 * time.Millisecond

// keepHouse does until ctx ends what time asks for.
func (s *Server) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseRound)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.turnKeys(now)
		}
	}
}
