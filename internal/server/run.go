package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"belay/internal/config"
	"belay/internal/hotrestart"
	"belay/internal/systemd"
)

// Options are what Run needs.
type Options struct {
	// Load reads and checks the configuration.
	Load func() (*config.Config, error)
	// ConfigPath is what a hot restart starts the next process with; "": hot restart
	// is off.
	ConfigPath string
	Version    string
	// Stderr is where the log goes.
	Stderr *os.File
	// Log makes the logger that the configuration asks for, which writes to w; epoch
	// tells the number of the generation.
	Log func(c *config.Config, w io.Writer, epoch func() uint64) *slog.Logger
	// Ready is called once when every listener accepts.
	Ready func(*config.Config)
}

// Run serves until ctx ends or a signal asks it to stop: SIGTERM and SIGINT stop
// gracefully, a second one at once; SIGUSR1 reopens the access log; SIGHUP, which
// would end a process that ignores it, is refused with a word in the log. A
// process that was replaced by a hot restart returns when its last connection
// has ended.
func Run(ctx context.Context, o Options) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGHUP)
	defer signal.Stop(signals)

	// A log that nobody reads any more, such as a pipe to a shell that has ended, ends
	// no server.
	signal.Ignore(syscall.SIGPIPE)

	// Before anything that takes long: hook and parent wait to hear of this process.
	parent, err := hotrestart.Child(o.Version)
	if err != nil {
		return err
	}
	s, err := create(o, parent)
	if err == nil {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if err = s.start(ctx); err == nil {
			if o.Ready != nil {
				o.Ready(s.cfg)
			}
			s.serve(ctx, signals)
		}
		s.end()
	}
	if err != nil {
		tellFailure(parent, err)
	}
	return err
}

// tellFailure tells whoever waits for this process why it does not come up.
func tellFailure(parent *hotrestart.Parent, err error) {
	if parent != nil {
		parent.Fail(err)
		return
	}
	var errno syscall.Errno
	errors.As(err, &errno)
	_ = systemd.NewNotifier().Errno(errno, err.Error()) // the error itself goes to stderr
}

// create loads the configuration, joins the chain of generations and builds
// everything.
func create(o Options, parent *hotrestart.Parent) (*Server, error) {
	cfg, err := o.Load()
	if err != nil {
		return nil, err
	}
	s := newServer(cfg, o.Version, parent)
	out := &logOutput{w: o.Stderr}
	s.log = o.Log(cfg, out, s.epoch)
	s.memory.limit(s)
	if err := s.join(o.ConfigPath); err != nil {
		return nil, err
	}
	out.share(s.node)
	s.service.started() // a child's heart beats from here on: building may take its time
	if err := s.build(); err != nil {
		s.leave()
		return nil, err
	}
	return s, nil
}

func newServer(cfg *config.Config, version string, parent *hotrestart.Parent) *Server {
	s := &Server{cfg: cfg, version: version, started: time.Now(), parent: parent, credentials: -1, commands: make(chan func(), 16), news: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
	s.origin = s.started
	s.turns.turned = make(chan struct{}, 1)
	s.service.open(s, parent)
	return s
}

// epoch is the number of this generation; 0: hot restart is off.
func (s *Server) epoch() uint64 {
	if n := s.node; n != nil {
		return n.Epoch()
	}
	return 0
}

// serve waits for the end and sees to it: a signal, or, for a process that was
// replaced, the end of its last connection.
func (s *Server) serve(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			s.stopAll(signals)
			return
		case f := <-s.commands:
			f()
		case <-s.drained():
			s.node.Empty()
			s.log.Info("drained", "connections_cut", s.cut.Load())
			return
		case sig := <-signals:
			if s.stopSignal(sig) {
				s.log.Info("stopping", "signal", sig.String(), "stop_time", s.cfg.Server.StopTime)
				s.stopAll(signals)
				return
			}
		}
	}
}

