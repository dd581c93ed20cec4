package server

import (
	"runtime"
	"time"

	"belay/internal/hotrestart"
	"belay/internal/stats"
)

// registerOwn registers what belongs to the process as a whole.
func (s *Server) registerOwn() {
	r := s.registry
	gauge := func(name, help string, f func() float64) { r.Func(stats.KindGauge, name, help, f) }
	r.FuncSum("belay_connections", "Open client connections, of all generations.", func() float64 { return float64(s.limit.Active()) })
	gauge("belay_max_connections", "Limit on open client connections.", func() float64 { return float64(s.limit.Max) })
	gauge("belay_start_time_seconds", "When the process started, Unix time.", func() float64 { return float64(s.started.UnixNano()) / 1e9 })
	gauge("belay_uptime_seconds", "Time since the start.", func() float64 { return time.Since(s.started).Seconds() })
	gauge("belay_workers", "Workers.", func() float64 { return float64(len(s.workers)) })
	gauge("belay_heap_bytes", "Memory in use by the heap.", func() float64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse)
	})
	r.Func(stats.KindGauge, "belay_build_info", "1; the version is in the label.", func() float64 { return 1 }, stats.Label{Name: "version", Value: s.version})
	s.memory.register(r)
	s.registerRestarts(r)
	s.registerCertificates()
	s.registerPersistence()
	if s.access != nil {
		r.Func(stats.KindCounter, "belay_access_log_lines_total", "Access log lines written.", func() float64 { return float64(s.access.Lines()) })
		r.Func(stats.KindCounter, "belay_access_log_dropped_total", "Access log lines dropped: the queue was full or the file took none.", func() float64 { return float64(s.access.Dropped()) })
		r.Func(stats.KindCounter, "belay_access_log_errors_total", "Access log writes that failed.", func() float64 { return float64(s.access.Errors()) })
	}
}

const (
	restartsMetric    = "belay_hot_restarts_total"
	restartOK         = "ok"
	restartFailed     = "failed"
	restartRolledBack = "rolled-back"
)

// registerRestarts registers what tells of hot restarts.
func (s *Server) registerRestarts(r *stats.Registry) {
	if s.node == nil {
		return
	}
	r.Func(stats.KindGauge, "belay_epoch", "Number of this generation.", func() float64 { return float64(s.epoch()) })
	r.Func(stats.KindGauge, "belay_original_start_time_seconds", "When the first generation started, Unix time.", func() float64 { return float64(s.origin.UnixNano()) / 1e9 })
	r.Func(stats.KindGauge, "belay_store_refused", "1: the service manager does not keep the listen sockets.", func() float64 {
		if s.service.refused.Load() {
			return 1
		}
		return 0
	})
	for _, x := range []struct {
		result string
		count  func(hotrestart.Counts) uint64
	}{
		{restartOK, func(c hotrestart.Counts) uint64 { return c.Done }},
		{restartFailed, func(c hotrestart.Counts) uint64 { return c.Failed }},
		{restartRolledBack, func(c hotrestart.Counts) uint64 { return c.RolledBack }},
	} {
		r.Func(stats.KindCounter, restartsMetric, "Hot restarts, by how they ended.",
			func() float64 { return float64(x.count(s.node.Counts())) }, stats.Label{Name: "result", Value: x.result})
	}
	r.Func(stats.KindCounter, "belay_drain_cut_connections_total", "Connections cut because their time was over while draining or stopping.", func() float64 { return float64(s.cut.Load()) })
}
