package tcpproxy

import (
	"fmt"
	"math/rand/v2"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/listener"
	"belay/internal/stats"
)

// Cluster is a cluster as all workers share it.
type Cluster struct {
	*cluster.Cluster
	Index     int
	Stats     clusterStats
	endpoints []endpointStats // by Endpoint.Index
	pin       *pinPlan        // nil: no persistence
	hash      []keyPart       // that balance hashes on
}

// NewCluster registers a cluster's statistics. They are those of the cluster,
// whoever else serves it.
func NewCluster(c *cluster.Cluster, index int, r *stats.Registry) *Cluster {
	x := &Cluster{Cluster: c, Index: index, Stats: newClusterStats(r, c.Config.Name), endpoints: make([]endpointStats, len(c.Endpoints))}
	for i, e := range c.Endpoints {
		x.endpoints[i] = newEndpointStats(r, c.Config.Name, e.ID)
	}
	return x
}

// Plan is a listener's configuration in the form the data path uses. It is
// immutable and shared by all workers.
type Plan struct {
	Listener *config.Listener
	Stats    listenerStats
	clusters []int          // Cluster.Index of Listener.Clusters
	split    *cluster.Split // nil: there is one
	chains   []int          // by listener.Chain.Index: Cluster.Index, -1: as the listener
}

// NewPlan compiles a listener. index has the clusters by name.
func NewPlan(l *config.Listener, index map[string]int, r *stats.Registry) (*Plan, error) {
	p := &Plan{Listener: l, Stats: newListenerStats(r, l.Name)}
	for _, wc := range l.Clusters {
		i, ok := index[wc.Cluster]
		if !ok {
			return nil, fmt.Errorf("listener.%s: no cluster %q", l.Name, wc.Cluster)
		}
		p.clusters = append(p.clusters, i)
	}
	if len(l.Clusters) > 1 {
		p.split = cluster.NewSplit(l.Clusters)
	}
	for _, c := range l.Chains {
		i, ok := -1, true
		if c.Cluster != "" {
			i, ok = index[c.Cluster]
		}
		if !ok {
			return nil, fmt.Errorf("listener.%s: no cluster %q", l.Name, c.Cluster)
		}
		p.chains = append(p.chains, i)
	}
	return p, nil
}

// pick is the Cluster.Index for a connection that met a filter chain, or none.
func (p *Plan) pick(chain *listener.Chain, rng *rand.PCG) int {
	if chain != nil && chain.Index < len(p.chains) && p.chains[chain.Index] >= 0 {
		return p.chains[chain.Index]
	}
	if p.split != nil {
		return p.clusters[p.split.Pick(rng.Uint64())]
	}
	return p.clusters[0]
}
