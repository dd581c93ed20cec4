// Command belayctl shows what a running belayd is doing, and has it drain.
//
// How it speaks: what was asked for goes to standard output, everything else to
// standard error with a "belayctl:" prefix, without capital initials and
// periods at the end. An error says what to try if that can be known.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"belay/internal/admin/adminapi"
)

// version is set by the linker.
var version = "devel"

// The exit statuses. Scripts rely on exitNo of "belayctl ready", and on all of
// "belayctl certs --check".
const (
	exitOK    = 0
	exitNo    = 1 // an error, not ready, or a certificate that is bad
	exitUsage = 2
	exitSoon  = 2 // a certificate that expires soon
)

// errNotReady ends with exitNo; what there is to say has been said.
var errNotReady = errors.New("not ready")

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// program is one run of belayctl.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	socket  string
	json    bool
	timeout time.Duration // of one question to the daemon
	poll    time.Duration // between two questions while waiting
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	p := &program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, socket: socketDefault(os.Getenv), poll: drainPoll}
	status := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

// socketDefault is the socket that is asked unless --socket says another.
func socketDefault(env func(string) string) string {
	if s := env(socketEnv); s != "" {
		return s
	}
	return adminapi.DefaultSocket
}

const socketEnv = "BELAY_ADMIN_SOCKET"

// run does what args ask for and returns the exit status.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.command()
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errNotReady):
		return exitNo
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return exitNo // by a signal; whoever sent it knows
	case errors.Is(err, syscall.EPIPE):
		return exitNo // "belayctl stats | head" is no error to tell of
	case errors.Is(err, errExpiring):
		fmt.Fprintf(p.stderr, "belayctl: %v\n", err)
		return exitSoon
	case errors.As(err, &usage):
		fmt.Fprintf(p.stderr, "belayctl: %v\nbelayctl: \"belayctl --help\" lists what there is\n", err)
		return exitUsage
	}
	fmt.Fprintf(p.stderr, "belayctl: %v\n", err)
	return exitNo
}

// ask calls f with a client of the daemon, and with a context that ends at the
// time limit.
func ask[T any](ctx context.Context, p *program, f func(*adminapi.Client, context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	c := adminapi.NewClient(p.socket)
	defer c.Close()
	return f(c, ctx)
}
