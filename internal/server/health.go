package server

import (
	"context"
	"crypto/tls"

	"belay/internal/certs"
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
			s.health.checkers = append(s.health.checkers, health.NewChecker(c.Cluster, probeTLS(s.tls.clients[i].client), o, s.registry))
		}
		if c.Config.Outlier != nil {
			s.health.detectors = append(s.health.detectors, health.NewDetector(c.Cluster, s.log, s.registry))
		}
	}
}

// probeTLS is the TLS of a cluster for checks; nil if the cluster is plain. Each check
// has a configuration of its own: they run on many goroutines, which certs.Worker does
// not, and none may resume a session, or it would not see the endpoint's certificate.
func probeTLS(client *certs.Client) health.TLS {
	if client == nil {
		return nil
	}
	return func(address, name string) (*tls.Config, error) { return client.Worker().Config(address, name) }
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
