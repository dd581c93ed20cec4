package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/hotrestart"
	"belay/internal/listener"
	"belay/internal/ratelog"
	"belay/internal/upstream"
)

// tlsParts is what all workers share of TLS.
type tlsParts struct {
	store   *certs.Store // nil: nobody speaks TLS
	limits  *listener.DoorLimits
	clients []clusterTLS // as Server.clusters
	warming []string     // sources that the parent waits for, too
}

// openStore makes what holds the certificates.
func (s *Server) openStore() {
	c := &s.cfg.Server.TLS
	s.tls.limits = listener.NewDoorLimits(c.MaxHandshakes, c.MaxHandshakesPerSource, c.HelloBytes, s.registry)
	s.tls.limits.WantDest = slices.ContainsFunc(s.cfg.Clusters, func(c *config.Cluster) bool { return c.ProxyProtocol != 0 })
	if !usesTLS(s.cfg) {
		return
	}
	s.tls.store = certs.NewStore(certs.Options{
		Files:          certs.Files{Credentials: s.credentialsPath()},
		Warn:           c.ExpiryWarning,
		TicketRotation: c.TicketRotation,
		TicketSecret:   c.TicketSecret.String(),
		Event:          s.certificateEvent,
	})
}

func usesTLS(c *config.Config) bool {
	secure := func(x *config.Chain) bool { return x.TLS != nil }
	return slices.ContainsFunc(c.Listeners, func(l *config.Listener) bool { return l.TLS != nil || slices.ContainsFunc(l.Chains, secure) }) ||
		slices.ContainsFunc(c.Clusters, func(x *config.Cluster) bool { return x.TLS != nil })
}

// buildClients makes the TLS towards the clusters.
func (s *Server) buildClients() error {
	s.tls.clients = make([]clusterTLS, len(s.cfg.Clusters))
	var errs []error
	for i, c := range s.cfg.Clusters {
		if c.TLS == nil {
			continue
		}
		client, err := s.tls.store.Client(clientTLSOptions(c, s.tls.store.Files()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.tls.clients[i] = clusterTLS{client: client, stats: upstream.NewTLSStats(s.registry, c.Name), said: &ratelog.Lines[string]{}}
	}
	return errors.Join(errs...)
}

// clusterTLS is the TLS towards a cluster as all workers share it.
type clusterTLS struct {
	client *certs.Client // nil: plain
	stats  upstream.TLSStats
	said   *ratelog.Lines[string]
}

// workerTLS makes a worker's share of it, as Server.clusters.
func (s *Server) workerTLS() []*upstream.TLS {
	list := make([]*upstream.TLS, len(s.tls.clients))
	for i, c := range s.tls.clients {
		if c.client != nil {
			list[i] = &upstream.TLS{Client: c.client, Configs: c.client.Worker(), Stats: c.stats, Log: s.log, Said: c.said}
		}
	}
	return list
}

// newGate makes what comes before the protocol of a listener.
func (s *Server) newGate(l *config.Listener) (*listener.Gate, error) {
	serve := func(t *config.TLS, chain string) (*certs.Server, error) {
		return s.tls.store.Server(serverTLSOptions(t, chain, s.tls.store.Files()))
	}
	g, err := listener.NewGate(l, serve, s.registry)
	if err != nil || g == nil {
		return nil, err
	}
	g.WantLog = s.access != nil || s.sticksToSNI(l)
	return g, nil
}

// checkCertificates refuses, in a child, what cannot serve and what its parent
// can: a missing or broken certificate fails the reload that brought it. In a cold
// start, and where the parent waits as well, the chain warms up.
func (s *Server) checkCertificates() error {
	if s.parent == nil || s.tls.store == nil {
		return nil
	}
	var errs []error
	for _, st := range s.tls.store.Status() {
		if st.State != certs.Warming.String() || slices.Contains(s.tls.warming, st.Source) {
			continue
		}
		if st.Error == "" || st.Error == certs.ErrNotYet.Error() {
			continue
		}
		errs = append(errs, fmt.Errorf("%s %s: %s", st.Kind, st.Source, st.Error))
	}
	return errors.Join(errs...)
}

// watchCertificates keeps them current until ctx ends.
func (s *Server) watchCertificates(ctx context.Context) {
	if s.tls.store != nil {
		go s.tls.store.Run(ctx)
	}
}

// certificateEvent tells the log.
func (s *Server) certificateEvent(e certs.Event) {
	log := s.log.With("source", e.Resource, "kind", e.Of.String(), "state", e.State.String())
	switch e.Kind {
	case certs.EventLoaded:
		if serverState(s.state.Load()) == starting { // there may be thousands
			log.Debug("loaded")
			return
		}
		if e.NotAfter.IsZero() {
			log.Info("loaded")
			return
		}
		log.Info("certificate loaded", "not_after", e.NotAfter.UTC().Format(time.RFC3339))
	case certs.EventFailed:
		what := "cannot be loaded; what needs it does not serve"
		if e.State == certs.LastGood {
			what = "cannot be loaded; the last good one stays in use"
		}
		log.Error(what, "error", e.Err)
	case certs.EventExpiring:
		log.Warn("certificate expires soon", "not_after", e.NotAfter.UTC().Format(time.RFC3339), "in", time.Until(e.NotAfter).Round(time.Hour))
	case certs.EventExpired:
		log.Error("certificate has expired", "not_after", e.NotAfter.UTC().Format(time.RFC3339))
	case certs.EventStaple:
		log.Warn("no good OCSP staple", "error", e.Err)
	case certs.EventWarning:
		log.Warn("clients may refuse the certificate", "error", e.Err)
	case certs.EventWaiting:
		log.Info("waits for its source")
	}
}

// The owners of what the next process takes over: the keys of session tickets, and
// which certificates nobody has yet.
const (
	stateTickets        = "tickets"
	stateTicketsVersion = 1
	stateWarming        = "certificates"
	stateWarmingVersion = 1
)

func (s *Server) tlsState() []hotrestart.Blob {
	if s.tls.store == nil {
		return nil
	}
	warming := []string{}
	for _, st := range s.tls.store.Status() {
		if st.State == certs.Warming.String() {
			warming = append(warming, st.Source)
		}
	}
	data, err := json.Marshal(warming)
	if err != nil { // strings always can be
		panic(err)
	}
	return []hotrestart.Blob{
		{Owner: stateTickets, Version: stateTicketsVersion, Data: s.tls.store.Tickets().Export()},
		{Owner: stateWarming, Version: stateWarmingVersion, Data: data},
	}
}

func (s *Server) takeTickets(version uint32, data []byte) error {
	switch {
	case version != stateTicketsVersion:
		return errVersion
	case s.tls.store == nil: // this configuration has no TLS
		return nil
	}
	return s.tls.store.Tickets().Import(data, time.Now())
}

func (s *Server) takeWarming(version uint32, data []byte) error {
	if version != stateWarmingVersion {
		return errVersion
	}
	return json.Unmarshal(data, &s.tls.warming)
}