// stopAll ends this process and, if it is main, the generations that still drain.
func (s *Server) stopAll(signals <-chan os.Signal) {
	elders := make(chan struct{})
	if s.node != nil {
		s.node.Cancel("the process stops")
		s.giveBack()
	}
	s.state.Store(int32(stopping))
	s.service.stopping()
	go func() {
		defer close(elders)
		if s.node != nil {
			s.node.EndElders(s.cfg.Server.StopTime)
		}
	}()
	s.stop(signals)
	<-elders
	if s.draining() {
		s.node.Empty()
	}
}

// giveBack has the parent of a child in probation accept again before the child
// stops: between the two nobody would. A child that was proven is told to stop by a
// service manager for which it is main: it takes its place first, so that the
// connections of the parent get their time too.
func (s *Server) giveBack() {
	if s.parent == nil || s.service.main.Load() || s.draining() || s.node.TakePlace() {
		return
	}
	s.parent.Fail(errors.New("the new process was told to stop"))
	for end := time.Now().Add(s.cfg.HotRestart.CallTime); !s.draining() && time.Now().Before(end); {
		time.Sleep(giveBackRetry) // the parent answers, or has died
	}
}

const giveBackRetry = 5 * time.Millisecond

// stopSignal handles a signal and reports whether it asks to stop.
func (s *Server) stopSignal(sig os.Signal) bool {
	switch sig {
	case syscall.SIGUSR1:
		s.reopen()
		if s.node != nil && s.service.main.Load() { // the others write to the same file
			s.node.SignalOthers(syscall.SIGUSR1)
		}
	case syscall.SIGHUP:
		s.log.Warn("SIGHUP ignored: a changed configuration takes systemctl reload, or belayd hot-restart")
	default:
		return true
	}
	return false
}

func (s *Server) reopen() {
	if s.access == nil {
		return
	}
	if err := s.access.Reopen(); err != nil {
		s.log.Error("access log not reopened; writing to the old file", "error", err)
		return
	}
	s.log.Info("access log reopened")
}

// join attaches the process to the chain of generations.
func (s *Server) join(configPath string) (err error) {
	c := s.cfg.HotRestart
	o := hotrestart.Options{
		Program: s.version, Config: configPath, Workers: s.workerCount(), Started: s.started, Log: s.log,
		Service: s.service.notifier != nil, Watchdog: s.service.watchdog,
		Probation: c.Probation, MinInterval: c.MinInterval, Heartbeat: c.Heartbeat, PrepareTime: c.PrepareTime,
		CallTime: c.CallTime, ShutdownTime: c.ShutdownTime, MaxGenerations: c.MaxGenerations,
	}
	if s.parent != nil {
		if ns := s.parent.Info.OriginalStart; ns != 0 {
			o.Started = time.Unix(0, ns)
			s.origin = o.Started
		}
		s.node, err = s.parent.Join(o)
	} else {
		dir := hotRestartDirectory(s.cfg)
		if !c.Enabled || configPath == "" || dir == "" {
			return nil
		}
		o.Directory, o.BaseID = dir, c.BaseID
		s.node, err = hotrestart.Cold(o)
	}
	if err != nil {
		return fmt.Errorf("hot_restart: %w", err)
	}
	return s.cfg.CheckWatchdog(s.service.watchdog)
}

// hotRestartDirectory is where the files of hot restart are; "": nowhere.
func hotRestartDirectory(c *config.Config) string {
	if list := hotRestartDirectories(c); len(list) > 0 {
		return list[0]
	}
	return ""
}

// hotRestartDirectories are, the first one first, where they may be: as
// configured, in the runtime directory of the service, beside the admin socket.
func hotRestartDirectories(c *config.Config) (list []string) {
	if d := c.HotRestart.Directory; d != "" {
		list = append(list, d)
	}
	if d, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); d != "" {
		list = append(list, d)
	}
	if p := c.Admin.Socket; p != "" && p[0] != '@' {
		if dir, err := filepath.Abs(filepath.Dir(p)); err == nil {
			list = append(list, dir)
		}
	}
	return list
}
