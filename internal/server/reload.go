package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"belay/internal/config"
	"belay/internal/hotrestart"
	"belay/internal/systemd"
)

// ReloadOptions are what a hot restart from outside needs.
type ReloadOptions struct {
	Config    string // of the new process; "": the running one's
	Directory string // "": $RUNTIME_DIRECTORY, else what Config, or the default one, says
	BaseID    int    // < 0: the only one in the directory
	Version   string
	Out       io.Writer
}

// Reload replaces the running process and returns when the new one has proved
// itself, or with the reason why the old one serves on. It is line 1 of
// ExecReload=, and all there is to do without a service manager.
func Reload(o ReloadOptions) error {
	h, err := o.hook()
	if err != nil {
		return err
	}
	if h.MainPID != 0 && h.Notifier == nil {
		return errors.New("NOTIFY_SOCKET is not set, so the service manager cannot be told of a new process: the unit needs NotifyAccess=exec")
	}
	return o.stoppable(h, hotrestart.Hook)
}

// stoppable runs a line that SIGTERM ends. A reload that is stopped together with
// its service is a success: the manager would count the unit as failed.
func (o *ReloadOptions) stoppable(h hotrestart.HookOptions, line func(hotrestart.HookOptions) error) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(stop)
	h.Stop = stop
	hangUp := make(chan os.Signal, 1) // of a terminal: nobody reads it, the restart goes on
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	err := line(h)
	if errors.Is(err, hotrestart.ErrStopped) && h.MainPID != 0 {
		fmt.Fprintln(o.Out, "belayd:", err)
		return nil
	}
	return err
}

// Release is line 2 of ExecReload=.
func Release(o ReloadOptions) error {
	h, err := o.hook()
	if err != nil {
		return err
	}
	switch {
	case h.MainPID != 0:
	case h.Notifier != nil:
		// systemd runs this line, without a main process, when the service was
		// stopped in the first one; a failure would be that of the service.
		fmt.Fprintln(o.Out, "belayd: the service has no main process: nothing to release")
		return nil
	default:
		return errors.New("--release is for ExecReload=: MAINPID is not set")
	}
	return o.stoppable(h, hotrestart.Release)
}

func (o *ReloadOptions) hook() (hotrestart.HookOptions, error) {
	h := hotrestart.HookOptions{BaseID: o.BaseID, Config: o.Config, Program: o.Version, Out: o.Out, Notifier: systemd.NewNotifier()}
	if text := os.Getenv("MAINPID"); text != "" {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return h, fmt.Errorf("MAINPID=%q: %w", text, err)
		}
		h.MainPID = pid
	}
	return h, o.places(&h)
}

// places are where the running process may have its files: as its configuration
// says, and where it would be without a word there. The configuration may be
// broken, or say something else than it did when the process started.
func (o *ReloadOptions) places(h *hotrestart.HookOptions) error {
	if o.Directory != "" {
		h.Directories = []string{o.Directory}
		return nil
	}
	path := o.Config
	if path == "" {
		path = DefaultConfig
	}
	cfg, err := config.Load(path)
	if err == nil {
		h.Directories = hotRestartDirectories(cfg)
		if h.BaseID < 0 && h.MainPID == 0 {
			h.BaseID = cfg.HotRestart.BaseID
		}
	} else {
		h.Directories = hotRestartDirectories(&config.Config{})
	}
	if len(h.Directories) == 0 && err == nil {
		err = fmt.Errorf("%s: neither hot_restart.directory nor admin.socket says where the running process is", path)
	}
	if len(h.Directories) > 0 {
		err = nil
	}
	return err
}

// DefaultConfig is where the configuration is.
const DefaultConfig = "/etc/belay/belay.toml"
