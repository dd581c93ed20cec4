package hotrestart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	pb "belay/internal/hotrestart/hotrestartpb"
	"belay/internal/shm"
	"belay/internal/systemd"
)

// HookOptions are what the two lines of ExecReload= are told.
type HookOptions struct {
	// Directories are where the hot-restart files may be; the first with the process.
	Directories []string
	BaseID      int    // < 0: the only one there is
	Config      string // for the child; "": what the running process was started with
	Program     string
	MainPID     int // $MAINPID; 0: not called by the service manager
	Notifier    *systemd.Notifier
	Out         io.Writer
	// Stop ends the hook, and with it the restart: SIGTERM.
	Stop <-chan os.Signal
}

// ErrStopped says that the hook was told to end. The service manager must see it
// succeed then, or the whole unit counts as failed.
var ErrStopped = errors.New("stopped: the restart was taken back")

// hook is line 1: it starts the child and waits for the parent's verdict.
type hook struct {
	o      HookOptions
	at     target
	parent shm.Process
	conn   *Conn    // to the parent
	stderr *os.File // of the child
	child  *Conn    // to the child
	pid    int      // of the child
	begun  *pb.BeginReply
	phases chan *pb.Phase // of the parent
	failed chan string    // of the child

	stopping bool // parent or hook were told to stop
}

// Hook replaces the running process. When it returns nil under a service
// manager, the new process has passed probation and the manager was told; line 2
// then releases the old one. Without a manager the old one is released as well.
func Hook(o HookOptions) error {
	at, err := find(&o)
	if err != nil {
		return (&hook{o: o}).stopsToo(err)
	}
	h := &hook{o: o, at: at, parent: at.process, stderr: os.Stderr, phases: make(chan *pb.Phase, 64), failed: make(chan string, 4)}
	if err := h.begin(); err != nil {
		return h.stopsToo(err)
	}
	defer h.conn.Close()
	if err := h.spawn(); err != nil {
		return h.stopsToo(err)
	}
	defer h.child.Close()
	if err = h.wait(); err != nil {
		if h.stopped() {
			err = ErrStopped
		}
		h.giveUp(err)
		return err
	}
	if err = h.handOver(); err != nil && h.stopped() {
		err = ErrStopped
	}
	return err
}

// stopped reports whether a failure is that of a service that was told to stop:
// the parent may have heard of it before this process, and end.
func (h *hook) stopped() bool {
	for {
		select {
		case p := <-h.phases:
			h.stopping = h.stopping || p.Stopping
		case <-h.o.Stop:
			h.stopping = true
		default:
			return h.stopping || h.ended() && h.stopsToo(nil) != nil
		}
	}
}

// ended reports whether the parent has closed its end of the connection.
func (h *hook) ended() bool {
	if h.conn == nil { // it hangs; the child took over
		return false
	}
	select {
	case <-h.conn.Done():
		return true
	default:
		return false
	}
}

// stopsToo makes a success of a failure before there is a child, if the service
// was told to stop: the manager tells its main process, and this one a moment later.
func (h *hook) stopsToo(err error) error {
	var no *Refused
	if h.o.MainPID == 0 || errors.As(err, &no) && no.Code != pb.Error_STOPPING {
		return err
	}
	select {
	case <-h.o.Stop:
		return ErrStopped
	case <-time.After(endTime):
		return err
	}
}

func (h *hook) begin() (err error) {
	if h.conn, err = Dial(h.at.socket(), helloTime, h.fromParent); err != nil {
		return fmt.Errorf("the running process %d does not answer: %w", h.parent.PID, err)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), beginTime, fmt.Errorf("nothing within %v", beginTime))
	defer cancel()
	low, high := versions()
	m, fds, err := h.conn.Call(ctx, &pb.Message{Body: &pb.Message_Begin{Begin: &pb.Begin{
		MinVersion: low, MaxVersion: high, MainPid: int64(h.o.MainPID), Notify: h.o.Notifier != nil, Program: h.o.Program,
	}}})
	var no *Refused
	if errors.As(err, &no) {
		return fmt.Errorf("refused by process %d: %w", h.parent.PID, no)
	}
	if err != nil {
		return fmt.Errorf("the running process %d does not answer: %w", h.parent.PID, err)
	}
	if len(fds) > 0 {
		h.stderr = os.NewFile(uintptr(fds[0]), "stderr of the running process")
		closeAll(fds[1:])
	}
	if h.begun = m.GetBeginReply(); h.begun == nil {
		return fmt.Errorf("process %d answered Begin with %s", h.parent.PID, name(m))
	}
	if h.begun.Note != "" {
		fmt.Fprintln(h.o.Out, "belayd:", h.begun.Note)
	}
	if h.o.Config == "" {
		h.o.Config = h.begun.Config
	}
	Fault("hook.begun")
	return nil
}

