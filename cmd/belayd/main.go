// Command belayd is the belay reverse proxy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"belay/examples"
	"belay/internal/config"
	"belay/internal/hotrestart"
	"belay/internal/server"
	"belay/internal/systemd"
)

// version is set by the linker.
var version = "devel"

const defaultConfig = server.DefaultConfig

const usage = `usage: belayd [run] [--config FILE]    serve until SIGTERM
       belayd check [--config FILE]    say everything that is wrong with a configuration
       belayd hot-restart [--config FILE] [--directory DIR] [--base-id N]
                                       replace the running process; as a service: systemctl reload belay
       belayd hot-restart --release    the second line of ExecReload=
       belayd quickstart               serve the built-in example; needs nothing else
       belayd version                  print the versions of program, protocol and segment

FILE is ` + defaultConfig + ` unless given; conf.d/*.toml beside it are read too.
SIGTERM or SIGINT stops gracefully, a second one at once. SIGUSR1 reopens the access log.
See belayd(8), belay.toml(5) and belay-hotrestart(7).
`

// errUsage has main exit with 2.
var errUsage = errors.New("usage")

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "belayd:", err)
		os.Exit(1)
	}
}

// arguments are what the commands take.
type arguments struct {
	config    string
	configSet bool
	release   bool
	directory string
	baseID    int
}

// run does what the arguments ask for.
func run(args []string, stdout, stderr io.Writer) error {
	command := "run"
	if len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	if command == hotrestart.SpawnCommand {
		return hotrestart.Spawn(args)
	}
	a, err := parse(command, args, stderr)
	if err != nil || a == nil {
		return err
	}
	switch command {
	case "run":
		return serve(a.config)
	case "check":
		return check(a.config, stdout)
	case "hot-restart":
		return hotRestart(a, stderr)
	case "quickstart":
		return quickstart(stdout)
	case "version":
		fmt.Fprintf(stdout, "belayd %s %s %s/%s\nhot restart: %s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH, hotrestart.Versions())
		return nil
	case "help":
		fmt.Fprint(stdout, usage)
		return nil
	}
	fmt.Fprintf(stderr, "belayd: unknown command %q\n%s", command, usage)
	return errUsage
}

// parse reads the flags of a command; nil: help was asked for and given.
func parse(command string, args []string, stderr io.Writer) (*arguments, error) {
	a := &arguments{}
	flags := flag.NewFlagSet("belayd "+command, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	flags.StringVar(&a.config, "config", defaultConfig, "configuration file")
	if command == "hot-restart" {
		flags.BoolVar(&a.release, "release", false, "release the old process")
		flags.StringVar(&a.directory, "directory", "", "where the running process has its hot-restart files")
		flags.IntVar(&a.baseID, "base-id", -1, "hot_restart.base_id of the running process")
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, nil
		}
		return nil, errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "belayd: unexpected argument %q\n%s", flags.Arg(0), usage)
		return nil, errUsage
	}
	flags.Visit(func(f *flag.Flag) { a.configSet = a.configSet || f.Name == "config" })
	return a, nil
}

// serve runs the daemon.
func serve(path string) error {
	server.TuneStart()
	full, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	return server.Run(context.Background(), server.Options{
		Load: func() (*config.Config, error) { return config.Load(path) }, ConfigPath: full, Version: version, Stderr: os.Stderr, Log: logger,
	})
}

// hotRestart is the hook of systemctl reload, and its like without systemd.
func hotRestart(a *arguments, stderr io.Writer) error {
	o := server.ReloadOptions{Directory: a.directory, BaseID: a.baseID, Version: version, Out: stderr}
	if a.configSet {
		full, err := filepath.Abs(a.config)
		if err != nil {
			return err
		}
		o.Config = full
	}
	if a.release {
		return server.Release(o)
	}
	return server.Reload(o)
}

// logger writes to stderr, which a service manager collects with its own times;
// to the journal it also speaks the journal's own language.
func logger(cfg *config.Config, w io.Writer, epoch func() uint64) *slog.Logger {
	if systemd.OnJournal() && cfg.Server.LogFormat != "json" {
		return slog.New(systemd.NewJournalHandler(w, cfg.Server.LogLevel, epoch))
	}
	o := &slog.HandlerOptions{Level: cfg.Server.LogLevel, ReplaceAttr: withoutID}
	if cfg.Server.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// withoutID leaves the journal's message ids out of a log that is not the
// journal's.
func withoutID(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == systemd.MessageID {
		return slog.Attr{}
	}
	return a
}

// check prints every problem, and how much there is if there is none.
func check(path string, stdout io.Writer) error {
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	notes, err := server.Check(cfg)
	for _, n := range notes {
		fmt.Fprintf(stdout, "%s: note: %s\n", path, n)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: ok: %d listeners, %d clusters\n", path, len(cfg.Listeners), len(cfg.Clusters))
	return nil
}

// quickstart serves the embedded example and says what to try.
func quickstart(stdout io.Writer) error {
	cfg, err := config.Parse("quickstart.toml", examples.Quickstart)
	if err != nil {
		return err
	}
	return server.Run(context.Background(), server.Options{
		Load: func() (*config.Config, error) { return cfg, nil }, Version: version, Stderr: os.Stderr, Log: logger,
		Ready: func(*config.Config) { fmt.Fprintf(stdout, quickstartText, cfg.Admin.Socket) },
	})
}

const quickstartText = `
belay is serving http://127.0.0.1:8080/ and https://127.0.0.1:8443/ from a cluster of three endpoints.

  try:    curl -i http://127.0.0.1:8080/         (again and again: the endpoint changes)
          curl -i -H 'X-User: ann' http://127.0.0.1:8080/session   (ann's endpoint stays)
          curl -i http://127.0.0.1:8080/hello    (answered by belay itself)
          curl -ik https://127.0.0.1:8443/       (over TLS, with a certificate made at start)
  watch:  bin/belayctl --socket %s top
  stop:   Ctrl-C

`
