package server

import (
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"belay/internal/headroom"
	"belay/internal/stats"
	"belay/internal/systemd"
)

// memory watches what this process uses of what it may use.
type memory struct {
	s      *Server
	root   string // "": the real /proc and /sys; tests have others
	mu     sync.Mutex
	last   headroom.Reading // guarded by mu
	read   time.Time        // guarded by mu
	warned atomic.Bool
}

// memoryInterval is how often the figures are read.
const memoryInterval = 10 * time.Second

// reading is the figures, at most memoryInterval old.
func (m *memory) reading() headroom.Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.read) >= memoryInterval {
		m.last, _ = headroom.Read(m.root) // what it cannot read is Unknown
		m.read = time.Now()
	}
	return m.last
}

// look warns once when the process has come to half of its limit: a second one
// will not fit soon.
func (m *memory) look() {
	r := m.reading()
	if r.Lowest > 0 && r.RSS > r.Lowest/2 && m.warned.CompareAndSwap(false, true) {
		m.s.log.Warn("this process uses more than half of its memory limit: a hot restart may be refused",
			systemd.MessageID, systemd.EventMemoryHalf, "rss", r.RSS, "limit", r.Lowest)
	}
}

// check says whether a second process fits.
func (m *memory) check(need int64) (note string, err error) {
	r, err := headroom.Read(m.root)
	note = r.Note
	if err != nil { // what cannot be read refuses nothing
		note = err.Error()
	}
	return note, r.Check(need)
}

// limit tells the collector of the limit, unless an operator did.
func (m *memory) limit(s *Server) {
	m.s = s
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if n := headroom.GoMemLimit(m.reading()); n > 0 {
		debug.SetMemoryLimit(n)
	}
}

// drain has the collector keep what a draining process needs and give the rest
// back: another one grows beside it.
func (m *memory) drain() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	go func() { // a collection takes a while
		if r, _ := headroom.Read(m.root); r.RSS > 0 { // what it cannot read sets no limit
			debug.SetMemoryLimit(r.RSS)
		}
		debug.FreeOSMemory()
	}()
}

func (m *memory) register(r *stats.Registry) {
	gauge := func(name, help string, f func(headroom.Reading) int64) {
		r.Func(stats.KindGauge, name, help, func() float64 { return float64(f(m.reading())) })
	}
	gauge("belay_memory_rss_bytes", "Resident memory of the process.", func(r headroom.Reading) int64 { return r.RSS })
	gauge("belay_memory_limit_bytes", "Tightest memory limit of the control groups; -1: none.", func(r headroom.Reading) int64 { return r.Lowest })
	gauge("belay_memory_headroom_bytes", "Memory that a second process could have; -1: not known.", headroom.Reading.Room)
}