// beginTime bounds Begin, in which the parent may have to end an older generation
// that hangs.
const beginTime = 20 * time.Second

// fromParent takes the notices of the parent.
func (h *hook) fromParent(r *Request) {
	if p := r.GetPhase(); p != nil {
		select {
		case h.phases <- p:
		case <-h.conn.Done():
		}
		return
	}
	r.Refuse(pb.Error_UNKNOWN_MESSAGE, "a hook knows only Phase")
}

// fromChild takes the child's last words.
func (h *hook) fromChild(r *Request) {
	if p := r.GetPhase(); p != nil && p.Name == pb.Phase_FAILED {
		select {
		case h.failed <- p.Reason:
		default:
		}
		return
	}
	r.Refuse(pb.Error_UNKNOWN_MESSAGE, "a hook knows only Phase")
}

// SpawnCommand is the hidden command of the process between hook and child.
const SpawnCommand = "hot-restart-spawn"

// spawn starts the child through a process that ends at once, so that the child's
// parent is PID 1 before anybody is told of it: systemd warns of, and does not
// notice the end of, a main process that is not its own child.
func (h *hook) spawn() error {
	conn, end, err := pair(h.fromChild)
	if err != nil {
		return err
	}
	h.child = conn
	defer end.Close()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, SpawnCommand, "run", "--config", h.o.Config)
	cmd.Env = append(environment(), fmt.Sprintf("%s=%d %d %d %s %d %s", childEnv, h.begun.Epoch, h.at.base, 3, h.begun.Token, h.parent.PID, h.at.directory))
	cmd.Stderr = h.stderr
	cmd.ExtraFiles = []*os.File{end}
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("start the new process: %w", err)
	}
	if h.pid, err = strconv.Atoi(strings.TrimSpace(string(out))); err != nil {
		return fmt.Errorf("start the new process: its pid is %q", out)
	}
	Fault("hook.spawned")
	return nil
}

// environment is ours without what is only the hook's.
func environment() (list []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MAINPID=") {
			list = append(list, v)
		}
	}
	return list
}

// Spawn is the process between hook and child: it starts args as a new process
// of a session of its own, says its pid on stdout, and ends.
func Spawn(args []string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	pid, err := syscall.ForkExec(exe, append([]string{"belayd"}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 2, 2, 3}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	fmt.Println(pid)
	return nil
}

// wait returns nil when the parent says that the child has proved itself.
func (h *hook) wait() error {
	call := h.patience()
	silence := time.NewTimer(call)
	defer silence.Stop()
	extend := time.NewTicker(extendEvery)
	defer extend.Stop()
	phase := pb.Phase_PREPARE
	for {
		select {
		case p := <-h.phases:
			silence.Reset(call)
			phase = p.Name
			switch p.Name {
			case pb.Phase_PROVEN:
				return nil
			case pb.Phase_FAILED:
				h.stopping = p.Stopping
				return errors.New(p.Reason)
			}
		case reason := <-h.failed:
			h.hearParent()
			return errors.New(reason)
		case <-h.child.Done():
			return h.childEnd()
		case <-h.conn.Done():
			return h.parentEnd(phase)
		case <-silence.C:
			if phase == pb.Phase_PREPARE {
				return fmt.Errorf("the running process %d does not answer within %v", h.parent.PID, call)
			}
			return h.takeOver(call)
		case <-extend.C:
			_ = h.o.Notifier.Extend(2 * extendEvery) // without a manager nobody waits
		case <-h.o.Stop:
			h.stopping = true
			return ErrStopped
		}
	}
}

// patience is how long the parent may say nothing: it speaks with each heartbeat.
func (h *hook) patience() time.Duration {
	return max(time.Duration(h.begun.CallNs), (hangs+1)*time.Duration(h.begun.HeartbeatNs))
}

// extendEvery is how often the manager is asked for more time.
const extendEvery = 5 * time.Second

// hearParent waits for what the parent says of a child that failed: it may be the
// parent that took the restart back, because it stops.
func (h *hook) hearParent() {
	limit := time.After(childWords)
	for {
		select {
		case p := <-h.phases:
			h.stopping = h.stopping || p.Stopping
			if p.Name == pb.Phase_FAILED {
				return
			}
		case <-h.conn.Done():
			return
		case <-h.o.Stop:
			h.stopping = true
			return
		case <-limit:
			return
		}
	}
}

// childEnd finds the reason why the child has ended: its own word, the parent's,
// or none.
func (h *hook) childEnd() error {
	limit := time.After(childWords)
	for {
		select {
		case reason := <-h.failed:
			return errors.New(reason)
		case p := <-h.phases:
			if p.Name == pb.Phase_FAILED {
				h.stopping = p.Stopping
				return errors.New(p.Reason)
			}
		case <-limit:
			return fmt.Errorf("the new process %d has ended without a word: its log may tell", h.pid)
		}
	}
}

// parentEnd finds the parent's last word, if there is one. Without a service
// manager, for which the end of the main process is the end of the service, a
// child that accepts already goes on alone.
func (h *hook) parentEnd(phase pb.Phase_Name) error {
	for {
		select {
		case p := <-h.phases:
			phase = p.Name
			if p.Name == pb.Phase_FAILED {
				h.stopping = p.Stopping
				return errors.New(p.Reason)
			}
		default:
			if phase != pb.Phase_PREPARE && h.o.MainPID == 0 && h.takeOver(time.Duration(h.begun.CallNs)) == nil {
				return nil
			}
			return fmt.Errorf("the running process %d has ended", h.parent.PID)
		}
	}
}

// childWords is how long the parent may take to say why a dead child failed.
const childWords = time.Second

// takeOver: the parent hangs in probation and has lost its say.
func (h *hook) takeOver(limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("nothing within %v", limit))
	defer cancel()
	if _, _, err := h.child.Call(ctx, &pb.Message{Body: &pb.Message_TakeOver{TakeOver: &pb.TakeOver{}}}); err != nil {
		return fmt.Errorf("the running process %d does not answer, and neither is the new one ready: %w", h.parent.PID, err)
	}
	fmt.Fprintf(h.o.Out, "belayd: the old process %d does not answer; the new process %d takes over\n", h.parent.PID, h.pid)
	h.conn.Close()
	h.conn = nil
	return nil
}

