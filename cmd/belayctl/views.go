package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"belay/internal/admin/adminapi"
)

func writeStatus(w io.Writer, s *adminapi.Status) error {
	f := facts{
		{"version", s.Version},
		{"state", s.State},
		{"pid", fmt.Sprint(s.PID)},
		{"started", fmt.Sprintf("%s (%s ago)", s.Started.Format(time.RFC3339), age(s.Uptime()))},
		{"workers", fmt.Sprint(s.Workers)},
		{"connections", ofLimit(s.Connections, s.MaxConnections)},
		{"accepted", count(s.Accepted)},
		{"requests", count(s.Requests)},
	}
	for i, file := range s.ConfigFiles {
		name := ""
		if i == 0 {
			name = "config"
		}
		f = append(f, [2]string{name, file})
	}
	return f.write(w)
}

// ofLimit writes a number with its limit, if there is one.
func ofLimit(n, limit int64) string {
	if limit == 0 {
		return count(n)
	}
	return fmt.Sprintf("%s of %s", count(n), count(limit))
}

func writeListeners(w io.Writer, list []adminapi.Listener) error {
	s := newSheet("NAME", "ADDRESS", "PROTOCOL", "STATE", ">CONNS", ">ACCEPTED", ">REJECTED", ">REQUESTS", ">4XX", ">5XX", ">P50", ">P99")
	for i := range list {
		l := &list[i]
		s.add(l.Name, l.Address, l.Protocol, l.State, count(l.Connections), count(l.Accepted), count(l.Rejected), count(l.Requests),
			count(l.Replies.ClientError), count(l.Replies.ServerError),
			latency(l.Latency.P50, l.Latency.Count), latency(l.Latency.P99, l.Latency.Count))
	}
	return s.write(w)
}

// writeListener writes all that is known about one.
func writeListener(w io.Writer, l *adminapi.Listener) error {
	r := &l.Replies
	return facts{
		{"name", l.Name},
		{"address", l.Address},
		{"protocol", l.Protocol},
		{"sockets", fmt.Sprint(l.Sockets)},
		{"state", l.State},
		{"connections", ofLimit(l.Connections, int64(l.MaxConnections))},
		{"accepted", count(l.Accepted)},
		{"rejected", count(l.Rejected)},
		{"throttled", count(l.Throttled)},
		{"requests", count(l.Requests)},
		{"bad requests", count(l.BadRequests)},
		{"no route", count(l.NoRoute)},
		{"denied", count(l.Denied)},
		{"replies", fmt.Sprintf("%s 2xx, %s 3xx, %s 4xx, %s 5xx", count(r.Success), count(r.Redirect), count(r.ClientError), count(r.ServerError))},
		{"received", size(float64(l.BytesIn))},
		{"sent", size(float64(l.BytesOut))},
		{"time p50", latency(l.Latency.P50, l.Latency.Count)},
		{"time p99", latency(l.Latency.P99, l.Latency.Count)},
	}.write(w)
}

func writeClusters(w io.Writer, list []adminapi.Cluster) error {
	s := newSheet("NAME", "BALANCE", ">UP", ">ACTIVE", ">CONNS", ">REQUESTS", ">RETRIES", ">ERRORS", ">5XX", ">P50", ">P99")
	for i := range list {
		c := &list[i]
		s.add(c.Name, c.Balance, fmt.Sprintf("%d/%d", c.Available, len(c.Endpoints)), count(c.Active), count(c.Open), count(c.Requests),
			count(c.Retries), count(c.Errors+c.NoEndpoint), count(c.Replies.ServerError),
			latency(c.Latency.P50, c.Latency.Count), latency(c.Latency.P99, c.Latency.Count))
	}
	return s.write(w)
}

func writeEndpoints(w io.Writer, list []adminapi.Cluster) error {
	s := newSheet("CLUSTER", "ENDPOINT", "ADDRESS", "STATE", ">WEIGHT", ">ACTIVE", ">PENDING", ">CONNS", ">IDLE", ">REQUESTS", ">ERRORS", ">5XX", ">P50", ">P99")
	for i := range list {
		c := &list[i]
		for k := range c.Endpoints {
			e := &c.Endpoints[k]
			s.add(c.Name, e.ID, resolved(e), e.State, fmt.Sprint(e.Weight), count(e.Active), count(e.Pending), count(e.Open), count(e.Idle),
				count(e.Requests), count(e.Errors), count(e.Replies.ServerError),
				latency(e.Latency.P50, e.Latency.Count), latency(e.Latency.P99, e.Latency.Count))
		}
	}
	return s.write(w)
}

// resolved is the address of an endpoint, and what a name stands for now.
func resolved(e *adminapi.Endpoint) string {
	const shown = 2
	a := e.Addresses
	if len(a) == 0 || slices.Equal(a, []string{e.Address}) {
		return e.Address
	}
	more := ""
	if len(a) > shown {
		more = fmt.Sprintf(" +%d", len(a)-shown)
		a = a[:shown]
	}
	return fmt.Sprintf("%s (%s%s)", e.Address, strings.Join(a, " "), more)
}
