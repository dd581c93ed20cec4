// Package headroom says how much memory this process may still take, from its
// control groups and from the host, and whether a second process of belay has
// room beside it.
package headroom

import "fmt"

// Unknown is the value of a figure that could not be read.
const Unknown = -1

// Reading is what the kernel said at one moment, in bytes; Unknown where it did
// not, and for a limit where there is none. Limit, Current and LimitPath belong to one control group: of those that
// hold this process and have a limit, the one with the least room.
type Reading struct {
	RSS       int64  // resident memory of this process; proc_pid_statm(5)
	Limit     int64  // memory.max
	Current   int64  // memory.current less inactive_file of memory.stat, which the kernel gives back first
	LimitPath string // the group, such as "/system.slice/belay.service"; "" without a limit
	Lowest    int64  // the lowest memory.max of all these groups: no process can have more
	Available int64  // MemAvailable of the host; proc_meminfo(5)
	Note      string // what could not be read, and why; "" if nothing
}

// Room is what this process and new ones may still take; Unknown if nothing
// bounds it that could be read.
func (r Reading) Room() int64 {
	room, _ := r.room()
	return room
}

// room is Room and what makes it so small.
func (r Reading) room() (int64, string) {
	room, bound := r.Available, "MemAvailable of the host"
	if r.Limit >= 0 && r.Current >= 0 {
		if left := max(0, r.Limit-r.Current); room < 0 || left < room {
			room = left
			bound = fmt.Sprintf("memory.max %s of %s, in use %s", text(r.Limit, false), r.LimitPath, text(r.Current, false))
		}
	}
	return room, bound
}

// Check tells whether need bytes are free for a second process; 0 is 1.2 times
// the RSS of this one. What could not be read refuses nothing: the caller shows
// Note.
func (r Reading) Check(need int64) error {
	why := "memory_headroom"
	if need == 0 {
		if r.RSS < 0 {
			return nil
		}
		need = r.RSS + r.RSS/5
		why = "1.2 × RSS " + text(r.RSS, false)
	}
	room, bound := r.room()
	if room < 0 || need <= room {
		return nil
	}
	return fmt.Errorf("too little memory for a second process: needs %s (%s), room %s (%s)", text(need, true), why, text(room, false), bound)
}

// GoMemLimit is the soft limit for the Go runtime, 90 % of the lowest
// memory.max; 0 if there is none. debug.SetMemoryLimit takes it.
func GoMemLimit(r Reading) int64 {
	if r.Lowest <= 0 {
		return 0
	}
	return r.Lowest - r.Lowest/10
}

// text writes bytes with one digit behind the point. Up rounds up, as a need
// is, else down, as room is: one that is too much never looks like the other.
func text(n int64, up bool) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i, unit := 0, int64(1)
	for n/unit >= 1024 && i < len(units)-1 {
		unit *= 1024
		i++
	}
	tenths := n % unit * 10 / unit
	if up && n%unit*10%unit != 0 {
		tenths++
	}
	whole := n/unit + tenths/10
	if tenths %= 10; tenths == 0 {
		return fmt.Sprintf("%d %s", whole, units[i])
	}
	return fmt.Sprintf("%d.%d %s", whole, tenths, units[i])
}
