package httpproxy

import (
	"fmt"
	"strings"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/header"
	"belay/internal/http1"
	"belay/internal/listener"
	"belay/internal/netset"
	"belay/internal/route"
	"belay/internal/stats"
	"belay/internal/upstream"
)

// Cluster is a cluster as all workers share it.
type Cluster struct {
	*cluster.Cluster
	Index     int
	Stats     clusterStats
	endpoints []endpointStats       // by Endpoint.Index
	hash      []keyPart             // that balance hashes on; nil: it does not hash
	pinStats  *cluster.SessionStats // nil: no persistence
	options   http1.Options
}

// NewCluster registers a cluster's statistics.
func NewCluster(c *cluster.Cluster, index int, r *stats.Registry) *Cluster {
	x := &Cluster{Cluster: c, Index: index, Stats: newClusterStats(r, c.Config.Name)}
	x.options.Header = header.Limits{Fields: c.Config.ResponseFields, Bytes: c.Config.ResponseHeadBytes, Name: responseFieldName}
	x.options.MaxRequestLine = c.Config.ResponseHeadBytes
	x.options.MaxChunkLine = responseChunkLine
	x.options.Underscores = http1.UnderscoreAllow
	x.options.AllowZeroLength = true // many servers send Content-Length: 0 with 204
	x.endpoints = make([]endpointStats, len(c.Endpoints))
	for i, e := range c.Endpoints {
		x.endpoints[i] = newEndpointStats(r, c.Config.Name, e.ID)
	}
	if b := c.Config.Balance; b == "ring_hash" || b == "maglev" {
		x.hash = newHashParts(&c.Config.Hash)
	}
	return x
}

const (
	responseFieldName = 1 << 10
	responseChunkLine = 4 << 10
)

func newClusterWorker(c *Cluster, env *upstream.Env, worker int, seed uint64) *clusterWorker {
	x := &clusterWorker{shared: c, picker: c.NewPicker(worker, seed), pools: make([]*upstream.Pool, len(c.Endpoints))}
	x.env = env
	return x
}

// pool is the worker's pool for an endpoint, made when first needed.
func (x *clusterWorker) pool(e *cluster.Endpoint) *upstream.Pool {
	p := x.pools[e.Index]
	if p == nil {
		p = upstream.New(x.env, e, x.shared.Config, x.shared.endpoints[e.Index].pool, x.tls)
		x.pools[e.Index] = p
	}
	return p
}

// Plan is a listener's configuration in the form the data path uses. It is
// immutable and shared by all workers.
type Plan struct {
	Listener     *config.Listener
	Gate         *listener.Gate // nil: plain; set before the first connection
	Stats        listenerStats
	options      http1.Options
	firstRequest time.Duration // a new connection without a byte may stay so long
	trusted      *netset.Set
	certificates forwarding
	table        *route.Table
	routes       []*routePlan // by config.Route.Index
}

// routePlan is one route, compiled.
type routePlan struct {
	cfg         *config.Route
	allow, deny *netset.Set
	clusters    []int      // Cluster.Index of cfg.Clusters
	pins        []*pinPlan // as clusters; nil: no persistence
	pinned      bool       // one of pins is not nil
	split       *cluster.Split
	request     headerOps
	response    headerOps
	statuses    map[int]bool // retry.statuses
}

// NewPlan compiles a listener. index has the clusters by name.
func NewPlan(l *config.Listener, clusters []*Cluster, index map[string]int, sessions *Sessions, r *stats.Registry) (*Plan, error) {
	table, err := route.Compile(l.Routes)
	if err != nil {
		return nil, fmt.Errorf("listener.%s: %w", l.Name, err)
	}
	p := &Plan{Listener: l, Stats: newListenerStats(r, l.Name), trusted: netset.New(l.TrustedProxies), table: table}
	p.options = codecOptions(l)
	p.certificates = newForwarding(l)
	p.firstRequest = l.Timeouts.Head
	if t := l.Timeouts.Idle; t > 0 && (t < p.firstRequest || p.firstRequest == 0) {
		p.firstRequest = t
	}
	for _, rt := range l.Routes {
		rp := &routePlan{
			cfg: rt, allow: netset.New(rt.Allow), deny: netset.New(rt.Deny),
			request: compileOps(rt.RequestHeaders), response: compileOps(rt.ResponseHeaders),
		}
		for _, wc := range rt.Clusters {
			i, ok := index[wc.Cluster]
			if !ok {
				return nil, fmt.Errorf("listener.%s.route[%d]: no cluster %q", l.Name, rt.Index, wc.Cluster)
			}
			rp.clusters = append(rp.clusters, i)
			if err := rp.addPin(clusters[i], sessions, r); err != nil {
				return nil, fmt.Errorf("listener.%s.route[%d]: cluster %s: persistence: %w", l.Name, rt.Index, wc.Cluster, err)
			}
		}
		if len(rt.Clusters) > 1 {
			rp.split = cluster.NewSplit(rt.Clusters)
		}
		if len(rt.Retry.Statuses) > 0 {
			rp.statuses = make(map[int]bool)
			for _, s := range rt.Retry.Statuses {
				rp.statuses[s] = true
			}
		}
		p.routes = append(p.routes, rp)
	}
	return p, nil
}

