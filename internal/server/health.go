package server

import (
	"context"
	"crypto/tls"
	"sync"

	"belay/internal/health"
)

// healthParts watch the endpoints.
type healthParts struct {
	checkers  []*health.Checker
	detectors []*health.Detector
}

// buildHealth makes what watches the endpoints of the clusters that ask for it.
func (s *Server) buildHealth() {
	o := health.Options{Log: s.log, Slots: make(chan struct{}, health.DefaultSlots)}
	for i, c := range s.clusters {
		if c.Config.HealthCheck != nil {
			s.health.checkers = append(s.health.checkers, health.NewChecker(c.Cluster, s.checkTLS(i), o, s.registry))
		}
		if c.Config.Outlier != nil {
			s.health.detectors = append(s.health.detectors, health.NewDetector(c.Cluster, s.log, s.registry))
		}
	}
}

// checkTLS is the TLS of a cluster for checks, which run on many goroutines; nil if the
// cluster is plain.
func (s *Server) checkTLS(i int) health.TLS {
	client := s.tls.clients[i].client
	if client == nil {
		return nil
	}
	var mu sync.Mutex
	w := client.Worker()
	return func(address, name string) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		cfg, err := w.Config(address, name)
		if err != nil {
			return nil, err
		}
		cfg = cfg.Clone()
		cfg.ClientSessionCache = nil // a resumed session would not see another certificate
		return cfg, nil
	}
}

// startHealth watches until ctx ends.
func (s *Server) startHealth(ctx context.Context) {
	for _, x := range s.health.checkers {
		go x.Run(ctx)
	}
	for _, d := range s.health.detectors {
		go d.Run(ctx)
	}
}
