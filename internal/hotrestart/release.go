package hotrestart

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	pb "belay/internal/hotrestart/hotrestartpb"
)

// Release is line 2: the process that the service manager takes for the main one
// releases the other.
func Release(o HookOptions) error {
	p, err := find(&o)
	if err == nil {
		err = ReleaseLine(o, p.Epoch, o.MainPID)
	}
	// systemd runs line 2 also when the service was told to stop during line 1, and
	// takes its failure for that of the service.
	var no *Refused
	if err != nil && !errors.As(err, &no) && ends(o.MainPID, endTime) {
		return ErrStopped
	}
	return err
}

// ReleaseLine asks generation epoch to become main.
func ReleaseLine(o HookOptions, epoch uint64, pid int) error {
	c, err := Dial(SocketPath(o.Directory, o.BaseID, epoch), helloTime, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeoutCause(context.Background(), releaseTime, fmt.Errorf("nothing within %v", releaseTime))
	defer cancel()
	_, _, err = c.Call(ctx, &pb.Message{Body: &pb.Message_Release{Release: &pb.Release{MainPid: int64(pid)}}})
	var no *Refused
	if errors.As(err, &no) && no.Code == pb.Error_STOPPING {
		return ErrStopped
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(o.Out, "belayd: epoch %d (process %d) is main\n", epoch, pid)
	return nil
}

// releaseTime bounds line 2; the new process waits call_time for a parent that
// hangs.
const releaseTime = 60 * time.Second

// endTime is how long a process may take to end that has left the chain of
// generations.
const endTime = time.Second

// ends reports whether a process has ended or does so within the limit.
func ends(pid int, limit time.Duration) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return errors.Is(err, unix.ESRCH)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
	return n == 1 && err == nil
}
