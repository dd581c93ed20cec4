package shm

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Identity is a process for all time: its id may be another's later, but not
// with the same start time.
type Identity struct {
	PID   int
	Start uint64 // clock ticks since the boot (proc_pid_stat(5), field 22); 0 if unknown
}

const (
	pidBits   = 22
	startBits = 64 - pidBits - 1
)

// word is the identity as the segment has it.
func (id Identity) word() uint64 {
	return id.Start<<(pidBits+1) | uint64(id.PID)&(1<<pidBits-1)<<1
}

// identity is the owner that a word names.
func identity(word uint64) Identity {
	return Identity{PID: int(word >> 1 & (1<<pidBits - 1)), Start: word >> (pidBits + 1)}
}

// Self is this process. Without /proc its start time is unknown.
func Self() Identity {
	id, err := Of(os.Getpid())
	if err != nil {
		id.PID = os.Getpid()
	}
	return id
}

// Of is the process that has a process id now. One that has exited and was not
// waited for has it no more; it and one that /proc does not show give
// an error that is [os.ErrNotExist].
func Of(pid int) (Identity, error) {
	start, zombie, err := stat(pid)
	if err == nil && zombie {
		err = os.ErrNotExist
	}
	if err != nil {
		return Identity{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return Identity{PID: pid, Start: start}, nil
}

// Alive reports whether the process lives, be it stopped. Where /proc hides it
// (ProtectProc=invisible, another user's process) or cannot be read, a process
// with its id is taken for it: what a living one owns must not be taken away.
func (id Identity) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	start, zombie, err := stat(id.PID)
	if err != nil {
		return unix.Kill(id.PID, 0) != unix.ESRCH
	}
	return !zombie && (id.Start == 0 || id.Start == start)
}

// stat reads when a process started, and whether nothing but its exit status is left.
func stat(pid int) (start uint64, zombie bool, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false, err
	}
	return parseStat(text)
}

// parseStat takes fields 3 and 22 out of /proc/PID/stat. Field 2 is the
// program's name in parentheses, and may have blanks and parentheses of its own.
func parseStat(text []byte) (start uint64, zombie bool, err error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, false, fmt.Errorf("stat of %d bytes has too few fields", len(text))
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("start time: %w", err)
	}
	state := fields[0][0]
	return start & (1<<startBits - 1), state == 'Z' || state == 'X', nil
}
