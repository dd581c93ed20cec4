package hotrestart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	pb "belay/internal/hotrestart/hotrestartpb"
)

// Release is line 2: the process that the service manager takes for the main one
// releases the other.
func Release(o HookOptions) error {
	t, err := find(&o)
	if err == nil {
		done := make(chan error, 1)
		go func() { done <- releaseLine(o.Out, &t) }()
		select {
		case err = <-done:
		case <-o.Stop: // the service stops, the new process with it
			return ErrStopped
		}
	}
	// systemd runs line 2 also when the service was told to stop during line 1, and
	// takes its failure for that of the service.
	var no *Refused
	if err != nil && !errors.As(err, &no) && ends(o.MainPID, endTime) {
		return ErrStopped
	}
	return err
}

// releaseLine asks a process to become main.
func releaseLine(out io.Writer, t *target) error {
	c, err := Dial(t.socket(), helloTime, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeoutCause(context.Background(), releaseTime, fmt.Errorf("nothing within %v", releaseTime))
	defer cancel()
	_, _, err = c.Call(ctx, &pb.Message{Body: &pb.Message_Release{Release: &pb.Release{MainPid: int64(t.process.PID)}}})
	var no *Refused
	if errors.As(err, &no) && no.Code == pb.Error_STOPPING {
		return ErrStopped
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "belayd: epoch %d (process %d) is main\n", t.process.Epoch, t.process.PID)
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
	return waitPidfd(fd, limit)
}
