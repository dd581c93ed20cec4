package config

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// headroomSize is a size, or "auto", which is 0.
type headroomSize int64

// maxHeadroom is more than any host has: such a value makes a check fail.
const maxHeadroom = 1 << 50

func (h *headroomSize) set(v any) error {
	*h = 0
	switch v.(type) {
	case string, int64:
	default:
		return fmt.Errorf(`must be "auto" or a size, not %s`, kind(v))
	}
	if v == "auto" {
		return nil
	}
	var z size
	if err := z.set(v); err != nil {
		return fmt.Errorf(`%w, or "auto"`, err)
	}
	if z < 1 || z > maxHeadroom {
		return fmt.Errorf(`must be "auto" or from 1 to %d, not %d`, int64(maxHeadroom), z)
	}
	*h = headroomSize(z)
	return nil
}

// socketName is what systemd.socket(5) takes for FileDescriptorName=; "" is none.
type socketName string

// maxSocketName is FDNAME_MAX of systemd.
const maxSocketName = 255

func (n *socketName) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == ':' {
			return fmt.Errorf(`%q: FileDescriptorName= has printable ASCII without ":"`, s)
		}
	}
	if len(s) > maxSocketName {
		return fmt.Errorf("the name is %d bytes long; FileDescriptorName= has at most %d", len(s), maxSocketName)
	}
	*n = socketName(s)
	return nil
}

// maxHotDirectory leaves room in a Unix address for "/hot-BASE.EPOCH.sock" with
// a base id of three digits and an epoch of ten.
const maxHotDirectory = maxUnixPath - len("/hot-999.9999999999.sock")

func (b *builder) buildHotRestart(cfg *Config) {
	raw, at, h := &b.hotRestart.raw, b.hotRestart.at, defaultHotRestart()
	putBool(&h.Enabled, raw.Enabled)
	putText(&h.Directory, raw.Directory)
	put(&h.BaseID, raw.BaseID)
	put(&h.DrainTime, raw.DrainTime)
	h.DrainImmediate = raw.DrainStrategy != nil && *raw.DrainStrategy == "immediate"
	put(&h.Probation, raw.Probation)
	put(&h.ShutdownTime, raw.ShutdownTime)
	put(&h.MaxGenerations, raw.MaxGenerations)
	put(&h.MinInterval, raw.MinInterval)
	put(&h.MemoryHeadroom, raw.MemoryHeadroom)
	put(&h.Heartbeat, raw.Heartbeat)
	put(&h.PrepareTime, raw.PrepareTime)
	put(&h.CallTime, raw.CallTime)
	switch d := h.Directory; {
	case d == "":
	case strings.ContainsRune(d, 0):
		b.add(at.child("directory"), "%q has a NUL in it", d)
	case !filepath.IsAbs(d):
		b.add(at.child("directory"), "%q is not an absolute path: belayd and its hook may be started in different directories", d)
	case len(d) > maxHotDirectory:
		b.add(at.child("directory"), "the path is %d bytes long; the sockets in it leave room for %d", len(d), maxHotDirectory)
	}
	if h.ShutdownTime < h.DrainTime {
		key := "shutdown_time"
		if raw.ShutdownTime == nil {
			key = "drain_time"
		}
		b.add(at.child(key), "shutdown_time (%s) is shorter than drain_time (%s)", h.ShutdownTime, h.DrainTime)
	}
	cfg.HotRestart = h
	order := 0
	if at != nil {
		cfg.probation, order = at.child("probation"), at.src.order
	}
	if p, ok := cfg.watchdogProblem(b.watchdog); ok {
		b.found = append(b.found, found{p, order})
	}
}

// CheckWatchdog tells whether the configuration can live with systemd's
// watchdog, WatchdogSec= of the unit; 0 is none. A parent that hangs in
// probation loses its say to its child; with too short an interval systemd
// would end both before that. The error is a *Problems.
func (c *Config) CheckWatchdog(interval time.Duration) error {
	if p, ok := c.watchdogProblem(interval); ok {
		return &Problems{p}
	}
	return nil
}

func (c *Config) watchdogProblem(interval time.Duration) (Problem, bool) {
	h := &c.HotRestart
	if interval <= 0 || !h.Enabled || h.Probation < interval {
		return Problem{}, false
	}
	p := Problem{Path: "hot_restart.probation"}
	p.Msg = fmt.Sprintf("probation (%s) is not shorter than WatchdogSec= of the unit (%s)", h.Probation, interval)
	if at := c.probation; at != nil {
		p.File, p.Line = at.src.name, at.src.line(at)
	} else if len(c.Files) > 0 {
		p.File = c.Files[0]
	}
	return p, true
}

// watchdogInterval is what systemd says to this process; sd_watchdog_enabled(3).
func watchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec > math.MaxInt64/uint64(time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}
