package shm

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// users names who uses the segment file: by the kernel's table of locks, or, if
// /proc does not show it (ProcSubset=pid), by its slots if they can be trusted.
func users(fd int, st *unix.Stat_t, trusted bool) string {
	pids, err := flockers(st)
	if (err != nil || len(pids) == 0) && trusted {
		pids = inSlots(fd)
	}
	return name(pids)
}

func name(pids []int) string {
	switch len(pids) {
	case 0:
		return "a process that cannot be named"
	case 1:
		return fmt.Sprintf("process %d", pids[0])
	}
	var list []string
	for _, p := range pids {
		list = append(list, strconv.Itoa(p))
	}
	return "processes " + strings.Join(list, ", ")
}

// flockers are the processes with a flock on the file, by proc_locks(5).
func flockers(st *unix.Stat_t) ([]int, error) {
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil, err
	}
	return parseLocks(string(text), fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)), nil
}

// parseLocks finds the owners of flocks on a file in lines like
//
//	5: FLOCK  ADVISORY  READ  812 00:1a:774 0 EOF
//
// A line with "->" after the number is somebody who waits.
func parseLocks(text, file string) (pids []int) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != file {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// inSlots are the living processes that the slots of a file name.
func inSlots(fd int) (pids []int) {
	m, err := newMapping(fd)
	if err != nil {
		return nil
	}
	defer m.unmap()
	for i := range m.slots {
		if p, ok := m.slots[i].read(); ok && p.Alive() {
			pids = append(pids, p.PID)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}
