package main

import (
	"bufio"
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
		addr := strings.TrimPrefix(url, "http://")
		var mu sync.Mutex
		var all []time.Duration
		var errs int64
		var wg sync.WaitGroup
		begin := time.Now().Add(50 * time.Millisecond)
		gap := time.Duration(conns) * time.Second / time.Duration(rate)
		for i := range conns {
			wg.Add(1)
			go func() {
				defer wg.Done()
				lat, err := paced(addr, begin.Add(gap*time.Duration(i)/time.Duration(conns)), gap, l.s.duration)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, lat...)
				if err != nil {
					errs++
				}
			}()
		}
		wg.Wait()
		slices.Sort(all)
		if len(all) == 0 {
			return sample{}, fmt.Errorf("no reply")
		}
		at := func(q float64) time.Duration { return all[min(len(all)-1, int(q*float64(len(all))))] }
		return sample{requests: int64(len(all)), seconds: l.s.duration.Seconds(), p50: at(.5), p99: at(.99), p999: at(.999), errors: errs}, nil
	}
}

// paced is one connection's requests.
func paced(addr string, first time.Time, gap, length time.Duration) ([]time.Duration, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	var lat []time.Duration
	for due := first; due.Before(first.Add(length)); due = due.Add(gap) {
		if d := time.Until(due); d > 0 {
			time.Sleep(d)
		}
		if err := request(c, r); err != nil {
			return lat, err
		}
		lat = append(lat, time.Since(due))
	}
	return lat, nil
}

// request sends a small request and reads the reply.
func request(c net.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(c, "GET /small HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
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

// idleLoad opens connections, has one request answered on each, and measures
// the memory that they cost the server.
func idleLoad(conns int) func(*lab, string) (sample, error) {
	return func(l *lab, url string) (sample, error) {
		addr := strings.TrimPrefix(url, "http://")
		before := rss(l.backend.Process.Pid)
		var open []net.Conn
		defer func() {
			for _, c := range open {
				c.Close()
			}
		}()
		for range conns {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return sample{}, err
			}
			open = append(open, c)
			if err := request(c, bufio.NewReader(c)); err != nil {
				return sample{}, err
			}
		}
		grown := rss(l.backend.Process.Pid) - before
		return sample{requests: int64(conns), seconds: 1, rssPerConn: float64(grown) / float64(conns)}, nil
	}
}
