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
	"runtime"

	"belay/examples"
	"belay/internal/config"
	"belay/internal/server"
)

// version is set by the linker.
var version = "devel"

const defaultConfig = "/etc/belay/belay.toml"

const usage = `usage: belayd [run] [--config FILE]    serve until SIGTERM
       belayd check [--config FILE]    say everything that is wrong with a configuration
       belayd quickstart               serve the built-in example; needs nothing else
       belayd version                  print the version

FILE is ` + defaultConfig + ` unless given; conf.d/*.toml beside it are read too.
SIGTERM or SIGINT stops gracefully, a second one at once. SIGUSR1 reopens the access log.
See belayd(8) and belay.toml(5).
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

// run does what the arguments ask for.
func run(args []string, stdout, stderr io.Writer) error {
	command := "run"
	if len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("belayd "+command, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	path := flags.String("config", defaultConfig, "configuration file")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "belayd: unexpected argument %q\n%s", flags.Arg(0), usage)
		return errUsage
	}
	switch command {
	case "run":
		return serve(*path, stderr)
	case "check":
		return check(*path, stdout)
	case "quickstart":
		return quickstart(stdout, stderr)
	case "version":
		fmt.Fprintf(stdout, "belayd %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return nil
	case "help":
		fmt.Fprint(stdout, usage)
		return nil
	}
	fmt.Fprintf(stderr, "belayd: unknown command %q\n%s", command, usage)
	return errUsage
}

// serve runs the daemon.
func serve(path string, stderr io.Writer) error {
	server.TuneStart()
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	return server.Run(context.Background(), server.Options{Config: cfg, Version: version, Log: logger(cfg, stderr)})
}

// logger writes to stderr, which a service manager collects with its own times.
func logger(cfg *config.Config, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.Server.LogLevel}
	if cfg.Server.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// check prints every problem, and how much there is if there is none.
func check(path string, stdout io.Writer) error {
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	if err := server.Check(cfg); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: ok: %d listeners, %d clusters\n", path, len(cfg.Listeners), len(cfg.Clusters))
	return nil
}

// quickstart serves the embedded example and says what to try.
func quickstart(stdout, stderr io.Writer) error {
	cfg, err := config.Parse("quickstart.toml", examples.Quickstart)
	if err != nil {
		return err
	}
	ready := func() { fmt.Fprintf(stdout, quickstartText, cfg.Admin.Socket) }
	return server.Run(context.Background(), server.Options{Config: cfg, Version: version, Log: logger(cfg, stderr), Ready: ready})
}

const quickstartText = `
belay is serving http://127.0.0.1:8080/ from a cluster of three endpoints.

  try:    curl -i http://127.0.0.1:8080/         (again and again: the endpoint changes)
          curl -i http://127.0.0.1:8080/hello    (answered by belay itself)
  watch:  bin/belayctl --socket %s top
  stop:   Ctrl-C

`
