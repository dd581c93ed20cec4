package main

import (
	"math"
	"testing"
	"time"

	"belay/internal/admin/adminapi"
)

// twoSamples are two looks at a daemon, two seconds apart.
func twoSamples() (old, now sample) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ep := func(id string, requests, errors, s5xx uint64, buckets ...adminapi.Bucket) adminapi.Endpoint {
		return adminapi.Endpoint{
			ID: id, Address: "10.0.0.1:80", Weight: 1, State: adminapi.StateUp, Requests: requests, Errors: errors,
			Replies: adminapi.Replies{ServerError: s5xx}, Active: 1, Pending: 2, Open: 3, Latency: adminapi.NewLatency(0, buckets),
		}
	}
	old = sample{
		at: at, status: adminapi.Status{Version: "1.2.3", PID: 1, State: "serving", Requests: 1000, Accepted: 100},
		listeners: []adminapi.Listener{{
			Name: "web", Requests: 1000, Accepted: 100, BytesIn: 1 << 20, BytesOut: 1 << 30, Replies: adminapi.Replies{ServerError: 5},
			Latency: adminapi.NewLatency(0, []adminapi.Bucket{{From: 1, To: 2, Count: 1000}}),
		}},
		clusters: []adminapi.Cluster{{
			Name: "app", Requests: 900, NoEndpoint: 1,
			Endpoints: []adminapi.Endpoint{ep("a", 500, 10, 1, adminapi.Bucket{From: 1, To: 2, Count: 500}), ep("b", 400, 0, 0)},
		}},
	}
	now = sample{
		at: at.Add(2 * time.Second), status: adminapi.Status{
			Version: "1.2.3", PID: 1, State: "serving", UptimeSeconds: 90, Workers: 2, Requests: 1600, Accepted: 101, Connections: 7, MaxConnections: 100,
		},
		listeners: []adminapi.Listener{
			{
				Name: "web", Address: "[::]:80", State: "accepting", Connections: 7, Requests: 1500, Accepted: 101,
				BytesIn: 3 << 20, BytesOut: 1<<30 + 4096, Replies: adminapi.Replies{ServerError: 6},
				Latency: adminapi.NewLatency(0, []adminapi.Bucket{{From: 0.25, To: 0.5, Count: 500}, {From: 1, To: 2, Count: 1000}}),
			},
			{Name: "new", Address: "[::]:81", State: "accepting", Requests: 100},
		},
		clusters: []adminapi.Cluster{
			{
				Name: "app", Requests: 1400, NoEndpoint: 3,
				Endpoints: []adminapi.Endpoint{
					ep("a", 900, 14, 3, adminapi.Bucket{From: 1, To: 2, Count: 900}),
					ep("b", 60, 0, 0), // counts anew
					ep("c", 10, 0, 0),
				},
			},
		},
	}
	for _, s := range []*sample{&old, &now} {
		for i := range s.clusters {
			s.clusters[i].Sum()
		}
	}
	return old, now
}

func TestBetween(t *testing.T) {
	old, now := twoSamples()
	l := between(&old, &now)
	web, fresh, app := l.Listeners[0], l.Listeners[1], l.Clusters[0]
	a, b, c := l.Endpoints[0], l.Endpoints[1], l.Endpoints[2]
	for _, tt := range []struct {
		name      string
		got, want float64
	}{
		{"seconds", l.Seconds, 2},
		{"requests", l.RequestRate, 300},
		{"accepted", l.AcceptRate, 0.5},
		{"listener requests", web.RequestRate, 250},
		{"listener 5xx", web.Rate5xx, 0.5},
		{"listener bytes in", web.InRate, 1 << 20},
		{"listener bytes out", web.OutRate, 2048},
		{"listener p50 is of the interval", web.P50, 0.375},
		{"listener p99 is of the interval", web.P99, 0.4975},
		{"listener timed", float64(web.Count), 500},
		{"new listener", fresh.RequestRate, 50},
		{"cluster requests", app.RequestRate, 250},
		{"cluster errors with those without endpoint", app.ErrorRate, 2 + 1},
		{"cluster 5xx", app.Rate5xx, 1},
		{"cluster available", float64(app.Available), 3},
		{"endpoint requests", a.RequestRate, 200},
		{"endpoint errors", a.ErrorRate, 2},
		{"endpoint 5xx", a.Rate5xx, 1},
		{"endpoint p50", a.P50, 1.5},
		{"endpoint that counts anew", b.RequestRate, 30},
		{"new endpoint", c.RequestRate, 5},
		{"endpoint connections", float64(c.Connections), 3},
	} {
		if math.Abs(tt.got-tt.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

func TestBetweenSameSampleHasNoRates(t *testing.T) {
	_, now := twoSamples()
	l := between(&now, &now)
	if l.Seconds != 0 || l.RequestRate != 0 || l.Listeners[0].RequestRate != 0 || l.Endpoints[0].Count != 0 || l.Connections != 7 {
		t.Errorf("%+v", l)
	}
}

func BenchmarkBetween(b *testing.B) {
	var s sample
	for i := range 1000 {
		c := adminapi.Cluster{Name: string(rune('a' + i))}
		for k := range 10 {
			var buckets []adminapi.Bucket
			for n := range 20 {
				buckets = append(buckets, adminapi.Bucket{From: float64(n), To: float64(n + 1), Count: uint64(k + 1)})
			}
			c.Endpoints = append(c.Endpoints, adminapi.Endpoint{ID: string(rune('a' + k)), Latency: adminapi.NewLatency(0, buckets)})
		}
		s.clusters = append(s.clusters, c)
	}
	now := s
	now.at = s.at.Add(time.Second)
	b.ReportAllocs()
	for b.Loop() {
		between(&s, &now)
	}
}
