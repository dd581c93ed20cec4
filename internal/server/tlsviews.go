package server

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"belay/internal/admin/adminapi"
	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/listener"
	"belay/internal/stats"
)

// Certificates are what TLS needs.
func (s *Server) Certificates() []adminapi.Certificate {
	if s.tls.store == nil {
		return nil
	}
	var list []adminapi.Certificate
	for _, st := range s.tls.store.Status() {
		c := adminapi.Certificate{
			Kind: st.Kind, Source: st.Source, UsedBy: st.UsedBy, State: st.State, Error: st.Error, Since: st.Since,
			CertificateInfo: certificateInfo(st.Info), Staple: st.Staple, Warnings: st.Warnings, NextUpdate: st.NextUpdate,
		}
		for i := range st.Authorities {
			c.Authorities = append(c.Authorities, *certificateInfo(&st.Authorities[i]))
		}
		list = append(list, c)
	}
	return list
}

func certificateInfo(i *certs.Info) *adminapi.CertificateInfo {
	if i == nil {
		return nil
	}
	return &adminapi.CertificateInfo{
		Subject: i.Subject, SANs: i.SANs, Issuer: i.Issuer, Serial: i.Serial, NotBefore: i.NotBefore, NotAfter: i.NotAfter, KeyType: i.KeyType,
	}
}

// ExplainTLS says what a client would get, by what serves real ones.
func (s *Server) ExplainTLS(q adminapi.TLSQuery) (list []adminapi.TLSExplanation, err error) {
	for _, l := range s.listeners {
		if q.Listener != "" && l.Config.Name != q.Listener || l.Gate == nil || len(l.Gate.Chains) == 0 {
			continue
		}
		list = append(list, explain(l, &q))
	}
	if list == nil && q.Listener != "" {
		return nil, fmt.Errorf("no listener %q with TLS", q.Listener)
	}
	return list, nil
}

func explain(l *boundListener, q *adminapi.TLSQuery) adminapi.TLSExplanation {
	f := listener.Facts{ServerName: []byte(q.SNI), ALPN: q.ALPN, Port: q.Port}
	f.Source, _ = netip.ParseAddr(q.Source) // the API has checked it
	f.Source = f.Source.Unmap()
	if f.Port == 0 {
		f.Port = l.Address.AP.Port()
	}
	m := l.Gate.Find(&f)
	e := adminapi.TLSExplanation{Listener: l.Config.Name}
	if m.Chain == nil {
		e.ChainWhy, e.Refused = "no chain's conditions are met", "the connection is reset"
		return e
	}
	e.Chain, e.ChainWhy = m.Chain.Name, chainWhy(&m)
	if c := m.Chain.Config; c != nil {
		e.Passthrough, e.Cluster = c.Passthrough, c.Cluster
	}
	if e.Cluster == "" {
		e.Cluster = clustersOf(l.Config)
	}
	if m.Chain.Server == nil {
		return e
	}
	x := m.Chain.Server.Explain(certs.Query{ServerName: q.SNI, ALPN: q.ALPN, NoECDSA: q.NoECDSA, TLS12: q.TLS12})
	e.State, e.Certificate, e.CertificateInfo = x.State, x.Certificate, certificateInfo(x.Info)
	e.NameMatch, e.Why, e.Version, e.Protocol, e.Staple = x.Name, x.Why, x.Version, x.ALPN, x.Staple
	e.ClientCertificate, e.ClientPolicy, e.Refused = x.ClientAuth, x.ClientPolicy, x.Refused
	return e
}

// clustersOf names the clusters of a TCP listener; of an HTTP one its routes choose.
func clustersOf(l *config.Listener) string {
	if len(l.Clusters) == 1 {
		return l.Clusters[0].Cluster
	}
	var list []string
	for _, c := range l.Clusters {
		list = append(list, fmt.Sprintf("%s (weight %d)", c.Cluster, c.Weight))
	}
	return strings.Join(list, ", ")
}

// chainWhy names the conditions that were met.
func chainWhy(m *listener.Match) string {
	var met []string
	if m.Port {
		met = append(met, "port")
	}
	if m.ServerName != "" {
		met = append(met, "server name "+m.ServerName)
	}
	if m.ALPN {
		met = append(met, "ALPN")
	}
	if m.Source.IsValid() {
		met = append(met, "source "+m.Source.String())
	}
	switch {
	case len(met) > 0:
		return strings.Join(met, ", ")
	case m.Chain.Config == nil:
		return "the listener's own, for those that meet no chain"
	}
	return "the chain without conditions"
}

// registerCertificates registers, for each source, what monitoring looks at. The
// sources are those of the configuration and stay.
func (s *Server) registerCertificates() {
	if s.tls.store == nil {
		return
	}
	var cache gauges
	known := make(map[string]bool)
	for _, g := range s.tls.store.Gauges() {
		if known[g.Source] {
			continue
		}
		known[g.Source] = true
		of := stats.Label{Name: "source", Value: g.Source}
		s.registry.Func(stats.KindGauge, "belay_certificate_expiry_timestamp_seconds",
			"When the certificate, the first authority of a file, or a CRL expires, Unix time; 0: not loaded.", func() float64 {
				if at := cache.of(s.tls.store, g.Source).NotAfter; !at.IsZero() {
					return float64(at.Unix())
				}
				return 0
			}, of)
		s.registry.Func(stats.KindGauge, "belay_certificate_state",
			"0: warming, never yet loaded. 1: active. 2: the files are bad, the last good ones are in use.", func() float64 {
				return float64(cache.of(s.tls.store, g.Source).State)
			}, of)
	}
}

// gauges are what the store told last: one look serves all series of a snapshot.
type gauges struct {
	mu   sync.Mutex
	at   time.Time
	last map[string]certs.Gauge
}

const gaugeAge = 500 * time.Millisecond

func (g *gauges) of(store *certs.Store, source string) certs.Gauge {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.at) > gaugeAge {
		g.at, g.last = now, make(map[string]certs.Gauge)
		for _, x := range store.Gauges() {
			g.last[x.Source] = x
		}
	}
	return g.last[source]
}
