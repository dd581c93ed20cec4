package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The load of the reloads: a rate that leaves every server idle most of the
// time, so that what is late is late because of a reload.
const (
	keptClients  = 64
	keptEvery    = 50 * time.Millisecond
	freshClients = 4
	freshEvery   = 20 * time.Millisecond
	replyWait    = 10 * time.Second
)

// generationHeader carries the number of the configuration that answered.
const generationHeader = "X-Generation"

// failures by kind.
type failures struct {
	broken    int64 // a kept connection ended without an announcement
	noticed   int64 // of these: the end was there before the request was sent
	refused   int64
	reset     int64 // a new connection was reset or closed before its reply
	malformed int64 // anything else: no reply in time, another status
}

func (f *failures) total() int64 { return f.broken + f.refused + f.reset + f.malformed }

// period is what clients saw between two reloads.
type period struct {
	requests  int64
	announced int64
	failures
	times []time.Duration // of requests that were answered
}

// reloadLoad is clients that never try a request again.
type reloadLoad struct {
	addr   string
	end    chan struct{}
	wg     sync.WaitGroup
	newest atomic.Int64 // number of the newest configuration that has answered

	mu      sync.Mutex
	seen    chan struct{} // closed when newest changes
	periods []*period     // the last one is current
}

func startReloadLoad(addr string) *reloadLoad {
	r := &reloadLoad{addr: addr, end: make(chan struct{}), seen: make(chan struct{}), periods: []*period{{}}}
	for i := range keptClients {
		r.wg.Go(func() { r.live(keptEvery, keptEvery*time.Duration(i)/keptClients, true) })
	}
	for i := range freshClients {
		r.wg.Go(func() { r.live(freshEvery, freshEvery*time.Duration(i)/freshClients, false) })
	}
	return r
}

// stop ends the clients and returns the periods.
func (r *reloadLoad) stop() []*period {
	close(r.end)
	r.wg.Wait()
	return r.periods
}

// next begins another period.
func (r *reloadLoad) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.periods = append(r.periods, &period{})
}

// answered waits until configuration n has answered a client.
func (r *reloadLoad) answered(n int64, limit time.Duration) error {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		seen := r.seen
		r.mu.Unlock()
		if r.newest.Load() >= n {
			return nil
		}
		select {
		case <-seen:
		case <-timeout.C:
			return fmt.Errorf("configuration %d has answered nobody in %v", n, limit)
		}
	}
}

// live is one client.
func (r *reloadLoad) live(every, first time.Duration, keep bool) {
	c := reloadClient{load: r, keep: keep}
	defer c.hangUp()
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-r.end:
			return
		case <-timer.C:
		}
		began := time.Now()
		c.once()
		timer.Reset(max(0, every-time.Since(began)))
	}
}

// reloadClient is a client with at most one connection.
type reloadClient struct {
	load *reloadLoad
	keep bool
	conn net.Conn // nil: none
	r    *bufio.Reader
	used bool // a request was answered on it
}

func (c *reloadClient) hangUp() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// once makes one request and counts how it ended.
func (c *reloadClient) once() {
	began := time.Now()
	var f failures
	resp, err := c.exchange(&f)
	took := time.Since(began)
	generation := int64(-1)
	if err == nil {
		_, _ = fmt.Sscan(resp.Header.Get(generationHeader), &generation)
	}
	last := err == nil && resp.Close
	if err != nil || last || !c.keep {
		c.hangUp()
	}
	r := c.load
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.periods[len(r.periods)-1]
	p.requests++
	if last {
		p.announced++
	}
	if err == nil {
		p.times = append(p.times, took)
	}
	p.broken += f.broken
	p.noticed += f.noticed
	p.refused += f.refused
	p.reset += f.reset
	p.malformed += f.malformed
	if generation > r.newest.Load() {
		r.newest.Store(generation)
		close(r.seen)
		r.seen = make(chan struct{})
	}
}

// exchange sends a request and reads the reply; f says what went wrong.
func (c *reloadClient) exchange(f *failures) (*http.Response, error) {
	if c.conn == nil {
		nc, err := net.DialTimeout("tcp", c.load.addr, replyWait)
		if err != nil {
			if errors.Is(err, syscall.ECONNREFUSED) {
				f.refused++
			} else {
				f.malformed++
			}
			return nil, err
		}
		c.conn, c.r, c.used = nc, bufio.NewReader(nc), false
	}
	if c.used && ended(c.conn) {
		f.broken++
		f.noticed++
		return nil, net.ErrClosed
	}
	_ = c.conn.SetDeadline(time.Now().Add(replyWait))
	_, err := c.conn.Write([]byte("GET /small HTTP/1.1\r\nHost: bench\r\n\r\n"))
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(c.r, nil)
	}
	if err == nil {
		_, err = c.r.Discard(int(resp.ContentLength))
	}
	var timeout net.Error
	switch {
	case err == nil && resp.StatusCode != http.StatusOK:
		f.malformed++
		return nil, errors.New(resp.Status)
	case err == nil:
		c.used = true
		return resp, nil
	case errors.As(err, &timeout) && timeout.Timeout():
		f.malformed++
	case c.used:
		f.broken++
	default:
		f.reset++
	}
	return nil, err
}

// ended says whether the server has ended a connection, without waiting.
func ended(nc net.Conn) bool {
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n <= 0 && !errors.Is(err, syscall.EAGAIN)
	})
	return gone || err != nil
}