// handOver tells parent and manager, in this order: from the first on the end of
// this process takes nothing back.
func (h *hook) handOver() error {
	if h.conn != nil {
		limit := time.Duration(h.begun.CallNs)
		ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("nothing within %v", limit))
		_, _, err := h.conn.Call(ctx, &pb.Message{Body: &pb.Message_HandOver{HandOver: &pb.HandOver{}}})
		cancel()
		var no *Refused
		switch {
		case errors.As(err, &no):
			return errors.New(no.Text)
		case err != nil:
			if err := h.takeOver(time.Duration(h.begun.CallNs)); err != nil {
				return err
			}
		}
	}
	Fault("hook.handed")
	if h.o.MainPID == 0 {
		child := h.at
		child.process = shm.Process{Identity: shm.Identity{PID: h.pid}, Epoch: h.begun.Epoch}
		return releaseLine(h.o.Out, &child)
	}
	if err := h.o.Notifier.MainPID(h.pid, fmt.Sprintf("epoch %d takes over", h.begun.Epoch)); err != nil {
		err = fmt.Errorf("tell the service manager: %w", err)
		h.giveUp(err)
		return err
	}
	Fault("hook.notified")
	return h.barrier()
}

// barrier waits until the service manager has read what it was told, however busy
// it is: were this line to fail now, nobody would call the next.
func (h *hook) barrier() error {
	done := make(chan error, 1)
	go func() { done <- h.o.Notifier.Barrier(barrierTime) }()
	extend := time.NewTicker(extendEvery)
	defer extend.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("the service manager does not answer: %w", err)
			}
			return nil
		case <-extend.C:
			_ = h.o.Notifier.Extend(2 * extendEvery) // it waits in the same queue
		}
	}
}

// barrierTime bounds the wait for the service manager.
const barrierTime = 60 * time.Second

// giveUp tells the parent why, which its own end would not, and ends the child.
func (h *hook) giveUp(why error) {
	if h.conn != nil {
		_ = h.conn.Notify(&pb.Message{Body: &pb.Message_Phase{Phase: &pb.Phase{Name: pb.Phase_FAILED, Reason: why.Error()}}}) // it may be what has died
	}
	h.endChild()
}

// endChild has a child that did not make it end, by force if it does not.
func (h *hook) endChild() {
	id, ok := alive(h.pid)
	h.child.Close()
	if h.conn != nil {
		h.conn.Close()
	}
	if !ok || !h.ours(id) {
		return
	}
	waitGone(id, time.Duration(h.begun.CallNs))
}

// ours reports whether the process is a child that has not committed: one that
// has drains its connections, and its parent sees to its end.
func (h *hook) ours(id shm.Identity) bool {
	seg, err := shm.Attach(h.at.segment())
	if err != nil {
		return false
	}
	defer seg.Close()
	for _, p := range seg.Processes() {
		if p.Identity == id {
			return p.State == shm.StatePrepare || p.State == shm.StateStarting
		}
	}
	return true // it has not even joined
}
