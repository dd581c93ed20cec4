package main

import (
	"context"
	"time"

	"belay/internal/admin/adminapi"
)

// sample is what the daemon said at one time.
type sample struct {
	at        time.Time
	status    adminapi.Status
	listeners []adminapi.Listener
	clusters  []adminapi.Cluster
}

// take asks the daemon for a sample.
func take(ctx context.Context, c *adminapi.Client) (sample, error) {
	s := sample{at: time.Now()}
	var err error
	if s.status, err = c.Status(ctx); err != nil {
		return s, err
	}
	if s.listeners, err = c.Listeners(ctx, adminapi.Query{Buckets: true}); err != nil {
		return s, err
	}
	s.clusters, err = c.Clusters(ctx, adminapi.Query{Buckets: true})
	return s, err
}

// load is what happened between two samples, per second.
type load struct {
	Time        time.Time      `json:"time"`
	Seconds     float64        `json:"interval_seconds"` // 0: there was but one sample, so all rates are 0
	Version     string         `json:"version"`
	PID         int            `json:"pid"`
	State       string         `json:"state"`
	Uptime      float64        `json:"uptime_seconds"`
	Workers     int            `json:"workers"`
	Connections int64          `json:"connections"`
	AcceptRate  float64        `json:"accepted_per_second"`
	RequestRate float64        `json:"requests_per_second"`
	Listeners   []listenerLoad `json:"listeners"`
	Clusters    []clusterLoad  `json:"clusters"`
	Endpoints   []endpointLoad `json:"endpoints"`
	maxConns    int64
}

// traffic is what listeners, clusters and endpoints have in common.
type traffic struct {
	Connections int64   `json:"connections"`
	RequestRate float64 `json:"requests_per_second"`
	Rate5xx     float64 `json:"5xx_per_second"`
	Count       uint64  `json:"timed"`       // requests that P50 and P99 are of
	P50         float64 `json:"p50_seconds"` // within the interval
	P99         float64 `json:"p99_seconds"`
}

type listenerLoad struct {
	Name       string  `json:"name"`
	Address    string  `json:"address"`
	State      string  `json:"state"`
	AcceptRate float64 `json:"accepted_per_second"`
	InRate     float64 `json:"bytes_in_per_second"`
	OutRate    float64 `json:"bytes_out_per_second"`
	traffic
}

type clusterLoad struct {
	Name      string  `json:"name"`
	Available int     `json:"available"`
	Endpoints int     `json:"endpoints"`
	Active    int64   `json:"active"`
	Pending   int64   `json:"pending"`
	ErrorRate float64 `json:"errors_per_second"`
	traffic
}

type endpointLoad struct {
	Cluster   string  `json:"cluster"`
	ID        string  `json:"id"`
	Address   string  `json:"address"`
	State     string  `json:"state"`
	Active    int64   `json:"active"`
	Pending   int64   `json:"pending"`
	ErrorRate float64 `json:"errors_per_second"`
	traffic
}

// meter turns differences of counters into rates.
type meter struct{ seconds float64 }

// rate is the rate of a counter. One that is smaller than before began anew
// with the daemon, so all of it is of this interval.
func (m meter) rate(old, now uint64) float64 {
	if m.seconds == 0 {
		return 0
	}
	if now >= old {
		now -= old
	}
	return float64(now) / m.seconds
}

func (m meter) traffic(connections int64, oldRequests, requests uint64, oldReplies, replies adminapi.Replies, old, now adminapi.Latency) traffic {
	t := traffic{
		Connections: connections,
		RequestRate: m.rate(oldRequests, requests),
		Rate5xx:     m.rate(oldReplies.ServerError, replies.ServerError),
	}
	if m.seconds > 0 {
		d := now.Since(old)
		t.Count, t.P50, t.P99 = d.Count, d.P50, d.P99
	}
	return t
}

// between computes the load between two samples. What is not in the old one
// began after it; the same sample twice gives gauges without rates.
func between(old, now *sample) load {
	m := meter{max(0, now.at.Sub(old.at).Seconds())}
	l := load{
		Time: now.at, Seconds: m.seconds,
		Version: now.status.Version, PID: now.status.PID, State: now.status.State, Uptime: now.status.UptimeSeconds,
		Workers: now.status.Workers, Connections: now.status.Connections, maxConns: now.status.MaxConnections,
		AcceptRate:  m.rate(old.status.Accepted, now.status.Accepted),
		RequestRate: m.rate(old.status.Requests, now.status.Requests),
		Listeners:   make([]listenerLoad, 0, len(now.listeners)),
		Clusters:    make([]clusterLoad, 0, len(now.clusters)),
		Endpoints:   []endpointLoad{},
	}
	before := make(map[string]*adminapi.Listener, len(old.listeners))
	for i := range old.listeners {
		before[old.listeners[i].Name] = &old.listeners[i]
	}
	for i := range now.listeners {
		n := &now.listeners[i]
		o := before[n.Name]
		if o == nil {
			o = &adminapi.Listener{}
		}
		l.Listeners = append(l.Listeners, listenerLoad{
			Name: n.Name, Address: n.Address, State: n.State,
			AcceptRate: m.rate(o.Accepted, n.Accepted), InRate: m.rate(o.BytesIn, n.BytesIn), OutRate: m.rate(o.BytesOut, n.BytesOut),
			traffic: m.traffic(n.Connections, o.Requests, n.Requests, o.Replies, n.Replies, o.Latency, n.Latency),
		})
	}
	l.addClusters(m, old.clusters, now.clusters)
	return l
}

func (l *load) addClusters(m meter, old, now []adminapi.Cluster) {
	type key struct{ cluster, endpoint string }
	clusters := make(map[string]*adminapi.Cluster, len(old))
	endpoints := make(map[key]*adminapi.Endpoint)
	for i := range old {
		c := &old[i]
		clusters[c.Name] = c
		for k := range c.Endpoints {
			endpoints[key{c.Name, c.Endpoints[k].ID}] = &c.Endpoints[k]
		}
	}
	for i := range now {
		n := &now[i]
		o := clusters[n.Name]
		if o == nil {
			o = &adminapi.Cluster{}
		}
		l.Clusters = append(l.Clusters, clusterLoad{
			Name: n.Name, Available: n.Available, Endpoints: len(n.Endpoints), Active: n.Active, Pending: n.Pending,
			ErrorRate: m.rate(o.Errors, n.Errors) + m.rate(o.NoEndpoint, n.NoEndpoint),
			traffic:   m.traffic(n.Open, o.Requests, n.Requests, o.Replies, n.Replies, o.Latency, n.Latency),
		})
		for k := range n.Endpoints {
			e := &n.Endpoints[k]
			was := endpoints[key{n.Name, e.ID}]
			if was == nil {
				was = &adminapi.Endpoint{}
			}
			l.Endpoints = append(l.Endpoints, endpointLoad{
				Cluster: n.Name, ID: e.ID, Address: e.Address, State: e.State, Active: e.Active, Pending: e.Pending,
				ErrorRate: m.rate(was.Errors, e.Errors),
				traffic:   m.traffic(e.Open, was.Requests, e.Requests, was.Replies, e.Replies, was.Latency, e.Latency),
			})
		}
	}
}