// codecOptions translates the listener's limits and switches.
func codecOptions(l *config.Listener) http1.Options {
	o := http1.Options{
		MaxRequestLine:      l.Limits.RequestLine,
		Header:              header.Limits{Fields: l.Limits.Fields, Bytes: l.Limits.HeadBytes, Name: l.Limits.FieldName},
		MaxChunkLine:        l.Limits.ChunkExtensions,
		DefaultHost:         l.HTTP1.DefaultHost,
		AllowEqualLengths:   l.HTTP1.AllowEqualLengths,
		AllowLeadingZeros:   l.HTTP1.AllowLeadingZeros,
		AllowHostMismatch:   l.HTTP1.AllowHostMismatch,
		AllowEscapedControl: l.HTTP1.EscapedControl == "allow",
		AllowBackslash:      l.HTTP1.Backslash == "allow",
	}
	switch l.HTTP1.Underscores {
	case "allow":
		o.Underscores = http1.UnderscoreAllow
	case "reject":
		o.Underscores = http1.UnderscoreReject
	default:
		o.Underscores = http1.UnderscoreDrop
	}
	return o
}

// headerOps is config.HeaderOps with names and templates taken apart.
type headerOps struct {
	remove []string
	set    []headerOp
	add    []headerOp
}

type headerOp struct {
	name  string
	value template
}

func (o *headerOps) empty() bool { return len(o.remove)+len(o.set)+len(o.add) == 0 }

func compileOps(c config.HeaderOps) headerOps {
	o := headerOps{remove: c.Remove}
	for _, x := range c.Set {
		o.set = append(o.set, headerOp{x[0], compileTemplate(x[1])})
	}
	for _, x := range c.Add {
		o.add = append(o.add, headerOp{x[0], compileTemplate(x[1])})
	}
	return o
}

// template is a value as literal pieces and variables, alternating.
type template []piece

type piece struct {
	literal  string
	variable string // without %{ }; "" after the last literal
}

// compileTemplate takes a value that config has validated apart.
func compileTemplate(v string) template {
	var t template
	var lit strings.Builder
	for v != "" {
		i := strings.IndexByte(v, '%')
		if i < 0 {
			lit.WriteString(v)
			break
		}
		lit.WriteString(v[:i])
		v = v[i:]
		if strings.HasPrefix(v, "%%") {
			lit.WriteByte('%')
			v = v[2:]
			continue
		}
		end := strings.IndexByte(v, '}')
		if !strings.HasPrefix(v, "%{") || end < 0 {
			lit.WriteByte('%')
			v = v[1:]
			continue
		}
		t = append(t, piece{lit.String(), v[2:end]})
		lit.Reset()
		v = v[end+1:]
	}
	if lit.Len() > 0 || len(t) == 0 {
		t = append(t, piece{literal: lit.String()})
	}
	return t
}

// apply changes m by the operations; variables come from the exchange.
func (o *headerOps) apply(m *header.Map, s *stream) {
	for _, n := range o.remove {
		m.RemoveName([]byte(n))
	}
	for i := range o.set {
		op := &o.set[i]
		if len(op.value) == 1 && op.value[0].variable == "" {
			m.SetName(op.name, op.value[0].literal)
			continue
		}
		if m.SetName(op.name, string(s.expand(op.value))) != nil { // not what came in its stead
			m.RemoveName([]byte(op.name))
		}
	}
	for i := range o.add {
		op := &o.add[i]
		if len(op.value) == 1 && op.value[0].variable == "" {
			m.AddName(op.name, op.value[0].literal)
			continue
		}
		m.AddName(op.name, string(s.expand(op.value)))
	}
}

// expand fills a template in; the result is valid until the next call.
func (s *stream) expand(t template) []byte {
	b := s.w.text[:0]
	for _, p := range t {
		b = append(b, p.literal...)
		switch p.variable {
		case "client_ip":
			if s.client.IsValid() {
				b = s.client.AppendTo(b)
			}
		case "request_id":
			b = append(b, s.req.Header.Get(header.XRequestID)...)
		case "host":
			b = append(b, s.req.Host()...)
		case "listener":
			b = append(b, s.c.plan.Listener.Name...)
		case "route":
			b = append(b, s.route.cfg.Name...)
		case "cluster":
			if s.cl != nil {
				b = append(b, s.cl.shared.Config.Name...)
			}
		case "endpoint":
			if s.ep != nil {
				b = append(b, s.ep.ID...)
			}
		default:
			b = s.c.appendTLS(b, p.variable)
		}
	}
	s.w.text = b
	return b
}
