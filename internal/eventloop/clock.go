package eventloop

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock ties Go's own monotonic reading, which needs no system call, to the
// kernel's clock, whose values mean the same in every process of the host.
type clock struct {
	base time.Time
	ns   int64 // CLOCK_MONOTONIC at base
}

var monotonic = startClock()

func startClock() clock {
	var ts unix.Timespec
	base := time.Now()
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return clock{base: base, ns: int64(time.Hour)} // any start will do
	}
	return clock{base: base, ns: ts.Nano()}
}

// Monotonic is the present time in ns on the scale of Worker.Now, that of
// CLOCK_MONOTONIC (clock_gettime(2)). Any goroutine may ask.
func Monotonic() int64 { return monotonic.ns + int64(time.Since(monotonic.base)) }
