package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// wrkReport prints what the parser below reads.
const wrkReport = `
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
`

var wrkResult = regexp.MustCompile(`RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)`)

// wrkLoad is a closed loop of wrk.
func wrkLoad(conns int, path, script string) func(*lab, string) (sample, error) {
	return func(l *lab, url string) (sample, error) {
		file := filepath.Join(l.dir, "wrk.lua")
		if err := os.WriteFile(file, []byte(script+wrkReport), 0o644); err != nil {
			return sample{}, err
		}
		out, err := l.pinned(l.s.loadCPU, "wrk", "-t1", "-c", strconv.Itoa(conns), "-d", strconv.Itoa(int(l.s.duration.Seconds()))+"s",
			"-s", file, url+path).Output()
		if err != nil {
			return sample{}, fmt.Errorf("wrk: %w: %s", err, out)
		}
		m := wrkResult.FindStringSubmatch(string(out))
		if m == nil {
			return sample{}, fmt.Errorf("wrk said: %s", out)
		}
		var n [6]int64
		for i := range n {
			n[i], _ = strconv.ParseInt(m[i+1], 10, 64)
		}
		us := func(v int64) time.Duration { return time.Duration(v) * time.Microsecond }
		return sample{requests: n[0], seconds: float64(n[1]) / 1e6, p50: us(n[2]), p99: us(n[3]), p999: us(n[4]), errors: n[5]}, nil
	}
}

// openLoad sends at a fixed rate whether replies come or not: each connection
// has its own schedule, and latency counts from the time a request was due.
func openLoad(rate, conns int) func(*lab, string) (sample, error) {
	return func(l *lab, url string) (sample, error) {
		open, err := establish(url, conns)
		defer hangUp(open)
		if err != nil {
			return sample{}, err
		}
		return paceAll(open, rate, l.s.duration)
	}
}

// establish makes connections; those that it returns are the caller's to close,
// also with an error.
func establish(url string, conns int) ([]net.Conn, error) {
	dial := dialer(url, tls.X25519)
	var open []net.Conn
	for range conns {
		c, err := dial()
		if err != nil {
			return open, err
		}
		open = append(open, c)
	}
	return open, nil
}

func hangUp(open []net.Conn) {
	for _, c := range open {
		_ = c.Close()
	}
}

// paceAll sends rate requests a second, spread over the connections.
func paceAll(open []net.Conn, rate int, length time.Duration) (sample, error) {
	times := make([][]time.Duration, len(open))
	var errs atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now().Add(50 * time.Millisecond)
	gap := time.Duration(len(open)) * time.Second / time.Duration(rate)
	for i, c := range open {
		wg.Go(func() {
			var err error
			times[i], err = paced(c, begin.Add(gap*time.Duration(i)/time.Duration(len(open))), gap, length)
			if err != nil {
				errs.Add(1)
			}
		})
	}
	wg.Wait()
	m, err := latencies(times)
	m.seconds, m.errors = length.Seconds(), errs.Load()
	return m, err
}

// latencies is a sample of requests by how long they took.
func latencies(times [][]time.Duration) (sample, error) {
	all := slices.Concat(times...)
	if len(all) == 0 {
		return sample{}, errors.New("no reply")
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(len(all)-1, int(q*float64(len(all))))] }
	return sample{requests: int64(len(all)), p50: at(.5), p99: at(.99), p999: at(.999)}, nil
}

// paced is one connection's requests. A server that lets it wait for ever fails it.
func paced(c net.Conn, first time.Time, gap, length time.Duration) ([]time.Duration, error) {
	if err := c.SetDeadline(first.Add(length + replyWait)); err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	var lat []time.Duration
	for due := first; due.Before(first.Add(length)); due = due.Add(gap) {
		if d := time.Until(due); d > 0 {
			time.Sleep(d)
		}
		if err := request(c, r, "/small"); err != nil {
			return lat, err
		}
		lat = append(lat, time.Since(due))
	}
	return lat, nil
}

// request sends a small request and reads the reply.
func request(c net.Conn, r *bufio.Reader, path string) error {
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return err
	}
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, "content-length") {
			length, _ = strconv.Atoi(strings.TrimSpace(v))
		}
	}
	_, err := r.Discard(length)
	return err
}

// idleQuiet is how long idle connections have been so when memory is measured.
const idleQuiet = 5 * time.Second

// idleLoad opens connections, has one request answered on each, and measures
// the memory that they cost the server.
func idleLoad(conns int, path string) func(*lab, string) (sample, error) {
	return func(l *lab, url string) (sample, error) {
		dial := dialer(url, tls.X25519)
		before := rss(l.backend.Process.Pid)
		var open []net.Conn
		defer func() { hangUp(open) }()
		for range conns {
			c, err := dial()
			if err != nil {
				return sample{}, err
			}
			open = append(open, c)
			if err := request(c, bufio.NewReader(c), path); err != nil {
				return sample{}, err
			}
		}
		time.Sleep(idleQuiet) // belay gives the garbage of the handshakes back when they are over
		grown := rss(l.backend.Process.Pid) - before
		return sample{requests: int64(conns), seconds: 1, rssPerConn: float64(grown) / float64(conns)}, nil
	}
}
