package hotrestart

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"belay/internal/eventloop"
	"belay/internal/shm"
	"belay/internal/stats"

	"golang.org/x/sys/unix"
)

// Process is what the protocol has the process do in which it runs. The server
// implements it. Calls come one at a time; none may wait for the network.
type Process interface {
	// Sockets lists every listen socket; the descriptors stay the process's.
	Sockets() []Group
	// Pause stops polling the sockets of these addresses, accepts what is queued on
	// them, and returns when that is done.
	Pause(taken []eventloop.Address)
	// Resume polls again what Pause stopped.
	Resume() error
	// Renew takes the polled sockets out of the loops and in again, so that what
	// was queued while the other process let go is reported.
	Renew()
	// Drain closes the listen sockets and ends the connections as they allow it. What
	// is queued on a socket that was not taken is accepted first.
	Drain()
	// StepBack is Drain of a child that will not become main.
	StepBack()
	// Terminate ends a draining process within a time and tells how many
	// connections are open now.
	Terminate(within time.Duration) (connections int64)
	// Turn reports whether every worker turns within the limit.
	Turn(limit time.Duration) bool
	// Connections is how many clients are connected; since and until are when
	// draining began and when it is cut, zero if the process does not drain.
	Connections() (open int64, since, until time.Time)

	// Deltas is what was counted since the last DeltasTaken; own leaves out what
	// other generations counted.
	Deltas(own bool) []stats.Delta
	DeltasTaken()
	// DeltasReset forgets that anything was ever handed out.
	DeltasReset()
	// Apply adds what another generation counted; Forget says that it is gone.
	Apply(epoch uint64, d []stats.Delta)
	Forget(epoch uint64)
	// Generations lists those that were heard of and not forgotten.
	Generations() []uint64
	// State is what passes to a child.
	State() []Blob
	// Link begins an exchange with another process that serves at the same time.
	Link() Link
	// Credentials is an O_PATH descriptor of the directory of credentials, which
	// stays the process's; -1: none. A child cannot open it: the hook that starts it
	// is no process of the service's that may.
	Credentials() int

	// Headroom says whether there is memory for a second process.
	Headroom() (note string, err error)
	// BeforeRelease takes the listeners that the successor does not have out of the
	// service manager's store, so that closing them closes them.
	BeforeRelease(dropped []Group)
	// LateState takes the parent's state as it was when it released this process;
	// what the owners took before is older.
	LateState(blobs []Blob)
	// Main tells the process that it is main from now on.
	Main()
}

// Blob is a piece of state that passes from process to process.
type Blob struct {
	Owner   string // the package that wrote it and reads it
	Version uint32
	Data    []byte
}

// Link is this process's side of an exchange with one other: what either of them
// learns while both serve, the other is told. Its methods are called one at a time.
type Link interface {
	// Next is what the other process has not been told, about as much as fits into a
	// message that holds nobody up; more says that there is more.
	Next() (blobs []Blob, more bool)
	// Take takes what the other process told. It may tell a thing twice.
	Take(blobs []Blob)
}

// Options are what the protocol needs to know.
type Options struct {
	Directory string
	BaseID    int
	Program   string // version
	Config    string // path that the process was started with
	Workers   int
	Started   time.Time     // of the first generation
	Service   bool          // the process was started by a service manager
	Watchdog  time.Duration // what the service manager expects; 0: none

	Probation, MinInterval, Heartbeat, PrepareTime, CallTime, ShutdownTime time.Duration
	MaxGenerations                                                         int
	Log                                                                    *slog.Logger
}

// SegmentPath is where the segment of a base id is.
func SegmentPath(dir string, base int) string {
	return filepath.Join(dir, "hot-"+strconv.Itoa(base)+".shm")
}

// SocketPath is where the generation epoch listens.
func SocketPath(dir string, base int, epoch uint64) string {
	return filepath.Join(dir, "hot-"+strconv.Itoa(base)+"."+strconv.FormatUint(epoch, 10)+".sock")
}

// identity of a process that is alive.
func alive(pid int) (shm.Identity, bool) {
	id, err := shm.Of(pid)
	return id, err == nil && id.Alive()
}

// starving reports whether a thread of the process waits for a CPU, or has one:
// then it does not sleep in a deadlock, nor is it stopped (proc_pid_stat(5)).
func starving(pid int) bool {
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil {
		return false
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if i := strings.LastIndexByte(string(data), ')'); err == nil && i > 0 && strings.HasPrefix(string(data[i:]), ") R") {
			return true
		}
	}
	return false
}

// kill ends a process for good, unless its pid belongs to another one now.
func kill(id shm.Identity) {
	if id.PID > 1 && id.PID != os.Getpid() && id.Alive() {
		_ = unix.Kill(id.PID, unix.SIGKILL)
	}
}

// endsSoon reports whether a process ends within a time.
func endsSoon(id shm.Identity, limit time.Duration) bool {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	return !id.Alive() || waitPidfd(fd, limit)
}

// waitPidfd waits for the end of a process (pidfd_open(2)).
func waitPidfd(fd int, limit time.Duration) bool {
	for end := time.Now().Add(limit); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(0, time.Until(end).Milliseconds())))
		if err != unix.EINTR {
			return n == 1
		}
	}
}

// waitGone waits until a process that is about to exit is gone and kills it when
// that takes too long: while it lives, its loops still accept.
func waitGone(id shm.Identity, limit time.Duration) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if !id.Alive() {
		return
	}
	if !waitPidfd(fd, limit) {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}
